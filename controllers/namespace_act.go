// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

// settleAPI is how long what was written to another API is given to take effect.
const settleAPI = 5 * time.Second

// act writes what is missing or drifted, allowances before the deny, and then removes what is no longer wanted. In Audit
// it writes nothing that is enforced. A failed allowance does not hold back the deny: closed with an outage is better than
// open.
func (r *NamespaceReconciler) act(ctx context.Context, s *scope) error {
	write, remove := s.wanted, s.superfluous
	switch {
	case s.invalid != "", s.backend.paused:
		return nil
	case s.auditing() && !released(s.baseline):
		write = s.previews
		remove = slices.DeleteFunc(slices.Clone(remove), func(p livePolicy) bool { return !p.api.staged })
	}
	complete := true
	for _, w := range write {
		if !r.write(ctx, s, w) {
			complete = false
		}
	}
	if !complete {
		return nil // what is no longer wanted may still be what protects
	}
	if left := s.settling(); left > 0 {
		s.requeueAfter = sooner(s.requeueAfter, left)
		return nil
	}
	return r.remove(ctx, s, remove)
}

// settling says how long objects of another API have to stay: an engine reads each API on its own, and may not have seen yet
// what takes their place, or not have said that it refuses it.
func (s *scope) settling() time.Duration {
	if !slices.ContainsFunc(s.superfluous, func(p livePolicy) bool { return p.api != s.backend.api && !p.api.staged }) {
		return 0
	}
	var left time.Duration
	for _, w := range s.wanted {
		if w.live != nil {
			left = max(left, w.live.GetCreationTimestamp().Add(settleAPI).Sub(s.now))
		}
	}
	return left
}

// remove deletes what is no longer wanted, denies first so that no pod is left with a deny and without its allowances. Only
// the elected replica does, and only after the API server has confirmed what the decision was made of: from a stale cache
// a namespace may look out of scope that is in it by now.
func (r *NamespaceReconciler) remove(ctx context.Context, s *scope, what []livePolicy) error {
	if len(what) == 0 || !r.elected() {
		return nil
	}
	current, err := r.confirm(ctx, s)
	if err != nil {
		return err
	}
	if !current {
		s.requeueAfter = sooner(s.requeueAfter, retryStale)
		return nil
	}
	for _, live := range slices.Clone(what) { // what may be s.superfluous, from which the removed go
		if err := r.writer(live.api).Delete(ctx, live.object); err != nil {
			s.fail(err)
			return nil
		}
		s.superfluous = slices.DeleteFunc(s.superfluous, func(p livePolicy) bool { return p.object == live.object })
		ctrl.LoggerFrom(ctx).Info("Removed a policy", "policy", client.ObjectKeyFromObject(live.object).String(), "resource", live.api.resource, "verdict", string(s.decision.Verdict))
	}
	return nil
}

// confirm says whether the baseline and the namespace's labels are still those that the decision was made of.
func (r *NamespaceReconciler) confirm(ctx context.Context, s *scope) (bool, error) {
	b := &pcinetv1alpha1.PCINetworkBaseline{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.baseline), b); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	ns := &corev1.Namespace{}
	if err := r.Live.Get(ctx, client.ObjectKey{Name: s.namespace.Name}, ns); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return b.UID == s.baseline.UID && b.Generation == s.baseline.Generation &&
		ns.UID == s.namespace.UID && ns.DeletionTimestamp.IsZero() && maps.Equal(ns.Labels, s.namespace.Labels), nil
}

// write makes one policy right, and says whether it is.
func (r *NamespaceReconciler) write(ctx context.Context, s *scope, w *wantedPolicy) bool {
	if w.state == pcinetv1alpha1.PolicyInPlace {
		return true
	}
	if !s.due(w) {
		return false
	}
	cause := s.repairCause(w)
	change, err := r.writer(w.api).Write(ctx, w.intended, w.live)
	if w.again && (err == nil || stale(err) || gone(err)) {
		r.fights.wrote(w.key(), err != nil)
	}
	if err != nil {
		w.message = s.fail(err)
		return false
	}
	w.live, w.state, w.message = change.Object, pcinetv1alpha1.PolicyInPlace, ""
	r.authored.Store(w.key(), author{s.baseline.Name, s.baseline.Generation, s.namespace.UID, change.Object.GetUID(), change.Object.GetResourceVersion()})
	s.wrote = true
	if d := apply.Diff(w.intended, change.Object); !d.None() { // to write it again at once would end as it did now
		w.state, w.message = pcinetv1alpha1.PolicyDrifted, "admission changes "+strings.Join(d.Fields, ", ")
		s.refuse(pcinetv1alpha1.ReasonAdmissionRefused, w.message+" of "+w.intended.GetName())
		return false
	}
	if born := r.Store.BornAt(s.namespace.Name); !born.IsZero() && w.policy.Role == policy.Deny && !w.api.staged && change.Operation == apply.Created {
		r.Metrics.Protection.Observe(r.Clock.Now().Sub(born).Seconds())
	}
	if cause != "" {
		r.repaired(ctx, s, w, change, cause)
	}
	return true
}

// due says whether a policy that is not in place can be written, and now.
func (s *scope) due(w *wantedPolicy) bool {
	if w.state == pcinetv1alpha1.PolicyCollision || w.state == pcinetv1alpha1.PolicyRefused || s.letGo(w) {
		return false
	}
	if w.left > 0 {
		s.requeueAfter = sooner(s.requeueAfter, w.left)
	}
	return w.left == 0
}

// letGo says whether a policy is left as somebody has made it who broke the glass.
func (s *scope) letGo(w *wantedPolicy) bool { return s.glass.InForce && s.recordedUID(w) != "" }

// recordedUID returns the UID under which the coverage has recorded a policy, or what had its name before it; "" for one that
// never was in place.
func (s *scope) recordedUID(w *wantedPolicy) string {
	if s.previous == nil {
		return ""
	}
	for _, p := range s.previous.Status.Policies {
		if p.Resource == w.api.resource && (p.Name == w.intended.GetName() || p.Name == w.collides) && p.UID != "" {
			return p.UID
		}
	}
	return ""
}

// writer writes the objects of an API.
func (r *NamespaceReconciler) writer(api *policyAPI) *apply.Applier {
	if api.native() {
		return r.Natives
	}
	return r.Applier
}

// repairCause says why a policy has to be written that this same generation of the baseline had in place before; "" for
// the first write and for changes that we ourselves were asked to make.
func (s *scope) repairCause(w *wantedPolicy) string {
	switch p, known := s.recorded(w); {
	case !known, p.State != pcinetv1alpha1.PolicyInPlace && p.State != pcinetv1alpha1.PolicyContested:
		return ""
	case w.live == nil:
		return metrics.CauseDeleted
	case string(w.live.GetUID()) != p.UID:
		return metrics.CauseReplaced
	}
	return metrics.CauseEdited
}

// recorded returns what the coverage says of a policy, as of this generation of the baseline.
func (s *scope) recorded(w *wantedPolicy) (p pcinetv1alpha1.CoveragePolicy, known bool) {
	return s.recordedAs(w.api, w.intended.GetName())
}

func (s *scope) recordedAs(api *policyAPI, name string) (p pcinetv1alpha1.CoveragePolicy, known bool) {
	if s.previous == nil || s.previous.Status.BaselineGeneration != s.baseline.Generation {
		return p, false
	}
	for _, p := range s.previous.Status.Policies {
		if p.Name == name && p.Resource == api.resource {
			return p, true
		}
	}
	return p, false
}

// repaired tells of a repair: in the metrics, in the log and in an event.
func (r *NamespaceReconciler) repaired(ctx context.Context, s *scope, w *wantedPolicy, change apply.Change, cause string) {
	if cause == metrics.CauseEdited && r.asked(s, change.Drift) {
		return
	}
	key := client.ObjectKeyFromObject(w.intended)
	r.Metrics.Repairs.WithLabelValues(cause).Inc()
	what := "it had been deleted"
	if cause != metrics.CauseDeleted {
		what = driftMessage(change.Drift)
	}
	ctrl.LoggerFrom(ctx).Info("Restored a policy", "policy", key.String(), "cause", cause, "fields", change.Drift.Fields, "manager", change.Drift.Manager)
	r.event(s, eventNormal, "PolicyRepaired", "Restore-"+cause+"-"+w.policy.Name, fmt.Sprintf("Restored %s %s: %s", checks.Title(w.api.resource), key, what))
}

// asked says whether an update only followed a change of the cluster (its DNS, its API server's addresses). That can be so
// only if the cluster was observed anew since the policy was last looked at, and nobody else is known to have written.
// The API server does not keep the name of somebody who only removed fields.
func (r *NamespaceReconciler) asked(s *scope, d apply.Drift) bool {
	last := r.Store.Last(s.namespace.Name, s.baseline.Name)
	moved := last.State == "" || last.Sequence != s.sequence
	metadata := slices.ContainsFunc(d.Fields, func(f string) bool { return strings.HasPrefix(f, "metadata.") })
	return moved && !metadata && d.Manager == ""
}

// fail notes that a write failed and returns what to say about it. A stale view only asks for another look.
func (s *scope) fail(err error) string {
	if stale(err) || gone(err) {
		s.transient = errStale
		return "it changed while it was written"
	}
	reason := refusal(err)
	if reason == "" {
		s.transient, reason = err, pcinetv1alpha1.ReasonWriteFailed
	}
	return s.refuse(reason, cause(err))
}

// refuse notes that a policy is not as it should be, for a reason that trying again soon does not change, and returns what to
// say about it.
func (s *scope) refuse(reason, why string) string {
	if reason != pcinetv1alpha1.ReasonWriteFailed {
		s.requeueAfter = sooner(s.requeueAfter, retryRefused)
	}
	if s.refused == "" || reason != pcinetv1alpha1.ReasonWriteFailed {
		s.refused = reason
	}
	text := status.Clip(why, maxCause)
	s.failure = fmt.Sprintf("Namespace %s: %s. %s", s.namespace.Name, text, remedy(reason, s.namespace.Name))
	return text
}

// policies lists the wanted and the superfluous policies for the coverage.
func (s *scope) policies() []pcinetv1alpha1.CoveragePolicy {
	var out []pcinetv1alpha1.CoveragePolicy
	for _, w := range s.wanted {
		role := pcinetv1alpha1.PolicyRole(w.policy.Role)
		if w.collides != "" && w.collides != w.intended.GetName() {
			out = append(out, pcinetv1alpha1.CoveragePolicy{
				Name: w.collides, Resource: w.api.resource, Role: role, State: pcinetv1alpha1.PolicyCollision,
				Message: "somebody else's object has this name; it is not overwritten, and ours is " + w.intended.GetName() + " (delete or rename theirs)",
			})
		}
		p := pcinetv1alpha1.CoveragePolicy{Name: w.intended.GetName(), Resource: w.api.resource, Role: role, State: w.state, Message: clipMessage(w.message)}
		if w.contested != "" { // whatever it is at this moment
			p.State = pcinetv1alpha1.PolicyContested
			p.Message = clipMessage(w.contested + " keeps changing or deleting it; it is restored every 2 seconds")
		}
		if w.live != nil && w.state != pcinetv1alpha1.PolicyCollision {
			p.UID = string(w.live.GetUID())
		} else if w.live == nil && s.glass.InForce {
			p.UID = s.recordedUID(w) // or the next look would take it for one that never was
		}
		out = append(out, p)
	}
	for _, live := range s.superfluous {
		out = append(out, pcinetv1alpha1.CoveragePolicy{
			Name: live.object.GetName(), Resource: live.api.resource, Role: pick(live.denies(), pcinetv1alpha1.RoleDeny, pcinetv1alpha1.RoleAllowance),
			State: pcinetv1alpha1.PolicySuperfluous, UID: string(live.object.GetUID()),
		})
	}
	return out[:min(len(out), maxPolicies)]
}

// maxPolicies is the bound of status.policies in the CRD; more can only come from hand-made objects with our labels.
const maxPolicies = 64
