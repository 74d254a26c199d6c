// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/netip"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// fromOutside are what the vantage is asked for about the target on a node: pairs of ports. It has one address, so its family is the
// only one.
func (s *Sample) fromOutside(node string) [][2]Dial {
	var out [][2]Dial
	for _, a := range s.Addresses[node] {
		if !s.Vantage.IsValid() || !s.denies(policy.Ingress) || familyOf(a) != familyOf(s.Vantage.Addr()) {
			continue
		}
		for _, p := range protocols {
			var pair [2]Dial
			for i, port := range ingressPorts {
				pair[i] = s.dial(p, a, port, node)
				pair[i].Via = s.Vantage
			}
			out = append(out, pair)
		}
	}
	return out
}

// outsideChecks are those of a vantage. Where it cannot reach the target because pods have no address of its family there is one of which
// nothing can come: what was asked for and is not looked at is not proven.
func (s *Sample) outsideChecks(node string, state State) []Check {
	var out []Check
	for _, d := range s.fromOutside(node) {
		shot := func(s State) Shot { return Shot{Canary{node, Source}, d[s]} }
		cell := Cell{node, policy.Ingress, familyOf(d[0].Address.Addr()), d[0].Protocol, Outside}
		out = append(out, Check{cell, "the vantage", shot(state), shot(state.Flipped())})
	}
	if len(out) == 0 && s.Vantage.IsValid() && s.denies(policy.Ingress) {
		cell := Cell{node, policy.Ingress, familyOf(s.Vantage.Addr()), policy.TCP, Outside}
		out = append(out, Check{Cell: cell, Other: "the vantage"})
	}
	return out
}

// openOutside adds the rules that the vantage needs: it may reach one port of targets, and sources may ask it.
func (s *Sample) openOutside(state State, rules map[Role][]policy.Rule) {
	if !s.Vantage.IsValid() || !s.denies(policy.Ingress) {
		return
	}
	there := []policy.Peer{{CIDR: netip.PrefixFrom(s.Vantage.Addr(), s.Vantage.Addr().BitLen())}}
	dialled := policy.Rule{Direction: policy.Ingress, Peers: there}
	for _, p := range protocols {
		dialled.Ports = append(dialled.Ports, policy.Port{Protocol: p, First: ingressPorts[state], Last: ingressPorts[state]})
	}
	rules[Target] = append(rules[Target], dialled.Canonical())
	if s.denies(policy.Egress) {
		port := int32(s.Vantage.Port())
		rules[Source] = append(rules[Source], policy.Rule{
			Direction: policy.Egress, Peers: there, Ports: []policy.Port{{Protocol: policy.TCP, First: port, Last: port}},
		})
	}
}
