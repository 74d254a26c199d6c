// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pcinetwork/pci-network-baseline/internal/facts"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const ownNamespace = "pci-network-baseline-system"

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, discoveryv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// cached reads the objects as the operator's cache gives them: of pods it holds those on host networks alone, trimmed
// (see facts.CacheOptions).
func cached(t *testing.T, objs ...client.Object) client.Reader {
	t.Helper()
	return interceptor.NewClient(fake.NewClientBuilder().WithScheme(newScheme(t)).WithObjects(objs...).Build(), interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := c.List(ctx, list, opts...); err != nil {
				return err
			}
			pods, ok := list.(*corev1.PodList)
			if !ok {
				return nil
			}
			all := pods.Items
			pods.Items = nil
			for i := range all {
				if all[i].Spec.HostNetwork {
					trim(t, &all[i])
					pods.Items = append(pods.Items, all[i])
				}
			}
			return nil
		},
	})
}

// trim applies the transform of the operator's cache.
func trim(t *testing.T, obj client.Object) {
	t.Helper()
	opts := facts.CacheOptions(func(client.Object) {})
	transform := opts.DefaultTransform
	for kind, by := range opts.ByObject {
		switch obj.(type) {
		case *corev1.Pod:
			if _, ok := kind.(*corev1.Pod); ok {
				transform = by.Transform
			}
		case *corev1.Namespace:
			if _, ok := kind.(*corev1.Namespace); ok {
				transform = by.Transform
			}
		}
	}
	if _, err := transform(obj); err != nil {
		t.Fatal(err)
	}
}

func takeDNS(t *testing.T, objs ...client.Object) snapshot.DNS {
	t.Helper()
	c, err := facts.Cluster(t.Context(), cached(t, objs...), ownNamespace)
	if err != nil {
		t.Fatal(err)
	}
	return c.DNS
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// service returns a Service; labels are written key, value, ...
func service(namespace, name string, selector map[string]string, ports ...corev1.ServicePort) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: ports},
	}
}

func labelled[T client.Object](obj T, pairs ...string) T {
	set := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		set[pairs[i]] = pairs[i+1]
	}
	obj.SetLabels(set)
	return obj
}

// servicePort returns a port of a Service whose target is a number, or a name.
func servicePort(name string, protocol corev1.Protocol, port int32, target any) corev1.ServicePort {
	p := corev1.ServicePort{Name: name, Protocol: protocol, Port: port}
	switch target := target.(type) {
	case int:
		p.TargetPort = intstr.FromInt32(int32(target))
	case string:
		p.TargetPort = intstr.FromString(target)
	}
	return p
}

func endpointPort(name string, protocol corev1.Protocol, port int32) discoveryv1.EndpointPort {
	return discoveryv1.EndpointPort{Name: new(name), Protocol: new(protocol), Port: new(port)}
}

// slice returns an EndpointSlice of a Service.
func slice(namespace, serviceName, name string, ports []discoveryv1.EndpointPort, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return labelled(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Ports: ports, Endpoints: endpoints,
	}, discoveryv1.LabelServiceName, serviceName)
}

// endpoint returns an endpoint; pod is "" when none stands behind it.
func endpoint(pod string, addresses ...string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: addresses}
	if pod != "" {
		e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "kube-system", Name: pod}
	}
	return e
}

func pod(namespace, name string, hostNetwork bool) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{HostNetwork: hostNetwork},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
}

// nodeLocal returns a pod of NodeLocal DNSCache whose container is started with the arguments.
func nodeLocal(args ...string) *corev1.Pod {
	p := labelled(pod("kube-system", "node-local-dns-x", true), "k8s-app", "node-local-dns")
	p.Spec.Containers = []corev1.Container{{Name: "node-cache", Args: args}}
	return p
}
