// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// An agent has the ports that it is known for, and those that it lists beside them, once; whatever is no agent has none.
func TestPortsOfAgents(t *testing.T) {
	t.Parallel()
	pod := &corev1.PodSpec{Containers: []corev1.Container{
		{Name: "config", Ports: []corev1.ContainerPort{{ContainerPort: 1}, {ContainerPort: 2, Protocol: corev1.ProtocolUDP}}},
		{Name: "kube-proxy", Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 10249}, {Name: "more", ContainerPort: 7777, Protocol: corev1.ProtocolTCP}, {Name: "bgp", ContainerPort: 179}}},
	}}
	want := []agentPort{
		{10249, snapshot.RoleNetworkAgent, "kube-proxy's metrics"},
		{10256, snapshot.RoleAgentHealth, "kube-proxy's health check"},
		{1, snapshot.RoleNetworkAgent, "port without a name of config"},
		{7777, snapshot.RoleNetworkAgent, "port more of kube-proxy"},
	}
	if diff := cmp.Diff(want, portsOf(pod), cmp.AllowUnexported(agentPort{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	pod.Containers = pod.Containers[:1]
	if got := portsOf(pod); got != nil {
		t.Errorf("what is no agent has %v", got)
	}
	for name, ports := range agentPorts {
		for i, p := range ports {
			if slices.ContainsFunc(ports[:i], func(o agentPort) bool { return o.port == p.port }) {
				t.Errorf("%s has port %d twice", name, p.port)
			}
		}
	}
}

// However many nodes there are, a few of each kind are looked at, hosts of the control plane do not take the others' places, and only pods of the
// agent's own count, which run on the network of a node.
func TestHostsOfAgents(t *testing.T) {
	t.Parallel()
	var pods []corev1.Pod
	pod := func(host string, change func(*corev1.Pod)) {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "net", Labels: map[string]string{"app": "cni"}, OwnerReferences: []metav1.OwnerReference{{Kind: "DaemonSet", Name: "cni", Controller: new(true)}}}}
		p.Spec.HostNetwork, p.Status.Phase, p.Status.HostIP = true, corev1.PodRunning, host
		change(&p)
		pods = append(pods, p)
	}
	i := newInventory(lists{pods: map[string][]corev1.Pod{}}, nil)
	for n := 20; n >= 1; n-- {
		host := fmt.Sprintf("10.0.0.%d", n)
		i.own[netip.MustParseAddr(host)] = true
		if n > 8 && n <= 14 {
			i.hosts[netip.MustParseAddr(host)] = "x"
		}
		pod(host, func(p *corev1.Pod) {
			switch n {
			case 1:
				p.Spec.HostNetwork = false
			case 2:
				p.Status.Phase = corev1.PodPending
			case 3:
				p.OwnerReferences = nil
			case 4:
				p.OwnerReferences[0].Name = "other"
			default:
			}
		})
	}
	pod("9.0.0.1", func(*corev1.Pod) {}) // which is no node's
	i.reader = lists{pods: map[string][]corev1.Pod{"net": pods}}
	a := &agent{object: client.ObjectKey{Namespace: "net", Name: "cni"}, selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "cni"}}}
	const want = "[10.0.0.5 10.0.0.6 10.0.0.7 10.0.0.8 10.0.0.9 10.0.0.10 10.0.0.11 10.0.0.12]"
	if got := fmt.Sprint(i.hostsOf(t.Context(), a)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Nobody makes the operator dial without end by what a DaemonSet lists.
func TestAgentsAreBounded(t *testing.T) {
	t.Parallel()
	var sets []appsv1.DaemonSet
	pods := map[string][]corev1.Pod{}
	for n := range maxAgents + 2 {
		d := appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "net", Name: fmt.Sprintf("d%02d", n)}}
		d.Spec.Selector, d.Spec.Template.Spec.HostNetwork = &metav1.LabelSelector{}, true
		d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "kube-proxy"}}
		d.Status.CurrentNumberScheduled = 1
		for port := range 1000 {
			d.Spec.Template.Spec.Containers[0].Ports = append(d.Spec.Template.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: int32(port + 1)})
		}
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "net", OwnerReferences: []metav1.OwnerReference{{Kind: "DaemonSet", Name: d.Name, Controller: new(true)}}}}
		p.Spec.HostNetwork, p.Status.Phase, p.Status.HostIP = true, corev1.PodRunning, "10.0.0.1"
		refused := d
		refused.Status.CurrentNumberScheduled = 0
		sets, pods["net"] = append(sets, refused, d), append(pods["net"], p)
	}
	i := newInventory(lists{pods: pods, daemonSets: sets}, nil)
	i.own[netip.MustParseAddr("10.0.0.1")] = true
	i.agents(t.Context())
	without := newInventory(lists{daemonSets: sets[1:2]}, nil)
	without.agents(t.Context())
	if len(without.out.Gaps) != 2 || !without.out.Gaps[1].Minor || len(without.out.Interfaces) > 0 { // the first is of its ports
		t.Errorf("an agent whose pods do not run: %+v, %+v", without.out.Interfaces, without.out.Gaps)
	}
	if got := len(i.out.Interfaces); got != maxAgents*maxAgentPorts {
		t.Errorf("%d interfaces, want %d", got, maxAgents*maxAgentPorts)
	}
	if got := len(i.out.Gaps); got != maxAgents+1 || i.out.Gaps[maxAgents].What != "The network agents from DaemonSet net/d16 on" {
		t.Errorf("%d gaps: %+v", got, i.out.Gaps)
	}
}
