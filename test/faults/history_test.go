// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

// lists returns an empty list of each kind that a history is made of.
func lists() []client.ObjectList {
	return []client.ObjectList{
		&corev1.NamespaceList{}, &pcinetv1alpha1.PCINetworkBaselineList{}, &pcinetv1alpha1.NamespaceCoverageList{},
		&networkingv1.NetworkPolicyList{}, &cilium.NetworkPolicyList{},
		&admissionregistrationv1.ValidatingAdmissionPolicyList{}, &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{},
	}
}

// history is every version of every object since a play began. Events of one watch are in order, those of two need not be; their
// resourceVersions, which are etcd's revisions, tell.
type history struct {
	world *world
	now   func() time.Time // the play's
	stops []func()
	wait  sync.WaitGroup

	mu       sync.Mutex
	versions map[uint64]version
	err      error
}

type version struct {
	event  watch.EventType
	object client.Object
	at     time.Time
	now    time.Time // by the play's clock
}

func (v version) String() string {
	return fmt.Sprintf("%s of %s at revision %s", v.event, name(v.object), v.object.GetResourceVersion())
}

func name(object client.Object) string {
	return strings.TrimPrefix(fmt.Sprintf("%T %s", object, client.ObjectKeyFromObject(object)), "*")
}

// record begins a history, of a world in which there is nothing.
func record(ctx context.Context, w *world, now func() time.Time) (*history, error) {
	h := &history{world: w, now: now, versions: map[uint64]version{}}
	for _, list := range lists() {
		if err := w.client.List(ctx, list); err != nil {
			return nil, err
		}
		follow, err := w.client.Watch(ctx, list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}})
		if err != nil {
			return nil, err
		}
		h.stops = append(h.stops, follow.Stop)
		h.wait.Go(func() {
			for e := range follow.ResultChan() {
				h.note(e)
			}
		})
	}
	return h, nil
}

func (h *history) note(e watch.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	object, ok := e.Object.(client.Object)
	if !ok {
		h.err = fmt.Errorf("the watch broke: %s %v", e.Type, e.Object)
		return
	}
	revision, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
	if err != nil {
		h.err = err
	}
	h.versions[revision] = version{e.Type, object, time.Now(), h.now()}
}

func (h *history) stop() {
	for _, stop := range h.stops {
		stop()
	}
	h.wait.Wait()
}

// complete says whether the history leads to what the API server lists.
func (h *history) complete(ctx context.Context) error {
	want := map[string]string{}
	for _, list := range lists() {
		if err := h.world.client.List(ctx, list); err != nil {
			return err
		}
		err := eachItem(list, func(object client.Object) error {
			want[name(object)] = object.GetResourceVersion()
			return nil
		})
		if err != nil {
			return err
		}
	}
	got := map[string]string{}
	for _, v := range h.inOrder() {
		if v.event == watch.Deleted {
			delete(got, name(v.object))
		} else {
			got[name(v.object)] = v.object.GetResourceVersion()
		}
	}
	maps.DeleteFunc(want, func(name, version string) bool { _, known := got[name]; return !known && older(version, h.first()) })
	if diff := cmp.Diff(want, got); diff != "" {
		return errors.New("listed and watched (-+) differ:\n" + diff)
	}
	return h.err
}

// eachItem calls f with each object of a list.
func eachItem(list client.ObjectList, f func(client.Object) error) error {
	return apimeta.EachListItem(list, func(item runtime.Object) error {
		object, ok := item.(client.Object)
		if !ok {
			return fmt.Errorf("%T is no object", item)
		}
		return f(object)
	})
}

// first is the first revision of the history; what is older was there before.
func (h *history) first() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.versions) == 0 {
		return 1<<64 - 1
	}
	return slices.Min(slices.Collect(maps.Keys(h.versions)))
}

func older(version string, than uint64) bool {
	revision, err := strconv.ParseUint(version, 10, 64)
	return err == nil && revision < than
}

func (h *history) inOrder() []version {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]version, 0, len(h.versions))
	for _, revision := range slices.Sorted(maps.Keys(h.versions)) {
		out = append(out, h.versions[revision])
	}
	return out
}

// made counts, by object, how often others than the play itself created and deleted it.
func (h *history) made(own func(client.Object) bool) map[string]int {
	out := map[string]int{}
	for _, v := range h.inOrder() {
		if v.event != watch.Modified && !own(v.object) {
			out[string(v.event)+" "+name(v.object)]++
		}
	}
	return out
}

// gaps replays a history: a deny once present is never absent.
type gaps struct {
	namespaces map[string]*corev1.Namespace
	baselines  map[string]*pcinetv1alpha1.PCINetworkBaseline // those that are gone, too
	denies     map[string]map[string]bool                    // by namespace
	since      map[string]time.Time                          // the deny is absent
	longest    time.Duration
	wrong      []string
}

// gaps finds every moment at which a namespace lost its last deny, unless the play itself took it or the namespace was released.
func (h *history) gaps(own func(client.Object) bool) *gaps {
	g := &gaps{
		map[string]*corev1.Namespace{}, map[string]*pcinetv1alpha1.PCINetworkBaseline{}, map[string]map[string]bool{}, map[string]time.Time{}, 0, nil,
	}
	for _, v := range h.inOrder() {
		switch object := v.object.(type) {
		case *corev1.Namespace:
			g.namespaces[object.Name] = object
			if v.event == watch.Deleted {
				delete(g.namespaces, object.Name)
				delete(g.denies, object.Name)
				delete(g.since, object.Name)
			}
		case *pcinetv1alpha1.PCINetworkBaseline:
			g.baselines[object.Name] = object
		case *networkingv1.NetworkPolicy, *cilium.NetworkPolicy:
			g.policy(v, own(object))
		}
	}
	for namespace, since := range g.since {
		g.longest = max(g.longest, time.Since(since))
		g.wrong = append(g.wrong, "namespace "+namespace+" has no deny at the end")
	}
	return g
}

// policy looks at one version of a policy.
func (g *gaps) policy(v version, own bool) {
	namespace := v.object.GetNamespace()
	live := g.denies[namespace]
	if live == nil {
		live = map[string]bool{}
		g.denies[namespace] = live
	}
	before := len(live)
	delete(live, name(v.object))
	if v.event != watch.Deleted && denies(v.object) {
		live[name(v.object)] = true
	}
	switch since, absent := g.since[namespace]; {
	case absent && len(live) > 0:
		g.longest = max(g.longest, v.at.Sub(since))
		delete(g.since, namespace)
	case before > 0 && len(live) == 0 && !own && !g.released(v):
		g.since[namespace] = v.at
		g.wrong = append(g.wrong, "nothing denies after "+v.String())
	}
}

// denies says whether a policy is a deny of ours, also when its labels are gone.
func denies(object client.Object) bool {
	return strings.HasPrefix(object.GetName(), "pcinb") && strings.HasSuffix(object.GetName(), "-default-deny") &&
		(core.Backend{}.Denies(object) || cilium.Backend{}.Denies(object))
}

// released says whether the baseline of a policy does not want it any more: the namespace is not, or no longer, in its scope,
// or is exempt, or the baseline goes and asked for removal. A baseline that is gone has released nothing, and a namespace that
// terminates is left alone.
func (g *gaps) released(v version) bool {
	b := g.baselines[render.Owner(v.object.GetLabels())]
	namespace := g.namespaces[v.object.GetNamespace()]
	if b == nil || namespace == nil || !namespace.DeletionTimestamp.IsZero() {
		return false
	}
	if !b.DeletionTimestamp.IsZero() && b.Spec.DeletionPolicy == pcinetv1alpha1.DeletionPolicyDelete {
		return true
	}
	for _, e := range b.Spec.Exemptions {
		if slices.Contains(e.Namespaces, pcinetv1alpha1.NamespaceName(namespace.Name)) && v.now.Before(e.ExpiresAt.Time) {
			return true
		}
	}
	return string(b.Spec.Namespaces.Selector.MatchLabels[groupLabel]) != namespace.Labels[groupLabel]
}
