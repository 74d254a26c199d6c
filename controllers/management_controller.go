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

	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

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
	// protectionPause is for how long changes of what the engine does with policies for nodes, as while nodes come, are gathered.
	protectionPause = 2 * time.Second
	// lookTimeout is far above what 5,000 nodes take.
	lookTimeout = 15 * time.Minute
)

// ManagementReconciler looks at the interfaces by which the cluster is managed, for the baselines that ask for it. It writes nothing and
// runs on the elected replica alone: two would connect to everything twice.
type ManagementReconciler struct {
	// Cache has the baselines; Live asks the API server, for what is listed once in ten minutes.
	Cache, Live client.Reader
	Asker       management.Asker
	Platform    *Platform
	// ControlPlanes has what clouds say, which is judged with the rest.
	ControlPlanes *ControlPlaneReconciler
	Store         *Store
	Metrics       *metrics.Metrics
	Clock         clock.PassiveClock
	// Remembered returns what an earlier process has written of keys, by subject.
	Remembered func(context.Context, *pcinetv1alpha1.PCINetworkBaseline) (map[string]snapshot.Keys, error)

	// Of one worker.
	inventory *snapshot.Management // the last one, before anybody has looked
	doubted   bool
	asked     snapshot.Management // what was answered, at askedAt
	askedAt   time.Time
	seen      map[sightline]seen
	// keys is what was seen of keys, by subject of findings; remembers says that what Remembered knows is among it.
	keys      map[string]snapshot.Keys
	remembers bool

	results sync.Map // a managementResult for each baseline, by name
	// findings are managementFindings, by name; judged tells when they are others.
	findings  sync.Map
	judged    topic
	firewalls firewalls
}

// +kubebuilder:rbac:groups="",resources=nodes;services;pods,verbs=list
// +kubebuilder:rbac:groups=apps,resources=daemonsets,verbs=list
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list
// +kubebuilder:rbac:groups=networking.k8s.io,resources=ingresses,verbs=list
// +kubebuilder:rbac:groups=apiregistration.k8s.io,resources=apiservices,verbs=list
// +kubebuilder:rbac:groups=monitoring.coreos.com,resources=servicemonitors;podmonitors,verbs=list
// +kubebuilder:rbac:groups=security.istio.io,resources=peerauthentications,verbs=list
// +kubebuilder:rbac:groups=admissionregistration.k8s.io,resources=validatingwebhookconfigurations;mutatingwebhookconfigurations,verbs=list

// Reconcile takes an inventory, looks at what is new or was not looked at for an hour, and judges for each baseline. Cost: see
// management.Take and Asker.Ask; six connections an interface, 100 a second at most.
func (r *ManagementReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	baselines, err := r.declared(ctx)
	if err != nil || len(baselines) == 0 {
		return ctrl.Result{}, err
	}
	if err := r.remember(ctx, baselines); err != nil { // it is asked again at the next look; what is seen now is judged all the same
		ctrl.LoggerFrom(ctx).Error(err, "What an earlier process saw of keys is not known")
	}
	inventory := management.Take(ctx, r.Live, management.Declared(baselines))
	if slices.ContainsFunc(baselines, func(b pcinetv1alpha1.PCINetworkBaseline) bool { return b.Spec.ManagementAccess != nil }) {
		management.Views(ctx, r.Live, inventory)
	}
	if r.inventory != nil && len(inventory.Gaps)+len(inventory.Absent) > len(r.inventory.Gaps)+len(r.inventory.Absent) && !r.doubted {
		r.doubted = true
		return ctrl.Result{RequeueAfter: doubt}, nil
	}
	r.inventory, r.doubted = inventory, false
	inventory.Network = r.Platform.Engine().NodeEncryption
	r.observeHosts(ctx)
	for i := range baselines { // who waits for it waits for no look
		r.firewalls.want(&baselines[i], &checks.Subject{Access: baselines[i].Spec.ManagementAccess, Management: *r.inventory})
	}
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
	if r.unsure() {
		return ctrl.Result{RequeueAfter: doubt}, nil
	}
	return ctrl.Result{RequeueAfter: jitter(inventoryPeriod)}, nil
}

// unsure says whether to look again soon: something said nothing of use, or the platform was not known yet, as after a start.
func (r *ManagementReconciler) unsure() bool {
	for _, s := range r.seen {
		if s.unsure {
			return true
		}
	}
	return !r.Platform.Engine().Observed
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
			r.findings.Delete(name)
			r.firewalls.wanted.Delete(name)
			r.Metrics.ObserveFindings(fmt.Sprint(name), nil)
		}
		return true
	})
	return items, nil
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
	answered := len(r.asked.APIServer.Settings) > 0 && r.asked.APIServer.Anonymous != 0 && r.asked.APIServer.Nobodys != 0 && r.asked.APIServer.Told != 0 && !r.asked.AuthoritiesUnread && r.asked.Tokens.Keys != nil
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

// judge judges for one baseline, and wakes the reconciler that writes its status if that changes anything.
func (r *ManagementReconciler) judge(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline, views map[uint16]snapshot.Management) {
	s := checks.Subject{
		Access: b.Spec.ManagementAccess, Encryption: b.Spec.ManagementEncryption, Now: r.Clock.Now(), Management: views[0], Rules: b.Spec.Allow.Rules,
		EgressDenied: b.Spec.Enforcement == pcinetv1alpha1.EnforcementEnforce && slices.Contains(b.Spec.Directions, pcinetv1alpha1.DirectionEgress),
	}
	var complete bool
	s.ControlPlanes, complete = r.ControlPlanes.of(b)
	if s.Encryption != nil {
		s.Management = views[checks.MinimumTLS(s.Encryption)]
	}
	if enforcesHosts(b) {
		s.Firewall = r.firewalls.stateOf(checks.HostFirewall(b.Name, s.Access, &s.Management))
	}
	findings := checks.Run(s)
	r.Metrics.ObserveFindings(b.Name, findings)
	r.keep(b.Name, findings)
	result := newManagementResult(b, findings, complete || s.Access == nil)
	old, _ := r.results.Swap(b.Name, result)
	if before, had := old.(managementResult); had && reflect.DeepEqual(before, result) {
		return
	}
	failed := 0
	for i := range findings {
		if failing(findings[i]) {
			failed++
			if findings[i].Reason == pcinetv1alpha1.ReasonAccessTooWide { // a condition has no room for the command
				ctrl.LoggerFrom(ctx).Info("The API server lets in more than is allowed", "baseline", b.Name, "subject", findings[i].Subject,
					"evidence", findings[i].Evidence, "surplus", findings[i].Properties[checks.PropertySurplus], "remedy", findings[i].Remedy)
			}
			ctrl.LoggerFrom(ctx).V(1).Info("A management interface fails a check", "baseline", b.Name, "check", findings[i].Check,
				"subject", findings[i].Subject, "evidence", findings[i].Evidence)
		}
	}
	ctrl.LoggerFrom(ctx).Info("Management interfaces were judged", "baseline", b.Name, "interfaces", len(s.Interfaces), "findings", len(findings), "failed", failed)
	tellHostFirewall(ctx, b, &s)
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
		Server: strings.TrimSuffix(config.Host, "/"), Authenticated: transportOf(mgr.GetHTTPClient()), Token: tokenOf(config), Roots: roots, Authorities: authoritiesOf(config),
	}}, nil
}

func transportOf(c *http.Client) http.RoundTripper {
	if c.Transport == nil {
		return http.DefaultTransport
	}
	return c.Transport
}

// authoritiesOf returns a function that reads whom the API server's clients trust, which the kubelet renews in its file.
func authoritiesOf(config *rest.Config) func() ([]snapshot.Certificate, bool) {
	return func() ([]snapshot.Certificate, bool) {
		data := config.CAData
		if config.CAFile != "" {
			data, _ = os.ReadFile(config.CAFile) // nothing is no certificate, and said so
		} else if len(data) == 0 {
			return nil, true // the host's
		}
		return snapshot.CertificatesOf(data)
	}
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

// SetupWithManager has everything looked at when a baseline changes what it declares, when a cloud says something else, when a
// firewall on nodes is further, and from time to time.
func (r *ManagementReconciler) SetupWithManager(mgr ctrl.Manager) error {
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request { return []ctrl.Request{{}} })
	opts := options(false)
	opts.ReconciliationTimeout = lookTimeout
	return ctrl.NewControllerManagedBy(mgr).
		Named("management").
		WithOptions(opts).
		Watches(&pcinetv1alpha1.PCINetworkBaseline{}, one, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			again := func() { q.Add(ctrl.Request{}) }
			r.ControlPlanes.whenChanged(again)
			r.firewalls.again.Store(&again)
			r.Platform.protections.each(ctx, func() { q.AddAfter(ctrl.Request{}, protectionPause) }) // whoever mends it waits for an answer
			return nil
		})).
		Complete(r)
}
