// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"
)

// Management is what was observed of the interfaces by which the cluster is managed and watched.
type Management struct {
	// Interfaces are sorted by address, role and object. Sights are empty where nobody has looked.
	Interfaces []Interface
	// Doors lead to consoles from outside the cluster.
	Doors []Door
	// Callees are what the API server calls: aggregated APIs and webhooks, those that convert custom resources among them.
	Callees []Callee
	// Kubelets are what kubelets answered, sorted by node; nil where nobody has asked.
	Kubelets []Kubelet
	// APIServer is what is known of the API server's settings.
	APIServer APIServer
	// Authorities are the cluster's own, whom the operator trusts to speak for the API server; none where it trusts those of its host, or nobody
	// has asked. AuthoritiesUnread says that a part of them could not be read.
	Authorities       []Certificate
	AuthoritiesUnread bool
	// Tokens are the keys of service accounts' tokens; empty where nobody has asked.
	Tokens Tokens
	// Network is whether what pods send to other nodes is encrypted.
	Network NodeEncryption
	// Hosts are the nodes, sorted by name; Protection is what the policy engine does for them, and Vantage the address from which
	// the operator reaches the API server, if it is known.
	Hosts      []Host
	Protection HostProtection
	Vantage    netip.Addr
	// Views are what nodes reach that were looked from, sorted by name, one a node.
	Views []View
	// Firewall is how far the firewall on nodes is of the baseline for which it is judged.
	Firewall Firewall
	// Absent are Services that some baseline declares, as namespace/name, and that are not there.
	Absent []string
	// Gaps say what could not be read, or was left out.
	Gaps []Gap
}

// Interface is one port of one host, by which the cluster is managed or watched.
type Interface struct {
	Address netip.AddrPort
	Role    Role
	// Object is what it was found by, for people: Node n1, or Service monitoring/grafana.
	Object string
	// System is what a supporting system is, such as Grafana.
	System string
	// ServerName is the name that its clients ask for; "" where they use the address.
	ServerName string
	// Roots are what its clients trust, in PEM. ClusterRoots says that it is the cluster's authority. With neither nothing is
	// known of its clients.
	Roots        string
	ClusterRoots bool
	// Pod says that the address is a pod's, and not its node's.
	Pod bool
	// UDP ports are listed and never dialled: whether they encrypt cannot be seen.
	UDP bool
	// Mesh says what makes its host take nothing but mutual TLS of a mesh's members; "" if nothing is known to.
	Mesh  string
	Sight Sight
	// Keys is what was seen of its certificates so far; empty where nobody remembers.
	Keys Keys
}

// Role is what an interface is for.
type Role string

// The roles.
const (
	RoleAPIServer         Role = "API server"
	RoleInsecureAPI       Role = "insecure API port"
	RoleKubelet           Role = "kubelet"
	RoleKubeletReadOnly   Role = "read-only kubelet port"
	RoleEtcd              Role = "etcd"
	RoleEtcdMetrics       Role = "etcd metrics"
	RoleScheduler         Role = "scheduler"
	RoleControllerManager Role = "controller manager"
	RoleKonnectivity      Role = "konnectivity"
	RoleAggregatedAPI     Role = "aggregated API"
	RoleWebhook           Role = "webhook"
	RoleSupporting        Role = "supporting system"
	// RoleNetworkAgent is a port of a network agent on its host that shows or changes something: an API, metrics, flows.
	RoleNetworkAgent Role = "network agent"
	// RoleAgentHealth says whether the agent is alive, and no more.
	RoleAgentHealth Role = "network agent's health"
)

// Door is a way to a console from outside the cluster.
type Door struct {
	// Object is the Service or Ingress; System what it leads to; Kind how it is opened: LoadBalancer, NodePort, ExternalIP or
	// Ingress.
	Object, System, Kind string
	// Ranges may come in; empty for everybody who can reach it.
	Ranges []netip.Prefix
	// By are the annotations that say so to the controller of an Ingress, which may not know them; "" for what every controller knows.
	By string
	// Addresses are where a load balancer or an external address lets in, and Names what else it is known by, as host:port; NodePorts
	// are open on every node.
	Addresses []netip.AddrPort
	Names     []string
	NodePorts []uint16
	// Awaited says that a load balancer was asked for, and has no address yet.
	Awaited bool
	// Internal says that the load balancer was asked to have no public address.
	Internal bool
}

// Callee is something that the API server calls, and sends requests or objects of users to; or that somebody else calls unverified.
type Callee struct {
	// Object is the APIService, CustomResourceDefinition or webhook configuration, with the webhook's name.
	Object string
	// Caller is who calls, if it is not the API server: Prometheus.
	Caller string
	// Service is namespace/name, or "" for a URL; URL is empty for a Service.
	Service, URL string
	// Unverified says that the API server is told not to verify its certificate.
	Unverified bool
	// Bundle is what it is verified with; empty for the authorities of the API server's host. Unparsed says that there is one
	// which is not PEM.
	Bundle   []Certificate
	Unparsed bool
}

// Kubelet is what one kubelet answered over HTTPS.
type Kubelet struct {
	Node    string
	Address netip.AddrPort
	// Anonymous is the HTTP status of a request for its configuration without credentials; 0 if there was no answer.
	Anonymous int
	// Config is nil when it could not be read; Problem says why.
	Config  *KubeletConfig
	Problem string
}

// KubeletConfig is what matters of a kubelet's effective configuration (kubelet.config.k8s.io/v1beta1).
type KubeletConfig struct {
	ReadOnlyPort int32
	// Anonymous and Webhook are ways to authenticate.
	Anonymous, Webhook bool
	Authorization      string
	// TLSMinVersion is as crypto/tls names it, such as VersionTLS12; "" for the default of Go.
	TLSMinVersion string
	// RotateCertificates is about the client's, ServerTLSBootstrap about the server's: signed by the cluster and renewed.
	RotateCertificates, ServerTLSBootstrap bool
}

// APIServer is what is known of the API servers' settings.
type APIServer struct {
	// Settings are one for each API server that shows them; empty when they could not be read, and Problem says why.
	Settings []Settings
	Problem  string
	// Anonymous is the HTTP status of a request for the list of nodes without credentials; 0 if there was no answer.
	Anonymous int
	// Nobodys is the HTTP status of a request of the operator's for what nobody has given it a right to; 0 if there was no answer.
	Nobodys int
	// Told is the HTTP status of a request without credentials for the ConfigMap kube-public/cluster-info of kubeadm; 0 if there was no answer.
	// Published are the hosts by which it names the API server.
	Told      int
	Published []string
	// Several says that there are several, so that what one of them answers says little of the others.
	Several bool
}

// ServerAddresses returns the addresses of API servers.
func (m *Management) ServerAddresses() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for i := range m.Interfaces {
		if in := &m.Interfaces[i]; in.Role == RoleAPIServer {
			out[in.Address.Addr().Unmap()] = true
		}
	}
	return out
}

// Settings are those of one API server: its flags by name, without dashes, and where they are from.
type Settings struct {
	Source string
	Flags  map[string]string
}

// Gap is something that could not be seen.
type Gap struct {
	// What is missing, Why, and what to do about it.
	What, Why, Remedy string
	// Minor says that nothing is known to be behind it; Traffic that who can reach what is known without.
	Minor, Traffic bool
}
