// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package calico_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	calicov3 "github.com/projectcalico/api/pkg/apis/projectcalico/v3"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/test/felix"
)

// stored is a rendered policy as the API server has it.
func stored(t *testing.T, f policy.HostFirewall) map[string]any {
	t.Helper()
	text, err := json.Marshal(render.HostFirewall(calico.Hosts{}, f)[1])
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, string(text))
}

func decoded(t *testing.T, text string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// What is written is read again, whatever it says.
func TestHostsRead(t *testing.T) {
	v4, v6, loopback := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("127.0.0.0/8")
	for name, f := range map[string]policy.HostFirewall{
		"all nodes":          {Ports: []int32{6443, 10250}, Allowed: []netip.Prefix{v4, v6}},
		"the trial's":        {Nodes: policy.TrialNodes(), Ports: []int32{6443}, Allowed: []netip.Prefix{v4}},
		"IPv6 alone":         {Ports: []int32{6443}, Allowed: []netip.Prefix{v6}},
		"loopback is listed": {Ports: []int32{6443}, Allowed: []netip.Prefix{v4, loopback}},
	} {
		got, ok := calico.Hosts{}.Read(stored(t, f))
		if !ok || !reflect.DeepEqual(got, f) {
			t.Errorf("%s: %v %+v, want %+v", name, ok, got, f)
		}
	}
}

// An object that says anything else is none that was written.
func TestHostsReadRefuses(t *testing.T) {
	data, err := json.Marshal(stored(t, policy.HostFirewall{Ports: []int32{6443}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"an order":                  {`"tier"`, `"order":1,"tier"`},
		"a field that nobody knows": {`"tier"`, `"x":1,"tier"`},
		"another tier":              {`"tier":"pcinb-hosts"`, `"tier":"default"`},
		"egress too":                {`["Ingress"]`, `["Ingress","Egress"]`},
		"some nodes":                {`"!has(projectcalico.org/orchestrator)`, `"a == 'b' && !has(projectcalico.org/orchestrator)`},
		"an allowance":              {`"Deny"`, `"Allow"`},
		"nothing passes":            {`"Pass"`, `"Deny"`},
		"another protocol":          {`"TCP"`, `"UDP"`},
		"a range of ports":          {`[6443]`, `["6443:7000"]`},
		"without loopback":          {`"127.0.0.0/8",`, ``},
		"no range":                  {`"10.0.0.0/8"`, `"10"`},
		"from some alone":           {`"notNets"`, `"nets"`},
		"no rules":                  {`"ingress"`, `"egress"`},
	} {
		text := strings.Replace(string(data), change[0], change[1], 1)
		if text == string(data) {
			t.Fatalf("%s changes nothing in %s", name, data)
		}
		if got, ok := (calico.Hosts{}).Read(decoded(t, text)); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, ok := (calico.Hosts{}).Read(map[string]any{}); ok {
		t.Error("nothing at all")
	}
}

// hostPolicy returns the policy of a firewall on nodes, as Felix reads it.
func hostPolicy(t *testing.T, f policy.HostFirewall) *felix.Policy {
	t.Helper()
	objects := render.HostFirewall(calico.Hosts{}, f)
	if len(objects) != 2 {
		t.Fatalf("%d objects", len(objects))
	}
	text, err := json.Marshal(objects[1])
	if err != nil {
		t.Fatal(err)
	}
	p, err := felix.Decode(text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return p
}

// On host endpoints, the ports are closed to whoever is not on the list, and everything else is left to other tiers.
func TestHostsCloseTheirPortsAlone(t *testing.T) {
	p := hostPolicy(t, policy.HostFirewall{Baseline: "b", Ports: []int32{6443, 10250}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}})
	host := felix.Labels{"projectcalico.org/created-by": "calico-kube-controllers", "kubernetes.io/hostname": "n1"}
	cases := map[string]struct {
		from, protocol string
		port           int
		endpoint       felix.Labels
		want           string
	}{
		"an allowed address":                     {from: "10.1.2.3", port: 6443, want: "Pass"},
		"another address":                        {from: "10.2.0.1", port: 6443, want: "Deny"},
		"another address, the other port":        {from: "10.2.0.1", port: 10250, want: "Deny"},
		"IPv6, of which the list has nothing":    {from: "2001:db8::1", port: 6443, want: "Deny"},
		"the node itself, by loopback":           {from: "127.0.0.1", port: 6443, want: "Pass"},
		"the node itself, by loopback of IPv6":   {from: "::1", port: 6443, want: "Pass"},
		"another port":                           {from: "10.2.0.1", port: 22, want: "Pass"},
		"another port of IPv6":                   {from: "2001:db8::1", port: 22, want: "Pass"},
		"the same port of UDP":                   {from: "10.2.0.1", protocol: "UDP", port: 6443, want: "Pass"},
		"a pod with the port":                    {from: "10.2.0.1", port: 6443, endpoint: felix.Pod("shop", nil, nil), want: ""},
		"an endpoint of another orchestrator":    {from: "10.2.0.1", port: 6443, endpoint: felix.Labels{"projectcalico.org/orchestrator": "openstack"}, want: ""},
		"a host endpoint that somebody has made": {from: "10.2.0.1", port: 6443, endpoint: felix.Labels{"mine": "x"}, want: "Deny"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			packet := felix.Packet{Ingress: true, Endpoint: host, Remote: netip.MustParseAddr(tc.from), Protocol: "TCP", Port: tc.port}
			if tc.protocol != "" {
				packet.Protocol = tc.protocol
			}
			if tc.endpoint != nil {
				packet.Endpoint = tc.endpoint
			}
			if got := felix.Verdict([]*felix.Policy{p}, packet); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}

// What a process on a node sends, and what a node forwards, is nobody's here.
func TestHostsLeaveEgressAndForwardedTrafficAlone(t *testing.T) {
	f := policy.HostFirewall{Baseline: "b", Ports: []int32{6443}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	packet := felix.Packet{Endpoint: felix.Labels{}, Remote: netip.MustParseAddr("192.0.2.1"), Protocol: "TCP", Port: 6443}
	if got := felix.Verdict([]*felix.Policy{hostPolicy(t, f)}, packet); got != "" {
		t.Errorf("egress: %q", got)
	}
	objects := render.HostFirewall(calico.Hosts{}, f)
	spec := objects[1].(*calicov3.GlobalNetworkPolicy).Spec //nolint:forcetypeassert // the golden files show it
	if spec.ApplyOnForward || spec.PreDNAT || spec.DoNotTrack {
		t.Errorf("%+v is for more than the node's own processes", spec)
	}
}

func TestHostsAreForThoseSelected(t *testing.T) {
	f := policy.HostFirewall{Baseline: "b", Ports: []int32{6443}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}}
	f.Nodes.MatchLabels = map[string]string{"kubernetes.io/hostname": "n1"}
	p := hostPolicy(t, f)
	for name, want := range map[string]bool{"n1": true, "n2": false} {
		if got := p.Selects(felix.Labels{"kubernetes.io/hostname": name}); got != want {
			t.Errorf("it selects %s: %v, want %v", name, got, want)
		}
	}
}

// A policy for other nodes is made anew, and one for the same is not, whatever else it says.
func TestHostsAnew(t *testing.T) {
	f := policy.HostFirewall{Baseline: "b", Ports: []int32{6443}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	onTrial, other := f, f
	onTrial.Nodes, other.Ports = policy.TrialNodes(), []int32{10250}
	for name, tc := range map[string]struct {
		live policy.HostFirewall
		want bool
	}{"the same": {f, false}, "other ports": {other, false}, "other nodes": {onTrial, true}} {
		if got := (calico.Hosts{}).Anew(map[string]any{"spec": stored(t, tc.live)["spec"]}, render.HostFirewall(calico.Hosts{}, f)[1]); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if !(calico.Hosts{}).Anew(map[string]any{}, render.HostFirewall(calico.Hosts{}, f)[1]) {
		t.Error("one that has no selector is updated")
	}
}
