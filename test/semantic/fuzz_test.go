// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package semantic_test

import (
	"net/netip"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
)

// FuzzRanges looks for a range with exceptions that the engines do not all read as the API's words say, Cilium's own among
// them.
func FuzzRanges(f *testing.F) {
	for _, s := range [][4]string{
		{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3"},
		{"0.0.0.0/0", "128.0.0.0/1", "0.0.0.0/1", "10.0.0.1"},
		{"10.1.2.3/8", "10.1.2.3/16", "10.1.2.0/24", "10.2.0.0"},
		{"::/0", "2001:db8::/32", "::ffff:10.0.0.0/104", "2001:db8::1"},
		{"::ffff:10.0.0.0/104", "::ffff:10.0.0.0/112", "10.0.0.0/8", "10.0.0.1"},
		{"192.0.2.7/32", "192.0.2.0/24", "x", "192.0.2.7"},
		{"::1/128", "::/0", "::1/128", "::1"},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	f.Fuzz(func(t *testing.T, cidr, except1, except2, address string) {
		wide, err1 := netip.ParsePrefix(cidr)
		addr, err2 := netip.ParseAddr(address)
		if err1 != nil || err2 != nil || addr.Zone() != "" || addr.Is4In6() {
			t.Skip("no range, or no address that is on a wire")
		}
		peer := pcinetv1alpha1.Peer{CIDR: pcinetv1alpha1.CIDR(cidr)}
		for _, e := range []string{except1, except2} {
			if p, err := netip.ParsePrefix(e); err == nil && p.Bits() > wide.Bits() && wide.Contains(p.Addr()) {
				peer.Except = append(peer.Except, pcinetv1alpha1.CIDR(e))
			}
		}
		b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci"}}
		b.Spec.Directions, b.Spec.Allow.DNS = bothDirections, pcinetv1alpha1.DNSAllowanceNone
		for i, d := range bothDirections {
			b.Spec.Allow.Rules = append(b.Spec.Allow.Rules, pcinetv1alpha1.AllowRule{
				Name: pcinetv1alpha1.AllowanceName([]string{"in", "out"}[i]), Direction: d, Peers: []pcinetv1alpha1.Peer{peer},
				Ports: []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 443}},
			})
		}
		compiled, err := plan.Compile(b)
		if err != nil {
			t.Fatal(err)
		}
		w := world{baseline: b, compiled: compiled, namespace: namespaces[0]}
		var packets []packet
		for _, d := range bothDirections {
			for _, a := range []netip.Addr{addr, wide.Masked().Addr(), wide.Masked().Addr().Prev()} {
				if a.IsValid() && !a.Is4In6() {
					packets = append(packets, packet{direction: d, protocol: "TCP", port: 443, remote: remote{addr: a, place: outside}})
				}
			}
		}
		for _, e := range engines() {
			check(t, e, w, packets)
		}
	})
}

// FuzzWorlds looks for a spec that an engine does not read as the API's words say.
func FuzzWorlds(f *testing.F) {
	for s := range uint64(20) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s uint64) {
		w, packets := randomWorld(t, s)
		for _, e := range engines() {
			check(t, e, w, packets)
		}
	})
}

func check(t *testing.T, e engine, w world, packets []packet) {
	t.Helper()
	objects, err := w.objects(e.backend)
	if err == nil {
		err = compare(e, w, objects, packets, &tally{})
	}
	if err != nil {
		t.Errorf("%s: %v", e.backend.Name(), err)
	}
}
