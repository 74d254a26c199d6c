// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

// random makes sets and packets from few addresses, labels and ports, so that they often meet. Lists may be empty.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 7))} }

func pickOne[T any](r random, from ...T) T { return from[r.IntN(len(from))] }

func (r random) selector() metav1.LabelSelector {
	return pickOne(r,
		metav1.LabelSelector{},
		metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}},
		metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: metav1.LabelSelectorOpNotIn, Values: []string{"a", "b"}}}},
		metav1.LabelSelector{MatchLabels: map[string]string{"app": "b"}, MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpExists}}},
	)
}

func (r random) maybeSelector() *metav1.LabelSelector {
	if r.IntN(3) == 0 {
		return nil
	}
	return new(r.selector())
}

func (r random) peer() policy.Peer {
	if r.IntN(2) == 0 {
		return policy.Peer{Pods: &policy.PodPeer{Namespaces: r.maybeSelector(), Pods: r.maybeSelector()}}
	}
	p := policy.Peer{CIDR: netip.MustParsePrefix(pickOne(r, "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "192.0.2.0/24", "2001:db8::/32", "2001:db8::1/128"))}
	if r.IntN(3) == 0 {
		p.Except = append(p.Except, netip.MustParsePrefix(pickOne(r, "10.1.2.0/24", "2001:db8::/64")))
	}
	return p
}

func (r random) port() policy.Port {
	p := policy.Port{Protocol: policy.Protocol(r.protocol()), First: r.portNumber()}
	p.Last = p.First + pickOne[int32](r, 0, 0, 1, 100)
	return p
}

func (r random) protocol() corev1.Protocol {
	return pickOne(r, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP)
}

func (r random) portNumber() int32 { return pickOne[int32](r, 53, 54, 100, 443, 543) }

func (r random) direction() policy.Direction { return pickOne(r, policy.Ingress, policy.Egress) }

// set returns a set whose rules are in directions that the deny isolates, as the CRD asks.
func (r random) set() policy.Set {
	s := policy.Set{Baseline: "pci", Namespace: "shop", Deny: policy.Policy{Name: "default-deny", Role: policy.Deny}}
	s.Deny.Directions = pickOne(r, []policy.Direction{policy.Ingress, policy.Egress}, []policy.Direction{policy.Ingress}, []policy.Direction{policy.Egress})
	for i := range r.IntN(4) {
		p := policy.Policy{Name: fmt.Sprintf("allow-%d", i), Role: policy.Allowance, Pods: r.selector()}
		for range r.IntN(3) + 1 {
			rule := policy.Rule{Direction: pickOne(r, s.Deny.Directions...)}
			for range r.IntN(4) {
				rule.Peers = append(rule.Peers, r.peer())
			}
			for range r.IntN(4) {
				rule.Ports = append(rule.Ports, r.port())
			}
			p.Rules = append(p.Rules, rule.Canonical())
		}
		s.Allowances = append(s.Allowances, p)
	}
	return s
}

func (r random) labels() labels.Set {
	return pickOne(r, labels.Set{}, labels.Set{"app": "a"}, labels.Set{"app": "b"}, labels.Set{"app": "b", "tier": "x"}, labels.Set{"app": "c"})
}

func (r random) packet() packet {
	p := packet{direction: r.direction(), pod: r.labels(), protocol: r.protocol(), port: r.portNumber()}
	p.remote.addr = netip.MustParseAddr(pickOne(r, "10.0.0.1", "10.1.0.1", "10.1.2.3", "192.0.2.9", "198.51.100.1", "2001:db8::1", "2001:db8:1::1", "fe80::1"))
	if r.IntN(2) == 0 {
		p.remote.isPod, p.remote.pod, p.remote.namespace = true, r.labels(), r.labels()
		p.remote.sameNamespace = r.IntN(2) == 0
	}
	return p
}

func renderSet(t *testing.T, s policy.Set) []*networkingv1.NetworkPolicy {
	t.Helper()
	var out []*networkingv1.NetworkPolicy
	for _, p := range s.Ordered() {
		np, ok := render.Render(core.Backend{}, s, p).(*networkingv1.NetworkPolicy)
		if !ok {
			t.Fatalf("%s is no NetworkPolicy", p.Name)
		}
		// A policy without types would be given Ingress by the API server; it isolates, and never opens.
		out = append(out, np)
	}
	return out
}

// What is rendered lets through exactly what the set's rules do: more would be a breach, less an outage.
func TestRenderedPoliciesLetThroughWhatTheSetDoes(t *testing.T) {
	through, stopped := 0, 0
	for seed := range uint64(1500) {
		r := newRandom(seed)
		set := r.set()
		policies := renderSet(t, set)
		for range 40 {
			p := r.packet()
			want, got := intended(set, p), passes(policies, p)
			if onlyEmptyRules(set) && want && !got {
				continue // without policyTypes the API server isolates ingress: closed is not a breach
			}
			if want != got {
				text, _ := yaml.Marshal(policies)
				t.Fatalf("seed %d: %+v: the set lets it through: %v, the policies do: %v\n%s", seed, p, want, got, text)
			}
			if got {
				through++
			} else {
				stopped++
			}
		}
	}
	if through < 3000 || stopped < 3000 {
		t.Fatalf("%d packets let through and %d stopped are too few to prove anything", through, stopped)
	}
}

// onlyEmptyRules says whether an allowance has rules that all allow nothing; the plan omits such allowances.
func onlyEmptyRules(s policy.Set) bool {
	for _, a := range s.Allowances {
		some := false
		for _, r := range a.Rules {
			some = some || (len(r.Peers) > 0 && len(r.Ports) > 0)
		}
		if !some {
			return true
		}
	}
	return false
}

// An empty list means "all" to the API, and an unset field is defaulted, after which the stored object would not equal
// the rendered one.
func TestNothingIsLeftToTheAPIServer(t *testing.T) {
	for seed := range uint64(1500) {
		for _, np := range renderSet(t, newRandom(seed).set()) {
			var rules [][2]int
			var ports []networkingv1.NetworkPolicyPort
			for _, r := range np.Spec.Ingress {
				rules, ports = append(rules, [2]int{len(r.From), len(r.Ports)}), append(ports, r.Ports...)
			}
			for _, r := range np.Spec.Egress {
				rules, ports = append(rules, [2]int{len(r.To), len(r.Ports)}), append(ports, r.Ports...)
			}
			for _, n := range rules {
				if n[0] == 0 || n[1] == 0 {
					t.Fatalf("seed %d: %s has a rule with %d peers and %d ports", seed, np.Name, n[0], n[1])
				}
			}
			if len(rules) > 0 && len(np.Spec.PolicyTypes) == 0 {
				t.Fatalf("seed %d: %s has rules and no policyTypes", seed, np.Name)
			}
			for _, p := range ports {
				if p.Protocol == nil || p.Port == nil || (p.EndPort != nil && *p.EndPort <= p.Port.IntVal) {
					t.Fatalf("seed %d: %s leaves a port to be defaulted or ends it before it begins: %v", seed, np.Name, p)
				}
			}
		}
	}
}

// Writing to a rendered object must not reach the set, which is shared.
func TestRenderedObjectsShareNothingWithTheSet(t *testing.T) {
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "a"}}
	p := policy.Policy{
		Name: "allow-a", Pods: *selector,
		Rules: []policy.Rule{{
			Direction: policy.Egress,
			Peers:     []policy.Peer{{Pods: &policy.PodPeer{Namespaces: selector, Pods: selector}}},
			Ports:     []policy.Port{{Protocol: policy.TCP, First: 1, Last: 1}},
		}},
	}
	np := renderSet(t, policy.Set{Allowances: []policy.Policy{p}})[0]
	np.Spec.PodSelector.MatchLabels["app"] = "changed"
	np.Spec.Egress[0].To[0].NamespaceSelector.MatchLabels["app"] = "changed"
	np.Spec.Egress[0].To[0].PodSelector.MatchLabels["app"] = "changed"
	if got := selector.MatchLabels["app"]; got != "a" {
		t.Errorf("the set's selector became app=%s", got)
	}
}

func TestBackendName(t *testing.T) {
	if got := (core.Backend{}).Name(); got != "NetworkPolicy" {
		t.Errorf("name %q, want the API's value NetworkPolicy", got)
	}
}
