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

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
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
		s.lease = lease
	}
	s.seen.Armed = s.unarmed == ""
	s.seen.Note, s.seen.Fit = s.note(s.wanted.policy), s.wanted.fit
	s.seen.Stage = s.stage()
	w := s.watched
	if s.known || w.knownAt.IsZero() {
		w.knownAt = s.now
	}
	if !s.known {
		return
	}
	if w.stage != s.seen.Stage {
		w.begun, w.since = s.now, s.now
	}
	if s.now.Sub(w.lookedAt) > pulseAge { // nobody has looked meanwhile
		w.since = s.now
	}
	s.seen.AtStage = s.now.Sub(w.begun)
	confirmed := s.baseline.Annotations[pcinetv1alpha1.AnnotationHostFirewallConfirmed]
	s.seen.Confirmed = confirmed == trial.Hash(s.wanted.policy.Allowed) || s.before().Within(s.intent(trial.AllNodes))
	w.stage, w.lookedAt = s.seen.Stage, s.now
	s.answers(r.contact(ctx, s))
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
	idle := s.seen.Fit != trial.Fits || !s.seen.Armed || s.seen.Note.Outcome == trial.Tried
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
	kept, w := s.seen.Note.Outcome == trial.Kept, s.watched
	switch {
	case !s.onNodes() || kept:
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
		if nodes[i].Labels[render.LabelHostFirewall] != render.HostFirewallTrial {
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
	switch {
	case w.pulse == "": // may be of a man who is dead
		w.began = s.now
	case lease.ResourceVersion != w.pulse:
		w.pulseAt = s.now
	}
	w.pulse = lease.ResourceVersion
	s.seen.Awaited = w.pulseAt.IsZero() && s.now.Sub(w.began) < pulseAge
	pulse, is := deadman.ReadPulse(lease)
	switch {
	case !is || s.now.Sub(w.pulseAt) > pulseAge:
		return "no dead man shows a pulse, who would take it back: kubectl -n " + deadman.Namespace + " get pods"
	case pulse.Policy != render.HostsName(s.name):
		return fmt.Sprintf("the dead man guards policy %q, and not %s: his arguments and role have the name", pulse.Policy, render.HostsName(s.name))
	}
	nodes, known := r.Platform.Sources.Nodes()
	if !known {
		s.seen.Awaited = true
		return "nodes are not known yet"
	}
	for i := range nodes {
		if nodes[i].Name == pulse.Node && nodes[i].Labels[render.LabelHostFirewall] == render.HostFirewallTrial {
			return ""
		}
	}
	return fmt.Sprintf("the dead man is on node %s, which has no label %s=%s", pulse.Node, render.LabelHostFirewall, render.HostFirewallTrial)
}

// take does what was decided, and says in the Lease that somebody is there: before it writes a policy, so that nobody takes one back that has
// just come, and never after it has lost contact.
func (r *FirewallReconciler) take(ctx context.Context, s *firewallScope) error {
	log := ctrl.LoggerFrom(ctx).WithValues("baseline", s.name, "stage", s.seen.Stage)
	switch s.act {
	case trial.TakeBack:
		return r.takeBack(ctx, s)
	case trial.Try:
		return r.put(ctx, s, trial.OneNode)
	case trial.Widen:
		return r.put(ctx, s, trial.AllNodes)
	case trial.Keep:
		kept := s.intent(trial.AllNodes)
		s.seen.Note = trial.NewNote(kept, trial.Kept, "").After(trial.StandingOf(kept))
		log.Info("The firewall on nodes is kept")
		return r.sign(ctx, s, s.seen.Note.String())
	case trial.Restore:
		s.seen.Stage = trial.AllNodes
		return r.hold(ctx, s)
	case trial.Hold:
		return r.hold(ctx, s)
	case trial.Wait:
		if s.live != nil && s.now.Sub(s.watched.knownAt) < blindFor {
			return r.sign(ctx, s, s.noted())
		}
	}
	return nil
}

// takeBack has the live policy say again what was kept before, or deletes it.
func (r *FirewallReconciler) takeBack(ctx context.Context, s *firewallScope) error {
	why, before, strange := s.why(), s.before(), s.seen.Stage == trial.Strange
	note := trial.NewNote(s.intent(trial.AllNodes), trial.Tried, why).After(before)
	var err error
	if before == nil {
		err = r.Applier.Delete(ctx, s.live)
	} else {
		err = r.write(ctx, s, policy.HostFirewall{Baseline: s.name, Allowed: before.Allowed, Ports: before.Ports})
		s.seen.Stage = trial.Earlier
	}
	if err != nil {
		return err // and no sign: the dead man may be able to
	}
	ctrl.LoggerFrom(ctx).Info("Took the firewall on nodes back", "baseline", s.name, "cause", why, "restored", before != nil)
	if strange { // which says nothing of the list
		return nil
	}
	s.seen.Note = note
	return r.sign(ctx, s, note.String())
}

// hold makes the live policy what it is to be, and leaves what is noted.
func (r *FirewallReconciler) hold(ctx context.Context, s *firewallScope) error {
	if err := r.sign(ctx, s, s.noted()); err != nil {
		return err
	}
	return r.write(ctx, s, s.intent(s.seen.Stage))
}

// put writes the policy for a stage, once the note is written that it was tried: what comes after may be the end of this process.
func (r *FirewallReconciler) put(ctx context.Context, s *firewallScope, stage trial.Stage) error {
	noted, note := s.noted(), trial.NewNote(s.intent(stage), trial.Tried, "").After(s.before())
	if err := r.sign(ctx, s, note.String()); err != nil {
		return err
	}
	err := r.write(ctx, s, s.intent(stage))
	if stale(err) || refusal(err) != "" { // nothing was tried; of another error it is not known
		return errors.Join(err, r.sign(ctx, s, noted))
	}
	if err != nil {
		return err
	}
	ctrl.LoggerFrom(ctx).Info("Put the firewall on nodes", "baseline", s.name, "stage", stage)
	s.seen.Stage = stage
	return nil
}

// write makes the live policy say what is intended.
func (r *FirewallReconciler) write(ctx context.Context, s *firewallScope, f policy.HostFirewall) error {
	objects := render.HostFirewall(layer, f)
	if len(objects) != 1 {
		return errors.New("there is no port to close, or nobody to let in")
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(objects[0])
	if err != nil {
		return err
	}
	intended := &unstructured.Unstructured{Object: content}
	var live client.Object
	if s.live != nil {
		live = s.live
	}
	change, err := r.Applier.Write(ctx, intended, live)
	if err == nil {
		s.watched.uid = change.Object.GetUID()
	}
	return err
}

// before is what was kept before what is tried, nil for nothing.
func (s *firewallScope) before() *trial.Standing {
	switch s.seen.Stage {
	case trial.Absent: // whoever deleted it had a reason
		return nil
	case trial.Earlier:
		live, _ := s.read()
		return trial.StandingOf(live)
	default:
		return s.seen.Note.Before
	}
}

// noted is what is noted, of whatever list; "" for nothing.
func (s *firewallScope) noted() string {
	if s.lease == nil {
		return ""
	}
	return s.lease.Annotations[annotationTrial]
}

// sign says in the Lease that somebody is there, and notes a text.
func (r *FirewallReconciler) sign(ctx context.Context, s *firewallScope, note string) error {
	if s.lease == nil {
		return errors.New("nothing can be noted: " + s.unarmed)
	}
	lease := s.lease.DeepCopy()
	lease.Spec.HolderIdentity = new("pci-network-baseline")
	lease.Spec.RenewTime = new(metav1.NewMicroTime(r.Clock.Now()))
	if note == "" {
		delete(lease.Annotations, annotationTrial)
	} else {
		metav1.SetMetaDataAnnotation(&lease.ObjectMeta, annotationTrial, note)
	}
	err := r.Applier.Replace(ctx, lease)
	if err == nil {
		s.lease = lease
	}
	return err
}
