// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package felix evaluates policies of projectcalico.org/v3 for tests, as their documentation says that Calico's agent of
// this name does. It reads encoded objects and shares no code with what renders them. What it does not know it refuses.
//
// https://docs.tigera.io/calico/latest/reference/resources/networkpolicy
package felix

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Labels that Calico gives to endpoints, beside their own.
const (
	namespaceLabel    = "projectcalico.org/namespace"
	orchestratorLabel = "projectcalico.org/orchestrator"
	namespacePrefix   = "pcns."
)

// Pod returns the labels of a pod's endpoint.
func Pod(namespace string, ofNamespace, ofPod map[string]string) Labels {
	out := Labels{namespaceLabel: namespace, orchestratorLabel: "k8s"}
	maps.Copy(out, ofPod)
	for k, v := range ofNamespace {
		out[namespacePrefix+k] = v
	}
	return out
}

func inNamespace(l Labels) bool {
	_, ok := l[namespaceLabel]
	return ok
}

// Packet is the first packet of a connection, seen from a local endpoint.
type Packet struct {
	Ingress  bool
	Endpoint Labels
	// Remote is the other side's address; At the labels of everything that has it: an endpoint, or network sets.
	Remote   netip.Addr
	At       []Labels
	Protocol string
	Port     int
}

// Policy is a decoded policy, ready to be asked.
type Policy struct {
	name            string
	order           *float64
	subject         Selector
	ingress, egress bool
	rules           map[bool][]rule // by ingress
}

type rule struct {
	action, protocol    string
	version             int // of IP; 0 is any
	source, destination entity
}

type entity struct {
	nets, notNets []netip.Prefix
	selector      Selector // nil matches everything
	ports         [][2]int
}

// object is the part of a policy that is known here.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name        string            `json:"name"`
		Namespace   string            `json:"namespace"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		StagedAction      string       `json:"stagedAction"`
		Tier              string       `json:"tier"`
		Order             *float64     `json:"order"`
		Selector          string       `json:"selector"`
		NamespaceSelector string       `json:"namespaceSelector"`
		Types             []string     `json:"types"`
		Ingress           []objectRule `json:"ingress"`
		Egress            []objectRule `json:"egress"`
	} `json:"spec"`
}

type objectRule struct {
	Action      string       `json:"action"`
	Protocol    string       `json:"protocol"`
	IPVersion   int          `json:"ipVersion"`
	Source      objectEntity `json:"source"`
	Destination objectEntity `json:"destination"`
}

type objectEntity struct {
	Nets              []string `json:"nets"`
	NotNets           []string `json:"notNets"`
	Selector          string   `json:"selector"`
	NamespaceSelector string   `json:"namespaceSelector"`
	Ports             []any    `json:"ports"`
}

// Decode reads one policy, as JSON or YAML, of tier default or of one that its name begins with.
func Decode(text []byte) (*Policy, error) {
	var o object
	if err := yaml.UnmarshalStrict(text, &o); err != nil {
		return nil, err
	}
	name := o.Metadata.Name
	if o.Spec.Tier != "default" {
		name = strings.TrimPrefix(name, o.Spec.Tier+".")
	}
	if o.APIVersion != "projectcalico.org/v3" || len(o.Spec.Types) == 0 || strings.Contains(name, ".") || (o.Spec.Tier != "default" && name == o.Metadata.Name) {
		return nil, fmt.Errorf("%s %s in tier %q with types %v", o.APIVersion, o.Metadata.Name, o.Spec.Tier, o.Spec.Types)
	}
	p := &Policy{
		name: o.Metadata.Name, order: o.Spec.Order, rules: map[bool][]rule{},
		ingress: slices.Contains(o.Spec.Types, "Ingress"), egress: slices.Contains(o.Spec.Types, "Egress"),
	}
	var err error
	if p.subject, err = scoped(o.Spec.Selector, o.Spec.NamespaceSelector, o.Metadata.Namespace, true); err != nil {
		return nil, err
	}
	for ingress, list := range map[bool][]objectRule{true: o.Spec.Ingress, false: o.Spec.Egress} {
		for _, in := range list {
			r := rule{action: in.Action, protocol: in.Protocol, version: in.IPVersion}
			if r.source, err = decodeEntity(in.Source, o.Metadata.Namespace); err != nil {
				return nil, err
			}
			if r.destination, err = decodeEntity(in.Destination, o.Metadata.Namespace); err != nil {
				return nil, err
			}
			if len(r.destination.ports) > 0 && !slices.Contains([]string{"TCP", "UDP", "SCTP"}, r.protocol) {
				return nil, fmt.Errorf("ports with protocol %q", r.protocol)
			}
			p.rules[ingress] = append(p.rules[ingress], r)
		}
	}
	return p, nil
}

// scoped returns what a selector selects. In a namespaced policy without a namespace selector it is limited to that
// namespace; in a rule this is so only if there is a selector at all. A namespace selector asks the labels that the
// endpoints have from their namespace: what is in no namespace lacks them all.
func scoped(selector, namespaces, namespace string, subject bool) (Selector, error) {
	if !subject && selector == "" && namespaces == "" {
		return nil, nil //nolint:nilnil // no selector matches everything
	}
	if selector == "" {
		selector = "all()"
	}
	endpoint, err := Parse(selector)
	if err != nil {
		return nil, fmt.Errorf("selector %s: %w", selector, err)
	}
	var within Selector
	switch {
	case namespaces != "":
		if within, err = ParseNamespace(namespaces); err != nil {
			return nil, fmt.Errorf("namespaceSelector %s: %w", namespaces, err)
		}
	case namespace != "":
		within = func(l Labels) bool { return l[namespaceLabel] == namespace }
	default:
		return endpoint, nil
	}
	return func(l Labels) bool { return within(l) && endpoint(l) }, nil
}

func decodeEntity(in objectEntity, namespace string) (entity, error) {
	var out entity
	var err error
	if out.selector, err = scoped(in.Selector, in.NamespaceSelector, namespace, false); err != nil {
		return out, err
	}
	if out.nets, err = prefixes(in.Nets); err != nil {
		return out, err
	}
	if out.notNets, err = prefixes(in.NotNets); err != nil {
		return out, err
	}
	for _, p := range slices.Concat(out.nets, out.notNets) {
		if first := slices.Concat(out.nets, out.notNets)[0]; first.Addr().Is4() != p.Addr().Is4() {
			return out, fmt.Errorf("%s and %s in one rule", first, p)
		}
	}
	for _, port := range in.Ports {
		var text string
		switch v := port.(type) {
		case string:
			text = v
		case float64, int64, json.Number:
			text = fmt.Sprint(v)
		default:
			return out, fmt.Errorf("port %v is a %T", port, port)
		}
		low, high, isRange := strings.Cut(text, ":")
		if !isRange {
			high = low
		}
		first, err1 := strconv.ParseUint(low, 10, 16)
		last, err2 := strconv.ParseUint(high, 10, 16)
		if err := cmp.Or(err1, err2); err != nil || first < 1 || first > last {
			return out, fmt.Errorf("port %s: %w", text, err)
		}
		out.ports = append(out.ports, [2]int{int(first), int(last)})
	}
	return out, nil
}

func prefixes(in []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range in {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, err
		}
		if p.Addr().Is4In6() || p != p.Masked() {
			return nil, fmt.Errorf("%s is not canonical", p)
		}
		out = append(out, p)
	}
	return out, nil
}

// Selects says whether a policy is for an endpoint.
func (p *Policy) Selects(endpoint Labels) bool { return p.subject(endpoint) }

// Passes says whether the policies of tier default let a packet through. The first rule that matches decides, in the order
// of the policies (without order: last), then of their names; if there is none, the tier denies. A packet that no policy is
// for passes: profiles allow what is between pods and everything else.
func Passes(policies []*Policy, packet Packet) bool {
	verdict := Verdict(policies, packet)
	return verdict == "" || verdict == "Allow"
}

// Verdict is what the policies of one tier, whichever, say of a packet: Allow, Deny, Pass, which leaves it to the tiers after it, or ""
// when none is for it.
func Verdict(policies []*Policy, packet Packet) string {
	var mine []*Policy
	for _, p := range policies {
		if (packet.Ingress && p.ingress || !packet.Ingress && p.egress) && p.subject(packet.Endpoint) {
			mine = append(mine, p)
		}
	}
	slices.SortStableFunc(mine, func(a, b *Policy) int { return cmp.Or(compareOrders(a.order, b.order), cmp.Compare(a.name, b.name)) })
	for _, p := range mine {
		for _, r := range p.rules[packet.Ingress] {
			if r.matches(packet) {
				return r.action
			}
		}
	}
	if len(mine) > 0 {
		return "Deny"
	}
	return ""
}

func compareOrders(a, b *float64) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return 1
	case b == nil:
		return -1
	default:
		return cmp.Compare(*a, *b)
	}
}

func (r rule) matches(p Packet) bool {
	remote, local := r.source, r.destination
	if !p.Ingress {
		remote, local = local, remote
	}
	if r.version != 0 && (r.version == 4) != p.Remote.Is4() {
		return false
	}
	return (r.protocol == "" || r.protocol == p.Protocol) && len(r.source.ports) == 0 && r.destination.matchesPort(p.Port) &&
		remote.matches(p.Remote, p.At) && local.selector == nil && len(local.nets)+len(local.notNets) == 0
}

func (e entity) matchesPort(port int) bool {
	return len(e.ports) == 0 || slices.ContainsFunc(e.ports, func(r [2]int) bool { return r[0] <= port && port <= r[1] })
}

func (e entity) matches(addr netip.Addr, at []Labels) bool {
	contains := func(p netip.Prefix) bool { return p.Contains(addr) }
	return (len(e.nets) == 0 || slices.ContainsFunc(e.nets, contains)) && !slices.ContainsFunc(e.notNets, contains) &&
		(e.selector == nil || slices.ContainsFunc(at, func(l Labels) bool { return e.selector(l) }))
}
