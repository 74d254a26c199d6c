// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestSupportingSystemsAreRecognised(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		name   string
		labels map[string]string
		want   string
	}{
		"by the label of charts":       {"x", map[string]string{"app.kubernetes.io/name": "prometheus"}, "Prometheus"},
		"by ECK's label":               {"logs-es-http", map[string]string{"common.k8s.elastic.co/type": "elasticsearch"}, "Elasticsearch"},
		"by the label of older charts": {"x", map[string]string{"k8s-app": "metrics-server"}, "metrics-server"},
		"by its name":                  {"grafana", nil, "Grafana"},
		"the first label counts":       {"grafana", map[string]string{"app.kubernetes.io/name": "loki", "app": "tempo"}, "Loki"},
		"a shop is none":               {"shop", map[string]string{"app": "shop"}, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: tc.name, Labels: tc.labels}}
			if got := recognise(s); got != tc.want {
				t.Errorf("it is %q, want %q", got, tc.want)
			}
		})
	}
	for owner, want := range map[metav1.OwnerReference]string{
		{APIVersion: "opentelemetry.io/v1beta1", Kind: "OpenTelemetryCollector"}: "OpenTelemetry Collector",
		{APIVersion: "example.com/v1", Kind: "Prometheus"}:                       "",
		{APIVersion: "apps/v1", Kind: "StatefulSet"}:                             "",
	} {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "x", OwnerReferences: []metav1.OwnerReference{owner}}}
		if got := recognise(s); got != want {
			t.Errorf("one of %s is %q, want %q", owner.Kind, got, want)
		}
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	const nginx, haproxy = "nginx.ingress.kubernetes.io/whitelist-source-range", "haproxy.org/allow-list"
	cases := map[string]struct {
		annotations map[string]string
		want, by    string
	}{
		"none":                           {want: "[]"},
		"of an annotation":               {annotations: map[string]string{nginx: "192.0.2.0/24, 198.51.100.7"}, want: "[192.0.2.0/24 198.51.100.7/32]", by: nginx},
		"IPv6, and host bits":            {annotations: map[string]string{nginx: " 2001:db8::/32 ,192.0.2.9/24"}, want: "[2001:db8::/32 192.0.2.0/24]", by: nginx},
		"of two, of which one is heeded": {annotations: map[string]string{haproxy: "10.0.0.0/8", nginx: "192.0.2.0/24"}, want: "[192.0.2.0/24 10.0.0.0/8]", by: nginx + ", " + haproxy},
		"nothing but nonsense is none":   {annotations: map[string]string{nginx: "office"}, want: "[]", by: nginx},
		"nonsense beside a range":        {annotations: map[string]string{nginx: "office,192.0.2.0/24"}, want: "[192.0.2.0/24]", by: nginx},
		"an annotation of somebody else": {annotations: map[string]string{"example.com/ranges": "192.0.2.0/24"}, want: "[]"},
		"an annotation of a Service":     {annotations: map[string]string{corev1.AnnotationLoadBalancerSourceRangesKey: "192.0.2.0/24"}, want: "[]"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := ingressDoor(&networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations}}, "Grafana")
			if got := fmt.Sprint(d.Ranges); got != tc.want || d.By != tc.by {
				t.Errorf("they are %s by %q, want %s by %q", got, d.By, tc.want, tc.by)
			}
		})
	}
}

// A Service is a system, a door, something that is scraped, or a name for something elsewhere.
func TestServices(t *testing.T) {
	t.Parallel()
	m := monitor{selector: labels.Everything(), all: true, object: "ServiceMonitor a/b"}
	ports := []corev1.ServicePort{{Name: "tcp", Port: 9094, Protocol: corev1.ProtocolTCP}, {Name: "udp", Port: 9094, Protocol: corev1.ProtocolUDP}}
	of := func(key string, kind corev1.ServiceType, selector map[string]string) *corev1.Service {
		namespace, name, _ := strings.Cut(key, "/")
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Spec: corev1.ServiceSpec{Type: kind, Selector: selector, Ports: ports}}
	}
	server := map[string]string{"component": "kube-apiserver"}
	for name, tc := range map[string]struct {
		service *corev1.Service
		wanted  bool
		want    string // doors, targets, and gaps: what of 4.2 and 4.3 they are
	}{
		"a shop's":                              {of("shop/shop", corev1.ServiceTypeNodePort, nil), false, "[] [metrics of shop] []"},
		"a system's":                            {of("monitoring/grafana", corev1.ServiceTypeNodePort, nil), false, "[Grafana] [Grafana] []"},
		"the API server's own":                  {of("default/kubernetes", corev1.ServiceTypeNodePort, nil), false, "[the API server] [metrics of kubernetes] []"},
		"one in front of API servers":           {of("kube-system/api", corev1.ServiceTypeLoadBalancer, server), false, "[the API server] [metrics of api] []"},
		"one in front of API servers, declared": {of("kube-system/declared", corev1.ServiceTypeLoadBalancer, server), false, "[the API server] [declared] []"},
		"one of another cluster's API server":   {of("tenant/api", corev1.ServiceTypeLoadBalancer, server), false, "[] [metrics of api] []"},
		"a name for a shop elsewhere":           {of("shop/shop", corev1.ServiceTypeExternalName, nil), false, "[] [] []"},
		"a name for a system elsewhere":         {of("monitoring/grafana", corev1.ServiceTypeExternalName, nil), false, "[] [] [minor]"},
		"a name for a declared system":          {of("logs/elsewhere", corev1.ServiceTypeExternalName, nil), false, "[] [] [traffic]"},
		"a name that the API server is to call": {of("hooks/hook", corev1.ServiceTypeExternalName, nil), true, "[] [] [traffic]"},
	} {
		i := newInventory(nil, []types.NamespacedName{{Namespace: "logs", Name: "elsewhere"}, {Namespace: "kube-system", Name: "declared"}})
		i.monitors = []monitor{m}
		i.service(tc.service, types.NamespacedName{Namespace: tc.service.Namespace, Name: tc.service.Name}, tc.wanted)
		doors, targets, gaps := []string{}, []string{}, []string{}
		for _, d := range i.out.Doors {
			doors = append(doors, d.System)
		}
		for _, t := range i.targets {
			targets = append(targets, t.like.System)
		}
		for _, g := range i.out.Gaps {
			if g.Minor {
				gaps = append(gaps, "minor")
			}
			if g.Traffic {
				gaps = append(gaps, "traffic")
			}
		}
		if got := fmt.Sprint(doors, targets, gaps); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// A port of TCP is not that of UDP with its number, in whatever order they are found.
func TestDistinct(t *testing.T) {
	t.Parallel()
	tcp := snapshot.Interface{Address: netip.MustParseAddrPort("10.0.0.1:9094"), Role: snapshot.RoleSupporting, Object: "Service monitoring/alertmanager-operated"}
	udp, other := tcp, tcp
	udp.UDP, other.Object = true, "Service monitoring/other"
	for name, list := range map[string][]snapshot.Interface{"one way": {tcp, udp, other, udp}, "the other": {udp, other, udp, tcp}} {
		if diff := cmp.Diff([]snapshot.Interface{tcp, udp}, distinct(list), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// The pod of an API server may have other containers, which are none.
func TestFlagsOfAPod(t *testing.T) {
	t.Parallel()
	container := func(name string) corev1.Container {
		return corev1.Container{Name: name, Command: []string{name, "--authorization-mode=" + name}}
	}
	for want, containers := range map[string][]corev1.Container{
		"one": {container("one")}, "kube-apiserver": {container("kms"), container("kube-apiserver")}, "": {container("kms"), container("other")},
	} {
		if got := flagsOf(&corev1.Pod{Spec: corev1.PodSpec{Containers: containers}})["authorization-mode"]; got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
}

// A load balancer heeds its Service's own ranges, and no annotation of an Ingress.
func TestServiceDoors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		spec        []string
		annotations map[string]string
		want        string
	}{
		"of the spec":                {[]string{"192.0.2.0/24"}, nil, "[192.0.2.0/24]"},
		"of the annotation":          {nil, map[string]string{corev1.AnnotationLoadBalancerSourceRangesKey: "192.0.2.0/24"}, "[192.0.2.0/24]"},
		"the spec counts more":       {[]string{"192.0.2.0/24"}, map[string]string{corev1.AnnotationLoadBalancerSourceRangesKey: "10.0.0.0/8"}, "[192.0.2.0/24]"},
		"an annotation of Ingresses": {nil, map[string]string{"nginx.org/allow-list": "192.0.2.0/24"}, "[]"},
	} {
		i := &inventory{}
		i.serviceDoors(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Annotations: tc.annotations},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, LoadBalancerSourceRanges: tc.spec,
				Ports: []corev1.ServicePort{{Port: 443, Protocol: corev1.ProtocolTCP, NodePort: 30443}, {Port: 53, Protocol: corev1.ProtocolUDP}},
			},
			Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: "203.0.113.7"}, {Hostname: "lb.example.com"}}}},
		}, "Service a/b", "Loki")
		d := i.out.Doors[0]
		if got := fmt.Sprint(d.Ranges); got != tc.want {
			t.Errorf("%s: they are %s, want %s", name, got, tc.want)
		}
		if got := fmt.Sprint(d.Addresses, d.Names, d.NodePorts); got != "[203.0.113.7:443] [lb.example.com:443] [30443]" {
			t.Errorf("%s: it is at %s", name, got)
		}
	}
}

// Of each port a few endpoints are kept, always the same ones; those that are not ready are none.
func TestEndpoints(t *testing.T) {
	t.Parallel()
	slice := discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{
		{Name: new("web"), Port: new(int32(443))},
		{Name: new("mesh"), Port: new(int32(9094)), Protocol: new(corev1.ProtocolUDP)},
		{Name: new("any")}, // of every port
	}}
	for i := 9; i > 0; i-- {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.0.0.%d", i)}})
	}
	slice.Endpoints[8].Conditions.Ready = new(false) // 10.0.0.1
	var got []string
	some, whole := bounded(endpointsIn([]discoveryv1.EndpointSlice{slice}))
	if !whole {
		t.Error("two ports are too many")
	}
	for _, e := range some {
		got = append(got, fmt.Sprint(e.address, " ", e.name, " ", e.udp))
	}
	var want []string
	for i := 2; i < 6; i++ {
		want = append(want, fmt.Sprintf("10.0.0.%d:443 web false", i), fmt.Sprintf("10.0.0.%d:9094 mesh true", i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
}

// A Service may list as many ports as it likes: so many are looked at, and that there are more is said.
func TestPortsOfAServiceAreBounded(t *testing.T) {
	t.Parallel()
	var all []endpoint
	for port := range maxPorts + 1 {
		for host := range byte(5) {
			all = append(all, endpoint{address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, host}), uint16(port+1)), name: fmt.Sprint(port)})
		}
	}
	if some, whole := bounded(slices.Clone(all)); whole || len(some) != maxPorts*maxPerService {
		t.Errorf("%d endpoints, all of them: %t", len(some), whole)
	}
	if some, whole := bounded(all[:len(all)-5]); !whole || len(some) != maxPorts*maxPerService {
		t.Errorf("%d endpoints, all of them: %t", len(some), whole)
	}
}

func TestFlagsOfAStaticPod(t *testing.T) {
	t.Parallel()
	got := commandLine([]string{"kube-apiserver", "--etcd-servers=https://127.0.0.1:2379", "--token-auth-file=secret", "--authorization-mode", "AlwaysAllow", "--authorization-mode=RBAC", "kubelet-certificate-authority"})
	want := map[string]string{"etcd-servers": "https://127.0.0.1:2379", "authorization-mode": "AlwaysAllow,RBAC", "kubelet-certificate-authority": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
}

// A node with several addresses has one kubelet; one without an internal address is a gap.
func TestNodes(t *testing.T) {
	t.Parallel()
	i := &inventory{hosts: map[netip.Addr]string{}, own: map[netip.Addr]bool{}}
	i.node(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "cp", Labels: map[string]string{"node-role.kubernetes.io/control-plane": ""}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "cp"},
			{Type: corev1.NodeExternalIP, Address: "203.0.113.7"},
			{Type: corev1.NodeInternalIP, Address: "10.0.0.1"},
			{Type: corev1.NodeInternalIP, Address: "2001:db8::1"},
		}},
	})
	i.node(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "lost"}})
	var got []string
	for _, in := range i.out.Interfaces {
		got = append(got, fmt.Sprint(in.Role, " ", in.Address, " ", in.Object))
	}
	for _, g := range i.out.Gaps {
		got = append(got, g.What+": "+g.Why)
	}
	want := []string{"kubelet 10.0.0.1:10250 Node cp", "read-only kubelet port 10.0.0.1:10255 Node cp", "Node lost: it has no internal address"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if i.hosts[netip.MustParseAddr("10.0.0.1")] != "Node cp" {
		t.Errorf("hosts of the control plane are %v", i.hosts)
	}
}
