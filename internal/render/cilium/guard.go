// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Guard renders the guard layer as a CiliumClusterwideNetworkPolicy. Having no deny rules, which would beat every allowance, it
// takes nothing away from what the policies of a namespace allow.
type Guard struct{}

// Name is the kind of the object.
func (Guard) Name() string { return KindClusterwideNetworkPolicy }

// New returns an empty CiliumClusterwideNetworkPolicy and an empty list of them.
func (Guard) New() (policy.Object, runtime.Object) {
	return &ClusterwideNetworkPolicy{}, &ClusterwideNetworkPolicyList{}
}

// Render returns the CiliumClusterwideNetworkPolicy that says g. It selects only endpoints that have a namespace: those that
// answer health checks and ingress traffic have none, and an empty selector would select them too.
func (Guard) Render(meta metav1.ObjectMeta, g policy.Guard) policy.Object {
	var selector metav1.LabelSelector
	if len(g.Except) > 0 {
		selector.MatchExpressions = []metav1.LabelSelectorRequirement{{
			Key: namespaceName, Operator: metav1.LabelSelectorOpNotIn, Values: slices.Clone(g.Except),
		}}
	}
	out := &ClusterwideNetworkPolicy{ObjectMeta: meta, Spec: deny(g.Directions)}
	out.Spec.EndpointSelector = new(inNamespaces(selector, &g.Namespaces))
	return out
}
