// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package core renders networking.k8s.io/v1 NetworkPolicy.
package core

import (
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Backend renders core NetworkPolicies. Every field is written out as the API server would default it, so that a
// stored object equals the rendered one.
type Backend struct{}

// Name is the backend's name in the API.
func (Backend) Name() string { return "NetworkPolicy" }

// Render returns the NetworkPolicy that says p.
//
// A deny has no rules and names its directions in policyTypes, because unset policyTypes mean Ingress alone. In an
// allowance an empty peer or port list would mean "all" (networking.k8s.io/v1 NetworkPolicyIngressRule), so a rule with
// either is left out.
func (Backend) Render(meta metav1.ObjectMeta, p policy.Policy) policy.Object {
	np := &networkingv1.NetworkPolicy{ObjectMeta: meta}
	np.Spec.PodSelector = *p.Pods.DeepCopy()
	isolates := map[policy.Direction]bool{}
	for _, d := range p.Directions {
		isolates[d] = true
	}
	for _, r := range p.Rules {
		if len(r.Peers) == 0 || len(r.Ports) == 0 {
			continue
		}
		isolates[r.Direction] = true
		switch r.Direction {
		case policy.Ingress:
			np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{From: peers(r.Peers), Ports: ports(r.Ports)})
		case policy.Egress:
			np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: peers(r.Peers), Ports: ports(r.Ports)})
		}
	}
	if isolates[policy.Ingress] {
		np.Spec.PolicyTypes = append(np.Spec.PolicyTypes, networkingv1.PolicyTypeIngress)
	}
	if isolates[policy.Egress] {
		np.Spec.PolicyTypes = append(np.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	}
	return np
}

// New returns an empty NetworkPolicy and an empty list of them.
func (Backend) New() (policy.Object, runtime.Object) {
	return &networkingv1.NetworkPolicy{}, &networkingv1.NetworkPolicyList{}
}

// Denies says whether a NetworkPolicy has no rule: an empty rule would allow everything.
func (Backend) Denies(live runtime.Object) bool {
	np, ok := live.(*networkingv1.NetworkPolicy)
	return ok && len(np.Spec.Ingress)+len(np.Spec.Egress) == 0
}

func peers(in []policy.Peer) []networkingv1.NetworkPolicyPeer {
	out := make([]networkingv1.NetworkPolicyPeer, 0, len(in))
	for _, p := range in {
		if p.Pods != nil {
			out = append(out, networkingv1.NetworkPolicyPeer{
				NamespaceSelector: p.Pods.Namespaces.DeepCopy(),
				PodSelector:       podSelector(p.Pods),
			})
			continue
		}
		block := &networkingv1.IPBlock{CIDR: p.CIDR.String()}
		for _, e := range p.Except {
			block.Except = append(block.Except, e.String())
		}
		out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: block})
	}
	return out
}

// podSelector is never nil when the namespace selector is: a peer with neither would not be valid.
func podSelector(p *policy.PodPeer) *metav1.LabelSelector {
	if p.Pods == nil && p.Namespaces == nil {
		return &metav1.LabelSelector{}
	}
	return p.Pods.DeepCopy()
}

func ports(in []policy.Port) []networkingv1.NetworkPolicyPort {
	out := make([]networkingv1.NetworkPolicyPort, 0, len(in))
	for _, p := range in {
		port := networkingv1.NetworkPolicyPort{
			Protocol: new(corev1.Protocol(p.Protocol)),
			Port:     new(intstr.FromInt32(p.First)),
		}
		if p.Last != p.First {
			port.EndPort = new(p.Last)
		}
		out = append(out, port)
	}
	return out
}
