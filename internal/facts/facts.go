// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// networkNamespaces are where common policy engines and their operators live when it is not kube-system. Denying them
// would cut the engine off that enforces the deny. They count as system namespaces by name, whether they exist or not.
var networkNamespaces = []string{
	"calico-apiserver", "calico-system", "tigera-operator",
	"cilium", "cilium-secrets",
	"kube-flannel", "kube-ovn", "kube-router",
	"openshift-dns", "openshift-multus", "openshift-network-operator", "openshift-ovn-kubernetes", "openshift-sdn",
	"ovn-kubernetes",
}

// Cluster takes the snapshot that all namespaces share. ownNamespace is the operator's. Cost: the Services, EndpointSlices
// and host-network pods of the DNS namespaces.
func Cluster(ctx context.Context, r client.Reader, ownNamespace string) (snapshot.Cluster, error) {
	c := snapshot.Cluster{SystemNamespaces: append([]string{metav1.NamespaceSystem, ownNamespace}, networkNamespaces...)}
	slices.Sort(c.SystemNamespaces)
	c.SystemNamespaces = slices.Compact(c.SystemNamespaces)
	var err error
	if c.APIServer, err = apiServer(ctx, r); err != nil {
		return snapshot.Cluster{}, err
	}
	if c.DNS, err = clusterDNS(ctx, r); err != nil {
		return snapshot.Cluster{}, err
	}
	return c, nil
}

// apiServer returns the endpoints of the Service default/kubernetes, sorted. Unready ones are kept: an API server that
// restarts must not lose its allowance.
func apiServer(ctx context.Context, r client.Reader) ([]snapshot.Endpoint, error) {
	var list discoveryv1.EndpointSliceList
	err := r.List(ctx, &list, client.InNamespace(metav1.NamespaceDefault), client.MatchingLabels{discoveryv1.LabelServiceName: "kubernetes"})
	if err != nil {
		return nil, fmt.Errorf("listing the EndpointSlices of the API server: %w", err)
	}
	var out []snapshot.Endpoint
	for _, s := range list.Items {
		for _, p := range s.Ports {
			if p.Port == nil || (p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP) {
				continue
			}
			for _, a := range addresses(s.Endpoints) {
				out = append(out, snapshot.Endpoint{Address: a, Port: *p.Port})
			}
		}
	}
	slices.SortFunc(out, func(a, b snapshot.Endpoint) int {
		if c := a.Address.Compare(b.Address); c != 0 {
			return c
		}
		return int(a.Port - b.Port)
	})
	return slices.Compact(out), nil
}

func addresses(endpoints []discoveryv1.Endpoint) []netip.Addr {
	var out []netip.Addr
	for _, e := range endpoints {
		for _, a := range e.Addresses {
			if addr, err := netip.ParseAddr(a); err == nil {
				out = append(out, addr)
			}
		}
	}
	return out
}

// Namespace takes the snapshot of one namespace. Cost: the NetworkPolicies and host-network pods in it.
func Namespace(ctx context.Context, r client.Reader, ns *corev1.Namespace) (snapshot.Namespace, error) {
	out := snapshot.Namespace{Name: ns.Name, UID: ns.UID, Labels: ns.Labels, Created: ns.CreationTimestamp.Time}
	var policies networkingv1.NetworkPolicyList
	if err := r.List(ctx, &policies, client.InNamespace(ns.Name)); err != nil {
		return snapshot.Namespace{}, fmt.Errorf("listing the NetworkPolicies of %s: %w", ns.Name, err)
	}
	for i := range policies.Items {
		out.Policies = append(out.Policies, &policies.Items[i])
	}
	slices.SortFunc(out.Policies, func(a, b *networkingv1.NetworkPolicy) int { return compareNames(a, b) })
	var pods corev1.PodList
	if err := r.List(ctx, &pods, client.InNamespace(ns.Name)); err != nil {
		return snapshot.Namespace{}, fmt.Errorf("listing the host-network pods of %s: %w", ns.Name, err)
	}
	for i := range pods.Items {
		if phase := pods.Items[i].Status.Phase; phase != corev1.PodSucceeded && phase != corev1.PodFailed {
			out.HostNetworkPods = append(out.HostNetworkPods, pods.Items[i].Name)
		}
	}
	slices.Sort(out.HostNetworkPods)
	return out, nil
}
