// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controllers joins the parts: it watches, and carries each event through load, observe, decide, render, compare,
// act, judge and record. docs/architecture.md follows one event along that way.
package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/facts"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
)

// retryRefused is how long to wait before trying again what the API server refused: nothing tells us when a quota is
// raised or a role restored.
const retryRefused = 30 * time.Second

// soon is after how long a coverage follows its policies, in the background: the policies of every namespace that waits go
// first. Deny, then tell.
const soon = time.Millisecond

// retryNotObserved is how long to wait for the first observation of the platform, and errNotObserved that it is missing.
const retryNotObserved = 50 * time.Millisecond

var errNotObserved = errors.New("the platform was not observed yet")

// retryStale is how long to give the cache after it turned out to be behind.
const retryStale = 20 * time.Millisecond

// catchUp is how long a read waits for the cache to see what this process wrote. While a watch is down it sees nothing, and every
// worker that waits is one less for namespaces that are open.
const catchUp = time.Second

// NamespaceReconciler keeps one namespace as every baseline wants it. It runs on every replica: writing a deny is
// idempotent and does not wait for a lease. Only removals wait for election.
type NamespaceReconciler struct {
	// Reader waits until the cache has seen our own writes; Cache does not, and is for what others write. Live asks the API
	// server, before anything is removed and when the cache must be behind.
	Reader, Cache, Live client.Reader
	// Applier writes what Reader reads. Natives writes policies of other APIs, whose caches come and go and are not waited for.
	Applier, Natives *apply.Applier
	Backends         *Backends
	Platform         *Platform
	Store            *Store
	Proofs           *Proofs
	Metrics          *metrics.Metrics
	Recorder         events.EventRecorder
	Clock            clock.PassiveClock
	// Elected is closed once this replica may remove objects.
	Elected <-chan struct{}

	compiled compiledBaselines
	fights   *fights
	queue    queue     // set by everything, before the first reconcile
	sorted   sync.Once // triage
	// authored holds, by objectKey, the author of each policy that was written and is in no coverage yet.
	authored sync.Map
	// failing holds, by namespace and baseline, since when writes have failed for want of an answer.
	failing sync.Map
}

// author says which generation of which baseline wrote a policy, for which namespace, and what it became: its UID and
// resourceVersion.
type author struct {
	baseline   string
	generation int64
	namespace  types.UID
	uid        types.UID
	version    string
}

// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=pods;services,verbs=list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch
// +kubebuilder:rbac:groups=networking.k8s.io,resources=networkpolicies,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=cilium.io,resources=ciliumnetworkpolicies,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=projectcalico.org,resources=networkpolicies;stagednetworkpolicies;tier.networkpolicies;tier.stagednetworkpolicies,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=projectcalico.org,resources=tiers,verbs=get,resourceNames=default;pcinb-hosts
// +kubebuilder:rbac:groups=pcinetwork.dev,resources=pcinetworkbaselines,verbs=get;list;watch
// +kubebuilder:rbac:groups=pcinetwork.dev,resources=namespacecoverages,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Reconcile makes one namespace right for every baseline. Cost: the baselines, and the policies of that namespace.
func (r *NamespaceReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	r.sorted.Do(func() { r.triage(ctx) })
	ns := &corev1.Namespace{}
	err := r.Cache.Get(ctx, client.ObjectKey{Name: req.Name}, ns)
	switch {
	case apierrors.IsNotFound(err):
		r.forget(req.Name)
		return ctrl.Result{}, nil
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("reading namespace %s: %w", req.Name, err)
	}
	look := r.leave
	if ns.DeletionTimestamp.IsZero() {
		look = r.coverAll
		defer r.Store.Expect(ns.Name) // whatever comes of it, from now on no baseline is complete without it
	}
	result, err := look(ctx, ns)
	if errors.Is(err, errNotObserved) {
		return ctrl.Result{RequeueAfter: retryNotObserved}, nil
	}
	return result, err
}

// forget drops what is remembered of a namespace that is gone. Cost: what was written and is in no coverage yet, or could not
// be written, which is little at any time.
func (r *NamespaceReconciler) forget(namespace string) {
	r.Store.ForgetNamespace(namespace)
	r.fights.forget(namespace)
	r.authored.Range(func(key, _ any) bool {
		if name, ok := key.(objectKey); ok && name.namespace == namespace {
			r.authored.Delete(key)
		}
		return true
	})
	r.failing.Range(func(key, _ any) bool {
		if name, ok := key.(types.NamespacedName); ok && name.Namespace == namespace {
			r.failing.Delete(key)
		}
		return true
	})
}

func (r *NamespaceReconciler) coverAll(ctx context.Context, ns *corev1.Namespace) (ctrl.Result, error) {
	scopes, err := r.load(ctx, ns)
	if err != nil {
		return ctrl.Result{}, err
	}
	var result ctrl.Result
	var errs []error
	for _, s := range scopes {
		after, err := r.cover(ctx, s)
		result.RequeueAfter = sooner(result.RequeueAfter, after)
		if s.deferred {
			result.Priority = new(background)
		}
		errs = append(errs, err)
	}
	errs = append(errs, r.dropOrphans(ctx, ns.Name, scopes))
	if err := errors.Join(errs...); err != nil {
		return ctrl.Result{}, err
	}
	r.Store.Grown(ns.Name)
	return result, nil
}

// load observes the namespace and returns a scope for each baseline.
func (r *NamespaceReconciler) load(ctx context.Context, ns *corev1.Namespace) ([]*scope, error) {
	cluster, sequence, err := r.Platform.Current(ctx)
	if err != nil {
		return nil, err
	}
	reader := contemporary{r.Cache, r.Live, ns}
	observed, err := facts.Namespace(ctx, reader, ns)
	if err != nil {
		return nil, err
	}
	policies, err := r.Backends.list(ctx, reader, ns.Name)
	if err != nil {
		return nil, err
	}
	for _, p := range observed.Policies {
		policies = append(policies, livePolicy{p, r.Backends.policies[0]})
	}
	var list pcinetv1alpha1.PCINetworkBaselineList
	if err := r.Cache.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing baselines: %w", err)
	}
	known := map[string]bool{}
	for i := range list.Items {
		known[list.Items[i].Name] = true
	}
	foreign := foreignPolicies(observed.Policies, known)
	scopes := make([]*scope, 0, len(list.Items))
	for i := range list.Items {
		backend := r.Backends.choose(&list.Items[i])
		if backend.api == nil {
			return nil, errNotObserved
		}
		scopes = append(scopes, &scope{
			baseline: &list.Items[i], namespace: observed, cluster: cluster, sequence: sequence, foreign: foreign, live: policies, backend: backend, now: r.Clock.Now(),
		})
	}
	return scopes, nil
}

// cover makes the namespace right for one baseline and records it.
func (r *NamespaceReconciler) cover(ctx context.Context, s *scope) (time.Duration, error) {
	for _, phase := range []func(context.Context, *scope) error{
		r.decide, r.compare, r.act, r.judge, r.record,
	} {
		if err := phase(ctx, s); err != nil {
			return 0, fmt.Errorf("namespace %s, baseline %s: %w", s.namespace.Name, s.baseline.Name, err)
		}
	}
	switch {
	case s.transient == nil:
		r.failing.Delete(s.key())
		return s.requeueAfter, nil
	case errors.Is(s.transient, errStale) && r.passing(s):
		return retryStale, nil
	}
	return 0, s.transient
}

// decide plans what the namespace should have. A spec that cannot be planned changes nothing: what protects now stays.
func (r *NamespaceReconciler) decide(ctx context.Context, s *scope) error {
	coverage := &pcinetv1alpha1.NamespaceCoverage{}
	err := r.readOwn(ctx, s.key(), coverage)
	if errors.Is(err, context.DeadlineExceeded) { // it is no reason to leave a namespace open
		err = r.Cache.Get(ctx, s.key(), coverage)
	}
	switch {
	case err == nil:
		s.previous = coverage
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("reading the coverage: %w", err)
	}
	if released(s.baseline) {
		s.decision = plan.Decision{Verdict: plan.OutOfScope}
		return nil
	}
	var compiled *plan.Baseline
	if compiled, s.invalid = r.compiled.get(s.baseline); s.invalid != "" {
		return nil
	}
	s.decision = compiled.For(s.namespace, s.cluster, s.now)
	s.glass = plan.ParseBreakGlass(s.baseline, s.now)
	for _, at := range []time.Time{s.decision.ChangesAt, s.glass.ChangesAt} {
		if !at.IsZero() {
			s.requeueAfter = sooner(s.requeueAfter, at.Sub(s.now))
		}
	}
	return nil
}

// readOwn reads what this process writes, once the cache has seen it.
func (r *NamespaceReconciler) readOwn(ctx context.Context, key client.ObjectKey, obj client.Object) error {
	ctx, cancel := context.WithTimeout(ctx, catchUp)
	defer cancel()
	return r.Reader.Get(ctx, key, obj)
}

// released says whether the baseline is being deleted and asked for its policies to be removed.
func released(b *pcinetv1alpha1.PCINetworkBaseline) bool {
	return !b.DeletionTimestamp.IsZero() && b.Spec.DeletionPolicy == pcinetv1alpha1.DeletionPolicyDelete
}

// dropOrphans deletes the coverages of baselines that are gone. It never deletes a policy: a baseline that is gone and
// did not ask for removal retains them all.
func (r *NamespaceReconciler) dropOrphans(ctx context.Context, namespace string, scopes []*scope) error {
	var coverages pcinetv1alpha1.NamespaceCoverageList
	if err := r.Cache.List(ctx, &coverages, client.InNamespace(namespace)); err != nil {
		return fmt.Errorf("listing coverages: %w", err)
	}
	known := map[string]bool{}
	for _, s := range scopes {
		known[s.baseline.Name] = true
	}
	var errs []error
	for i := range coverages.Items {
		c := &coverages.Items[i]
		if known[c.Name] || !r.elected() {
			continue
		}
		err := r.Live.Get(ctx, client.ObjectKey{Name: c.Name}, &pcinetv1alpha1.PCINetworkBaseline{})
		if apierrors.IsNotFound(err) {
			err = ignoreStale(r.Applier.Delete(ctx, c))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (r *NamespaceReconciler) elected() bool { return closed(r.Elected) }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// sooner returns the shorter of two delays, of which zero means never.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

func ignoreStale(err error) error {
	if stale(err) {
		return nil
	}
	return err
}
