// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"errors"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// kubeProxy has an agent of the network run on a node, whose ports no Service has and no pod lists.
func (s *site) kubeProxy(t *testing.T, node, host string) {
	t.Helper()
	s.place(t, `{apiVersion: apps/v1, kind: DaemonSet, metadata: {namespace: kube-system, name: kube-proxy}, spec: {
		selector: {matchLabels: {k8s-app: kube-proxy}}, template: {metadata: {labels: {k8s-app: kube-proxy}}, spec: {
		hostNetwork: true, automountServiceAccountToken: false, containers: [{name: kube-proxy, image: "nobodys/proxy:v1"}]}}}}`)
	d := &appsv1.DaemonSet{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "kube-proxy"}, d); err != nil {
		t.Fatal(err)
	}
	d.Status.CurrentNumberScheduled = 1
	if err := s.Status().Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	s.pod(t, "kube-system/kube-proxy-1", host, "{}", "nodeName: "+node+", hostNetwork: true, containers: [{name: kube-proxy, image: x}]")
	p := &corev1.Pod{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceSystem, Name: "kube-proxy-1"}, p); err != nil {
		t.Fatal(err)
	}
	p.Labels = map[string]string{"k8s-app": "kube-proxy"}
	if err := errors.Join(controllerutil.SetControllerReference(d, p, s.Scheme()), s.Update(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	p.Status.Phase, p.Status.HostIP, p.Status.HostIPs = corev1.PodRunning, host, []corev1.HostIP{{IP: host}}
	if err := s.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

// agents has the agent listen: whether it is alive in the clear, which everybody may know, and metrics, which is another matter.
func (s *site) agents(t *testing.T) {
	t.Helper()
	s.kubeProxy(t, "n1", "10.0.0.2")
	plain(t, "10.0.0.2:10256")
	s.hour(t)
	s.await(t, "ManagementTrafficEncrypted=True/TrafficEncrypted")
	plain(t, "10.0.0.2:10249")
	s.hour(t)
	s.await(t, "ManagementTrafficEncrypted=False/Plaintext: kube-proxy's metrics 10.0.0.2:10249 (DaemonSet kube-system/kube-proxy): it answers in the clear. Turn it off in the network plugin's settings")
}
