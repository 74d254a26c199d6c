// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
)

const (
	// prefix begins the names of the namespaces of plays.
	prefix = "play-"
	// groupLabel on a namespace says which baseline it is for.
	groupLabel = "example.com/group"
	// quiet is how long an operator that has done its work writes nothing: mere counts are written every 2 s.
	quiet = 2500 * time.Millisecond
	// linger is how long a plan that has converged is watched for what should not follow.
	linger = 300 * time.Millisecond
)

// play is one run of a workload.
type play struct {
	t       *testing.T
	world   *world
	clock   clock.PassiveClock
	history *history
	op      *operator
	wires   []*wire // of every operator there was

	mu  sync.Mutex
	own map[string]bool // UIDs of what the play deleted, resourceVersions of what it wrote
}

// newPlay starts an operator in a world that is clean again when the test ends.
func newPlay(t *testing.T, w *world, c clock.PassiveClock) *play {
	t.Helper()
	p := &play{t: t, world: w, clock: c, own: map[string]bool{}}
	var err error
	if p.history, err = record(context.WithoutCancel(t.Context()), w, c.Now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end()
		p.history.stop()
		p.clean()
	})
	p.launch(newWire())
	return p
}

// launch starts an operator.
func (p *play) launch(w *wire) {
	p.t.Helper()
	op, err := p.world.start(w, p.clock)
	if err != nil {
		p.t.Fatal(err)
	}
	p.op, p.wires = op, append(p.wires, w)
}

// end ends the operator.
func (p *play) end() {
	p.t.Helper()
	if p.op == nil {
		return
	}
	if err := p.op.kill(); err != nil {
		p.t.Error(err)
	}
	p.op = nil
}

// await waits until check succeeds.
func (p *play) await(what string, check func() error) {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waited %s until %s: %v", patience, what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// rest waits until the operator has written nothing for a while, and returns what there is then.
func (p *play) rest() map[string]any {
	p.t.Helper()
	for before, since := -1, time.Now(); time.Since(since) < quiet; time.Sleep(50 * time.Millisecond) {
		if now := len(p.op.wire.written()); now != before {
			before, since = now, time.Now()
		}
	}
	state, err := p.world.state(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return state
}

// reach waits for a state.
func (p *play) reach(want map[string]any) {
	p.t.Helper()
	p.await("the state is that of the undisturbed run", func() error {
		got, err := p.world.state(p.t.Context())
		if err != nil {
			return err
		}
		if diff := cmp.Diff(want, got); diff != "" {
			return errors.New("(-want +got)\n" + diff)
		}
		return nil
	})
}

func (p *play) mine(object client.Object) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.own[string(object.GetUID())] || p.own[object.GetResourceVersion()]
}

func (p *play) claim(keys ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range keys {
		p.own[k] = true
	}
}

// create creates an object.
func (p *play) create(object client.Object) {
	p.t.Helper()
	p.await("a create succeeds", func() error { return p.world.client.Create(p.t.Context(), object) })
	p.claim(object.GetResourceVersion())
}

// namespace creates a namespace of a group.
func (p *play) namespace(name, group string) {
	p.t.Helper()
	p.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: prefix + name, Labels: map[string]string{groupLabel: group}}})
}

// label moves a namespace to another group.
func (p *play) label(name, group string) {
	p.t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: prefix + name}}
	p.modify(namespace, func() { namespace.Labels[groupLabel] = group })
}

// modify reads an object, changes and writes it back, until nobody was faster.
func (p *play) modify(object client.Object, change func()) {
	p.t.Helper()
	p.await("an update succeeds", func() error {
		if err := p.world.client.Get(p.t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		change()
		return p.world.client.Update(p.t.Context(), object, client.FieldOwner("mallory"))
	})
	p.claim(object.GetResourceVersion())
}

// remove deletes an object.
func (p *play) remove(object client.Object) {
	p.t.Helper()
	p.await("a delete succeeds", func() error { // admission may still refuse what it did in the play before
		if err := p.world.client.Get(p.t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		p.claim(string(object.GetUID()))
		return p.world.client.Delete(p.t.Context(), object)
	})
}

// recreate deletes a namespace of the baseline as the API server and its namespace controller do, and creates another one of
// the same name.
func (p *play) recreate(name string) {
	p.t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: prefix + name}}
	p.remove(namespace)
	time.Sleep(50 * time.Millisecond) // until the operator may have seen that it terminates
	if err := p.world.evict(p.t.Context(), namespace.Name, func(o client.Object) { p.claim(string(o.GetUID())) }); err != nil {
		p.t.Fatal(err)
	}
	p.namespace(name, group)
}

// evict removes what is in a terminating namespace, and the namespace.
func (w *world) evict(ctx context.Context, namespace string, each func(client.Object)) error {
	for _, list := range []client.ObjectList{&networkingv1.NetworkPolicyList{}, &cilium.NetworkPolicyList{}, &pcinetv1alpha1.NamespaceCoverageList{}} {
		err := w.each(ctx, list, func(object client.Object) error {
			if object.GetNamespace() != namespace {
				return nil
			}
			each(object)
			// Until admission has seen that the namespace terminates, its controller is refused.
			gone := retry.OnError(wait.Backoff{Duration: 50 * time.Millisecond, Steps: 100}, apierrors.IsForbidden, func() error {
				return w.emptier.Delete(ctx, object)
			})
			return client.IgnoreNotFound(gone)
		})
		if err != nil {
			return err
		}
	}
	live := &corev1.Namespace{}
	err := w.client.Get(ctx, client.ObjectKey{Name: namespace}, live)
	if err == nil {
		live.Spec.Finalizers = nil
		err = w.client.SubResource("finalize").Update(ctx, live)
	}
	return client.IgnoreNotFound(err)
}

// clean removes everything of the play.
func (p *play) clean() {
	ctx := context.WithoutCancel(p.t.Context())
	w := p.world
	remove := func(object client.Object) error { return client.IgnoreNotFound(w.client.Delete(ctx, object)) }
	err := w.each(ctx, &admissionregistrationv1.ValidatingAdmissionPolicyBindingList{}, remove)
	err = errors.Join(err, w.each(ctx, &admissionregistrationv1.ValidatingAdmissionPolicyList{}, remove))
	err = errors.Join(err, w.each(ctx, &pcinetv1alpha1.PCINetworkBaselineList{}, func(object client.Object) error {
		if len(object.GetFinalizers()) > 0 {
			if err := w.client.Patch(ctx, object, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))); err != nil {
				return client.IgnoreNotFound(err)
			}
		}
		return remove(object)
	}))
	err = errors.Join(err, w.each(ctx, &corev1.NamespaceList{}, func(object client.Object) error {
		if !strings.HasPrefix(object.GetName(), prefix) {
			return nil
		}
		return errors.Join(remove(object), w.evict(ctx, object.GetName(), func(client.Object) {}))
	}))
	if err != nil {
		p.t.Error("cleaning up:", err)
	}
}

// state returns what the operator has made: policies and coverages of all namespaces, baselines, and what refuses, without UIDs and times:
// in its place a coverage has the name of its namespace, and fails if it is of another one.
func (w *world) state(ctx context.Context) (map[string]any, error) {
	out, named := map[string]any{}, map[any]any{}
	err := w.each(ctx, &corev1.NamespaceList{}, func(o client.Object) error {
		named[string(o.GetUID())] = o.GetName()
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, kind := range []schema.GroupVersionKind{
		{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"},
		{Group: "cilium.io", Version: "v2", Kind: "CiliumNetworkPolicy"},
		pcinetv1alpha1.GroupVersion.WithKind("NamespaceCoverage"),
		pcinetv1alpha1.GroupVersion.WithKind("PCINetworkBaseline"),
		admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicy"),
		admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicyBinding"),
	} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := w.client.List(ctx, list); err != nil {
			return nil, err
		}
		for i := range list.Items {
			o := &list.Items[i]
			if status, ok := o.Object["status"].(map[string]any); ok && status["namespaceUID"] != nil {
				if status["namespaceUID"] = named[status["namespaceUID"]]; status["namespaceUID"] != o.GetNamespace() {
					return nil, fmt.Errorf("the coverage %s of namespace %s is that of another one", o.GetName(), o.GetNamespace())
				}
			}
			out[fmt.Sprintf("%s %s/%s", kind.Kind, o.GetNamespace(), o.GetName())] = map[string]any{
				"labels": o.GetLabels(), "annotations": o.GetAnnotations(), "finalizers": o.GetFinalizers(), "owners": o.GetOwnerReferences(),
				"deleting": o.GetDeletionTimestamp() != nil, "spec": o.Object["spec"], "status": timeless(o.Object["status"]),
			}
		}
	}
	return out, nil
}

// timeless drops what differs from run to run.
func timeless(in any) any {
	switch in := in.(type) {
	case map[string]any:
		maps.DeleteFunc(in, func(key string, _ any) bool { return key == "lastTransitionTime" || key == "uid" })
		for k, v := range in {
			in[k] = timeless(v)
		}
	case []any:
		for i, v := range in {
			in[i] = timeless(v)
		}
	}
	return in
}

// each lists and calls f with each item.
func (w *world) each(ctx context.Context, list client.ObjectList, f func(client.Object) error) error {
	if err := w.client.List(ctx, list); err != nil {
		return err
	}
	return eachItem(list, f)
}

// judge fails the test for whatever must not have happened, and adds to the totals. Without want, the counts are not judged.
func (p *play) judge(want *ideal) {
	p.t.Helper()
	p.await("the history is complete", func() error { return p.history.complete(p.t.Context()) })
	found := p.history.gaps(p.mine)
	for _, wrong := range found.wrong {
		p.t.Error(wrong)
	}
	if want != nil {
		made := p.history.made(p.mine)
		for _, what := range slices.Sorted(maps.Keys(made)) {
			if most := want.made[what] + want.slack; made[what] > most {
				p.t.Errorf("%s: %d times, at most %d explained", what, made[what], most)
			}
		}
	}
	sent, turned := 0, 0
	for _, w := range p.wires {
		for _, blind := range w.blind {
			p.t.Errorf("no UID and resourceVersion as preconditions: %s", blind)
		}
		for _, out := range w.written() {
			sent++
			if out.code == 404 || out.code == 409 {
				turned++
			}
		}
	}
	totals.add(func() {
		totals.absence = max(totals.absence, found.longest)
		totals.writes += sent
		totals.turned += turned
	})
}
