// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
)

var both = []policy.Direction{policy.Ingress, policy.Egress}

// sampleOf returns a sample of dual-stack nodes, the first of which runs the API server.
func sampleOf(directions []policy.Direction, nodes ...string) *probe.Sample {
	s := &probe.Sample{
		Run: "r", Nodes: nodes, Directions: directions,
		Addresses: map[string][]netip.Addr{}, Hosts: map[string][]netip.Addr{},
		Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6443")},
	}
	for i, n := range nodes {
		s.Addresses[n] = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.0.%d.9", i+1)), netip.MustParseAddr(fmt.Sprintf("fd00::%d", i+1))}
		s.Hosts[n] = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i+1))}
	}
	return s
}

// seen returns the sample with a vantage.
func seen(s *probe.Sample) *probe.Sample {
	s.Vantage = netip.MustParseAddrPort("203.0.113.1:24310")
	return s
}

// Every node of a sample has a cell for each direction, family, protocol and path that there is; but none to an API server on itself.
func TestEveryCellHasACheck(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		directions []policy.Direction
		nodes      []string
		vantage    bool
	}{
		"one node":                   {directions: both, nodes: []string{"a"}},
		"two nodes":                  {directions: both, nodes: []string{"a", "b"}},
		"four nodes":                 {directions: both, nodes: []string{"a", "b", "c", "d"}},
		"ingress only":               {directions: both[:1], nodes: []string{"a", "b"}},
		"egress only":                {directions: both[1:], nodes: []string{"a", "b"}},
		"two nodes, and a vantage":   {both, []string{"a", "b"}, true},
		"egress only, and a vantage": {both[1:], []string{"a", "b"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := map[probe.Cell]bool{}
			for i, n := range tc.nodes {
				for _, d := range tc.directions {
					for _, f := range []probe.Family{probe.IPv4, probe.IPv6} {
						for _, p := range []policy.Protocol{policy.TCP, policy.UDP} {
							want[probe.Cell{Node: n, Direction: d, Family: f, Protocol: p, Path: probe.SameNode}] = true
							if len(tc.nodes) > 1 {
								want[probe.Cell{Node: n, Direction: d, Family: f, Protocol: p, Path: probe.AcrossNodes}] = true
							}
							if tc.vantage && d == policy.Ingress && f == probe.IPv4 { // the vantage's family
								want[probe.Cell{Node: n, Direction: d, Family: f, Protocol: p, Path: probe.Outside}] = true
							}
						}
					}
					if d == policy.Egress && i > 0 {
						want[probe.Cell{Node: n, Direction: d, Family: probe.IPv4, Protocol: policy.TCP, Path: probe.APIServer}] = true
					}
				}
			}
			for _, state := range []probe.State{probe.StateA, probe.StateB} {
				got := map[probe.Cell]bool{}
				s := sampleOf(tc.directions, tc.nodes...)
				if tc.vantage {
					s = seen(s)
				}
				for _, c := range s.Checks(state) {
					got[c.Cell] = true
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("cells in state %d (-want +got):\n%s", state, diff)
				}
			}
		})
	}
}

// lets says whether the policies of a state let a dial of a canary through: the deny and what opens it.
func lets(s *probe.Sample, state probe.State, shot probe.Shot) bool {
	to := probe.Canary{Role: probe.Target}
	for n, addresses := range s.Addresses {
		if slices.Contains(addresses, shot.Address.Addr()) {
			to.Node = n
		}
	}
	opens := func(role probe.Role, d policy.Direction, pods bool, at policy.Protocol, on uint16) bool {
		for _, p := range s.Policies(state) {
			if p.Pods.MatchLabels[probe.LabelRole] != string(role) {
				continue
			}
			for _, r := range p.Rules {
				peer := slices.ContainsFunc(r.Peers, func(p policy.Peer) bool { return (p.Pods != nil) == pods })
				port := slices.ContainsFunc(r.Ports, func(p policy.Port) bool { return p.Protocol == at && p.First <= int32(on) && int32(on) <= p.Last })
				if r.Direction == d && peer && port {
					return true
				}
			}
		}
		return !slices.Contains(s.Directions, d)
	}
	if shot.Via.IsValid() {
		return opens(shot.Role, policy.Egress, false, policy.TCP, shot.Via.Port()) && opens(to.Role, policy.Ingress, false, shot.Protocol, shot.Address.Port())
	}
	inside := to.Node != ""
	return opens(shot.Role, policy.Egress, inside, shot.Protocol, shot.Address.Port()) &&
		(!inside || opens(to.Role, policy.Ingress, true, shot.Protocol, shot.Address.Port()))
}

// In every state the policies let each control through and no twin, and what is denied was open in the other state: or a frozen
// agent would not be found. A twin differs from its control in one rule, in the direction of its cell.
func TestPoliciesOpenControlsAndNoTwin(t *testing.T) {
	t.Parallel()
	for _, directions := range [][]policy.Direction{both, both[:1], both[1:]} {
		s := seen(sampleOf(directions, "a", "b", "c"))
		for _, state := range []probe.State{probe.StateA, probe.StateB} {
			for _, c := range s.Checks(state) {
				if !lets(s, state, c.Control) {
					t.Errorf("%v, state %d, %s: the control is denied", directions, state, c.Cell)
				}
				if lets(s, state, c.Twin) {
					t.Errorf("%v, state %d, %s: the twin is open", directions, state, c.Cell)
				}
				if !lets(s, state.Flipped(), c.Twin) {
					t.Errorf("%v, state %d, %s: the twin was not open before", directions, state, c.Cell)
				}
			}
		}
	}
}

func TestAnAllowanceThatMayOpenCanariesIsFound(t *testing.T) {
	t.Parallel()
	s := sampleOf(both, "a")
	anybody := []policy.Peer{{Pods: &policy.PodPeer{}}}
	world := []policy.Peer{{CIDR: netip.MustParsePrefix("0.0.0.0/0")}}
	port := func(p policy.Protocol, first, last int32) []policy.Port {
		return []policy.Port{{Protocol: p, First: first, Last: last}}
	}
	for name, tc := range map[string]struct {
		rule policy.Rule
		want bool
	}{
		"a port of the canaries":             {policy.Rule{Direction: policy.Ingress, Peers: anybody, Ports: port(policy.TCP, 24302, 24302)}, true},
		"a range with one":                   {policy.Rule{Direction: policy.Egress, Peers: anybody, Ports: port(policy.UDP, 1, 65535)}, true},
		"DNS":                                {policy.Rule{Direction: policy.Egress, Peers: anybody, Ports: port(policy.UDP, 53, 53)}, false},
		"the same port over SCTP":            {policy.Rule{Direction: policy.Ingress, Peers: anybody, Ports: port(policy.Protocol("SCTP"), 24302, 24302)}, false},
		"the API server's port to the world": {policy.Rule{Direction: policy.Egress, Peers: world, Ports: port(policy.TCP, 6443, 6443)}, true},
		"the API server's port to pods":      {policy.Rule{Direction: policy.Egress, Peers: anybody, Ports: port(policy.TCP, 6443, 6443)}, false},
		"the API server's port from outside": {policy.Rule{Direction: policy.Ingress, Peers: world, Ports: port(policy.TCP, 6443, 6443)}, false},
		"another port to the world":          {policy.Rule{Direction: policy.Egress, Peers: world, Ports: port(policy.TCP, 443, 443)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := s.Opens(tc.rule); got != tc.want {
				t.Errorf("opens: %t, want %t", got, tc.want)
			}
		})
	}
}

// The names of canaries fit, whatever their nodes are called, and differ.
func TestNamesOfCanaries(t *testing.T) {
	t.Parallel()
	long := string(slices.Repeat([]byte("n"), 253))
	s := sampleOf(both, long, long[1:])
	seen := map[string]bool{}
	for _, c := range s.Canaries("") {
		name := s.Name(c)
		if len(name) > 63 || seen[name] {
			t.Errorf("%s has %d characters, or is there twice", name, len(name))
		}
		seen[name] = true
	}
}
