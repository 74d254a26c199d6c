// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package probe proves with packets that nodes drop what policies deny. A canary (Agent) serves and dials; everything else
// here is pure: which nodes come next (Choose), what is dialled on a sample of them (Sample), what the outcomes mean (Judge),
// and what is known altogether (Summarise). docs/proof.md describes the experiment.
package probe

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Namespace holds the canaries, and nothing else.
const Namespace = "pci-network-baseline-probe"

// Labels of canaries and of the policies between them.
const (
	LabelRole = "pcinetwork.dev/probe"
	LabelRun  = "pcinetwork.dev/probe-run"
)

// MaxNodes is how many nodes have canaries at a time.
const MaxNodes = 4

// The ports of a target. Each pair differs in one rule: of the first pair the target's ingress opens one port at a time, of the
// second the source's egress does.
var (
	ingressPorts = [2]int32{24301, 24302}
	egressPorts  = [2]int32{24303, 24304}
)

// maxEndpoints is how many endpoints of the API server are dialled.
const maxEndpoints = 3

var protocols = []policy.Protocol{policy.TCP, policy.UDP}

// Role is what a canary is for.
type Role string

// The roles: sources dial targets.
const (
	Source Role = "source"
	Target Role = "target"
)

// Canary is one pod of a sample.
type Canary struct {
	Node string
	Role Role
}

// State says which port of each pair is open. The states take turns, so that what is denied now was open before.
type State int

// The states.
const (
	StateA State = iota
	StateB
)

// Flipped returns the other state.
func (s State) Flipped() State { return 1 - s }

// allowedToAPIServer is the role that may reach the API server.
func (s State) allowedToAPIServer() Role {
	if s == StateA {
		return Target
	}
	return Source
}

// PolicyName is the name of the policy that opens ports for canaries of a role.
func (r Role) PolicyName() string { return "pcinb-probe-" + string(r) }

// PolicyNames are the names of all of them.
func PolicyNames() []string { return []string{Target.PolicyName(), Source.PolicyName()} }

// other is the other role.
func (r Role) other() Role {
	if r == Source {
		return Target
	}
	return Source
}

// Path is where the packets of a cell go.
type Path string

// The paths.
const (
	SameNode    Path = "same-node"
	AcrossNodes Path = "across-nodes"
	APIServer   Path = "api-server"
	Outside     Path = "outside"
)

// Family is an IP family.
type Family string

// The families.
const (
	IPv4 Family = "IPv4"
	IPv6 Family = "IPv6"
)

func familyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// Cell is what a verdict is about. Node is the one that the denied pod runs on.
type Cell struct {
	Node      string
	Direction policy.Direction
	Family    Family
	Protocol  policy.Protocol
	Path      Path
}

// Sample is a set of nodes with canaries.
type Sample struct {
	// Run names the canaries' pods apart from those of other runs.
	Run   string
	Nodes []string
	// Born is the state in which the canaries start.
	Born State
	// Directions are those that are denied; in others nothing can be proven.
	Directions []policy.Direction
	// Addresses are those of the targets, Hosts those of the nodes; by node.
	Addresses, Hosts map[string][]netip.Addr
	// Endpoints are those of the API server.
	Endpoints []netip.AddrPort
	// Vantage is where a program outside of the cluster listens; zero when there is none.
	Vantage netip.AddrPort
}

// Name returns the name of a canary's pod. A node's name may be too long to be part of it.
func (s *Sample) Name(c Canary) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(c.Node)) // it cannot fail
	return fmt.Sprintf("canary-%s-%s-%08x", s.Run, c.Role, h.Sum32())
}

// Canaries returns those of a role, or with "" all, targets first: a source needs their addresses.
func (s *Sample) Canaries(role Role) []Canary {
	var out []Canary
	for _, r := range []Role{Target, Source} {
		for _, n := range s.Nodes {
			if role == "" || role == r {
				out = append(out, Canary{Node: n, Role: r})
			}
		}
	}
	return out
}

// peers are the nodes whose targets a source dials: its own and the next one, so that every node is source and target, on
// itself and across.
func (s *Sample) peers(node string) []string {
	next := s.Nodes[(slices.Index(s.Nodes, node)+1)%len(s.Nodes)]
	if next == node {
		return []string{node}
	}
	return []string{node, next}
}

// Ports are those that a canary serves.
func (s *Sample) Ports(c Canary) []int32 {
	if c.Role == Target {
		return slices.Concat(ingressPorts[:], egressPorts[:])
	}
	return nil
}

// Dials are those of a canary, in the order of its report.
func (s *Sample) Dials(c Canary) []Dial {
	var out []Dial
	if s.denies(policy.Egress) {
		for _, e := range s.endpoints() {
			out = append(out, Dial{Protocol: policy.TCP, Address: e})
		}
	}
	if c.Role == Target {
		return out
	}
	for _, peer := range s.peers(c.Node) {
		for _, a := range s.Addresses[peer] {
			for _, p := range protocols {
				for _, port := range s.Ports(Canary{peer, Target}) {
					out = append(out, s.dial(p, a, port, peer))
				}
			}
		}
	}
	for _, d := range s.fromOutside(c.Node) {
		out = append(out, d[0], d[1])
	}
	return out
}

// pairs are what a source tries on its own node in each direction that is denied, in the state in which it is born: the control, then its
// denied twin.
func (s *Sample) pairs(c Canary, p policy.Protocol) []Dial {
	var out []Dial
	for _, d := range s.Directions {
		ports := ingressPorts
		if d == policy.Egress {
			ports = egressPorts
		}
		for _, a := range s.Addresses[c.Node][:min(1, len(s.Addresses[c.Node]))] {
			out = append(out, s.dial(p, a, ports[s.Born], c.Node), s.dial(p, a, ports[s.Born.Flipped()], c.Node))
		}
	}
	return out
}

// Watches are what a source tries in its first moments.
func (s *Sample) Watches(c Canary) []Dial {
	if c.Role != Source {
		return nil
	}
	return s.pairs(c, policy.UDP)
}

// Holds are connections that a source makes while they are allowed, and that are denied after the flip: one in each direction.
func (s *Sample) Holds(c Canary) []Dial {
	var out []Dial
	for i, d := range s.pairs(c, policy.TCP) {
		if i%2 == 0 && c.Role == Source {
			out = append(out, d)
		}
	}
	return out
}

func (s *Sample) endpoints() []netip.AddrPort {
	return s.Endpoints[:min(len(s.Endpoints), maxEndpoints)]
}

func (s *Sample) denies(d policy.Direction) bool { return slices.Contains(s.Directions, d) }

func (s *Sample) dial(p policy.Protocol, a netip.Addr, port int32, node string) Dial {
	return Dial{Protocol: p, Address: netip.AddrPortFrom(a, uint16(port)), Name: s.Name(Canary{node, Target})}
}

// Check is a control and its denied twin.
type Check struct {
	Cell
	// Other is the other end, for people.
	Other         string
	Control, Twin Shot
}

// Shot is one dial of one canary.
type Shot struct {
	Canary
	Dial
}

// Checks are what is judged in a state.
func (s *Sample) Checks(state State) []Check {
	var out []Check
	for _, node := range s.Nodes {
		if s.denies(policy.Egress) {
			out = append(out, s.apiServerChecks(node, state)...)
		}
		out = append(out, s.outsideChecks(node, state)...)
		for _, peer := range s.peers(node) {
			path := SameNode
			if peer != node {
				path = AcrossNodes
			}
			for _, a := range s.Addresses[peer] {
				for _, p := range protocols {
					shot := func(port int32) Shot { return Shot{Canary{node, Source}, s.dial(p, a, port, peer)} }
					check := func(denied, other string, d policy.Direction, ports [2]int32) Check {
						return Check{Cell{denied, d, familyOf(a), p, path}, other, shot(ports[state]), shot(ports[state.Flipped()])}
					}
					if s.denies(policy.Ingress) {
						out = append(out, check(peer, node, policy.Ingress, ingressPorts))
					}
					if s.denies(policy.Egress) {
						out = append(out, check(node, peer, policy.Egress, egressPorts))
					}
				}
			}
		}
	}
	return out
}

// apiServerChecks leave out endpoints on the node itself: Kubernetes lets a pod always talk to its own node.
func (s *Sample) apiServerChecks(node string, state State) []Check {
	var out []Check
	allowed := state.allowedToAPIServer()
	for _, e := range s.endpoints() {
		if slices.Contains(s.Hosts[node], e.Addr()) {
			continue
		}
		d := Dial{Protocol: policy.TCP, Address: e}
		out = append(out, Check{
			Cell{node, policy.Egress, familyOf(e.Addr()), policy.TCP, APIServer},
			e.String(),
			Shot{Canary{node, allowed}, d},
			Shot{Canary{node, allowed.other()}, d},
		})
	}
	return out
}

// Policies are what opens one port of each pair between canaries, in a state.
func (s *Sample) Policies(state State) []policy.Policy {
	with := func(r Role) metav1.LabelSelector {
		return metav1.LabelSelector{MatchLabels: map[string]string{LabelRole: string(r)}}
	}
	between := func(d policy.Direction, other Role, first [2]int32, third int32) policy.Rule {
		rule := policy.Rule{Direction: d, Peers: []policy.Peer{{Pods: &policy.PodPeer{Pods: new(with(other))}}}}
		for _, p := range protocols {
			for _, port := range []int32{first[0], first[1], third} {
				rule.Ports = append(rule.Ports, policy.Port{Protocol: p, First: port, Last: port})
			}
		}
		return rule.Canonical()
	}
	rules := map[Role][]policy.Rule{}
	if s.denies(policy.Ingress) {
		rules[Target] = append(rules[Target], between(policy.Ingress, Source, egressPorts, ingressPorts[state]))
	}
	s.openOutside(state, rules)
	if s.denies(policy.Egress) {
		rules[Source] = append(rules[Source], between(policy.Egress, Target, ingressPorts, egressPorts[state]))
		allowed := state.allowedToAPIServer()
		for _, e := range s.endpoints() {
			rules[allowed] = append(rules[allowed], policy.Rule{
				Direction: policy.Egress,
				Peers:     []policy.Peer{{CIDR: netip.PrefixFrom(e.Addr(), e.Addr().BitLen()), Place: policy.KubeAPIServer}},
				Ports:     []policy.Port{{Protocol: policy.TCP, First: int32(e.Port()), Last: int32(e.Port())}},
			})
		}
	}
	var out []policy.Policy
	for _, r := range []Role{Target, Source} {
		if len(rules[r]) > 0 {
			out = append(out, policy.Policy{
				Name: string(r), Role: policy.Allowance, Pods: with(r), Rules: rules[r],
				Justification: "Positive control of the proof that denied traffic is dropped",
			})
		}
	}
	return out
}

// Opens says whether a rule of somebody's allowance may let through what a canary's dials are denied. It looks at direction and
// port alone: a peer may be anybody.
func (s *Sample) Opens(r policy.Rule) bool {
	ports := slices.Concat(ingressPorts[:], egressPorts[:])
	return slices.ContainsFunc(r.Ports, func(p policy.Port) bool {
		within := func(port int32) bool { return p.First <= port && port <= p.Last }
		if slices.Contains(protocols, p.Protocol) && slices.ContainsFunc(ports, within) {
			return true
		}
		return r.Direction == policy.Egress && p.Protocol == policy.TCP &&
			slices.ContainsFunc(s.endpoints(), func(e netip.AddrPort) bool { return within(int32(e.Port())) && reaches(r, e.Addr()) })
	})
}

// reaches says whether a rule's peers may include an address that is no pod's.
func reaches(r policy.Rule, a netip.Addr) bool {
	return slices.ContainsFunc(r.Peers, func(p policy.Peer) bool { return p.Pods == nil && p.CIDR.Contains(a) })
}
