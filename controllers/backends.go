// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

// syncTimeout bounds how long the first list of a policy API may take before it counts as not to be had.
const syncTimeout = 20 * time.Second

// policyAPI is one policy API that can be written to.
type policyAPI struct {
	render.Backend
	// resource names it as kubectl does, such as networkpolicies.networking.k8s.io.
	resource string
	// staged: evaluated by the engine and never enforced.
	staged bool
}

// refused returns why the engine will not have a live object, for APIs in which engines say so; "" when it has not said.
func (a *policyAPI) refused(live client.Object) string {
	if backend, ok := a.Backend.(interface {
		Refused(live runtime.Object) string
	}); ok {
		return backend.Refused(live)
	}
	return ""
}

// Backends are the policy APIs that can be written to, and those of them that can be read now. The core API always can; the
// others once the API server serves them and their first list is there.
type Backends struct {
	cache cache.Cache
	apis  []*policyAPI // the core one first

	mu sync.RWMutex
	// ready are the APIs that are read in every namespace. The slice is replaced, never changed.
	ready []*policyAPI
	// watch starts the watch of an API; set by the namespace reconciler.
	watch func(*policyAPI) error
}

// NewBackends returns the backends of this version, of which the core one alone is ready.
func NewBackends(c cache.Cache) (*Backends, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	b := &Backends{cache: c, apis: []*policyAPI{
		{Backend: core.Backend{}}, {Backend: calico.Backend{}}, {Backend: calico.Backend{Staged: true}, staged: true}, {Backend: cilium.Backend{}},
	}}
	for _, api := range b.apis {
		obj, _ := api.New()
		gvk, err := apiutil.GVKForObject(obj, scheme)
		if err != nil {
			return nil, err
		}
		plural, _ := apimeta.UnsafeGuessKindToResource(gvk)
		api.resource = plural.Resource + "." + plural.Group
	}
	b.ready = b.apis[:1:1]
	return b, nil
}

// readable returns the APIs that can be read, the core one first. It is shared: read only.
func (b *Backends) readable() []*policyAPI {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.ready
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

// isReady says whether a backend can be written to.
func (b *Backends) isReady(name string) bool { return b.named(name, false) != nil }

// Serve makes the APIs ready that are served now, and no others, and says whether that changed anything. What cannot be
// listed, for want of a right or an answer, is not ready: the error says why, and the caller tries again.
func (b *Backends) Serve(ctx context.Context, served func(resource string) bool) (changed bool, err error) {
	var ready []*policyAPI
	var errs []error
	before := b.readable()
	for _, api := range b.apis {
		had := slices.Contains(before, api)
		switch wanted := api == b.apis[0] || served(api.resource); {
		case wanted && !had:
			if err := b.start(ctx, api); err != nil {
				errs = append(errs, fmt.Errorf("listing %s: %w", api.resource, err))
				continue
			}
		case !wanted && had:
			errs = append(errs, b.stop(ctx, api))
			continue
		case !wanted:
			continue
		}
		ready = append(ready, api)
	}
	changed = !slices.Equal(before, ready)
	b.mu.Lock()
	b.ready = ready
	b.mu.Unlock()
	return changed, errors.Join(errs...)
}

func (b *Backends) start(ctx context.Context, api *policyAPI) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	obj, _ := api.New()
	if _, err := b.cache.GetInformer(ctx, obj); err != nil {
		return errors.Join(err, b.stop(context.WithoutCancel(ctx), api)) // an informer that does not sync would go on trying
	}
	return b.watch(api)
}

func (b *Backends) stop(ctx context.Context, api *policyAPI) error {
	obj, _ := api.New()
	return b.cache.RemoveInformer(ctx, obj)
}

// livePolicy is a live object of one of the policy APIs.
type livePolicy struct {
	object client.Object
	api    *policyAPI
}

// denies says whether the policy lets nothing through.
func (p livePolicy) denies() bool { return p.api.Denies(p.object) }

// key tells the policy from all others of its namespace.
func (p livePolicy) key() string { return p.api.resource + "/" + p.object.GetName() }

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

// backendChoice is the policy API that a baseline is written to; nil while that is not known. If the asked one cannot work,
// reason and message say why.
type backendChoice struct {
	api             *policyAPI
	reason, message string
}

// choose returns the backend of a baseline. A backend that cannot be read now is not written to either: what protects is
// told from its objects.
func (b *Backends) choose(baseline *pcinetv1alpha1.PCINetworkBaseline) backendChoice {
	_ = baseline
	return backendChoice{api: b.apis[0]}
}
