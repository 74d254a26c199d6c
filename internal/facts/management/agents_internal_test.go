// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// An agent has the ports that it is known for, and those that it lists beside them, once; whatever is no agent has none.
func TestPortsOfAgents(t *testing.T) {
	t.Parallel()
	pod := &corev1.PodSpec{Containers: []corev1.Container{
		{Name: "config", Ports: []corev1.ContainerPort{{ContainerPort: 1}, {ContainerPort: 2, Protocol: corev1.ProtocolUDP}}},
		{Name: "kube-proxy", Ports: []corev1.ContainerPort{{Name: "metrics", ContainerPort: 10249}, {Name: "more", ContainerPort: 7777, Protocol: corev1.ProtocolTCP}}},
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

// However many nodes there are, a few of each kind are looked at, and hosts of the control plane do not take the others' places.
func TestSomeHosts(t *testing.T) {
	t.Parallel()
	i := newInventory(nil, nil)
	for n := 1; n <= 20; n++ {
		a := netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", n))
		i.add(snapshot.Interface{Address: netip.AddrPortFrom(a, kubeletPort), Role: snapshot.RoleKubelet})
		i.add(snapshot.Interface{Address: netip.AddrPortFrom(a, readOnlyPort), Role: snapshot.RoleKubeletReadOnly})
		if n > 6 && n <= 12 {
			i.hosts[a] = "x"
		}
	}
	want := "[10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.7 10.0.0.8 10.0.0.9 10.0.0.10]"
	if got := fmt.Sprint(i.someHosts()); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
