// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Canonical returns the rule with peers and ports sorted and without duplicates, so that the order in which a cluster
// lists endpoints never looks like a change. What can match no packet is left out, because APIs refuse it or read it as
// something else: exceptions outside of their range, ranges that are all exceptions, ranges of IPv4 addresses written as
// IPv6, ports beyond 1 to 65535. So the lists may become empty, and then allow nothing.
func (r Rule) Canonical() Rule {
	peers := make([]Peer, 0, len(r.Peers))
	for _, p := range r.Peers {
		if p, some := p.canonical(); some {
			peers = append(peers, p)
		}
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.key(), b.key()) })
	peers = slices.CompactFunc(peers, func(a, b Peer) bool { return a.key() == b.key() })
	ports := slices.DeleteFunc(slices.Clone(r.Ports), func(p Port) bool { return p.First < 1 || p.Last > 65535 || p.First > p.Last })
	slices.SortFunc(ports, comparePorts)
	return Rule{Direction: r.Direction, Peers: peers, Ports: slices.Compact(ports)}
}

// canonical returns the peer with masked and sorted ranges, and whether it can match anything.
func (p Peer) canonical() (Peer, bool) {
	if p.Pods != nil {
		return p, true
	}
	if !p.CIDR.IsValid() || p.CIDR.Addr().Is4In6() {
		return p, false
	}
	p.CIDR = p.CIDR.Masked()
	excepts := slices.Clone(p.Except)
	slices.SortFunc(excepts, netip.Prefix.Compare) // a range comes before those inside it
	p.Except = nil
	for _, e := range excepts {
		switch {
		case !e.IsValid() || (e.Overlaps(p.CIDR) && e.Bits() <= p.CIDR.Bits()):
			return p, false
		case e.Addr().Is4In6() || !e.Overlaps(p.CIDR):
		case len(p.Except) > 0 && p.Except[len(p.Except)-1].Overlaps(e):
		default:
			p.Except = append(p.Except, e.Masked())
		}
	}
	return p, true
}

func comparePorts(a, b Port) int {
	return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), cmp.Compare(a.Protocol, b.Protocol))
}

// key identifies a peer by value.
func (p Peer) key() string {
	if p.Pods != nil {
		return "pods " + selectorKey(p.Pods.Namespaces) + " " + selectorKey(p.Pods.Pods)
	}
	return fmt.Sprintf("cidr %s except %v %s", p.CIDR, p.Except, p.Place)
}

func selectorKey(s *metav1.LabelSelector) string {
	if s == nil {
		return "-"
	}
	var b strings.Builder
	b.WriteString(metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: s.MatchLabels}))
	for _, e := range s.MatchExpressions {
		fmt.Fprintf(&b, " %s %s %q", e.Key, e.Operator, e.Values)
	}
	return b.String()
}
