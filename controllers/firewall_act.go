// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe/contact"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
)

// observe sees how far it is, whether the dead man is alive, and who answers.
func (r *FirewallReconciler) observe(ctx context.Context, s *firewallScope) {
	s.unarmed = r.unarmed(ctx, s)
	lease, err := r.readLease(ctx, deadman.OperatorLease)
	if err != nil {
		s.unarmed = err.Error()
	} else {
		s.remember(lease)
	}
	s.seen.Armed, s.seen.Fit = s.unarmed == "", s.wanted.fit
	s.intended = s.memory.Intended(s.wanted.policy, s.read())
	s.seen.Stage = s.stage()
	s.seen = s.memory.See(s.seen, s.intended, s.baseline.Annotations[pcinetv1alpha1.AnnotationHostFirewallConfirmed], s.now)
	s.know()
	w := s.watched
	if !s.known {
		return
	}
	if w.stage != s.seen.Stage || s.now.Sub(w.lookedAt) > pulseAge { // nobody has looked meanwhile
		w.since = s.now
	}
	w.stage, w.lookedAt = s.seen.Stage, s.now
	s.answers(r.contact(ctx, s))
	s.bear()
}

// bear has a list that is tried and would be refused now wait for a minute: a node that joins is there before its HostEndpoint. Meanwhile it goes no
// further.
func (s *firewallScope) bear() {
	w := s.watched
	switch {
	case !s.onNodes() || s.seen.Kept || s.seen.Fit == trial.Fits:
		w.unfitAt = time.Time{}
		return
	case s.seen.Fit == trial.Unknown: // as of a node that is Ready, and again not
		return
	case w.unfitAt.IsZero():
		w.unfitAt = s.now
	}
	if s.now.Sub(w.unfitAt) < unfitFor {
		w.since, s.seen.For, s.seen.Fit = s.now, 0, trial.Unknown
	}
}

// know notes when it was known what is wanted, and in whose API.
func (s *firewallScope) know() {
	if s.known && s.wanted.layer != nil || s.watched.knownAt.IsZero() {
		s.watched.knownAt = s.now
	}
}

// remember reads what is remembered, unless it is of another engine than there is.
func (s *firewallScope) remember(lease *coordinationv1.Lease) {
	s.lease = lease
	if l := s.wanted.layer; l != nil && l.Name() != cmp.Or(lease.Annotations[annotationBackend], l.Name()) {
		return
	}
	s.memory = trial.ReadMemory(lease.Annotations[annotationKept], lease.Annotations[annotationTried], lease.Annotations[annotationRenewed])
}

// answers takes who does not answer, nil for nobody. One look may fail by chance; two begin a loss of contact. That nobody can be seen, as
// while pods of the operator's are made anew, is one only in the end. Both begin the watch again, and are a reason not to begin.
func (s *firewallScope) answers(lost error) {
	w := s.watched
	s.seen.For = s.now.Sub(w.since)
	if lost == nil {
		w.seenAt, w.lost = s.now, 0
		return
	}
	w.since, s.seen.For = s.now, 0
	w.lost++
	if w.seenAt.IsZero() {
		w.seenAt = s.now
	}
	patient := w.lost < 2
	if errors.Is(lost, contact.ErrUnseen) {
		patient = s.now.Sub(w.seenAt) < unseenFor
	}
	if !s.onNodes() || !patient {
		s.seen.Contact = lost.Error()
	}
}

// contact returns an error about who does not answer. Nobody is asked where nothing hangs on it.
func (r *FirewallReconciler) contact(ctx context.Context, s *firewallScope) error {
	ready, err := r.readyNodes()
	if err != nil {
		return err
	}
	if err := s.stillReady(ready); err != nil {
		return err
	}
	idle := s.seen.Fit != trial.Fits || !s.seen.Armed || s.seen.Tried
	if !s.onNodes() && (s.seen.Stage != trial.Absent || idle) {
		return nil
	}
	pods, err := r.pods(ctx)
	if err != nil {
		return err
	}
	seen, err := r.Contact.Look(ctx, s.wanted.servers, pods)
	return cmp.Or(err, r.beyondTrial(seen))
}

// stillReady returns an error about a node that was Ready before it was tried, and is not.
func (s *firewallScope) stillReady(ready map[string]bool) error {
	w := s.watched
	switch {
	case !s.onNodes() || s.seen.Kept:
		w.ready = ready
	case len(w.ready) == 0:
		w.ready = map[string]bool{}
		for name := range ready { // one that is not Ready may have been, before it was tried
			w.ready[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.ready)) {
		if now, exists := ready[name]; exists && !now && w.ready[name] {
			return fmt.Errorf("node %s was Ready before, and is not", name)
		}
	}
	return nil
}

// onNodes says whether the live policy is the one that is wanted, on some nodes or all.
func (s *firewallScope) onNodes() bool {
	return s.seen.Stage == trial.OneNode || s.seen.Stage == trial.AllNodes
}

// beyondTrial returns an error if no kubelet was seen of a node that is not of the trial, and there is one: the way of an API server to a kubelet
// of its own host is not closed by any list, so it says nothing of others.
func (r *FirewallReconciler) beyondTrial(seen []string) error {
	nodes, _ := r.Platform.Sources.Nodes()
	others := false
	for i := range nodes {
		if nodes[i].Labels[policy.LabelHostFirewall] != policy.HostFirewallTrial {
			others = true
			if slices.Contains(seen, nodes[i].Name) {
				return nil
			}
		}
	}
	if !others {
		return nil
	}
	return fmt.Errorf("no replica of the operator's answers on a node beyond the trial's: kubectl -n %s get pods -o wide: %w", r.Own, contact.ErrUnseen)
}

// readyNodes says of each node whether it is Ready.
func (r *FirewallReconciler) readyNodes() (map[string]bool, error) {
	nodes, known := r.Platform.Sources.Nodes()
	if !known {
		return nil, fmt.Errorf("nodes are not known: %w", contact.ErrUnseen)
	}
	out := map[string]bool{}
	for i := range nodes {
		out[nodes[i].Name] = nodes[i].Ready
	}
	return out, nil
}

// pods returns running pods of the operator's, one for each node: its replicas and the dead man.
func (r *FirewallReconciler) pods(ctx context.Context) ([]contact.Pod, error) {
	byNode := map[string]contact.Pod{}
	for _, namespace := range []string{r.Own, deadman.Namespace} {
		var pods corev1.PodList
		if err := r.Live.List(ctx, &pods, client.InNamespace(namespace), client.Limit(100)); err != nil {
			return nil, fmt.Errorf("listing pods in %s: %s", namespace, replied(err))
		}
		for i := range pods.Items {
			if p := &pods.Items[i]; p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp.IsZero() {
				byNode[p.Spec.NodeName] = contact.Pod{Namespace: p.Namespace, Name: p.Name, Container: p.Spec.Containers[0].Name, Node: p.Spec.NodeName}
			}
		}
	}
	var out []contact.Pod
	for _, node := range slices.Sorted(maps.Keys(byNode)) {
		out = append(out, byNode[node])
	}
	return out, nil
}

// replied is what the API server says; what a connection says differs from time to time.
func replied(err error) string {
	if errors.Is(err, errForeign) {
		return err.Error()
	}
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return cause(err)
	}
	return "the API server does not answer"
}

func (r *FirewallReconciler) readLease(ctx context.Context, name string) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: deadman.Namespace, Name: name}, lease); err != nil {
		return nil, fmt.Errorf("lease %s/%s cannot be read: %s. Is config/hostfirewall/enforce applied?", deadman.Namespace, name, replied(err))
	}
	return lease, nil
}

// unarmed says why nobody would take the policy back, or "". He is alive if his Lease changes, by this process's own clock.
func (r *FirewallReconciler) unarmed(ctx context.Context, s *firewallScope) string {
	lease, err := r.readLease(ctx, deadman.PulseLease)
	if err != nil {
		return err.Error()
	}
	w := s.watched
	silent := w.hear(lease.ResourceVersion, s.now) > pulseAge
	s.seen.Awaited = !w.heard && !silent
	pulse, is := deadman.ReadPulse(lease)
	s.limit = pulse.Limit
	switch {
	case !is || !w.heard || silent:
		return "no dead man shows a pulse, who would take it back: kubectl -n " + deadman.Namespace + " get pods"
	case s.layer == nil:
		return "it is not known which policy engine there is"
	}
	if name := render.HostsPolicy(s.layer, s.name).GetName(); pulse.Policy != name {
		return fmt.Sprintf("the dead man guards policy %q, and not %s: his arguments and role have the name", pulse.Policy, name)
	}
	nodes, known := r.Platform.Sources.Nodes()
	if !known {
		s.seen.Awaited = true
		return "nodes are not known yet"
	}
	for i := range nodes {
		if nodes[i].Name == pulse.Node && nodes[i].Labels[policy.LabelHostFirewall] == policy.HostFirewallTrial {
			return ""
		}
	}
	return fmt.Sprintf("the dead man is on node %s, which has no label %s=%s", pulse.Node, policy.LabelHostFirewall, policy.HostFirewallTrial)
}

// hear returns for how long the dead man has been silent, whose Lease has a version now. Of a time in which nobody looked, as while the API server
// does not answer, nothing is known of him, but that he has to be heard again.
func (w *firewallWatched) hear(version string, now time.Time) time.Duration {
	switch gap := now.Sub(w.askedAt); {
	case w.pulse == "": // it may be of a man who is dead
	case version != w.pulse:
		w.heard, w.silent = gap <= pulseAge, 0
	case gap > pulseAge:
		w.heard = false
		w.silent += trialPace
	default:
		w.silent += gap
	}
	w.pulse, w.askedAt = version, now
	return w.silent
}

// take does what was decided, and says in the Lease that somebody is there: before it writes a policy, so that nobody takes one back that has
// just come, and never after it has lost contact.
func (r *FirewallReconciler) take(ctx context.Context, s *firewallScope) error {
	switch s.act {
	case trial.TakeBack:
		return r.takeBack(ctx, s)
	case trial.Try:
		return r.put(ctx, s, trial.OneNode)
	case trial.Widen:
		return r.put(ctx, s, trial.AllNodes)
	case trial.Keep:
		if err := r.sign(ctx, s, s.memory.Succeeded(s.intended)); err != nil {
			return err
		}
		s.seen.Kept = true
		ctrl.LoggerFrom(ctx).Info("The firewall on nodes is kept", "baseline", s.name)
	case trial.Restore:
		return r.hold(ctx, s, trial.AllNodes)
	case trial.Hold:
		if s.seen.Kept {
			s.memory = s.memory.Over()
		}
		return r.hold(ctx, s, s.seen.Stage)
	case trial.Wait:
		if s.live != nil && s.now.Sub(s.watched.knownAt) < blindFor {
			memory := s.memory
			memory.Renewed = nil
			if s.known && (s.seen.Stage == trial.Earlier || s.seen.Stage == trial.FewerPorts) {
				memory = memory.Over()
			}
			return r.sign(ctx, s, memory)
		}
	}
	return nil
}

// takeBack has the live policy say again what was kept, or deletes it: where nothing was, where nothing may be written, as in Audit, and where
// the API server refuses it.
func (r *FirewallReconciler) takeBack(ctx context.Context, s *firewallScope) error {
	why, strange, stage := s.why(), s.seen.Stage == trial.Strange, trial.Absent
	if kept := s.memory.Kept; kept != nil && s.handsOff == "" {
		err := r.putBack(ctx, s, policy.HostFirewall{Baseline: s.name, Allowed: kept.Allowed, Ports: kept.Ports})
		if stale(err) || err != nil && refusal(err) == "" && (s.live == nil || errors.Is(err, apply.ErrDeleted)) {
			return err // the next look goes on from the note
		}
		if err == nil {
			stage = trial.Earlier
		} else {
			ctrl.LoggerFrom(ctx).Info("The list that was kept could not be put back", "baseline", s.name, "cause", err.Error())
		}
	}
	if stage == trial.Absent && s.live != nil {
		if err := r.Applier.Delete(ctx, s.live); err != nil {
			return err // and no sign: the dead man may be able to
		}
	}
	s.seen.Stage = stage
	ctrl.LoggerFrom(ctx).Info("Took the firewall on nodes back", "baseline", s.name, "cause", why, "left", stage)
	if strange { // which says nothing of the list
		return nil
	}
	err := r.sign(ctx, s, s.memory.Failed(s.intended, why, stage == trial.Earlier))
	s.seen.Tried = err == nil
	return err
}

// putBack writes what was kept. Where that is to be made anew it is noted before, though contact may be lost, lest nothing stand if this process ends in
// between; once, because a note is a sign of life. Nothing else may follow, so the note is of a stage that is nobody's. One that cannot be written keeps
// nothing from being taken back.
func (r *FirewallReconciler) putBack(ctx context.Context, s *firewallScope, kept policy.HostFirewall) error {
	if s.memory.Renewed == nil && s.anew(kept) {
		if err := r.sign(ctx, s, s.memory.Renew(trial.Strange, s.now)); stale(err) {
			return err
		}
	}
	return r.write(ctx, s, kept)
}

// hold makes the live policy what it is to be at a stage, and leaves what is remembered.
func (r *FirewallReconciler) hold(ctx context.Context, s *firewallScope, stage trial.Stage) error {
	if err := r.sign(ctx, s, s.renewing(s.memory, s.at(stage))); err != nil {
		return err
	}
	if err := r.prepare(ctx, s); err != nil {
		return err
	}
	if err := r.write(ctx, s, s.at(stage)); err != nil {
		return err
	}
	s.seen.Stage = stage
	return nil
}

// put writes the policy for a stage, once it is remembered that it was tried: what comes after may be the end of this process.
func (r *FirewallReconciler) put(ctx context.Context, s *firewallScope, stage trial.Stage) error {
	if err := r.prepare(ctx, s); err != nil {
		return err
	}
	before, now := s.memory, s.memory
	if s.seen.Stage != trial.OneNode { // which is a part of the same try
		now = before.Begin(s.intended, s.seen.Stage, s.now)
	}
	if err := r.sign(ctx, s, s.renewing(now, s.at(stage))); err != nil {
		return err
	}
	err := r.write(ctx, s, s.at(stage))
	if (stale(err) || refusal(err) != "") && !errors.Is(err, apply.ErrDeleted) { // nothing was tried; of another error it is not known
		return errors.Join(err, r.sign(ctx, s, before))
	}
	if err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("Put the firewall on nodes", "baseline", s.name, "stage", stage)
	s.seen = now.See(s.seen, s.intended, "", s.now)
	s.seen.Stage = stage
	return nil
}
