// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cilium_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/test/intent"
)

func TestDenies(t *testing.T) {
	ports := []cilium.PortRule{{Ports: []cilium.PortProtocol{{Port: "53", Protocol: "UDP"}}}}
	with := func(r cilium.Rule) runtime.Object { return &cilium.NetworkPolicy{Spec: r} }
	cases := map[string]struct {
		live runtime.Object
		want bool
	}{
		"an empty rule in each direction":      {live: with(cilium.Rule{Ingress: []cilium.IngressRule{{}}, Egress: []cilium.EgressRule{{}}}), want: true},
		"no rules":                             {live: with(cilium.Rule{}), want: true},
		"peers":                                {live: with(cilium.Rule{Ingress: []cilium.IngressRule{{}, {FromEndpoints: []metav1.LabelSelector{{}}}}})},
		"ports for everybody":                  {live: with(cilium.Rule{Egress: []cilium.EgressRule{{ToPorts: ports}}})},
		"entities":                             {live: with(cilium.Rule{Ingress: []cilium.IngressRule{{FromEntities: []string{"all"}}}})},
		"a range":                              {live: with(cilium.Rule{Egress: []cilium.EgressRule{{ToCIDRSet: []cilium.CIDRRule{{CIDR: "0.0.0.0/0"}}}}})},
		"something that our types cannot hold": {live: with(cilium.Rule{Ingress: []cilium.IngressRule{{}}, Unknown: []string{"specs"}})},
		"another kind is not a deny":           {live: &networkingv1.NetworkPolicy{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := (cilium.Backend{}).Denies(tc.live); got != tc.want {
				t.Errorf("denies: %v, want %v", got, tc.want)
			}
		})
	}
}

// What the server sends is not all that is decoded: a change to a field must not depend on the fields around it.
func TestDecodingRefusesWhatIsNoPolicy(t *testing.T) {
	for name, text := range map[string]string{
		"a list for a spec":     `{"spec":[]}`,
		"a number for a status": `{"status":1}`,
		"no object":             `[]`,
		"text for a rule":       `{"spec":{"ingress":"x"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := json.Unmarshal([]byte(text), &cilium.NetworkPolicy{}); err == nil {
				t.Error("decoded without an error")
			}
		})
	}
	p := cilium.NetworkPolicy{Spec: cilium.Rule{Unknown: []string{"specs"}, Ingress: []cilium.IngressRule{{}}}}
	if err := json.Unmarshal([]byte(`{"spec":{}}`), &p); err != nil || len(p.Spec.Unknown)+len(p.Spec.Ingress) > 0 {
		t.Errorf("a policy is decoded onto what was there: %+v, %v", p.Spec, err)
	}
}

// A pod selector may ask for a label that Cilium sets itself. Ours must not replace it: both must hold.
func TestANamespaceIsNotLostToALabelOfItsName(t *testing.T) {
	rule := policy.Rule{Direction: policy.Egress, Ports: []policy.Port{{Protocol: policy.TCP, First: 1, Last: 1}}, Peers: []policy.Peer{{
		Pods: &policy.PodPeer{Pods: &metav1.LabelSelector{MatchLabels: map[string]string{"io.kubernetes.pod.namespace": "other"}}},
	}}}
	p, ok := (cilium.Backend{}).Render(metav1.ObjectMeta{Namespace: "shop"}, policy.Policy{Rules: []policy.Rule{rule}}).(*cilium.NetworkPolicy)
	if !ok {
		t.Fatal("no CiliumNetworkPolicy")
	}
	selector, err := metav1.LabelSelectorAsSelector(unprefixed(p.Spec.Egress[0].ToEndpoints[0]))
	if err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"shop", "other"} {
		if selector.Matches(labels.Set{"io.kubernetes.pod.namespace": namespace}) {
			t.Errorf("%v selects a pod of %s", selector, namespace)
		}
	}
}

// unprefixed takes the source off of keys, which Kubernetes' library does not know.
func unprefixed(s metav1.LabelSelector) *metav1.LabelSelector {
	out := &metav1.LabelSelector{}
	for k, v := range s.MatchLabels {
		metav1.AddLabelToSelector(out, strings.TrimPrefix(k, "k8s:"), v)
	}
	for _, e := range s.MatchExpressions {
		e.Key = strings.TrimPrefix(e.Key, "k8s:")
		out.MatchExpressions = append(out.MatchExpressions, e)
	}
	return out
}

func render1(t *testing.T, s policy.Set, p policy.Policy) *cilium.NetworkPolicy {
	t.Helper()
	out, ok := render.Render(cilium.Backend{}, s, p).(*cilium.NetworkPolicy)
	if !ok {
		t.Fatal("no CiliumNetworkPolicy")
	}
	return out
}

// Writing to a rendered object must not reach the set, which is shared.
func TestRenderedObjectsShareNothingWithTheSet(t *testing.T) {
	set, before := intent.Seeds()[1].Set(), intent.Seeds()[1].Set()
	p := render1(t, set, set.Allowances[0])
	p.Spec.EndpointSelector.MatchExpressions[0].Values[0] = "changed"
	for i := range p.Spec.Ingress {
		for j := range p.Spec.Ingress[i].FromEndpoints {
			p.Spec.Ingress[i].FromEndpoints[j].MatchExpressions[0].Values[0] = "changed"
		}
	}
	guard := intent.Seeds()[1].Guard()
	g, ok := render.Guard(cilium.Guard{}, guard).(*cilium.ClusterwideNetworkPolicy)
	if !ok {
		t.Fatal("no CiliumClusterwideNetworkPolicy")
	}
	g.Spec.EndpointSelector.MatchExpressions[0].Values[0] = "changed"
	same := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(before, set, same); diff != "" {
		t.Errorf("the set changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(intent.Seeds()[1].Guard(), guard); diff != "" {
		t.Errorf("the guard changed (-before +after):\n%s", diff)
	}
}

// FuzzRender looks for a rule that Cilium would refuse or read as "everybody", and for an object that decodes to another.
func FuzzRender(f *testing.F) {
	intent.Seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		v := intent.Parse(text)
		set := v.Set()
		for _, p := range set.Ordered() {
			obj := render1(t, set, p)
			if p.Role == policy.Allowance {
				checkAllowance(t, obj.Spec)
			}
			if denies := (cilium.Backend{}).Denies(obj); denies != (p.Role == policy.Deny) {
				t.Errorf("%s is a deny: %v", p.Name, denies)
			}
			sent, err := json.Marshal(obj)
			if err != nil {
				t.Fatal(err)
			}
			back := &cilium.NetworkPolicy{}
			if err := json.Unmarshal(sent, back); err != nil {
				t.Fatalf("%v in %s", err, sent)
			}
			if diff := cmp.Diff(obj, back, cmpopts.EquateEmpty()); diff != "" && utf8.ValidString(text) {
				t.Errorf("decoded (-rendered +decoded):\n%s", diff)
			}
		}
	})
}

func checkAllowance(t *testing.T, spec cilium.Rule) {
	t.Helper()
	var forms [][3]int
	var ports [][]cilium.PortRule
	for _, r := range spec.Ingress {
		forms, ports = append(forms, [3]int{len(r.FromEndpoints), len(r.FromCIDRSet), len(r.FromEntities)}), append(ports, r.ToPorts)
	}
	for _, r := range spec.Egress {
		forms, ports = append(forms, [3]int{len(r.ToEndpoints), len(r.ToCIDRSet), len(r.ToEntities)}), append(ports, r.ToPorts)
	}
	for i, f := range forms {
		used := min(f[0], 1) + min(f[1], 1) + min(f[2], 1)
		if used != 1 || len(ports[i]) == 0 {
			t.Errorf("a rule with %v endpoints, ranges and entities, and ports %v", f, ports[i])
		}
		for _, p := range ports[i] {
			if len(p.Ports) == 0 || len(p.Ports) > 40 {
				t.Errorf("%d ports in one list", len(p.Ports))
			}
		}
	}
	if len(forms) == 0 {
		t.Error("an allowance without a rule")
	}
}

// FuzzDecode looks for an object of the server's that is decoded to nothing without an error, or that panics.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{
		`{"metadata":{"name":"a"},"spec":{"endpointSelector":{},"ingress":[{}],"egress":[{}]},"status":{"conditions":[{"type":"Valid","status":"True"}]}}`,
		`{"spec":{"enableDefaultDeny":{"ingress":false}},"specs":[{}]}`, `{"spec":null}`, `{"Spec":{"ingress":[{}]}}`, `{"spec":{"ingress":[{"toPorts":[{"ports":[{"port":80}]}]}]}}`, `{}`, `[]`, `null`, ``,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p := &cilium.NetworkPolicy{}
		if err := json.Unmarshal(text, p); err != nil {
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(text, &fields); err != nil {
			return
		}
		known := map[string]bool{"apiVersion": true, "kind": true, "metadata": true, "spec": true, "status": true}
		for name := range fields {
			if !known[name] && len(p.Spec.Unknown) == 0 {
				t.Errorf("%s is not named", name)
			}
		}
		(cilium.Backend{}).Denies(p)
		p.DeepCopyObject()
	})
}
