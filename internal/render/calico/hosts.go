// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package calico

import (
	"encoding/json"
	"net/netip"
	"slices"

	calicov3 "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	"github.com/projectcalico/api/pkg/lib/numorstring"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kjson "sigs.k8s.io/json"

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

// Anew is the case where the policy is to be for other nodes. Felix takes every rule from a node with host endpoints for all interfaces when the selector of
// a policy on them changes and nothing else does, until the endpoint changes: seen with v3.31.0, in which markEPsWithDirtyPolicies
// (felix/dataplane/linux/endpoint_mgr.go) has host endpoints updated that ResolveUpdateBatch has not resolved.
func (Hosts) Anew(live map[string]any, intended policy.Object) bool {
	p, ok := intended.(*calicov3.GlobalNetworkPolicy)
	selector, _, err := unstructured.NestedString(live, "spec", "selector")
	return ok && (err != nil || selector != p.Spec.Selector)
}

// Read returns what a live policy says, of all nodes or of those of the trial, and whether it says that and nothing else.
func (h Hosts) Read(live map[string]any) (policy.HostFirewall, bool) {
	var spec calicov3.GlobalNetworkPolicySpec
	data, err := json.Marshal(live["spec"])
	if err != nil {
		return policy.HostFirewall{}, false
	}
	if strict, err := kjson.UnmarshalStrict(data, &spec); err != nil || len(strict) > 0 || len(spec.Ingress) == 0 {
		return policy.HostFirewall{}, false
	}
	var out policy.HostFirewall
	for _, p := range spec.Ingress[0].Destination.Ports {
		out.Ports = append(out.Ports, int32(p.MinPort))
	}
	for i := range spec.Ingress {
		for _, text := range spec.Ingress[i].Source.NotNets[min(1, len(spec.Ingress[i].Source.NotNets)):] { // the first is loopback
			p, err := netip.ParsePrefix(text)
			if err != nil {
				return policy.HostFirewall{}, false
			}
			out.Allowed = append(out.Allowed, p)
		}
	}
	for _, nodes := range []metav1.LabelSelector{{}, policy.TrialNodes()} {
		out.Nodes = nodes
		again, ok := h.Render(metav1.ObjectMeta{}, out)[1].(*calicov3.GlobalNetworkPolicy)
		if ok && apiequality.Semantic.DeepEqual(again.Spec, spec) {
			return out, true
		}
	}
	return policy.HostFirewall{}, false
}
