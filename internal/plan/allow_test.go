// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const denyBoth = "default-deny [Ingress Egress] for all"

var (
	port53 = []snapshot.Port{{Protocol: "TCP", Port: 53}, {Protocol: "UDP", Port: 53}}

	kubeDNS = snapshot.DNSServer{
		Namespace: "kube-system", Name: "kube-dns",
		Selector: map[string]string{"k8s-app": "kube-dns"}, Ports: port53,
	}
	kubeDNSLine = "  Egress: pods {k8s-app=kube-dns} in {kubernetes.io/metadata.name=kube-system}: TCP 53, UDP 53"
)

// One whole set, field by field; the other tables look at its text.
func TestSet(t *testing.T) {
	b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
		s.Allow.Rules = []pcinetv1alpha1.AllowRule{{
			Name: "db", Justification: "Orders are stored there.", Direction: pcinetv1alpha1.DirectionEgress,
			Subject: &pcinetv1alpha1.Subject{PodSelector: matchLabels("app=shop")},
			Peers:   []pcinetv1alpha1.Peer{{PodSelector: matchLabels("app=db")}},
			Ports:   []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 5432}},
		}}
	})
	want := policy.Set{
		Baseline: "cardholder-data", Namespace: "shop",
		Deny: policy.Policy{
			Name: "default-deny", Role: policy.Deny,
			Directions: []policy.Direction{policy.Ingress, policy.Egress},
		},
		Allowances: []policy.Policy{{
			Name: "allow-db", Role: policy.Allowance, Justification: "Orders are stored there.",
			Pods: metav1.LabelSelector{MatchLabels: map[string]string{"app": "shop"}},
			Rules: []policy.Rule{{
				Direction: policy.Egress,
				Peers:     []policy.Peer{{Pods: &policy.PodPeer{Pods: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}}}},
				Ports:     []policy.Port{{Protocol: policy.TCP, First: 5432, Last: 5432}},
			}},
		}},
	}
	got := decide(t, b, namespace("shop"), snapshot.Cluster{})
	if diff := cmp.Diff(plan.Decision{Verdict: plan.InScope, Set: want}, got, comparable...); diff != "" {
		t.Errorf("decision (-want +got):\n%s", diff)
	}
}

func TestDirections(t *testing.T) {
	in, out := pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress
	apiServer := "allow-kube-apiserver-ci for {app=ci}"
	apiServerRule := "  Egress: 10.0.0.10/32: TCP 6443"
	cases := map[string]struct {
		directions []pcinetv1alpha1.Direction
		want       []string
	}{
		"both directions are denied and egress has its holes": {
			directions: []pcinetv1alpha1.Direction{in, out},
			want:       []string{denyBoth, "allow-dns for all", kubeDNSLine, apiServer, apiServerRule},
		},
		"the order of the directions does not matter": {
			directions: []pcinetv1alpha1.Direction{out, in},
			want:       []string{denyBoth, "allow-dns for all", kubeDNSLine, apiServer, apiServerRule},
		},
		"egress alone leaves ingress open": {
			directions: []pcinetv1alpha1.Direction{out},
			want:       []string{"default-deny [Egress] for all", "allow-dns for all", kubeDNSLine, apiServer, apiServerRule},
		},
		"ingress alone needs no holes for egress": {
			directions: []pcinetv1alpha1.Direction{in},
			want:       []string{"default-deny [Ingress] for all"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Directions = tc.directions
				s.Allow.DNS = pcinetv1alpha1.DNSAllowanceClusterDNS
				s.Allow.KubeAPIServer = []pcinetv1alpha1.KubeAPIServerAllowance{{Name: "ci", PodSelector: matchLabels("app=ci")}}
			})
			got := decide(t, b, namespace("shop"), snapshot.Cluster{
				DNS:       snapshot.DNS{Servers: []snapshot.DNSServer{kubeDNS}},
				APIServer: []snapshot.Endpoint{{Address: addrs("10.0.0.10")[0], Port: 6443}},
			})
			if diff := cmp.Diff(tc.want, lines(got.Set)); diff != "" {
				t.Errorf("set (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDNS(t *testing.T) {
	cases := map[string]struct {
		mode pcinetv1alpha1.DNSAllowance
		dns  snapshot.DNS
		want []string
		// wantMessage must be part of the omission's message.
		wantMessage string
	}{
		"kube-dns is reached by its labels in its namespace": {
			dns:  snapshot.DNS{Servers: []snapshot.DNSServer{kubeDNS}},
			want: []string{"allow-dns for all", kubeDNSLine},
		},
		"an unset dns means ClusterDNS": {
			mode: "", dns: snapshot.DNS{Servers: []snapshot.DNSServer{kubeDNS}},
			want: []string{"allow-dns for all", kubeDNSLine},
		},
		"None allows none and omits nothing": {mode: pcinetv1alpha1.DNSAllowanceNone, dns: snapshot.DNS{Servers: []snapshot.DNSServer{kubeDNS}}},
		"each of several Services has its own ports": {
			dns: snapshot.DNS{Servers: []snapshot.DNSServer{kubeDNS, {
				Namespace: "openshift-dns", Name: "dns-default",
				Selector: map[string]string{"dns.operator.openshift.io/daemonset-dns": "default"},
				Ports:    []snapshot.Port{{Protocol: "UDP", Port: 5353}},
			}}},
			want: []string{
				"allow-dns for all", kubeDNSLine,
				"  Egress: pods {dns.operator.openshift.io/daemonset-dns=default} in {kubernetes.io/metadata.name=openshift-dns}: UDP 5353",
			},
		},
		"NodeLocal caches listen on port 53 of their addresses in both families": {
			dns: snapshot.DNS{Servers: []snapshot.DNSServer{kubeDNS}, NodeLocal: addrs("169.254.20.10", "fd00::a")},
			want: []string{
				"allow-dns for all", kubeDNSLine,
				"  Egress: 169.254.20.10/32, fd00::a/128: TCP 53, UDP 53",
			},
		},
		"NodeLocal alone is enough": {
			dns:  snapshot.DNS{NodeLocal: addrs("169.254.20.10")},
			want: []string{"allow-dns for all", "  Egress: 169.254.20.10/32: TCP 53, UDP 53"},
		},
		"host-network servers are reached by address beside those in pods": {
			dns: snapshot.DNS{Servers: []snapshot.DNSServer{{
				Namespace: "kube-system", Name: "kube-dns", Selector: map[string]string{"k8s-app": "kube-dns"},
				Addresses: addrs("192.0.2.7", "2001:db8::7"), Ports: port53,
			}}},
			want: []string{
				"allow-dns for all",
				"  Egress: 192.0.2.7/32, 2001:db8::7/128, pods {k8s-app=kube-dns} in {kubernetes.io/metadata.name=kube-system}: TCP 53, UDP 53",
			},
		},
		"a Service without a selector is reached by address alone": {
			dns: snapshot.DNS{Servers: []snapshot.DNSServer{{
				Namespace: "kube-system", Name: "kube-dns", Addresses: addrs("192.0.2.7"), Ports: port53,
			}}},
			want: []string{"allow-dns for all", "  Egress: 192.0.2.7/32: TCP 53, UDP 53"},
		},
		"a server without ports and one without peers add no rule": {
			dns: snapshot.DNS{Servers: []snapshot.DNSServer{
				{Namespace: "kube-system", Name: "coredns", Selector: map[string]string{"k8s-app": "coredns"}},
				{Namespace: "kube-system", Name: "dns-default", Ports: port53},
				kubeDNS,
			}},
			want: []string{"allow-dns for all", kubeDNSLine},
		},
		"no DNS is an omission, not an empty rule": {
			want: []string{"omitted allow-dns: DNSNotFound"}, wantMessage: "set spec.allow.dns to None",
		},
		"a server that resolves to nothing is an omission, not an empty rule": {
			dns:  snapshot.DNS{Servers: []snapshot.DNSServer{{Namespace: "kube-system", Name: "kube-dns"}}},
			want: []string{"omitted allow-dns: DNSNotFound"}, wantMessage: "set spec.allow.dns to None",
		},
		"an unresolved Service is named": {
			dns:  snapshot.DNS{Unresolved: []string{"kube-system/kube-dns"}},
			want: []string{"omitted allow-dns: DNSNotFound"}, wantMessage: "kube-system/kube-dns has no endpoints",
		},
		"an unresolved Service beside one that works is no omission": {
			dns:  snapshot.DNS{Servers: []snapshot.DNSServer{kubeDNS}, Unresolved: []string{"kube-system/coredns"}},
			want: []string{"allow-dns for all", kubeDNSLine},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Allow.DNS = tc.mode })
			got := decide(t, b, namespace("shop"), snapshot.Cluster{DNS: tc.dns}).Set
			if diff := cmp.Diff(append([]string{denyBoth}, tc.want...), lines(got)); diff != "" {
				t.Errorf("set (-want +got):\n%s", diff)
			}
			wantOmission(t, got.Omitted, tc.wantMessage)
		})
	}
}

// wantOmission checks that there is exactly one omission and that its message holds the text; none when it is "".
func wantOmission(t *testing.T, got []policy.Omission, text string) {
	t.Helper()
	switch {
	case text == "" && len(got) > 0:
		t.Errorf("omitted %v, want nothing", got)
	case text != "" && (len(got) != 1 || !strings.Contains(got[0].Message, text)):
		t.Errorf("omitted %v, want one whose message holds %q", got, text)
	}
}

func TestKubeAPIServer(t *testing.T) {
	one := []snapshot.Endpoint{{Address: addrs("10.0.0.10")[0], Port: 6443}}
	allow := func(name pcinetv1alpha1.AllowanceName, namespaces, pods *pcinetv1alpha1.LabelSelector) pcinetv1alpha1.KubeAPIServerAllowance {
		return pcinetv1alpha1.KubeAPIServerAllowance{Name: name, NamespaceSelector: namespaces, PodSelector: pods}
	}
	cases := map[string]struct {
		allow       []pcinetv1alpha1.KubeAPIServerAllowance
		ns          snapshot.Namespace
		endpoints   []snapshot.Endpoint
		want        []string
		wantMessage string
	}{
		"nothing declared allows nothing": {endpoints: one},
		"the selected pods reach the endpoint": {
			allow: []pcinetv1alpha1.KubeAPIServerAllowance{allow("ci", nil, matchLabels("app=ci"))}, endpoints: one,
			want: []string{"allow-kube-apiserver-ci for {app=ci}", "  Egress: 10.0.0.10/32: TCP 6443"},
		},
		"an empty pod selector means every pod": {
			allow: []pcinetv1alpha1.KubeAPIServerAllowance{allow("all", nil, matchLabels())}, endpoints: one,
			want: []string{"allow-kube-apiserver-all for all", "  Egress: 10.0.0.10/32: TCP 6443"},
		},
		"a missing pod selector never means every pod": {
			allow: []pcinetv1alpha1.KubeAPIServerAllowance{allow("ci", nil, nil)}, endpoints: one,
			want: []string{"omitted allow-kube-apiserver-ci: InvalidSpec"}, wantMessage: "spec.allow.kubeAPIServer ci has no podSelector",
		},
		"each endpoint keeps its own port": {
			allow: []pcinetv1alpha1.KubeAPIServerAllowance{allow("ci", nil, matchLabels("app=ci"))},
			endpoints: []snapshot.Endpoint{
				{Address: addrs("10.0.0.10")[0], Port: 6443},
				{Address: addrs("10.0.0.11")[0], Port: 8443},
				{Address: addrs("2001:db8::10")[0], Port: 6443},
			},
			want: []string{
				"allow-kube-apiserver-ci for {app=ci}",
				"  Egress: 10.0.0.10/32: TCP 6443", "  Egress: 10.0.0.11/32: TCP 8443", "  Egress: 2001:db8::10/128: TCP 6443",
			},
		},
		"an entry for other namespaces is left out": {
			allow: []pcinetv1alpha1.KubeAPIServerAllowance{
				allow("ci", matchLabels("team=ci"), matchLabels("app=runner")),
				allow("shop", matchLabels("team=shop"), matchLabels("app=leader")),
			},
			ns: namespace("shop", "team=shop"), endpoints: one,
			want: []string{"allow-kube-apiserver-shop for {app=leader}", "  Egress: 10.0.0.10/32: TCP 6443"},
		},
		"no endpoint is an omission, not an empty rule": {
			allow: []pcinetv1alpha1.KubeAPIServerAllowance{allow("ci", nil, matchLabels("app=ci"))},
			want:  []string{"omitted allow-kube-apiserver-ci: APIServerNotFound"}, wantMessage: "default/kubernetes hold no address",
		},
		"an entry for other namespaces is not reported as omitted": {
			allow: []pcinetv1alpha1.KubeAPIServerAllowance{allow("ci", matchLabels("team=ci"), matchLabels("app=runner"))},
			ns:    namespace("shop", "team=shop"),
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Allow.KubeAPIServer = tc.allow })
			got := decide(t, b, tc.ns, snapshot.Cluster{APIServer: tc.endpoints}).Set
			if diff := cmp.Diff(append([]string{denyBoth}, tc.want...), lines(got)); diff != "" {
				t.Errorf("set (-want +got):\n%s", diff)
			}
			wantOmission(t, got.Omitted, tc.wantMessage)
		})
	}
}

var comparable = []cmp.Option{cmpopts.EquateEmpty(), cmp.Comparer(samePrefix)}
