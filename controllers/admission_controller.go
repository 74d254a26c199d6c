// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/sets"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/admission"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// AdmissionReconciler keeps what the API server refuses as the baselines ask for it. ValidatingAdmissionPolicies cannot guard
// each other, so whatever somebody changes of them is written again. It runs on the elected replica alone: the API server goes
// on refusing meanwhile.
type AdmissionReconciler struct {
	// Reader waits until the cache has seen our own writes; Live asks the API server, before a binding of a baseline that is gone
	// is removed.
	Reader, Live client.Reader
	Cache        cache.Informers
	Applier      *apply.Applier
	Platform     *Platform
	Store        *Store
	Clock        clock.PassiveClock
	Metrics      *metrics.Metrics
	Recorder     events.EventRecorder
	// Operator is the user name of the operator's account.
	Operator string

	compiled compiledBaselines
	results  sync.Map                    // a pcinetv1alpha1.AdmissionStatus for each baseline, by name
	user     string                      // who the API server says we are, once it was asked
	queue    queue                       // set at the start
	watched  sets.Set[string]            // resources whose events lead to the queue
	readable atomic.Bool                 // all of them are watched
	kept     map[objectKey]client.Object // as they were last made right by this process; there is one worker
}

// The API server wants whoever writes a policy or binding with a parameter to be able to get that parameter
// (k8s.io/kubernetes pkg/registry/admissionregistration/validatingadmissionpolicybinding/authz.go).
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicies,verbs=list;watch;create
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicies,verbs=update,resourceNames=pcinb-pod-gate;pcinb-tamper-guard;pcinb-own-limits
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingadmissionpolicybindings,verbs=list;watch;create;update;delete
// +kubebuilder:rbac:groups=pcinetwork.dev,resources=namespacecoverages,verbs=get
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=selfsubjectreviews,verbs=create

// Reconcile makes all policies and bindings right. Cost: the baselines, whatever the event; there are few.
//
// The policies stay when there is no baseline: without bindings they do nothing, and to remove them would take a right that a
// thief could use.
func (r *AdmissionReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	cluster, _, err := r.Platform.Current(ctx)
	if err != nil {
		return ctrl.Result{}, err
	}
	var baselines pcinetv1alpha1.PCINetworkBaselineList
	if err := r.Reader.List(ctx, &baselines); err != nil {
		return ctrl.Result{}, fmt.Errorf("listing baselines: %w", err)
	}
	err = r.recognise(ctx)
	if err == nil {
		err = r.watch(ctx)
	}
	if err != nil {
		for i := range baselines.Items {
			b := &baselines.Items[i]
			r.tell(b, admissionStatus(plan.ParseBreakGlass(b, r.Clock.Now()), err))
		}
		return ctrl.Result{RequeueAfter: retryNotWhole}, nil
	}
	return r.keepAll(ctx, baselines.Items, cluster)
}

// recognise makes sure, before the first object is written, that they let pass who the operator is: under another name it would shut
// itself out of what it has to repair.
func (r *AdmissionReconciler) recognise(ctx context.Context) error {
	if r.user == "" {
		user, err := r.Applier.User(ctx)
		if err != nil {
			return &unkept{"The operator's own name cannot be asked for", err}
		}
		if r.user = user; user != r.Operator {
			ctrl.LoggerFrom(ctx).Info("Objects of admission are not written, because they would shut out the operator", "user", user, "account", r.Operator)
		}
	}
	if r.user != r.Operator {
		return &stranger{r.user, r.Operator}
	}
	return nil
}

// watch makes the policies and bindings readable, and has their events lead to a reconcile. A controller's own watch would end
// the whole operator after two minutes without the right to list them.
func (r *AdmissionReconciler) watch(ctx context.Context) error {
	for _, kind := range []struct { // in order, so that a message stays what it is
		resource string
		object   client.Object
		list     client.ObjectList
	}{
		{"validatingadmissionpolicies", &admissionregistrationv1.ValidatingAdmissionPolicy{}, &admissionregistrationv1.ValidatingAdmissionPolicyList{}},
		{"validatingadmissionpolicybindings", &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}, &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{}},
	} {
		informer, err := r.informer(ctx, kind.object)
		if err != nil {
			if why := r.Live.List(ctx, kind.list, client.Limit(1)); why != nil { // the cache keeps it to itself
				err = why
			}
			return &unkept{kind.resource + " cannot be read", err}
		}
		if r.watched.Has(kind.resource) {
			continue
		}
		again := func(any) { r.queue.Add(ctrl.Request{}) }
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: again, UpdateFunc: func(_, now any) { again(now) }, DeleteFunc: again})
		if err != nil {
			return err
		}
		r.watched.Insert(kind.resource)
	}
	r.readable.Store(true)
	return nil
}

// informer returns what reads a kind, once its first list is there.
func (r *AdmissionReconciler) informer(ctx context.Context, object client.Object) (cache.Informer, error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	return r.Cache.GetInformer(ctx, object)
}

// keepAll makes the objects of all baselines right, and removes those that no baseline asks for.
func (r *AdmissionReconciler) keepAll(ctx context.Context, baselines []pcinetv1alpha1.PCINetworkBaseline, cluster snapshot.Cluster) (ctrl.Result, error) {
	shared := r.keepPolicies(ctx, cluster)
	errs := []error{shared}
	wanted := map[string]bool{admission.OwnLimits: true}
	var result ctrl.Result
	for i := range baselines {
		b := &baselines[i]
		after, err := r.keep(ctx, b, cluster, wanted, shared)
		result.RequeueAfter = sooner(result.RequeueAfter, after)
		errs = append(errs, err)
	}
	errs = append(errs, r.prune(ctx, wanted))
	err := errors.Join(errs...)
	if wrong := withoutStale(err); wrong != nil {
		return ctrl.Result{}, wrong
	}
	if stale(err) {
		return ctrl.Result{RequeueAfter: retryStale}, nil
	}
	return result, nil
}

// keepPolicies writes the policies and the binding of the own limits.
func (r *AdmissionReconciler) keepPolicies(ctx context.Context, cluster snapshot.Cluster) error {
	config := admission.Config{
		Operator: r.Operator, DeadMan: DeadMan, Never: cluster.SystemNamespaces, Tracking: apply.TrackingPrefixes(),
		Canaries: admission.Canaries{Namespace: probe.Namespace, Policies: probe.PolicyNames()},
	}
	var errs []error
	for _, p := range admission.Policies(config) {
		errs = append(errs, r.write(ctx, p, &admissionregistrationv1.ValidatingAdmissionPolicy{}))
	}
	return errors.Join(append(errs, r.write(ctx, admission.Limits(), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}))...)
}

// keep writes the bindings of one baseline, and tells of them. Bindings of a baseline that cannot be planned stay as they are. It
// says when time alone changes them.
func (r *AdmissionReconciler) keep(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline, cluster snapshot.Cluster, wanted map[string]bool, shared error) (time.Duration, error) {
	now := r.Clock.Now()
	glass := plan.ParseBreakGlass(b, now)
	compiled, invalid := r.compiled.get(b)
	if invalid != "" {
		wanted[admission.BindingName(b.Name, admission.PodGate)] = true
		wanted[admission.BindingName(b.Name, admission.TamperGuard)] = true
		return 0, nil
	}
	intent, changesAt := intended(compiled, cluster, glass, now)
	errs := []error{shared}
	for _, binding := range admission.Bindings(intent) {
		wanted[binding.Name] = true
		errs = append(errs, r.write(ctx, binding, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}))
	}
	err := errors.Join(errs...)
	if wrong := withoutStale(err); wrong != nil || err == nil {
		r.tell(b, admissionStatus(glass, wrong))
	}
	var after time.Duration
	for _, at := range []time.Time{changesAt, glass.ChangesAt} {
		if !at.IsZero() {
			after = sooner(after, max(at.Sub(now), time.Millisecond))
		}
	}
	return after, err
}

// intended is what a baseline asks for. Under Audit nothing is refused, because nothing is repaired.
func intended(b *plan.Baseline, cluster snapshot.Cluster, glass plan.BreakGlass, now time.Time) (admission.Baseline, time.Time) {
	out := admission.Baseline{Name: b.Name}
	if b.Spec.Enforcement == pcinetv1alpha1.EnforcementAudit {
		return out, time.Time{}
	}
	var changesAt time.Time
	out.Namespaces, changesAt = b.Gate(cluster, now)
	if !released(b.PCINetworkBaseline) {
		out.Gate = mode(b.Spec.Admission.PodGate)
	}
	out.Tamper = mode(b.Spec.Admission.TamperGuard)
	if glass.InForce && out.Tamper == admission.Deny {
		out.Tamper = admission.Warn
	}
	return out, changesAt
}

// mode translates; an unset mode is that of the default, which closes.
func mode(m pcinetv1alpha1.AdmissionMode) admission.Mode {
	switch m {
	case pcinetv1alpha1.AdmissionOff:
		return admission.Off
	case pcinetv1alpha1.AdmissionWarn:
		return admission.Warn
	default:
		return admission.Deny
	}
}

// write makes one object right. Its name is ours, whoever made it: a policy of that name that did nothing would be no guard.
func (r *AdmissionReconciler) write(ctx context.Context, intended, live client.Object) error {
	err := r.Reader.Get(ctx, client.ObjectKeyFromObject(intended), live)
	switch {
	case apierrors.IsNotFound(err):
		live = nil
	case err != nil:
		return fmt.Errorf("reading %s: %w", intended.GetName(), err)
	}
	change, err := r.Applier.Write(ctx, intended, live)
	if err != nil {
		return &unkept{intended.GetName() + " cannot be written", err}
	}
	key := keptKey(intended)
	if last := r.kept[key]; last != nil && change.Operation != apply.None && apply.Diff(intended, last).None() {
		r.repaired(ctx, change)
	}
	if r.kept == nil {
		r.kept = map[objectKey]client.Object{}
	}
	r.kept[key] = intended
	return nil
}

// keptKey tells a policy from a binding of its name.
func keptKey(obj client.Object) objectKey {
	return objectKey{resource: fmt.Sprintf("%T", obj), name: obj.GetName()}
}

// repaired tells that somebody has opened the guard or the gate, or tried to. Who it was is in the API server's audit log: its own
// controllers write to policies too.
func (r *AdmissionReconciler) repaired(ctx context.Context, change apply.Change) {
	what, cause := "it had been deleted", metrics.CauseDeleted
	if change.Operation == apply.Updated {
		what, cause = strings.Join(change.Drift.Fields, ", ")+" changed", metrics.CauseEdited
	}
	name := change.Object.GetName()
	r.Metrics.Repairs.WithLabelValues(cause).Inc()
	ctrl.LoggerFrom(ctx).Info("Restored an object of admission", "name", name, "cause", cause, "fields", change.Drift.Fields)
	r.Recorder.Eventf(change.Object, nil, eventWarning, "AdmissionRepaired", "Restore-"+cause, "Restored %s: %s. The API server's audit log has who did it.", name, what)
}

// unkept says what cannot be read or written, and wraps the reason.
type unkept struct {
	what string
	error
}

func (e *unkept) Unwrap() error { return e.error }

// stranger says that the operator has another name than its policies let pass.
type stranger struct{ user, account string }

func (e *stranger) Error() string {
	return "Objects of admission are not written: they would shut out the operator, which is " + e.user
}

// prune deletes the bindings of ours that nobody wants any more.
func (r *AdmissionReconciler) prune(ctx context.Context, wanted map[string]bool) error {
	var bindings admissionregistrationv1.ValidatingAdmissionPolicyBindingList
	if err := r.Reader.List(ctx, &bindings, client.MatchingLabels{render.LabelManagedBy: render.ManagedBy}); err != nil {
		return fmt.Errorf("listing the bindings of admission policies: %w", err)
	}
	var errs []error
	for i := range bindings.Items {
		b := &bindings.Items[i]
		baseline := render.Owner(b.Labels)
		if wanted[b.Name] || baseline == "" {
			continue
		}
		gone, err := r.unasked(ctx, b.Name, baseline)
		if gone && err == nil {
			err = r.Applier.Delete(ctx, b)
			delete(r.kept, keptKey(b))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// unasked says whether, as the API server knows it, a baseline is gone or does not ask for a binding.
func (r *AdmissionReconciler) unasked(ctx context.Context, binding, baseline string) (bool, error) {
	b := &pcinetv1alpha1.PCINetworkBaseline{}
	err := r.Live.Get(ctx, client.ObjectKey{Name: baseline}, b)
	if apierrors.IsNotFound(err) {
		r.compiled.forget(baseline)
		r.results.Delete(baseline)
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading baseline %s: %w", baseline, err)
	}
	asked := b.Spec.Admission.TamperGuard
	if binding == admission.BindingName(baseline, admission.PodGate) {
		asked = b.Spec.Admission.PodGate
		if released(b) {
			return true, nil
		}
	}
	return b.Spec.Enforcement == pcinetv1alpha1.EnforcementAudit || mode(asked) == admission.Off, nil
}

// tell keeps what the status of the baseline says, and wakes the reconciler that writes it.
func (r *AdmissionReconciler) tell(b *pcinetv1alpha1.PCINetworkBaseline, now pcinetv1alpha1.AdmissionStatus) {
	if old, ok := r.results.Swap(b.Name, now); !ok || !apiequality.Semantic.DeepEqual(old, any(now)) {
		r.Store.notify(b.Name)
	}
}

// Of returns what is known of a baseline's admission objects, if anything is.
func (r *AdmissionReconciler) Of(baseline string) (now pcinetv1alpha1.AdmissionStatus, known bool) {
	value, _ := r.results.Load(baseline)
	now, known = value.(pcinetv1alpha1.AdmissionStatus)
	return now, known
}

// SetupWithManager watches baselines and the platform; watch does the objects themselves. All events have one key.
func (r *AdmissionReconciler) SetupWithManager(mgr ctrl.Manager) error {
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request { return []ctrl.Request{{}} })
	return ctrl.NewControllerManagedBy(mgr).
		Named("admission").
		WithOptions(options(false)).
		Watches(&pcinetv1alpha1.PCINetworkBaseline{}, one).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			r.queue, r.watched = q, sets.New[string]()
			q.Add(ctrl.Request{}) // without any baseline our own limits hold
			r.Platform.plans.each(ctx, func() { q.Add(ctrl.Request{}) })
			return nil
		})).
		Complete(r)
}
