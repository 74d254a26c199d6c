// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Verdict is what a check says about its cell.
type Verdict string

// The verdicts.
const (
	// Proven: the control connected, its twin did not.
	Proven Verdict = "proven"
	// Disproven: the twin was answered.
	Disproven Verdict = "disproven"
	// None: the silence of the twin means nothing, because the control did not connect, or nobody reported.
	None Verdict = "none"
)

// Result is a judged check.
type Result struct {
	Check
	Verdict Verdict
	// Text says, for people, what answered or what is missing; empty when proven.
	Text string
}

// Judge judges what was reported. reports holds, by canary, one letter for each of its dials; a canary that is not there, or
// whose report has another length, has not reported.
func (s *Sample) Judge(state State, reports map[Canary]Report) []Result {
	var out []Result
	for _, c := range s.Checks(state) {
		control, twin := s.outcome(c.Control, reports), s.outcome(c.Twin, reports)
		r := Result{Check: c, Verdict: None}
		switch {
		case twin == Answered, twin == Sometimes:
			r.Verdict, r.Text = Disproven, fmt.Sprintf("%s was %s by %s, although it is denied", c.Cell, twin, c.answers())
		case c.Path == Outside && !c.Control.Address.IsValid():
			r.Text = fmt.Sprintf("%s: the canary there has no address of the vantage's family", c.Cell)
		case twin == 0 || control == 0:
			r.Text = fmt.Sprintf("%s: a canary on %s did not report", c.Cell, c.Node)
		case twin == Unheard || control == Unheard:
			r.Text = fmt.Sprintf("%s: %s at %s", c.Cell, Unheard, c.Twin.Via)
		case control == Answered && (twin == Silent || twin == Refused):
			r.Verdict = Proven
		case control != Answered:
			r.Text = fmt.Sprintf("%s: what is allowed did not connect either (%s to %s)", c.Cell, control, c.Other)
		default:
			r.Text = fmt.Sprintf("%s: %s", c.Cell, twin)
		}
		out = append(out, r)
	}
	return out
}

// outcome finds what came of a dial; 0 when it was not reported.
func (s *Sample) outcome(shot Shot, reports map[Canary]Report) Outcome {
	dials := s.Dials(shot.Canary)
	report := reports[shot.Canary].Outcomes
	i := slices.Index(dials, shot.Dial)
	if i < 0 || len(report) != len(dials) {
		return 0
	}
	return Outcome(report[i])
}

// answers names what answered a twin.
func (c Check) answers() string {
	port := c.Twin.Address.Port()
	switch {
	case c.Path == APIServer:
		return "the API server at " + c.Other
	case c.Path == Outside:
		return fmt.Sprintf("the target there, on port %d, to %s at %s", port, c.Other, c.Twin.Via.Addr())
	case c.Direction == policy.Ingress:
		return fmt.Sprintf("the target there, on port %d, to a source on %s", port, c.Other)
	}
	return fmt.Sprintf("the target on %s, on port %d", c.Other, port)
}

// String describes a cell in one line.
func (c Cell) String() string {
	text := fmt.Sprintf("node %s, %s, %s, %s", c.Node, strings.ToLower(string(c.Direction)), c.Family, c.Protocol)
	switch c.Path {
	case SameNode:
		return text + ", on the same node"
	case AcrossNodes:
		return text + ", across nodes"
	case Outside:
		return text + ", from outside"
	case APIServer:
	}
	return text + ", to the API server"
}

// String describes an outcome.
func (o Outcome) String() string {
	switch o {
	case Answered:
		return "answered"
	case Refused:
		return "refused"
	case Silent:
		return "no answer"
	case Wrong:
		return "somebody else answered"
	case Sometimes:
		return "answered now and then"
	case Unheard:
		return "nothing is heard of the vantage"
	case Unstable:
	}
	return "it kept changing"
}

// Moment is what one direction on one node has shown about changes. Both are measured, and neither is judged: no policy promises
// more.
type Moment struct {
	Aspect
	// Window is how long after its start a pod got denied packets through; nil when it is not known.
	Window *time.Duration
	// Held is what came of a connection that is older than its deny: Answered if it goes on; 0 when it is not known.
	Held Outcome
}

// Moments returns what is known of every node and direction. It counts where the deny was proven alone.
func (s *Sample) Moments(reports map[Canary]Report, proven func(Aspect) bool) []Moment {
	var out []Moment
	for _, node := range s.Nodes {
		report := reports[Canary{node, Source}]
		for i, d := range s.Directions {
			m := Moment{Aspect: Aspect{node, d}}
			if !proven(m.Aspect) {
				continue
			}
			if control, twin := 2*i, 2*i+1; twin < len(report.Watched) && report.Watched[control] != never && report.Watched[twin] <= report.Watched[control] {
				m.Window = new(time.Duration(report.Watched[twin]+1) * time.Millisecond)
			}
			if i < len(report.Held) && Outcome(report.Held[i]) != Unstable {
				m.Held = Outcome(report.Held[i])
			}
			out = append(out, m)
		}
	}
	return out
}

// Aspect is one direction on one node.
type Aspect struct {
	Node      string
	Direction policy.Direction
}

// Conclude returns the verdict of each aspect, with what to say about it: disproven by one cell, proven only by all.
func Conclude(results []Result) map[Aspect]Result {
	out := map[Aspect]Result{}
	rank := []Verdict{Proven, None, Disproven}
	for _, r := range results {
		a := Aspect{r.Node, r.Direction}
		if have, ok := out[a]; !ok || slices.Index(rank, r.Verdict) > slices.Index(rank, have.Verdict) {
			out[a] = r
		}
	}
	return out
}
