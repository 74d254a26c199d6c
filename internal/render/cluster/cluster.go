// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster renders policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy.
package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// lastPriority is the priority that comes last.
const lastPriority = 1000

// Guard renders the guard layer as a ClusterNetworkPolicy of the Baseline tier, which holds for pods that no NetworkPolicy
// selects. It cannot replace the policies of a namespace: the API has no peer for ingress from outside of the cluster, from
// nodes and from pods of the host network, so such traffic is not denied.
type Guard struct{}

// AddToScheme adds the kind of this package.
func AddToScheme(s *runtime.Scheme) error { return policyv1alpha2.Install(s) }

// Name is the kind of the object.
func (Guard) Name() string { return "ClusterNetworkPolicy" }

// New returns an empty ClusterNetworkPolicy and an empty list of them.
func (Guard) New() (policy.Object, runtime.Object) {
	return &policyv1alpha2.ClusterNetworkPolicy{}, &policyv1alpha2.ClusterNetworkPolicyList{}
}

// Render returns the ClusterNetworkPolicy that says g.
func (Guard) Render(meta metav1.ObjectMeta, g policy.Guard) policy.Object {
	subject := g.Namespaces.DeepCopy()
	if len(g.Except) > 0 {
		subject.MatchExpressions = append(subject.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: slices.Clone(g.Except),
		})
	}
	out := &policyv1alpha2.ClusterNetworkPolicy{ObjectMeta: meta, Spec: policyv1alpha2.ClusterNetworkPolicySpec{
		Tier:     policyv1alpha2.BaselineTier,
		Priority: lastPriority,
		Subject:  policyv1alpha2.ClusterNetworkPolicySubject{Namespaces: subject},
	}}
	if slices.Contains(g.Directions, policy.Ingress) {
		out.Spec.Ingress = []policyv1alpha2.ClusterNetworkPolicyIngressRule{{
			Name:   "deny-pods",
			Action: policyv1alpha2.ClusterNetworkPolicyRuleActionDeny,
			From:   []policyv1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}},
		}}
	}
	if slices.Contains(g.Directions, policy.Egress) {
		out.Spec.Egress = []policyv1alpha2.ClusterNetworkPolicyEgressRule{{
			Name:   "deny-all",
			Action: policyv1alpha2.ClusterNetworkPolicyRuleActionDeny,
			To:     []policyv1alpha2.ClusterNetworkPolicyEgressPeer{{Networks: []policyv1alpha2.CIDR{"0.0.0.0/0", "::/0"}}},
		}}
	}
	return out
}
