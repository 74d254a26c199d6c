// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pcinetwork/pci-network-baseline/internal/facts"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestAPIServer(t *testing.T) {
	https := []discoveryv1.EndpointPort{endpointPort("https", "TCP", 6443)}
	ep := func(address string, port int32) snapshot.Endpoint {
		return snapshot.Endpoint{Address: addrs(address)[0], Port: port}
	}
	unready := endpoint("", "10.0.0.12")
	unready.Conditions.Ready = new(false)
	cases := map[string]struct {
		objects []client.Object
		want    []snapshot.Endpoint
	}{
		"nothing": {},
		"several servers in two families, sorted": {
			objects: []client.Object{
				slice("default", "kubernetes", "v6", https, endpoint("", "2001:db8::10")),
				slice("default", "kubernetes", "v4", https, endpoint("", "10.0.0.11"), endpoint("", "10.0.0.10")),
			},
			want: []snapshot.Endpoint{ep("10.0.0.10", 6443), ep("10.0.0.11", 6443), ep("2001:db8::10", 6443)},
		},
		"a server that is not ready keeps its allowance": {
			objects: []client.Object{slice("default", "kubernetes", "v4", https, unready)},
			want:    []snapshot.Endpoint{ep("10.0.0.12", 6443)},
		},
		"two slices with one server count once": {
			objects: []client.Object{
				slice("default", "kubernetes", "a", https, endpoint("", "10.0.0.10")),
				slice("default", "kubernetes", "b", https, endpoint("", "10.0.0.10")),
			},
			want: []snapshot.Endpoint{ep("10.0.0.10", 6443)},
		},
		"each slice has its own ports, sorted": {
			objects: []client.Object{
				slice("default", "kubernetes", "a", []discoveryv1.EndpointPort{endpointPort("b", "TCP", 8443), endpointPort("a", "TCP", 443)}, endpoint("", "10.0.0.10")),
				slice("default", "kubernetes", "b", https, endpoint("", "10.0.0.11")),
			},
			want: []snapshot.Endpoint{ep("10.0.0.10", 443), ep("10.0.0.10", 8443), ep("10.0.0.11", 6443)},
		},
		"UDP and ports without a number are left out, an unset protocol is TCP": {
			objects: []client.Object{slice("default", "kubernetes", "a", []discoveryv1.EndpointPort{
				endpointPort("h3", "UDP", 443), {Name: new("none")}, {Port: new(int32(6443))},
			}, endpoint("", "10.0.0.10"))},
			want: []snapshot.Endpoint{ep("10.0.0.10", 6443)},
		},
		"an address that cannot be read is left out": {
			objects: []client.Object{slice("default", "kubernetes", "a", https, endpoint("", "api.example.com"), endpoint("", "10.0.0.10"))},
			want:    []snapshot.Endpoint{ep("10.0.0.10", 6443)},
		},
		"a Service of the name elsewhere, or another one in default, does not count": {
			objects: []client.Object{
				slice("kube-system", "kubernetes", "a", https, endpoint("", "10.0.0.10")),
				slice("default", "shop", "b", https, endpoint("", "10.0.0.11")),
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := facts.Cluster(t.Context(), cached(t, tc.objects...), ownNamespace)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got.APIServer, sameAddr); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

// Caches list in any order. A snapshot that differs only in that would be written to every namespace.
func TestTheOrderOfListsDoesNotMatter(t *testing.T) {
	objects := []client.Object{
		slice("default", "kubernetes", "a", []discoveryv1.EndpointPort{endpointPort("https", "TCP", 6443)}, endpoint("", "10.0.0.11"), endpoint("", "10.0.0.10")),
		slice("default", "kubernetes", "b", []discoveryv1.EndpointPort{endpointPort("https", "TCP", 6443)}, endpoint("", "2001:db8::10")),
		service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...),
		service("kube-system", "coredns", kubeDNSSelector, numericPorts...),
		slice("kube-system", "kube-dns", "c", endpointPorts, endpoint("p", "192.0.2.7")),
		slice("kube-system", "kube-dns", "d", []discoveryv1.EndpointPort{endpointPort("dns", "UDP", 1053)}, endpoint("q", "192.0.2.8")),
		pod("kube-system", "p", true), pod("kube-system", "q", true), nodeLocal("-localip", "169.254.20.10,10.96.0.10"),
	}
	want, err := facts.Cluster(t.Context(), cached(t, objects...), ownNamespace)
	if err != nil {
		t.Fatal(err)
	}
	got, err := facts.Cluster(t.Context(), backwards(cached(t, objects...)), ownNamespace)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, sameAddr); diff != "" {
		t.Errorf("the order matters (-one +other):\n%s", diff)
	}
	if len(want.APIServer) != 3 || len(want.DNS.Servers) != 2 || len(want.DNS.Servers[1].Addresses) != 2 || len(want.DNS.NodeLocal) != 2 {
		t.Errorf("too little was found to prove anything: %+v", want)
	}
}

// backwards turns every list around, and the endpoints and ports within slices.
func backwards(r client.Reader) client.Reader {
	return readerFunc(func(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
		if err := r.List(ctx, list, opts...); err != nil {
			return err
		}
		switch l := list.(type) {
		case *discoveryv1.EndpointSliceList:
			slices.Reverse(l.Items)
			for i := range l.Items {
				slices.Reverse(l.Items[i].Endpoints)
				slices.Reverse(l.Items[i].Ports)
			}
		case *corev1.ServiceList:
			slices.Reverse(l.Items)
		case *corev1.PodList:
			slices.Reverse(l.Items)
		case *networkingv1.NetworkPolicyList:
			slices.Reverse(l.Items)
		}
		return nil
	})
}

// readerFunc is a Reader that lists.
type readerFunc func(context.Context, client.ObjectList, ...client.ListOption) error

func (f readerFunc) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	return f(ctx, list, opts...)
}

func (readerFunc) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errors.New("facts list, and get nothing")
}

func TestSystemNamespaces(t *testing.T) {
	got, err := facts.Cluster(t.Context(), cached(t), "ops")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSorted(got.SystemNamespaces) {
		t.Errorf("%v is not sorted, and the plan searches it by halves", got.SystemNamespaces)
	}
	for _, name := range []string{"kube-system", "ops", "calico-system", "tigera-operator", "cilium", "openshift-dns", "openshift-ovn-kubernetes"} {
		if !slices.Contains(got.SystemNamespaces, name) {
			t.Errorf("%s is missing in %v", name, got.SystemNamespaces)
		}
	}
	if slices.Contains(got.SystemNamespaces, "") || slices.Contains(got.SystemNamespaces, "default") {
		t.Errorf("too many are in %v", got.SystemNamespaces)
	}
	inKubeSystem, err := facts.Cluster(t.Context(), cached(t), "kube-system")
	if err != nil || len(inKubeSystem.SystemNamespaces) != len(got.SystemNamespaces)-1 {
		t.Errorf("an operator in kube-system gives %v, %v, want kube-system once", inKubeSystem.SystemNamespaces, err)
	}
}

func TestNamespace(t *testing.T) {
	created := metav1.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", UID: "u", Labels: map[string]string{"team": "shop"}, CreationTimestamp: created}}
	np := func(namespace, name string) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	phase := func(name string, p corev1.PodPhase) *corev1.Pod {
		out := pod("shop", name, true)
		out.Status.Phase = p
		return out
	}
	r := cached(t, np("shop", "b"), np("shop", "a"), np("other", "c"), pod("shop", "plain", false), pod("other", "proxy", true),
		phase("running", corev1.PodRunning), phase("pending", corev1.PodPending), phase("done", corev1.PodSucceeded), phase("failed", corev1.PodFailed), phase("lost", corev1.PodUnknown))
	for name, reader := range map[string]client.Reader{"as listed": r, "the other way round": backwards(r)} {
		t.Run(name, func(t *testing.T) {
			got, err := facts.Namespace(t.Context(), reader, ns)
			if err != nil {
				t.Fatal(err)
			}
			want := snapshot.Namespace{
				Name: "shop", UID: "u", Labels: map[string]string{"team": "shop"}, Created: created.Time,
				Policies:        []*networkingv1.NetworkPolicy{np("shop", "a"), np("shop", "b")},
				HostNetworkPods: []string{"lost", "pending", "running"},
			}
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(metav1.ObjectMeta{}, "ResourceVersion")); diff != "" {
				t.Errorf("namespace (-want +got):\n%s", diff)
			}
		})
	}
}

// A failed read is never "not found": a namespace whose DNS could not be read must not lose its allowance.
func TestErrorsPropagate(t *testing.T) {
	objects := []client.Object{
		service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...),
		slice("kube-system", "kube-dns", "s", endpointPorts, endpoint("p", "10.0.0.2")),
		slice("default", "kubernetes", "a", []discoveryv1.EndpointPort{endpointPort("https", "TCP", 6443)}, endpoint("", "10.0.0.10")),
	}
	cluster := func(ctx context.Context, r client.Reader) (any, error) {
		c, err := facts.Cluster(ctx, r, ownNamespace)
		return []any{len(c.APIServer), len(c.DNS.Servers), len(c.SystemNamespaces)}, err
	}
	namespace := func(ctx context.Context, r client.Reader) (any, error) {
		n, err := facts.Namespace(ctx, r, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}})
		return []any{len(n.Name), len(n.Policies), len(n.HostNetworkPods)}, err
	}
	cases := map[string]struct {
		take            func(context.Context, client.Reader) (any, error)
		kind, namespace string // the list that is refused
		want            string
	}{
		"the API server's endpoints":    {cluster, "EndpointSliceList", "default", "listing the EndpointSlices of the API server: "},
		"the host-network pods for DNS": {cluster, "PodList", "openshift-dns", "listing the host-network pods of openshift-dns: "},
		"the Services for DNS":          {cluster, "ServiceList", "kube-system", "listing the Services of kube-system: "},
		"the endpoints of a DNS server": {cluster, "EndpointSliceList", "kube-system", "listing the EndpointSlices of kube-system/kube-dns: "},
		"a namespace's policies":        {namespace, "NetworkPolicyList", "shop", "listing the NetworkPolicies of shop: "},
		"a namespace's pods":            {namespace, "PodList", "shop", "listing the host-network pods of shop: "},
	}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "", errors.New("no"))
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := interceptor.NewClient(fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(objects...).Build(), interceptor.Funcs{
				List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					o := (&client.ListOptions{}).ApplyOptions(opts)
					if strings.HasSuffix(fmt.Sprintf("%T", list), "."+tc.kind) && o.Namespace == tc.namespace {
						return forbidden
					}
					return c.List(ctx, list, opts...)
				},
			})
			got, err := tc.take(t.Context(), r)
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) || !apierrors.IsForbidden(err) {
				t.Errorf("error %v, want Forbidden under %q", err, tc.want)
			}
			if diff := cmp.Diff(any([]any{0, 0, 0}), got); diff != "" {
				t.Errorf("beside the error something is returned (-want +got):\n%s", diff)
			}
		})
	}
}

// The snapshots of namespaces and of DNS take every pod that the reader lists for one on its node's network. Only this
// selector makes that true, and keeps other pods out of memory.
func TestTheCacheHoldsHostNetworkPodsAlone(t *testing.T) {
	opts := facts.CacheOptions(func(client.Object) {})
	selectors := map[string]cache.ByObject{}
	for obj, by := range opts.ByObject {
		selectors[fmt.Sprintf("%T", obj)] = by
	}
	if got := selectors["*v1.Pod"].Field; got == nil || got.String() != "spec.hostNetwork=true" {
		t.Errorf("the cache of pods selects %v, want spec.hostNetwork=true", got)
	}
	for kind, want := range map[string][]string{
		"*v1.Service":       {"kube-system", "openshift-dns"},
		"*v1.EndpointSlice": {"default", "kube-system", "openshift-dns"},
	} {
		var got []string
		for n := range selectors[kind].Namespaces {
			got = append(got, n)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("namespaces of %s (-want +got):\n%s", kind, diff)
		}
	}
}

func TestTrimmingKeepsWhatSnapshotsAreMadeOf(t *testing.T) {
	ns := labelled(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: map[string]string{"a": "b"}}}, "team", "shop")
	ns.Status.Phase = corev1.NamespaceTerminating
	trim(t, ns)
	if ns.Labels["team"] != "shop" || ns.Status.Phase != corev1.NamespaceTerminating || ns.Annotations != nil {
		t.Errorf("a namespace became %+v", ns)
	}
	p := pod("shop", "proxy", true)
	p.Spec.Containers = []corev1.Container{{Name: "c", Args: []string{"secret"}}}
	p.Spec.NodeName = "node-1"
	trim(t, p)
	want := pod("shop", "proxy", true)
	want.Spec.Containers = []corev1.Container{}
	if diff := cmp.Diff(want, p); diff != "" {
		t.Errorf("a pod (-want +got):\n%s", diff)
	}
	var seen int
	opts := facts.CacheOptions(func(client.Object) { seen++ })
	for _, by := range opts.ByObject {
		if by.Transform != nil {
			if _, err := by.Transform(&corev1.Node{}); err != nil {
				t.Error(err)
			}
		}
	}
	if out, err := opts.DefaultTransform("no object"); err != nil || out != "no object" {
		t.Errorf("what is no object became %v, %v", out, err)
	}
	if seen != 4 {
		t.Errorf("managed fields are trimmed by %d of the 4 transforms of their own", seen)
	}
}
