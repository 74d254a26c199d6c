// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cilium_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
)

// stored is a rendered object as the API server has it.
func stored(t *testing.T, f policy.HostFirewall) map[string]any {
	t.Helper()
	data, err := json.Marshal(render.HostFirewall(cilium.Hosts{}, f)[0])
	if err != nil {
		t.Fatal(err)
	}
	return decoded(t, string(data))
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
	var many []int32
	for p := range int32(90) {
		many = append(many, 1000+p)
	}
	v4, v6 := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")
	for name, f := range map[string]policy.HostFirewall{
		"all nodes":              {Ports: []int32{6443, 10250}, Allowed: []netip.Prefix{v4, v6}},
		"the trial's":            {Nodes: policy.TrialNodes(), Ports: []int32{6443}, Allowed: []netip.Prefix{v4}},
		"IPv6 alone":             {Ports: []int32{6443}, Allowed: []netip.Prefix{v6}},
		"more ports than a rule": {Ports: many, Allowed: []netip.Prefix{v4}},
	} {
		got, ok := cilium.Hosts{}.Read(stored(t, f))
		if diff := cmp.Diff(f, got, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); !ok || diff != "" {
			t.Errorf("%s: %v %s", name, ok, diff)
		}
	}
}

// An object that says anything else is none that was written.
func TestHostsReadRefuses(t *testing.T) {
	f := policy.HostFirewall{Ports: []int32{6443}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	data, err := json.Marshal(stored(t, f))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"another field":         {`"nodeSelector"`, `"endpointSelector":{},"nodeSelector"`},
		"an allowance":          {`"ingressDeny"`, `"ingress":[{}],"ingressDeny"`},
		"more rules of a list":  {`"spec"`, `"specs":[{}],"spec"`},
		"isolation":             {`"ingress":false`, `"ingress":true`},
		"another protocol":      {`"TCP"`, `"UDP"`},
		"every IPv4 address in": {`"0.0.0.0/0"`, `"192.0.2.0/24"`},
		"no ranges":             {`"fromCIDRSet"`, `"x"`},
		"a name of a port":      {`"6443"`, `"https"`},
		"no range":              {`"10.0.0.0/8"`, `"10"`},
		"no spec":               {`"spec"`, `"x"`},
	} {
		text := strings.Replace(string(data), change[0], change[1], 1)
		if text == string(data) {
			t.Fatalf("%s changes nothing", name)
		}
		if got, ok := (cilium.Hosts{}).Read(decoded(t, text)); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if _, ok := (cilium.Hosts{}).Read(map[string]any{"metadata": metav1.ObjectMeta{}}); ok {
		t.Error("nothing at all")
	}
}
