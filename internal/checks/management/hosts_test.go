// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// guardable returns a cluster on whose nodes the allow-list can be enforced, with Calico: the node of the API server and another one.
func guardable() management.Subject {
	s := sound()
	s.Encryption = nil
	s.Hosts = []snapshot.Host{
		{Name: "cp", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, PodRanges: prefixes("10.4.0.0/24")},
		{Name: "n1", Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("2001:db8::2")}, PodRanges: prefixes("10.4.1.0/24")},
	}
	s.Vantage = netip.MustParseAddr("10.4.1.7")
	s.Protection = snapshot.HostProtection{Backend: "Calico", Open: []snapshot.OpenPort{
		{Port: 22, Net: netip.MustParsePrefix("0.0.0.0/0"), Object: "FelixConfiguration default"},
		{Port: 6443, Net: netip.MustParsePrefix("10.0.0.0/24"), Object: "FelixConfiguration default"},
	}}
	s.Access.HostFirewall = pcinetv1alpha1.HostFirewallAudit
	allow(&s, "10.0.0.0/24", "10.4.0.0/16", "2001:db8::/64")
	return s
}

func allow(s *management.Subject, ranges ...string) {
	for _, r := range ranges {
		s.Access.AllowedCIDRs = append(s.Access.AllowedCIDRs, pcinetv1alpha1.AllowedCIDR{CIDR: pcinetv1alpha1.CIDR(r)})
	}
}

// without takes ranges off the allow-list.
func without(ranges ...string) func(*management.Subject) {
	return func(s *management.Subject) {
		old := s.Access.AllowedCIDRs
		s.Access.AllowedCIDRs = nil
		for _, c := range old {
			if !strings.Contains(strings.Join(ranges, " "), string(c.CIDR)) {
				s.Access.AllowedCIDRs = append(s.Access.AllowedCIDRs, c)
			}
		}
	}
}

func TestHostFirewall(t *testing.T) {
	t.Parallel()
	const (
		refused     = "HostFirewall fail HostFirewallRefused: spec.managementAccess.allowedCIDRs: "
		ineffective = "HostFirewall fail HostFirewallIneffective: A firewall on nodes: "
		unseen      = "HostFirewall error ManagementNotObservable: A firewall on nodes: "
		cutOff      = ", which would be cut off"
	)
	both := func(changes ...func(*management.Subject)) func(*management.Subject) {
		return func(s *management.Subject) {
			for _, c := range changes {
				c(s)
			}
		}
	}
	byIdentity := func(s *management.Subject) {
		s.Protection = snapshot.HostProtection{Backend: "Cilium", ByIdentity: true}
	}
	from := func(address string) func(*management.Subject) {
		return func(s *management.Subject) { s.Vantage = netip.MustParseAddr(address) }
	}
	open := func(port int32, net string) func(*management.Subject) {
		return func(s *management.Subject) {
			s.Protection.Open = append(s.Protection.Open, snapshot.OpenPort{Port: port, Net: netip.MustParsePrefix(net), Object: "FelixConfiguration default"})
		}
	}
	on := func(provider string) func(*management.Subject) {
		return func(s *management.Subject) { s.Hosts[1].Provider = provider }
	}
	apart := func(s *management.Subject) { // the API server is on no node
		s.Interfaces[apiServer].Address = netip.MustParseAddrPort("172.16.0.1:443")
		allow(s, "172.16.0.0/28")
	}
	cases := map[string]struct {
		change func(*management.Subject)
		want   []string
	}{
		"everybody who must come in can":                  {change: func(*management.Subject) {}},
		"nobody asks":                                     {change: both(without("10.0.0.0/24"), func(s *management.Subject) { s.Access.HostFirewall = pcinetv1alpha1.HostFirewallOff })},
		"nobody asks, in an object from before the field": {change: both(without("10.0.0.0/24"), func(s *management.Subject) { s.Access.HostFirewall = "" })},
		"a list without nodes": {
			change: without("10.0.0.0/24"),
			want: []string{
				ineffective + "FelixConfiguration default keeps ports 6443 open for addresses that allowedCIDRs does not hold, before any policy",
				refused + "it lacks 10.0.0.1 (Node cp), 10.0.0.1 (API server), 10.0.0.2 (Node n1)" + cutOff,
			},
		},
		"a list without one address of a node": {change: without("2001:db8::/64"), want: []string{refused + "it lacks 2001:db8::2 (Node n1)" + cutOff}},
		"nodes one by one": {
			change: both(without("2001:db8::/64"), func(s *management.Subject) { allow(s, "2001:db8::2/128") }),
			want:   []string{refused + "it holds nodes only one by one: 2001:db8::2 (Node n1); a node that joins could not reach the API server, by which its address would become known"},
		},
		"a node in a range and alone": {change: func(s *management.Subject) { allow(s, "10.0.0.2/32") }},
		"a list without pods":         {change: without("10.4.0.0/16"), want: []string{refused + "it lacks 10.4.0.0/24 (pods of Node cp), 10.4.1.0/24 (pods of Node n1)" + cutOff}},
		"pods that the engine knows":  {change: both(without("10.4.0.0/16"), byIdentity)},
		"pods of address pools": {
			change: func(s *management.Subject) { s.Protection.PodRanges = prefixes("10.5.0.0/16") },
			want:   []string{refused + "it lacks 10.5.0.0/16 (pods)" + cutOff},
		},
		"pods of whom nothing is known": {
			change: both(from("10.0.0.2"), func(s *management.Subject) { s.Hosts[0].PodRanges, s.Hosts[1].PodRanges = nil, nil }),
			want:   []string{unseen + "the ranges of pods' addresses are not known, neither from nodes nor from address pools"},
		},
		"an operator on the host's network":       {change: from("10.0.0.2")},
		"an operator beside its API server":       {change: from("127.0.0.1")},
		"an operator from elsewhere":              {change: from("198.51.100.7"), want: []string{refused + "it lacks 198.51.100.7 (the operator)" + cutOff}},
		"an operator from elsewhere, by identity": {change: both(byIdentity, from("198.51.100.7")), want: []string{refused + "it lacks 198.51.100.7 (the operator)" + cutOff}},
		"an operator from nowhere": {
			change: func(s *management.Subject) { s.Vantage = netip.Addr{} },
			want:   []string{unseen + "the address from which the operator reaches the API server is not known"},
		},
		"an API server elsewhere":                     {change: apart},
		"an API server elsewhere that is not allowed": {change: both(apart, without("172.16.0.0/28")), want: []string{refused + "it lacks 172.16.0.1 (API server)" + cutOff}},
		"declared load balancers": {
			change: func(s *management.Subject) {
				s.Access.LoadBalancerCIDRs = []pcinetv1alpha1.CIDR{"10.0.0.128/25", "203.0.113.0/24"}
			},
			want: []string{refused + "it lacks 203.0.113.0/24 (load balancer)" + cutOff},
		},
		"health checks of Google": {
			change: on("gce"),
			want: []string{refused + "it lacks 35.191.0.0/16 (health checks of gce), 130.211.0.0/22 (health checks of gce), 209.85.152.0/22 (health checks of gce), " +
				"209.85.204.0/22 (health checks of gce)" + cutOff},
		},
		"health checks of Azure":                     {change: on("azure"), want: []string{refused + "it lacks 168.63.129.16 (health checks of azure)" + cutOff}},
		"no health checks where no API server is":    {change: both(on("azure"), apart)},
		"a failsafe port for everybody":              {change: open(2379, "0.0.0.0/0"), want: []string{ineffective + "FelixConfiguration default keeps ports 2379 open for addresses that allowedCIDRs does not hold, before any policy"}},
		"a failsafe port for too many":               {change: open(10250, "10.0.0.0/8"), want: []string{ineffective + "FelixConfiguration default keeps ports 10250 open for addresses that allowedCIDRs does not hold, before any policy"}},
		"failsafe ports of both families named once": {change: both(open(6443, "0.0.0.0/0"), open(6443, "::/0"), open(2379, "::/0")), want: []string{ineffective + "FelixConfiguration default keeps ports 6443, 2379 open for addresses that allowedCIDRs does not hold, before any policy"}},
		"a failsafe port that nobody closes":         {change: open(179, "0.0.0.0/0")},
		"no failsafe ports": {
			change: func(s *management.Subject) { s.Protection.Unsaved = "env X" },
			want:   []string{"HostFirewall warn HostFirewallIneffective: A firewall on nodes: env X is an empty list: no failsafe port saves a node from a wrong policy"},
		},
		"IPv6 left alone": {
			change: func(s *management.Subject) {
				s.Protection.IPv4Only = "env X"
				for i := range s.Hosts {
					s.Hosts[i].Addresses = slices.DeleteFunc(s.Hosts[i].Addresses, netip.Addr.Is6)
				}
			},
			want: []string{"HostFirewall warn HostFirewallIneffective: A firewall on nodes: env X leaves IPv6 alone: whoever reaches a node by it, as from its own link, is let in"},
		},
		"IPv6 left alone on nodes that have it": {
			change: func(s *management.Subject) { s.Protection.IPv4Only = "env X" },
			want:   []string{ineffective + "env X leaves IPv6 alone, and nodes have addresses of it, such as 2001:db8::2"},
		},
		"an engine that ignores it":    {change: func(s *management.Subject) { s.Protection.Obstacles = []string{"it is off"} }, want: []string{ineffective + "it is off"}},
		"an engine that may ignore it": {change: func(s *management.Subject) { s.Protection.Doubts = []string{"it may be off"} }, want: []string{unseen + "it may be off"}},
		"an engine without":            {change: func(s *management.Subject) { s.Protection.Backend = "" }, want: []string{ineffective + "the policy engine has no policies for nodes, or none that is written here"}},
		"an engine that nobody knows": {
			change: func(s *management.Subject) {
				s.Protection = snapshot.HostProtection{Doubts: []string{"which one"}}
			},
			want: []string{unseen + "which one"},
		},
		"a node without an address": {
			change: func(s *management.Subject) { s.Hosts[1].Addresses = nil },
			want:   []string{unseen + "Node n1 has no address"},
		},
		"no nodes": {
			change: func(s *management.Subject) { s.Hosts = s.Hosts[:0]; s.Protection.PodRanges = prefixes("10.4.0.0/16") },
			want:   []string{unseen + "no port of a node is known that it would close"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := guardable()
			tc.change(&s)
			if diff := cmp.Diff(tc.want, wrong(s)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// enforcing returns a cluster with Cilium on which the firewall is to be enforced, and is at some state.
func enforcing(state snapshot.FirewallState, why string) management.Subject {
	s := guardable()
	s.Protection = snapshot.HostProtection{Backend: "Cilium", ByIdentity: true}
	s.Access.HostFirewall = pcinetv1alpha1.HostFirewallEnforce
	s.Firewall = snapshot.Firewall{State: state, Why: why}
	return s
}

// labelled is kept, and was tried on some nodes.
func labelled(hosts ...int) management.Subject {
	s := enforcing(snapshot.FirewallKept, "")
	for _, h := range hosts {
		s.Hosts[h].Trial = true
	}
	return s
}

func TestHostFirewallEnforced(t *testing.T) {
	t.Parallel()
	const pending = "HostFirewall fail HostFirewallPending: A firewall on nodes: "
	unfit := enforcing(snapshot.FirewallKept, "")
	without("10.0.0.0/24")(&unfit)
	for name, tc := range map[string]struct {
		subject management.Subject
		want    []string
	}{
		"it is kept": {enforcing(snapshot.FirewallKept, ""), nil},
		"it is kept, with nobody to take it back": {
			enforcing(snapshot.FirewallKept, "no dead man"), []string{"HostFirewall warn HostFirewallPending: A firewall on nodes: no dead man"},
		},
		"an earlier one is kept, and the list is refused": {
			unfit, []string{"HostFirewall fail HostFirewallRefused: spec.managementAccess.allowedCIDRs: it lacks 10.0.0.1 (Node cp), 10.0.0.1 (API server), 10.0.0.2 (Node n1), which would be cut off"},
		},
		"it is tried":        {enforcing(snapshot.FirewallTrying, "it is tried"), []string{pending + "it is tried"}},
		"nobody would do it": {enforcing(snapshot.FirewallPending, "no dead man"), []string{pending + "no dead man"}},
		"it was taken back": {
			enforcing(snapshot.FirewallTakenBack, "n1 is away"),
			[]string{"HostFirewall fail HostFirewallTakenBack: A firewall on nodes: it was tried and taken back: n1 is away"},
		},
		"it is tried on every node": {
			labelled(0, 1), []string{"HostFirewall warn HostFirewallPending: A firewall on nodes: every node is labelled pcinetwork.dev/host-firewall=trial, so that a list is tried on all of them at once"},
		},
		"it is tried where no API server is": {
			labelled(1), []string{"HostFirewall warn HostFirewallPending: A firewall on nodes: no node that is labelled pcinetwork.dev/host-firewall=trial runs an API server, so that its port is tried on no node before all of them"},
		},
		"it is tried where the API server is": {labelled(0), nil},
		"nobody has looked":                   {enforcing("", ""), []string{"HostFirewall error ManagementNotObservable: A firewall on nodes: how far it is has not been looked at yet"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, wrong(tc.subject)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What becomes of it must not decide whether it may be tried.
func TestHostFirewallFit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*management.Subject)
		want   checks.Result
	}{
		"it was taken back":        {func(*management.Subject) {}, checks.Pass},
		"a list without nodes":     {without("10.0.0.0/24"), checks.Fail},
		"an engine nobody knows":   {func(s *management.Subject) { s.Protection.Doubts = []string{"which one"} }, checks.Error},
		"unknown, and refused too": {func(s *management.Subject) { without("10.0.0.0/24")(s); s.Vantage = netip.Addr{} }, checks.Fail},
		"Calico":                   {func(s *management.Subject) { s.Protection = guardable().Protection }, checks.Pass},
		"Calico, without pods": {func(s *management.Subject) {
			s.Protection = guardable().Protection
			without("10.4.0.0/16")(s)
		}, checks.Fail},
	} {
		s := enforcing(snapshot.FirewallTakenBack, "x")
		tc.change(&s)
		if got := management.HostFirewallFit(s); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestPortsOfNodes(t *testing.T) {
	t.Parallel()
	s := guardable()
	s.Interfaces = append(s.Interfaces,
		snapshot.Interface{Address: netip.MustParseAddrPort("10.0.0.1:10259"), Role: snapshot.RoleScheduler},
		snapshot.Interface{Address: netip.MustParseAddrPort("[2001:db8::2]:10251"), Role: snapshot.RoleKubelet},
		snapshot.Interface{Address: netip.MustParseAddrPort("172.16.0.1:443"), Role: snapshot.RoleAPIServer}, // on no node
		snapshot.Interface{Address: netip.MustParseAddrPort("10.0.0.2:8132"), Role: snapshot.RoleKonnectivity})
	got := management.HostFirewall("b", s.Access, &s.Management)
	if diff := cmp.Diff([]int32{2379, 6443, 10250, 10251, 10259}, got.Ports); diff != "" {
		t.Error(diff)
	}
	if want := "[10.0.0.0/24 10.4.0.0/16 192.0.2.0/24 2001:db8::/64]"; fmt.Sprint(got.Allowed) != want {
		t.Errorf("allowed %v, want %s", got.Allowed, want)
	}
}

// A list of thousands is told by its first few, and by how many there are.
func TestManyNodesAreNamedInPart(t *testing.T) {
	t.Parallel()
	s := guardable()
	for i := range 5000 {
		s.Hosts = append(s.Hosts, snapshot.Host{Name: fmt.Sprintf("w%d", i), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{172, 20, byte(i >> 8), byte(i)})}})
	}
	got := strings.Join(wrong(s), "\n")
	if !strings.Contains(got, "172.20.0.0 (Node w0), ") || !strings.Contains(got, " and 4984 more") || len(got) > 700 {
		t.Error(got)
	}
}
