// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe/contact"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
)

const (
	// trialPace and keptPace are how often it is looked whether everybody answers, while it is tried and after; at keptPace the dead man,
	// who waits for minutes, is told that somebody is there.
	trialPace, keptPace = 2 * time.Second, 10 * time.Second
	// pulseAge is for how long a dead man who has shown a pulse is alive: he shows one every 2 s, or after an API server that does not
	// answer, 6 s.
	pulseAge = 15 * time.Second
	// blindFor is for how long a policy is stood by of which it is not known whether it is wanted, as after a start.
	blindFor = 2 * time.Minute
	// unseenFor is for how long nobody by whom kubelets could be seen is no loss of contact: a rollout of the operator takes less.
	unseenFor = 2 * time.Minute
	// unfitFor is for how long a list may be refused that is tried, as when a node has joined and its HostEndpoint is made a moment later.
	unfitFor = time.Minute
	// answerWithin is how long is waited for the policy.
	answerWithin = 5 * time.Second
	// annotationKept and annotationTried hold, on the operator's Lease, what is remembered.
	annotationKept, annotationTried = "pcinetwork.dev/host-firewall-kept", "pcinetwork.dev/host-firewall"
	// annotationRenewed holds that the policy was deleted to be made anew.
	annotationRenewed = "pcinetwork.dev/host-firewall-renewed"
	// annotationBackend is whose policies that was in: what one engine let in says nothing of another, which knows nodes otherwise.
	annotationBackend = "pcinetwork.dev/host-firewall-backend"
)

// FirewallReconciler tries a firewall on nodes, and keeps it, for each baseline that asks for it: docs/host-firewall.md. It runs on the
// elected replica alone. All that must outlast it is in the cluster: package trial says how.
type FirewallReconciler struct {
	// Cache lists baselines. Live asks the API server, for the baseline, the policy and both Leases: what is decided on must not be old.
	Cache, Live client.Reader
	Applier     *apply.Applier
	Backends    *Backends
	Platform    *Platform
	Contact     *contact.Looker
	Recorder    events.EventRecorder
	Clock       clock.PassiveClock
	// Own is the operator's namespace.
	Own string

	firewalls *firewalls
	events    namedEvents
	watched   map[string]*firewallWatched // by baseline; of one worker
}

// firewallWatched is what this process has seen of one baseline's firewall.
type firewallWatched struct {
	stage trial.Stage
	// since is when it was first at this stage, with everybody answering.
	since time.Time
	// pulse is the version of the dead man's Lease when it was looked at last, heard that it has changed since the first look, or
	// since nobody could look, and silent for how long it has not.
	pulse   string
	askedAt time.Time
	heard   bool
	silent  time.Duration
	// ready are the nodes that were Ready before it was tried, or when this process saw it first.
	ready map[string]bool
	uid   types.UID // of the policy
	// seenAt is when everybody could be seen last, or when this process began to look; lookedAt when it looked last, and lost is how many
	// looks in a row somebody did not answer.
	seenAt, lookedAt time.Time
	lost             int
	// unfitAt is since when the list that is tried would be refused; zero if it would not.
	unfitAt time.Time
	// knownAt is when it was known last what is wanted; before that, when this process began to look.
	knownAt time.Time
}

// firewallScope is what one reconcile goes by.
type firewallScope struct {
	name     string
	now      time.Time
	baseline *pcinetv1alpha1.PCINetworkBaseline // nil for none; set by load, as all until watched
	live     *unstructured.Unstructured         // the policy, nil for none
	unread   error                              // of an API in which there may be one, too
	layer    render.HostLayer                   // the live policy's API, or else the one that is wanted; nil while that is not known
	wanted   firewall
	known    bool // what is wanted is of the spec as it is
	watched  *firewallWatched
	// set by observe:
	lease    *coordinationv1.Lease // the operator's; nil if it cannot be read
	memory   trial.Memory          // as the Lease holds it
	intended policy.HostFirewall   // on all nodes
	seen     trial.Seen
	// unarmed says why it would not be taken back, or "".
	unarmed string
	limit   time.Duration // for how long the dead man bears silence; 0 while that is not known
	act     trial.Act     // set by decide
	// handsOff says why nothing is changed, or "".
	handsOff string
}

// Reconcile takes the firewall of one baseline a step further. Cost while one is asked for: eight requests, and those of contact.Look, every
// 10 s, or every 2 s while it is tried.
func (r *FirewallReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s, err := r.load(ctx, req.Name)
	if err != nil {
		r.blind(req.Name, err)
		return ctrl.Result{}, err
	}
	if s.baseline == nil || !enforcesHosts(s.baseline) {
		return ctrl.Result{}, errors.Join(r.withdraw(ctx, s), s.unread)
	}
	if s.unseen() {
		r.blind(req.Name, s.unread)
		return ctrl.Result{}, errors.Join(s.unread, r.standBy(ctx, s))
	}
	if s.live != nil && !r.owns(s) {
		r.tell(ctx, s, pending(fmt.Sprintf("%s %s is somebody else's: delete or rename it", s.live.GetKind(), s.live.GetName())))
		return ctrl.Result{RequeueAfter: keptPace}, nil
	}
	if s.known && s.wanted.layer != nil && s.wanted.layer != s.layer { // no sign of life either: nobody can tell what it does
		r.tell(ctx, s, pending(fmt.Sprintf("%s %s is of another engine than %s: set hostFirewall to Off, and when it is gone to Enforce again", s.live.GetKind(), s.live.GetName(), s.wanted.layer.Name())))
		return ctrl.Result{RequeueAfter: keptPace}, nil
	}
	r.observe(ctx, s)
	r.decide(s)
	if err = r.take(ctx, s); stale(err) {
		return ctrl.Result{RequeueAfter: retryStale}, nil
	}
	r.record(ctx, s, err)
	return ctrl.Result{RequeueAfter: s.pace()}, err
}

// unseen says whether the policy may be there and cannot be looked at: one of another engine is not the one.
func (s *firewallScope) unseen() bool {
	return s.unread != nil && (s.live == nil || s.wanted.layer != nil && s.layer != s.wanted.layer)
}

// pace is until when to look again.
func (s *firewallScope) pace() time.Duration {
	if s.act == trial.Wait || s.seen.Kept {
		return keptPace
	}
	return trialPace
}

// load reads the baseline and the live policy, and takes what is wanted.
func (r *FirewallReconciler) load(ctx context.Context, name string) (*firewallScope, error) {
	s := &firewallScope{name: name, now: r.Clock.Now()}
	b := &pcinetv1alpha1.PCINetworkBaseline{}
	switch err := r.Live.Get(ctx, client.ObjectKey{Name: name}, b); {
	case err == nil:
		s.baseline = b
		s.wanted, s.known = r.firewalls.of(b)
	case !gone(err): // a definition that is deleted takes baselines with it, and that is nobody's wish
		return nil, fmt.Errorf("reading baseline %s: %w", name, err)
	}
	s.layer = s.wanted.layer
	for _, l := range hostLayers {
		live, err := r.livePolicy(ctx, l, name)
		if err != nil && s.wanted.layer != nil && l != s.wanted.layer {
			continue // of an engine that is not here: what is there has no effect, and an API that it has left must not open nodes
		}
		s.unread = errors.Join(s.unread, err)
		if live != nil && (s.live == nil || l == s.wanted.layer) {
			s.live, s.layer = live, l
		}
	}
	if s.watched = r.watched[name]; s.watched == nil {
		s.watched = &firewallWatched{}
		if r.watched == nil {
			r.watched = map[string]*firewallWatched{}
		}
		r.watched[name] = s.watched
	}
	return s, nil
}

// livePolicy reads the policy for the nodes of a baseline in one API; nil for none.
func (r *FirewallReconciler) livePolicy(ctx context.Context, l render.HostLayer, baseline string) (*unstructured.Unstructured, error) {
	is := render.HostsPolicy(l, baseline)
	list := &unstructured.UnstructuredList{}
	ctx, cancel := context.WithTimeout(ctx, answerWithin) // of what the engine serves itself: the rest of the look needs time, too
	defer cancel()
	kind := is.GetObjectKind().GroupVersionKind()
	list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
	err := r.Live.List(ctx, list, client.MatchingFields{"metadata.name": is.GetName()})
	switch {
	case apierrors.IsNotFound(err): // its kind is not served
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the policy for nodes of baseline %s in %s: %w", baseline, l.Name(), err)
	case len(list.Items) == 0 || list.Items[0].GetName() != is.GetName():
		return nil, nil
	}
	return &list.Items[0], nil
}

// blind takes back what was said of a firewall that cannot be looked at any more.
func (r *FirewallReconciler) blind(name string, err error) {
	w := r.watched[name]
	if w == nil || r.Clock.Since(w.lookedAt) < pulseAge {
		return
	}
	if wanted, known := r.firewalls.wanted.Load(name); known {
		if f, ok := wanted.(firewall); ok {
			r.firewalls.tell(f.policy, snapshot.Firewall{Why: "how far it is cannot be seen: " + replied(err)})
		}
	}
}

// owns says whether the live policy is the baseline's, by its labels or because this process has written it.
func (r *FirewallReconciler) owns(s *firewallScope) bool {
	return render.Owner(s.live.GetLabels()) == s.name || s.watched.uid == s.live.GetUID()
}

// withdraw deletes the policy of a baseline that does not ask for it, or is gone.
func (r *FirewallReconciler) withdraw(ctx context.Context, s *firewallScope) error {
	r.firewalls.states.Delete(s.name)
	if s.live != nil && r.owns(s) {
		if err := r.forget(ctx, s); err != nil {
			return err
		}
		if err := r.Applier.Delete(ctx, s.live); err != nil {
			return err
		}
		ctrl.LoggerFrom(ctx).Info("Took the firewall on nodes back: nobody asks for it any more", "baseline", s.name)
	}
	delete(r.watched, s.name)
	return nil
}

// decide says what to do. While changes are not repaired, as in Audit, nothing is, but for taking back what is tried. Without the Lease, where
// notes are, nothing is known of what was; it is not renewed then, and the dead man has the last word.
func (r *FirewallReconciler) decide(s *firewallScope) {
	s.act = trial.Next(s.seen)
	switch {
	case s.baseline.Spec.Enforcement == pcinetv1alpha1.EnforcementAudit:
		s.handsOff = "the baseline's enforcement is Audit, so that nothing is written"
	case plan.ParseBreakGlass(s.baseline, s.now).InForce:
		s.handsOff = "the glass is broken, so that nothing is written"
	}
	cutOff := s.act == trial.TakeBack && s.onNodes()                  // whoever broke the glass may be
	unclear := s.wanted.layer == nil && s.seen.Stage == trial.Strange // while nobody knows the engine, nobody knows what is strange
	if s.handsOff != "" && !cutOff || !s.known || s.lease == nil || unclear {
		s.act = trial.Wait
	}
}

// SetupWithManager watches baselines, what is wanted for them, and the policies, whose informer begins when their kind is served.
func (r *FirewallReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.Backends.watchHosts = r.events.watch
	r.events.of = render.HostsOf
	return ctrl.NewControllerManagedBy(mgr).
		Named("firewall").
		WithOptions(options(false)).
		Watches(&pcinetv1alpha1.PCINetworkBaseline{}, &handler.EnqueueRequestForObject{},
			builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{}))).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			r.events.queue.Store(&q)
			addBaselines(ctx, r.Cache, q, r.firewalls.changed.subscribe())
			return nil
		})).
		Complete(r)
}

// at returns what is intended at a stage.
func (s *firewallScope) at(stage trial.Stage) policy.HostFirewall {
	out := s.intended
	if stage == trial.OneNode {
		out.Nodes = policy.TrialNodes()
	}
	return out
}

// read returns what the live policy says; nil if that is no firewall that could be ours.
func (s *firewallScope) read() *policy.HostFirewall {
	if s.live == nil {
		return nil
	}
	if live, ok := s.layer.Read(s.live.Object); ok {
		return &live
	}
	return nil
}

// stage is how far the live policy is.
func (s *firewallScope) stage() trial.Stage {
	if s.live == nil {
		return s.memory.Resumed(s.intended, s.limit, s.now)
	}
	return trial.StageOf(s.read(), s.intended, policy.TrialNodes(), s.memory.Kept)
}
