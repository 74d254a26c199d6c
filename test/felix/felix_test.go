// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package felix_test

import (
	"net/netip"
	"testing"

	"github.com/pcinetwork/pci-network-baseline/test/felix"
)

func TestSelectors(t *testing.T) {
	none, a, ab := felix.Labels{}, felix.Labels{"app": "a"}, felix.Labels{"app": "a", "tier": "b"}
	cases := map[string]struct {
		text string
		want [3]bool // none, a, ab
	}{
		"all":                                {`all()`, [3]bool{true, true, true}},
		"a value":                            {`app == "a"`, [3]bool{false, true, true}},
		"another value, or the label absent": {`tier != 'c'`, [3]bool{true, true, true}},
		"in":                                 {`app in {"x", "a"}`, [3]bool{false, true, true}},
		"not in, or the label absent":        {`tier not in { "b" }`, [3]bool{true, true, false}},
		"present":                            {`has(tier)`, [3]bool{false, false, true}},
		"not binds before and":               {`!has(tier) && has(app)`, [3]bool{false, true, false}},
		"and binds before or":                {`has(tier) || has(app) && app == "x"`, [3]bool{false, false, true}},
		"brackets":                           {`!(has(tier) || has(app))`, [3]bool{true, false, false}},
		"twice not":                          {`! !has(app)`, [3]bool{false, true, true}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s, err := felix.Parse(tc.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := [3]bool{s(none), s(a), s(ab)}; got != tc.want {
				t.Errorf("%s: %v, want %v", tc.text, got, tc.want)
			}
		})
	}
}

func TestUnreadableSelectorsAreRefused(t *testing.T) {
	for _, text := range []string{``, `app`, `app ==`, `app == a`, `app == "a`, `app in "a"`, `app in {}`, `app in {"a"`, `has(app`, `all() has(x)`, `(all()`, `!`, `app = "a"`, `none()`, `"a" == "a"`, `app not "a"`, `é == "a"`} {
		if _, err := felix.Parse(text); err == nil {
			t.Errorf("%s is read", text)
		}
	}
}

// What a policy says about one packet, by the documentation of each field.
func TestPolicies(t *testing.T) {
	const head = "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: p, namespace: shop}\nspec:\n  tier: default\n"
	pod := felix.Pod("shop", felix.Labels{"team": "web"}, felix.Labels{"app": "a"})
	other := felix.Pod("data", felix.Labels{"team": "data"}, felix.Labels{"app": "a"})
	host := felix.Labels{"kubernetes.io/hostname": "n"}
	from := func(at felix.Labels) felix.Packet {
		return felix.Packet{Ingress: true, Endpoint: pod, Remote: netip.MustParseAddr("10.0.0.9"), At: []felix.Labels{at}, Protocol: "TCP", Port: 443}
	}
	cases := map[string]struct {
		spec   string
		packet felix.Packet
		want   bool
	}{
		"a direction that no policy has is open":      {"  types: [Egress]", from(other), true},
		"a policy without rules denies":               {"  types: [Ingress]", from(other), false},
		"a policy of other pods does not":             {"  types: [Ingress]\n  selector: app == \"b\"", from(other), true},
		"a selector is for the own namespace":         {"  types: [Ingress]\n  ingress: [{action: Allow, source: {selector: app == \"a\"}}]", from(other), false},
		"with all() it is for every namespace":        {"  types: [Ingress]\n  ingress: [{action: Allow, source: {selector: app == \"a\", namespaceSelector: all()}}]", from(other), true},
		"all() leaves out what is in no namespace":    {"  types: [Ingress]\n  ingress: [{action: Allow, source: {namespaceSelector: all()}}]", from(host), false},
		"a negative one does not":                     {"  types: [Ingress]\n  ingress: [{action: Allow, source: {namespaceSelector: team != \"x\"}}]", from(host), true},
		"without any selector everybody is meant":     {"  types: [Ingress]\n  ingress: [{action: Allow}]", from(host), true},
		"exceptions beat nets":                        {"  types: [Ingress]\n  ingress: [{action: Allow, source: {nets: [10.0.0.0/8], notNets: [10.0.0.0/24]}}]", from(host), false},
		"a port range holds its ends":                 {"  types: [Ingress]\n  ingress: [{action: Allow, protocol: TCP, destination: {ports: [\"1:443\"]}}]", from(host), true},
		"another protocol does not match":             {"  types: [Ingress]\n  ingress: [{action: Allow, protocol: UDP, destination: {ports: [443]}}]", from(host), false},
		"the first rule that matches decides":         {"  types: [Ingress]\n  ingress: [{action: Deny}, {action: Allow}]", from(host), false},
		"a rule about source ports matches no packet": {"  types: [Ingress]\n  ingress: [{action: Allow, protocol: TCP, source: {ports: [443]}}]", from(host), false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := felix.Decode([]byte(head + tc.spec))
			if err != nil {
				t.Fatal(err)
			}
			if got := felix.Passes([]*felix.Policy{p}, tc.packet); got != tc.want {
				t.Errorf("passes: %v, want %v", got, tc.want)
			}
		})
	}
	for name, spec := range map[string]string{
		"no types":         "",
		"mixed families":   "  types: [Ingress]\n  ingress: [{action: Allow, source: {nets: [10.0.0.0/8], notNets: [\"::/0\"]}}]",
		"host bits":        "  types: [Ingress]\n  ingress: [{action: Allow, source: {nets: [10.0.0.1/8]}}]",
		"port 0":           "  types: [Ingress]\n  ingress: [{action: Allow, protocol: TCP, destination: {ports: [0]}}]",
		"ports of no kind": "  types: [Ingress]\n  ingress: [{action: Allow, destination: {ports: [1]}}]",
		"unknown fields":   "  types: [Ingress]\n  doNotTrack: true",
	} {
		if _, err := felix.Decode([]byte(head + spec)); err == nil {
			t.Errorf("%s: decoded", name)
		}
	}
}
