// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
	"github.com/pcinetwork/pci-network-baseline/test/intent"
)

// FuzzRender looks for policies that let through more or less than their set.
func FuzzRender(f *testing.F) {
	intent.Seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		v := intent.Parse(text)
		set := v.Set()
		policies := renderSet(t, set)
		for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
			for _, addr := range []string{"10.0.0.1", "10.1.2.3", "192.0.2.7", "2001:db8::1", "2606:4700::1"} {
				for _, port := range []int32{v.First, v.Last, v.Last + 1, 53} {
					p := packet{direction: d, pod: labels.Set{v.Key: v.Value}, protocol: corev1.ProtocolTCP, port: port}
					p.remote = remote{addr: netip.MustParseAddr(addr), isPod: v.Form&64 == 0, pod: labels.Set{v.Key: "x"}, namespace: labels.Set{"app": "a"}, sameNamespace: v.Form&128 == 0}
					if want, got := intended(set, p), passes(policies, p); want != got {
						t.Errorf("%+v: the set lets it through: %v, the policies do: %v", p, want, got)
					}
				}
			}
		}
	})
}

func TestDenies(t *testing.T) {
	cases := map[string]struct {
		live runtime.Object
		want bool
	}{
		"no rules":                          {live: &networkingv1.NetworkPolicy{}, want: true},
		"an empty rule allows everything":   {live: &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}}}},
		"a rule of the other direction too": {live: &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{{}}}}},
		"another kind is not a deny":        {live: &corev1.Pod{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := (core.Backend{}).Denies(tc.live); got != tc.want {
				t.Errorf("denies: %v, want %v", got, tc.want)
			}
		})
	}
}
