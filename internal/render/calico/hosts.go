// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package calico

import (
	"net/netip"
	"slices"

	calicov3 "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	"github.com/projectcalico/api/pkg/lib/numorstring"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

const (
	// hostTier is a tier of its own: in tier default, a policy for nodes would close every port that it does not name, or else
	// reopen what somebody's policy after it closes. It comes before others, which could let through what this denies.
	hostTier      = "pcinb-hosts"
	hostTierOrder = 10
	// isHost selects host endpoints: nobody runs in them.
	isHost = "!has(projectcalico.org/orchestrator) && !has(projectcalico.org/namespace)"
)

// loopback is never policed by Felix, as far as its documentation says; it is excepted lest a dead man could not reach his own
// API server.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// Hosts renders policies for nodes as a GlobalNetworkPolicy for host endpoints, in a tier of its own.
type Hosts struct{}

// Name is the backend's name in the API.
func (Hosts) Name() string { return Backend{}.Name() }

// Render returns the tier and a policy in it: for each address family one rule that denies, and then one that passes everything on to
// other tiers and profiles, as if this one were not there. Without that last rule the tier would close all other ports. It is not
// for forwarded traffic, which is no process's of the node. The name begins with the tier's, as Calico up to 3.31 wants it.
func (Hosts) Render(meta metav1.ObjectMeta, f policy.HostFirewall) []policy.Object {
	tierMeta := *meta.DeepCopy()
	tierMeta.Name = hostTier
	meta.Name = hostTier + "." + meta.Name
	selector := and(isHost, expression(&f.Nodes))
	spec := calicov3.GlobalNetworkPolicySpec{Tier: hostTier, Selector: selector, Types: []calicov3.PolicyType{calicov3.PolicyTypeIngress}}
	var ports []numorstring.Port
	for _, p := range f.Ports {
		ports = append(ports, numorstring.SinglePort(uint16(p)))
	}
	for _, version := range []int{4, 6} {
		var allowed []string
		for _, p := range slices.Concat(loopback, f.Allowed) {
			if p.Addr().Is4() == (version == 4) {
				allowed = append(allowed, p.String())
			}
		}
		spec.Ingress = append(spec.Ingress, calicov3.Rule{
			Action: calicov3.Deny, IPVersion: &version, Protocol: new(numorstring.ProtocolFromString(string(policy.TCP))),
			Source: calicov3.EntityRule{NotNets: allowed}, Destination: calicov3.EntityRule{Ports: slices.Clone(ports)},
		})
	}
	spec.Ingress = append(spec.Ingress, calicov3.Rule{Action: calicov3.Pass})
	types := metav1.TypeMeta{APIVersion: calicov3.GroupVersionCurrent}
	tier := &calicov3.Tier{TypeMeta: types, ObjectMeta: tierMeta, Spec: calicov3.TierSpec{Order: new(float64(hostTierOrder)), DefaultAction: new(calicov3.Pass)}}
	p := &calicov3.GlobalNetworkPolicy{TypeMeta: types, ObjectMeta: meta, Spec: spec}
	tier.Kind, p.Kind = calicov3.KindTier, calicov3.KindGlobalNetworkPolicy
	return []policy.Object{tier, p}
}
