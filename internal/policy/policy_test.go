// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

var samePrefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func cidr(text string, except ...string) policy.Peer {
	p := policy.Peer{CIDR: netip.MustParsePrefix(text)}
	for _, e := range except {
		p.Except = append(p.Except, netip.MustParsePrefix(e))
	}
	return p
}

func pods(namespaces, pods *metav1.LabelSelector) policy.Peer {
	return policy.Peer{Pods: &policy.PodPeer{Namespaces: namespaces, Pods: pods}}
}

func TestCanonicalKeepsPeersThatDiffer(t *testing.T) {
	expression := func(key string, op metav1.LabelSelectorOperator, values ...string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: op, Values: values}}}
	}
	label := func(value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": value}}
	}
	all := &metav1.LabelSelector{}
	different := []policy.Peer{
		cidr("10.0.0.0/8"), cidr("10.0.0.0/9"), cidr("10.0.0.0/8", "10.1.0.0/16"), cidr("10.0.0.0/8", "10.2.0.0/16"),
		cidr("10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16"), cidr("::/8"),
		pods(nil, nil), pods(all, nil), pods(nil, all), pods(all, all),
		pods(label("a"), nil), pods(nil, label("a")), pods(label("a"), label("a")), pods(label("a"), label("b")), pods(label(""), nil),
		pods(nil, expression("app", "In", "a")), pods(nil, expression("app", "NotIn", "a")), pods(nil, expression("app", "In", "a", "b")),
		pods(nil, expression("app", "In", "a b")), pods(nil, expression("app", "Exists")), pods(nil, expression("tier", "Exists")),
	}
	got := policy.Rule{Peers: different}.Canonical()
	if len(got.Peers) != len(different) {
		t.Errorf("%d of %d different peers are left", len(got.Peers), len(different))
	}
	twice := policy.Rule{Peers: append(append([]policy.Peer{}, different...), different...)}.Canonical()
	if diff := cmp.Diff(got, twice, samePrefix); diff != "" {
		t.Errorf("peers given twice (-once +twice):\n%s", diff)
	}
}

func TestCanonicalKeepsPortsThatDiffer(t *testing.T) {
	port := func(p policy.Protocol, first, last int32) policy.Port {
		return policy.Port{Protocol: p, First: first, Last: last}
	}
	in := []policy.Port{port("UDP", 53, 53), port("TCP", 443, 443), port("TCP", 53, 53), port("TCP", 53, 60), port("UDP", 53, 53)}
	want := []policy.Port{port("TCP", 53, 53), port("UDP", 53, 53), port("TCP", 53, 60), port("TCP", 443, 443)}
	if diff := cmp.Diff(want, policy.Rule{Ports: in}.Canonical().Ports); diff != "" {
		t.Errorf("ports (-want +got):\n%s", diff)
	}
	if in[0] != port("UDP", 53, 53) || in[1] != port("TCP", 443, 443) {
		t.Errorf("the given ports were reordered: %v", in)
	}
}

// Make before break: while a deny is written before its allowances, everything that they let through is cut off.
func TestOrderedPutsTheDenyLast(t *testing.T) {
	s := policy.Set{
		Deny:       policy.Policy{Name: "default-deny"},
		Allowances: []policy.Policy{{Name: "allow-dns"}, {Name: "allow-db"}},
	}
	var got []string
	for _, p := range s.Ordered() {
		got = append(got, p.Name)
	}
	if diff := cmp.Diff([]string{"allow-dns", "allow-db", "default-deny"}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

// APIs refuse these, or read them as something else.
func TestCanonicalLeavesOutWhatMatchesNothing(t *testing.T) {
	prefix := netip.MustParsePrefix
	cases := map[string]struct {
		in, want []policy.Peer
	}{
		"host bits are masked":                       {in: []policy.Peer{cidr("10.1.2.3/8", "10.1.2.3/16")}, want: []policy.Peer{cidr("10.0.0.0/8", "10.1.0.0/16")}},
		"exceptions inside exceptions":               {in: []policy.Peer{cidr("10.0.0.0/8", "10.1.2.0/24", "10.1.0.0/16", "10.1.2.0/24")}, want: []policy.Peer{cidr("10.0.0.0/8", "10.1.0.0/16")}},
		"exceptions outside of the range":            {in: []policy.Peer{cidr("10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32")}, want: []policy.Peer{cidr("10.0.0.0/8")}},
		"a range that is all exceptions":             {in: []policy.Peer{cidr("10.0.0.0/8", "0.0.0.0/0"), cidr("::/0", "::/0")}},
		"an IPv4 range written as IPv6":              {in: []policy.Peer{cidr("::ffff:10.0.0.0/104")}},
		"an IPv4 exception written as IPv6":          {in: []policy.Peer{cidr("::/0", "::ffff:10.0.0.0/104")}, want: []policy.Peer{cidr("::/0")}},
		"no range":                                   {in: []policy.Peer{{}}},
		"an exception that is not one closes all":    {in: []policy.Peer{{CIDR: prefix("10.0.0.0/8"), Except: []netip.Prefix{{}}}}},
		"two exceptions that together are the range": {in: []policy.Peer{cidr("0.0.0.0/0", "128.0.0.0/1", "0.0.0.0/1")}, want: []policy.Peer{cidr("0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1")}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, policy.Rule{Peers: tc.in}.Canonical().Peers, samePrefix, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("peers (-want +got):\n%s", diff)
			}
		})
	}
	ports := []policy.Port{{Protocol: "TCP", First: 0, Last: 1}, {Protocol: "TCP", First: 65536 + 22, Last: 65536 + 22}, {Protocol: "TCP", First: 9, Last: 8}}
	if got := (policy.Rule{Ports: ports}).Canonical().Ports; len(got) > 0 {
		t.Errorf("ports that do not exist are kept: %v", got)
	}
}
