// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
)

// enforced returns what canaries report where all is as it should be, with changes: outcome by shot.
func enforced(s *probe.Sample, state probe.State, change func(probe.Shot, probe.Outcome) probe.Outcome) map[probe.Canary]probe.Report {
	out := map[probe.Canary]probe.Report{}
	for _, c := range s.Canaries("") {
		var report strings.Builder
		for _, d := range s.Dials(c) {
			outcome := probe.Silent
			if shot := (probe.Shot{Canary: c, Dial: d}); lets(s, state, shot) {
				outcome = probe.Answered
			}
			report.WriteByte(byte(change(probe.Shot{Canary: c, Dial: d}, outcome)))
		}
		out[c] = probe.Report{Outcomes: report.String()}
	}
	return out
}

func TestJudge(t *testing.T) {
	t.Parallel()
	same := func(_ probe.Shot, o probe.Outcome) probe.Outcome { return o }
	// at changes the outcome of what a source on a node dials on another, on a port.
	at := func(node, address string, port uint16, p policy.Protocol, to probe.Outcome) func(probe.Shot, probe.Outcome) probe.Outcome {
		return func(s probe.Shot, o probe.Outcome) probe.Outcome {
			if s.Node == node && s.Address.Addr().String() == address && s.Address.Port() == port && s.Protocol == p && s.Role == probe.Source && !s.Via.IsValid() {
				return to
			}
			return o
		}
	}
	outside := func(port uint16, to probe.Outcome) func(probe.Shot, probe.Outcome) probe.Outcome {
		return func(s probe.Shot, o probe.Outcome) probe.Outcome {
			if s.Node == "b" && s.Via.IsValid() && s.Address.Port() == port && s.Protocol == policy.UDP {
				return to
			}
			return o
		}
	}
	const proven, none = probe.Proven, probe.None
	cases := map[string]struct {
		change func(probe.Shot, probe.Outcome) probe.Outcome
		lost   []probe.Canary
		want   map[probe.Aspect]probe.Verdict // where it is not proven
		text   string                         // of the first of them
	}{
		"all is enforced":      {change: same},
		"a refusal is as good": {change: at("b", "10.0.2.9", 24302, policy.TCP, probe.Refused)},
		"a denied ingress is answered across nodes": {
			change: at("a", "10.0.2.9", 24302, policy.TCP, probe.Answered),
			want:   map[probe.Aspect]probe.Verdict{{Node: "b", Direction: policy.Ingress}: probe.Disproven},
			text:   "node b, ingress, IPv4, TCP, across nodes was answered by the target there, on port 24302, to a source on a, although it is denied",
		},
		"a denied egress is answered over UDP and IPv6": {
			change: at("b", "fd00::2", 24304, policy.UDP, probe.Answered),
			want:   map[probe.Aspect]probe.Verdict{{Node: "b", Direction: policy.Egress}: probe.Disproven},
			text:   "node b, egress, IPv6, UDP, on the same node was answered by the target on b, on port 24304, although it is denied",
		},
		"a denied ingress is answered now and then": {
			change: at("a", "10.0.2.9", 24302, policy.TCP, probe.Sometimes),
			want:   map[probe.Aspect]probe.Verdict{{Node: "b", Direction: policy.Ingress}: probe.Disproven},
			text:   "node b, ingress, IPv4, TCP, across nodes was answered now and then by the target there, on port 24302, to a source on a, although it is denied",
		},
		"a denied ingress is answered to the vantage": {
			change: outside(24302, probe.Answered),
			want:   map[probe.Aspect]probe.Verdict{{Node: "b", Direction: policy.Ingress}: probe.Disproven},
			text:   "node b, ingress, IPv4, UDP, from outside was answered by the target there, on port 24302, to the vantage at 203.0.113.1, although it is denied",
		},
		"the vantage does not reach what is allowed": {
			change: outside(24301, probe.Silent),
			want:   map[probe.Aspect]probe.Verdict{{Node: "b", Direction: policy.Ingress}: none},
			text:   "node b, ingress, IPv4, UDP, from outside: what is allowed did not connect either (no answer to the vantage)",
		},
		"the vantage does not say what came of a denied dial": {
			change: outside(24302, probe.Unheard),
			want:   map[probe.Aspect]probe.Verdict{{Node: "b", Direction: policy.Ingress}: none},
			text:   "node b, ingress, IPv4, UDP, from outside: nothing is heard of the vantage at 203.0.113.1:24310",
		},
		"a control is answered now and then": {
			change: at("a", "10.0.2.9", 24301, policy.UDP, probe.Sometimes),
			want:   map[probe.Aspect]probe.Verdict{{Node: "b", Direction: policy.Ingress}: none},
			text:   "node b, ingress, IPv4, UDP, across nodes: what is allowed did not connect either (answered now and then to a)",
		},
		"the API server answers what may not reach it": {
			change: at("b", "192.0.2.1", 6443, policy.TCP, probe.Answered),
			want:   map[probe.Aspect]probe.Verdict{{Node: "b", Direction: policy.Egress}: probe.Disproven},
			text:   "node b, egress, IPv4, TCP, to the API server was answered by the API server at 192.0.2.1:6443, although it is denied",
		},
		"the API server on the node itself does not count": {change: at("a", "192.0.2.1", 6443, policy.TCP, probe.Answered)},
		"a control is silent": {
			change: at("a", "10.0.2.9", 24301, policy.UDP, probe.Silent),
			want:   map[probe.Aspect]probe.Verdict{{Node: "b", Direction: policy.Ingress}: none},
			text:   "node b, ingress, IPv4, UDP, across nodes: what is allowed did not connect either (no answer to a)",
		},
		"somebody else answers a control": {
			change: at("a", "10.0.1.9", 24303, policy.TCP, probe.Wrong),
			want:   map[probe.Aspect]probe.Verdict{{Node: "a", Direction: policy.Egress}: none},
			text:   "node a, egress, IPv4, TCP, on the same node: what is allowed did not connect either (somebody else answered to a)",
		},
		"a twin keeps changing": {
			change: at("a", "10.0.1.9", 24304, policy.TCP, probe.Unstable),
			want:   map[probe.Aspect]probe.Verdict{{Node: "a", Direction: policy.Egress}: none},
			text:   "node a, egress, IPv4, TCP, on the same node: it kept changing",
		},
		"somebody else answers a twin": {
			change: at("a", "10.0.1.9", 24304, policy.TCP, probe.Wrong),
			want:   map[probe.Aspect]probe.Verdict{{Node: "a", Direction: policy.Egress}: none},
			text:   "node a, egress, IPv4, TCP, on the same node: somebody else answered",
		},
		"a source does not report": {
			change: same, lost: []probe.Canary{{Node: "a", Role: probe.Source}},
			want: map[probe.Aspect]probe.Verdict{
				{Node: "a", Direction: policy.Ingress}: none, {Node: "a", Direction: policy.Egress}: none, {Node: "b", Direction: policy.Ingress}: none,
			},
			text: "a canary on a did not report",
		},
		"nothing answers at all": {
			change: func(probe.Shot, probe.Outcome) probe.Outcome { return probe.Silent },
			want: map[probe.Aspect]probe.Verdict{
				{Node: "a", Direction: policy.Ingress}: none, {Node: "a", Direction: policy.Egress}: none,
				{Node: "b", Direction: policy.Ingress}: none, {Node: "b", Direction: policy.Egress}: none,
			},
			text: "what is allowed did not connect either",
		},
		"an answer counts although its control is silent": {
			change: func(s probe.Shot, o probe.Outcome) probe.Outcome {
				if s.Address.Port() == 24301 {
					return probe.Silent
				}
				return at("a", "10.0.2.9", 24302, policy.TCP, probe.Answered)(s, o)
			},
			want: map[probe.Aspect]probe.Verdict{{Node: "a", Direction: policy.Ingress}: none, {Node: "b", Direction: policy.Ingress}: probe.Disproven},
			text: "on port 24302, to a source on a, although it is denied",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := seen(sampleOf(both, "a", "b"))
			reports := enforced(s, probe.StateA, tc.change)
			for _, c := range tc.lost {
				delete(reports, c)
			}
			got, text := map[probe.Aspect]probe.Verdict{}, ""
			for aspect, r := range probe.Conclude(s.Judge(probe.StateA, reports)) {
				if r.Verdict != proven {
					got[aspect], text = r.Verdict, text+r.Text+"\n"
				}
			}
			if tc.want == nil {
				tc.want = map[probe.Aspect]probe.Verdict{}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("not proven (-want +got):\n%s", diff)
			}
			if !strings.Contains(text, tc.text) {
				t.Errorf("it says %q, want %q", text, tc.text)
			}
		})
	}
}

// A report of another length belongs to other dials: it is none.
func TestAReportOfAnotherLengthIsNone(t *testing.T) {
	t.Parallel()
	s := sampleOf(both, "a")
	reports := enforced(s, probe.StateB, func(_ probe.Shot, o probe.Outcome) probe.Outcome { return o })
	cut := maps.Clone(reports)
	source := probe.Canary{Node: "a", Role: probe.Source}
	cut[source] = probe.Report{Outcomes: cut[source].Outcomes[1:]}
	for _, r := range s.Judge(probe.StateB, cut) {
		if r.Verdict != probe.None {
			t.Errorf("%s is %s", r.Cell, r.Verdict)
		}
	}
}

// A vantage of a family that pods do not have can show nothing, and what it was asked for is then not proven.
func TestAVantageThatCannotReachPodsProvesNothing(t *testing.T) {
	t.Parallel()
	s := sampleOf(both[:1], "a", "b")
	for n, addresses := range s.Addresses {
		s.Addresses[n] = slices.DeleteFunc(slices.Clone(addresses), func(a netip.Addr) bool { return a.Is6() })
	}
	s.Vantage = netip.MustParseAddrPort("[2001:db8::1]:24310")
	var got []string
	for _, r := range s.Judge(probe.State(0), nil) {
		if r.Path == probe.Outside {
			got = append(got, string(r.Verdict)+": "+r.Text)
		}
	}
	want := []string{
		"none: node a, ingress, IPv6, TCP, from outside: the canary there has no address of the vantage's family",
		"none: node b, ingress, IPv6, TCP, from outside: the canary there has no address of the vantage's family",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}
