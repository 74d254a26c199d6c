// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package snapshot is the vocabulary of observation: what was seen in the cluster, as plain values that nobody writes to
// after they were taken.
package snapshot

import (
	"net/netip"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// Cluster is what was observed once for all namespaces.
type Cluster struct {
	DNS       DNS
	APIServer []Endpoint
	// SystemNamespaces are the namespaces that baselines leave out unless they say otherwise, sorted.
	SystemNamespaces []string
}

// Endpoint is an address with a TCP port.
type Endpoint struct {
	Address netip.Addr
	Port    int32
}

// DNS is what answers names in the cluster.
type DNS struct {
	// Servers are the DNS Services with a port to ask, sorted by namespace and name.
	Servers []DNSServer
	// NodeLocal are the addresses on which node-local caches listen, sorted.
	NodeLocal []netip.Addr
	// Unresolved names Services that look like DNS, but whose pod ports are not known.
	Unresolved []string
}

// DNSServer is one DNS Service.
type DNSServer struct {
	Namespace, Name string
	// Selector selects its pods. Empty for a Service without a selector.
	Selector map[string]string
	// Addresses are endpoints that no pod selector reaches: those of Services without a selector, and of host-network
	// pods; sorted.
	Addresses []netip.Addr
	// Ports are the ports of the pods, after address translation.
	Ports []Port
}

// Port is a port of a transport protocol.
type Port struct {
	Protocol string
	Port     int32
}

// Namespace is what was observed in one namespace.
type Namespace struct {
	Name    string
	UID     types.UID
	Labels  labels.Set
	Created time.Time
	// Policies are the live core NetworkPolicies. They are shared with the cache: read only.
	Policies []*networkingv1.NetworkPolicy
	// HostNetworkPods are the names of running pods that share their node's network, sorted.
	HostNetworkPods []string
}
