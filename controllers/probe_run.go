// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

const (
	// startLimit is how long canaries may take to start, with pulling the image.
	startLimit = 90 * time.Second
	// settleLimit is how long a changed policy is given to be enforced: ten times what a loaded machine needs.
	settleLimit = 10 * time.Second
	// reportLimit is how long canaries may take to report: the patience of an agent, and what kubelets need.
	reportLimit = 35 * time.Second
	// retryRun is how long to wait before canaries are made again after they could not be, or one was lost.
	retryRun = 15 * time.Second
	// outlive is how much longer than an interval canaries run at most.
	outlive = 10 * time.Minute
	// forceAfter is how long a canary may be deleted without an answer from its node before it is removed from the API.
	forceAfter = time.Minute
)

// stage is what a run is at.
type stage int

const (
	preparing       stage = iota // the policies between the canaries are being written
	startingTargets              // targets were made
	startingSources              // sources were made, too
	idle                         // all canaries run, and wait until the round is due
	flipping                     // what was open is denied now, and is given time to be
	asked                        // sources dial
	concluding                   // targets do: they end then, so that nobody may need them any more
)

// run is a set of canaries and what becomes of it.
type run struct {
	probe.Sample
	stage stage
	since time.Time // when the stage began
	// terms says what was in force when the round began: it must not change until it is over.
	terms string
	// seen are canaries whose pods were in the cache once; failed are those of which nothing is expected any more.
	seen   map[probe.Canary]bool
	failed map[probe.Canary]probe.Problem
}

func (r *run) enter(s stage, now time.Time) { r.stage, r.since = s, now }

// step takes the run to its next stage if it is ready for it, and says when to look again.
func (r *ProbeReconciler) step(ctx context.Context, s *probeScope) (time.Duration, error) {
	r.demand(s)
	if r.run == nil {
		return r.begin(s)
	}
	conditions := r.observe(s)
	switch r.run.stage {
	case preparing:
		return r.prepare(ctx, s)
	case startingTargets:
		return r.startSources(ctx, s, conditions)
	case startingSources:
		return r.stand(s, conditions)
	case idle:
		return r.flip(s, conditions)
	case flipping:
		return r.ask(ctx, s)
	case asked:
		if left := r.unreported(s, conditions, probe.Source); left > 0 {
			return left, nil
		}
		return r.askRole(ctx, s, probe.Target, concluding)
	default:
		return r.collect(ctx, s, conditions)
	}
}

// observe returns the conditions of all canaries that were made and have not failed.
func (r *ProbeReconciler) observe(s *probeScope) map[probe.Canary]probe.Condition {
	out := map[probe.Canary]probe.Condition{}
	for _, c := range r.run.made() {
		if _, failed := r.run.failed[c]; failed {
			continue
		}
		pod := s.pods[r.run.Name(c)]
		if pod == nil && !r.run.seen[c] { // the cache may be behind
			out[c] = probe.Condition{Problem: probe.Problem{Reason: pcinetv1alpha1.ReasonCanaryLost, Message: fmt.Sprintf("The canary on node %s was deleted at once.", c.Node)}}
			continue
		}
		r.run.seen[c] = true
		out[c] = probe.Observe(pod, c)
	}
	return out
}

// made are the canaries whose pods were created.
func (r *run) made() []probe.Canary {
	switch r.stage {
	case preparing:
		return nil
	case startingTargets:
		return r.Canaries(probe.Target)
	default:
		return r.Canaries("")
	}
}

// begin chooses the next nodes.
func (r *ProbeReconciler) begin(s *probeScope) (time.Duration, error) {
	down := slices.DeleteFunc(slices.Clone(s.nodes), func(n string) bool { return slices.Contains(s.ready, n) })
	if len(down) > 0 {
		r.Proofs.edit(func(records probe.Records) {
			for _, n := range down {
				records.Mark(probe.Problem{Reason: pcinetv1alpha1.ReasonCanaryNotStarted, Message: fmt.Sprintf("Node %s is not Ready, so no canary can run there.", n)}, n)
			}
		})
	}
	if left := r.notBefore.Sub(s.now); left > 0 {
		return left, nil
	}
	if len(s.ready) == 0 {
		return lookAgain, nil
	}
	r.run = &run{
		Sample: s.sample(), since: s.now,
		seen: map[probe.Canary]bool{}, failed: map[probe.Canary]probe.Problem{},
	}
	r.run.Born = r.state
	r.run.Run, r.run.Nodes = strings.ToLower(rand.Text()[:8]), r.Proofs.choose(s.ready)
	return time.Millisecond, nil
}

// prepare writes the policies, then makes the targets.
func (r *ProbeReconciler) prepare(ctx context.Context, s *probeScope) (time.Duration, error) {
	changed, err := r.writePolicies(ctx, s)
	if changed || err != nil {
		return retryStale, r.refused(s, err)
	}
	r.run.enter(startingTargets, s.now)
	return lookAgain, r.refused(s, r.create(ctx, s, r.run.Canaries(probe.Target)))
}

// create makes the pods of canaries. They end by themselves if the operator goes.
func (r *ProbeReconciler) create(ctx context.Context, s *probeScope, canaries []probe.Canary) error {
	for _, c := range canaries {
		pod := r.run.Pod(c, r.image)
		pod.Annotations = render.Annotations()
		pod.Spec.ActiveDeadlineSeconds = new(int64((s.interval() + outlive).Seconds()))
		pod.Labels[render.LabelManagedBy] = render.ManagedBy
		if _, err := r.Applier.Write(ctx, pod, nil); err != nil {
			return err
		}
	}
	return nil
}

// refused ends the run if its objects cannot be written. A stale view only asks for another look.
func (r *ProbeReconciler) refused(s *probeScope, err error) error {
	if err == nil || stale(err) {
		return err
	}
	reason := refusal(err)
	if reason == "" {
		reason = pcinetv1alpha1.ReasonWriteFailed
	}
	message := fmt.Sprintf("Canaries in namespace %s cannot be run: %s.", probe.Namespace, cause(err))
	r.abandon(s, probe.Problem{Reason: reason, Message: message}, r.run.Nodes...)
	if reason != pcinetv1alpha1.ReasonWriteFailed {
		return nil
	}
	return err
}

// abandon ends the run without a verdict on nodes. The next sweep removes its pods.
func (r *ProbeReconciler) abandon(s *probeScope, p probe.Problem, nodes ...string) {
	r.Proofs.edit(func(records probe.Records) { records.Fail(p, s.now, nodes...) })
	r.Metrics.ProofRounds.WithLabelValues("failed").Inc()
	r.run, r.notBefore = nil, s.now.Add(retryRun)
}

// startSources makes the sources when the targets run. A node whose target does not is left out.
func (r *ProbeReconciler) startSources(ctx context.Context, s *probeScope, conditions map[probe.Canary]probe.Condition) (time.Duration, error) {
	overdue := s.now.Sub(r.run.since) >= startLimit
	for c, is := range conditions {
		switch {
		case is.Phase == probe.Running:
			r.run.Addresses[c.Node], r.run.Hosts[c.Node] = is.Addresses, is.Hosts
		case is.Phase != probe.Starting || overdue:
			r.Proofs.edit(func(records probe.Records) { records.Fail(is.Problem, s.now, c.Node) })
			r.run.Nodes = slices.DeleteFunc(r.run.Nodes, func(n string) bool { return n == c.Node })
		default:
			return r.run.since.Add(startLimit).Sub(s.now), nil
		}
	}
	if len(r.run.Nodes) == 0 {
		r.abandon(s, probe.Problem{})
		return retryRun, nil
	}
	r.run.enter(startingSources, s.now)
	return lookAgain, r.refused(s, r.create(ctx, s, r.run.Canaries(probe.Source)))
}

// stand waits for the sources. What does not start is not waited for any longer: its silence is no verdict.
func (r *ProbeReconciler) stand(s *probeScope, conditions map[probe.Canary]probe.Condition) (time.Duration, error) {
	overdue := s.now.Sub(r.run.since) >= startLimit
	for c, is := range conditions {
		switch {
		case is.Phase == probe.Running:
		case is.Phase != probe.Starting || overdue:
			r.run.failed[c] = is.Problem
		default:
			return r.run.since.Add(startLimit).Sub(s.now), nil
		}
	}
	r.run.enter(idle, s.now)
	return time.Millisecond, nil
}

// flip begins a round when it is due. Until then the canaries stand.
func (r *ProbeReconciler) flip(s *probeScope, conditions map[probe.Canary]probe.Condition) (time.Duration, error) {
	for c, is := range conditions {
		if is.Phase != probe.Running {
			r.abandon(s, is.Problem, c.Node)
			return retryRun, nil
		}
	}
	if now := s.sample(); !slices.Equal(now.Directions, r.run.Directions) || !slices.Equal(now.Endpoints, r.run.Endpoints) {
		r.run = nil // what the canaries were told to dial is not what is to be tested any more
		return time.Millisecond, nil
	}
	if left := r.run.since.Add(probe.Settled).Sub(s.now); left > 0 {
		return left, nil
	}
	if left := r.due.Sub(s.now); left > 0 && !r.hurry(s) {
		return left, nil
	}
	r.state, r.assessed, r.generations = r.state.Flipped(), r.Platform.Engine().Steady(), s.generations()
	r.run.enter(flipping, s.now)
	return time.Millisecond, nil
}

// ask writes the flipped policies, and asks the sources to dial when they have been in place long enough.
func (r *ProbeReconciler) ask(ctx context.Context, s *probeScope) (time.Duration, error) {
	changed, err := r.writePolicies(ctx, s)
	if changed {
		r.run.since = s.now
	}
	if err != nil {
		return 0, r.refused(s, err)
	}
	if left := r.run.since.Add(settleLimit).Sub(s.now); left > 0 {
		return left, nil
	}
	if r.run.terms = r.terms(s); r.run.terms == "" {
		return r.void(s), nil
	}
	return r.askRole(ctx, s, probe.Source, asked)
}

// askRole asks the canaries of a role to dial.
func (r *ProbeReconciler) askRole(ctx context.Context, s *probeScope, role probe.Role, next stage) (time.Duration, error) {
	for _, c := range r.run.Canaries(role) {
		pod := s.pods[r.run.Name(c)]
		if _, failed := r.run.failed[c]; failed || pod == nil || pod.Annotations[probe.AnnotationAsk] != "" {
			continue
		}
		if err := client.IgnoreNotFound(r.Applier.Annotate(ctx, pod, probe.AnnotationAsk, "now")); err != nil {
			return 0, r.refused(s, err)
		}
	}
	r.run.enter(next, s.now)
	return reportLimit, nil
}

// unreported says how long to wait yet for the reports of a role.
func (r *ProbeReconciler) unreported(s *probeScope, conditions map[probe.Canary]probe.Condition, role probe.Role) time.Duration {
	for c, is := range conditions {
		if c.Role == role && is.Phase == probe.Running {
			return r.run.since.Add(reportLimit).Sub(s.now)
		}
	}
	return 0
}

// void ends a round that means nothing, because something that it goes by has changed.
func (r *ProbeReconciler) void(s *probeScope) time.Duration {
	r.Metrics.ProofRounds.WithLabelValues("void").Inc()
	r.run, r.notBefore = nil, s.now.Add(retryRun)
	return retryRun
}

// collect judges when all canaries have reported, or it takes too long.
func (r *ProbeReconciler) collect(ctx context.Context, s *probeScope, conditions map[probe.Canary]probe.Condition) (time.Duration, error) {
	if left := r.unreported(s, conditions, probe.Target); left > 0 {
		return left, nil
	}
	reports := map[probe.Canary]probe.Report{}
	failed := maps.Clone(r.run.failed)
	for c, is := range conditions {
		switch is.Phase {
		case probe.Reported:
			reports[c] = is.Report
		case probe.Lost:
			failed[c] = is.Problem
		case probe.Starting, probe.Running:
			failed[c] = probe.Problem{Reason: pcinetv1alpha1.ReasonCanaryLost, Message: fmt.Sprintf("The canary on node %s does not report. Look at its kubelet.", c.Node)}
		}
	}
	if r.run.terms != r.terms(s) {
		return r.void(s), nil
	}
	results := r.run.Judge(r.state, reports)
	verdicts := probe.Conclude(results)
	moments := r.run.Moments(reports, func(a probe.Aspect) bool { return verdicts[a].Verdict == probe.Proven })
	r.note(results, moments, s.now)
	r.Proofs.edit(func(records probe.Records) {
		for c, p := range failed {
			records.Fail(p, s.now, c.Node)
		}
	})
	r.tell(ctx, results, moments)
	r.countOlder(ctx, s.now)
	r.run, r.due = nil, s.now.Add(r.Proofs.pause(s.ready, s.interval(), r.Random()))
	return time.Millisecond, nil
}

// tell shows a round in the metrics, and in the log what is not proven.
func (r *ProbeReconciler) tell(ctx context.Context, results []probe.Result, moments []probe.Moment) {
	for _, m := range moments {
		if m.Window != nil {
			r.Metrics.ProofWindow.Observe(m.Window.Seconds())
		}
	}
	r.Metrics.ProofRounds.WithLabelValues("judged").Inc()
	r.Metrics.ProofCells.Reset()
	for _, result := range results {
		r.Metrics.ProofCells.WithLabelValues(string(result.Direction), string(result.Family), string(result.Protocol), string(result.Path), string(result.Verdict)).Inc()
		if result.Verdict != probe.Proven {
			ctrl.LoggerFrom(ctx).Info("A cell is not proven", "verdict", string(result.Verdict), "detail", result.Text)
		}
	}
}

// sweep removes canaries of other runs, and, when there is no run to come, the policies between them.
func (r *ProbeReconciler) sweep(ctx context.Context, s *probeScope) error {
	var errs []error
	for name, pod := range s.pods {
		if r.run != nil && pod.Labels[probe.LabelRun] == r.run.Run && r.wants(name) {
			continue
		}
		var grace *int64
		if !pod.DeletionTimestamp.IsZero() {
			if s.now.Sub(pod.DeletionTimestamp.Time) < forceAfter {
				continue
			}
			grace = new(int64(0)) // its node does not answer
		}
		errs = append(errs, r.Applier.End(ctx, pod, grace))
	}
	if s.problem.Reason != "" {
		for _, p := range s.policies {
			if ofProbe(p.object) {
				errs = append(errs, ignoreStale(r.Applier.Delete(ctx, p.object)))
			}
		}
	}
	return errors.Join(errs...)
}

// wants says whether the run still has a canary with a name.
func (r *ProbeReconciler) wants(name string) bool {
	return slices.ContainsFunc(r.run.made(), func(c probe.Canary) bool { return r.run.Name(c) == name })
}
