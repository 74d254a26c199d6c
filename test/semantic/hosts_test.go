// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package semantic_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/cilium/pkg/identity"
	ciliumv2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	ciliumlabels "github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/option"
	ciliumpolicy "github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/u8proto"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
)

// randomFirewall returns a firewall for all nodes, with ranges of both families.
func randomFirewall(r *rand.Rand) policy.HostFirewall {
	f := policy.HostFirewall{Baseline: "b", Ports: []int32{2379, 6443, 10250}[:1+r.IntN(3)]}
	for range 1 + r.IntN(6) {
		a := netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(4)), byte(r.IntN(256))})
		if r.IntN(3) == 0 {
			a = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(r.IntN(3)), 0, byte(r.IntN(4))})
		}
		p, _ := a.Prefix(a.BitLen() - r.IntN(20))
		f.Allowed = append(f.Allowed, p)
	}
	return f
}

// hostPolicy returns Cilium's own policy of a node, as its agent resolves it from what is rendered.
func hostPolicy(t *testing.T, f policy.HostFirewall, l ciliumlabels.Labels) (*agent, *ciliumpolicy.EndpointPolicy) {
	t.Helper()
	configureCilium()
	option.Config.EnableHostFirewall = true
	defer func() { option.Config.EnableHostFirewall = false }()
	objects := render.HostFirewall(cilium.Hosts{}, f)
	if len(objects) != 1 {
		t.Fatalf("%d objects", len(objects))
	}
	text, err := json.Marshal(objects[0])
	if err != nil {
		t.Fatal(err)
	}
	entries, err := entriesOf(text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	a := newAgent(entries)
	host := identity.NewIdentity(identity.ReservedIdentityHost, l)
	a.learn(identity.IdentityMap{host.ID: host.LabelArray})
	p, err := a.policy(host)
	if err != nil {
		t.Fatal(err)
	}
	return a, p
}

func lets(p *ciliumpolicy.EndpointPolicy, from *identity.Identity, protocol u8proto.U8proto, port uint16) bool {
	entry, _, _ := p.Lookup(ciliumpolicy.IngressKey().WithIdentity(from.ID).WithPortProto(protocol, port))
	return !entry.IsDeny()
}

// Of the addresses that are no node's and no pod's, the allowed ones alone reach the ports; everything else stays as it is: other
// ports and protocols, nodes, pods, health checks, and what leaves the node.
func TestAFirewallOnNodesClosesItsPortsToOthersAlone(t *testing.T) {
	denied, allowed := 0, 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		f := randomFirewall(r)
		a, p := hostPolicy(t, f, ciliumlabels.LabelHost)
		for range 50 {
			addr := netip.AddrFrom4([4]byte{10, byte(r.IntN(3)), byte(r.IntN(4)), byte(r.IntN(256))})
			if r.IntN(3) == 0 {
				addr = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 0, byte(r.IntN(3)), 0, byte(r.IntN(4)), 15: byte(r.IntN(3))})
			}
			for _, port := range []uint16{22, 2379, 4240, 6443, 10250, 10251} {
				want := !slices.Contains(f.Ports, int32(port)) || slices.ContainsFunc(f.Allowed, func(p netip.Prefix) bool { return p.Contains(addr) })
				if got := lets(p, a.beyond(addr), u8proto.TCP, port); got != want {
					t.Fatalf("seed %d: %+v lets %s to port %d: %v, want %v", seed, f, addr, port, got, want)
				}
				if !lets(p, a.beyond(addr), u8proto.UDP, port) {
					t.Fatalf("seed %d: %+v closes UDP port %d", seed, f, port)
				}
				if want {
					allowed++
				} else {
					denied++
				}
			}
		}
		inside := []*identity.Identity{a.pod(namespaces[0], everyPodLabels[0])}
		for _, id := range []identity.NumericIdentity{
			identity.ReservedIdentityHost, identity.ReservedIdentityRemoteNode, identity.ReservedIdentityHealth, identity.ReservedIdentityKubeAPIServer,
			identity.ReservedIdentityInit, identity.ReservedIdentityUnmanaged,
		} {
			inside = append(inside, identity.LookupReservedIdentity(id))
		}
		for _, id := range inside {
			for _, port := range []uint16{22, 2379, 4240, 6443, 10250} {
				if !lets(p, id, u8proto.TCP, port) {
					t.Fatalf("seed %d: %+v closes port %d to %s", seed, f, port, id.Labels)
				}
			}
		}
		entry, _, _ := p.Lookup(ciliumpolicy.EgressKey().WithIdentity(identity.ReservedIdentityWorldIPv4).WithPortProto(u8proto.TCP, 6443))
		if entry.IsDeny() {
			t.Fatalf("seed %d: %+v closes what leaves the node", seed, f)
		}
	}
	if t.Logf("%d denied, %d let through", denied, allowed); denied < 1000 || allowed < 1000 {
		t.Error("too few to prove anything")
	}
}

// A policy for one node selects by labels that the node's identity has, and no other node.
func TestAFirewallOnNodesIsForThoseSelected(t *testing.T) {
	f := policy.HostFirewall{Baseline: "b", Ports: []int32{10250}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	f.Nodes.MatchLabels = map[string]string{"node-role.kubernetes.io/control-plane": ""}
	chosen := ciliumlabels.Map2Labels(f.Nodes.MatchLabels, ciliumlabels.LabelSourceK8s)
	chosen.MergeLabels(ciliumlabels.LabelHost)
	outside := netip.MustParseAddr("192.0.2.1")
	for name, tc := range map[string]struct {
		labels ciliumlabels.Labels
		want   bool
	}{"the node": {chosen, false}, "another node": {ciliumlabels.LabelHost, true}} {
		a, p := hostPolicy(t, f, tc.labels)
		if got := lets(p, a.beyond(outside), u8proto.TCP, 10250); got != tc.want {
			t.Errorf("%s is open: %v, want %v", name, got, tc.want)
		}
	}
}

// Ours is Cilium's own type on the wire.
func TestOurHostPolicyIsCiliumsOnTheWire(t *testing.T) {
	for seed := range uint64(50) {
		f := randomFirewall(rand.New(rand.NewPCG(seed, 2)))
		f.Nodes.MatchLabels = map[string]string{"a": "b"}
		want := render.HostFirewall(cilium.Hosts{}, f)[0]
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got := &cilium.HostPolicy{}
		through(t, text, &ciliumv2.CiliumClusterwideNetworkPolicy{}, got)
		if diff := cmp.Diff(want, render.Object(got), cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
	}
}
