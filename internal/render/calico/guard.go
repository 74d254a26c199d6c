// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package calico

import (
	calicov3 "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Guard renders the guard layer as a GlobalNetworkPolicy. Having no order and no rules it comes last in its tier, so it
// takes nothing away from what the policies of a namespace allow.
type Guard struct{}

// Name is the kind of the object.
func (Guard) Name() string { return calicov3.KindGlobalNetworkPolicy }

// New returns an empty GlobalNetworkPolicy and an empty list of them.
func (Guard) New() (policy.Object, runtime.Object) {
	return &calicov3.GlobalNetworkPolicy{}, &calicov3.GlobalNetworkPolicyList{}
}

// Render returns the GlobalNetworkPolicy that says g. Host endpoints lack the labels of namespaces, so that "not in" alone
// would select them, and with them cut off nodes.
func (Guard) Render(meta metav1.ObjectMeta, g policy.Guard) policy.Object {
	isolates := map[policy.Direction]bool{}
	for _, d := range g.Directions {
		isolates[d] = true
	}
	namespaces := "has(" + corev1.LabelMetadataName + ")"
	namespaces = and(namespaces, notIn(corev1.LabelMetadataName, g.Except))
	return &calicov3.GlobalNetworkPolicy{ObjectMeta: meta, Spec: calicov3.GlobalNetworkPolicySpec{
		Tier:              tier,
		Selector:          isPod,
		NamespaceSelector: and(namespaces, expression(&g.Namespaces)),
		Types:             types(isolates),
	}}
}
