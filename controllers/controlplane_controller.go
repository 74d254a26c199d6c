// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	checks "github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	// cloudHolds is for how long what a cloud said stands while it does not answer.
	cloudHolds = 3 * lookPeriod
	// nodesWait is when to identify the cluster again that did not show, if the nodes were not known yet, as just after a start.
	nodesWait = 2 * time.Second
	// cloudTimeout is above what a reading and the list of objects may take.
	cloudTimeout = 2 * time.Minute
	// askedAtOnce is how many baselines' clouds are asked at a time, so that a slow one delays no other.
	askedAtOnce = 4
	// maxNames are looked up of the API server's, within resolveTimeout, which is less than holdAtStart. apiServerName begins those that only the
	// cluster knows.
	maxNames       = 16
	resolveTimeout = 3 * time.Second
	apiServerName  = "kubernetes.default."
)

// ControlPlaneReconciler asks others than the cluster itself who can reach its API server: the cloud that runs it, for baselines that
// have it asked, and objects that clusters are made from. It is apart from ManagementReconciler, which judges what it has learnt,
// so that no look waits for a cloud. It writes nothing, and runs on the elected replica alone.
type ControlPlaneReconciler struct {
	Cache   client.Reader
	Clouds  *cloud.Reader
	Objects cloud.ObjectReader
	// Nodes are the cluster's, if they are known. Token is the operator's own, and Hosts are names of the API server.
	Nodes func() (nodes []snapshot.Node, known bool)
	Token func() string
	Hosts func(context.Context) []string
	// Resolve asks name servers, as [net.Resolver.LookupNetIP].
	Resolve func(ctx context.Context, network, host string) ([]netip.Addr, error)
	Metrics *metrics.Metrics
	Clock   clock.PassiveClock

	answers sync.Map // an answer for each baseline, by name

	mu      sync.Mutex
	changed func()
}

// answer is what was learnt for one baseline.
type answer struct {
	declared pcinetv1alpha1.ManagedCloud
	// last is the last reading; good is the last one that did not fail, at goodAt.
	last, good snapshot.ControlPlane
	goodAt     time.Time
	// around is what does not come from the cloud.
	around snapshot.ControlPlanes
}

// Reconcile asks once: every hour, when the spec changes, and more often while there is no answer. Cost: three requests to a cloud, if
// it is to be asked; ObjectReader.Read; one request to the API server.
func (r *ControlPlaneReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var b pcinetv1alpha1.PCINetworkBaseline
	if err := r.Cache.Get(ctx, req.NamespacedName, &b); client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	if b.Spec.ManagementAccess == nil { // nor has one that is gone
		r.answers.Delete(req.Name)
		r.Metrics.CloudRead.DeleteLabelValues(req.Name)
		return ctrl.Result{}, nil
	}
	before, had := r.of(&b)
	next := answer{around: snapshot.ControlPlanes{ServerNames: r.Hosts(ctx)}}
	next.around.Public = r.publicOf(ctx, next.around.ServerNames, before.Public)
	next.around.Objects, next.around.ObjectGaps = r.Objects.Read(ctx)
	again := jitter(lookPeriod)
	if asks(&b) {
		next.declared = *b.Spec.ManagementAccess.Cloud
		again = r.ask(ctx, b.Name, &next)
	} else {
		r.Metrics.CloudRead.DeleteLabelValues(req.Name)
	}
	if err := ctx.Err(); err != nil { // what was cut short says nothing
		return ctrl.Result{}, err
	}
	r.answers.Store(b.Name, next)
	if now, has := r.of(&b); had != has || !reflect.DeepEqual(before, now) {
		ctrl.LoggerFrom(ctx).Info("Who can reach the API server was asked", "cloud", next.last.Cluster.String(), "failure", string(next.last.Failure),
			"problem", next.last.Problem, "entrances", len(next.last.Entrances), "objects", len(next.around.Objects))
		r.notify()
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// publicOf looks names up that may be known outside of the cluster, to say of each whether it has an address of the Internet; of one that could not be
// looked up what was said before stands. None of them is connected to. Cost: at most maxNames questions, at a time.
func (r *ControlPlaneReconciler) publicOf(ctx context.Context, names []string, before map[string]bool) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, err := netip.ParseAddr(name)
		return err == nil || !strings.Contains(name, ".") || strings.HasPrefix(name, "*.") || strings.HasPrefix(name, apiServerName)
	})
	names = names[:min(len(names), maxNames)]
	found, errs := make([][]netip.Addr, len(names)), make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			found[i], errs[i] = r.Resolve(ctx, "ip", strings.TrimSuffix(name, ".")+".") // as it is: no suffix of the pod's resolver makes it another
		})
	}
	group.Wait()
	out := map[string]bool{}
	for i, name := range names {
		missing := (*net.DNSError)(nil)
		switch was, had := before[name]; {
		case errs[i] == nil:
			out[name] = slices.ContainsFunc(found[i], checks.Public)
		case errors.As(errs[i], &missing) && missing.IsNotFound:
		case had:
			out[name] = was
		}
	}
	return out
}

// asks says whether the baseline has a cloud asked.
func asks(b *pcinetv1alpha1.PCINetworkBaseline) bool {
	a := b.Spec.ManagementAccess
	return a != nil && a.Cloud != nil && a.Cloud.Provider != pcinetv1alpha1.CloudNone
}

// ask asks the cloud, and returns when to ask again.
func (r *ControlPlaneReconciler) ask(ctx context.Context, baseline string, next *answer) time.Duration {
	nodes, known := r.Nodes()
	next.last = r.Clouds.Describe(ctx, cloud.Identify(cloud.Hints{
		Nodes: nodes, Issuer: cloud.Issuer(r.Token()), Hosts: next.around.ServerNames, Declared: clusterOf(next.declared),
	}))
	if value, had := r.answers.Load(baseline); had {
		if old, _ := value.(answer); old.declared == next.declared {
			next.good, next.goodAt = old.good, old.goodAt
		}
	}
	switch {
	case next.last.Failure == "":
		next.good, next.goodAt = next.last, r.Clock.Now()
		r.Metrics.CloudRead.WithLabelValues(baseline).Set(float64(next.goodAt.Unix()))
		return jitter(lookPeriod)
	case next.last.Failure == snapshot.NotDeclared && !known: // it is too early to say so
		next.last = snapshot.ControlPlane{Failure: snapshot.NotAsked, Problem: "the nodes, which show the cloud, are not known yet"}
		return nodesWait
	}
	return jitter(inventoryPeriod)
}

// clusterOf returns what the spec says of the cluster.
func clusterOf(c pcinetv1alpha1.ManagedCloud) snapshot.CloudCluster {
	out := snapshot.CloudCluster{Name: c.Name, Location: c.Location, Project: c.Project, Subscription: c.SubscriptionID, ResourceGroup: c.ResourceGroup}
	if c.Provider != pcinetv1alpha1.CloudAuto {
		out.Cloud = snapshot.Cloud(c.Provider)
	}
	return out
}

// of returns what is known for a baseline as it declares it now, and whether all has been asked that is to be.
func (r *ControlPlaneReconciler) of(b *pcinetv1alpha1.PCINetworkBaseline) (_ snapshot.ControlPlanes, complete bool) {
	value, answered := r.answers.Load(b.Name)
	a, _ := value.(answer)
	out := a.around
	switch {
	case !asks(b):
	case a.declared != *b.Spec.ManagementAccess.Cloud:
		out.Cloud = &snapshot.ControlPlane{Failure: snapshot.NotAsked, Problem: "the cloud is being asked"}
	case a.stands(r.Clock.Now()):
		out.Cloud, out.Since = &a.good, &a.last
	default:
		out.Cloud = &a.last
	}
	return out, answered && (out.Cloud == nil || out.Cloud.Failure != snapshot.NotAsked)
}

// stands says whether what the cloud said before stands although it does not answer now. A cloud that answers and refuses, or another
// cluster, is no silence.
func (a *answer) stands(now time.Time) bool {
	silent := a.last.Failure == snapshot.Outage || a.last.Failure == snapshot.Throttled
	was, is := a.good.Cluster, a.last.Cluster
	was.Signals, is.Signals = nil, nil // which node shows it does not matter
	return silent && now.Sub(a.goodAt) < cloudHolds && reflect.DeepEqual(was, is)
}

// whenChanged has f called when something else is known, from several goroutines; it must not block.
func (r *ControlPlaneReconciler) whenChanged(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed = f
}

func (r *ControlPlaneReconciler) notify() {
	r.mu.Lock()
	f := r.changed
	r.mu.Unlock()
	if f != nil {
		f()
	}
}

// newControlPlaneReconciler gives the reconciler what it needs of the API server. What can write is kept from it.
func newControlPlaneReconciler(mgr manager.Manager) (*ControlPlaneReconciler, error) {
	config, web := mgr.GetConfig(), mgr.GetHTTPClient()
	served, err := discovery.NewDiscoveryClientForConfigAndClient(config, web)
	if err != nil {
		return nil, err
	}
	objects, err := dynamic.NewForConfigAndClient(config, web)
	if err != nil {
		return nil, err
	}
	return &ControlPlaneReconciler{
		Cache: mgr.GetCache(), Token: tokenOf(config), Resolve: net.DefaultResolver.LookupNetIP, Hosts: hostsOf(web, served.RESTClient().Get().AbsPath("/version").URL().String()),
		Objects: cloud.ObjectReader{Discovery: served, List: func(ctx context.Context, r schema.GroupVersionResource, opts metav1.ListOptions) (*unstructured.UnstructuredList, error) {
			return objects.Resource(r).List(ctx, opts)
		}},
	}, nil
}

// hostsOf returns the names and addresses in the certificate with which the API server answers the operator; none if it does not.
func hostsOf(c *http.Client, url string) func(context.Context) []string {
	return func(ctx context.Context) []string {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return nil
		}
		res, err := c.Do(req)
		if err != nil {
			return nil
		}
		_ = res.Body.Close()
		if res.TLS == nil || len(res.TLS.PeerCertificates) == 0 {
			return nil
		}
		leaf := res.TLS.PeerCertificates[0]
		hosts := slices.Clone(leaf.DNSNames)
		for _, a := range leaf.IPAddresses {
			hosts = append(hosts, a.String())
		}
		return hosts
	}
}

// SetupWithManager has the cloud asked when the spec of a baseline changes, and from time to time.
func (r *ControlPlaneReconciler) SetupWithManager(mgr ctrl.Manager) error {
	opts := options(false)
	opts.ReconciliationTimeout, opts.MaxConcurrentReconciles = cloudTimeout, askedAtOnce
	return ctrl.NewControllerManagedBy(mgr).
		Named("controlplane").
		WithOptions(opts).
		Watches(&pcinetv1alpha1.PCINetworkBaseline{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(r)
}
