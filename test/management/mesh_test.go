// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	facts "github.com/pcinetwork/pci-network-baseline/internal/facts/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// others are the kinds of Prometheus' operator and of Istio, as far as they are read.
const others = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[1]s.%[3]s}
spec:
  group: %[3]s
  scope: Namespaced
  names: {plural: %[1]s, kind: %[2]s}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// place writes an object.
func (s *site) place(t *testing.T, manifest string) {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "created "+o.GetKind()+" "+o.GetName(), func() error { // a kind that was just defined may not be served yet
		if err := s.Create(t.Context(), o.DeepCopy()); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
		return nil
	})
}

// taken takes an inventory as an administrator.
func (s *site) taken(t *testing.T) *snapshot.Management {
	t.Helper()
	reader, err := client.New(s.cluster.Config(), client.Options{Scheme: s.Scheme(), Mapper: facts.Mapper()})
	if err != nil {
		t.Fatal(err)
	}
	return facts.Take(t.Context(), reader, nil)
}

// inventory lists what of it counts here: supporting systems with what says that their mesh is strict, and who verifies nobody.
func (s *site) inventory(t *testing.T) []string {
	t.Helper()
	m := s.taken(t)
	var out []string
	for _, g := range m.Gaps {
		out = append(out, g.What+": "+g.Why)
	}
	for _, i := range m.Interfaces {
		if i.Role == snapshot.RoleSupporting && (strings.HasPrefix(i.Object, "Service shop") || strings.HasPrefix(i.Object, "PodMonitor ")) {
			out = append(out, strings.TrimSuffix(fmt.Sprint(i.System, " ", i.Address, ", ", i.Mesh), ", "))
		}
	}
	for _, c := range m.Callees {
		if c.Caller != "" {
			out = append(out, c.Object+" has "+c.Caller+" verify nobody")
		}
	}
	slices.Sort(out)
	return out
}

// pod writes one, namespace/name, with an address; rest is what it has beside its name.
func (s *site) pod(t *testing.T, key, address, annotations, rest string) {
	t.Helper()
	namespace, name, _ := strings.Cut(key, "/")
	s.place(t, "{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: "+namespace+", name: default}}") // nobody else makes it here
	s.place(t, "{apiVersion: v1, kind: Pod, metadata: {namespace: "+namespace+", name: "+name+", annotations: "+annotations+"}, spec: {automountServiceAccountToken: false, "+rest+"}}")
	p := &corev1.Pod{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, p); err != nil {
		t.Fatal(err)
	}
	p.Status.PodIPs = []corev1.PodIP{{IP: address}}
	p.Status.PodIP = address
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if err := s.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// TestOfOthers looks at what Prometheus scrapes and at what Istio's mesh takes.
func TestOfOthers(t *testing.T) { //nolint:paralleltest // see above
	s := newSite(t, "10.3.0.1", func(string) []string { return nil })
	expect := func(what string, want ...string) {
		t.Helper()
		eventually.That(t, what, func() error { // what was just written is in the API server's cache a moment later
			if diff := cmp.Diff(want, s.inventory(t)); diff != "" {
				return fmt.Errorf("(-want +got):\n%s", diff)
			}
			return nil
		})
	}
	for _, ns := range []string{"shop", "shop2"} {
		service := s.service(t, ns+"/orders", corev1.ServiceTypeClusterIP, "10.3.0."+map[string]string{"shop": "5", "shop2": "6"}[ns]+":9100")
		service.Labels = map[string]string{"team": "orders"}
		if err := s.Update(t.Context(), service); err != nil {
			t.Fatal(err)
		}
	}
	expect("neither kind is served")

	s.place(t, fmt.Sprintf(others, "servicemonitors", "ServiceMonitor", "monitoring.coreos.com"))
	s.place(t, fmt.Sprintf(others, "peerauthentications", "PeerAuthentication", "security.istio.io"))
	monitor := func(name, spec string) {
		s.place(t, "{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {namespace: shop, name: "+name+"}, spec: "+spec+"}")
	}
	monitor("of-nothing", `{selector: {matchLabels: {team: other}}, endpoints: [{port: web}]}`)
	monitor("of-another-port", `{selector: {matchLabels: {team: orders}}, endpoints: [{port: grpc}]}`)
	expect("nothing is selected")
	for spec, want := range map[string]string{
		`{targetPort: 8080}`:             "ServiceMonitor shop/one, targetPort 8080: no port of Service shop/orders has it as its targetPort, so it was not looked at",
		`{path: /metrics}`:               "metrics of orders 10.3.0.5:9100",
		`{targetPort: 0}`:                "metrics of orders 10.3.0.5:9100",
		`{targetPort: "", path: /other}`: "metrics of orders 10.3.0.5:9100",
	} {
		monitor("one", "{selector: {matchLabels: {team: orders}}, endpoints: ["+spec+"]}")
		expect("an endpoint is "+spec, want)
		s.kubectl(t, "delete", "servicemonitor", "-n", "shop", "one")
	}
	expect("nothing is selected any more")
	monitor("own", `{selector: {matchLabels: {team: orders}}, endpoints: [{targetPort: 443, tlsConfig: {insecureSkipVerify: true}}]}`) // the Service's port, which it has no other for
	expect("its own namespace is selected", "ServiceMonitor shop/own has Prometheus verify nobody", "metrics of orders 10.3.0.5:9100")
	monitor("any", `{selector: {}, namespaceSelector: {any: true}, endpoints: [{port: web}]}`)
	both := []string{"ServiceMonitor shop/own has Prometheus verify nobody", "metrics of orders 10.3.0.5:9100", "metrics of orders 10.3.0.6:9100"}
	expect("every namespace is selected", both...)

	authentication := func(namespace, name, spec string) {
		err := s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
		if client.IgnoreAlreadyExists(err) != nil {
			t.Fatal(err)
		}
		s.place(t, "{apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {namespace: "+namespace+", name: "+name+"}, spec: "+spec+"}")
	}
	authentication("istio-system", "default", `{mtls: {mode: STRICT}}`)
	s.kubectl(t, "label", "namespace", "shop", "istio.io/dataplane-mode=ambient")
	s.kubectl(t, "label", "namespace", "shop2", "istio-injection=enabled")
	s.pod(t, "shop/left-out", "10.3.0.5", "{}", "containers: [{name: app, image: x}]")
	s.pod(t, "shop/on-the-host", "10.3.0.5", "{}", "hostNetwork: true, containers: [{name: istio-proxy, image: x}]")
	s.pod(t, "shop2/included", "10.3.0.6", "{traffic.sidecar.istio.io/includeInboundPorts: ''}", "containers: [{name: app, image: x}, {name: istio-proxy, image: x}]")
	for name, annotation := range map[string]string{"odd": "traffic.sidecar.istio.io/excludeInboundPorts: any", "none": "sidecar.istio.io/interceptionMode: NONE"} {
		s.pod(t, "shop2/"+name, "10.3.0.6", "{"+annotation+"}", "containers: [{name: app, image: x}, {name: istio-proxy, image: x}]")
	}
	expect("no pod is a member, whatever its namespace is", both...)
	s.pod(t, "shop/redirected", "10.3.0.5", "{ambient.istio.io/redirection: enabled, traffic.sidecar.istio.io/excludeInboundPorts: '15020'}", "containers: [{name: app, image: x}]")
	s.pod(t, "shop2/proxied", "10.3.0.6", "{}", "containers: [{name: app, image: x}, {name: istio-proxy, image: x}]")
	const strict = ", PeerAuthentication istio-system/default is STRICT"
	expect("both are members", both[0], both[1]+strict, both[2]+strict)
	s.pod(t, "shop2/beside", "10.3.0.6", "{traffic.sidecar.istio.io/excludeInboundPorts: '15020, 9100'}", "containers: [{name: app, image: x}, {name: istio-proxy, image: x}]")
	expect("one's port is not its proxy's", both[0], both[1]+strict, both[2])
	s.kubectl(t, "delete", "pod", "-n", "shop2", "beside", "--force", "--grace-period=0")
	expect("both are members again", both[0], both[1]+strict, both[2]+strict)
	authentication("shop2", "legacy", `{selector: {matchLabels: {app: old}}, mtls: {mode: PERMISSIVE}}`)
	expect("one has an exception", both[0], both[1]+strict, both[2])
	authentication("istio-system", "ports", `{mtls: {mode: STRICT}, portLevelMtls: {"9100": {mode: DISABLE}}}`)
	expect("the whole mesh has an exception", both...)
	authentication("shop", "own", `{mtls: {mode: STRICT}}`)
	expect("a namespace's own counts more", both[0], both[1]+", PeerAuthentication shop/own is STRICT", both[2])

	forged := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop2", Name: "forged", Labels: map[string]string{discoveryv1.LabelServiceName: "orders"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(22))}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.3.0.99"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop2", Name: "orders"}},
			{Addresses: []string{"10.3.0.98"}},
		},
	}
	if err := s.Create(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
	const foreign = "Service shop2/orders: it has endpoints that are neither pods of its namespace nor nodes, such as 10.3.0.98:22, which are not dialled"
	expect("a slice by hand names any address", foreign, both[0], both[1]+", PeerAuthentication shop/own is STRICT", both[2])
	if err := s.Delete(t.Context(), forged); err != nil {
		t.Fatal(err)
	}

	s.podMonitors(t, expect, both[0], both[1]+", PeerAuthentication shop/own is STRICT", both[2])
	monitor("odd", `{selector: 7, endpoints: []}`)
	expect("one is not understood", append([]string{"ServiceMonitor shop/odd: its spec is not understood, by Prometheus neither"}, both[0], both[1]+", PeerAuthentication shop/own is STRICT", both[2])...)
}
