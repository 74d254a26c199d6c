// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// need is a range that must be let in, lest something be cut off.
type need struct {
	prefix netip.Prefix
	of     string
}

// probes are where load balancers of clouds check health from, by the scheme of nodes' provider identifiers.
// https://cloud.google.com/load-balancing/docs/health-check-concepts#ip-ranges
// https://learn.microsoft.com/en-us/azure/virtual-network/what-is-ip-address-168-63-129-16
var probes = map[string][]netip.Prefix{
	"gce": {
		netip.MustParsePrefix("35.191.0.0/16"), netip.MustParsePrefix("130.211.0.0/22"),
		netip.MustParsePrefix("209.85.152.0/22"), netip.MustParsePrefix("209.85.204.0/22"),
	},
	"azure": {netip.MustParsePrefix("168.63.129.16/32")},
}

// onNodes is the subject of findings that are about no list.
const onNodes = "A firewall on nodes"

// guarded are the roles whose ports a firewall on nodes closes.
var guarded = []snapshot.Role{
	snapshot.RoleAPIServer, snapshot.RoleKubelet, snapshot.RoleEtcd, snapshot.RoleScheduler, snapshot.RoleControllerManager,
}

// HostFirewall is what a firewall on nodes would say: the ports of kubelets, and of the API server and what stands behind it where they
// are processes on nodes.
func HostFirewall(baseline string, access *pcinetv1alpha1.ManagementAccess, m *snapshot.Management) policy.HostFirewall {
	out := policy.HostFirewall{Baseline: baseline}
	local := addressesOf(m.Hosts)
	for i := range m.Interfaces {
		if in := &m.Interfaces[i]; local[in.Address.Addr().Unmap()] && slices.Contains(guarded, in.Role) {
			out.Ports = append(out.Ports, int32(in.Address.Port()))
		}
	}
	slices.Sort(out.Ports)
	out.Ports = slices.Compact(out.Ports)
	out.Allowed = allowedSet(access).Prefixes()
	return out
}

// hostFirewall (4.2; PCI DSS 1.2.5, 1.3.1): the allow-list can be enforced on nodes, would have an effect, and cuts off nobody who must
// come in. It is judged before anything is written; with Enforce, what has become of it, too.
func hostFirewall(s Subject, v *verdicts) {
	mode := s.Access.HostFirewall
	if mode != pcinetv1alpha1.HostFirewallAudit && mode != pcinetv1alpha1.HostFirewallEnforce {
		return
	}
	before := len(v.list)
	couldEnforce(s, v)
	ports := numbers(HostFirewall("", s.Access, &s.Management).Ports)
	switch {
	case mode == pcinetv1alpha1.HostFirewallEnforce:
		triedWhereItMatters(s, v)
		enforced(s, v, ports)
	case len(v.list) == before:
		v.skip(onNodes, "it can be enforced, on ports "+ports+", and nothing that must come in is missing from allowedCIDRs; nothing is written")
	}
	if u := s.Protection.Unsaved; u != "" {
		v.warn(pcinetv1alpha1.ReasonHostFirewallIneffective, onNodes, u+" is an empty list: no failsafe port saves a node from a wrong policy",
			"Know how to reach nodes by a console before a policy for nodes is written")
	}
	if o := s.Protection.IPv4Only; o != "" && len(sixth(s.Hosts)) == 0 {
		v.warn(pcinetv1alpha1.ReasonHostFirewallIneffective, onNodes, o+" leaves IPv6 alone: whoever reaches a node by it, as from its own link, is let in", closeIPv6)
	}
}

// triedWhereItMatters: the node on which a list is tried runs an API server, if any node does, and is not every node. Else its port is closed on
// all of them at once, and watched only then.
func triedWhereItMatters(s Subject, v *verdicts) {
	const label = policy.LabelHostFirewall + "=" + policy.HostFirewallTrial
	servers, tried, among, anywhere := s.ServerAddresses(), 0, false, false
	for i := range s.Hosts {
		h := &s.Hosts[i]
		runs := slices.ContainsFunc(h.Addresses, func(a netip.Addr) bool { return servers[a] })
		anywhere, among = anywhere || runs, among || runs && h.Trial
		if h.Trial {
			tried++
		}
	}
	switch {
	case tried == 0: // the operator waits for one, and says so
	case tried == len(s.Hosts) && tried > 1:
		v.warn(pcinetv1alpha1.ReasonHostFirewallPending, onNodes, "every node is labelled "+label+", so that a list is tried on all of them at once", "Label one node of the control plane alone")
	case anywhere && !among:
		v.warn(pcinetv1alpha1.ReasonHostFirewallPending, onNodes, "no node that is labelled "+label+" runs an API server, so that its port is tried on no node before all of them", "Label one node of the control plane")
	}
}

// closeIPv6 is what to do where the engine leaves IPv6 alone.
const closeIPv6 = "Set Felix's ipv6Support to true, or take IPv6 off nodes"

// sixth are the nodes' addresses of IPv6.
func sixth(hosts []snapshot.Host) (out []netip.Addr) {
	for i := range hosts {
		for _, a := range hosts[i].Addresses {
			if a.Is6() {
				out = append(out, a)
			}
		}
	}
	return out
}

// HostFirewallFit says whether the allow-list may be enforced: Pass, Fail, or Error if that cannot be told.
func HostFirewallFit(s Subject) checks.Result {
	v := &verdicts{}
	couldEnforce(s, v)
	result := checks.Pass
	for i := range v.list {
		if severity(v.list[i].Result) < severity(result) {
			result = v.list[i].Result
		}
	}
	return result
}

// couldEnforce tells what is in the way of enforcing it.
func couldEnforce(s Subject, v *verdicts) {
	wanted := HostFirewall("", s.Access, &s.Management)
	p := &s.Protection
	for _, d := range p.Doubts {
		v.unseen(onNodes, d, "")
	}
	for _, o := range p.Obstacles {
		v.fail(pcinetv1alpha1.ReasonHostFirewallIneffective, onNodes, o, "")
	}
	if p.Backend == "" && len(p.Doubts) == 0 {
		v.fail(pcinetv1alpha1.ReasonHostFirewallIneffective, onNodes, "the policy engine has no policies for nodes, or none that is written here",
			"Limit the ports of nodes by other means, and set spec.managementAccess.attestation")
	}
	if six := sixth(s.Hosts); p.IPv4Only != "" && len(six) > 0 {
		v.fail(pcinetv1alpha1.ReasonHostFirewallIneffective, onNodes, fmt.Sprintf("%s leaves IPv6 alone, and nodes have addresses of it, such as %s", p.IPv4Only, six[0]), closeIPv6)
	}
	if len(wanted.Ports) == 0 {
		v.unseen(onNodes, "no port of a node is known that it would close", "See kubectl get nodes -o wide")
	}
	stayOpen(p, &wanted, v)
	preflight(s, v)
}

// enforced tells how far it is.
func enforced(s Subject, v *verdicts, ports string) {
	const (
		runbook = "See docs/host-firewall.md"
		again   = "Change allowedCIDRs, or, once the cause is known, let it be tried again: kubectl -n pci-network-baseline-hosts annotate lease operator pcinetwork.dev/host-firewall-"
	)
	f := s.Firewall
	switch f.State {
	case snapshot.FirewallKept:
		v.add(checks.Pass, pcinetv1alpha1.ReasonAccessRestricted, onNodes, "the allow-list is enforced on every node, on ports "+ports, "")
		if f.Why != "" {
			v.warn(pcinetv1alpha1.ReasonHostFirewallPending, onNodes, f.Why, runbook)
		}
	case snapshot.FirewallTrying:
		v.fail(pcinetv1alpha1.ReasonHostFirewallPending, onNodes, cmp.Or(f.Why, "it is being tried"), "It takes a few minutes")
	case snapshot.FirewallTakenBack:
		v.fail(pcinetv1alpha1.ReasonHostFirewallTakenBack, onNodes, "it was tried and taken back: "+f.Why, again)
	case snapshot.FirewallPending:
		v.fail(pcinetv1alpha1.ReasonHostFirewallPending, onNodes, f.Why, runbook)
	default:
		v.unseen(onNodes, cmp.Or(f.Why, "how far it is has not been looked at yet"), "")
	}
}

// stayOpen: what Calico lets in before any policy voids the list.
func stayOpen(p *snapshot.HostProtection, wanted *policy.HostFirewall, v *verdicts) {
	allowed := prefixSet(wanted.Allowed)
	open := map[string][]int32{}
	var objects []string
	for _, o := range p.Open {
		if !slices.Contains(wanted.Ports, o.Port) || len(surplus([]netip.Prefix{o.Net}, allowed)) == 0 {
			continue
		}
		if open[o.Object] == nil {
			objects = append(objects, o.Object)
		}
		if !slices.Contains(open[o.Object], o.Port) {
			open[o.Object] = append(open[o.Object], o.Port)
		}
	}
	for _, object := range objects {
		v.fail(pcinetv1alpha1.ReasonHostFirewallIneffective, onNodes, object+" keeps ports "+numbers(open[object])+" open for addresses that allowedCIDRs does not hold, before any policy",
			"Give these failsafe ports the ranges of allowedCIDRs as net, one entry for each; then a node has a way in and the list counts")
	}
}

// preflight: the list holds everybody who must come in.
func preflight(s Subject, v *verdicts) {
	allowed := allowedSet(s.Access)
	var missing, alone []need
	for _, n := range needs(s, v) {
		switch {
		case !allowed.ContainsPrefix(n.prefix):
			missing = append(missing, n)
		case strings.HasPrefix(n.of, ofNode) && !heldByRange(s.Access, n.prefix.Addr()):
			alone = append(alone, n)
		}
	}
	if len(missing) > 0 {
		v.fail(pcinetv1alpha1.ReasonHostFirewallRefused, "spec.managementAccess.allowedCIDRs", "it lacks "+named(missing)+", which would be cut off", "Add them, or ranges that hold them")
	}
	if len(alone) > 0 {
		v.fail(pcinetv1alpha1.ReasonHostFirewallRefused, "spec.managementAccess.allowedCIDRs",
			"it holds nodes only one by one: "+named(alone)+"; a node that joins could not reach the API server, by which its address would become known",
			"Give the ranges that nodes get their addresses from")
	}
}

// needs lists who must come in. What of it is not known is told.
func needs(s Subject, v *verdicts) []need {
	pods := podsOf(s)
	out := slices.Concat(nodesOf(s, v), serversOf(s))
	isPod := slices.ContainsFunc(pods, func(n need) bool { return n.prefix.Contains(s.Vantage) })
	switch {
	case !s.Vantage.IsValid():
		v.unseen(onNodes, "the address from which the operator reaches the API server is not known", "See the operator's log")
	case !isPod && !s.Vantage.IsLoopback(): // which no policy closes
		out = append(out, single(s.Vantage, "the operator"))
	}
	switch {
	case s.Protection.ByIdentity, s.Protection.Backend == "": // pods are none of its business, or it is not known which engine there is
	case len(pods) == 0:
		v.unseen(onNodes, "the ranges of pods' addresses are not known, neither from nodes nor from address pools", "See kubectl get nodes -o yaml, spec.podCIDRs")
	default:
		out = append(out, pods...)
	}
	slices.SortStableFunc(out, func(a, b need) int { return a.prefix.Addr().Compare(b.prefix.Addr()) })
	return slices.Compact(out)
}

func single(a netip.Addr, of string) need { return need{netip.PrefixFrom(a, a.BitLen()), of} }

// ofNode begins what a node's address is needed for.
const ofNode = "Node "

func nodesOf(s Subject, v *verdicts) []need {
	var out []need
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if len(h.Addresses) == 0 {
			v.unseen(onNodes, ofNode+h.Name+" has no address", "See kubectl get node -o wide")
		}
		for _, a := range h.Addresses {
			out = append(out, single(a, ofNode+h.Name))
		}
	}
	return out
}

func podsOf(s Subject) []need {
	var out []need
	for i := range s.Hosts {
		for _, p := range s.Hosts[i].PodRanges {
			out = append(out, need{p, "pods of " + ofNode + s.Hosts[i].Name})
		}
	}
	for _, p := range s.Protection.PodRanges {
		out = append(out, need{p, "pods"})
	}
	return out
}

// serversOf lists API servers, which reach kubelets, and who comes to them on behalf of others.
func serversOf(s Subject) []need {
	var out []need
	local, onNode := addressesOf(s.Hosts), false
	for i := range s.Interfaces {
		if in := &s.Interfaces[i]; in.Role == snapshot.RoleAPIServer {
			a := in.Address.Addr().Unmap()
			out = append(out, single(a, "API server"))
			onNode = onNode || local[a]
		}
	}
	for _, c := range s.Access.LoadBalancerCIDRs {
		if p, err := netip.ParsePrefix(string(c)); err == nil { // what the API server's rule lets through, does
			out = append(out, need{p, "load balancer"})
		}
	}
	for cloud, ranges := range probes {
		if !onNode || !slices.ContainsFunc(s.Hosts, func(h snapshot.Host) bool { return h.Provider == cloud }) {
			continue
		}
		for _, p := range ranges {
			out = append(out, need{p, "health checks of " + cloud})
		}
	}
	return out
}

func addressesOf(hosts []snapshot.Host) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for i := range hosts {
		for _, a := range hosts[i].Addresses {
			out[a] = true
		}
	}
	return out
}

// heldByRange says whether an address is held by a range of more than one.
func heldByRange(a *pcinetv1alpha1.ManagementAccess, addr netip.Addr) bool {
	return slices.ContainsFunc(a.AllowedCIDRs, func(c pcinetv1alpha1.AllowedCIDR) bool {
		p, err := netip.ParsePrefix(string(c.CIDR))
		return err == nil && !p.IsSingleIP() && p.Contains(addr)
	})
}

// named lists what is needed, up to a number that can be read.
func named(list []need) string {
	const some = 16
	var out []string
	for _, n := range list[:min(some, len(list))] {
		text := n.prefix.String()
		if n.prefix.IsSingleIP() {
			text = n.prefix.Addr().String()
		}
		out = append(out, text+" ("+n.of+")")
	}
	text := strings.Join(out, ", ")
	if more := len(list) - some; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func numbers(ports []int32) string {
	var out []string
	for _, p := range ports {
		out = append(out, strconv.Itoa(int(p)))
	}
	return strings.Join(out, ", ")
}
