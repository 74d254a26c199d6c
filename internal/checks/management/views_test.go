// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// What a node reaches although it is not on the list is told, by what it needs not reach; and a node that looks no more, or cannot, is not silent.
func TestViews(t *testing.T) {
	t.Parallel()
	const node = "node n2 (10.0.0.9)"
	some := func(at ...string) (out []netip.AddrPort) {
		for _, a := range at {
			out = append(out, netip.MustParseAddrPort(a))
		}
		return out
	}
	seen := map[snapshot.Role]snapshot.Answers{
		snapshot.RoleKubelet:      {Looked: 9, Answered: 8, Some: some("10.0.0.1:10250", "10.0.0.2:10250", "10.0.0.3:10250")},
		snapshot.RoleEtcd:         {Looked: 2, Answered: 1, Some: some("10.0.0.1:2379")},
		snapshot.RoleScheduler:    {Looked: 1},
		snapshot.RoleAPIServer:    {Looked: 1, Answered: 1, Some: some("10.0.0.1:6443")},
		snapshot.RoleAgentHealth:  {Looked: 1, Answered: 1, Some: some("10.0.0.1:4240")},
		snapshot.RoleKonnectivity: {Looked: 1, Answered: 1, Some: some("10.0.0.1:8132")},
	}
	const unlisted = " answer, and spec.managementAccess.allowedCIDRs does not hold that node: "
	told := []string{
		"warn: Every etcd, from " + node + ": 1 of 2" + unlisted + "10.0.0.1:2379",
		"warn: Every kubelet, from " + node + ": 8 of 9" + unlisted + "10.0.0.1:10250, 10.0.0.2:10250, 10.0.0.3:10250 and 5 more",
		"skip: Every scheduler, from " + node + ": none answers",
	}
	for name, tc := range map[string]struct {
		change func(*snapshot.View)
		want   []string
	}{
		"a node for workloads": {func(*snapshot.View) {}, told},
		"one that could not ask all": {
			func(v *snapshot.View) { v.Seen.Missing = 2 },
			append([]string{"warn: " + node + ": not everything could be found or asked from there"}, told...),
		},
		"one on the list": {
			func(v *snapshot.View) { v.From = netip.MustParseAddr("192.0.2.9") },
			[]string{"skip: node n2 (192.0.2.9): spec.managementAccess.allowedCIDRs holds it"},
		},
		"one of the control plane": {
			func(v *snapshot.View) { v.From = netip.MustParseAddr("10.0.0.1") },
			[]string{"skip: node n2 (10.0.0.1): an API server is there, which reaches every kubelet"},
		},
		"one that failed": {
			func(v *snapshot.View) { v.Seen, v.Problem = snapshot.Seen{}, "the program ended with 1" },
			[]string{"warn: " + node + ": what it reaches is not known: the program ended with 1"},
		},
		"one that looks no more": {
			func(v *snapshot.View) { v.At = today.Add(-3*time.Hour - time.Second) },
			[]string{"warn: " + node + ": what it reaches is not known any more: it looked last on 2026-07-01T08:59:59Z"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound()
			view := snapshot.View{Node: "n2", From: netip.MustParseAddr("10.0.0.9"), At: today.Add(-3 * time.Hour), Seen: snapshot.Seen{Answers: seen}}
			tc.change(&view)
			s.Views = []snapshot.View{view}
			if diff := cmp.Diff(tc.want, of("ClosedToNodes", s)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			older := view
			older.Node, older.At = "n1", view.At.Add(-6*time.Hour)
			s.Views = []snapshot.View{older, view}
			if diff := cmp.Diff(tc.want, of("ClosedToNodes", s)); diff != "" {
				t.Errorf("after another node has looked before (-want +got):\n%s", diff)
			}
			s.Access.AllowedCIDRs = nil
			if got := of("ClosedToNodes", s); got != nil {
				t.Errorf("without a list to compare with: %s", got)
			}
		})
	}
	if management.Requirements("ClosedToNodes") == "" {
		t.Error("it supports nothing")
	}
}
