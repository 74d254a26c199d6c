// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Problem says why there is no verdict.
type Problem struct{ Reason, Message string }

// Record is what is known of one node. Directions that were never judged are absent.
type Record struct {
	// Tried is when a round with the node ended last, whatever came of it.
	Tried time.Time
	// Proven is when all cells of a direction were last proven at once.
	Proven map[policy.Direction]time.Time
	// Disproven says what got through; it is removed by a proof alone.
	Disproven map[policy.Direction]string
	// Moments are what was measured last, by direction.
	Moments map[policy.Direction]Moment
	// Problem is why the last round gave no verdict; zero when it gave one.
	Problem Problem
}

// Records are those of all nodes, by name.
type Records map[string]*Record

// of returns the record of a node, and makes it.
func (r Records) of(node string) *Record {
	if r[node] == nil {
		r[node] = &Record{Proven: map[policy.Direction]time.Time{}, Disproven: map[policy.Direction]string{}, Moments: map[policy.Direction]Moment{}}
	}
	return r[node]
}

// Note takes down what a round has shown.
func (r Records) Note(results []Result, now time.Time) {
	seen := map[string]bool{}
	for aspect, result := range Conclude(results) {
		record := r.of(aspect.Node)
		if !seen[aspect.Node] {
			seen[aspect.Node], record.Tried, record.Problem = true, now, Problem{}
		}
		switch result.Verdict {
		case Proven:
			record.Proven[aspect.Direction] = now
			delete(record.Disproven, aspect.Direction)
		case Disproven:
			record.Disproven[aspect.Direction] = result.Text
		default:
			record.Problem = Problem{pcinetv1alpha1.ReasonControlFailed, result.Text + "."}
		}
	}
}

// NoteMoments takes down what was measured beside.
func (r Records) NoteMoments(moments []Moment) {
	for _, m := range moments {
		r.of(m.Node).Moments[m.Direction] = m
	}
}

// Fail takes down why there was no verdict on nodes.
func (r Records) Fail(p Problem, now time.Time, nodes ...string) {
	for _, n := range nodes {
		record := r.of(n)
		record.Tried, record.Problem = now, p
	}
}

// Mark takes down why nodes cannot be tried now.
func (r Records) Mark(p Problem, nodes ...string) {
	for _, n := range nodes {
		r.of(n).Problem = p
	}
}

// Forget forgets what was proven of a direction, because more is asked of it now: no node was tried for that.
func (r Records) Forget(d policy.Direction) {
	for _, record := range r {
		delete(record.Proven, d)
		record.Tried = time.Time{}
	}
}

// Keep forgets nodes that are gone.
func (r Records) Keep(nodes []string) {
	for name := range r {
		if !slices.Contains(nodes, name) {
			delete(r, name)
		}
	}
}

func (r *Record) disproven() bool { return r != nil && len(r.Disproven) > 0 }

func (r Records) tried(node string) time.Time {
	if r[node] == nil {
		return time.Time{}
	}
	return r[node].Tried
}

// Choose returns the nodes to test next: up to half of the places go to disproven ones, the others to those that were tried
// longest ago or never. So every node has its turn, however many others fail.
func Choose(nodes []string, records Records, limit int) []string {
	order := slices.Clone(nodes)
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(records.tried(a).Compare(records.tried(b)), cmp.Compare(a, b))
	})
	var out []string
	take := func(n int, wanted func(string) bool) {
		for _, node := range order {
			if len(out) < n && wanted(node) && !slices.Contains(out, node) {
				out = append(out, node)
			}
		}
	}
	take(limit/2, func(node string) bool { return records[node].disproven() })
	take(limit, func(string) bool { return true })
	return out
}

// pauseFailed is how long to wait before what failed is tested again.
const pauseFailed = time.Minute

// Pause is how long to wait before the next round, unless there is a reason to hurry. Random is in [0, 1).
func Pause(nodes []string, records Records, interval time.Duration, random float64) time.Duration {
	out := interval - time.Duration(random*float64(interval)/10)
	for _, n := range nodes {
		if records[n].disproven() || (records[n] != nil && records[n].Problem.Reason != "") {
			out = min(out, pauseFailed)
		}
	}
	return out
}

// Terms are what a baseline asks of a proof.
type Terms struct {
	Directions []policy.Direction
	// Nodes is on how many nodes there must be a proof; in a smaller cluster on all.
	Nodes     int
	Freshness time.Duration
}

// Summary is what is known altogether.
type Summary struct {
	Status          metav1.ConditionStatus
	Reason, Message string
	// Proven, Disproven and Required count nodes.
	Proven, Disproven, Required int
	// Oldest is when the oldest proof that is needed was made; zero when there are too few.
	Oldest time.Time
	// Window is the longest start window of a node; nil when none is known.
	Window *time.Duration
	// Cut and Kept count nodes by what becomes of connections that are older than their deny; one node may do both.
	Cut, Kept int
	// Older tells of pods that are older than their deny, which Summarise does not know of; nil when it is not known or does not matter.
	Older *pcinetv1alpha1.OlderPods
	// ChangesAt is when time alone changes the answer; zero for never.
	ChangesAt time.Time
}

// maxNamed is how many nodes a message names.
const maxNamed = 3

// Summarise sums up what is known of the nodes that can have canaries.
func Summarise(nodes []string, records Records, terms Terms, now time.Time) Summary {
	s := Summary{Required: max(1, min(terms.Nodes, len(nodes)))}
	var proofs []time.Time // when the proof of each proven node was made
	var disproven, lacking []string
	evidence := ""
	for _, n := range nodes {
		at, text := records[n].standing(terms, now)
		switch {
		case text != "":
			disproven = append(disproven, n)
			evidence = cmp.Or(evidence, text)
		case at.IsZero():
			lacking = append(lacking, n)
		default:
			proofs = append(proofs, at)
		}
	}
	s.Proven, s.Disproven = len(proofs), len(disproven)
	s.measure(nodes, records)
	slices.SortFunc(proofs, func(a, b time.Time) int { return b.Compare(a) })
	if len(proofs) > 0 && len(proofs) >= s.Required {
		s.Oldest = proofs[s.Required-1]
		s.ChangesAt = s.Oldest.Add(terms.Freshness)
	}
	switch {
	case len(disproven) > 0:
		s.Status, s.Reason = metav1.ConditionFalse, pcinetv1alpha1.ReasonDeniedTrafficPasses
		s.Message = fmt.Sprintf("Denied traffic gets through on %d of %d nodes (%s): %s. Look at the network agent there.", len(disproven), len(nodes), named(disproven), evidence)
	case len(nodes) == 0:
		s.Status, s.Reason, s.Message = metav1.ConditionUnknown, pcinetv1alpha1.ReasonNoNodes, "There is no node on which a canary could run."
	case len(proofs) >= s.Required:
		s.Status, s.Reason = metav1.ConditionTrue, pcinetv1alpha1.ReasonDenialProven
		s.Message = fmt.Sprintf("Packets have shown that denied traffic is dropped on %d of %d nodes.", len(proofs), len(nodes))
	default:
		s.Status = metav1.ConditionUnknown
		s.Reason, s.Message = missing(lacking, records)
		s.Message = fmt.Sprintf("%d of %d nodes are proven. %s", len(proofs), s.Required, s.Message)
	}
	return s
}

// measure sums up what was measured beside.
func (s *Summary) measure(nodes []string, records Records) {
	for _, n := range nodes {
		if records[n] == nil {
			continue
		}
		cut, kept := 0, 0
		for _, m := range records[n].Moments {
			if m.Window != nil && (s.Window == nil || *m.Window > *s.Window) {
				s.Window = m.Window
			}
			switch m.Held {
			case 0:
			case Answered:
				kept = 1
			default:
				cut = 1
			}
		}
		s.Cut, s.Kept = s.Cut+cut, s.Kept+kept
	}
}

// standing returns when a node was proven in the last of the directions, provided that this is fresh; or what got through.
func (r *Record) standing(terms Terms, now time.Time) (at time.Time, disproof string) {
	if r == nil {
		return time.Time{}, ""
	}
	for i, d := range terms.Directions {
		if text := r.Disproven[d]; text != "" {
			return time.Time{}, text
		}
		if proven := r.Proven[d]; i == 0 || proven.Before(at) {
			at = proven
		}
	}
	// Where no canary starts any more the agent may have stopped since: what it did before says nothing about that.
	startsNoMore := r.Problem.Reason == pcinetv1alpha1.ReasonCanaryNotStarted && r.Tried.After(at)
	if at.IsZero() || startsNoMore || now.Sub(at) >= terms.Freshness {
		return time.Time{}, ""
	}
	return at, ""
}

// missing says why nodes lack a proof: a problem that one of them has, or that they were not tested yet, or not any more.
func missing(nodes []string, records Records) (reason, message string) {
	for _, n := range nodes {
		if r := records[n]; r != nil && r.Problem.Reason != "" {
			return r.Problem.Reason, r.Problem.Message
		}
	}
	for _, n := range nodes {
		if records.tried(n).IsZero() {
			return pcinetv1alpha1.ReasonProofPending, fmt.Sprintf("Still to be tested: %s.", named(nodes))
		}
	}
	return pcinetv1alpha1.ReasonProofStale, fmt.Sprintf("The proof is too old on: %s.", named(nodes))
}

func named(nodes []string) string {
	if len(nodes) > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(nodes[:maxNamed], ", "), len(nodes)-maxNamed)
	}
	return strings.Join(nodes, ", ")
}
