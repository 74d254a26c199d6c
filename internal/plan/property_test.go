// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// random makes specs and clusters, good and bad ones: lists may be empty, CIDRs unreadable, selectors absent. A seed
// always gives the same ones.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 42))} }

func pickOne[T any](r random, from ...T) T { return from[r.IntN(len(from))] }

func (r random) selector() *pcinetv1alpha1.LabelSelector {
	return pickOne(r, nil, matchLabels(), matchLabels("app=a"), matchLabels("app=b", "tier=x"))
}

func (r random) peer() pcinetv1alpha1.Peer {
	if r.IntN(2) == 0 {
		return pcinetv1alpha1.Peer{NamespaceSelector: r.selector(), PodSelector: r.selector()}
	}
	p := pcinetv1alpha1.Peer{CIDR: pickOne[pcinetv1alpha1.CIDR](r, "10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32", "0.0.0.0/0", "", "10.0.0.0", "x")}
	for range r.IntN(3) {
		p.Except = append(p.Except, pickOne[pcinetv1alpha1.CIDR](r, "10.1.0.0/16", "2001:db8:1::/48", "", "10.0.0.0/99"))
	}
	return p
}

func (r random) rule(name string) pcinetv1alpha1.AllowRule {
	out := pcinetv1alpha1.AllowRule{
		Name: pcinetv1alpha1.AllowanceName(name), Direction: pickOne(r, bothDirections...),
		Justification: "Because of " + name, Subject: pickOne(r, nil, &pcinetv1alpha1.Subject{PodSelector: r.selector()}),
	}
	for range r.IntN(3) {
		out.Peers = append(out.Peers, r.peer())
	}
	for range r.IntN(3) {
		first := r.Int32N(60000) + 1
		out.Ports = append(out.Ports, pcinetv1alpha1.Port{
			Protocol: pickOne[pcinetv1alpha1.Protocol](r, "TCP", "UDP", "SCTP"), Port: first, EndPort: pickOne(r, 0, first, first+r.Int32N(5000)),
		})
	}
	return out
}

func (r random) baseline() *pcinetv1alpha1.PCINetworkBaseline {
	return baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
		s.Directions = pickOne(r, bothDirections, bothDirections[:1], bothDirections[1:])
		s.Allow.DNS = pickOne(r, pcinetv1alpha1.DNSAllowanceClusterDNS, pcinetv1alpha1.DNSAllowanceNone)
		for i := range r.IntN(4) {
			s.Allow.Rules = append(s.Allow.Rules, r.rule(fmt.Sprintf("rule-%d", i)))
		}
		for i := range r.IntN(3) {
			s.Allow.KubeAPIServer = append(s.Allow.KubeAPIServer, pcinetv1alpha1.KubeAPIServerAllowance{
				Name: pcinetv1alpha1.AllowanceName(fmt.Sprintf("api-%d", i)), NamespaceSelector: r.selector(), PodSelector: r.selector(),
			})
		}
	})
}

func (r random) addrs() []netip.Addr {
	all := addrs("10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2")
	return all[:r.IntN(len(all)+1)]
}

func (r random) cluster() snapshot.Cluster {
	c := snapshot.Cluster{SystemNamespaces: system, DNS: snapshot.DNS{NodeLocal: r.addrs()}}
	for range r.IntN(3) {
		c.DNS.Servers = append(c.DNS.Servers, snapshot.DNSServer{
			Namespace: "kube-system", Name: "kube-dns", Addresses: r.addrs(), Ports: port53[:r.IntN(3)],
			Selector: pickOne(r, nil, map[string]string{}, map[string]string{"k8s-app": "kube-dns"}),
		})
	}
	for _, a := range r.addrs() {
		c.APIServer = append(c.APIServer, snapshot.Endpoint{Address: a, Port: pickOne[int32](r, 443, 6443)})
	}
	return c
}

// An empty list means "all" in the policy APIs, so an allowance without rules, or a rule without peers or ports, must
// never leave the plan.
func TestNoAllowanceIsEverEmpty(t *testing.T) {
	planned, omitted := 0, 0
	for seed := range uint64(2000) {
		r := newRandom(seed)
		b := r.baseline()
		set := decide(t, b, namespace("shop", "app=a"), r.cluster()).Set
		planned, omitted = planned+len(set.Allowances), omitted+len(set.Omitted)
		if bad := emptyParts(set); len(bad) > 0 {
			t.Fatalf("seed %d: %v in\n%v", seed, bad, lines(set))
		}
	}
	if planned < 500 || omitted < 500 {
		t.Fatalf("%d allowances and %d omissions are too few to prove anything", planned, omitted)
	}
}

// emptyParts lists what in the allowances could be read as "all".
func emptyParts(s policy.Set) []string {
	var bad []string
	if len(s.Deny.Rules) > 0 || s.Deny.Role != policy.Deny {
		bad = append(bad, "the deny lets something through")
	}
	for _, p := range s.Allowances {
		if len(p.Rules) == 0 {
			bad = append(bad, p.Name+" has no rule")
		}
		for _, rule := range p.Rules {
			if len(rule.Peers) == 0 || len(rule.Ports) == 0 {
				bad = append(bad, p.Name+" has an empty list")
			}
			for _, peer := range rule.Peers {
				if peer.CIDR.IsValid() == (peer.Pods != nil) || (peer.Pods != nil && peer.Pods.Namespaces == nil && peer.Pods.Pods == nil) {
					bad = append(bad, p.Name+" has a peer in no form or in both")
				}
			}
			for _, port := range rule.Ports {
				if port.First < 1 || port.Last < port.First || port.Last > 65535 {
					bad = append(bad, p.Name+" has a port out of range")
				}
			}
		}
	}
	return bad
}

// The order in which lists arrive says nothing, so it may not change what is planned: every change is a write to every
// namespace.
func TestOrderDoesNotChangeTheSet(t *testing.T) {
	for seed := range uint64(1000) {
		r := newRandom(seed)
		b, c := r.baseline(), r.cluster()
		want := decide(t, b, namespace("shop", "app=a"), c).Set
		shuffled := b.DeepCopy()
		for i := range shuffled.Spec.Allow.Rules {
			shuffle(r, shuffled.Spec.Allow.Rules[i].Peers)
			shuffle(r, shuffled.Spec.Allow.Rules[i].Ports)
		}
		shuffle(r, shuffled.Spec.Directions)
		c.DNS.NodeLocal = slices.Clone(c.DNS.NodeLocal)
		shuffle(r, c.DNS.NodeLocal)
		for i := range c.DNS.Servers {
			server := &c.DNS.Servers[i]
			server.Addresses, server.Ports = slices.Clone(server.Addresses), slices.Clone(server.Ports)
			shuffle(r, server.Addresses)
			shuffle(r, server.Ports)
		}
		got := decide(t, shuffled, namespace("shop", "app=a"), c).Set
		for _, s := range []*policy.Set{&want, &got} { // the text of an error names the first bad peer
			for i := range s.Omitted {
				s.Omitted[i].Message = ""
			}
		}
		if diff := cmp.Diff(want, got, comparable...); diff != "" {
			t.Fatalf("seed %d: the order matters (-one +other):\n%s", seed, diff)
		}
	}
}

func shuffle[T any](r random, s []T) { r.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] }) }

// except is a set in the API, so its order is no change either.
func TestOrderOfExceptionsDoesNotChangeTheSet(t *testing.T) {
	setOf := func(except ...pcinetv1alpha1.CIDR) policy.Set {
		b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
			s.Allow.Rules = []pcinetv1alpha1.AllowRule{allowRule(func(r *pcinetv1alpha1.AllowRule) {
				r.Peers = []pcinetv1alpha1.Peer{{CIDR: "10.0.0.0/8", Except: except}}
			})}
		})
		return decide(t, b, namespace("shop"), snapshot.Cluster{}).Set
	}
	if diff := cmp.Diff(setOf("10.1.0.0/16", "10.2.0.0/16"), setOf("10.2.0.0/16", "10.1.0.0/16"), comparable...); diff != "" {
		t.Errorf("the order matters (-one +other):\n%s", diff)
	}
}

// A decision must leave its inputs alone: snapshots and baselines are shared by all workers.
func TestForChangesNothingThatItIsGiven(t *testing.T) {
	for seed := range uint64(500) {
		b, c, ns := newRandom(seed).baseline(), newRandom(seed).cluster(), namespace("shop", "app=a")
		before := b.DeepCopy()
		compiled, err := plan.Compile(b)
		if err != nil {
			t.Fatal(err)
		}
		first, second := compiled.For(ns, c, now), compiled.For(ns, c, now)
		if diff := cmp.Diff(first, second, comparable...); diff != "" {
			t.Fatalf("seed %d: the same question has two answers (-first +second):\n%s", seed, diff)
		}
		if diff := cmp.Diff(before, b); diff != "" {
			t.Fatalf("seed %d: the baseline was changed (-before +after):\n%s", seed, diff)
		}
		if diff := cmp.Diff(newRandom(seed).cluster(), c, append(comparable, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))...); diff != "" {
			t.Fatalf("seed %d: the snapshot was changed (-before +after):\n%s", seed, diff)
		}
	}
}

// FuzzPeerAddresses reads the CIDR and its exception with another parser: what is planned must be the same range with the
// same exception, or nothing.
func FuzzPeerAddresses(f *testing.F) {
	for _, seed := range [][2]string{
		{"10.0.0.0/8", "10.1.0.0/16"},
		{"10.9.9.9/8", ""},
		{"2001:db8::/32", "2001:db8:1::/48"},
		{"::ffff:10.0.0.0/104", ""},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"10.0.0.0/08", ""},
		{"10.0.0.0/", "x"},
		{"fe80::1%eth0/64", ""},
		{"010.0.0.0/8", ""},
		{" 10.0.0.0/8", "10.1.0.0/16 "},
		{"", "10.1.0.0/16"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, cidr, except string) {
		rule := allowRule(func(r *pcinetv1alpha1.AllowRule) {
			r.Peers = []pcinetv1alpha1.Peer{{CIDR: pcinetv1alpha1.CIDR(cidr)}}
			if except != "" {
				r.Peers[0].Except = []pcinetv1alpha1.CIDR{pcinetv1alpha1.CIDR(except)}
			}
		})
		b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Allow.Rules = []pcinetv1alpha1.AllowRule{rule} })
		set := decide(t, b, namespace("shop"), snapshot.Cluster{}).Set
		if len(set.Allowances)+len(set.Omitted) != 1 {
			t.Fatalf("neither planned nor omitted: %v", lines(set))
		}
		if len(set.Allowances) == 0 {
			return
		}
		peer := set.Allowances[0].Rules[0].Peers[0]
		if !sameRange(cidr, peer.CIDR) {
			t.Fatalf("cidr %q was read as %s", cidr, peer.CIDR)
		}
		if except != "" && (len(peer.Except) != 1 || !sameRange(except, peer.Except[0])) {
			t.Fatalf("except %q was read as %v", except, peer.Except)
		}
	})
}

// sameRange says whether package net reads the text as the same range of addresses.
func sameRange(text string, p netip.Prefix) bool {
	_, network, err := net.ParseCIDR(text)
	if err != nil {
		return false
	}
	ones, bits := network.Mask.Size()
	have := p.Addr().As16()
	return ones == p.Bits() && bits == p.Addr().BitLen() && network.IP.To16().Equal(have[:])
}
