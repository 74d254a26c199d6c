// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// cilium makes the cluster one of Cilium's, and returns its configuration and its agents, on no node yet.
func (s *site) cilium(t *testing.T) (*corev1.ConfigMap, *appsv1.DaemonSet) {
	t.Helper()
	config := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "cilium-config"}, Data: map[string]string{"enable-host-firewall": "false"},
	}
	user := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "cilium"}}
	labels := map[string]string{"k8s-app": "cilium"}
	agents := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "cilium"},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{ServiceAccountName: user.Name, AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{Name: "cilium-agent", Image: "quay.io/cilium/cilium:v1.20.2"}}},
		}},
	}
	for _, o := range []client.Object{config, user, agents} {
		if err := s.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	return config, agents
}

// joined makes a node Ready, as its agent is. The agent's pod is there first: where counts differ for a moment, pods are looked at.
func (s *site) joined(t *testing.T, agents *appsv1.DaemonSet, name string) {
	t.Helper()
	ready := []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: agents.Namespace, Name: agents.Name + "-" + name, Labels: agents.Spec.Template.Labels}}
	pod.Spec = *agents.Spec.Template.Spec.DeepCopy()
	pod.Spec.NodeName = name
	if err := s.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase, pod.Status.Conditions = corev1.PodRunning, ready
	if err := s.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	agents.Status.DesiredNumberScheduled++
	agents.Status.NumberReady++
	if err := s.Status().Update(t.Context(), agents); err != nil {
		t.Fatal(err)
	}
	n := &corev1.Node{}
	if err := s.Get(t.Context(), client.ObjectKey{Name: name}, n); err != nil {
		t.Fatal(err)
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "x", LastHeartbeatTime: metav1.Now()}}
	if err := s.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

// TestHostFirewall goes from an engine that would ignore it, over lists that lack somebody, to one that could be enforced.
func TestHostFirewall(t *testing.T) { //nolint:paralleltest // the ports of a control plane are fixed
	s := newSite(t, "10.5.0.1", func(string) []string { return nil })
	s.node(t, "cp", "10.5.0.1", controlPlane, &kubelet{config: safe()})
	s.node(t, "n1", "10.5.0.2", nil, &kubelet{config: safe()})
	config, agents := s.cilium(t)
	s.joined(t, agents, "cp")
	s.joined(t, agents, "n1")
	s.operate(t)
	list := func(ranges ...pcinetv1alpha1.CIDR) func(*pcinetv1alpha1.PCINetworkBaselineSpec) {
		return func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
			ask(true)(spec)
			spec.ManagementEncryption = nil
			spec.ManagementAccess.HostFirewall = pcinetv1alpha1.HostFirewallAudit
			for _, r := range ranges {
				spec.ManagementAccess.AllowedCIDRs = append(spec.ManagementAccess.AllowedCIDRs, pcinetv1alpha1.AllowedCIDR{
					CIDR: r, Name: "x", Justification: "Nodes get their addresses from it.",
				})
			}
		}
	}

	s.declare(t, list("10.5.0.0/24"))
	s.await(t, "ManagementAccessRestricted=False/HostFirewallIneffective: ConfigMap kube-system/cilium-config has enable-host-firewall: \"false\": Cilium accepts policies for nodes and ignores them")
	config.Data["enable-host-firewall"] = "true"
	if err := s.Update(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	attempts := 0
	eventually.That(t, "it is seen when somebody looks again", func() error {
		attempts++
		s.clock.SetTime(s.clock.Now().Add(6 * time.Second)) // what differs by nodes is told every 5 s
		s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
			spec.ManagementAccess.AllowedCIDRs[0].Name = fmt.Sprintf("office-%d", attempts)
		})
		b := s.await(t, "ManagementAccessRestricted=") // of this generation
		if c := apimeta.FindStatusCondition(b.Status.Conditions, "ManagementAccessRestricted"); c.Status != metav1.ConditionTrue {
			time.Sleep(time.Second)
			return errors.New(c.Message)
		}
		return nil
	})

	s.declare(t, list("10.5.0.2/32"))
	s.await(t, "ManagementAccessRestricted=False/HostFirewallRefused: it lacks 10.5.0.1 (Node cp), 10.5.0.1 (API server)")
	s.declare(t, list("10.5.0.1/32", "10.5.0.2/32"))
	s.await(t, "ManagementAccessRestricted=False/HostFirewallRefused: it holds nodes only one by one: 10.5.0.1 (Node cp), 10.5.0.2 (Node n1)")
	s.node(t, "n2", "10.5.1.3", nil, &kubelet{config: safe()})
	s.joined(t, agents, "n2")
	s.declare(t, list("10.5.0.0/24"))
	s.await(t, "ManagementAccessRestricted=False/HostFirewallRefused: it lacks 10.5.1.3 (Node n2)")
	s.declare(t, list("10.5.0.0/23"))
	s.await(t, "ManagementAccessRestricted=True/AccessAttested: attested by ")
}
