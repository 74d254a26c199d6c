// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
)

const (
	// standbyDelay is how long a standby waits before it looks whether the active replica has done the work.
	standbyDelay = 500 * time.Millisecond
	// background is the priority of work that new namespaces and repairs overtake: the initial list, changed baselines.
	background = handler.LowPriority
	// reconcileTimeout bounds one reconcile, which may wait for the cache to see our own writes.
	reconcileTimeout = 30 * time.Second
	// retryFirst and retryLast bound the backoff of failed reconciles: what waits when an outage ends is not to wait much longer.
	retryFirst, retryLast = 10 * time.Millisecond, 5 * time.Second
)

type queue = workqueue.TypedRateLimitingInterface[ctrl.Request]

// options are those of every controller, on every replica or on the elected one. Left alone, one that fails would be tried again up to
// 16 minutes later.
func options(everywhere bool) controller.Options {
	return controller.Options{
		NeedLeaderElection:    new(!everywhere),
		ReconciliationTimeout: reconcileTimeout,
		RateLimiter:           workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](retryFirst, retryLast),
	}
}

// SetupWithManager watches everything that makes a namespace need another look. An event costs O(1): one key. Only a
// changed baseline, a changed platform and the election look at every namespace, in the background.
func (r *NamespaceReconciler) SetupWithManager(mgr ctrl.Manager, workers int) error {
	r.fights = newFights(clock.RealClock{}, r.Metrics.Fights.Inc)
	opts := options(true)
	opts.MaxConcurrentReconciles = workers
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named("namespace").
		WithOptions(opts).
		Watches(&corev1.Namespace{}, r.namespaceHandler()).
		Watches(&networkingv1.NetworkPolicy{}, r.contentHandler(&r.Backends.policies[0].kind, newVersion)).
		Watches(&pcinetv1alpha1.NamespaceCoverage{}, r.contentHandler(&coverages, newVersion), builder.WithPredicates(existing)).
		Watches(&corev1.Pod{}, r.contentHandler(&kind{}, newPhase)).
		Watches(&pcinetv1alpha1.PCINetworkBaseline{}, r.baselineHandler()).
		WatchesRawSource(source.Func(r.everything)).
		Build(r)
	if err != nil {
		return err
	}
	r.Backends.watchPolicies = func(obj client.Object, k *kind) error {
		return c.Watch(source.Kind[client.Object](mgr.GetCache(), obj, r.contentHandler(k, newVersion)))
	}
	return nil
}

// add enqueues a namespace; on a standby after a delay, so that the active replica goes first.
func (r *NamespaceReconciler) add(q queue, namespace string, priority int) {
	r.addAfter(q, namespace, priority, 0)
}

func (r *NamespaceReconciler) addAfter(q queue, namespace string, priority int, after time.Duration) {
	opts := priorityqueue.AddOpts{Priority: &priority, After: after}
	if !r.elected() {
		opts.After = max(after, standbyDelay)
	}
	req := ctrl.Request{}
	req.Name = namespace
	if pq, ok := q.(priorityqueue.PriorityQueue[ctrl.Request]); ok {
		pq.AddWithOpts(opts, req)
		return
	}
	q.AddAfter(req, opts.After)
}

// namespaceHandler drops updates that change neither labels nor the deletion: nothing else of a namespace matters.
func (r *NamespaceReconciler) namespaceHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if e.IsInInitialList {
				r.Store.Expect(e.Object.GetName())
				r.add(q, e.Object.GetName(), background)
				return
			}
			r.Store.Born(e.Object.GetName(), r.Clock.Now())
			r.add(q, e.Object.GetName(), 0)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if !maps.Equal(e.ObjectOld.GetLabels(), e.ObjectNew.GetLabels()) ||
				e.ObjectOld.GetUID() != e.ObjectNew.GetUID() ||
				e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero() {
				r.add(q, e.ObjectNew.GetName(), 0)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			r.add(q, e.Object.GetName(), 0)
		},
	}
}

// contentHandler is for what lives in namespaces. The initial list needs no events: it is complete before the first
// namespace is looked at. Nor do our own writes: whoever writes a policy looks again to record it. In a fight an event waits until
// something can be done about it.
func (r *NamespaceReconciler) contentHandler(k *kind, matters func(o, n client.Object) bool) handler.EventHandler {
	look := func(q queue, obj client.Object, priority int) {
		r.addAfter(q, obj.GetNamespace(), priority, r.fights.seen(k.key(obj), r.elected()))
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			if !e.IsInInitialList && !r.echo(k, e.Object) {
				look(q, e.Object, background) // creations only add
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) {
			if matters(e.ObjectOld, e.ObjectNew) && !r.echo(k, e.ObjectNew) {
				look(q, e.ObjectNew, 0)
			}
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
			look(q, e.Object, 0)
		},
	}
}

// echo says whether an object is as we ourselves have just written it.
func (r *NamespaceReconciler) echo(k *kind, obj client.Object) bool {
	by := r.author(k.key(obj))
	return by.uid == obj.GetUID() && by.version == obj.GetResourceVersion()
}

// existing drops creations: nobody but us creates coverages, and whoever does makes ours collide.
var existing = predicate.Funcs{CreateFunc: func(event.CreateEvent) bool { return false }}

func newVersion(o, n client.Object) bool { return o.GetResourceVersion() != n.GetResourceVersion() }

func newPhase(o, n client.Object) bool {
	before, okBefore := o.(*corev1.Pod)
	after, okAfter := n.(*corev1.Pod)
	return okBefore && okAfter && before.Status.Phase != after.Status.Phase
}

// baselineHandler looks at every namespace when a baseline's spec changed, or it came or went.
func (r *NamespaceReconciler) baselineHandler() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) {
			if !e.IsInInitialList {
				r.addAll(ctx, q)
			}
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.GetGeneration() != e.ObjectNew.GetGeneration() || e.ObjectOld.GetUID() != e.ObjectNew.GetUID() ||
				e.ObjectOld.GetAnnotations()[pcinetv1alpha1.AnnotationBreakGlass] != e.ObjectNew.GetAnnotations()[pcinetv1alpha1.AnnotationBreakGlass] {
				r.addAll(ctx, q)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			r.compiled.forget(e.Object.GetName())
			r.Backends.forget(e.Object.GetName())
			r.addAll(ctx, q)
		},
	}
}

// everything looks at every namespace when the platform changed, and once this replica may remove objects.
func (r *NamespaceReconciler) everything(ctx context.Context, q queue) error {
	r.queue = q
	changed, proofs := r.Platform.plans.subscribe(), r.Proofs.changed.subscribe()
	go func() {
		elected := r.Elected
		for {
			select {
			case <-ctx.Done():
				return
			case <-elected:
				elected = nil
			case <-changed:
			case <-proofs:
				r.add(q, probe.Namespace, background)
				continue
			}
			r.addAll(ctx, q)
		}
	}()
	return nil
}

// addAll enqueues every namespace. Cost: one key each.
func (r *NamespaceReconciler) addAll(ctx context.Context, q queue) {
	var namespaces corev1.NamespaceList
	if err := r.Cache.List(ctx, &namespaces); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Listing namespaces from the cache") // only while shutting down
		return
	}
	for i := range namespaces.Items {
		r.add(q, namespaces.Items[i].Name, background)
	}
}
