// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The bounds of what is looked at of network agents. What is left out is a gap.
const (
	// maxAgentHosts is on how many hosts of the control plane, and on how many others: a DaemonSet gives an agent one configuration, and firewalls
	// differ between the two.
	maxAgentHosts = 4
	maxAgents     = 16 // DaemonSets: a cluster has two or three
	maxAgentPorts = 32 // of each
)

// agentPort is a port of the host that an agent opens, if it is asked to.
type agentPort struct {
	port uint16
	role snapshot.Role
	// system is what is behind it.
	system string
}

// bgp is the port of a protocol that is not dialled: [handshake.Scope] says why. Gossip between agents, as Weave Net's and Antrea's, is not either.
const bgp = 179

// agentPorts are the ports of network agents by the names of their containers. What should be bound to 127.0.0.1 is among them. Sources: Cilium
// pkg/defaults, pkg/option, pkg/hubble/defaults and its system requirements; Calico felix/config and its reference; the upstreams' manifests and
// kubernetes pkg/cluster/ports for the others. Ports that a DaemonSet itself lists need not be here.
var agentPorts = map[string][]agentPort{
	"cilium-agent": {
		{4240, snapshot.RoleAgentHealth, "Cilium's health check"},
		{4244, snapshot.RoleNetworkAgent, "Hubble"},
		{4250, snapshot.RoleNetworkAgent, "Cilium's mutual authentication"},
		{6060, snapshot.RoleNetworkAgent, "Cilium's pprof"},
		{9879, snapshot.RoleAgentHealth, "Cilium's health check"},
		{9890, snapshot.RoleNetworkAgent, "Cilium's gops"},
		{9962, snapshot.RoleNetworkAgent, "Cilium's metrics"},
		{9964, snapshot.RoleNetworkAgent, "Envoy's metrics"},
		{9965, snapshot.RoleNetworkAgent, "Hubble's metrics"},
		{10256, snapshot.RoleAgentHealth, "Cilium's health check"},
	},
	"cilium-envoy": {
		{9901, snapshot.RoleNetworkAgent, "Envoy's administration"},
		{9964, snapshot.RoleNetworkAgent, "Envoy's metrics"},
		{9878, snapshot.RoleAgentHealth, "Envoy's health check"},
	},
	"calico-node":           {{9091, snapshot.RoleNetworkAgent, "Felix's metrics"}, {9099, snapshot.RoleAgentHealth, "Felix's health check"}},
	"antrea-agent":          {{10350, snapshot.RoleNetworkAgent, "Antrea's API"}},
	"kube-router":           {{20244, snapshot.RoleAgentHealth, "kube-router's health check"}, {50051, snapshot.RoleNetworkAgent, "GoBGP's API"}},
	"weave":                 {{6782, snapshot.RoleNetworkAgent, "Weave Net's metrics"}, {6784, snapshot.RoleNetworkAgent, "Weave Net's API"}},
	"weave-npc":             {{6781, snapshot.RoleNetworkAgent, "Weave Net's metrics"}},
	"aws-node":              {{61678, snapshot.RoleNetworkAgent, "VPC CNI's metrics"}, {61679, snapshot.RoleNetworkAgent, "VPC CNI's introspection"}},
	"aws-eks-nodeagent":     {{8162, snapshot.RoleNetworkAgent, "VPC CNI's metrics"}, {8163, snapshot.RoleAgentHealth, "VPC CNI's health check"}},
	"azure-npm":             {{10091, snapshot.RoleNetworkAgent, "Azure NPM's metrics"}},
	"kube-network-policies": {{9080, snapshot.RoleNetworkAgent, "kube-network-policies' metrics"}},
	"kube-proxy":            {{10249, snapshot.RoleNetworkAgent, "kube-proxy's metrics"}, {10256, snapshot.RoleAgentHealth, "kube-proxy's health check"}},
}

// agent is a DaemonSet whose pods are network agents.
type agent struct {
	object   client.ObjectKey
	selector *metav1.LabelSelector
	ports    []agentPort
}

// agents finds the ports of network agents on some of the hosts on which their pods run. Whoever may write DaemonSets could call any port of a
// node an agent's; only one whose pods are there, on the network of their host, counts: that takes more.
func (i *inventory) agents(ctx context.Context) {
	var found []agent
	pages(ctx, i, "daemonsets.apps", func(list *appsv1.DaemonSetList) {
		for n := range list.Items {
			d := &list.Items[n]
			if d.Status.CurrentNumberScheduled == 0 || !d.Spec.Template.Spec.HostNetwork { // its pods were refused, or it has none
				continue
			}
			if ports := portsOf(&d.Spec.Template.Spec); len(ports) > 0 {
				found = append(found, agent{client.ObjectKeyFromObject(d), d.Spec.Selector, ports})
			}
		}
	})
	for n := range found {
		a := &found[n]
		if n == maxAgents {
			i.leftOut("The network agents from DaemonSet "+a.object.String()+" on", fmt.Sprintf("there are more than %d", maxAgents))
			return
		}
		object := "DaemonSet " + a.object.String()
		if len(a.ports) > maxAgentPorts {
			i.leftOut(object, fmt.Sprintf("it lists more ports than the first %d that are looked at", maxAgentPorts))
			a.ports = a.ports[:maxAgentPorts]
		}
		hosts := i.hostsOf(ctx, a)
		if len(hosts) == 0 {
			i.out.Gaps = append(i.out.Gaps, snapshot.Gap{What: object, Why: "none of its pods runs on a node's network, so its ports were not looked at", Remedy: "See why: kubectl get pods -A -o wide", Minor: true})
		}
		for _, host := range hosts {
			for _, p := range a.ports {
				i.add(snapshot.Interface{Address: netip.AddrPortFrom(host, p.port), Role: p.role, System: p.system, Object: object})
			}
		}
	}
}

// hostsOf returns the first hosts of the control plane that run an agent, and the first others, by address.
func (i *inventory) hostsOf(ctx context.Context, a *agent) []netip.Addr {
	selector, err := metav1.LabelSelectorAsSelector(a.selector)
	if err != nil {
		return nil // the API server has checked it
	}
	var all []netip.Addr
	pages(ctx, i, "pods", func(list *corev1.PodList) {
		for n := range list.Items {
			p := &list.Items[n]
			owner := metav1.GetControllerOf(p)
			if p.Status.Phase != corev1.PodRunning || !p.Spec.HostNetwork || owner == nil || owner.Kind != "DaemonSet" || owner.Name != a.object.Name {
				continue
			}
			if host, err := netip.ParseAddr(p.Status.HostIP); err == nil && i.own[host.Unmap()] {
				all = append(all, host.Unmap())
			}
		}
	}, client.InNamespace(a.object.Namespace), client.MatchingLabelsSelector{Selector: selector})
	slices.SortFunc(all, netip.Addr.Compare)
	room := map[bool]int{false: maxAgentHosts, true: maxAgentHosts}
	return slices.DeleteFunc(slices.Compact(all), func(host netip.Addr) bool {
		_, controls := i.hosts[host]
		room[controls]--
		return room[controls] < 0
	})
}

// portsOf returns the ports of a network agent, those that it is known for and those that it lists; none if it is no agent.
func portsOf(pod *corev1.PodSpec) []agentPort {
	var out, listed []agentPort
	for c := range pod.Containers {
		container := &pod.Containers[c]
		out = append(out, agentPorts[container.Name]...)
		for _, p := range container.Ports {
			if (p.Protocol == corev1.ProtocolTCP || p.Protocol == "") && p.ContainerPort != bgp {
				listed = append(listed, agentPort{uint16(p.ContainerPort), snapshot.RoleNetworkAgent, "port " + cmp.Or(p.Name, "without a name") + " of " + container.Name})
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	for _, l := range listed {
		if !slices.ContainsFunc(out, func(p agentPort) bool { return p.port == l.port }) {
			out = append(out, l)
		}
	}
	return out
}
