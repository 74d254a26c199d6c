// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cluster"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// syncTimeout bounds how long the first list of a policy API may take before it counts as not to be had.
const syncTimeout = 5 * time.Second

// kind is one kind of policy object.
type kind struct {
	// resource names it as kubectl does, such as networkpolicies.networking.k8s.io.
	resource string
	// cluster: its objects are in no namespace.
	cluster bool
	// readable: the API server serves it, and its first list is there. Guarded by Backends.mu.
	readable bool
}

// key names one of its objects.
func (k *kind) key(obj client.Object) objectKey {
	return objectKey{k.resource, obj.GetNamespace(), obj.GetName()}
}

// policyAPI is one policy API of namespaces that can be written to.
type policyAPI struct {
	kind
	render.Backend
	// staged: evaluated by the engine and never enforced.
	staged bool
}

// native says whether the API is an engine's own, which may come and go.
func (a *policyAPI) native() bool { return a.Name() != string(pcinetv1alpha1.BackendNetworkPolicy) }

// refused returns why the engine will not have a live object, for APIs in which engines say so; "" when it has not said.
func (a *policyAPI) refused(live client.Object) string {
	if backend, ok := a.Backend.(interface {
		Refused(live runtime.Object) string
	}); ok {
		return backend.Refused(live)
	}
	return ""
}

// guardAPI is one cluster-wide policy API that can be written to.
type guardAPI struct {
	kind
	render.GuardLayer
	// beside is the backend beside which it is used.
	beside pcinetv1alpha1.Backend
	// limits says what it does not cover.
	limits string
}

// Backends are the policy APIs that can be written to, and those of them that can be read now. The core API always can; the
// others once the API server serves them.
type Backends struct {
	cache    cache.Cache
	platform *Platform
	leads    <-chan struct{} // closed once this replica is elected
	policies []*policyAPI    // the core one first
	guards   []*guardAPI
	// Start the watch of a kind; set by the reconcilers that keep it.
	watchPolicies func(client.Object, *kind) error
	watchGuards   func(cache.Informer) error
	watchHosts    func(cache.Informer) error

	mu sync.RWMutex
	// settled: every kind that is served has been tried once; missing is how many of them cannot be read. Asked is when somebody
	// first wanted to know.
	settled bool
	missing int
	asked   time.Time
	// last is the backend that each baseline was last written to, by name.
	last map[string]lastBackend
}

// lastBackend is a backend, and the UID of the baseline that was written to it.
type lastBackend struct {
	uid     types.UID
	backend engines.Backend
}

// newBackends returns the policy APIs of this version, of which the core one alone is readable.
func newBackends() *Backends {
	return &Backends{
		last: map[string]lastBackend{},
		policies: []*policyAPI{
			{kind: kind{readable: true}, Backend: core.Backend{}},
			{Backend: calico.Backend{}},
			{Backend: calico.Backend{Staged: true}, staged: true},
			{Backend: cilium.Backend{}},
		},
		guards: []*guardAPI{
			{kind: kind{cluster: true}, GuardLayer: calico.Guard{}, beside: pcinetv1alpha1.BackendCalico, limits: "Hosts and pods on their node's network are outside of it."},
			{kind: kind{cluster: true}, GuardLayer: cilium.Guard{}, beside: pcinetv1alpha1.BackendCilium, limits: "Hosts, pods on their node's network and endpoints without a namespace are outside of it."},
			{kind: kind{cluster: true}, GuardLayer: cluster.Guard{}, beside: pcinetv1alpha1.BackendNetworkPolicy, limits: "It cannot deny ingress from outside of the cluster, " +
				"from nodes and from pods on their node's network, and holds only where the policy engine implements this API."},
		},
	}
}

// NewBackends returns the backends of this version.
func NewBackends(c cache.Cache, platform *Platform, elected <-chan struct{}) (*Backends, error) {
	b := newBackends()
	b.cache, b.platform, b.leads = c, platform, elected
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	for obj, k := range b.kinds() {
		gvk, err := apiutil.GVKForObject(obj, scheme)
		if err != nil {
			return nil, err
		}
		plural, _ := apimeta.UnsafeGuessKindToResource(gvk)
		k.resource = plural.Resource + "." + plural.Group
	}
	return b, nil
}

// kinds returns every kind with an empty object of it.
func (b *Backends) kinds() iter.Seq2[client.Object, *kind] {
	return func(yield func(client.Object, *kind) bool) {
		for _, api := range b.policies {
			if obj, _ := api.New(); !yield(obj, &api.kind) {
				return
			}
		}
		for _, api := range b.guards {
			if obj, _ := api.New(); !yield(obj, &api.kind) {
				return
			}
		}
	}
}

// readable returns the policy APIs of namespaces that can be read, the core one first.
func (b *Backends) readable() []*policyAPI {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make([]*policyAPI, 0, len(b.policies))
	for _, api := range b.policies {
		if api.readable {
			out = append(out, api)
		}
	}
	return out
}

// readableGuards returns the cluster-wide policy APIs that can be read.
func (b *Backends) readableGuards() []*guardAPI {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var out []*guardAPI
	for _, api := range b.guards {
		if api.readable {
			out = append(out, api)
		}
	}
	return out
}

// named returns the API of a backend that can be read, or nil.
func (b *Backends) named(name string, staged bool) *policyAPI {
	for _, api := range b.readable() {
		if api.Name() == name && api.staged == staged {
			return api
		}
	}
	return nil
}

// guardFor returns the cluster-wide API to use beside a backend, or nil.
func (b *Backends) guardFor(backend string) *guardAPI {
	for _, api := range b.readableGuards() {
		if string(api.beside) == backend {
			return api
		}
	}
	return nil
}

// Serve makes the kinds readable that are served and answer, and drops those that are not served any more, and says whether
// that changed anything. What cannot be listed, for want of a right or an answer, is not readable: the error says why, and the
// caller tries again. Nothing is dropped because something could not be read.
func (b *Backends) Serve(ctx context.Context, a *engines.Assessment) (changed bool, err error) {
	var wait errgroup.Group
	var toggled atomic.Bool
	for obj, k := range b.kinds() {
		served := a.APIs.Serves(k.resource)
		calico := strings.HasSuffix(k.resource, ".projectcalico.org")
		switch {
		case k == &b.policies[0].kind, served && k.readable, !served && !a.APIsKnown, served && calico && !a.APIs.CalicoAvailable:
			continue
		case !served && !k.readable: // a read that was under way when the kind went may have started another one
			err = errors.Join(err, b.cache.RemoveInformer(ctx, obj))
			continue
		}
		wait.Go(func() error {
			if err := b.toggle(ctx, obj, k); err != nil {
				return fmt.Errorf("listing %s: %w", k.resource, err)
			}
			toggled.Store(true)
			return nil
		})
	}
	err = errors.Join(err, wait.Wait())
	return b.settle(a.APIs) || toggled.Load(), err
}

// settle notes that every kind has been tried once, and says whether that is new.
func (b *Backends) settle(apis snapshot.PolicyAPIs) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.settled
	b.settled, b.missing = true, 0
	for _, k := range b.kinds() {
		if apis.Serves(k.resource) && !k.readable {
			b.missing++
		}
	}
	return !was
}

// Whole says whether every kind that is served can be read: who removes something for good must see all of it.
func (b *Backends) Whole() bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.settled && b.missing == 0
}

// toggle makes a kind readable, or no longer so. Nobody else does, and for one kind it is not called twice at a time.
func (b *Backends) toggle(ctx context.Context, obj client.Object, k *kind) error {
	set := func(readable bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		k.readable = readable
	}
	if k.readable {
		set(false) // first, so that nobody reads what is about to go
		return b.cache.RemoveInformer(ctx, obj)
	}
	if err := b.start(ctx, obj, k); err != nil {
		return err
	}
	set(true)
	return nil
}

func (b *Backends) start(ctx context.Context, obj client.Object, k *kind) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	informer, err := b.cache.GetInformer(ctx, obj)
	if err != nil {
		return err // it goes on trying, and may be there the next time
	}
	if k.cluster {
		return errors.Join(b.watchGuards(informer), b.watchHosts(informer))
	}
	return b.watchPolicies(obj, k)
}

// livePolicy is a live object of one of the policy APIs.
type livePolicy struct {
	object client.Object
	api    *policyAPI
}

// denies says whether the policy lets nothing through.
func (p livePolicy) denies() bool { return p.api.Denies(p.object) }

func (p livePolicy) key() objectKey { return p.api.key(p.object) }

// list returns the policies of a namespace in every API that can be read but the core one. Cost: their number.
func (b *Backends) list(ctx context.Context, reader client.Reader, namespace string) ([]livePolicy, error) {
	var out []livePolicy
	for _, api := range b.readable()[1:] {
		_, empty := api.New()
		list, ok := empty.(client.ObjectList)
		if !ok {
			return nil, fmt.Errorf("%T is no list", empty)
		}
		if err := reader.List(ctx, list, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("listing %s of %s: %w", api.resource, namespace, err)
		}
		from := len(out)
		err := apimeta.EachListItem(list, func(item runtime.Object) error {
			obj, ok := item.(client.Object)
			if !ok {
				return fmt.Errorf("%T is no object", item)
			}
			out = append(out, livePolicy{obj, api})
			return nil
		})
		if err != nil {
			return nil, err
		}
		slices.SortFunc(out[from:], func(x, y livePolicy) int { return strings.Compare(x.object.GetName(), y.object.GetName()) })
	}
	return out, nil
}
