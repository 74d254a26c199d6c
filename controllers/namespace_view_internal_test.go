// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// view is a reconciler of namespace shop between two fake clients: one stands for the caches, the other for the API server. Nothing
// goes from this to that but by the test.
type view struct {
	*NamespaceReconciler
	cache, api client.Client
	clock      *clocktesting.FakePassiveClock
	writes     []string // that were sent
	fail       error    // what writes of policies are answered with, if it is set
}

var shop = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "shop", CreationTimestamp: metav1.NewTime(begin)}}

func newView(t *testing.T, cached ...client.Object) *view {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	baseline := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci", UID: "pci", Generation: 1}}
	baseline.Spec.Directions = []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress}
	baseline.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone
	v := &view{clock: clocktesting.NewFakePassiveClock(begin)}
	v.cache = fake.NewClientBuilder().WithScheme(scheme).WithObjects(append(cached, shop.DeepCopy(), baseline)...).Build()
	note := func(verb string, obj client.Object) error {
		v.writes = append(v.writes, verb+" "+obj.GetName())
		if _, policy := obj.(*networkingv1.NetworkPolicy); policy {
			return v.fail
		}
		return nil
	}
	v.api = fake.NewClientBuilder().WithScheme(scheme).WithObjects(shop.DeepCopy(), baseline.DeepCopy()).
		WithIndex(&networkingv1.NetworkPolicy{}, "metadata.name", func(obj client.Object) []string { return []string{obj.GetName()} }).
		WithInterceptorFuncs(interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
				if err := note("create", obj); err != nil {
					return err
				}
				obj.SetUID(types.UID(fmt.Sprintf("new-%d", len(v.writes))))
				obj.SetCreationTimestamp(metav1.NewTime(begin))
				return c.Create(ctx, obj, opts...)
			},
			Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
				if err := note("update", obj); err != nil {
					return err
				}
				return c.Update(ctx, obj, opts...)
			},
		}).Build()
	platform := NewPlatform(v.cache, nil, v.clock, "operator")
	platform.current = &snapshot.Cluster{}
	backends, err := NewBackends(nil, platform, nil)
	if err != nil {
		t.Fatal(err)
	}
	backends.settled = true
	applier := &apply.Applier{Client: v.api, Observe: func(client.Object, apply.Operation, error) {}}
	elected := make(chan struct{})
	close(elected)
	v.NamespaceReconciler = &NamespaceReconciler{
		Reader: v.cache, Cache: v.cache, Live: v.api, Applier: applier, Natives: applier, Backends: backends, Platform: platform, Store: NewStore(),
		Metrics: metrics.New(prometheus.NewRegistry()), Recorder: events.NewFakeRecorder(100), Clock: v.clock, Elected: elected,
		fights: newFights(v.clock, func() {}),
	}
	v.sorted.Do(func() {}) // the queue is the test's
	return v
}

func (v *view) look(t *testing.T) (ctrl.Result, error) {
	t.Helper()
	return v.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: shop.Name}})
}

// sees has the caches hold what the API server does.
func (v *view) sees(t *testing.T) {
	t.Helper()
	var policies networkingv1.NetworkPolicyList
	var coverages pcinetv1alpha1.NamespaceCoverageList
	for _, list := range []client.ObjectList{&policies, &coverages} {
		if err := v.api.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []client.Object{&networkingv1.NetworkPolicy{}, &pcinetv1alpha1.NamespaceCoverage{}} {
		if err := v.cache.DeleteAllOf(t.Context(), kind, client.InNamespace(shop.Name)); err != nil {
			t.Fatal(err)
		}
	}
	add := func(obj client.Object) {
		obj.SetResourceVersion("")
		if err := v.cache.Create(t.Context(), obj); err != nil {
			t.Fatal(err)
		}
	}
	for i := range policies.Items {
		add(&policies.Items[i])
	}
	for i := range coverages.Items {
		add(&coverages.Items[i])
	}
}

// liveDeny is the deny as somebody reads it.
func liveDeny(uid types.UID) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: shop.Name, Name: deny.name, UID: uid, CreationTimestamp: metav1.NewTime(begin),
			Labels: render.Labels("pci"), Annotations: render.Annotations(),
		},
		Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}},
	}
}

// A namespace was deleted and made anew within one second. The cache still has the deny of the first.
func TestTheDenyOfAnEarlierNamespaceIsWrittenAnew(t *testing.T) {
	t.Parallel()
	for name, author := range map[string]author{
		"written by another process":                           {},
		"written by this one, which has not told of it so far": {baseline: "pci", generation: 1, namespace: "earlier", uid: "old"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newView(t, liveDeny("old"))
			if author.uid != "" {
				v.authored.Store(deny, author)
			}
			if _, err := v.look(t); err != nil {
				t.Fatal(err)
			}
			if state := v.Store.Last(shop.Name, "pci").State; state != "" {
				t.Errorf("the baseline was told %q", state)
			}
			if diff := cmp.Diff([]string{"create " + deny.name}, v.writes); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			v.sees(t)
			if _, err := v.look(t); err != nil {
				t.Fatal(err)
			}
			if state := v.Store.Last(shop.Name, "pci").State; state != pcinetv1alpha1.CoverageProtected {
				t.Errorf("the baseline was told %q", state)
			}
		})
	}
}

// A view that stays behind is told like any other failure, and tried less and less often.
func TestAViewThatStaysBehindIsTold(t *testing.T) {
	t.Parallel()
	v := newView(t)
	if _, err := v.look(t); err != nil {
		t.Fatal(err)
	}
	v.sees(t)
	if _, err := v.look(t); err != nil {
		t.Fatal(err)
	}
	v.sees(t)
	open := &networkingv1.NetworkPolicy{}
	if err := v.cache.Get(t.Context(), client.ObjectKey{Namespace: shop.Name, Name: deny.name}, open); err != nil {
		t.Fatal(err)
	}
	open.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
	if err := v.cache.Update(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "networkpolicies"}, deny.name, errors.New("made up"))
	steps := []struct {
		at   time.Duration
		fail error
		want pcinetv1alpha1.CoverageState
	}{
		{0, conflict, pcinetv1alpha1.CoverageProtected},
		{time.Second, apierrors.NewInternalError(errors.New("made up")), pcinetv1alpha1.CoverageProtected},
		{tellAfter - time.Millisecond, conflict, pcinetv1alpha1.CoverageProtected},
		{tellAfter, conflict, pcinetv1alpha1.CoveragePending},
	}
	for _, step := range steps {
		v.clock.SetTime(begin.Add(step.at))
		v.fail = step.fail
		_, err := v.look(t)
		if got := v.Store.Last(shop.Name, "pci").State; got != step.want {
			t.Errorf("after %s the baseline was told %q, want %q (%v)", step.at, got, step.want, err)
		}
		if step.at == tellAfter && err == nil {
			t.Error("it is tried again at once")
		}
	}
}

// unseen reads like a client that waits for the cache to see what this process wrote, while the watch is down.
type unseen struct {
	client.Reader
	kind string
}

func (r unseen) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if fmt.Sprintf("%T", obj) != r.kind {
		return r.Reader.Get(ctx, key, obj, opts...)
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestNobodyWaitsLongForAWatchThatIsDown(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		kind   string
		denied bool
	}{
		"that of policies": {kind: "*v1.NetworkPolicy"},
		"that of coverages, which holds back no deny": {kind: "*v1alpha1.NamespaceCoverage", denied: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newView(t)
			v.Reader = unseen{v.cache, tc.kind}
			ctx, cancel := context.WithTimeout(t.Context(), reconcileTimeout)
			defer cancel()
			began := time.Now()
			_, err := v.Reconcile(ctx, ctrl.Request{NamespacedName: client.ObjectKey{Name: shop.Name}})
			if took := time.Since(began); took > reconcileTimeout/3 {
				t.Errorf("a worker waited for %s", took)
			}
			if denied := slices.Contains(v.writes, "create "+deny.name); denied != tc.denied || (err == nil) != tc.denied {
				t.Errorf("writes %v, error %v", v.writes, err)
			}
		})
	}
}
