// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// counted listens where nobody should ever come, and counts who does.
func counted(t *testing.T, ports ...int) *atomic.Int64 {
	t.Helper()
	var visitors atomic.Int64
	for _, port := range ports {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				visitors.Add(1)
				_ = c.Close()
			}
		}()
	}
	return &visitors
}

// TestNoObjectHasTheOperatorDialItsOwnHost has every object that has an address name the operator's own host, which whoever rules a node, or may
// write in a namespace, could do; the API server refuses some of them by itself. Nobody comes, neither the operator nor reach.
func TestNoObjectHasTheOperatorDialItsOwnHost(t *testing.T) { //nolint:paralleltest // the ports of a control plane are fixed
	const self = "127.0.0.1"
	s := newSite(t, "10.11.0.1", func(dir string) []string {
		return []string{"--anonymous-auth=false", "--kubelet-certificate-authority=" + filepath.Join(dir, "pki", "ca.crt")}
	})
	visitors := counted(t, 10250, 10255, 8080, 2379, 2380, 2381, 10257, 10259, 8132, 10249, 10256, 7001, 7002, 7003, 7004, 7005)
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "management"))

	// A node, and what kubelets say of pods: of the control plane, of an agent, of one that is scraped.
	s.node(t, "liar", "10.11.0.2", controlPlane, &kubelet{config: safe()})
	n := &corev1.Node{}
	if err := s.Get(t.Context(), types.NamespacedName{Name: "liar"}, n); err != nil {
		t.Fatal(err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: self}, {Type: corev1.NodeExternalIP, Address: self}}
	if err := s.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	s.pod(t, "kube-system/etcd", self, "{}", "nodeName: liar, hostNetwork: true, containers: [{name: etcd, image: x}]")
	s.kubectl(t, "label", "pod", "-n", "kube-system", "etcd", "tier=control-plane")
	s.kubeProxy(t, "liar", self)
	s.place(t, fmt.Sprintf(others, "podmonitors", "PodMonitor", "monitoring.coreos.com"))
	s.place(t, "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}")
	s.pod(t, "shop/scraped", self, "{}", "containers: [{name: app, image: x, ports: [{name: metrics, containerPort: 7001}]}]")
	s.place(t, "{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {namespace: shop, name: m}, spec: {selector: {}, podMetricsEndpoints: [{port: metrics}]}}")

	// A webhook by its URL, a Service by its external address and by what its load balancer is said to have.
	s.place(t, `{apiVersion: admissionregistration.k8s.io/v1, kind: ValidatingWebhookConfiguration, metadata: {name: self}, webhooks: [{name: self.example.com,
		clientConfig: {url: "https://127.0.0.1:7002"}, failurePolicy: Ignore, sideEffects: None, admissionReviewVersions: [v1],
		rules: [{apiGroups: [example.com], apiVersions: [v1], resources: [nothing], operations: [CREATE]}]}]}`)
	s.place(t, "{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: grafana}, spec: {type: LoadBalancer, externalIPs: [10.11.0.9], ports: [{port: 7003}]}}")
	svc := &corev1.Service{}
	if err := s.Get(t.Context(), types.NamespacedName{Namespace: "shop", Name: "grafana"}, svc); err != nil {
		t.Fatal(err)
	}
	before := svc.DeepCopy()
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: self}, {Hostname: "localhost"}}
	if err := s.Status().Patch(t.Context(), svc, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	for kind, manifest := range map[string]string{
		"an EndpointSlice": "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {namespace: shop, name: self, labels: {kubernetes.io/service-name: grafana}}, addressType: IPv4, ports: [{port: 7004}], endpoints: [{addresses: [127.0.0.1]}]}",
		"a Service":        "{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: loki}, spec: {externalIPs: [127.0.0.1], ports: [{port: 7005}]}}",
	} {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(manifest), &o.Object); err != nil {
			t.Fatal(err)
		}
		if err := s.Create(t.Context(), o); err == nil || !strings.Contains(err.Error(), "loopback") {
			t.Errorf("the API server takes %s, of which this test says that it does not: %v", kind, err)
		}
	}

	s.operate(t)
	s.declare(t, ask(true))
	s.await(t, "ManagementTrafficEncrypted=Unknown/ManagementNotObservable")
	named := map[snapshot.Role]bool{}
	for _, i := range s.taken(t).Interfaces {
		if i.Address.Addr().String() == self {
			named[i.Role] = true
		}
	}
	for _, role := range []snapshot.Role{
		snapshot.RoleKubelet, snapshot.RoleKubeletReadOnly, snapshot.RoleInsecureAPI, snapshot.RoleEtcd, snapshot.RoleEtcdMetrics, snapshot.RoleScheduler,
		snapshot.RoleControllerManager, snapshot.RoleKonnectivity, snapshot.RoleNetworkAgent, snapshot.RoleAgentHealth, snapshot.RoleSupporting,
	} {
		if !named[role] {
			t.Errorf("no object has the operator look at a %s of its own host: this test shows nothing of it", role)
		}
	}
	_, r, _ := s.reached(t, "--pods")
	refused := 0
	for _, i := range r.Interfaces {
		if i.Address.Addr().String() == self && i.Answer != snapshot.SpeechNotDialled {
			t.Errorf("reach says %s of %s %s", i.Answer, i.Role, i.Address)
		} else if i.Address.Addr().String() == self {
			refused++
		}
	}
	if refused < len(named) {
		t.Errorf("reach names its own host %d times, the operator by %d roles", refused, len(named))
	}
	eventually.That(t, "it was said that they were not dialled", func() error {
		if got := s.findings(t, "TrafficEncrypted", "error"); got < 5 {
			return fmt.Errorf("only %d are", got)
		}
		return nil
	})
	if got := visitors.Load(); got > 0 {
		t.Errorf("%d came", got)
	}
}
