// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/facts"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

var (
	kubeDNSSelector = map[string]string{"k8s-app": "kube-dns"}
	dnsPorts        = []corev1.ServicePort{servicePort("dns", "UDP", 53, "dns"), servicePort("dns-tcp", "TCP", 53, "dns-tcp"), servicePort("metrics", "TCP", 9153, "metrics")}
	numericPorts    = []corev1.ServicePort{servicePort("dns", "UDP", 53, 53), servicePort("dns-tcp", "TCP", 53, 53), servicePort("metrics", "TCP", 9153, 9153)}
	endpointPorts   = []discoveryv1.EndpointPort{endpointPort("dns", "UDP", 53), endpointPort("dns-tcp", "TCP", 53), endpointPort("metrics", "TCP", 9153)}
	port53          = []snapshot.Port{{Protocol: "TCP", Port: 53}, {Protocol: "UDP", Port: 53}}
	kubeDNS         = snapshot.DNSServer{Namespace: "kube-system", Name: "kube-dns", Selector: kubeDNSSelector, Ports: port53}
)

type dnsCase struct {
	objects []client.Object
	want    snapshot.DNS
}

func runDNS(t *testing.T, cases map[string]dnsCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, takeDNS(t, tc.objects...), sameAddr); diff != "" {
				t.Errorf("DNS (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDNSOfDistributions(t *testing.T) {
	servers := func(s ...snapshot.DNSServer) snapshot.DNS { return snapshot.DNS{Servers: s} }
	runDNS(t, map[string]dnsCase{
		"kubeadm: kube-dns with named target ports": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...),
				slice("kube-system", "kube-dns", "s", endpointPorts, endpoint("coredns-1", "10.0.0.2"), endpoint("coredns-2", "10.0.0.3")),
			},
			want: servers(kubeDNS),
		},
		"a Service named coredns": {
			objects: []client.Object{
				service("kube-system", "coredns", map[string]string{"k8s-app": "coredns"}, dnsPorts...),
				slice("kube-system", "coredns", "s", endpointPorts, endpoint("coredns-1", "10.0.0.2")),
			},
			want: servers(snapshot.DNSServer{Namespace: "kube-system", Name: "coredns", Selector: map[string]string{"k8s-app": "coredns"}, Ports: port53}),
		},
		"RKE2: a long name with the usual label": {
			objects: []client.Object{
				labelled(service("kube-system", "rke2-coredns-rke2-coredns", kubeDNSSelector, dnsPorts...), "k8s-app", "kube-dns"),
				slice("kube-system", "rke2-coredns-rke2-coredns", "s", endpointPorts, endpoint("coredns-1", "10.0.0.2")),
			},
			want: servers(snapshot.DNSServer{Namespace: "kube-system", Name: "rke2-coredns-rke2-coredns", Selector: kubeDNSSelector, Ports: port53}),
		},
		"OpenShift: dns-default listens on 5353 in openshift-dns": {
			objects: []client.Object{
				service("openshift-dns", "dns-default", map[string]string{"dns.operator.openshift.io/daemonset-dns": "default"}, dnsPorts...),
				slice("openshift-dns", "dns-default", "s",
					[]discoveryv1.EndpointPort{endpointPort("dns", "UDP", 5353), endpointPort("dns-tcp", "TCP", 5353), endpointPort("metrics", "TCP", 9154)},
					endpoint("dns-1", "10.0.0.2")),
			},
			want: servers(snapshot.DNSServer{
				Namespace: "openshift-dns", Name: "dns-default", Selector: map[string]string{"dns.operator.openshift.io/daemonset-dns": "default"},
				Ports: []snapshot.Port{{Protocol: "TCP", Port: 5353}, {Protocol: "UDP", Port: 5353}},
			}),
		},
		"OpenShift: another name with its own label": {
			objects: []client.Object{
				labelled(service("openshift-dns", "dns-x", map[string]string{"dns": "x"}, numericPorts...), "dns.operator.openshift.io/owning-dns", "default"),
			},
			want: servers(snapshot.DNSServer{Namespace: "openshift-dns", Name: "dns-x", Selector: map[string]string{"dns": "x"}, Ports: port53}),
		},
		"several Services, sorted by namespace and name": {
			objects: []client.Object{
				service("openshift-dns", "dns-default", map[string]string{"dns": "x"}, numericPorts...),
				service("kube-system", "kube-dns", kubeDNSSelector, numericPorts...),
				service("kube-system", "coredns", kubeDNSSelector, numericPorts...),
			},
			want: servers(
				snapshot.DNSServer{Namespace: "kube-system", Name: "coredns", Selector: kubeDNSSelector, Ports: port53},
				kubeDNS,
				snapshot.DNSServer{Namespace: "openshift-dns", Name: "dns-default", Selector: map[string]string{"dns": "x"}, Ports: port53},
			),
		},
		"no DNS at all": {},
		"a Service of another name and label is no DNS": {
			objects: []client.Object{service("kube-system", "resolver", kubeDNSSelector, numericPorts...)},
		},
		"a Service of the name elsewhere is no DNS": {
			objects: []client.Object{service("shop", "kube-dns", kubeDNSSelector, numericPorts...)},
		},
		"a Service for metrics alone is no DNS": {
			objects: []client.Object{
				labelled(service("kube-system", "coredns-metrics", kubeDNSSelector, servicePort("metrics", "TCP", 9153, 9153)), "k8s-app", "kube-dns"),
			},
		},
	})
}

func TestDNSPorts(t *testing.T) {
	unresolved := snapshot.DNS{Unresolved: []string{"kube-system/kube-dns"}}
	runDNS(t, map[string]dnsCase{
		"no endpoints and named target ports: the port is not known": {
			objects: []client.Object{service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...)},
			want:    unresolved,
		},
		"an empty slice and named target ports: the port is not known": {
			objects: []client.Object{service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...), slice("kube-system", "kube-dns", "s", nil)},
			want:    unresolved,
		},
		"no endpoints and numeric target ports: those are the pods'": {
			objects: []client.Object{service("kube-system", "kube-dns", kubeDNSSelector,
				servicePort("dns", "UDP", 53, 5353), servicePort("metrics", "TCP", 9153, 9153))},
			want: snapshot.DNS{Servers: []snapshot.DNSServer{{
				Namespace: "kube-system", Name: "kube-dns", Selector: kubeDNSSelector, Ports: []snapshot.Port{{Protocol: "UDP", Port: 5353}},
			}}},
		},
		"endpoints beat numeric target ports": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, servicePort("dns", "UDP", 53, 53)),
				slice("kube-system", "kube-dns", "s", []discoveryv1.EndpointPort{endpointPort("dns", "UDP", 1053)}, endpoint("p", "10.0.0.2")),
			},
			want: snapshot.DNS{Servers: []snapshot.DNSServer{{
				Namespace: "kube-system", Name: "kube-dns", Selector: kubeDNSSelector, Ports: []snapshot.Port{{Protocol: "UDP", Port: 1053}},
			}}},
		},
		"a rollout with old and new ports allows both": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, servicePort("dns", "UDP", 53, "dns")),
				slice("kube-system", "kube-dns", "s1", []discoveryv1.EndpointPort{endpointPort("dns", "UDP", 1053)}, endpoint("p", "10.0.0.2")),
				slice("kube-system", "kube-dns", "s2", []discoveryv1.EndpointPort{endpointPort("dns", "UDP", 53)}, endpoint("q", "10.0.0.3")),
			},
			want: snapshot.DNS{Servers: []snapshot.DNSServer{{
				Namespace: "kube-system", Name: "kube-dns", Selector: kubeDNSSelector, Ports: []snapshot.Port{{Protocol: "UDP", Port: 53}, {Protocol: "UDP", Port: 1053}},
			}}},
		},
		"the slices of another Service do not count": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...),
				slice("kube-system", "other", "s", endpointPorts, endpoint("p", "10.0.0.2")),
			},
			want: unresolved,
		},
		"a port of the same name and another protocol does not count": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, servicePort("dns", "UDP", 53, "dns")),
				slice("kube-system", "kube-dns", "s", []discoveryv1.EndpointPort{endpointPort("dns", "TCP", 53)}, endpoint("p", "10.0.0.2")),
			},
			want: unresolved,
		},
		"a port without a number or protocol does not count": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, servicePort("dns", "UDP", 53, "dns")),
				slice("kube-system", "kube-dns", "s", []discoveryv1.EndpointPort{
					{Name: new("dns"), Protocol: new(corev1.ProtocolUDP)}, {Name: new("dns"), Port: new(int32(53))},
				}, endpoint("p", "10.0.0.2")),
			},
			want: unresolved,
		},
	})
}

func TestDNSAddresses(t *testing.T) {
	withAddresses := func(selector map[string]string, addresses ...string) snapshot.DNS {
		return snapshot.DNS{Servers: []snapshot.DNSServer{{
			Namespace: "kube-system", Name: "kube-dns", Selector: selector, Addresses: addrs(addresses...), Ports: port53,
		}}}
	}
	runDNS(t, map[string]dnsCase{
		"pods are reached by label, not by address": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...), pod("kube-system", "coredns-1", false),
				slice("kube-system", "kube-dns", "s", endpointPorts, endpoint("coredns-1", "10.0.0.2")),
			},
			want: withAddresses(kubeDNSSelector),
		},
		"host-network pods are reached by address, sorted and once": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...),
				pod("kube-system", "coredns-1", true), pod("kube-system", "coredns-2", true), pod("kube-system", "coredns-3", false),
				slice("kube-system", "kube-dns", "s4", endpointPorts, endpoint("coredns-2", "192.0.2.9"), endpoint("coredns-1", "192.0.2.7"), endpoint("coredns-3", "10.0.0.2")),
				slice("kube-system", "kube-dns", "s5", endpointPorts, endpoint("coredns-1", "192.0.2.7")),
				slice("kube-system", "kube-dns", "s6", endpointPorts, endpoint("coredns-1", "2001:db8::7")),
			},
			want: withAddresses(kubeDNSSelector, "192.0.2.7", "192.0.2.9", "2001:db8::7"),
		},
		"a host-network pod of the name elsewhere does not count": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...), pod("openshift-dns", "coredns-1", true),
				slice("kube-system", "kube-dns", "s", endpointPorts, endpoint("coredns-1", "10.0.0.2")),
			},
			want: withAddresses(kubeDNSSelector),
		},
		"an endpoint behind which no pod stands does not count when pods are selected": {
			objects: []client.Object{
				service("kube-system", "kube-dns", kubeDNSSelector, dnsPorts...),
				slice("kube-system", "kube-dns", "s", endpointPorts, endpoint("", "198.51.100.1")),
			},
			want: withAddresses(kubeDNSSelector),
		},
		"a Service without a selector is its addresses": {
			objects: []client.Object{
				service("kube-system", "kube-dns", nil, dnsPorts...),
				slice("kube-system", "kube-dns", "s", endpointPorts, endpoint("", "198.51.100.1", "not an address"), endpoint("", "2001:db8::1")),
			},
			want: withAddresses(nil, "198.51.100.1", "2001:db8::1"),
		},
		"a Service without a selector and addresses is not resolved": {
			objects: []client.Object{
				service("kube-system", "kube-dns", nil, numericPorts...),
				slice("kube-system", "kube-dns", "s", endpointPorts),
			},
			want: snapshot.DNS{Unresolved: []string{"kube-system/kube-dns"}},
		},
	})
}

func TestNodeLocal(t *testing.T) {
	both := addrs("10.96.0.10", "169.254.20.10")
	elsewhere := nodeLocal("-localip", "169.254.20.10")
	elsewhere.Namespace = "shop"
	unlabelled := nodeLocal("-localip", "169.254.20.10")
	unlabelled.Labels = nil
	inCommand := nodeLocal()
	inCommand.Spec.Containers[0].Command = []string{"/node-cache", "-localip=169.254.20.10"}
	split := nodeLocal("169.254.20.10")
	split.Spec.Containers[0].Command = []string{"/node-cache", "-localip"}
	sidecar := nodeLocal("-localip", "169.254.20.10")
	sidecar.Spec.Containers = append([]corev1.Container{{Name: "log", Args: []string{"-v"}}}, sidecar.Spec.Containers...)
	cases := map[string]struct {
		pod  *corev1.Pod
		want []netip.Addr
	}{
		"-localip and its value apart":        {nodeLocal("-localip", "169.254.20.10,10.96.0.10", "-conf", "/etc/Corefile"), both},
		"-localip=value":                      {nodeLocal("-localip=169.254.20.10,10.96.0.10"), both},
		"--localip=value":                     {nodeLocal("--localip=169.254.20.10,10.96.0.10"), both},
		"--localip and its value apart":       {nodeLocal("--localip", "169.254.20.10,10.96.0.10"), both},
		"in the command":                      {inCommand, addrs("169.254.20.10")},
		"begun in the command, ended in args": {split, addrs("169.254.20.10")},
		"in the second container":             {sidecar, addrs("169.254.20.10")},
		"blanks and duplicates":               {nodeLocal("-localip", " 169.254.20.10, 169.254.20.10 ,"), addrs("169.254.20.10")},
		"IPv6":                                {nodeLocal("-localip", "fd00::a,169.254.20.10"), addrs("169.254.20.10", "fd00::a")},
		"a value that is no address":          {nodeLocal("-localip", "__PILLAR__LOCAL__DNS__,10.96.0.10"), addrs("10.96.0.10")},
		"an argument without a value":         {nodeLocal("-localip"), nil},
		"another argument":                    {nodeLocal("-metrics-listen-address", "169.254.20.10", "-localips=10.0.0.1"), nil},
		"a value that reads like the flag":    {nodeLocal("localip=10.0.0.1", "localip", "10.0.0.2"), nil},
		"a pod without the label":             {unlabelled, nil},
		"a pod in a tenant's namespace":       {elsewhere, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, takeDNS(t, tc.pod).NodeLocal, sameAddr); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
		})
	}
}

// What a node-local cache is started with may hold anything: every address found must have been written there as an item
// of its own, and the list must be sorted without duplicates.
func FuzzLocalAddresses(f *testing.F) {
	f.Add("-localip", "169.254.20.10,10.96.0.10")
	f.Add("-localip=169.254.20.10", "-conf")
	f.Add("--localip=fe80::1%eth0", "")
	f.Add("-localip=", "10.0.0.1")
	f.Add("-localip", "-localip=1.2.3.4")
	f.Add("localip", "1.2.3.4")
	f.Add("----localip", "::ffff:1.2.3.4,01.2.3.4")
	f.Add("-localip=0.0.0.0/0", "::/0,*")
	f.Fuzz(func(t *testing.T, first, second string) {
		onePod := readerFunc(func(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
			pods, ok := list.(*corev1.PodList)
			if ok && (&client.ListOptions{}).ApplyOptions(opts).Namespace == "kube-system" {
				pods.Items = []corev1.Pod{*nodeLocal(first, second)}
			}
			return nil
		})
		c, err := facts.Cluster(t.Context(), onePod, ownNamespace)
		if err != nil {
			t.Fatal(err)
		}
		written := map[string]bool{}
		for _, item := range strings.FieldsFunc(first+","+second, func(r rune) bool { return r == ',' || r == '=' }) {
			written[strings.TrimSpace(item)] = true
		}
		canonical := map[netip.Addr]bool{}
		for item := range written {
			if a, err := netip.ParseAddr(item); err == nil {
				canonical[a] = true
			}
		}
		got := c.DNS.NodeLocal
		for _, a := range got {
			if !canonical[a] {
				t.Errorf("%s was not written in %q %q", a, first, second)
			}
		}
		if !slices.IsSortedFunc(got, netip.Addr.Compare) || len(slices.Compact(slices.Clone(got))) != len(got) {
			t.Errorf("%v is not sorted or holds duplicates", got)
		}
		if len(got) > 0 && !strings.Contains(first+second, "localip") {
			t.Errorf("%v came from %q %q, which has no -localip", got, first, second)
		}
	})
}
