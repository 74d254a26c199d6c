// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The bounds of what PodMonitors have looked at, beside maxScraped of them. What is left out is a gap.
const (
	maxPodPorts = 32   // of a pod that one of them selects
	maxPrograms = 2048 // ports of programs, for all of them
)

// podMonitor is what a PodMonitor selects: pods that Prometheus scrapes by themselves, without a Service.
type podMonitor struct {
	namespaces []string // of the pods; nil for all
	selector   labels.Selector
	// ports are names or numbers of ports that containers list; all says that none is named, so that every one is scraped.
	ports []intstr.IntOrString
	all   bool
	// object names it, and system is what its pods show.
	object, system string
	// found are the first addresses of each port of a program, and full says that there was no room for all, set by pods for podEndpoints.
	found map[programPort][]netip.AddrPort
	full  bool
}

// programPort is a port, by the name or number that containers give it, of pods that somebody makes alike.
type programPort struct{ namespace, owner, port string }

func (p programPort) compare(other programPort) int {
	return cmp.Or(cmp.Compare(p.namespace, other.namespace), cmp.Compare(p.owner, other.owner), cmp.Compare(p.port, other.port))
}

// selects says whether a pod is one that is scraped.
func (m *podMonitor) selects(p *corev1.Pod) bool {
	return (m.namespaces == nil || slices.Contains(m.namespaces, p.Namespace)) && m.selector.Matches(labels.Set(p.Labels))
}

// find notes the ports of a pod that a PodMonitor selects, at the address that Prometheus goes by.
func (i *inventory) find(m *podMonitor, p *corev1.Pod, at netip.Addr) {
	owner := p.Name
	if by := metav1.GetControllerOf(p); by != nil {
		owner = by.Kind + " " + by.Name
	}
	room := maxPodPorts
	for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
		for _, port := range c.Ports {
			named := slices.Contains(m.ports, intstr.FromString(port.Name)) || slices.Contains(m.ports, intstr.FromInt32(port.ContainerPort))
			if port.Protocol == corev1.ProtocolUDP || (!m.all && !named) {
				continue
			}
			key := programPort{p.Namespace, owner, cmp.Or(port.Name, fmt.Sprint(port.ContainerPort))}
			known, has := m.found[key]
			if room--; room < 0 || (!has && i.programs == maxPrograms) {
				m.full = true
				return
			}
			if !has {
				i.programs++
			}
			known = append(known, netip.AddrPortFrom(at, uint16(port.ContainerPort)))
			slices.SortFunc(known, netip.AddrPort.Compare)
			known = slices.Compact(known)
			m.found[key] = known[:min(len(known), maxPerService)]
		}
	}
}

// ready says whether a pod answers, by its kubelet's word, and is to stay.
func ready(p *corev1.Pod) bool {
	return p.DeletionTimestamp.IsZero() && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// podEndpoints adds a few pods of each program that PodMonitors have scraped, the same ones as long as they are there. What a Service leads to
// as well is known by that.
func (i *inventory) podEndpoints(context.Context) {
	known := map[netip.AddrPort]bool{}
	for n := range i.out.Interfaces {
		if in := &i.out.Interfaces[n]; in.Role == snapshot.RoleSupporting && !in.UDP {
			known[in.Address] = true
		}
	}
	for n := range i.podMonitors {
		m := &i.podMonitors[n]
		if m.full {
			i.leftOut(m.object, fmt.Sprintf("it selects more than %d ports of a pod, or PodMonitors more than %d of all programs", maxPodPorts, maxPrograms))
		}
		for _, key := range slices.SortedFunc(maps.Keys(m.found), programPort.compare) {
			for _, a := range m.found[key] {
				if known[a] {
					continue
				}
				if !i.room() {
					i.leftOut("Pods from "+m.object+" on", tooMany)
					return
				}
				i.add(i.told(snapshot.Interface{Address: a, Role: snapshot.RoleSupporting, Object: m.object, System: m.system}))
			}
		}
	}
}
