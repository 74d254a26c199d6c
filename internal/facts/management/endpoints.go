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
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// place is an address of a pod in its namespace.
type place struct {
	namespace string
	address   netip.Addr
}

// endpoint is one port of one pod or host behind a Service. name is that of the port; ofPod says that somebody says it is a pod's.
type endpoint struct {
	address    netip.AddrPort
	name       string
	udp, ofPod bool
}

// choose keeps the targets whose Services there is room for: what is declared or known comes before what is only scraped, which has
// room of its own. What is left out is a gap that names the first.
func (i *inventory) choose(context.Context) {
	i.targets = slices.DeleteFunc(i.targets, func(t *target) bool { // the Service is not there, or has no such port
		return t.port != 0 && t.portName == nil
	})
	rank := func(t *target) int {
		switch {
		case i.declared[t.service]:
			return 0
		case !t.scraped:
			return 1
		default:
			return 2
		}
	}
	slices.SortStableFunc(i.targets, func(a, b *target) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.service.Namespace, b.service.Namespace), cmp.Compare(a.service.Name, b.service.Name))
	})
	chosen, room, full := map[types.NamespacedName]bool{}, map[bool]int{false: maxServices, true: maxScraped}, map[bool]bool{}
	i.targets = slices.DeleteFunc(i.targets, func(t *target) bool {
		switch {
		case chosen[t.service]:
		case room[t.scraped] > 0:
			room[t.scraped]--
			chosen[t.service] = true
		case !full[t.scraped]:
			full[t.scraped] = true
			why := fmt.Sprintf("there are more than %d supporting systems, aggregated APIs and webhooks", maxServices)
			if t.scraped {
				why = fmt.Sprintf("ServiceMonitors select more than %d beside those that are known", maxScraped)
			}
			i.out.Gaps = append(i.out.Gaps, snapshot.Gap{
				What: "The Services from " + t.service.String() + " on, by name", Why: why, Remedy: "Look at them by hand", Traffic: true,
			})
		}
		return !chosen[t.service]
	})
}

// pods finds the addresses of pods in namespaces with targets, and what PodMonitors select. Whoever may write EndpointSlices in a namespace can name any address
// there, and any pod as its owner; the status of a pod is its kubelet's. One that has ended may have left its address to another.
func (i *inventory) pods(ctx context.Context) {
	for _, ns := range i.namespaces() {
		listed := pages(ctx, i, "pods", func(list *corev1.PodList) {
			for n := range list.Items {
				if p := &list.Items[n]; p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
					i.pod(p)
				}
			}
		}, client.InNamespace(ns))
		if !listed {
			return // one such gap says it
		}
	}
}

// namespaces are those whose pods matter, sorted; "" alone for all of them.
func (i *inventory) namespaces() []string {
	var out []string
	for _, t := range i.targets {
		out = append(out, t.service.Namespace)
	}
	for n := range i.podMonitors {
		if i.podMonitors[n].namespaces == nil {
			return []string{metav1.NamespaceAll}
		}
		out = append(out, i.podMonitors[n].namespaces...)
	}
	slices.Sort(out)
	if out = slices.Compact(out); len(out) > maxNamespaces {
		return []string{metav1.NamespaceAll}
	}
	return out
}

// pod notes where a pod is, whether a mesh has it, and who scrapes it.
func (i *inventory) pod(p *corev1.Pod) {
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			i.placed[place{p.Namespace, a.Unmap()}] = true
		}
	}
	if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && ready(p) {
		for n := range i.podMonitors {
			if m := &i.podMonitors[n]; m.selects(p) {
				i.find(m, p, a.Unmap())
			}
		}
	}
	if why := i.asksFor(p.Namespace); why != "" {
		i.member(p, why)
	}
}

// endpoints finds the endpoints of every target.
func (i *inventory) endpoints(ctx context.Context) {
	known := map[types.NamespacedName][]endpoint{}
	for _, t := range i.targets {
		found, seen := known[t.service]
		if !seen {
			found = i.endpointsOf(ctx, t.service)
			known[t.service] = found
		}
		for _, e := range found {
			if t.port != 0 && e.name != *t.portName {
				continue
			}
			if !i.room() {
				i.leftOut("Services from "+t.service.String()+" on, the known ones first", tooMany)
				return
			}
			like := t.like
			like.Address, like.UDP = e.address, e.udp
			i.add(i.told(like))
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

func (i *inventory) endpointsOf(ctx context.Context, service types.NamespacedName) []endpoint {
	var out []endpoint
	pages(ctx, i, "endpointslices", func(list *discoveryv1.EndpointSliceList) { out = append(out, endpointsIn(list.Items)...) },
		client.InNamespace(service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service.Name})
	out, whole := bounded(i.ours(service, out))
	if !whole {
		i.leftOut("Service "+service.String(), fmt.Sprintf("it has more than %d ports", maxPorts))
	}
	return out
}

// ours keeps the endpoints that are pods of the namespace, nodes or the API server: nothing else is dialled. One that is said to be a
// pod's, and is not, may have come or gone since pods were listed; any other is a gap, and so is a Service of which nothing is left.
func (i *inventory) ours(service types.NamespacedName, all []endpoint) []endpoint {
	var foreign, missed netip.AddrPort
	out := slices.DeleteFunc(all, func(e endpoint) bool {
		if i.own[e.address.Addr()] || i.placed[place{service.Namespace, e.address.Addr()}] {
			return false
		}
		first := &foreign
		if e.ofPod {
			first = &missed
		}
		if !first.IsValid() || e.address.Compare(*first) < 0 {
			*first = e.address
		}
		return true
	})
	if len(out) == 0 && !foreign.IsValid() {
		foreign = missed
	}
	if foreign.IsValid() {
		i.out.Gaps = append(i.out.Gaps, snapshot.Gap{
			What: "Service " + service.String(), Why: "it has endpoints that are neither pods of its namespace nor nodes, such as " + foreign.String() + ", which are not dialled",
			Remedy: "Look at them by hand", Traffic: true,
		})
	}
	return out
}

// bounded keeps a few endpoints of each port, the same ones as long as they are there: they are one program. whole is false if there are too many
// ports.
func bounded(all []endpoint) (out []endpoint, whole bool) {
	slices.SortFunc(all, func(a, b endpoint) int { return a.address.Compare(b.address) })
	count := map[string]int{}
	whole = true
	out = slices.DeleteFunc(all, func(e endpoint) bool {
		if count[e.name] == 0 && len(count) == maxPorts {
			whole = false
			return true
		}
		count[e.name]++
		return count[e.name] > maxPerService
	})
	return out, whole
}

// endpointsIn returns the ready endpoints of slices.
func endpointsIn(list []discoveryv1.EndpointSlice) []endpoint {
	var out []endpoint
	for _, s := range list {
		for _, p := range s.Ports {
			if p.Port == nil {
				continue
			}
			e := endpoint{udp: p.Protocol != nil && *p.Protocol == corev1.ProtocolUDP}
			if p.Name != nil {
				e.name = *p.Name
			}
			for _, of := range s.Endpoints {
				if of.Conditions.Ready != nil && !*of.Conditions.Ready {
					continue
				}
				e.ofPod = of.TargetRef != nil && of.TargetRef.Kind == "Pod"
				for _, text := range of.Addresses {
					if a, err := netip.ParseAddr(text); err == nil {
						e.address = netip.AddrPortFrom(a.Unmap(), uint16(*p.Port))
						out = append(out, e)
					}
				}
			}
		}
	}
	return out
}
