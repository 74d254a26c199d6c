// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"net"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	netutils "k8s.io/utils/net"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// maxPort is the last port number; a range from 0 or 1 up to it is "all ports".
const maxPort = 65535

// Widening returns the policies that open a direction altogether for the pods that they select: to everybody, to every
// pod of the cluster, or to the whole address space, on all ports. A tenant's own narrow policy is not among them.
func Widening(policies []*networkingv1.NetworkPolicy) []pcinetv1alpha1.WideningPolicy {
	var out []pcinetv1alpha1.WideningPolicy
	for _, p := range policies {
		w := pcinetv1alpha1.WideningPolicy{Name: p.Name}
		var whom []string
		for _, rule := range p.Spec.Ingress {
			if wide := everybody(rule.From); wide != "" && allPorts(rule.Ports) {
				w.Directions = append(w.Directions, pcinetv1alpha1.DirectionIngress)
				whom = append(whom, "allows ingress from "+wide)
				break
			}
		}
		for _, rule := range p.Spec.Egress {
			if wide := everybody(rule.To); wide != "" && allPorts(rule.Ports) {
				w.Directions = append(w.Directions, pcinetv1alpha1.DirectionEgress)
				whom = append(whom, "allows egress to "+wide)
				break
			}
		}
		if len(w.Directions) > 0 {
			w.Message = strings.Join(whom, " and ")
			out = append(out, w)
		}
	}
	return out
}

// everybody says, in words, whom the peers let through when that is everybody; "" when it is not. An empty list is
// everybody (networking.k8s.io/v1 NetworkPolicyIngressRule.from). Halves of the address space add up, so that
// 0.0.0.0/1 with 128.0.0.0/1 is seen for what it is.
func everybody(peers []networkingv1.NetworkPolicyPeer) string {
	if len(peers) == 0 {
		return "everybody"
	}
	var halves [2]uint8 // IPv4, IPv6: bit 0 for the lower half, bit 1 for the upper
	for _, p := range peers {
		switch {
		case p.IPBlock != nil:
			markHalves(&halves, p.IPBlock)
		case selectsAll(p.NamespaceSelector) && (p.PodSelector == nil || selectsAll(p.PodSelector)):
			return "every pod of the cluster"
		}
	}
	if halves[0] == 3 || halves[1] == 3 {
		return "every address"
	}
	return ""
}

func markHalves(halves *[2]uint8, b *networkingv1.IPBlock) {
	_, prefix, err := netutils.ParseCIDRSloppy(b.CIDR) // stored objects may hold what the API server no longer accepts
	if err != nil {
		return
	}
	bits, size := prefix.Mask.Size()
	family := 0
	if size == 8*net.IPv6len {
		family = 1
	}
	switch {
	case bits > 1:
	case bits == 0:
		halves[family] = 3
	case prefix.IP[0] >= 128:
		halves[family] |= 2
	default:
		halves[family] |= 1
	}
}

// selectsAll says whether a selector is present and empty.
func selectsAll(s *metav1.LabelSelector) bool {
	return s != nil && len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0
}

// allPorts says whether the ports are all ports of at least one protocol.
func allPorts(ports []networkingv1.NetworkPolicyPort) bool {
	if len(ports) == 0 {
		return true
	}
	for _, p := range ports {
		if p.Port == nil || (p.Port.IntVal <= 1 && p.Port.StrVal == "" && p.EndPort != nil && *p.EndPort == maxPort) {
			return true
		}
	}
	return false
}
