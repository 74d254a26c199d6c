// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// in says whether an address is in a range less its exceptions, in so many words.
func in(peers []policy.Peer, addr netip.Addr) bool {
	return slices.ContainsFunc(peers, func(p policy.Peer) bool {
		return p.CIDR.Contains(addr) && !slices.ContainsFunc(p.Except, func(e netip.Prefix) bool { return e.Contains(addr) })
	})
}

// FuzzRanges looks for a range that contains other addresses once it is canonical.
func FuzzRanges(f *testing.F) {
	for _, s := range [][4]string{
		{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3"},
		{"10.1.2.3/8", "10.1.2.3/16", "10.1.2.3/24", "10.2.0.0"},
		{"::/0", "::ffff:10.0.0.0/104", "2001:db8::/32", "2001:db8::1"},
		{"::ffff:10.0.0.0/104", "::ffff:10.0.0.0/112", "10.0.0.0/8", "10.0.0.1"},
		{"10.0.0.0/8", "0.0.0.0/0", "::/0", "10.0.0.1"},
		{"192.0.2.7/32", "192.0.2.7/32", "192.0.2.8/32", "192.0.2.7"},
		{"fe80::/10", "fe80::1/128", "fe80::/64", "fe80::2"},
	} {
		f.Add(s[0], s[1], s[2], s[3])
	}
	f.Fuzz(func(t *testing.T, cidr, except1, except2, address string) {
		peer := policy.Peer{}
		var err error
		if peer.CIDR, err = netip.ParsePrefix(cidr); err != nil {
			t.Skip("no range")
		}
		for _, e := range []string{except1, except2} {
			if p, err := netip.ParsePrefix(e); err == nil {
				peer.Except = append(peer.Except, p)
			}
		}
		got := policy.Rule{Peers: []policy.Peer{peer}}.Canonical()
		for _, p := range got.Peers {
			if p.CIDR != p.CIDR.Masked() || p.CIDR.Addr().Is4In6() {
				t.Errorf("range %s is not canonical", p.CIDR)
			}
			for i, e := range p.Except {
				if e != e.Masked() || e.Bits() <= p.CIDR.Bits() || !p.CIDR.Contains(e.Addr()) || (i > 0 && e.Overlaps(p.Except[i-1])) {
					t.Errorf("exceptions %v of %s are not canonical", p.Except, p.CIDR)
				}
			}
		}
		for _, a := range addressesAround(peer, address) {
			if want := in([]policy.Peer{peer}, a); in(got.Peers, a) != want {
				t.Errorf("%s in %+v: %v, want %v", a, got.Peers, !want, want)
			}
		}
	})
}

// addressesAround returns addresses on both sides of every bound, and one more. IPv4 addresses written as IPv6 are not on
// any wire.
func addressesAround(p policy.Peer, more string) []netip.Addr {
	var out []netip.Addr
	for _, r := range append([]netip.Prefix{p.CIDR}, p.Except...) {
		first := r.Masked().Addr()
		out = append(out, first, first.Prev(), first.Next(), r.Addr())
	}
	if a, err := netip.ParseAddr(more); err == nil {
		out = append(out, a.WithZone(""))
	}
	return slices.DeleteFunc(out, func(a netip.Addr) bool { return !a.IsValid() || a.Is4In6() })
}

// FuzzManyRanges looks for an order of many ranges that changes what they say, or how they are written.
func FuzzManyRanges(f *testing.F) {
	f.Add(uint64(1), uint16(10_000))
	f.Add(uint64(2), uint16(3))
	f.Add(uint64(3), uint16(0))
	f.Fuzz(func(t *testing.T, seed uint64, n uint16) {
		r := rand.New(rand.NewPCG(seed, 3))
		var rule policy.Rule
		for range min(n, 10_000) {
			a := netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))})
			rule.Peers = append(rule.Peers, policy.Peer{CIDR: netip.PrefixFrom(a, 16+r.IntN(17)), Except: []netip.Prefix{netip.PrefixFrom(a, 32)}})
		}
		once := rule.Canonical()
		r.Shuffle(len(rule.Peers), func(i, j int) { rule.Peers[i], rule.Peers[j] = rule.Peers[j], rule.Peers[i] })
		shuffled := rule.Canonical()
		if len(once.Peers) != len(shuffled.Peers) || !slices.EqualFunc(once.Peers, shuffled.Peers, func(a, b policy.Peer) bool {
			return a.CIDR == b.CIDR && slices.Equal(a.Except, b.Except)
		}) {
			t.Error("another order gives another rule")
		}
		for range 20 {
			a := netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(256))})
			if want := in(rule.Peers, a); in(once.Peers, a) != want {
				t.Fatalf("%s: %v, want %v", a, !want, want)
			}
		}
	})
}
