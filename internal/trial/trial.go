// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package trial decides the next step of a firewall on nodes, which is tried on one node, watched, put on all of them, and watched again.
// What happened before is read from the cluster: the live policy says how far it is, and a note on a Lease what became of a list that was
// tried. So a process that ends at any moment is followed by one that goes on. Nothing here asks anybody.
package trial

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Stage is how far the live policy is.
type Stage string

// The stages.
const (
	// Absent: there is none.
	Absent Stage = "Absent"
	// OneNode and AllNodes: it says what is wanted, of the trial's nodes or of all.
	OneNode  Stage = "OneNode"
	AllNodes Stage = "AllNodes"
	// Earlier: it is on all nodes, and of a list that was kept, or of fewer ports.
	Earlier Stage = "Earlier"
	// Strange: it is what nobody wants any more, as the trial of an earlier list, or what somebody else made of it.
	Strange Stage = "Strange"
)

// StageOf compares live, nil for what is no firewall of ours, with what is wanted; trial selects the nodes of the trial, and noted is what is
// noted of live's list. One that closes more ports is as wanted if it was noted so: a port is not opened because for a moment nobody was
// seen behind it.
func StageOf(live *policy.HostFirewall, wanted policy.HostFirewall, trial metav1.LabelSelector, noted Note) Stage {
	if live == nil {
		return Strange
	}
	same := slices.Equal(live.Allowed, wanted.Allowed) && holds(live.Ports, wanted.Ports) && holds(slices.Concat(wanted.Ports, noted.Ports), live.Ports)
	switch {
	case same && live.Nodes.Size() == 0:
		return AllNodes
	case same && live.Nodes.Size() > 0 && apiequality.Semantic.DeepEqual(live.Nodes, trial):
		return OneNode
	case live.Nodes.Size() == 0 && (noted.Outcome == Kept || noted.Before.is(live.Allowed)):
		return Earlier
	default:
		return Strange
	}
}

func holds(have, want []int32) bool {
	return !slices.ContainsFunc(want, func(p int32) bool { return !slices.Contains(have, p) })
}

// Outcome is what became of a list.
type Outcome string

// The outcomes.
const (
	// Tried: it was on nodes. If it is not any more, it was taken back.
	Tried Outcome = "tried"
	// Kept: it was on all nodes, and everybody answered.
	Kept Outcome = "kept"
)

// Note is what is remembered of a list across processes, as an annotation.
type Note struct {
	// List is a hash of the list.
	List    string  `json:"list"`
	Outcome Outcome `json:"outcome"`
	// Ports were closed.
	Ports []int32 `json:"ports,omitempty"`
	// Before is what was kept on all nodes last, nil for nothing: this list, or the one that stood when this one was tried. Whoever ends before
	// the policy is written leaves it in place, and if this one fails it is put back.
	Before *Standing `json:"before,omitempty"`
	// Why it was taken back; "" if it was not, or by somebody else than the operator.
	Why string `json:"why,omitempty"`
}

// Standing is a list that was kept, and the ports that it closed.
type Standing struct {
	Allowed []netip.Prefix `json:"allowed"`
	Ports   []int32        `json:"ports"`
}

// StandingOf returns the part of a firewall on all nodes that is noted.
func StandingOf(f policy.HostFirewall) *Standing {
	return &Standing{Allowed: f.Allowed, Ports: f.Ports}
}

func (k *Standing) is(allowed []netip.Prefix) bool {
	return k != nil && Hash(k.Allowed) == Hash(allowed)
}

// Within says whether everybody whom it let in is let in by f, too, so that f shuts nobody out who was not shut out before.
func (k *Standing) Within(f policy.HostFirewall) bool {
	if k == nil || !holds(k.Ports, f.Ports) {
		return false
	}
	var b netipx.IPSetBuilder
	for _, p := range f.Allowed {
		b.AddPrefix(p)
	}
	allowed, err := b.IPSet()
	return err == nil && !slices.ContainsFunc(k.Allowed, func(p netip.Prefix) bool { return !allowed.ContainsPrefix(p) })
}

// NewNote returns a note of a firewall's list.
func NewNote(f policy.HostFirewall, o Outcome, why string) Note {
	return Note{List: Hash(f.Allowed), Outcome: o, Ports: f.Ports, Why: why}
}

// Hash names a list, in 16 hexadecimal digits.
func Hash(allowed []netip.Prefix) string {
	var text strings.Builder
	for _, p := range allowed {
		text.WriteString(p.String() + " ")
	}
	sum := sha256.Sum256([]byte(text.String()))
	return hex.EncodeToString(sum[:8])
}

// String is the note as it is kept.
func (n Note) String() string {
	data, err := json.Marshal(n)
	if err != nil {
		return "" // not possible: it holds strings
	}
	return string(data)
}

// After returns n, with what was kept last.
func (n Note) After(before *Standing) Note {
	n.Before = before
	return n
}

// ReadNote reads what is noted of this list; of another one it says what was kept before. The zero Note where there is none, or none that can be read.
func ReadNote(text string, allowed []netip.Prefix) Note {
	var n Note
	if err := json.Unmarshal([]byte(text), &n); err != nil {
		return Note{}
	}
	switch {
	case n.List == Hash(allowed):
		return n
	case n.Before.is(allowed):
		return Note{List: Hash(allowed), Outcome: Kept, Ports: n.Before.Ports}
	default:
		return Note{Before: n.Before}
	}
}

// Fit says whether the list may be enforced at all.
type Fit string

// The answers. Unknown is for a moment in which not everything is known, as after a start.
const (
	Fits    Fit = "Fits"
	Misfits Fit = "Misfits"
	Unknown Fit = "Unknown"
)

// Act is the next step.
type Act string

// The steps. Each says in the Lease that somebody is there, lest the dead man take the policy back; TakeBack only once it is done.
const (
	// Wait writes no policy.
	Wait Act = "Wait"
	// Try notes that the list was tried, and puts the policy on the trial's nodes.
	Try Act = "Try"
	// Hold makes the live policy what it is to be, if somebody changed a part of it, and changes nothing of its stage.
	Hold Act = "Hold"
	// Restore puts one that is kept on all nodes again, as it was.
	Restore Act = "Restore"
	// Widen notes that it was tried, and puts it on all nodes.
	Widen Act = "Widen"
	// Keep notes that it is kept.
	Keep Act = "Keep"
	// TakeBack puts back what was kept before, and if that is nothing deletes it.
	TakeBack Act = "TakeBack"
)

// Enough is for how long everybody must answer before the next step. It is longer than what the API server takes to notice that a kubelet
// does not: 40 s of silence (--node-monitor-grace-period is 50 s since Kubernetes 1.32), and 5 s until it says so.
const Enough = 90 * time.Second

// Confirm is for how long a person may take to say that people come in by a node of the trial. No look sees people, who come from outside of the
// cluster, and one who is cut off cannot say anything: so that nothing is said takes it back.
const Confirm = 10 * time.Minute

// Seen is what the next step goes by.
type Seen struct {
	Stage Stage
	Fit   Fit
	// Armed says that the dead man of this policy is alive, on a node of the trial; Awaited, that it is too early to say that he is not, as
	// after a start.
	Armed, Awaited bool
	// Contact is "" if everybody answers, and else who does not.
	Contact string
	// For is for how long this process has seen the stage, and everybody answer.
	For time.Duration
	// AtStage is for how long this process has seen the stage, whoever answered. Confirmed says that a person has confirmed the wanted list, or
	// that it shuts nobody out who came in before.
	AtStage   time.Duration
	Confirmed bool
	// Note is about the wanted list.
	Note Note
}

// Next returns the next step.
//
// While it is tried, any doubt takes it back: that somebody does not answer, that the dead man is not there, or that the list would now be
// refused. Once it is kept nothing but a person takes it back, or the dead man for want of an operator: a node that breaks down is no
// reason to open all of them.
//
// What somebody made of a kept one is put right on all nodes at once; with another port to close it is watched like a new one. A new list is tried
// in place of an earlier one whoever does not answer: it may be what is to help them.
func Next(s Seen) Act {
	kept := s.Note.Outcome == Kept
	switch {
	case s.Stage == AllNodes && kept:
		return Hold
	case s.Stage == AllNodes:
		return s.watch(Keep)
	case s.Stage == Earlier && kept:
		return Widen
	case s.Stage != Absent && kept:
		return Restore
	case s.Stage == OneNode:
		return s.watch(Widen)
	case s.Stage == Strange:
		return TakeBack
	// What a process began and did not end has outcome Tried, too: it is not begun again, because it may be what ended that process.
	case s.Fit != Fits, !s.Armed, s.Note.Outcome == Tried, s.Stage == Absent && s.Contact != "":
		return Wait
	}
	return Try
}

// watch takes it back in doubt, and goes on when everybody has answered for long enough, and from the trial's nodes once a person has confirmed it.
func (s Seen) watch(onward Act) Act {
	switch {
	case s.Contact != "" || !s.Armed && !s.Awaited || s.Fit == Misfits:
		return TakeBack
	case s.Stage == OneNode && !s.Confirmed:
		if s.AtStage >= Confirm {
			return TakeBack
		}
	case s.For >= Enough:
		return onward
	}
	return Hold
}
