// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake_test

import (
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/pcinetwork/pci-network-baseline/internal/probe/handshake"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// forged are addresses that a Service, an EndpointSlice or a declaration could name so that we reach what we must not, by why they are refused.
var forged = map[string][]string{
	"a loopback address": {
		"127.0.0.1", "127.0.0.2", "127.1.2.3", "127.255.255.255", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:0:0:1",
	},
	"a link-local address": {
		"169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.169.123", "169.254.169.253", "169.254.0.1", "169.254.255.255",
		"fe80::1", "fe80::a9fe:a9fe", "febf::1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe",
	},
	"a cloud's metadata service": {
		"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "::ffff:100.100.100.200", "::ffff:168.63.129.16",
	},
	"an IPv6 address that stands for an IPv4 one": {
		"64:ff9b::169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b::127.0.0.1", "64:ff9b::100.100.100.200", "64:ff9b:1::169.254.169.254",
		"64:ff9b:1:2::a9fe:a9fe", "2002:a9fe:a9fe::1", "2002:7f00:1::", "2002:6464:64c8::1", "2001:0:a9fe:a9fe::1", "2001::5601:5601",
		"::169.254.169.254", "::a9fe:a9fe", "::127.0.0.1", "::2", "::ffff:0:169.254.169.254", "::ffff:0:127.0.0.1",
	},
	"not an address of a host": {
		"0.0.0.0", "0.0.0.1", "0.255.255.255", "::", "::ffff:0.0.0.0", "::ffff:0.1.2.3", "224.0.0.1", "224.0.0.251", "239.255.255.255",
		"240.0.0.1", "255.255.255.254", "255.255.255.255", "::ffff:255.255.255.255", "ff02::1", "ff02::fb", "ff05::1:3", "ff0e::1",
	},
	"an address with a zone": {"fe80::1%lo", "fe80::1%eth0", "fd00::1%eth0", "2001:db8::1%1"},
}

func TestForgedAddressesAreNeverDialled(t *testing.T) {
	n := 0
	for why, addresses := range forged {
		for _, a := range addresses {
			n++
			at := netip.AddrPortFrom(netip.MustParseAddr(a), 80)
			got := handshake.NewDialer(handshake.NewScope(at)).Look(t.Context(), []handshake.Target{{Address: at}})[0]
			if got.Speech != snapshot.SpeechNotDialled || got.Detail != "It is "+why+"." {
				t.Errorf("%s: %s, %q; want %s, because it is %s", a, got.Speech, got.Detail, snapshot.SpeechNotDialled, why)
			}
		}
	}
	if n < 60 {
		t.Errorf("%d addresses tried, want at least 60", n)
	}
}

func TestAddressesOfHostsMayBeDialled(t *testing.T) {
	for _, a := range []string{"10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "192.0.2.1", "198.18.0.1", "8.8.8.8", "fd00::1", "2001:db8::1", "2600::1", "::ffff:10.0.0.1"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(a), 10250)
		if err := handshake.NewScope(at).Permits(at); err != nil {
			t.Errorf("%s is refused: %v", a, err)
		}
	}
}

// Only the listed address and port: not its neighbours, not another spelling's neighbours, and nothing of an empty scope.
func TestOnlyListedEndpointsAreDialled(t *testing.T) {
	var reached atomic.Int64
	count := func(net.Conn) { reached.Add(1) }
	other := serve(t, count)
	listed := serve(t, count)
	scope := handshake.NewScope(listed).OnLoopback()
	mapped := netip.AddrPortFrom(netip.AddrFrom16(listed.Addr().As16()), listed.Port())
	for name, tc := range map[string]struct {
		scope *handshake.Scope
		at    netip.AddrPort
		want  bool
	}{
		"the listed one":             {scope, listed, true},
		"the listed one, as IPv6":    {scope, mapped, true},
		"another port":               {scope, other, false},
		"another address":            {scope, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), listed.Port()), false},
		"no port":                    {handshake.NewScope(netip.AddrPortFrom(listed.Addr(), 0)).OnLoopback(), netip.AddrPortFrom(listed.Addr(), 0), false},
		"no address":                 {scope, netip.AddrPort{}, false},
		"a session of BGP":           {handshake.NewScope(netip.AddrPortFrom(listed.Addr(), 179)).OnLoopback(), netip.AddrPortFrom(listed.Addr(), 179), false},
		"loopback, not permitted":    {handshake.NewScope(listed), listed, false},
		"anything of an empty scope": {&handshake.Scope{}, netip.MustParseAddrPort("10.0.0.1:443"), false},
	} {
		t.Run(name, func(t *testing.T) {
			before := reached.Load()
			got := handshake.NewDialer(tc.scope).Look(t.Context(), []handshake.Target{{Address: tc.at}})[0]
			if dialled := got.Speech != snapshot.SpeechNotDialled; dialled != tc.want || strings.TrimSpace(got.Detail) == "" {
				t.Errorf("%s, %q", got.Speech, got.Detail)
			}
			if after := reached.Load(); (after > before) != tc.want {
				t.Errorf("%d connections", after-before)
			}
		})
	}
}
