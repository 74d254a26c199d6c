// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	"encoding/json"
	"net/netip"
	"strconv"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "sigs.k8s.io/json"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// HostPolicy is a CiliumClusterwideNetworkPolicy for nodes. It has a type of its own because its fields are none of what any other
// policy here may have: in the type of those they would be no drift.
//
// +kubebuilder:object:root=true
type HostPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec HostRule `json:"spec"`
}

// HostRule is what it says.
type HostRule struct {
	NodeSelector metav1.LabelSelector `json:"nodeSelector"`
	// EnableDefaultDeny says whether the node is isolated because there is a rule; unset, it is.
	EnableDefaultDeny DefaultDeny `json:"enableDefaultDeny"`
	// IngressDeny beats every allowance, those of other policies too.
	IngressDeny []IngressRule `json:"ingressDeny"`
}

// DefaultDeny says whether a policy isolates a direction.
type DefaultDeny struct {
	Ingress bool `json:"ingress"`
	Egress  bool `json:"egress"`
}

// Hosts renders policies for nodes as a CiliumClusterwideNetworkPolicy.
type Hosts struct{}

// Name is the backend's name in the API.
func (Hosts) Name() string { return Backend{}.Name() }

// Render returns one policy, which only denies: a range with exceptions. Nodes and pods are no part of a range, because Cilium knows
// them by identity, so a list that lacks a node cuts off no node that has joined. It isolates nothing by default, because that
// would close every other port of the node, SSH and the agents' own among them.
func (Hosts) Render(meta metav1.ObjectMeta, f policy.HostFirewall) []policy.Object {
	var ranges []CIDRRule
	for _, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		r := CIDRRule{CIDR: all.String()}
		for _, p := range f.Allowed {
			if p.Addr().Is4() == all.Addr().Is4() {
				r.Except = append(r.Except, p.String())
			}
		}
		ranges = append(ranges, r)
	}
	var ports []policy.Port
	for _, p := range f.Ports {
		ports = append(ports, policy.Port{Protocol: policy.TCP, First: p, Last: p})
	}
	out := &HostPolicy{ObjectMeta: meta, Spec: HostRule{
		NodeSelector: *f.Nodes.DeepCopy(), IngressDeny: []IngressRule{{FromCIDRSet: ranges, ToPorts: portRules(ports)}},
	}}
	out.SetGroupVersionKind(GroupVersion.WithKind(KindClusterwideNetworkPolicy))
	return []policy.Object{out}
}

// Anew is never the case.
func (Hosts) Anew(map[string]any, policy.Object) bool { return false }

// Read returns what a live policy says, and whether it says that and nothing else.
func (h Hosts) Read(live map[string]any) (policy.HostFirewall, bool) {
	var out policy.HostFirewall
	data, err := json.Marshal(live["spec"])
	if err != nil || live["specs"] != nil {
		return out, false
	}
	var rule HostRule
	if strict, err := kjson.UnmarshalStrict(data, &rule); err != nil || len(strict) > 0 || len(rule.IngressDeny) != 1 {
		return out, false
	}
	out.Nodes = rule.NodeSelector
	for _, r := range rule.IngressDeny[0].FromCIDRSet {
		for _, text := range r.Except {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return out, false
			}
			out.Allowed = append(out.Allowed, p)
		}
	}
	for _, r := range rule.IngressDeny[0].ToPorts {
		for _, p := range r.Ports {
			n, err := strconv.ParseInt(p.Port, 10, 32)
			if err != nil {
				return out, false
			}
			out.Ports = append(out.Ports, int32(n))
		}
	}
	again, ok := h.Render(metav1.ObjectMeta{}, out)[0].(*HostPolicy)
	return out, ok && apiequality.Semantic.DeepEqual(again.Spec, rule)
}
