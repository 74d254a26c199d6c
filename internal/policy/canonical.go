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
// lists endpoints never looks like a change.
func (r Rule) Canonical() Rule {
	peers := slices.Clone(r.Peers)
	for i := range peers {
		peers[i].Except = slices.Clone(peers[i].Except)
		slices.SortFunc(peers[i].Except, netip.Prefix.Compare)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return cmp.Compare(a.key(), b.key()) })
	peers = slices.CompactFunc(peers, func(a, b Peer) bool { return a.key() == b.key() })
	ports := slices.Clone(r.Ports)
	slices.SortFunc(ports, comparePorts)
	return Rule{Direction: r.Direction, Peers: peers, Ports: slices.Compact(ports)}
}

func comparePorts(a, b Port) int {
	return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), cmp.Compare(a.Protocol, b.Protocol))
}

// key identifies a peer by value.
func (p Peer) key() string {
	if p.Pods != nil {
		return "pods " + selectorKey(p.Pods.Namespaces) + " " + selectorKey(p.Pods.Pods)
	}
	return fmt.Sprintf("cidr %s except %v", p.CIDR, p.Except)
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
