// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cilium renders cilium.io/v2: CiliumNetworkPolicy of a namespace, and CiliumClusterwideNetworkPolicy.
//
// +kubebuilder:object:generate=true
package cilium

import (
	"net/netip"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// maxPorts bounds the ports of one PortRule (cilium.io/v2 PortRule).
const maxPorts = 40

// Backend renders CiliumNetworkPolicies.
type Backend struct{}

// Name is the backend's name in the API.
func (Backend) Name() string { return "Cilium" }

// New returns an empty CiliumNetworkPolicy and an empty list of them.
func (Backend) New() (policy.Object, runtime.Object) {
	return &NetworkPolicy{}, &NetworkPolicyList{}
}

// Denies says whether a CiliumNetworkPolicy has at most empty rules.
func (Backend) Denies(live runtime.Object) bool {
	p, ok := live.(*NetworkPolicy)
	if !ok || len(p.Spec.Unknown) > 0 {
		return false
	}
	return !slices.ContainsFunc(p.Spec.Ingress, func(r IngressRule) bool {
		return len(r.FromEndpoints)+len(r.FromCIDRSet)+len(r.FromEntities)+len(r.ToPorts) > 0
	}) && !slices.ContainsFunc(p.Spec.Egress, func(r EgressRule) bool {
		return len(r.ToEndpoints)+len(r.ToCIDRSet)+len(r.ToEntities)+len(r.ToPorts) > 0
	})
}

// Refused returns why Cilium will not have a policy; "" when it has not said so.
func (Backend) Refused(live runtime.Object) string {
	p, ok := live.(*NetworkPolicy)
	if !ok {
		return ""
	}
	for _, c := range p.Status.Conditions {
		if c.Type == ConditionValid && c.Status == metav1.ConditionFalse {
			return "Cilium does not accept it: " + c.Message
		}
	}
	return ""
}

// Render returns the CiliumNetworkPolicy that says p. A rule without peers or ports is left out: without peers it would let
// through everybody on its ports.
func (Backend) Render(meta metav1.ObjectMeta, p policy.Policy) policy.Object {
	out := &NetworkPolicy{ObjectMeta: meta, Spec: deny(p.Directions)}
	out.Spec.EndpointSelector = new(prefixed(&p.Pods, podKey))
	for _, r := range p.Rules {
		if len(r.Peers) == 0 || len(r.Ports) == 0 {
			continue
		}
		f, ports := formsOf(r.Peers, meta.Namespace), portRules(r.Ports)
		switch r.Direction {
		case policy.Ingress:
			out.Spec.Ingress = append(out.Spec.Ingress, f.ingress(ports)...)
		case policy.Egress:
			out.Spec.Egress = append(out.Spec.Egress, f.egress(ports)...)
		}
	}
	return out
}

// deny isolates the directions. It takes a list with an empty rule to do so: an empty list is dropped in encoding, and says
// nothing (cilium.io/v2 Rule).
func deny(directions []policy.Direction) Rule {
	var out Rule
	if slices.Contains(directions, policy.Ingress) {
		out.Ingress = []IngressRule{{}}
	}
	if slices.Contains(directions, policy.Egress) {
		out.Egress = []EgressRule{{}}
	}
	return out
}

// forms are the peers of a rule, by the form that Cilium wants each in: one rule takes one form.
type forms struct {
	endpoints []metav1.LabelSelector
	ranges    []CIDRRule
	entities  []string
}

// entities name what Cilium knows by identity; a CIDR never matches it unless policy-cidr-match-mode says so. The range is
// rendered too, for API servers outside of the cluster and for that mode.
var entities = map[policy.Place]string{
	policy.KubeAPIServer: "kube-apiserver",
	policy.OwnNode:       "host",
}

func formsOf(peers []policy.Peer, namespace string) forms {
	var out forms
	for _, p := range peers {
		if p.Pods != nil {
			out.endpoints = append(out.endpoints, endpoints(p.Pods, namespace))
			continue
		}
		out.ranges = append(out.ranges, CIDRRule{CIDR: p.CIDR.String(), Except: texts(p.Except)})
		if e, known := entities[p.Place]; known && !slices.Contains(out.entities, e) {
			out.entities = append(out.entities, e)
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

func (f forms) ingress(ports []PortRule) []IngressRule {
	var out []IngressRule
	if len(f.endpoints) > 0 {
		out = append(out, IngressRule{FromEndpoints: f.endpoints, ToPorts: ports})
	}
	if len(f.ranges) > 0 {
		out = append(out, IngressRule{FromCIDRSet: f.ranges, ToPorts: ports})
	}
	if len(f.entities) > 0 {
		out = append(out, IngressRule{FromEntities: f.entities, ToPorts: ports})
	}
	return out
}

func (f forms) egress(ports []PortRule) []EgressRule {
	var out []EgressRule
	if len(f.endpoints) > 0 {
		out = append(out, EgressRule{ToEndpoints: f.endpoints, ToPorts: ports})
	}
	if len(f.ranges) > 0 {
		out = append(out, EgressRule{ToCIDRSet: f.ranges, ToPorts: ports})
	}
	if len(f.entities) > 0 {
		out = append(out, EgressRule{ToEntities: f.entities, ToPorts: ports})
	}
	return out
}

func portRules(in []policy.Port) []PortRule {
	var out []PortRule
	for chunk := range slices.Chunk(in, maxPorts) {
		var rule PortRule
		for _, p := range chunk {
			port := PortProtocol{Port: strconv.Itoa(int(p.First)), Protocol: string(p.Protocol)}
			if p.Last != p.First {
				port.EndPort = p.Last
			}
			rule.Ports = append(rule.Ports, port)
		}
		out = append(out, rule)
	}
	return out
}
