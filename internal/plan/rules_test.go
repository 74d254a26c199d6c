// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func samePrefix(a, b netip.Prefix) bool { return a == b }

// allowRule returns a rule that lets pods of the namespace reach 10.0.0.0/8 on TCP 443, changed as told.
func allowRule(change func(*pcinetv1alpha1.AllowRule)) pcinetv1alpha1.AllowRule {
	r := pcinetv1alpha1.AllowRule{
		Name: "db", Justification: "Orders.", Direction: pcinetv1alpha1.DirectionEgress,
		Peers: []pcinetv1alpha1.Peer{{CIDR: "10.0.0.0/8"}},
		Ports: []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 443}},
	}
	change(&r)
	return r
}

func TestRules(t *testing.T) {
	peers := func(p ...pcinetv1alpha1.Peer) pcinetv1alpha1.AllowRule {
		return allowRule(func(r *pcinetv1alpha1.AllowRule) { r.Peers = p })
	}
	cases := map[string]struct {
		rule pcinetv1alpha1.AllowRule
		want []string
	}{
		"a range of addresses with exceptions": {
			rule: peers(pcinetv1alpha1.Peer{CIDR: "10.0.0.0/8", Except: []pcinetv1alpha1.CIDR{"10.1.0.0/16", "10.2.0.0/16"}}),
			want: []string{"  Egress: 10.0.0.0/8 but [10.1.0.0/16 10.2.0.0/16]: TCP 443"},
		},
		"an IPv6 range": {
			rule: peers(pcinetv1alpha1.Peer{CIDR: "2001:db8::/32", Except: []pcinetv1alpha1.CIDR{"2001:db8:1::/48"}}),
			want: []string{"  Egress: 2001:db8::/32 but [2001:db8:1::/48]: TCP 443"},
		},
		"host bits are masked in the range and its exceptions": {
			rule: peers(pcinetv1alpha1.Peer{CIDR: "10.9.9.9/8", Except: []pcinetv1alpha1.CIDR{"10.1.1.1/16"}}),
			want: []string{"  Egress: 10.0.0.0/8 but [10.1.0.0/16]: TCP 443"},
		},
		"pods of the subject's own namespace": {
			rule: peers(pcinetv1alpha1.Peer{PodSelector: matchLabels("app=db")}),
			want: []string{"  Egress: pods {app=db} in unset: TCP 443"},
		},
		"every pod of the selected namespaces": {
			rule: peers(pcinetv1alpha1.Peer{NamespaceSelector: matchLabels("team=data")}),
			want: []string{"  Egress: pods unset in {team=data}: TCP 443"},
		},
		"selected pods of the selected namespaces": {
			rule: peers(pcinetv1alpha1.Peer{NamespaceSelector: matchLabels("team=data"), PodSelector: matchLabels("app=db")}),
			want: []string{"  Egress: pods {app=db} in {team=data}: TCP 443"},
		},
		"expressions keep key, operator and values": {
			rule: peers(pcinetv1alpha1.Peer{PodSelector: &pcinetv1alpha1.LabelSelector{MatchExpressions: []pcinetv1alpha1.LabelSelectorRequirement{
				{Key: "app", Operator: "In", Values: []pcinetv1alpha1.LabelValue{"db", "cache"}},
				{Key: "legacy", Operator: "DoesNotExist"},
			}}}),
			want: []string{"  Egress: pods {app in (cache,db),!legacy} in unset: TCP 443"},
		},
		"a range of ports beside a single one": {
			rule: allowRule(func(r *pcinetv1alpha1.AllowRule) {
				r.Ports = []pcinetv1alpha1.Port{{Protocol: "SCTP", Port: 30000, EndPort: 32767}, {Protocol: "UDP", Port: 53}}
			}),
			want: []string{"  Egress: 10.0.0.0/8: UDP 53, SCTP 30000-32767"},
		},
		"an endPort equal to port is one port": {
			rule: allowRule(func(r *pcinetv1alpha1.AllowRule) {
				r.Ports = []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 443, EndPort: 443}}
			}),
			want: []string{"  Egress: 10.0.0.0/8: TCP 443"},
		},
		"ingress": {
			rule: allowRule(func(r *pcinetv1alpha1.AllowRule) { r.Direction = pcinetv1alpha1.DirectionIngress }),
			want: []string{"  Ingress: 10.0.0.0/8: TCP 443"},
		},
		"duplicates are written once, in one order": {
			rule: allowRule(func(r *pcinetv1alpha1.AllowRule) {
				r.Peers = []pcinetv1alpha1.Peer{{CIDR: "10.2.0.0/16"}, {CIDR: "10.1.0.0/16"}, {CIDR: "10.2.0.0/16"}}
				r.Ports = []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 443}, {Protocol: "TCP", Port: 80}, {Protocol: "TCP", Port: 443}}
			}),
			want: []string{"  Egress: 10.1.0.0/16, 10.2.0.0/16: TCP 80, TCP 443"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Allow.Rules = []pcinetv1alpha1.AllowRule{tc.rule} })
			got := lines(decide(t, b, namespace("shop"), snapshot.Cluster{}).Set)
			want := append([]string{denyBoth, "allow-db for all because Orders."}, tc.want...)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("set (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSubjects(t *testing.T) {
	shop := namespace("shop", "team=shop")
	cases := map[string]struct {
		subject *pcinetv1alpha1.Subject
		want    []string
	}{
		"an unset subject means every pod":                {want: []string{"allow-db for all because Orders."}},
		"an empty subject means every pod":                {subject: &pcinetv1alpha1.Subject{}, want: []string{"allow-db for all because Orders."}},
		"a pod selector limits the pods":                  {subject: &pcinetv1alpha1.Subject{PodSelector: matchLabels("app=shop")}, want: []string{"allow-db for {app=shop} because Orders."}},
		"a namespace selector that matches lets it in":    {subject: &pcinetv1alpha1.Subject{NamespaceSelector: matchLabels("team=shop")}, want: []string{"allow-db for all because Orders."}},
		"a namespace selector that differs leaves it out": {subject: &pcinetv1alpha1.Subject{NamespaceSelector: matchLabels("team=data")}},
		"both selectors must match": {subject: &pcinetv1alpha1.Subject{
			NamespaceSelector: matchLabels("team=data"), PodSelector: matchLabels("app=shop"),
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Allow.Rules = []pcinetv1alpha1.AllowRule{allowRule(func(r *pcinetv1alpha1.AllowRule) { r.Subject = tc.subject })}
			})
			want := append([]string{denyBoth}, tc.want...)
			if len(tc.want) > 0 {
				want = append(want, "  Egress: 10.0.0.0/8: TCP 443")
			}
			if diff := cmp.Diff(want, lines(decide(t, b, shop, snapshot.Cluster{}).Set)); diff != "" {
				t.Errorf("set (-want +got):\n%s", diff)
			}
		})
	}
}

// Specs that got past the CRD: a rule that cannot be read is left out whole, never written in part or wider than meant.
func TestRulesThatCannotBeReadAreOmitted(t *testing.T) {
	good := pcinetv1alpha1.Peer{CIDR: "192.0.2.0/24"}
	cases := map[string]struct {
		change      func(*pcinetv1alpha1.AllowRule)
		wantMessage string
	}{
		"an address without a length": {
			change:      func(r *pcinetv1alpha1.AllowRule) { r.Peers = []pcinetv1alpha1.Peer{good, {CIDR: "10.0.0.1"}} },
			wantMessage: "peers[1]: cidr: ",
		},
		"a length that is too long": {
			change:      func(r *pcinetv1alpha1.AllowRule) { r.Peers = []pcinetv1alpha1.Peer{{CIDR: "10.0.0.0/33"}} },
			wantMessage: "peers[0]: cidr: ",
		},
		"a word": {
			change:      func(r *pcinetv1alpha1.AllowRule) { r.Peers = []pcinetv1alpha1.Peer{{CIDR: "any"}} },
			wantMessage: "peers[0]: cidr: ",
		},
		"an exception that cannot be read": {
			change: func(r *pcinetv1alpha1.AllowRule) {
				r.Peers = []pcinetv1alpha1.Peer{{CIDR: "10.0.0.0/8", Except: []pcinetv1alpha1.CIDR{"10.1.0.0"}}}
			},
			wantMessage: "peers[0]: except: ",
		},
		"a peer that says nothing": {
			change:      func(r *pcinetv1alpha1.AllowRule) { r.Peers = []pcinetv1alpha1.Peer{good, {}} },
			wantMessage: "peers[1]: neither cidr nor a selector is given",
		},
		"no peers": {
			change:      func(r *pcinetv1alpha1.AllowRule) { r.Peers = nil },
			wantMessage: "peers and ports must both be given",
		},
		"no ports": {
			change:      func(r *pcinetv1alpha1.AllowRule) { r.Ports = nil },
			wantMessage: "peers and ports must both be given",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) { checkOmitted(t, allowRule(tc.change), tc.wantMessage) })
	}
}

// A peer in both forms is ambiguous: reading it as its CIDR alone lets through more than reading it as "pods within it",
// and exceptions beside selectors would be dropped.
func TestPeersInTwoFormsAreOmitted(t *testing.T) {
	cases := map[string]pcinetv1alpha1.Peer{
		"a CIDR beside a pod selector":        {CIDR: "10.0.0.0/8", PodSelector: matchLabels("app=db")},
		"a CIDR beside a namespace selector":  {CIDR: "10.0.0.0/8", NamespaceSelector: matchLabels("team=data")},
		"exceptions beside a pod selector":    {PodSelector: matchLabels("app=db"), Except: []pcinetv1alpha1.CIDR{"10.1.0.0/16"}},
		"exceptions in place of a whole peer": {Except: []pcinetv1alpha1.CIDR{"10.1.0.0/16"}},
	}
	for name, peer := range cases {
		t.Run(name, func(t *testing.T) {
			checkOmitted(t, allowRule(func(r *pcinetv1alpha1.AllowRule) { r.Peers = []pcinetv1alpha1.Peer{peer} }), "spec.allow.rules db: ")
		})
	}
}

// checkOmitted plans a rule between two good ones: it alone must be left out, with a message that holds the text.
func checkOmitted(t *testing.T, rule pcinetv1alpha1.AllowRule, message string) {
	t.Helper()
	named := func(name pcinetv1alpha1.AllowanceName) pcinetv1alpha1.AllowRule {
		return allowRule(func(r *pcinetv1alpha1.AllowRule) { r.Name = name })
	}
	b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
		s.Allow.Rules = []pcinetv1alpha1.AllowRule{named("before"), rule, named("behind")}
	})
	got := decide(t, b, namespace("shop"), snapshot.Cluster{}).Set
	want := []string{
		denyBoth,
		"allow-before for all because Orders.", "  Egress: 10.0.0.0/8: TCP 443",
		"allow-behind for all because Orders.", "  Egress: 10.0.0.0/8: TCP 443",
		"omitted allow-db: InvalidSpec",
	}
	if diff := cmp.Diff(want, lines(got)); diff != "" {
		t.Errorf("set (-want +got):\n%s", diff)
	}
	wantOmission(t, got.Omitted, message)
}
