// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"errors"
	"net/netip"
)

// Scope is what may be dialled: endpoints that the cluster's own objects, or the declaration, name. Names are never resolved and
// answers never followed, so nothing that an endpoint says can lead elsewhere. The zero Scope permits nothing.
type Scope struct {
	endpoints map[netip.AddrPort]struct{}
	loopback  bool
}

// NewScope permits endpoints.
func NewScope(endpoints ...netip.AddrPort) *Scope {
	s := &Scope{endpoints: make(map[netip.AddrPort]struct{}, len(endpoints))}
	for _, e := range endpoints {
		s.endpoints[plain(e)] = struct{}{}
	}
	return s
}

// Why an endpoint is not dialled.
var (
	errForeign   = errors.New("not one of the cluster's endpoints")
	errAddress   = errors.New("not an address of a host")
	errZone      = errors.New("an address with a zone")
	errLoopback  = errors.New("a loopback address")
	errLinkLocal = errors.New("a link-local address")
	errMetadata  = errors.New("a cloud's metadata service")
	errEmbedded  = errors.New("an IPv6 address that stands for an IPv4 one")
	errRouting   = errors.New("a port of BGP, where a connection may end a session")
)

// metadata lists the addresses of metadata services that are not link-local: Alibaba Cloud, Azure's wire server, Oracle Cloud, and
// the IPv6 ones of AWS and Google Cloud, as their documentation gives them.
var metadata = map[netip.Addr]bool{
	netip.MustParseAddr("100.100.100.200"): true,
	netip.MustParseAddr("168.63.129.16"):   true,
	netip.MustParseAddr("192.0.0.192"):     true,
	netip.MustParseAddr("fd00:ec2::254"):   true,
	netip.MustParseAddr("fd20:ce::254"):    true,
}

// bgp is the port of a protocol in which whoever connects from a peer's address, as a node or a pod behind one has, ends that peer's session:
// BIRD takes it for a peer that has restarted (RFC 4724), and drops its routes when it hears no BGP.
const bgp = 179

// embedding lists the prefixes of RFC 6890's registry under which a gateway or the host itself turns an IPv6 address into an IPv4
// one: compatible, translated (two), 6to4, Teredo.
var embedding = []netip.Prefix{
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("::ffff:0:0:0/96"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("2001::/32"),
}

// Permits returns why an endpoint must not be dialled; nil if it may be. Some addresses are refused although they are listed: a
// Service or EndpointSlice may be anybody's, and could name the metadata service of the node.
func (s *Scope) Permits(e netip.AddrPort) error {
	e = plain(e)
	if err := s.host(e.Addr()); err != nil {
		return err
	}
	if _, listed := s.endpoints[e]; !listed || e.Port() == 0 {
		return errForeign
	}
	if e.Port() == bgp {
		return errRouting
	}
	return nil
}

func (s *Scope) host(a netip.Addr) error {
	switch {
	case a.Zone() != "":
		return errZone
	case a.IsLoopback():
		if s.loopback {
			return nil
		}
		return errLoopback
	case a.IsLinkLocalUnicast():
		return errLinkLocal
	case metadata[a]:
		return errMetadata
	case !a.IsGlobalUnicast(), a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240):
		return errAddress
	}
	for _, p := range embedding {
		if p.Contains(a) {
			return errEmbedded
		}
	}
	return nil
}

// plain spells an IPv4 address that is mapped into IPv6 as what it is dialled as.
func plain(e netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(e.Addr().Unmap(), e.Port())
}
