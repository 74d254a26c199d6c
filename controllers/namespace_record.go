// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// The types of events.
const (
	eventNormal  = corev1.EventTypeNormal
	eventWarning = corev1.EventTypeWarning
)

// tellAfter is how long writes may fail, for want of an answer or because the view is stale, before that is told. An API server
// that answers every second request would otherwise get two more for each that failed: that it failed, and that it no longer does.
const tellAfter = 2 * time.Second

// passing says whether writes fail, and have not for long. As with fights, the clock is the one by which the queue tries again.
func (r *NamespaceReconciler) passing(s *scope) bool {
	if s.transient == nil {
		return false
	}
	now := r.fights.clock.Now()
	since, _ := r.failing.LoadOrStore(s.key(), now)
	at, ok := since.(time.Time)
	return ok && now.Sub(at) < tellAfter
}

// record writes the coverage when it changed, then tells the store, the metrics and, of a new state, an event. What passes is not
// recorded: the next look follows at once.
func (r *NamespaceReconciler) record(ctx context.Context, s *scope) error {
	if r.passing(s) {
		return nil
	}
	state := s.state()
	if state == "" {
		return r.recordOutOfScope(ctx, s)
	}
	if s.contested != "" && s.previous != nil && !r.elected() { // the active replica tells of a fight
		r.tell(s, state)
		return nil
	}
	if s.wrote && s.refused == "" && s.transient == nil && s.contested == "" { // in a fight every look writes
		s.deferred, s.requeueAfter = true, soon
		return nil
	}
	intended := &pcinetv1alpha1.NamespaceCoverage{
		TypeMeta: metav1.TypeMeta{APIVersion: pcinetv1alpha1.GroupVersion.String(), Kind: "NamespaceCoverage"},
		ObjectMeta: metav1.ObjectMeta{
			Name: s.baseline.Name, Namespace: s.namespace.Name,
			Labels: render.Labels(s.baseline.Name), Annotations: render.Annotations(),
		},
		Status: s.coverage(),
	}
	operation, err := r.writeCoverage(ctx, s, intended)
	if err != nil {
		s.fail(err)
		if r.passing(s) {
			return nil
		}
		state = pcinetv1alpha1.CoverageFailing
	}
	r.tell(s, state)
	if operation == apply.None {
		return nil
	}
	r.announce(ctx, s, state)
	return nil
}

// tell has the baseline know.
func (r *NamespaceReconciler) tell(s *scope, state pcinetv1alpha1.CoverageState) {
	r.Store.Set(s.namespace.Name, s.baseline.Name, Record{
		Generation: s.baseline.Generation, UID: s.baseline.UID, Sequence: s.sequence, State: state, Stalled: s.stalled(),
		Worst: s.worst(), Widening: s.finding("NothingWidens").Failed().Message,
	})
}

// writeCoverage writes the coverage if it differs from the live one. It may be fought over as everything may. What admission
// makes of it is no coverage: the gate would believe it.
func (r *NamespaceReconciler) writeCoverage(ctx context.Context, s *scope, intended *pcinetv1alpha1.NamespaceCoverage) (apply.Operation, error) {
	var live client.Object // a nil *NamespaceCoverage in it would not be nil
	var drift apply.Drift
	if s.previous != nil {
		live, drift = s.previous, apply.Diff(intended, s.previous)
	}
	key, again := coverages.key(intended), r.Store.Last(s.namespace.Name, s.baseline.Name).State != ""
	if again && (live == nil || !drift.None()) {
		if left := r.fights.need(key, drift.Manager, r.elected()); left > 0 {
			s.requeueAfter = sooner(s.requeueAfter, left)
			return apply.None, nil
		}
		r.fights.wrote(key, false)
	}
	change, err := r.Applier.Write(ctx, intended, live)
	switch {
	case stale(err):
		s.transient = errStale
		return apply.None, nil
	case err != nil:
		return apply.None, err
	case change.Operation != apply.None:
		if d := apply.Diff(intended, change.Object); !d.None() {
			return change.Operation, apierrors.NewForbidden(schema.ParseGroupResource(coverages.resource), intended.Name,
				fmt.Errorf("admission changes %s of the coverage", strings.Join(d.Fields, ", ")))
		}
	}
	for _, p := range intended.Status.Policies {
		r.authored.Delete(objectKey{p.Resource, s.namespace.Name, p.Name})
	}
	return change.Operation, nil
}

func (r *NamespaceReconciler) recordOutOfScope(ctx context.Context, s *scope) error {
	if s.previous != nil && r.elected() && (len(s.superfluous) == 0 || s.auditing()) {
		if err := r.Applier.Delete(ctx, s.previous); err != nil {
			return ignoreStale(err)
		}
		if s.previous.Status.State == pcinetv1alpha1.CoverageProtected && !s.auditing() {
			r.event(s, eventNormal, "PoliciesRemoved", "Release", fmt.Sprintf("Namespace %s is no longer in the scope of baseline %s: its policies were removed", s.namespace.Name, s.baseline.Name))
		}
	}
	out := Record{Generation: s.baseline.Generation, UID: s.baseline.UID}
	if released(s.baseline) && len(s.superfluous) > 0 { // the baseline must not go before them
		out.State = pcinetv1alpha1.CoveragePending
		out.Worst = checks.Finding{Reason: pcinetv1alpha1.ReasonDeleting, Message: fmt.Sprintf(
			"Namespace %s still has policies of baseline %s.", s.namespace.Name, s.baseline.Name)}
	}
	r.Store.Set(s.namespace.Name, s.baseline.Name, out)
	return nil
}

// announce emits an event when a fight has begun or the state has changed, except for a namespace that is protected at once: a
// cluster that makes many namespaces would drown in them.
func (r *NamespaceReconciler) announce(ctx context.Context, s *scope, state pcinetv1alpha1.CoverageState) {
	if s.contested != "" && (s.previous == nil || !apimeta.IsStatusConditionTrue(s.previous.Status.Conditions, pcinetv1alpha1.ConditionContested)) {
		ctrl.LoggerFrom(ctx).Info("A fight has begun", "baseline", s.baseline.Name, "detail", s.contested)
		r.event(s, eventWarning, pcinetv1alpha1.ReasonRepeatedChanges, "Protect", s.contested)
	}
	if s.previous != nil && s.previous.Status.State == state {
		return
	}
	worst := s.worst()
	switch {
	case state == pcinetv1alpha1.CoverageFailing:
		ctrl.LoggerFrom(ctx).Info("A namespace is not as it should be", "baseline", s.baseline.Name, "state", string(state), "reason", worst.Reason, "detail", worst.Message)
		r.event(s, eventWarning, worst.Reason, "Protect", worst.Message)
	case state == pcinetv1alpha1.CoverageExempt:
		r.event(s, eventNormal, pcinetv1alpha1.ReasonExempt, "Exempt", fmt.Sprintf("Namespace %s is exempt from baseline %s%s", s.namespace.Name, s.baseline.Name, pick(s.auditing(), "", "; its policies were removed")))
	case s.previous == nil:
	case s.previous.Status.State == pcinetv1alpha1.CoverageExempt:
		r.event(s, eventWarning, pcinetv1alpha1.ReasonExemptionExpired, "Protect", fmt.Sprintf("Namespace %s is no longer exempt from baseline %s and is denied again", s.namespace.Name, s.baseline.Name))
	case state == pcinetv1alpha1.CoverageProtected:
		r.event(s, eventNormal, pcinetv1alpha1.ReasonNamespaceProtected, "Protect", fmt.Sprintf("Namespace %s has its policies of baseline %s", s.namespace.Name, s.baseline.Name))
	}
}

// event tells of the namespace's coverage. Events that differ in their note alone are counted as one and keep the first note
// (k8s.io/client-go tools/events), so whatever must be told apart has an action of its own.
func (r *NamespaceReconciler) event(s *scope, kind, reason, action, note string) {
	about := &corev1.ObjectReference{
		APIVersion: pcinetv1alpha1.GroupVersion.String(), Kind: "NamespaceCoverage",
		Namespace: s.namespace.Name, Name: s.baseline.Name,
	}
	if s.previous != nil {
		about.UID = s.previous.UID
	}
	r.Recorder.Eventf(about, nil, kind, reason, action, "%s", clipMessage(note))
}
