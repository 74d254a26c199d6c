// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

// retryNotWhole is how long to wait for policy APIs that cannot be read.
const retryNotWhole = time.Second

// maxGuardMessage is the guard's part of keeping a status below 16 KiB.
const maxGuardMessage = 200

// GuardReconciler keeps the cluster-wide object of each baseline that asks for one. It runs on the elected replica alone:
// the objects of namespaces deny meanwhile.
type GuardReconciler struct {
	// Reader waits until the cache has seen our own writes; Cache does not.
	Reader, Cache client.Reader
	Applier       *apply.Applier
	Backends      *Backends
	Platform      *Platform
	Store         *Store
	Clock         clock.PassiveClock

	compiled compiledBaselines
	events   namedEvents
	// written holds the UID of each baseline's guard, in case somebody removes its labels; results holds a pcinetv1alpha1.Guard for each baseline, released the UID of one that is being deleted and
	// whose guard is gone; both by name.
	written, results, released sync.Map
}

// +kubebuilder:rbac:groups=cilium.io,resources=ciliumclusterwidenetworkpolicies,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=projectcalico.org,resources=globalnetworkpolicies;tier.globalnetworkpolicies,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=policy.networking.k8s.io,resources=clusternetworkpolicies,verbs=list;watch;create;update;delete

// Reconcile makes the guard of one baseline right, and removes those in other APIs. Cost: the names in the baseline.
func (r *GuardReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	b := &pcinetv1alpha1.PCINetworkBaseline{}
	err := r.Reader.Get(ctx, req.NamespacedName, b)
	if apierrors.IsNotFound(err) { // what it has written stays, as its policies do
		r.compiled.forget(req.Name)
		r.results.Delete(req.Name)
		r.released.Delete(req.Name)
		r.written.Delete(req.Name)
		return ctrl.Result{}, nil
	}
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("reading baseline %s: %w", req.Name, err)
	}
	if released(b) {
		if !r.Backends.Whole() { // or one that cannot be seen would stay
			return ctrl.Result{RequeueAfter: retryNotWhole}, nil
		}
		return ctrl.Result{}, r.release(ctx, b)
	}
	chosen := r.Backends.choose(b)
	compiled, invalid := r.compiled.get(b)
	switch {
	case chosen.api == nil, r.Backends.unsettledNow():
		return ctrl.Result{RequeueAfter: retryNotObserved}, nil
	case invalid != "", chosen.paused, b.Spec.Enforcement == pcinetv1alpha1.EnforcementAudit:
		r.tell(b, pcinetv1alpha1.Guard{}) // what was written stays, and is not repaired
		return ctrl.Result{}, nil
	case b.Spec.GuardLayer != pcinetv1alpha1.GuardLayerAuto:
		r.tell(b, pcinetv1alpha1.Guard{})
		return ctrl.Result{}, r.remove(ctx, b, nil)
	}
	return r.keep(ctx, b, compiled, r.Backends.guardFor(chosen.api.Name()))
}

// release removes the guard of a baseline that is being deleted and asked for that. The baseline waits for it.
func (r *GuardReconciler) release(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline) error {
	if err := r.remove(ctx, b, nil); err != nil {
		return err
	}
	r.released.Store(b.Name, b.UID)
	r.Store.notify(b.Name)
	return nil
}

// Released says whether the guard of a baseline that is being deleted is gone.
func (r *GuardReconciler) Released(b *pcinetv1alpha1.PCINetworkBaseline) bool {
	uid, _ := r.released.Load(b.Name)
	return uid == b.UID
}

// keep writes the guard in one API, and removes it from the others. Where the platform has none, one that is there stays.
func (r *GuardReconciler) keep(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline, compiled *plan.Baseline, api *guardAPI) (ctrl.Result, error) {
	if api == nil {
		r.tell(b, pcinetv1alpha1.Guard{State: pcinetv1alpha1.PolicyMissing, Message: "The platform has no cluster-wide policy API that the operator can write."})
		return ctrl.Result{}, nil
	}
	cluster, _, err := r.Platform.Current(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	now := r.Clock.Now()
	intent, changesAt := compiled.Guard(cluster, now)
	switch err := r.write(ctx, b, api, render.Guard(api, intent)); {
	case stale(err):
		return ctrl.Result{RequeueAfter: retryStale}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	var result ctrl.Result
	if !changesAt.IsZero() {
		result.RequeueAfter = changesAt.Sub(now)
	}
	return result, r.remove(ctx, b, api)
}

// write makes the live object equal to the intended one. Somebody else's object of that name is left alone.
func (r *GuardReconciler) write(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline, api *guardAPI, intended client.Object) error {
	told := pcinetv1alpha1.Guard{Resource: api.resource, State: pcinetv1alpha1.PolicyInPlace, Message: api.limits}
	live, err := r.live(ctx, api, b.Name)
	if err != nil {
		return err
	}
	if live != nil && !r.owns(b, live) {
		told.State, told.Message = pcinetv1alpha1.PolicyCollision, fmt.Sprintf("%s %s is somebody else's. Delete or rename it.", api.resource, live.GetName())
		r.tell(b, told)
		return nil
	}
	change, err := r.Applier.Write(ctx, intended, live)
	if stale(err) {
		return err
	}
	if err == nil {
		r.written.Store(b.Name, change.Object.GetUID())
	}
	if err != nil {
		told.State, told.Message = pcinetv1alpha1.PolicyMissing, "It could not be written: "+cause(err)
		if live != nil {
			told.State = pcinetv1alpha1.PolicyDrifted
		}
	}
	r.tell(b, told)
	return err
}

// owns says whether a live object is the baseline's: by its labels, or by the UID that we remember.
func (r *GuardReconciler) owns(b *pcinetv1alpha1.PCINetworkBaseline, live client.Object) bool {
	uid, _ := r.written.Load(b.Name)
	return render.Owner(live.GetLabels()) == b.Name || uid == live.GetUID()
}

// live returns the live object; a nil interface when there is none.
func (r *GuardReconciler) live(ctx context.Context, api *guardAPI, baseline string) (client.Object, error) {
	obj, _ := api.New()
	err := r.Cache.Get(ctx, client.ObjectKey{Name: render.GuardName(baseline)}, obj)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absent is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of baseline %s: %w", api.resource, baseline, err)
	}
	return obj, nil
}

// remove deletes the baseline's guard from every API but one. The namespaces' own policies go on denying.
func (r *GuardReconciler) remove(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline, but *guardAPI) error {
	var errs []error
	for _, api := range r.Backends.readableGuards() {
		if api == but {
			continue
		}
		live, err := r.live(ctx, api, b.Name)
		if err == nil && live != nil && r.owns(b, live) {
			err = r.Applier.Delete(ctx, live)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// tell keeps what the status of the baseline says of its guard, and wakes the reconciler that writes it.
func (r *GuardReconciler) tell(b *pcinetv1alpha1.PCINetworkBaseline, guard pcinetv1alpha1.Guard) {
	guard.Message = status.Clip(guard.Message, maxGuardMessage)
	if old, ok := r.results.Swap(b.Name, guard); !ok || old != guard {
		r.Store.notify(b.Name)
	}
}

// Of returns what is known of a baseline's guard, if anything is.
func (r *GuardReconciler) Of(baseline string) (guard pcinetv1alpha1.Guard, known bool) {
	value, _ := r.results.Load(baseline)
	guard, known = value.(pcinetv1alpha1.Guard)
	return guard, known
}

// SetupWithManager watches baselines, the platform, and the guards themselves. The watch of a kind may begin and end while
// this replica is a standby, on which no source is started: so their handlers find the queue when there is one.
func (r *GuardReconciler) SetupWithManager(mgr ctrl.Manager) error {
	r.Backends.watchGuards = r.events.watch
	r.events.of = render.GuardOf
	return ctrl.NewControllerManagedBy(mgr).
		Named("guard").
		WithOptions(options(false)).
		Watches(&pcinetv1alpha1.PCINetworkBaseline{}, &handler.EnqueueRequestForObject{}).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			r.events.queue.Store(&q)
			addBaselines(ctx, r.Cache, q, r.Platform.plans.subscribe())
			return nil
		})).
		Complete(r)
}

// namedEvents enqueue the baseline whose object has the name of the one that an event is of, whoever's it is.
type namedEvents struct {
	of    func(name string) (baseline string)
	queue atomic.Pointer[queue] // set at the start
}

func (e *namedEvents) watch(informer cache.Informer) error {
	_, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    e.event,
		UpdateFunc: func(_, now any) { e.event(now) },
		DeleteFunc: e.event,
	})
	return err
}

func (e *namedEvents) event(obj any) {
	if last, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = last.Obj
	}
	object, ok := obj.(client.Object)
	q := e.queue.Load()
	if !ok || q == nil {
		return
	}
	if baseline := e.of(object.GetName()); baseline != "" {
		(*q).Add(ctrl.Request{NamespacedName: client.ObjectKey{Name: baseline}})
	}
}
