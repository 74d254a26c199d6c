// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// What leads in is dialled wherever it is, also where a load balancer has a name alone; and what is nowhere yet is missing.
func TestDoors(t *testing.T) {
	t.Parallel()
	nodes := []corev1.Node{{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}}}}}
	at := []netip.AddrPort{netip.MustParseAddrPort("203.0.113.7:443")}
	for name, tc := range map[string]struct {
		door          snapshot.Door
		want, missing []string
	}{
		"a load balancer":                       {door: snapshot.Door{Kind: "LoadBalancer", Addresses: at}, want: []string{"203.0.113.7:443"}},
		"a load balancer with a name":           {door: snapshot.Door{Kind: "LoadBalancer", Names: []string{"localhost:443"}}, want: []string{"127.0.0.1:443"}},
		"a load balancer that is not there yet": {door: snapshot.Door{Object: "Service a/b", Kind: "LoadBalancer", NodePorts: []uint16{30443}, Awaited: true}, want: []string{"10.0.0.1:30443"}, missing: []string{"Service a/b: it has no address yet"}},
		"node ports":                            {door: snapshot.Door{Kind: "NodePort", NodePorts: []uint16{30443}}, want: []string{"10.0.0.1:30443"}},
		"a name that is none":                   {door: snapshot.Door{Object: "Service a/b", Kind: "LoadBalancer", Names: []string{"x"}}, missing: []string{"Service a/b: address x: missing port in address"}},
	} {
		var p Plan
		p.door(t.Context(), tc.door, nodes)
		var got []string
		for _, i := range p.Targets {
			if a := i.Address.Addr(); a != netip.IPv6Loopback() { // of localhost, where it has both
				got = append(got, fmt.Sprint(i.Address))
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(tc.missing, p.Missing); diff != "" {
			t.Errorf("%s: missing (-want +got):\n%s", name, diff)
		}
	}
}

// What is left for the operator has every role once, no address twice, none of the host's own, and room in a termination message.
func TestSeen(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	r := Report{Missing: []string{"a door that has no address yet", "the list of nodes"}, gaps: 1}
	add := func(kind snapshot.Role, address netip.AddrPort, v Verdict) {
		r.Interfaces = append(r.Interfaces, Interface{Address: address, Verdict: v, kind: kind})
	}
	for _, a := range []string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1", "10.0.0.9:1"} {
		add(snapshot.RoleKubelet, at(a), Reached)
	}
	add(snapshot.RoleKubelet, at("10.0.0.1:1"), Reached)
	add(snapshot.RoleNetworkAgent, at("10.0.0.1:1"), Reached) // somebody's DaemonSet says so
	add(snapshot.RoleKubelet, at("10.0.0.5:1"), Shut)
	add(snapshot.RoleEtcd, at("10.0.0.1:2"), Allowed)
	add(snapshot.RoleEtcd, at("10.0.0.2:2"), Unknown)
	add(snapshot.RoleScheduler, at("10.0.0.2:3"), Unknown)
	add("", at("10.0.0.1:4"), Reached)
	want := snapshot.Seen{Missing: 3, Answers: map[snapshot.Role]snapshot.Answers{
		snapshot.RoleKubelet:      {Looked: 5, Answered: 4, Some: []netip.AddrPort{at("10.0.0.1:1"), at("10.0.0.2:1"), at("10.0.0.3:1")}},
		snapshot.RoleEtcd:         {Looked: 1, Answered: 1, Some: []netip.AddrPort{at("10.0.0.1:2")}},
		snapshot.RoleNetworkAgent: {Looked: 1, Answered: 1, Some: []netip.AddrPort{at("10.0.0.1:1")}},
	}}
	if diff := cmp.Diff(want, r.Seen([]netip.Addr{netip.MustParseAddr("10.0.0.9")}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	large := Report{}
	for n := range 15 {
		for m := range 9 {
			address := netip.AddrPortFrom(netip.MustParseAddr(fmt.Sprintf("2001:db8:1234:5678:9abc:def0:1234:%d%d", n+10, m+10)), 65535)
			large.Interfaces = append(large.Interfaces, Interface{Address: address, Verdict: Reached, kind: snapshot.Role(fmt.Sprintf("network agent's peers and %d", n))})
		}
	}
	if data, err := json.Marshal(large.Seen(nil)); err != nil || len(data) > 4096 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
}
