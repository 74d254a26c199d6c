// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package calico renders projectcalico.org/v3: NetworkPolicy and StagedNetworkPolicy of a namespace, and GlobalNetworkPolicy.
// It never renders crd.projectcalico.org, which is Calico's storage.
package calico

import (
	"maps"
	"net/netip"
	"slices"

	calicov3 "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	"github.com/projectcalico/api/pkg/lib/numorstring"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// tier is the tier of every object. Without an order a policy is the last of its tier, after every NetworkPolicy: a policy
// without rules then denies what no other policy of the tier has allowed.
const tier = "default"

// Bounds of one rule in the native CRDs.
const (
	maxNets  = 256
	maxPorts = 50
)

// Backend renders NetworkPolicies, or, when Staged, StagedNetworkPolicies, which Calico evaluates and does not enforce. Every
// field is written out as Calico would default it, so that a stored object equals the rendered one. Names have no dot: up
// to Calico 3.31 what stands before one would be read as the tier.
type Backend struct{ Staged bool }

// AddToScheme adds the kinds of this package.
func AddToScheme(s *runtime.Scheme) error { return calicov3.AddToScheme(s) }

// Name is the backend's name in the API.
func (Backend) Name() string { return "Calico" }

// New returns an empty policy and an empty list of them.
func (b Backend) New() (policy.Object, runtime.Object) {
	if b.Staged {
		return &calicov3.StagedNetworkPolicy{}, &calicov3.StagedNetworkPolicyList{}
	}
	return &calicov3.NetworkPolicy{}, &calicov3.NetworkPolicyList{}
}

// Denies says whether a policy has no rule.
func (Backend) Denies(live runtime.Object) bool {
	switch p := live.(type) {
	case *calicov3.NetworkPolicy:
		return len(p.Spec.Ingress)+len(p.Spec.Egress) == 0
	case *calicov3.StagedNetworkPolicy:
		return len(p.Spec.Ingress)+len(p.Spec.Egress) == 0
	default:
		return false
	}
}

// Render returns the policy that says p. Types are always given: without them a policy that has no rules would be read as
// Ingress alone.
func (b Backend) Render(meta metav1.ObjectMeta, p policy.Policy) policy.Object {
	spec := calicov3.NetworkPolicySpec{Tier: tier, Selector: expression(&p.Pods)}
	isolates := map[policy.Direction]bool{}
	for _, d := range p.Directions {
		isolates[d] = true
	}
	for _, r := range p.Rules {
		if len(r.Peers) == 0 || len(r.Ports) == 0 {
			continue
		}
		isolates[r.Direction] = true
		switch r.Direction {
		case policy.Ingress:
			spec.Ingress = append(spec.Ingress, rules(r)...)
		case policy.Egress:
			spec.Egress = append(spec.Egress, rules(r)...)
		}
	}
	spec.Types = types(isolates)
	if !b.Staged {
		return &calicov3.NetworkPolicy{ObjectMeta: meta, Spec: spec}
	}
	return &calicov3.StagedNetworkPolicy{ObjectMeta: meta, Spec: calicov3.StagedNetworkPolicySpec{
		StagedAction: calicov3.StagedActionSet,
		Tier:         spec.Tier, Selector: spec.Selector, Types: spec.Types, Ingress: spec.Ingress, Egress: spec.Egress,
	}}
}

func types(isolates map[policy.Direction]bool) []calicov3.PolicyType {
	var out []calicov3.PolicyType
	if isolates[policy.Ingress] {
		out = append(out, calicov3.PolicyTypeIngress)
	}
	if isolates[policy.Egress] {
		out = append(out, calicov3.PolicyTypeEgress)
	}
	return out
}

// rules returns one rule for each protocol and peer: what a rule lists must all match. Ports are those of the destination
// in both directions.
func rules(r policy.Rule) []calicov3.Rule {
	var out []calicov3.Rule
	for _, ports := range portLists(r.Ports) {
		for _, peer := range entities(r.Peers) {
			rule := calicov3.Rule{Action: calicov3.Allow, Protocol: new(numorstring.ProtocolFromString(string(ports.protocol)))}
			if r.Direction == policy.Ingress {
				rule.Source = peer
			} else {
				rule.Destination = peer
			}
			rule.Destination.Ports = slices.Clone(ports.list)
			out = append(out, rule)
		}
	}
	return out
}

// portList holds ports of one protocol, at most maxPorts.
type portList struct {
	protocol policy.Protocol
	list     []numorstring.Port
}

func portLists(in []policy.Port) []portList {
	by := map[policy.Protocol][]numorstring.Port{}
	for _, p := range in {
		by[p.Protocol] = append(by[p.Protocol], numorstring.Port{MinPort: uint16(p.First), MaxPort: uint16(p.Last)})
	}
	var out []portList
	for _, protocol := range slices.Sorted(maps.Keys(by)) {
		for chunk := range slices.Chunk(by[protocol], maxPorts) {
			out = append(out, portList{protocol, chunk})
		}
	}
	return out
}

// entities returns the peers, with ranges that have no exceptions put together: a rule may not mix IPv4 and IPv6, and its
// exceptions would hold for all of its ranges.
func entities(peers []policy.Peer) []calicov3.EntityRule {
	var out []calicov3.EntityRule
	var v4, v6 []string
	for _, p := range peers {
		switch {
		case p.Pods != nil:
			out = append(out, pods(p.Pods))
		case len(p.Except) > 0:
			out = append(out, calicov3.EntityRule{Nets: []string{p.CIDR.String()}, NotNets: texts(p.Except)})
		case p.CIDR.Addr().Is4():
			v4 = append(v4, p.CIDR.String())
		default:
			v6 = append(v6, p.CIDR.String())
		}
	}
	for _, family := range [][]string{v4, v6} {
		for chunk := range slices.Chunk(family, maxNets) {
			out = append(out, calicov3.EntityRule{Nets: chunk})
		}
	}
	return out
}

func texts(prefixes []netip.Prefix) []string {
	var out []string
	for _, p := range prefixes {
		out = append(out, p.String())
	}
	return out
}

// isPod is a label that Calico gives to the endpoints of pods alone. A selector would otherwise match network sets and host
// endpoints too, above all a negative one: they lack most labels.
const isPod = `projectcalico.org/orchestrator == "k8s"`

// pods selects pods. Without a namespaceSelector, a selector in a namespaced policy matches its own namespace.
func pods(p *policy.PodPeer) calicov3.EntityRule {
	out := calicov3.EntityRule{Selector: and(isPod, expression(p.Pods))}
	if p.Namespaces != nil {
		out.NamespaceSelector = expression(p.Namespaces)
	}
	return out
}

// and joins two expressions, of which none is a disjunction.
func and(a, b string) string {
	if b == everything {
		return a
	}
	return a + " && " + b
}
