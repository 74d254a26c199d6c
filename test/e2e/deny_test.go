// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// TestDefaultDeny covers namespaces with pods that could talk to everybody before.
func TestDefaultDeny(t *testing.T) {
	backends := []pcinetv1alpha1.Backend{pcinetv1alpha1.BackendNetworkPolicy}
	if env.enforces {
		backends = append(backends, env.engine.backend)
	}
	for _, backend := range backends {
		t.Run(string(backend), defaultDeny{backend}.test)
	}
}

type defaultDeny struct{ backend pcinetv1alpha1.Backend }

func (d defaultDeny) test(t *testing.T) {
	near, far := createNamespace(t, ""), createNamespace(t, "")
	cli, srv, other := startServer(t, near, "client"), startServer(t, near, "server"), startServer(t, far, "other")
	trusted := startServer(t, near, "controller", func(p *corev1.Pod) { p.Labels["needs-kube-apiserver"] = "true" })

	denied := map[string]flow{
		"TCP to a pod of the same namespace":         tcp(cli, at(srv, 8080)),
		"UDP to a pod of the same namespace":         udp(cli, at(srv, 8080)),
		"TCP to a pod of another namespace":          tcp(cli, at(other, 8080)),
		"UDP from a pod of another namespace":        udp(other, at(srv, 8080)),
		"from a pod that may reach the API server":   tcp(trusted, at(srv, 8080)),
		"from a host outside of the cluster":         tcp(nil, at(srv, 8080)),
		"to a host outside of the cluster":           tcp(cli, outsideHost),
		"to the API server, from a pod without need": tcp(cli, apiServer),
	}
	allowed := map[string]flow{
		"DNS by UDP":                            lookup(cli, "udp"),
		"DNS by TCP":                            lookup(cli, "tcp"),
		"to the API server, from a pod in need": tcp(trusted, apiServer),
	}
	for _, flows := range []map[string]flow{denied, allowed} {
		for _, f := range flows {
			f.mustPass(t) // else that they are denied later would mean nothing
		}
	}
	b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Backend = d.backend
		b.Spec.Allow.KubeAPIServer = []pcinetv1alpha1.KubeAPIServerAllowance{{
			Name:        "controllers",
			PodSelector: &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{"needs-kube-apiserver": "true"}},
		}}
	})
	for _, namespace := range []string{near, far} {
		run(t, "label", "namespace", namespace, groupLabel+"="+b.Name)
		awaitProtected(t, namespace, b)
	}
	for name, f := range denied {
		t.Run("denied: "+name, func(t *testing.T) { f.mustBeDenied(t) })
	}
	for name, f := range allowed {
		t.Run("allowed: "+name, func(t *testing.T) { f.mustPass(t) })
	}
}

func TestTenantsPolicyOpensItsPortAlone(t *testing.T) {
	namespace := createProtected(t, createBaseline(t, nil))
	cli, srv, other := startServer(t, namespace, "client"), startServer(t, namespace, "server"), startServer(t, namespace, "other")
	tcp(cli, at(srv, 8080)).mustBeDenied(t)

	port := []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(8080))}}
	to := func(name string) []networkingv1.NetworkPolicyPeer {
		return []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}}}
	}
	for _, object := range []client.Object{
		&networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "server"},
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "server"}},
				Ingress:     []networkingv1.NetworkPolicyIngressRule{{From: to("client"), Ports: port}},
			},
		},
		&networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "client"},
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "client"}},
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
				Egress:      []networkingv1.NetworkPolicyEgressRule{{To: to("server"), Ports: port}},
			},
		},
	} {
		create(t, object)
	}
	tcp(cli, at(srv, 8080)).mustPass(t)
	tcp(cli, at(srv, 9090)).mustBeDenied(t)
	udp(cli, at(srv, 8080)).mustBeDenied(t)
	tcp(srv, at(cli, 8080)).mustBeDenied(t)
	tcp(other, at(srv, 8080)).mustBeDenied(t)
	tcp(nil, at(srv, 8080)).mustBeDenied(t)
}

// TestUncoveredPods shows what no policy reaches, and that it is told.
func TestUncoveredPods(t *testing.T) {
	b := createBaseline(t, nil)
	namespace := createProtected(t, b)
	onHost := startServer(t, namespace, "on-host", func(p *corev1.Pod) {
		p.Spec.HostNetwork = true
		p.Spec.Containers[0].Args = []string{"serve", "-ports", "18080"}
	})
	behind := startServer(t, namespace, "behind-host-port", func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 28080}}
	})
	tcp(nil, at(onHost, 18080)).mustPass(t)
	tcp(nil, behind.Status.HostIP+":28080").mustBeDenied(t) // a port of the node, and yet the pod is covered

	eventually(t, "the host-network pod is reported, and no other", func() error {
		c, err := coverageOf(t.Context(), namespace, b)
		if err != nil {
			return err
		}
		return differs(c.Status.UncoveredPods, pcinetv1alpha1.UncoveredPods{Count: 1, Names: []string{"on-host"}})
	})
}
