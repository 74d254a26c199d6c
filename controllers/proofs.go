// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

// reach is how a baseline stands to the canaries' namespace.
type reach string

// The values of reach; empty for a baseline that was not looked at yet.
const (
	outOfScope reach = "OutOfScope"
	notDenied  reach = "NotDenied" // in scope, but the deny is not in place
	denied     reach = "Denied"
)

// Proofs hold what the canaries have shown, node by node. It lives in memory: what this process has not seen is not proven.
type Proofs struct {
	changed topic

	mu sync.Mutex
	// looked: the probe reconciler was there once.
	looked  bool
	nodes   []string
	scope   map[string]reach // by baseline
	records probe.Records
	// problem keeps canaries from running at all; zero when nothing does.
	problem   probe.Problem
	lastRound time.Time
	// older are the pods that are older than their deny, by baseline; nil when they were not counted.
	older map[string]*pcinetv1alpha1.OlderPods
}

// NewProofs returns proofs of nothing.
func NewProofs() *Proofs { return &Proofs{records: probe.Records{}} }

// look notes which nodes there are, how baselines stand to the canaries' namespace, and what keeps canaries from running at all.
func (p *Proofs) look(nodes []string, scope map[string]reach, problem probe.Problem) {
	p.mu.Lock()
	same := p.looked && p.problem == problem && slices.Equal(p.nodes, nodes) && maps.Equal(p.scope, scope)
	p.looked, p.nodes, p.scope, p.problem = true, nodes, scope, problem
	p.records.Keep(nodes)
	p.mu.Unlock()
	if !same {
		p.changed.tell()
	}
}

// edit changes the records.
func (p *Proofs) edit(change func(probe.Records)) {
	p.mu.Lock()
	change(p.records)
	p.mu.Unlock()
	p.changed.tell()
}

// note takes down the results of a round.
func (p *Proofs) note(results []probe.Result, moments []probe.Moment, now time.Time) {
	p.edit(func(r probe.Records) {
		r.Note(results, now)
		r.NoteMoments(moments)
		p.lastRound = now
	})
}

// kept says whether connections outlived their deny on a node.
func (p *Proofs) kept() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return probe.Summarise(p.nodes, p.records, probe.Terms{}, time.Time{}).Kept > 0
}

// noteOlder takes down which pods are older than their deny; nil if that is not known.
func (p *Proofs) noteOlder(older map[string]*pcinetv1alpha1.OlderPods) {
	p.mu.Lock()
	p.older = older
	p.mu.Unlock()
	p.changed.tell()
}

// choose returns the nodes to test next.
func (p *Proofs) choose(nodes []string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return probe.Choose(nodes, p.records, probe.MaxNodes)
}

// pause returns how long to wait before the next round.
func (p *Proofs) pause(nodes []string, interval time.Duration, random float64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return probe.Pause(nodes, p.records, interval, random)
}

// untried says whether one of the nodes was never tried.
func (p *Proofs) untried(nodes []string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(nodes, func(n string) bool { return p.records[n] == nil || p.records[n].Tried.IsZero() })
}

// of sums up what is proven of a baseline. known is false until the canaries' namespace was looked for.
func (p *Proofs) of(b *pcinetv1alpha1.PCINetworkBaseline, now time.Time) (s probe.Summary, lastRound time.Time, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := b.Spec.Verification
	terms := probe.Terms{Nodes: int(v.Nodes), Freshness: time.Duration(v.FreshnessSeconds) * time.Second}
	for _, d := range b.Spec.Directions {
		terms.Directions = append(terms.Directions, policy.Direction(d))
	}
	s = probe.Summarise(p.nodes, p.records, terms, now)
	if s.Kept > 0 && p.older != nil {
		s.Older = cmp.Or(p.older[b.Name], &pcinetv1alpha1.OlderPods{Count: new(int32)})
	}
	unknown := func(reason, message string) {
		s.Status, s.Reason, s.Message = metav1.ConditionUnknown, reason, message
	}
	switch {
	case !p.looked:
		unknown(pcinetv1alpha1.ReasonProofPending, "No node was tested yet.")
	case b.Spec.Enforcement == pcinetv1alpha1.EnforcementAudit:
		unknown(pcinetv1alpha1.ReasonAuditMode, "Nothing is denied, so nothing can be proven. Set spec.enforcement to Enforce.")
	case p.problem.Reason == pcinetv1alpha1.ReasonCanaryNamespaceMissing:
		if s.Status != metav1.ConditionFalse {
			unknown(p.problem.Reason, p.problem.Message)
		}
	case p.scope[b.Name] == "":
		unknown(pcinetv1alpha1.ReasonProofPending, "No node was tested yet.")
	case p.scope[b.Name] == outOfScope:
		unknown(pcinetv1alpha1.ReasonCanaryNotCovered, fmt.Sprintf("The canaries' namespace %s is not in the scope of baseline %s. Take it in with spec.namespaces.", probe.Namespace, b.Name))
	case s.Status == metav1.ConditionFalse:
	case p.scope[b.Name] != denied:
		unknown(pcinetv1alpha1.ReasonCanaryNotCovered, fmt.Sprintf("The deny is not in place in the canaries' namespace %s. Look at kubectl get nscov -n %s.", probe.Namespace, probe.Namespace))
	case p.problem.Reason != "":
		unknown(p.problem.Reason, p.problem.Message)
	}
	return s, p.lastRound, p.looked
}

// proof is what a status says about proofs; nil before any node was tested.
func (s *baselineScope) proofStatus() *pcinetv1alpha1.ProofStatus {
	if s.lastRound.IsZero() {
		return nil
	}
	out := &pcinetv1alpha1.ProofStatus{
		Proven: new(int32(s.proof.Proven)), Disproven: new(int32(s.proof.Disproven)), Required: new(int32(s.proof.Required)),
		LastRoundAt: metav1.Time{Time: s.lastRound.Truncate(time.Second)},
	}
	if w := s.proof.Window; w != nil {
		out.StartWindowMilliseconds = new(int32(w.Milliseconds()))
	}
	switch cut, kept := s.proof.Cut > 0, s.proof.Kept > 0; {
	case cut && kept:
		out.EstablishedConnections = pcinetv1alpha1.EstablishedMixed
	case cut:
		out.EstablishedConnections = pcinetv1alpha1.EstablishedCut
	case kept:
		out.EstablishedConnections = pcinetv1alpha1.EstablishedKept
	}
	out.OlderPods = s.proof.Older
	if !s.proof.Oldest.IsZero() {
		out.OldestAt = metav1.Time{Time: s.proof.Oldest.Truncate(time.Second)}
	}
	return out
}

// setProven says whether packets have shown that denied traffic is dropped (4.1).
func (s *baselineScope) setProven(c *status.Conditions) {
	c.Set(pcinetv1alpha1.ConditionEnforcementProven, s.proof.Status, s.proof.Reason, s.proof.Message)
}

// proof returns what the coverage of the canaries' namespace says; nil for other namespaces. Only the replica that runs the
// canaries knows: the others keep what it wrote.
func (r *NamespaceReconciler) proof(s *scope) *metav1.Condition {
	if s.namespace.Name != probe.Namespace {
		return nil
	}
	if !r.elected() {
		if s.previous == nil {
			return nil
		}
		return apimeta.FindStatusCondition(s.previous.Status.Conditions, pcinetv1alpha1.ConditionEnforcementProven)
	}
	known, _, _ := r.Proofs.of(s.baseline, s.now)
	return &metav1.Condition{Status: known.Status, Reason: known.Reason, Message: known.Message}
}
