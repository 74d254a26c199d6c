// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

const (
	// statusOwner owns the baseline reconciler's part of a status. Never rename it.
	statusOwner = "pci-network-baseline/baseline"
	// finalizer holds a baseline with deletionPolicy Delete until its policies are removed.
	finalizer = "pcinetwork.dev/remove-policies"
	// debounce is how long sums may change before they are written: a thousand namespaces make a few writes.
	debounce = 250 * time.Millisecond
	// countPeriod is how often a status is written when only counts change: where namespaces come and go all the time, it
	// would otherwise be written four times a second for ever.
	countPeriod = 2 * time.Second
	// holdAtStart is how long the status of the last process may stand while namespaces are looked at again.
	holdAtStart = 10 * time.Second
)

// BaselineReconciler sums the namespaces of a baseline up in its status. It writes no policy and runs on the elected
// replica alone.
type BaselineReconciler struct {
	// Reader waits until the cache has seen our own writes; Cache does not. Live and Natives do without caches, and Lease is the
	// lease of the replica that leads: for what is said before any cache is there.
	Reader, Cache, Live client.Reader
	Applier, Natives    *apply.Applier
	Lease               client.ObjectKey
	Platform            *Platform
	Store               *Store
	Metrics             *metrics.Metrics
	Recorder            events.EventRecorder
	Clock               clock.PassiveClock
	Backends            *Backends
	Guards              *GuardReconciler
	Proofs              *Proofs
	Admissions          *AdmissionReconciler
	Watches             *Watches
	Managements         *ManagementReconciler

	// Set by expectAll, hold and writeStatus; there is one worker.
	expected bool
	started  time.Time
	counted  map[string]time.Time // when a baseline's status was last written, by name
}

// +kubebuilder:rbac:groups=pcinetwork.dev,resources=pcinetworkbaselines,verbs=list;watch;patch
// +kubebuilder:rbac:groups=pcinetwork.dev,resources=pcinetworkbaselines/status,verbs=patch
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

// Reconcile writes the status of one baseline. Cost: the offending namespaces, not all of them.
func (r *BaselineReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	if err := r.expectAll(ctx); err != nil {
		return ctrl.Result{}, err
	}
	b := &pcinetv1alpha1.PCINetworkBaseline{}
	if err := r.read(ctx, req.NamespacedName, b); err != nil {
		if apierrors.IsNotFound(err) {
			r.forget(req.Name)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, err
	}
	cluster, _, err := r.Platform.Current(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	backend := r.Backends.choose(b)
	if backend.api == nil {
		return ctrl.Result{RequeueAfter: retryNotObserved}, nil
	}
	s := &baselineScope{
		baseline: b, cluster: cluster, engine: r.Platform.Engine(), backend: backend, now: r.Clock.Now(),
		tally: r.Store.Tally(b), blind: r.Watches.blind(blindAfter),
	}
	s.guard, s.guardKnown = r.Guards.Of(b.Name)
	s.proof, s.lastRound, s.proofKnown = r.Proofs.of(b, s.now)
	s.admission, s.admissionKnown = r.Admissions.Of(b.Name)
	s.management, s.managementKnown = r.Managements.of(b)
	if after := r.hold(s); after > 0 {
		return ctrl.Result{RequeueAfter: after}, nil
	}
	done, err := r.finalize(ctx, s)
	if done || err != nil {
		return ctrl.Result{}, err
	}
	later, err := r.writeStatus(ctx, s)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: sooner(later, s.nextClock())}, nil
}

// read reads a baseline, once the cache has seen what was written to it. While the watch is down it sees nothing, and what it has
// must do to say so.
func (r *BaselineReconciler) read(ctx context.Context, key client.ObjectKey, b *pcinetv1alpha1.PCINetworkBaseline) error {
	waiting, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	err := r.Reader.Get(waiting, key, b)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil && r.Watches.blind(blindAfter) != (blindness{}) {
		err = r.Cache.Get(ctx, key, b)
	}
	if err != nil {
		return fmt.Errorf("reading baseline %s: %w", key.Name, err)
	}
	return nil
}

// hold says how long to wait before a status is written at all. After a restart the sums are incomplete for a moment, and clouds were
// not asked, while the status that the last process left may well be right still: a restart in sync must write nothing.
func (r *BaselineReconciler) hold(s *baselineScope) time.Duration {
	if r.started.IsZero() {
		r.started = s.now
	}
	known := s.guardKnown || s.baseline.Spec.GuardLayer != pcinetv1alpha1.GuardLayerAuto
	known = known && s.tally.Behind == 0 && s.engine.Observed && s.admissionKnown && s.proofKnown &&
		(s.managementKnown && s.management.complete || managesNothing(s.baseline))
	if known || s.baseline.Status.ObservedGeneration != s.baseline.Generation {
		return 0
	}
	return max(0, r.started.Add(holdAtStart).Sub(s.now))
}

// expectAll tells the store once of every namespace there is, so that no baseline looks complete before each has
// reported. A namespace that goes away meanwhile may have been forgotten before it was expected, hence the second look.
func (r *BaselineReconciler) expectAll(ctx context.Context) error {
	if r.expected {
		return nil
	}
	var namespaces corev1.NamespaceList
	if err := r.Cache.List(ctx, &namespaces); err != nil {
		return fmt.Errorf("listing namespaces: %w", err)
	}
	for i := range namespaces.Items {
		name := namespaces.Items[i].Name
		if !namespaces.Items[i].DeletionTimestamp.IsZero() {
			continue // not in scope any more; one that does not go may have reported
		}
		r.Store.Expect(name)
		ns := &corev1.Namespace{}
		if err := r.Cache.Get(ctx, client.ObjectKey{Name: name}, ns); apierrors.IsNotFound(err) || !ns.DeletionTimestamp.IsZero() {
			r.Store.ForgetNamespace(name)
		}
	}
	r.expected = true
	return nil
}

func (r *BaselineReconciler) forget(baseline string) {
	r.Store.ForgetBaseline(baseline)
	r.Metrics.Forget(baseline)
	delete(r.counted, baseline)
}

// finalize keeps the finalizer where deletionPolicy asks for removal, and takes it away once every namespace has reported
// that nothing of the baseline is left there. It says whether the baseline is gone.
func (r *BaselineReconciler) finalize(ctx context.Context, s *baselineScope) (done bool, err error) {
	b := s.baseline
	held := slices.Contains(b.Finalizers, finalizer)
	wanted := b.Spec.DeletionPolicy == pcinetv1alpha1.DeletionPolicyDelete
	if !b.DeletionTimestamp.IsZero() {
		wanted = held && wanted && (!s.tally.empty() || !r.Guards.Released(b) || !r.Backends.Whole())
	}
	if held == wanted {
		return false, nil
	}
	finalizers := slices.DeleteFunc(slices.Clone(b.Finalizers), func(f string) bool { return f == finalizer })
	if wanted {
		finalizers = append(finalizers, finalizer)
	}
	err = r.Applier.SetFinalizers(ctx, b, finalizers)
	if apierrors.IsNotFound(err) {
		err = nil
	}
	return !b.DeletionTimestamp.IsZero(), ignoreStale(err)
}

// empty says whether every namespace has reported and none holds anything.
func (t Tally) empty() bool { return t.Behind == 0 && len(t.States) == 0 }

// writeStatus writes the status when it changed, and events of conditions that did. It says when to come back if only counts
// have changed and it is too soon for them.
func (r *BaselineReconciler) writeStatus(ctx context.Context, s *baselineScope) (later time.Duration, err error) {
	b, want := s.baseline, s.status()
	r.Metrics.Observe(b.Name, want)
	if apiequality.Semantic.DeepEqual(want, b.Status) {
		return 0, nil
	}
	now := clock.RealClock{}.Now() // not what is judged by, which may stand still
	if left := r.counted[b.Name].Add(countPeriod).Sub(now); left > 0 && countsAlone(want, b.Status) {
		return left, nil
	}
	if r.counted == nil {
		r.counted = map[string]time.Time{}
	}
	r.counted[b.Name] = now
	return 0, r.put(ctx, r.Applier, b, want)
}

// put writes a status, and events of what it changes.
func (r *BaselineReconciler) put(ctx context.Context, applier *apply.Applier, b *pcinetv1alpha1.PCINetworkBaseline, want pcinetv1alpha1.PCINetworkBaselineStatus) error {
	payload, err := status.Payload(pcinetv1alpha1.GroupVersion.WithKind("PCINetworkBaseline"), b, &want)
	if err != nil {
		return err
	}
	if err := applier.ApplyStatus(ctx, payload, statusOwner); err != nil {
		return client.IgnoreNotFound(err) // deleted meanwhile
	}
	r.announce(b, want.Conditions)
	r.announceBreakGlass(b, want.Admission)
	return nil
}

// countsAlone says whether two statuses differ in counts, and in messages that hold counts, alone.
func countsAlone(want, have pcinetv1alpha1.PCINetworkBaselineStatus) bool {
	bare := func(s pcinetv1alpha1.PCINetworkBaselineStatus) *pcinetv1alpha1.PCINetworkBaselineStatus {
		out := s.DeepCopy()
		out.Covered, out.Namespaces = "", nil
		for i := range out.Conditions {
			out.Conditions[i].Message = ""
		}
		return out
	}
	return apiequality.Semantic.DeepEqual(bare(want), bare(have))
}

// announced are the conditions whose changes are worth an event; the others follow from them.
var announced = []string{
	pcinetv1alpha1.ConditionReady, pcinetv1alpha1.ConditionPolicyEngineSupported, pcinetv1alpha1.ConditionDefaultDenyEffective,
	pcinetv1alpha1.ConditionEnforcementProven,
	pcinetv1alpha1.ConditionExemptionsCurrent, pcinetv1alpha1.ConditionReviewCurrent,
	pcinetv1alpha1.ConditionManagementAccessRestricted, pcinetv1alpha1.ConditionManagementTrafficEncrypted,
}

// announce emits an event for each announced condition that changed, but not for progress. The first look announces only
// what is wrong.
func (r *BaselineReconciler) announce(b *pcinetv1alpha1.PCINetworkBaseline, now []metav1.Condition) {
	for _, c := range now {
		wrong := c.Status == metav1.ConditionFalse || c.Reason == pcinetv1alpha1.ReasonNamespaceTerminating ||
			c.Reason == pcinetv1alpha1.ReasonNotWatched
		old := apimeta.FindStatusCondition(b.Status.Conditions, c.Type)
		if old == nil {
			old = &metav1.Condition{Status: c.Status, Reason: c.Reason}
			if wrong {
				old.Reason = ""
			}
		}
		if (old.Status == c.Status && old.Reason == c.Reason) ||
			c.Reason == pcinetv1alpha1.ReasonProgressing || !slices.Contains(announced, c.Type) {
			continue
		}
		kind := eventNormal
		if wrong {
			kind = eventWarning
		}
		r.Recorder.Eventf(b, nil, kind, c.Reason, "Judge", "%s", strings.TrimSpace(fmt.Sprintf("%s is %s. %s", c.Type, c.Status, c.Message)))
	}
}

// announceBreakGlass tells of the beginning and the end of a break-glass, and of an annotation that is not in force.
func (r *BaselineReconciler) announceBreakGlass(b *pcinetv1alpha1.PCINetworkBaseline, now pcinetv1alpha1.AdmissionStatus) {
	warn := func(reason, format string, args ...any) {
		r.Recorder.Eventf(b, nil, eventWarning, reason, "BreakGlass", format, args...)
	}
	old := b.Status.Admission
	switch {
	case broken(now) && !sameAdmission(now, old):
		warn("BreakGlassOpened", "Everybody may change the policies of baseline %s until %s: %s", b.Name, now.BreakGlass.Until.UTC().Format(time.RFC3339), now.BreakGlass.Reason)
	case broken(old) && !broken(now):
		warn("BreakGlassClosed", "The policies of baseline %s are guarded and repaired again", b.Name)
	case now.State == pcinetv1alpha1.PolicyInPlace && now.Message != "" && now.Message != old.Message:
		warn("BreakGlassIgnored", "%s", now.Message)
	}
}

// SetupWithManager watches baselines, the store and the policy engine.
func (r *BaselineReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.Watches.disown = r.disown
	return ctrl.NewControllerManagedBy(mgr).
		Named("baseline").
		WithOptions(options(false)).
		Watches(&pcinetv1alpha1.PCINetworkBaseline{}, r.handler()).
		WatchesRawSource(source.Func(r.fromStore)).
		WatchesRawSource(source.Func(r.fromPlatform)).
		Complete(r)
}

func (r *BaselineReconciler) handler() handler.EventHandler {
	add := func(q queue, obj client.Object, after time.Duration) {
		q.AddAfter(ctrl.Request{NamespacedName: client.ObjectKeyFromObject(obj)}, after)
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { add(q, e.Object, 0) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { add(q, e.ObjectNew, debounce) },
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) { add(q, e.Object, 0) },
	}
}

// fromStore lets the store wake this controller. The queue keeps the earliest time of a key, so changes within debounce
// become one reconcile.
func (r *BaselineReconciler) fromStore(_ context.Context, q queue) error {
	r.Store.OnChange(func(baseline string) {
		req := ctrl.Request{}
		req.Name = baseline
		q.AddAfter(req, debounce)
	})
	return nil
}

// fromPlatform has every baseline judged again when the policy engine has changed, what is proven of it, or what can be seen.
func (r *BaselineReconciler) fromPlatform(ctx context.Context, q queue) error {
	addBaselines(ctx, r.Cache, q, r.Platform.assessments.subscribe())
	addBaselines(ctx, r.Cache, q, r.Proofs.changed.subscribe())
	addBaselines(ctx, r.Cache, q, r.Watches.changed.subscribe())
	return nil
}

// addBaselines enqueues every baseline whenever something changed, until ctx ends.
func addBaselines(ctx context.Context, cache client.Reader, q queue, changed <-chan struct{}) {
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			var baselines pcinetv1alpha1.PCINetworkBaselineList
			if err := cache.List(ctx, &baselines); err != nil {
				ctrl.LoggerFrom(ctx).Error(err, "Listing baselines from the cache") // only while shutting down
				return
			}
			for i := range baselines.Items {
				q.AddAfter(ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&baselines.Items[i])}, debounce)
			}
		}
	}()
}
