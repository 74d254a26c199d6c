// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// maxAgentHosts is on how many hosts of the control plane, and on how many others, the ports of a network agent are looked at: its DaemonSet gives
// it one configuration, and firewalls differ between the two.
const maxAgentHosts = 4

// agentPort is a port of the host that an agent opens, if it is asked to.
type agentPort struct {
	port uint16
	role snapshot.Role
	// system is what is behind it.
	system string
}

const bgp = 179

// agentPorts are the ports of network agents by the names of their containers. What should be bound to 127.0.0.1 is among them. Sources: Cilium
// pkg/defaults, pkg/option, pkg/hubble/defaults and its system requirements; Calico felix/config and its reference; the upstreams' manifests and
// kubernetes pkg/cluster/ports for the others. Ports that a DaemonSet itself lists need not be here.
var agentPorts = map[string][]agentPort{
	"cilium-agent": {
		{4240, snapshot.RoleAgentHealth, "Cilium's health check"},
		{4244, snapshot.RoleNetworkAgent, "Hubble"},
		{6060, snapshot.RoleNetworkAgent, "Cilium's pprof"},
		{9879, snapshot.RoleAgentHealth, "Cilium's health check"},
		{9890, snapshot.RoleNetworkAgent, "Cilium's gops"},
		{9962, snapshot.RoleNetworkAgent, "Cilium's metrics"},
		{9964, snapshot.RoleNetworkAgent, "Envoy's metrics"},
		{9965, snapshot.RoleNetworkAgent, "Hubble's metrics"},
		{10256, snapshot.RoleAgentHealth, "Cilium's health check"},
		{bgp, snapshot.RoleAgentPeer, "BGP"},
	},
	"cilium-envoy": {{9901, snapshot.RoleNetworkAgent, "Envoy's administration"}, {9964, snapshot.RoleNetworkAgent, "Envoy's metrics"}, {9878, snapshot.RoleAgentHealth, "Envoy's health check"}},
	"calico-node":  {{9091, snapshot.RoleNetworkAgent, "Felix's metrics"}, {9099, snapshot.RoleAgentHealth, "Felix's health check"}, {bgp, snapshot.RoleAgentPeer, "BGP"}},
	"antrea-agent": {{10350, snapshot.RoleNetworkAgent, "Antrea's API"}, {10351, snapshot.RoleAgentPeer, "Antrea's memberlist"}},
	"kube-router": {
		{20244, snapshot.RoleAgentHealth, "kube-router's health check"}, {50051, snapshot.RoleNetworkAgent, "GoBGP's API"}, {bgp, snapshot.RoleAgentPeer, "BGP"},
	},
	"weave": {
		{6782, snapshot.RoleNetworkAgent, "Weave Net's metrics"}, {6783, snapshot.RoleAgentPeer, "Weave Net's control"}, {6784, snapshot.RoleNetworkAgent, "Weave Net's API"},
	},
	"weave-npc":             {{6781, snapshot.RoleNetworkAgent, "Weave Net's metrics"}},
	"nb-ovsdb":              {{6641, snapshot.RoleNetworkAgent, "OVN's northbound database"}},
	"sb-ovsdb":              {{6642, snapshot.RoleNetworkAgent, "OVN's southbound database"}},
	"aws-node":              {{61678, snapshot.RoleNetworkAgent, "VPC CNI's metrics"}, {61679, snapshot.RoleNetworkAgent, "VPC CNI's introspection"}},
	"aws-eks-nodeagent":     {{8162, snapshot.RoleNetworkAgent, "VPC CNI's metrics"}, {8163, snapshot.RoleAgentHealth, "VPC CNI's health check"}},
	"azure-npm":             {{10091, snapshot.RoleNetworkAgent, "Azure NPM's metrics"}},
	"kube-network-policies": {{9080, snapshot.RoleNetworkAgent, "kube-network-policies' metrics"}},
	"kube-proxy":            {{10249, snapshot.RoleNetworkAgent, "kube-proxy's metrics"}, {10256, snapshot.RoleAgentHealth, "kube-proxy's health check"}},
}

// agents finds the ports of network agents on some hosts.
func (i *inventory) agents(ctx context.Context) {
	var some []netip.Addr
	pages(ctx, i, "daemonsets.apps", func(list *appsv1.DaemonSetList) {
		for n := range list.Items {
			d := &list.Items[n]
			if !d.Spec.Template.Spec.HostNetwork {
				continue
			}
			if ports := portsOf(&d.Spec.Template.Spec); len(ports) > 0 {
				if some == nil {
					some = i.someHosts()
				}
				for _, host := range some {
					for _, p := range ports {
						i.add(snapshot.Interface{Address: netip.AddrPortFrom(host, p.port), Role: p.role, System: p.system, Object: "DaemonSet " + client.ObjectKeyFromObject(d).String()})
					}
				}
			}
		}
	})
}

// portsOf returns the ports of a network agent, those that it is known for and those that it lists; none if it is no agent.
func portsOf(pod *corev1.PodSpec) []agentPort {
	var out, listed []agentPort
	for c := range pod.Containers {
		container := &pod.Containers[c]
		out = append(out, agentPorts[container.Name]...)
		for _, p := range container.Ports {
			if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
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

// someHosts returns the first nodes of the control plane, and the first others, by the names of their kubelets.
func (i *inventory) someHosts() []netip.Addr {
	var out []netip.Addr
	room := map[bool]int{false: maxAgentHosts, true: maxAgentHosts}
	for n := range i.out.Interfaces { // in the order in which the API server lists nodes, which is that of their names
		in := &i.out.Interfaces[n]
		if _, controls := i.hosts[in.Address.Addr()]; in.Role == snapshot.RoleKubelet && room[controls] > 0 {
			room[controls]--
			out = append(out, in.Address.Addr())
		}
	}
	return out
}
