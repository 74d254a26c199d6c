// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"net/netip"
	"testing"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

func TestVantage(t *testing.T) {
	cases := map[string]struct {
		server, want string
		fails        bool
	}{
		"an address":             {server: "https://127.0.0.1:6443", want: "127.0.0.1"},
		"an address, no port":    {server: "https://127.0.0.1", want: "127.0.0.1"},
		"no address":             {server: "https://", fails: true},
		"nothing that is a URL":  {server: "https://%", fails: true},
		"a port that is no port": {server: "https://127.0.0.1:99999", fails: true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := vantage(t.Context(), tc.server)
			if (err != nil) != tc.fails || (!tc.fails && got.String() != tc.want) {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}

func TestObjectsForNodes(t *testing.T) {
	f := policy.HostFirewall{Baseline: "b", Ports: []int32{10250}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for backend, want := range map[string][]string{
		"Calico": {"Tier", "GlobalNetworkPolicy"}, "Cilium": {"CiliumClusterwideNetworkPolicy"}, "": nil, "NetworkPolicy": nil,
	} {
		got := hostObjects(backend, f)
		if len(got) != len(want) {
			t.Fatalf("%s: %d objects", backend, len(got))
		}
		for i, o := range got {
			if kind := o.GetObjectKind().GroupVersionKind().Kind; kind != want[i] {
				t.Errorf("%s: %s, want %s", backend, kind, want[i])
			}
		}
	}
}
