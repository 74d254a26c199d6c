// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const dnsPort = 53

// dnsNames and dnsLabels tell a DNS Service: its usual names, and the labels by which distributions mark it
// (kubeadm, kOps, k3s, RKE2, EKS, GKE, AKS: k8s-app; OpenShift: its own).
var (
	dnsNames  = []string{"kube-dns", "coredns", "dns-default"}
	dnsLabels = map[string][]string{
		"k8s-app":                              {"kube-dns", "coredns"},
		"dns.operator.openshift.io/owning-dns": {"default"},
	}
)

func compareNames(a, b client.Object) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}

// clusterDNS finds what answers names: Services that look like DNS, the pod ports behind them, and node-local caches.
func clusterDNS(ctx context.Context, r client.Reader) (snapshot.DNS, error) {
	var dns snapshot.DNS
	hostPods := map[types.NamespacedName]bool{}
	local := map[netip.Addr]bool{}
	for _, namespace := range DNSNamespaces {
		var pods corev1.PodList
		if err := r.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
			return dns, fmt.Errorf("listing the host-network pods of %s: %w", namespace, err)
		}
		for i := range pods.Items {
			pod := &pods.Items[i]
			hostPods[client.ObjectKeyFromObject(pod)] = true
			if isNodeLocalDNS(pod) {
				for _, a := range localAddresses(pod) {
					local[a] = true
				}
			}
		}
	}
	dns.NodeLocal = slices.SortedFunc(maps.Keys(local), netip.Addr.Compare)
	for _, namespace := range DNSNamespaces {
		var services corev1.ServiceList
		if err := r.List(ctx, &services, client.InNamespace(namespace)); err != nil {
			return dns, fmt.Errorf("listing the Services of %s: %w", namespace, err)
		}
		slices.SortFunc(services.Items, func(a, b corev1.Service) int { return compareNames(&a, &b) })
		for i := range services.Items {
			if !isDNS(&services.Items[i]) {
				continue
			}
			server, err := dnsServer(ctx, r, &services.Items[i], hostPods)
			if err != nil {
				return dns, err
			}
			if len(server.Ports) == 0 || (len(server.Selector) == 0 && len(server.Addresses) == 0) {
				dns.Unresolved = append(dns.Unresolved, server.Namespace+"/"+server.Name)
				continue
			}
			dns.Servers = append(dns.Servers, server)
		}
	}
	return dns, nil
}

func isDNS(s *corev1.Service) bool {
	named := slices.Contains(dnsNames, s.Name)
	for key, values := range dnsLabels {
		named = named || slices.Contains(values, s.Labels[key])
	}
	return named && slices.ContainsFunc(s.Spec.Ports, isDNSPort)
}

func isDNSPort(p corev1.ServicePort) bool { return p.Port == dnsPort }

// dnsServer resolves one Service to pods and their ports. The ports of its EndpointSlices are the truth, because policies
// see packets after address translation (OpenShift's servers listen on 5353); while there are none, a numeric target
// port says the same.
func dnsServer(ctx context.Context, r client.Reader, s *corev1.Service, hostPods map[types.NamespacedName]bool) (snapshot.DNSServer, error) {
	out := snapshot.DNSServer{Namespace: s.Namespace, Name: s.Name, Selector: s.Spec.Selector}
	var eps discoveryv1.EndpointSliceList
	err := r.List(ctx, &eps, client.InNamespace(s.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: s.Name})
	if err != nil {
		return out, fmt.Errorf("listing the EndpointSlices of %s/%s: %w", s.Namespace, s.Name, err)
	}
	ports := map[snapshot.Port]bool{}
	addrs := map[netip.Addr]bool{}
	for _, slice := range eps.Items {
		for _, p := range slice.Ports {
			if p.Port != nil && servesDNS(s, p) {
				ports[snapshot.Port{Protocol: string(*p.Protocol), Port: *p.Port}] = true
			}
		}
		for _, e := range slice.Endpoints {
			if len(s.Spec.Selector) > 0 && !onHostNetwork(s.Namespace, e, hostPods) {
				continue
			}
			for _, a := range addresses([]discoveryv1.Endpoint{e}) {
				addrs[a] = true
			}
		}
	}
	if len(ports) == 0 {
		for _, p := range s.Spec.Ports {
			if target := p.TargetPort.IntVal; isDNSPort(p) && target > 0 {
				ports[snapshot.Port{Protocol: string(p.Protocol), Port: target}] = true
			}
		}
	}
	out.Addresses = slices.SortedFunc(maps.Keys(addrs), netip.Addr.Compare)
	out.Ports = slices.SortedFunc(maps.Keys(ports), func(a, b snapshot.Port) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return out, nil
}

// servesDNS says whether an endpoint port is behind port 53 of the Service; the two have the same name.
func servesDNS(s *corev1.Service, p discoveryv1.EndpointPort) bool {
	return p.Protocol != nil && slices.ContainsFunc(s.Spec.Ports, func(sp corev1.ServicePort) bool {
		return isDNSPort(sp) && (p.Name == nil || sp.Name == *p.Name) && sp.Protocol == *p.Protocol
	})
}

func onHostNetwork(namespace string, e discoveryv1.Endpoint, hostPods map[types.NamespacedName]bool) bool {
	return e.TargetRef != nil && hostPods[types.NamespacedName{Namespace: namespace, Name: e.TargetRef.Name}]
}

// isNodeLocalDNS tells the pods of NodeLocal DNSCache
// (kubernetes/cluster/addons/dns/nodelocaldns/nodelocaldns.yaml).
func isNodeLocalDNS(pod *corev1.Pod) bool { return pod.Labels["k8s-app"] == "node-local-dns" }

// localAddresses reads the -localip argument, a comma-separated list of the addresses on which the cache listens.
func localAddresses(pod *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	for _, c := range pod.Spec.Containers {
		args := slices.Concat(c.Command, c.Args)
		for i, arg := range args {
			name, value, found := strings.Cut(strings.TrimLeft(arg, "-"), "=")
			if name != "localip" || !strings.HasPrefix(arg, "-") {
				continue
			}
			if !found && i+1 < len(args) {
				value = args[i+1]
			}
			for text := range strings.SplitSeq(value, ",") {
				if addr, err := netip.ParseAddr(strings.TrimSpace(text)); err == nil {
					out = append(out, addr)
				}
			}
		}
	}
	return out
}
