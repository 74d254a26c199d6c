// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package calico_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	calicov3 "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/test/felix"
	"github.com/pcinetwork/pci-network-baseline/test/intent"
)

func encode(t *testing.T, kind string, obj render.Object) []byte {
	t.Helper()
	obj.GetObjectKind().SetGroupVersionKind(calicov3.SchemeGroupVersion.WithKind(kind))
	text, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestDenies(t *testing.T) {
	rule := []calicov3.Rule{{Action: calicov3.Allow}}
	cases := map[string]struct {
		live runtime.Object
		want bool
	}{
		"no rules":                     {live: &calicov3.NetworkPolicy{}, want: true},
		"an empty list of rules":       {live: &calicov3.NetworkPolicy{Spec: calicov3.NetworkPolicySpec{Ingress: []calicov3.Rule{}}}, want: true},
		"a rule":                       {live: &calicov3.NetworkPolicy{Spec: calicov3.NetworkPolicySpec{Egress: rule}}},
		"staged, without rules":        {live: &calicov3.StagedNetworkPolicy{}, want: true},
		"staged, with a rule":          {live: &calicov3.StagedNetworkPolicy{Spec: calicov3.StagedNetworkPolicySpec{Ingress: rule}}},
		"another kind is not a deny":   {live: &calicov3.GlobalNetworkPolicy{}},
		"nothing at all is not a deny": {},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := (calico.Backend{}).Denies(tc.live); got != tc.want {
				t.Errorf("denies: %v, want %v", got, tc.want)
			}
		})
	}
}

// Calico's bounds of one rule hold, however much a rule of ours lists.
func TestLongListsAreSplit(t *testing.T) {
	rule := policy.Rule{Direction: policy.Egress}
	for i := range 10_000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0})
		rule.Peers = append(rule.Peers, policy.Peer{CIDR: netip.PrefixFrom(a, 32)})
	}
	for i := range int32(60) {
		rule.Ports = append(rule.Ports, policy.Port{Protocol: policy.TCP, First: 2*i + 1, Last: 2*i + 1})
	}
	set := policy.Set{Deny: policy.Policy{Rules: []policy.Rule{rule.Canonical()}}}
	p, ok := render.Render(calico.Backend{}, set, set.Deny).(*calicov3.NetworkPolicy)
	if !ok || len(p.Spec.Egress) > 1024 {
		t.Fatalf("%d rules", len(p.Spec.Egress))
	}
	seen := map[string]int{}
	for _, r := range p.Spec.Egress {
		if len(r.Destination.Nets) > 256 || len(r.Destination.Ports) > 50 || len(r.Destination.Ports) == 0 {
			t.Fatalf("a rule with %d nets and %d ports", len(r.Destination.Nets), len(r.Destination.Ports))
		}
		for _, n := range r.Destination.Nets {
			seen[n] += len(r.Destination.Ports)
		}
	}
	if len(seen) != 10_000 {
		t.Errorf("%d nets, want 10000", len(seen))
	}
	for n, ports := range seen {
		if ports != 60 {
			t.Fatalf("%s has %d ports, want 60", n, ports)
		}
	}
}

// Writing to a rendered object must not reach the set, which is shared.
func TestRenderedObjectsShareNothingWithTheSet(t *testing.T) {
	set := intent.Seeds()[0].Set()
	before := intent.Seeds()[0].Set()
	p, ok := render.Render(calico.Backend{}, set, set.Allowances[0]).(*calicov3.NetworkPolicy)
	if !ok {
		t.Fatal("no NetworkPolicy")
	}
	for i := range p.Spec.Ingress {
		p.Spec.Ingress[i].Source = calicov3.EntityRule{}
		for j := range p.Spec.Ingress[i].Destination.Ports {
			p.Spec.Ingress[i].Destination.Ports[j].MinPort = 7
		}
	}
	if diff := cmp.Diff(before, set, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("the set changed (-before +after):\n%s", diff)
	}
}

// FuzzRender looks for an object that Calico would refuse, or that lets through what its set does not.
func FuzzRender(f *testing.F) {
	intent.Seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		v := intent.Parse(text)
		set := v.Set()
		for _, b := range []calico.Backend{{}, {Staged: true}} {
			for _, p := range set.Ordered() {
				decoded, err := felix.Decode(encode(t, "NetworkPolicy", render.Render(b, set, p)))
				if err != nil {
					t.Fatalf("%+v: %v", p, err)
				}
				inside, outside := felix.Pod("shop", nil, labels.Set{"app": "a"}), felix.Pod("other", nil, labels.Set{"app": "a"})
				if decoded.Selects(outside) || (p.Role == policy.Deny && !decoded.Selects(inside)) {
					t.Errorf("%+v selects other pods than those of its namespace", p)
				}
			}
		}
	})
}

// FuzzSelector looks for a selector that means something else when it is read back.
func FuzzSelector(f *testing.F) {
	intent.Seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		v := intent.Parse(text)
		v.First, v.Last = 1, 1
		allowance := v.Set().Allowances[0]
		p, ok := (calico.Backend{}).Render(metav1.ObjectMeta{}, allowance).(*calicov3.NetworkPolicy)
		if !ok {
			t.Fatal("no NetworkPolicy")
		}
		got, err := felix.Parse(p.Spec.Selector)
		if err != nil {
			t.Fatalf("%s: %v", p.Spec.Selector, err)
		}
		want, err := metav1.LabelSelectorAsSelector(&allowance.Pods)
		if err != nil {
			return // the API would not store it
		}
		for _, have := range []labels.Set{{}, {v.Key: v.Value}, {v.Key: "x"}, {v.Key: "y"}, {v.Key: ""}, {"app": "a"}, {"other": v.Value}} {
			if valid(have) && got(felix.Labels(have)) != want.Matches(have) {
				t.Errorf("%s selects %v: %v, want %v", p.Spec.Selector, have, got(felix.Labels(have)), want.Matches(have))
			}
		}
	})
}

// valid says whether an object can have these labels.
func valid(set labels.Set) bool {
	_, err := labels.ValidatedSelectorFromSet(set)
	return err == nil
}

// FuzzGuard looks for a guard that selects a host, or a namespace that it must not.
func FuzzGuard(f *testing.F) {
	intent.Seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		v := intent.Parse(text)
		guard := v.Guard()
		p, err := felix.Decode(encode(t, "GlobalNetworkPolicy", render.Guard(calico.Guard{}, guard)))
		if err != nil {
			t.Fatal(err)
		}
		for _, host := range []felix.Labels{{}, {v.Key: v.Value}, {"kubernetes.io/metadata.name": "shop"}} {
			if p.Selects(host) {
				t.Errorf("%+v selects the host endpoint %v", guard, host)
			}
		}
		if p.Selects(felix.Pod("kube-system", labels.Set{"kubernetes.io/metadata.name": "kube-system", "app": "a"}, nil)) {
			t.Errorf("%+v selects kube-system", guard)
		}
	})
}

// Names are without dots: up to Calico 3.31 the part before one is a tier.
func TestNamesHaveNoDot(t *testing.T) {
	set := policy.Set{Baseline: "cardholder-data", Namespace: "shop"}
	if name := render.Render(calico.Backend{}, set, policy.Policy{Name: "allow-db"}).GetName(); strings.Contains(name, ".") {
		t.Errorf("name %s", name)
	}
}
