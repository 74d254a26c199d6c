// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package checks_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	netutils "k8s.io/utils/net"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
)

func blocks(cidrs ...string) []networkingv1.NetworkPolicyPeer {
	var out []networkingv1.NetworkPolicyPeer
	for _, c := range cidrs {
		out = append(out, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: c}})
	}
	return out
}

func pods(namespaces, pods *metav1.LabelSelector) []networkingv1.NetworkPolicyPeer {
	return []networkingv1.NetworkPolicyPeer{{NamespaceSelector: namespaces, PodSelector: pods}}
}

func app(value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": value}}
}

var all = &metav1.LabelSelector{}

// widens judges a policy with one ingress rule, and the same as an egress rule: the two must be seen alike.
func widens(t *testing.T, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) string {
	t.Helper()
	message := func(spec networkingv1.NetworkPolicySpec) string {
		got := checks.Widening([]*networkingv1.NetworkPolicy{{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}, Spec: spec}})
		if len(got) == 0 {
			return ""
		}
		return got[0].Message
	}
	in := message(networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}}})
	out := message(networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{{To: peers, Ports: ports}}})
	const from, to = "allows ingress from ", "allows egress to "
	switch {
	case in == "" && out == "":
		return ""
	case len(in) <= len(from) || len(out) <= len(to) || in[:len(from)] != from || out[:len(to)] != to || in[len(from):] != out[len(to):]:
		t.Fatalf("ingress and egress are seen differently: %q, %q", in, out)
	}
	return in[len(from):]
}

func TestWideningPeers(t *testing.T) {
	cases := map[string]struct {
		peers []networkingv1.NetworkPolicyPeer
		want  string
	}{
		"no peers means everybody":                             {want: "everybody"},
		"an empty list of peers means everybody":               {peers: []networkingv1.NetworkPolicyPeer{}, want: "everybody"},
		"every namespace":                                      {peers: pods(all, nil), want: "every pod of the cluster"},
		"every pod of every namespace":                         {peers: pods(all, all), want: "every pod of the cluster"},
		"every namespace beside a narrow peer":                 {peers: append(blocks("192.0.2.7/32"), pods(all, nil)...), want: "every pod of the cluster"},
		"selected pods of every namespace":                     {peers: pods(all, app("mesh"))},
		"every pod of selected namespaces":                     {peers: pods(app("data"), all)},
		"every pod of its own namespace":                       {peers: pods(nil, all)},
		"selected pods of its own namespace":                   {peers: pods(nil, app("shop"))},
		"all of IPv4":                                          {peers: blocks("0.0.0.0/0"), want: "every address"},
		"all of IPv6":                                          {peers: blocks("::/0"), want: "every address"},
		"all of IPv4 written with host bits":                   {peers: blocks("10.0.0.0/0"), want: "every address"},
		"all of IPv4 behind a narrow range":                    {peers: blocks("192.0.2.0/24", "0.0.0.0/0"), want: "every address"},
		"both halves of IPv4":                                  {peers: blocks("0.0.0.0/1", "128.0.0.0/1"), want: "every address"},
		"both halves of IPv6 in the other order":               {peers: blocks("8000::/1", "::/1"), want: "every address"},
		"one half of IPv4":                                     {peers: blocks("0.0.0.0/1")},
		"the lower half twice":                                 {peers: blocks("0.0.0.0/1", "0.0.0.0/1")},
		"a half of each family":                                {peers: blocks("0.0.0.0/1", "8000::/1")},
		"private networks":                                     {peers: blocks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")},
		"a CIDR that cannot be read":                           {peers: blocks("any")},
		"exceptions do not hide that the rest is everybody":    {peers: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"192.0.2.0/24"}}}}, want: "every address"},
		"a selector of expressions alone is not an empty one":  {peers: pods(&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpExists}}}, nil)},
		"a pod selector of expressions narrows all namespaces": {peers: pods(all, &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "team", Operator: metav1.LabelSelectorOpExists}}})},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := widens(t, tc.peers, nil); got != tc.want {
				t.Errorf("lets through %q, want %q", got, tc.want)
			}
		})
	}
}

func TestWideningPorts(t *testing.T) {
	port := func(first int32, last ...int32) networkingv1.NetworkPolicyPort {
		p := networkingv1.NetworkPolicyPort{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(first))}
		for _, l := range last {
			p.EndPort = new(l)
		}
		return p
	}
	list := func(p ...networkingv1.NetworkPolicyPort) []networkingv1.NetworkPolicyPort { return p }
	cases := map[string]struct {
		ports []networkingv1.NetworkPolicyPort
		want  bool
	}{
		"no ports means all":                {want: true},
		"an empty list of ports means all":  {ports: list(), want: true},
		"every port of one protocol":        {ports: list(networkingv1.NetworkPolicyPort{Protocol: new(corev1.ProtocolUDP)}), want: true},
		"every port of an unset protocol":   {ports: list(networkingv1.NetworkPolicyPort{}), want: true},
		"ports 1 to 65535":                  {ports: list(port(1, 65535)), want: true},
		"ports 1 to 65535 behind one port":  {ports: list(port(443), port(1, 65535)), want: true},
		"one port":                          {ports: list(port(443))},
		"port 1 alone":                      {ports: list(port(1))},
		"ports 2 to 65535":                  {ports: list(port(2, 65535))},
		"ports 1 to 65534":                  {ports: list(port(1, 65534))},
		"the high ports":                    {ports: list(port(1024, 65535))},
		"a named port":                      {ports: list(networkingv1.NetworkPolicyPort{Port: new(intstr.FromString("https"))})},
		"a name never stands for all ports": {ports: list(networkingv1.NetworkPolicyPort{Port: new(intstr.FromString("https")), EndPort: new(int32(65535))})},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := widens(t, blocks("0.0.0.0/0"), tc.ports) != ""; got != tc.want {
				t.Errorf("widens: %v, want %v", got, tc.want)
			}
		})
	}
}

func TestWideningNamesPolicyAndDirections(t *testing.T) {
	in, out := pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress
	named := func(name string, spec networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}
	}
	got := checks.Widening([]*networkingv1.NetworkPolicy{
		named("deny", networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}}),
		named("both", networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: pods(nil, app("shop"))}, {}, {}},
			Egress:  []networkingv1.NetworkPolicyEgressRule{{To: pods(all, nil)}},
		}),
		named("tenant", networkingv1.NetworkPolicySpec{
			Ingress: []networkingv1.NetworkPolicyIngressRule{{From: pods(nil, app("shop"))}},
			Egress:  []networkingv1.NetworkPolicyEgressRule{{To: blocks("192.0.2.0/24")}},
		}),
		named("out", networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{{}}}),
	})
	want := []pcinetv1alpha1.WideningPolicy{
		{Name: "both", Directions: []pcinetv1alpha1.Direction{in, out}, Message: "allows ingress from everybody and allows egress to every pod of the cluster"},
		{Name: "out", Directions: []pcinetv1alpha1.Direction{out}, Message: "allows egress to everybody"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("widening (-want +got):\n%s", diff)
	}
}

// Up to 1.35 the API server takes spellings with leading zeros (StrictIPCIDRValidation is on from 1.36), keeps those that
// are stored already, and engines read them.
func TestWideningReadsRangesAsTheAPIServerDoes(t *testing.T) {
	for _, cidr := range []string{"0.0.0.0/00", "000.0.0.0/0", "::/000"} {
		if _, _, err := netutils.ParseCIDRSloppy(cidr); err != nil {
			t.Fatalf("the API server refuses %s: %v", cidr, err)
		}
		if got, want := widens(t, blocks(cidr), nil), "every address"; got != want {
			t.Errorf("%s lets through %q, want %q", cidr, got, want)
		}
	}
}

// FuzzWideningOneBlock: of single ranges exactly those of length 0 are everybody, as the API server's parser reads them.
func FuzzWideningOneBlock(f *testing.F) {
	for _, seed := range []string{"0.0.0.0/0", "::/0", "10.0.0.0/0", "128.0.0.0/1", "8000::/1", "0.0.0.0/2", "", "/0", "x/0", "::ffff:0:0/96", "0.0.0.0/00", "::ffff:1.2.3.4/1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cidr string) {
		_, network, err := netutils.ParseCIDRSloppy(cidr)
		want := false
		if err == nil {
			ones, _ := network.Mask.Size()
			want = ones == 0
		}
		if got := widens(t, blocks(cidr), nil) != ""; got != want {
			t.Errorf("%q widens: %v, want %v", cidr, got, want)
		}
	})
}
