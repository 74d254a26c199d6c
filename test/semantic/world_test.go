// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package semantic_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// packet is the first packet of a connection, seen from a pod of the namespace that policies are made for.
type packet struct {
	direction pcinetv1alpha1.Direction
	pod       labels.Set
	remote    remote
	protocol  pcinetv1alpha1.Protocol
	port      int32
}

// place is where a remote address is.
type place string

const (
	outside   place = "outside of the cluster"
	inPod     place = "a pod"
	onNode    place = "another node"
	onOwnNode place = "the pod's own node"
	apiServer place = "the API server on a node"
)

// remote is the other side.
type remote struct {
	addr  netip.Addr
	place place
	// namespace and pod are set in a pod.
	namespace snapshot.Namespace
	pod       labels.Set
	// set holds the labels of a Calico network set with the address, if there is one.
	set labels.Set
}

var (
	namespaces = []snapshot.Namespace{
		namespace("shop", "team", "web"), namespace("data", "team", "data"), namespace("mesh", "pci", "yes"), namespace("kube-system"),
	}
	bothDirections = []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress}
	dnsPods        = labels.Set{"k8s-app": "kube-dns"}

	everyPodLabels = []labels.Set{{}, {"app": "a"}, {"app": "b"}, {"app": "b", "tier": "x"}, {"app": "c", "example.com/pci": ""}, dnsPods}

	// Addresses by where they are. Ranges of rules are made from these, so that they often meet.
	outsideAddrs = addrs("10.1.2.3", "10.1.2.4", "10.9.9.9", "192.0.2.7", "192.0.2.200", "198.51.100.1", "2001:db8::1", "2001:db8:1::1", "2606:4700::1")
	podAddrs     = addrs("10.244.0.5", "10.244.7.9", "fd00:244::5")
	nodeAddrs    = addrs("192.168.0.20", "fd00:192::20")
	localAddrs   = addrs("169.254.20.10", "fd00:53::10", "192.168.0.10")
	apiAddrs     = addrs("192.168.0.2", "fd00:192::2", "192.168.0.3")
)

func namespace(name string, pairs ...string) snapshot.Namespace {
	set := labels.Set{corev1.LabelMetadataName: name}
	for i := 0; i < len(pairs); i += 2 {
		set[pairs[i]] = pairs[i+1]
	}
	return snapshot.Namespace{Name: name, Labels: set}
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// random makes specs that the CRD accepts, clusters, and packets. A seed always gives the same ones.
type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 11))} }

func pickOne[T any](r random, from ...T) T { return from[r.IntN(len(from))] }

func (r random) podLabels() labels.Set {
	return pickOne(r, everyPodLabels...)
}

func (r random) selector() *pcinetv1alpha1.LabelSelector {
	out := &pcinetv1alpha1.LabelSelector{}
	if r.IntN(3) == 0 {
		out.MatchLabels = map[string]pcinetv1alpha1.LabelValue{r.key(): r.value()}
	}
	for range r.IntN(3) {
		e := pcinetv1alpha1.LabelSelectorRequirement{Key: r.key(), Operator: pickOne[pcinetv1alpha1.LabelSelectorOperator](r, "In", "NotIn", "NotIn", "Exists", "DoesNotExist")}
		if e.Operator == "In" || e.Operator == "NotIn" {
			for range r.IntN(3) + 1 {
				e.Values = append(e.Values, r.value())
			}
		}
		out.MatchExpressions = append(out.MatchExpressions, e)
	}
	return out
}

func (r random) key() string {
	return pickOne(r, "app", "app", "tier", "team", "example.com/pci", corev1.LabelMetadataName)
}

func (r random) value() pcinetv1alpha1.LabelValue {
	return pickOne[pcinetv1alpha1.LabelValue](r, "a", "b", "x", "web", "data", "shop", "")
}

func (r random) maybeSelector() *pcinetv1alpha1.LabelSelector {
	if r.IntN(3) == 0 {
		return nil
	}
	return r.selector()
}

func (r random) addr() netip.Addr {
	return pickOne(r, pickOne(r, outsideAddrs, outsideAddrs, podAddrs, nodeAddrs, localAddrs, apiAddrs)...)
}

func (r random) peer() pcinetv1alpha1.Peer {
	if r.IntN(2) == 0 {
		p := pcinetv1alpha1.Peer{NamespaceSelector: r.maybeSelector(), PodSelector: r.maybeSelector()}
		if p.NamespaceSelector == nil && p.PodSelector == nil {
			p.PodSelector = r.selector()
		}
		return p
	}
	wide := r.prefix(0)
	p := pcinetv1alpha1.Peer{CIDR: pcinetv1alpha1.CIDR(wide.String())}
	for range r.IntN(6) {
		if e := r.prefix(wide.Bits() + 1); e.Bits() > wide.Bits() && wide.Contains(e.Addr()) {
			p.Except = append(p.Except, pcinetv1alpha1.CIDR(e.String()))
		}
	}
	return p
}

// prefix returns a range around one of the addresses, of at least so many bits.
func (r random) prefix(least int) netip.Prefix {
	addr := r.addr()
	bits := pickOne(r, 0, 1, 8, 15, 16, 24, 30, addr.BitLen()-1, addr.BitLen())
	if addr.Is6() {
		bits = pickOne(r, 0, 1, 16, 32, 48, 64, 127, 128)
	}
	return netip.PrefixFrom(addr, min(max(bits, least), addr.BitLen())).Masked()
}

func (r random) protocol() pcinetv1alpha1.Protocol {
	return pickOne[pcinetv1alpha1.Protocol](r, "TCP", "TCP", "UDP", "SCTP")
}

func (r random) portNumber() int32 {
	return pickOne[int32](r, 1, 53, 53, 54, 443, 443, 5353, 6443, 8443, 65535)
}

func (r random) rule(name string, directions []pcinetv1alpha1.Direction) pcinetv1alpha1.AllowRule {
	out := pcinetv1alpha1.AllowRule{
		Name: pcinetv1alpha1.AllowanceName(name), Direction: pickOne(r, directions...), Justification: "Because of " + name,
	}
	if r.IntN(2) == 0 {
		out.Subject = &pcinetv1alpha1.Subject{NamespaceSelector: r.maybeSelector(), PodSelector: r.maybeSelector()}
	}
	for range r.IntN(4) + 1 {
		out.Peers = append(out.Peers, r.peer())
	}
	for range r.IntN(4) + 1 {
		p := pcinetv1alpha1.Port{Protocol: r.protocol(), Port: r.portNumber()}
		if last := r.portNumber(); last >= p.Port && r.IntN(2) == 0 {
			p.EndPort = last
		}
		out.Ports = append(out.Ports, p)
	}
	return out
}

func (r random) baseline() *pcinetv1alpha1.PCINetworkBaseline {
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci", Generation: 1}}
	s := &b.Spec
	s.Directions = pickOne(r, bothDirections, bothDirections, bothDirections[:1], bothDirections[1:])
	s.Namespaces.System = pickOne(r, pcinetv1alpha1.SystemNamespacesExclude, pcinetv1alpha1.SystemNamespacesInclude)
	if r.IntN(10) == 0 {
		s.Namespaces.Selector = r.selector()
	}
	s.Allow.DNS = pickOne(r, pcinetv1alpha1.DNSAllowanceClusterDNS, pcinetv1alpha1.DNSAllowanceNone)
	for i := range r.IntN(5) {
		s.Allow.Rules = append(s.Allow.Rules, r.rule(fmt.Sprintf("rule-%d", i), s.Directions))
	}
	for i := range r.IntN(3) {
		s.Allow.KubeAPIServer = append(s.Allow.KubeAPIServer, pcinetv1alpha1.KubeAPIServerAllowance{
			Name: pcinetv1alpha1.AllowanceName(fmt.Sprintf("api-%d", i)), NamespaceSelector: r.maybeSelector(), PodSelector: r.selector(),
		})
	}
	return b
}

func (r random) some(from []netip.Addr) []netip.Addr { return from[:r.IntN(len(from)+1)] }

func (r random) cluster() snapshot.Cluster {
	c := snapshot.Cluster{SystemNamespaces: []string{"kube-system"}, DNS: snapshot.DNS{NodeLocal: r.some(localAddrs[:2])}}
	for range r.IntN(3) {
		c.DNS.Servers = append(c.DNS.Servers, snapshot.DNSServer{
			Namespace: "kube-system", Name: "kube-dns", Addresses: r.some(outsideAddrs[:3]),
			Selector: pickOne(r, nil, dnsPods),
			Ports:    pickOne(r, []snapshot.Port{{Protocol: "UDP", Port: 53}}, []snapshot.Port{{Protocol: "TCP", Port: 5353}, {Protocol: "UDP", Port: 5353}}),
		})
	}
	for _, a := range r.some(apiAddrs) {
		c.APIServer = append(c.APIServer, snapshot.Endpoint{Address: a, Port: pickOne[int32](r, 443, 6443)})
	}
	return c
}

func (r random) packet() packet {
	return packet{direction: pickOne(r, bothDirections...), pod: r.podLabels(), protocol: r.protocol(), port: r.portNumber(), remote: r.remote()}
}

// near returns an address that differs from a in at most one bit.
func (r random) near(a netip.Addr) netip.Addr {
	bytes := a.AsSlice()
	if r.IntN(2) == 0 {
		bytes[r.IntN(len(bytes))] ^= 1 << r.IntN(8)
	}
	out, _ := netip.AddrFromSlice(bytes)
	return out
}

func (r random) remote() remote {
	out := remote{place: pickOne(r, outside, outside, outside, inPod, inPod, inPod, inPod, onNode, onOwnNode, apiServer)}
	switch out.place {
	case inPod:
		out.addr, out.namespace, out.pod = pickOne(r, podAddrs...), pickOne(r, namespaces...), r.podLabels()
	case onNode:
		out.addr = pickOne(r, nodeAddrs...)
	case onOwnNode:
		out.addr = pickOne(r, localAddrs...)
	case apiServer:
		out.addr = pickOne(r, apiAddrs...)
	default:
		out.addr = r.near(pickOne(r, outsideAddrs...))
		if r.IntN(2) == 0 {
			out.set = r.podLabels()
		}
	}
	return out
}
