// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package trial decides the next step of a firewall on nodes, which is tried on one node, watched, put on all of them, and watched again.
// What happened before is read from the cluster: the live policy says how far it is, and a note on a Lease what became of a list that was
// tried, and which one was kept. So a process that ends at any moment is followed by one that goes on. Nothing here asks anybody.
package trial

import (
	"net/netip"
	"slices"
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
	// OneNode and AllNodes: it says what is intended, of the trial's nodes or of all.
	OneNode  Stage = "OneNode"
	AllNodes Stage = "AllNodes"
	// Earlier and FewerPorts: it says, of all nodes, what was kept: another list, or the same with fewer ports.
	Earlier    Stage = "Earlier"
	FewerPorts Stage = "FewerPorts"
	// Strange: it is what nobody wants any more, as the trial of an earlier list, or what somebody else made of it.
	Strange Stage = "Strange"
)

// StageOf compares live, nil for what is no firewall of ours, with what is intended and what was kept; trial selects the nodes of the trial.
func StageOf(live *policy.HostFirewall, intended policy.HostFirewall, trial metav1.LabelSelector, kept *List) Stage {
	if live == nil {
		return Strange
	}
	says, all := ListOf(*live), live.Nodes.Size() == 0
	switch {
	case says.equal(ListOf(intended)) && all:
		return AllNodes
	case says.equal(ListOf(intended)) && apiequality.Semantic.DeepEqual(live.Nodes, trial):
		return OneNode
	case kept == nil || !all || !says.equal(*kept):
		return Strange
	case kept.isOf(intended):
		return FewerPorts
	default:
		return Earlier
	}
}

// List is who may come in, sorted, and the ports that are closed to everybody else.
type List struct {
	Allowed []netip.Prefix `json:"allowed"`
	Ports   []int32        `json:"ports"`
}

// ListOf returns the list of a firewall.
func ListOf(f policy.HostFirewall) List {
	return List{Allowed: f.Allowed, Ports: f.Ports}
}

func (l List) equal(other List) bool {
	return slices.Equal(l.Allowed, other.Allowed) && holds(l.Ports, other.Ports) && holds(other.Ports, l.Ports)
}

// isOf says whether it has the ranges of f.
func (l *List) isOf(f policy.HostFirewall) bool {
	return l != nil && slices.Equal(l.Allowed, f.Allowed)
}

// covers says whether it has the ranges of f, and its ports.
func (l *List) covers(f policy.HostFirewall) bool {
	return l.isOf(f) && holds(l.Ports, f.Ports)
}

// within says whether everybody whom it lets in is let in by f, too, so that f shuts nobody out.
func (l *List) within(f policy.HostFirewall) bool {
	if l == nil || !holds(l.Ports, f.Ports) {
		return false
	}
	var b netipx.IPSetBuilder
	for _, p := range f.Allowed {
		b.AddPrefix(p)
	}
	allowed, err := b.IPSet()
	return err == nil && !slices.ContainsFunc(l.Allowed, func(p netip.Prefix) bool { return !allowed.ContainsPrefix(p) })
}

func holds(have, want []int32) bool {
	return !slices.ContainsFunc(want, func(p int32) bool { return !slices.Contains(have, p) })
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

// The steps. Each says in the Lease that somebody is there, lest the dead man take the policy back; TakeBack only once it is done, and once before
// where it is to delete a policy and make it anew.
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
	// Kept says that what is intended was kept, and Tried that it was tried and is not kept.
	Kept, Tried bool
	// Confirmed says that nobody has to confirm it any more, and Late that it is too late for that.
	Confirmed, Late bool
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
	switch {
	case s.Stage == AllNodes && s.Kept:
		return Hold
	case s.Stage == AllNodes:
		return s.watch(Keep)
	case s.Stage != Absent && s.Kept:
		return Restore
	case s.Stage == OneNode:
		return s.watch(Widen)
	case s.Stage == Strange:
		return TakeBack
	// What a process began and did not end was tried, too: it is not begun again, because it may be what ended that process.
	case s.Fit != Fits, !s.Armed, s.Tried, s.Stage == Absent && s.Contact != "":
		return Wait
	case s.Stage == FewerPorts:
		return Widen
	}
	return Try
}

// watch takes it back in doubt, and goes on when everybody has answered for long enough and everything is known, and from the trial's nodes once a
// person has confirmed it.
func (s Seen) watch(onward Act) Act {
	switch {
	case s.Contact != "" || !s.Armed && !s.Awaited || s.Fit == Misfits:
		return TakeBack
	case s.Stage == OneNode && !s.Confirmed:
		if s.Late {
			return TakeBack
		}
	case s.For >= Enough && s.Fit == Fits:
		return onward
	}
	return Hold
}
