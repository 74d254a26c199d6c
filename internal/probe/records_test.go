// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
)

var noon = time.Date(2026, time.July, 1, 12, 0, 0, 0, time.UTC)

// shown returns results that say the same of nodes in directions.
func shown(v probe.Verdict, directions []policy.Direction, nodes ...string) []probe.Result {
	var out []probe.Result
	for _, n := range nodes {
		for _, d := range directions {
			r := probe.Result{Check: probe.Check{Cell: probe.Cell{Node: n, Direction: d}}, Verdict: v}
			if v != probe.Proven {
				r.Text = fmt.Sprintf("node %s, %s: it is %s", n, d, v)
			}
			out = append(out, r)
		}
	}
	return out
}

func TestSummarise(t *testing.T) {
	t.Parallel()
	const fresh = time.Hour
	type note func(probe.Records)
	tested := func(age time.Duration, results []probe.Result) note {
		return func(r probe.Records) { r.Note(results, noon.Add(-age)) }
	}
	ab := []string{"a", "b"}
	cases := map[string]struct {
		nodes      []string
		required   int
		directions []policy.Direction
		notes      []note
		want       string
		oldest     time.Duration // age; 0 when there are too few proofs
	}{
		"no node":                   {want: "Unknown/NoNodes: There is no node"},
		"nothing tested":            {nodes: ab, want: "Unknown/ProofPending: 0 of 2 nodes are proven. Still to be tested: a, b."},
		"one of two tested":         {nodes: ab, notes: []note{tested(0, shown(probe.Proven, both, "a"))}, want: "Unknown/ProofPending: 1 of 2 nodes are proven. Still to be tested: b."},
		"both proven":               {nodes: ab, notes: []note{tested(2*time.Minute, shown(probe.Proven, both, "a")), tested(time.Minute, shown(probe.Proven, both, "b"))}, want: "True/DenialProven: Packets have shown that denied traffic is dropped on 2 of 2 nodes.", oldest: 2 * time.Minute},
		"as many as asked for":      {nodes: []string{"a", "b", "c"}, required: 1, notes: []note{tested(0, shown(probe.Proven, both, "b"))}, want: "True/DenialProven: Packets have shown that denied traffic is dropped on 1 of 3 nodes."},
		"one direction is not all":  {nodes: ab[:1], notes: []note{tested(0, shown(probe.Proven, both[:1], "a"))}, want: "Unknown/ProofStale"},
		"one direction is asked":    {nodes: ab[:1], directions: both[:1], notes: []note{tested(time.Minute, shown(probe.Proven, both[:1], "a"))}, want: "True/DenialProven", oldest: time.Minute},
		"a second short of stale":   {nodes: ab[:1], notes: []note{tested(fresh-time.Second, shown(probe.Proven, both, "a"))}, want: "True/DenialProven", oldest: fresh - time.Second},
		"stale":                     {nodes: ab[:1], notes: []note{tested(fresh, shown(probe.Proven, both, "a"))}, want: "Unknown/ProofStale: 0 of 1 nodes are proven. The proof is too old on: a."},
		"the stale direction rules": {nodes: ab[:1], notes: []note{tested(2*fresh, shown(probe.Proven, both[1:], "a")), tested(0, shown(probe.Proven, both[:1], "a"))}, want: "Unknown/ProofStale"},
		"one node disproven":        {nodes: ab, notes: []note{tested(0, shown(probe.Proven, both, "a")), tested(0, shown(probe.Disproven, both[1:], "b"))}, want: "False/DeniedTrafficPasses: Denied traffic gets through on 1 of 2 nodes (b): node b, Egress: it is disproven."},
		"a disproof does not age":   {nodes: ab[:1], notes: []note{tested(100*fresh, shown(probe.Disproven, both, "a"))}, want: "False/DeniedTrafficPasses"},
		"no verdict does not mend":  {nodes: ab[:1], notes: []note{tested(time.Minute, shown(probe.Disproven, both, "a")), tested(0, shown(probe.None, both, "a"))}, want: "False/DeniedTrafficPasses"},
		"a proof mends":             {nodes: ab[:1], notes: []note{tested(time.Minute, shown(probe.Disproven, both, "a")), tested(0, shown(probe.Proven, both, "a"))}, want: "True/DenialProven"},
		"a proof mends its direction alone": {
			nodes: ab[:1], notes: []note{tested(time.Minute, shown(probe.Disproven, both, "a")), tested(0, shown(probe.Proven, both[:1], "a"))}, want: "False/DeniedTrafficPasses",
		},
		"a disproof in a direction that is not asked": {
			nodes: ab[:1], directions: both[:1], notes: []note{tested(0, shown(probe.Proven, both[:1], "a")), tested(0, shown(probe.Disproven, both[1:], "a"))}, want: "True/DenialProven",
		},
		"a disproof takes the proof away": {
			nodes: ab[:1], notes: []note{tested(time.Minute, shown(probe.Proven, both, "a")), tested(0, shown(probe.Disproven, both, "a"))}, want: "False/DeniedTrafficPasses",
		},
		"more is asked of a direction": {
			nodes: ab[:1], notes: []note{tested(0, shown(probe.Proven, both, "a")), func(r probe.Records) { r.Forget(policy.Ingress) }},
			want: "Unknown/ProofPending: 0 of 1 nodes are proven. Still to be tested: a.",
		},
		"the control failed":               {nodes: ab[:1], notes: []note{tested(0, shown(probe.None, both[:1], "a"))}, want: "Unknown/ControlFailed: 0 of 1 nodes are proven. node a, Ingress: it is none."},
		"a fresh proof outlives a failure": {nodes: ab[:1], notes: []note{tested(time.Minute, shown(probe.Proven, both, "a")), tested(0, shown(probe.None, both, "a"))}, want: "True/DenialProven", oldest: time.Minute},
		"canaries do not start": {nodes: ab[:1], notes: []note{func(r probe.Records) {
			r.Fail(probe.Problem{Reason: "CanaryNotStarted", Message: "No room."}, noon, "a")
		}}, want: "Unknown/CanaryNotStarted: 0 of 1 nodes are proven. No room."},
		"a fresh proof does not outlive that canaries start": {nodes: ab, notes: []note{tested(time.Minute, shown(probe.Proven, both, "a", "b")), func(r probe.Records) {
			r.Fail(probe.Problem{Reason: "CanaryNotStarted", Message: "No sandbox on b."}, noon, "b")
		}}, want: "Unknown/CanaryNotStarted: 1 of 2 nodes are proven. No sandbox on b."},
		"a fresh proof outlives that a node is not Ready": {nodes: ab[:1], notes: []note{tested(time.Minute, shown(probe.Proven, both, "a")), func(r probe.Records) {
			r.Mark(probe.Problem{Reason: "CanaryNotStarted", Message: "a is not Ready."}, "a")
		}}, want: "True/DenialProven"},
		"a node that is gone does not count": {nodes: ab[:1], notes: []note{
			tested(0, shown(probe.Disproven, both, "b")), tested(time.Minute, shown(probe.Proven, both, "a")), func(r probe.Records) { r.Keep(ab[:1]) },
		}, want: "True/DenialProven", oldest: time.Minute},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			records := probe.Records{}
			for _, n := range tc.notes {
				n(records)
			}
			terms := probe.Terms{Directions: both, Nodes: 100, Freshness: fresh}
			if tc.directions != nil {
				terms.Directions = tc.directions
			}
			if tc.required > 0 {
				terms.Nodes = tc.required
			}
			s := probe.Summarise(tc.nodes, records, terms, noon)
			if got := fmt.Sprintf("%s/%s: %s", s.Status, s.Reason, s.Message); !strings.HasPrefix(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if tc.oldest > 0 && (!s.Oldest.Equal(noon.Add(-tc.oldest)) || !s.ChangesAt.Equal(s.Oldest.Add(fresh))) {
				t.Errorf("the oldest proof is of %s and changes at %s, want %s ago", s.Oldest, s.ChangesAt, tc.oldest)
			}
		})
	}
}

// Every node has its turn, however many are disproven, and a sweep takes as many rounds as it must.
func TestEveryNodeHasItsTurn(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3, 4, 5, 100} {
		for _, bad := range []int{0, 1, n} {
			t.Run(fmt.Sprintf("%d nodes, %d disproven", n, bad), func(t *testing.T) {
				t.Parallel()
				var nodes []string
				for i := range n {
					nodes = append(nodes, fmt.Sprintf("n%03d", i))
				}
				records, seen, rounds := probe.Records{}, map[string]bool{}, 0
				for ; len(seen) < n && rounds < 10*n; rounds++ {
					chosen := probe.Choose(nodes, records, probe.MaxNodes)
					if len(chosen) > probe.MaxNodes {
						t.Fatalf("%d nodes at a time", len(chosen))
					}
					for _, name := range chosen {
						seen[name] = true
						verdict := probe.Proven
						if name < fmt.Sprintf("n%03d", bad) {
							verdict = probe.Disproven
						}
						records.Note(shown(verdict, both, name), noon.Add(time.Duration(rounds)*time.Minute))
					}
				}
				want := (n + probe.MaxNodes - 1) / probe.MaxNodes
				if bad > 0 {
					want *= 2 // half of the places go to them
				}
				if rounds > want {
					t.Errorf("a sweep took %d rounds, want at most %d", rounds, want)
				}
			})
		}
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	failed := probe.Records{}
	failed.Fail(probe.Problem{Reason: "CanaryLost"}, noon, "a")
	bad := probe.Records{}
	bad.Note(shown(probe.Disproven, both, "a"), noon)
	got := map[string]time.Duration{
		"at random 0":    probe.Pause([]string{"a"}, probe.Records{}, 5*time.Minute, 0),
		"at random 0.5":  probe.Pause([]string{"a"}, probe.Records{}, 5*time.Minute, 0.5),
		"disproven":      probe.Pause([]string{"a"}, bad, 5*time.Minute, 0),
		"failed":         probe.Pause([]string{"a"}, failed, 5*time.Minute, 0),
		"failed, hourly": probe.Pause([]string{"a"}, failed, time.Hour, 0),
		"another failed": probe.Pause([]string{"b"}, failed, 5*time.Minute, 0),
	}
	want := map[string]time.Duration{
		"at random 0": 5 * time.Minute, "at random 0.5": 285 * time.Second, "disproven": time.Minute,
		"failed": time.Minute, "failed, hourly": time.Minute, "another failed": 5 * time.Minute,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}
