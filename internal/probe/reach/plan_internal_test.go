// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package reach

import (
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
