// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/internal/facts"
	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/probe/contact"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cluster"
)

// Account returns the user name of the operator's account, which is in its own namespace (config/rbac).
func Account(namespace string) string {
	return "system:serviceaccount:" + namespace + ":pci-network-baseline"
}

// DeadMan is the user name of the dead man's account (config/hostfirewall).
const DeadMan = "system:serviceaccount:" + deadman.Namespace + ":dead-man"

// eventSource is the operator's name in events.
const eventSource = "pci-network-baseline"

// startTimeout is how long to wait for the API server, and for our kinds, at the start.
const startTimeout = 24 * time.Hour

// Options are what Setup needs beside the manager.
type Options struct {
	// Namespace is the operator's own.
	Namespace string
	// ProbeImage is what canaries run; empty for the image of the operator's own pod, whose name is Pod.
	ProbeImage, Pod string
	// Workers is how many namespaces are worked on at a time.
	Workers int
	// Clouds asks clouds in the operator's name; nil for one without an identity.
	Clouds *cloud.Reader
	// Registry takes the metrics; nil for controller-runtime's.
	Registry crmetrics.RegistererGatherer
	// Clock is nil for the real one. Who has a faster one looks after canaries as often as ProbeLook says; 0 for every 5 s. Reports
	// are looked at as often as ReportPeriod says; 0 for once a minute.
	Clock                   clock.PassiveClock
	ProbeLook, ReportPeriod time.Duration
}

func (o Options) defaulted() Options {
	if o.Registry == nil {
		o.Registry = crmetrics.Registry
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Clouds == nil {
		o.Clouds = &cloud.Reader{}
	}
	o.ProbeLook, o.ReportPeriod = cmp.Or(o.ProbeLook, lookAgain), cmp.Or(o.ReportPeriod, reportPeriod)
	return o
}

// newScheme returns a scheme with every kind that is read or written.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, pcinetv1alpha1.AddToScheme, calico.AddToScheme, cilium.AddToScheme, cluster.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

// newMapper maps the kinds that are read or written by a table. One that asks the API server ends the operator when that does
// not answer at the start, or does not know our kinds yet; and the kubelet lets a program that ends wait, in the end for 5 minutes.
func newMapper(scheme *runtime.Scheme) (apimeta.RESTMapper, error) {
	mapper := apimeta.NewDefaultRESTMapper(nil)
	add := func(obj client.Object, scope apimeta.RESTScope) error {
		gvk, err := apiutil.GVKForObject(obj, scheme)
		mapper.Add(gvk, scope)
		mapper.Add(gvk.GroupVersion().WithKind(gvk.Kind+"List"), scope) // a cache of several namespaces asks for it
		return err
	}
	var errs []error
	for _, obj := range append(facts.Cached(), &coordinationv1.Lease{}, &authenticationv1.SelfSubjectReview{},
		&admissionregistrationv1.ValidatingAdmissionPolicy{}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}) {
		switch obj.(type) {
		case *corev1.Namespace, *pcinetv1alpha1.PCINetworkBaseline, *authenticationv1.SelfSubjectReview,
			*admissionregistrationv1.ValidatingAdmissionPolicy, *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
			errs = append(errs, add(obj, apimeta.RESTScopeRoot))
		default:
			errs = append(errs, add(obj, apimeta.RESTScopeNamespace))
		}
	}
	for obj, k := range newBackends().kinds() {
		errs = append(errs, add(obj, pick(k.cluster, apimeta.RESTScopeRoot, apimeta.RESTScopeNamespace)))
	}
	for _, l := range hostLayers {
		for _, obj := range l.Render(metav1.ObjectMeta{}, policy.HostFirewall{}) {
			mapper.Add(obj.GetObjectKind().GroupVersionKind(), apimeta.RESTScopeRoot)
		}
	}
	return mapper, errors.Join(errs...)
}

// NewManager returns a manager whose caches hold what the reconcilers read and no more, and whose client waits for them to
// see its own writes. opts holds everything else.
func NewManager(config *rest.Config, opts ctrl.Options) (ctrl.Manager, error) {
	var err error
	if opts.Scheme, err = newScheme(); err != nil {
		return nil, err
	}
	mapper, err := newMapper(opts.Scheme)
	if err != nil {
		return nil, err
	}
	opts.MapperProvider = func(*rest.Config, *http.Client) (apimeta.RESTMapper, error) { return mapper, nil }
	opts.Controller.CacheSyncTimeout = startTimeout
	opts.NewCache, opts.Cache = facts.NewCache, facts.CacheOptions(apply.TrimManagedFields)
	opts.Client.Cache = &client.CacheOptions{EnableReadYourWritesConsistency: new(true)}
	return ctrl.NewManager(config, opts)
}

// Setup joins the reconcilers and adds them to the manager.
func Setup(mgr ctrl.Manager, opts Options) error {
	opts = opts.defaulted()
	m := metrics.New(opts.Registry)
	applier := &apply.Applier{Client: mgr.GetClient(), Observe: observeWrites(mgr, m)}
	plain, err := client.New(mgr.GetConfig(), client.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return err
	}
	natives := &apply.Applier{Client: plain, Observe: applier.Observe}
	sources, err := newPlatformSources(mgr)
	if err != nil {
		return err
	}
	platform := NewPlatform(mgr.GetCache(), sources, opts.Clock, opts.Namespace)
	store, proofs := NewStore(), NewProofs()
	recorder := mgr.GetEventRecorder(eventSource)
	backends, err := NewBackends(mgr.GetCache(), platform, mgr.Elected())
	if err != nil {
		return err
	}
	if err := platform.SetupWithManager(mgr, backends); err != nil {
		return err
	}
	namespaces := &NamespaceReconciler{
		Reader: mgr.GetClient(), Cache: mgr.GetCache(), Live: mgr.GetAPIReader(), Applier: applier, Natives: natives, Backends: backends, Platform: platform,
		Store: store, Proofs: proofs, Metrics: m, Recorder: recorder, Clock: opts.Clock, Elected: mgr.Elected(),
	}
	if err := namespaces.SetupWithManager(mgr, opts.Workers); err != nil {
		return err
	}
	guards := &GuardReconciler{
		Reader: mgr.GetClient(), Cache: mgr.GetCache(), Applier: natives, Backends: backends, Platform: platform, Store: store, Clock: opts.Clock,
	}
	if err := guards.SetupWithManager(mgr); err != nil {
		return err
	}
	admissions := &AdmissionReconciler{
		Reader: mgr.GetClient(), Live: mgr.GetAPIReader(), Cache: mgr.GetCache(), Applier: applier, Platform: platform, Store: store, Clock: opts.Clock,
		Metrics: m, Recorder: recorder, Operator: Account(opts.Namespace),
	}
	if err := admissions.SetupWithManager(mgr); err != nil {
		return err
	}
	watches, err := newWatches(mgr, backends, admissions, m)
	if err != nil {
		return err
	}
	managements, err := setupManagement(mgr, opts, store, m, platform)
	if err != nil {
		return err
	}
	firewalls := &FirewallReconciler{
		Cache: mgr.GetCache(), Live: mgr.GetAPIReader(), Applier: natives, Backends: backends, Platform: platform,
		Contact: &contact.Looker{Config: mgr.GetConfig()}, Recorder: recorder, Clock: opts.Clock, Own: opts.Namespace, firewalls: &managements.firewalls,
	}
	if err := firewalls.SetupWithManager(mgr); err != nil {
		return err
	}
	baselines := &BaselineReconciler{
		Reader: mgr.GetClient(), Cache: mgr.GetCache(), Live: mgr.GetAPIReader(), Applier: applier, Natives: natives,
		Lease:    client.ObjectKey{Namespace: opts.Namespace, Name: Lease},
		Platform: platform, Store: store, Metrics: m, Recorder: recorder, Clock: opts.Clock, Backends: backends, Guards: guards,
		Admissions: admissions, Proofs: proofs, Managements: managements, Watches: watches,
	}
	if err := baselines.SetupWithManager(mgr); err != nil {
		return err
	}
	reports := &ReportReconciler{
		Cache: mgr.GetCache(), Platform: platform, Store: store, Managements: managements, Recorder: recorder, Clock: opts.Clock,
		Period: opts.ReportPeriod, Applier: &apply.Applier{Observe: applier.Observe},
	}
	probes := &ProbeReconciler{
		Cache: mgr.GetCache(), Live: mgr.GetAPIReader(), Applier: natives, Backends: backends, Platform: platform,
		Proofs: proofs, Metrics: m, Clock: opts.Clock, Look: opts.ProbeLook, Random: rand.Float64, Image: opts.ProbeImage,
		Own: client.ObjectKey{Namespace: opts.Namespace, Name: opts.Pod},
	}
	return errors.Join(setupReports(mgr, reports), setupProbe(mgr, probes))
}

// setupManagement adds what looks at the interfaces by which the cluster is managed, and what asks others who can reach them.
func setupManagement(mgr ctrl.Manager, opts Options, store *Store, m *metrics.Metrics, platform *Platform) (*ManagementReconciler, error) {
	controlPlanes, err := newControlPlaneReconciler(mgr)
	if err != nil {
		return nil, err
	}
	controlPlanes.Clouds, controlPlanes.Nodes, controlPlanes.Metrics, controlPlanes.Clock = opts.Clouds, platform.Sources.Nodes, m, opts.Clock
	managements, err := newManagementReconciler(mgr)
	if err != nil {
		return nil, err
	}
	managements.Platform, managements.ControlPlanes = platform, controlPlanes
	managements.Store, managements.Metrics, managements.Clock = store, m, opts.Clock
	return managements, errors.Join(controlPlanes.SetupWithManager(mgr), managements.SetupWithManager(mgr))
}

// setupProbe gives the canaries a cache of their own: the one of all namespaces holds other pods, and trims them.
func setupProbe(mgr ctrl.Manager, r *ProbeReconciler) error {
	pods, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultNamespaces: map[string]cache.Config{probe.Namespace: {}}, DefaultTransform: cache.TransformStripManagedFields(),
	})
	if err != nil {
		return err
	}
	r.Pods = pods
	return errors.Join(mgr.Add(pods), r.SetupWithManager(mgr, pods))
}

// Synced says whether the caches that every plan is made of are in sync. The cache's own answer is yes as long as nobody has
// asked it for anything yet.
func Synced(mgr ctrl.Manager) healthz.Checker {
	return func(req *http.Request) error { return synced(req.Context(), mgr.GetCache()) }
}

// synced returns an error unless the caches that every plan is made of are in sync.
func synced(ctx context.Context, c cache.Cache) error {
	for _, obj := range facts.Cached() {
		informer, err := c.GetInformer(ctx, obj, cache.BlockUntilSynced(false))
		if err != nil {
			return err
		}
		if !informer.HasSynced() {
			return fmt.Errorf("the cache of %T is not in sync with the API server", obj)
		}
	}
	return nil
}

// observeWrites counts write requests.
func observeWrites(mgr ctrl.Manager, m *metrics.Metrics) func(client.Object, apply.Operation, error) {
	return func(obj client.Object, op apply.Operation, err error) {
		kind := "unknown"
		if gvk, gvkErr := apiutil.GVKForObject(obj, mgr.GetScheme()); gvkErr == nil {
			kind = gvk.Kind
		}
		outcome := "success"
		switch {
		case err == nil:
		case stale(err), apierrors.IsNotFound(err):
			outcome = "stale"
		case refusal(err) != "":
			outcome = "refused"
		default:
			outcome = "error"
		}
		m.Writes.WithLabelValues(kind, string(op), outcome).Inc()
	}
}
