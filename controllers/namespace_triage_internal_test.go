// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// What overtakes the others after a start. The client stands for a cache: it holds what it was given.
func TestTriage(t *testing.T) {
	t.Parallel()
	backends, err := NewBackends(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	covered := func(change func(*pcinetv1alpha1.NamespaceCoverage)) client.Object {
		c := &pcinetv1alpha1.NamespaceCoverage{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "pci"}}
		c.Status.BaselineGeneration = 3
		c.Status.Policies = []pcinetv1alpha1.CoveragePolicy{
			{Name: deny.name, Resource: backends.policies[0].resource, UID: "1"},
			{Name: deny.name, Resource: "ciliumnetworkpolicies.cilium.io", UID: "2"}, // not looked at
		}
		if change != nil {
			change(c)
		}
		return c
	}
	policy := func(change func(*networkingv1.NetworkPolicy)) client.Object {
		p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: deny.name, UID: "1"}}
		if change != nil {
			change(p)
		}
		return p
	}
	for name, tc := range map[string]struct {
		cached []client.Object
		want   bool
	}{
		"all is as the coverage says": {cached: []client.Object{covered(nil), policy(nil)}},
		"no coverage":                 {cached: []client.Object{policy(nil)}, want: true},
		"a coverage of an older generation": {
			cached: []client.Object{covered(func(c *pcinetv1alpha1.NamespaceCoverage) { c.Status.BaselineGeneration = 2 }), policy(nil)}, want: true,
		},
		"a policy that is gone": {cached: []client.Object{covered(nil)}, want: true},
		"another policy of that name": {
			cached: []client.Object{covered(nil), policy(func(p *networkingv1.NetworkPolicy) { p.UID = "3" })}, want: true,
		},
		"a policy that somebody else has written to": {
			cached: []client.Object{covered(nil), policy(func(p *networkingv1.NetworkPolicy) {
				p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "mallory", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "networking.k8s.io/v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{}`)}}
			})}, want: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &NamespaceReconciler{Backends: backends, Cache: fake.NewClientBuilder().WithScheme(scheme).WithReturnManagedFields().WithObjects(tc.cached...).Build()}
			b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci", Generation: 3}}
			if got := r.changed(t.Context(), "shop", b); got != tc.want {
				t.Errorf("changed: %v, want %v", got, tc.want)
			}
		})
	}
}
