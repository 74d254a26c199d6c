// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package semantic_test

import (
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// world is a baseline, the cluster that it is for, and one namespace of it.
type world struct {
	baseline  *pcinetv1alpha1.PCINetworkBaseline
	compiled  *plan.Baseline
	cluster   snapshot.Cluster
	namespace snapshot.Namespace
}

// reading is how an engine reads address ranges; docs/backends.md says which does how.
type reading struct {
	// identities: pods and nodes are known by identity. A range does not match them; the API server and the pod's own node
	// match as such, whatever the address.
	identities bool
}

// allows says whether a packet may pass, in the words of the API (api/v1alpha1).
func (w world) allows(p packet, as reading) bool {
	spec := w.baseline.Spec
	if !w.inScope() || !slices.Contains(spec.Directions, p.direction) {
		return true
	}
	if p.direction == pcinetv1alpha1.DirectionEgress && (w.allowsDNS(p, as) || w.allowsAPIServer(p, as)) {
		return true
	}
	for _, r := range spec.Allow.Rules {
		if r.Direction == p.direction && w.isSubject(r.Subject, p.pod) && w.onPeers(r.Peers, p.remote, as) && onPorts(r.Ports, p) {
			return true
		}
	}
	return false
}

func (w world) inScope() bool {
	n := w.baseline.Spec.Namespaces
	if n.System != pcinetv1alpha1.SystemNamespacesInclude && slices.Contains(w.cluster.SystemNamespaces, w.namespace.Name) {
		return false
	}
	return selects(n.Selector, w.namespace.Labels)
}

// allowsDNS: every pod may ask the cluster's DNS servers, found from their Service, EndpointSlices and pods.
func (w world) allowsDNS(p packet, as reading) bool {
	if w.baseline.Spec.Allow.DNS != pcinetv1alpha1.DNSAllowanceClusterDNS {
		return false
	}
	for _, s := range w.cluster.DNS.Servers {
		server := p.remote.place == inPod && len(s.Selector) > 0 && p.remote.namespace.Name == s.Namespace && within(s.Selector, p.remote.pod)
		for _, a := range s.Addresses {
			server = server || inRange(netip.PrefixFrom(a, a.BitLen()), nil, p.remote, as)
		}
		if server && slices.Contains(s.Ports, snapshot.Port{Protocol: string(p.protocol), Port: p.port}) {
			return true
		}
	}
	cached := len(w.cluster.DNS.NodeLocal) > 0 && as.identities && p.remote.place == onOwnNode
	for _, a := range w.cluster.DNS.NodeLocal {
		cached = cached || inRange(netip.PrefixFrom(a, a.BitLen()), nil, p.remote, as)
	}
	return cached && p.port == 53 && (p.protocol == "UDP" || p.protocol == "TCP")
}

// allowsAPIServer: kubeAPIServer lists the pods that may reach the Kubernetes API server.
func (w world) allowsAPIServer(p packet, as reading) bool {
	for _, a := range w.baseline.Spec.Allow.KubeAPIServer {
		if !selects(a.NamespaceSelector, w.namespace.Labels) || !selects(a.PodSelector, p.pod) {
			continue
		}
		for _, e := range w.cluster.APIServer {
			at := inRange(netip.PrefixFrom(e.Address, e.Address.BitLen()), nil, p.remote, as) || as.identities && p.remote.place == apiServer
			if at && p.port == e.Port && p.protocol == "TCP" {
				return true
			}
		}
	}
	return false
}

// isSubject: subject says which pods the hole is for; unset means every pod in scope.
func (w world) isSubject(s *pcinetv1alpha1.Subject, pod labels.Set) bool {
	return s == nil || (selects(s.NamespaceSelector, w.namespace.Labels) && selects(s.PodSelector, pod))
}

// onPeers: either an address range less what is excepted, or pods by selectors; without namespaceSelector those of the
// subject's own namespace.
func (w world) onPeers(peers []pcinetv1alpha1.Peer, r remote, as reading) bool {
	for _, p := range peers {
		if p.CIDR != "" {
			if inRange(netip.MustParsePrefix(string(p.CIDR)), p.Except, r, as) {
				return true
			}
			continue
		}
		inNamespace := r.namespace.Name == w.namespace.Name
		if p.NamespaceSelector != nil {
			inNamespace = selects(p.NamespaceSelector, r.namespace.Labels)
		}
		if r.place == inPod && inNamespace && selects(p.PodSelector, r.pod) {
			return true
		}
	}
	return false
}

func inRange(wide netip.Prefix, except []pcinetv1alpha1.CIDR, r remote, as reading) bool {
	if as.identities && r.place != outside {
		return false
	}
	for _, e := range except {
		if netip.MustParsePrefix(string(e)).Contains(r.addr) {
			return false
		}
	}
	return wide.Contains(r.addr)
}

func onPorts(ports []pcinetv1alpha1.Port, p packet) bool {
	return slices.ContainsFunc(ports, func(port pcinetv1alpha1.Port) bool {
		return port.Protocol == p.protocol && port.Port <= p.port && p.port <= max(port.Port, port.EndPort)
	})
}

func within(want map[string]string, have labels.Set) bool {
	for k, v := range want {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// selects: unset or empty selects everything; all labels and expressions must hold.
func selects(s *pcinetv1alpha1.LabelSelector, have labels.Set) bool {
	if s == nil {
		return true
	}
	for k, v := range s.MatchLabels {
		if got, ok := have[k]; !ok || got != string(v) {
			return false
		}
	}
	for _, e := range s.MatchExpressions {
		got, ok := have[e.Key]
		listed := slices.Contains(e.Values, pcinetv1alpha1.LabelValue(got))
		holds := map[pcinetv1alpha1.LabelSelectorOperator]bool{
			"In": ok && listed, "NotIn": !ok || !listed, "Exists": ok, "DoesNotExist": !ok,
		}
		if !holds[e.Operator] {
			return false
		}
	}
	return true
}
