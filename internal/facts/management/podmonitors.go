// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// podMonitor is what a PodMonitor selects: pods that Prometheus scrapes by themselves, without a Service.
type podMonitor struct {
	namespaces []string // of the pods; nil for all
	selector   labels.Selector
	// ports are names or numbers of ports that containers list; all says that one is not named, so that every one is scraped.
	ports []intstr.IntOrString
	all   bool
	// object names it, and system is what its pods show.
	object, system string
	// found are the ports of pods, by the name or number that a container gives them, set by pods for podEndpoints.
	found map[string][]netip.AddrPort
}

// selects says whether a pod is one that is scraped.
func (m *podMonitor) selects(p *corev1.Pod) bool {
	return (m.namespaces == nil || slices.Contains(m.namespaces, p.Namespace)) && m.selector.Matches(labels.Set(p.Labels))
}

// find notes the ports of a pod.
func (m *podMonitor) find(p *corev1.Pod, at netip.Addr) {
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, port := range c.Ports {
			known := slices.Contains(m.ports, intstr.FromString(port.Name)) || slices.Contains(m.ports, intstr.FromInt32(port.ContainerPort))
			if port.Protocol != corev1.ProtocolUDP && (m.all || known) {
				key := cmp.Or(port.Name, fmt.Sprint(port.ContainerPort))
				m.found[key] = append(m.found[key], netip.AddrPortFrom(at, uint16(port.ContainerPort)))
			}
		}
	}
}

// podEndpoints adds a few pods of each port that PodMonitors have scraped, the same ones as long as they are there.
func (i *inventory) podEndpoints(context.Context) {
	for n := range i.podMonitors {
		m := &i.podMonitors[n]
		for _, ports := range m.found {
			slices.SortFunc(ports, netip.AddrPort.Compare)
			ports = slices.Compact(ports)
			for _, a := range ports[:min(len(ports), maxPerService)] {
				i.add(i.told(snapshot.Interface{Address: a, Role: snapshot.RoleSupporting, Object: m.object, System: m.system}))
			}
		}
	}
}

// told adds what is known of an interface's host.
func (i *inventory) told(in snapshot.Interface) snapshot.Interface {
	a := in.Address.Addr()
	in.Mesh, in.Pod = i.meshed[a], !i.own[a]
	if i.excluded[in.Address] {
		in.Mesh = ""
	}
	return in
}
