// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package core_test

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// packet is one connection of a pod of the namespace, seen from that pod.
type packet struct {
	direction policy.Direction
	pod       labels.Set
	remote    remote
	protocol  corev1.Protocol
	port      int32
}

// remote is the other side: an address, and, when it is a pod, its labels and those of its namespace.
type remote struct {
	addr          netip.Addr
	isPod         bool
	pod           labels.Set
	namespace     labels.Set
	sameNamespace bool
}

// passes evaluates NetworkPolicies of one namespace as their API describes them: a direction in which no policy selects
// the pod is open; otherwise what any rule of any such policy allows passes.
func passes(policies []*networkingv1.NetworkPolicy, p packet) bool {
	isolated := false
	for _, np := range policies {
		if !selects(&np.Spec.PodSelector, p.pod) {
			continue
		}
		for _, kind := range policyTypes(np) {
			if string(kind) != string(p.direction) {
				continue
			}
			isolated = true
			if anyRulePasses(np, p) {
				return true
			}
		}
	}
	return !isolated
}

// policyTypes are Ingress, and Egress if there are egress rules, unless they are given.
func policyTypes(np *networkingv1.NetworkPolicy) []networkingv1.PolicyType {
	if len(np.Spec.PolicyTypes) > 0 {
		return np.Spec.PolicyTypes
	}
	out := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(np.Spec.Egress) > 0 {
		out = append(out, networkingv1.PolicyTypeEgress)
	}
	return out
}

func anyRulePasses(np *networkingv1.NetworkPolicy, p packet) bool {
	if p.direction == policy.Ingress {
		for _, r := range np.Spec.Ingress {
			if peersMatch(r.From, p.remote) && portsMatch(r.Ports, p) {
				return true
			}
		}
		return false
	}
	for _, r := range np.Spec.Egress {
		if peersMatch(r.To, p.remote) && portsMatch(r.Ports, p) {
			return true
		}
	}
	return false
}

// peersMatch: an empty list matches everybody.
func peersMatch(peers []networkingv1.NetworkPolicyPeer, r remote) bool {
	for _, p := range peers {
		if p.IPBlock != nil {
			if inBlock(p.IPBlock, r.addr) {
				return true
			}
			continue
		}
		inNamespace := r.sameNamespace
		if p.NamespaceSelector != nil {
			inNamespace = selects(p.NamespaceSelector, r.namespace)
		}
		if r.isPod && inNamespace && (p.PodSelector == nil || selects(p.PodSelector, r.pod)) {
			return true
		}
	}
	return len(peers) == 0
}

func inBlock(b *networkingv1.IPBlock, addr netip.Addr) bool {
	if !netip.MustParsePrefix(b.CIDR).Contains(addr) {
		return false
	}
	for _, e := range b.Except {
		if netip.MustParsePrefix(e).Contains(addr) {
			return false
		}
	}
	return true
}

// portsMatch: an empty list matches all ports, an unset protocol means TCP, and an unset port all ports of the protocol.
func portsMatch(ports []networkingv1.NetworkPolicyPort, p packet) bool {
	for _, port := range ports {
		protocol := corev1.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		switch {
		case protocol != p.protocol:
		case port.Port == nil, port.Port.IntVal == p.port:
			return true
		case port.EndPort != nil && port.Port.IntVal < p.port && p.port <= *port.EndPort:
			return true
		}
	}
	return len(ports) == 0
}

func selects(s *metav1.LabelSelector, set labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(set)
}

// intended says whether a set lets a packet through: the deny isolates its directions, and a rule allows what is in one
// of its peers and one of its ports, so nothing when either list is empty.
func intended(s policy.Set, p packet) bool {
	isolated := false
	for _, d := range s.Deny.Directions {
		isolated = isolated || d == p.direction
	}
	if !isolated {
		return true
	}
	for _, a := range s.Allowances {
		if !selects(&a.Pods, p.pod) {
			continue
		}
		for _, r := range a.Rules {
			if r.Direction == p.direction && onPeer(r.Peers, p.remote) && onPort(r.Ports, p) {
				return true
			}
		}
	}
	return false
}

func onPeer(peers []policy.Peer, r remote) bool {
	for _, p := range peers {
		if p.Pods == nil {
			hit := p.CIDR.Contains(r.addr)
			for _, e := range p.Except {
				hit = hit && !e.Contains(r.addr)
			}
			if hit {
				return true
			}
			continue
		}
		hit := r.isPod && (p.Pods.Pods == nil || selects(p.Pods.Pods, r.pod))
		if p.Pods.Namespaces == nil {
			hit = hit && r.sameNamespace
		} else {
			hit = hit && selects(p.Pods.Namespaces, r.namespace)
		}
		if hit {
			return true
		}
	}
	return false
}

func onPort(ports []policy.Port, p packet) bool {
	for _, port := range ports {
		if string(port.Protocol) == string(p.protocol) && port.First <= p.port && p.port <= port.Last {
			return true
		}
	}
	return false
}
