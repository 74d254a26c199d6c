// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	checks "github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/facts/management"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/probe/handshake"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	// inventoryPeriod is how often interfaces are listed: what is new is looked at then.
	inventoryPeriod = 10 * time.Minute
	// lookPeriod is for how long what was seen of an interface holds.
	lookPeriod = time.Hour
	// doubt is how long to wait before less than last time, or silence, is believed.
	doubt = 30 * time.Second
	// lookTimeout is far above what 5,000 nodes take.
	lookTimeout = 15 * time.Minute
)

// ManagementReconciler looks at the interfaces by which the cluster is managed, for the baselines that ask for it. It writes nothing and
// runs on the elected replica alone: two would connect to everything twice.
type ManagementReconciler struct {
	// Cache has the baselines; Live asks the API server, for what is listed once in ten minutes.
	Cache, Live client.Reader
	Asker       management.Asker
	Store       *Store
	Metrics     *metrics.Metrics
	Clock       clock.PassiveClock

	// Of one worker.
	inventory *snapshot.Management // the last one, before anybody has looked
	doubted   bool
	asked     snapshot.Management // what was answered, at askedAt
	askedAt   time.Time
	seen      map[sightline]seen

	results sync.Map // a managementResult for each baseline, by name
}

// sightline is one way to look at an interface; seen is what came of it, and when.
type (
	sightline struct {
		address       netip.AddrPort
		server, roots string
		cluster       bool
		minimum       uint16
	}
	seen struct {
		sight snapshot.Sight
		at    time.Time
		// unsure: it said nothing of use for the first time, so it is looked at again soon.
		unsure bool
	}
)

// +kubebuilder:rbac:groups="",resources=nodes;services;pods,verbs=list
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses,verbs=list
// +kubebuilder:rbac:groups=apiregistration.k8s.io,resources=apiservices,verbs=list
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingwebhookconfigurations;mutatingwebhookconfigurations,verbs=list

// Reconcile takes an inventory, looks at what is new or was not looked at for an hour, and judges for each baseline. Cost: see
// management.Take and Asker.Ask; five connections an interface, 100 a second at most.
func (r *ManagementReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	baselines, err := r.declared(ctx)
	if err != nil || len(baselines) == 0 {
		return ctrl.Result{}, err
	}
	inventory := management.Take(ctx, r.Live, declaredSystems(baselines))
	if r.inventory != nil && len(inventory.Gaps) > len(r.inventory.Gaps) && !r.doubted {
		r.doubted = true
		return ctrl.Result{RequeueAfter: doubt}, nil
	}
	r.inventory, r.doubted = inventory, false
	minimums := minimumsOf(baselines)
	if len(minimums) > 0 {
		r.ask(ctx)
	}
	views := r.look(ctx, minimums)
	if err := ctx.Err(); err != nil { // what was cut short says nothing
		return ctrl.Result{}, err
	}
	for i := range baselines {
		r.judge(ctx, &baselines[i], views)
	}
	for _, s := range r.seen {
		if s.unsure {
			return ctrl.Result{RequeueAfter: doubt}, nil
		}
	}
	return ctrl.Result{RequeueAfter: jitter(inventoryPeriod)}, nil
}

// jitter is a duration of about d, so that operators of many clusters do not ask at one time.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5) //nolint:gosec // G404: no secret
}

// declared returns the baselines that declare something of management, and forgets the others.
func (r *ManagementReconciler) declared(ctx context.Context) ([]pcinetv1alpha1.PCINetworkBaseline, error) {
	var list pcinetv1alpha1.PCINetworkBaselineList
	if err := r.Cache.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing baselines: %w", err)
	}
	items := slices.DeleteFunc(slices.Clone(list.Items), func(b pcinetv1alpha1.PCINetworkBaseline) bool {
		return managesNothing(&b)
	})
	r.results.Range(func(name, _ any) bool {
		if !slices.ContainsFunc(items, func(b pcinetv1alpha1.PCINetworkBaseline) bool { return b.Name == name }) {
			r.results.Delete(name)
			r.Metrics.ObserveFindings(fmt.Sprint(name), nil)
		}
		return true
	})
	return items, nil
}

func declaredSystems(baselines []pcinetv1alpha1.PCINetworkBaseline) []types.NamespacedName {
	var out []types.NamespacedName
	for i := range baselines {
		if e := baselines[i].Spec.ManagementEncryption; e != nil {
			for _, s := range e.SupportingSystems {
				out = append(out, types.NamespacedName{Namespace: string(s.Namespace), Name: s.Service})
			}
		}
	}
	return out
}

// minimumsOf returns the minimum versions of TLS that baselines ask for. Each is a look of its own; two are rare.
func minimumsOf(baselines []pcinetv1alpha1.PCINetworkBaseline) []uint16 {
	var out []uint16
	for i := range baselines {
		if e := baselines[i].Spec.ManagementEncryption; e != nil {
			out = append(out, checks.MinimumTLS(e))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ask asks those that describe themselves: once an hour, when there are others, and again with the next inventory if an answer is missing.
func (r *ManagementReconciler) ask(ctx context.Context) {
	var nodes, before []netip.AddrPort
	for i := range r.inventory.Interfaces {
		if in := &r.inventory.Interfaces[i]; in.Role == snapshot.RoleKubelet {
			nodes = append(nodes, in.Address)
		}
	}
	answered := r.asked.APIServer.Flags != nil && r.asked.APIServer.Anonymous != 0
	for i := range r.asked.Kubelets {
		k := &r.asked.Kubelets[i]
		before = append(before, k.Address)
		answered = answered && k.Config != nil && k.Anonymous != 0
	}
	if age := r.Clock.Since(r.askedAt); slices.Equal(nodes, before) && (age < inventoryPeriod/2 || (answered && age < lookPeriod)) {
		return
	}
	r.asked = *r.inventory
	r.Asker.Permits = handshake.NewScope(nodes...).Permits
	r.Asker.Ask(ctx, &r.asked)
	r.askedAt = r.Clock.Now()
}

// look returns the inventory with what was seen of it, for each minimum version.
func (r *ManagementReconciler) look(ctx context.Context, minimums []uint16) map[uint16]snapshot.Management {
	out := map[uint16]snapshot.Management{0: *r.inventory}
	now, kept := r.Clock.Now(), map[sightline]seen{}
	for _, minimum := range minimums {
		var due []sightline
		for i := range r.inventory.Interfaces {
			if in := &r.inventory.Interfaces[i]; !in.UDP {
				v := sightline{in.Address, in.ServerName, in.Roots, in.ClusterRoots, minimum}
				if old, known := r.seen[v]; known && !old.due(now) {
					kept[v] = old
				} else if _, twice := kept[v]; !twice {
					kept[v] = seen{}
					due = append(due, v)
				}
			}
		}
		for i, sight := range r.dial(ctx, due) {
			kept[due[i]] = r.seen[due[i]].followed(sight, now)
		}
		m := *r.inventory
		m.APIServer, m.Kubelets = r.asked.APIServer, r.asked.Kubelets
		m.Interfaces = slices.Clone(m.Interfaces)
		for i := range m.Interfaces {
			in := &m.Interfaces[i]
			in.Sight = kept[sightline{in.Address, in.ServerName, in.Roots, in.ClusterRoots, minimum}].sight
		}
		r.Metrics.ObserveInterfaces(m.Interfaces)
		out[minimum] = m
	}
	r.seen = kept
	return out
}

// due says whether it is time to look again.
func (s seen) due(now time.Time) bool {
	period := inventoryPeriod / 2
	if certain(s.sight) {
		period = lookPeriod
	}
	return s.unsure || now.Sub(s.at) >= period
}

// followed returns what is known after another look. Pods and nodes come and go between inventory and look, so one that says nothing of
// use is asked twice, and until then what it said before holds.
func (s seen) followed(by snapshot.Sight, now time.Time) seen {
	out := seen{sight: by, at: now, unsure: !certain(by) && !s.unsure}
	if out.unsure && certain(s.sight) {
		out.sight = s.sight
	}
	return out
}

// certain says whether there is nothing to gain from looking again soon.
func certain(s snapshot.Sight) bool {
	return s.Speech == snapshot.SpeechPlain || s.Speech == snapshot.SpeechClosed || (s.Speech == snapshot.SpeechTLS && s.Old != "" && s.Weak != "")
}

// dial looks at interfaces of the inventory, and at nothing else.
func (r *ManagementReconciler) dial(ctx context.Context, views []sightline) []snapshot.Sight {
	scope := make([]netip.AddrPort, 0, len(views))
	targets := make([]handshake.Target, 0, len(views))
	for _, v := range views {
		scope = append(scope, v.address)
		t := handshake.Target{Address: v.address, ServerName: v.server, MinVersion: v.minimum}
		switch {
		case v.cluster:
			t.Roots = r.Asker.Roots
		case v.roots != "":
			t.Roots = x509.NewCertPool()
			t.Roots.AppendCertsFromPEM([]byte(v.roots))
		}
		targets = append(targets, t)
	}
	return handshake.NewDialer(handshake.NewScope(scope...)).Look(ctx, targets)
}

// judge judges for one baseline, and wakes the reconciler that writes its status if that changes anything.
func (r *ManagementReconciler) judge(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline, views map[uint16]snapshot.Management) {
	s := checks.Subject{Access: b.Spec.ManagementAccess, Encryption: b.Spec.ManagementEncryption, Now: r.Clock.Now(), Management: views[0]}
	if s.Encryption != nil {
		s.Management = views[checks.MinimumTLS(s.Encryption)]
	}
	findings := checks.Run(s)
	r.Metrics.ObserveFindings(b.Name, findings)
	result := newManagementResult(b, findings)
	old, _ := r.results.Swap(b.Name, result)
	if before, had := old.(managementResult); had && reflect.DeepEqual(before, result) {
		return
	}
	failed := 0
	for i := range findings {
		if failing(findings[i]) {
			failed++
			ctrl.LoggerFrom(ctx).V(1).Info("A management interface fails a check", "baseline", b.Name, "check", findings[i].Check,
				"subject", findings[i].Subject, "evidence", findings[i].Evidence)
		}
	}
	ctrl.LoggerFrom(ctx).Info("Management interfaces were judged", "baseline", b.Name, "interfaces", len(s.Interfaces), "findings", len(findings), "failed", failed)
	r.Store.notify(b.Name)
}

// of returns what is known for a baseline as it declares it now, if anything is.
func (r *ManagementReconciler) of(b *pcinetv1alpha1.PCINetworkBaseline) (result managementResult, known bool) {
	value, _ := r.results.Load(b.Name)
	result, known = value.(managementResult)
	known = known && reflect.DeepEqual(result.access, b.Spec.ManagementAccess) && reflect.DeepEqual(result.encryption, b.Spec.ManagementEncryption)
	return result, known
}

// newManagementReconciler gives the reconciler a client of its own, whose kinds are a table and which knows no cache.
func newManagementReconciler(mgr manager.Manager) (*ManagementReconciler, error) {
	config := mgr.GetConfig()
	live, err := client.New(config, client.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: management.Mapper()})
	if err != nil {
		return nil, err
	}
	secure, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if secure != nil && secure.RootCAs != nil {
		roots = secure.RootCAs
	}
	return &ManagementReconciler{Cache: mgr.GetCache(), Live: live, Asker: management.Asker{
		Server: strings.TrimSuffix(config.Host, "/"), Authenticated: transportOf(mgr.GetHTTPClient()), Token: tokenOf(config), Roots: roots,
	}}, nil
}

func transportOf(c *http.Client) http.RoundTripper {
	if c.Transport == nil {
		return http.DefaultTransport
	}
	return c.Transport
}

// tokenOf returns a function that reads the operator's token, which the kubelet renews in its file.
func tokenOf(config *rest.Config) func() string {
	return func() string {
		if config.BearerTokenFile == "" {
			return config.BearerToken
		}
		data, _ := os.ReadFile(config.BearerTokenFile) // no token is said of each kubelet
		return strings.TrimSpace(string(data))
	}
}

// SetupWithManager has everything looked at when a baseline changes what it declares, and from time to time.
func (r *ManagementReconciler) SetupWithManager(mgr ctrl.Manager) error {
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request { return []ctrl.Request{{}} })
	opts := options(false)
	opts.ReconciliationTimeout = lookTimeout
	return ctrl.NewControllerManagedBy(mgr).
		Named("management").
		WithOptions(opts).
		Watches(&pcinetv1alpha1.PCINetworkBaseline{}, one, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
}
