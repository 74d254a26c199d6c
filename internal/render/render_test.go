// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

func TestMetadata(t *testing.T) {
	gitops := map[string]string{
		"argocd.argoproj.io/compare-options": "IgnoreExtraneous",
		"argocd.argoproj.io/sync-options":    "Prune=false,Delete=false",
	}
	labels := map[string]string{"app.kubernetes.io/managed-by": "pci-network-baseline", "pcinetwork.dev/baseline": "cardholder-data"}
	cases := map[string]struct {
		policy policy.Policy
		want   metav1.ObjectMeta
	}{
		"a deny": {
			policy: policy.Policy{Name: "default-deny"},
			want:   metav1.ObjectMeta{Name: "pcinb-cardholder-data-default-deny", Namespace: "shop", Labels: labels, Annotations: gitops},
		},
		"an allowance with its justification": {
			policy: policy.Policy{Name: "allow-db", Justification: "Orders are stored there."},
			want: metav1.ObjectMeta{Name: "pcinb-cardholder-data-allow-db", Namespace: "shop", Labels: labels, Annotations: map[string]string{
				"argocd.argoproj.io/compare-options": "IgnoreExtraneous",
				"argocd.argoproj.io/sync-options":    "Prune=false,Delete=false",
				"pcinetwork.dev/justification":       "Orders are stored there.",
			}},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			obj := render.Render(core.Backend{}, policy.Set{Baseline: "cardholder-data", Namespace: "shop"}, tc.policy)
			got := metav1.ObjectMeta{
				Name: obj.GetName(), Namespace: obj.GetNamespace(), Labels: obj.GetLabels(), Annotations: obj.GetAnnotations(),
				OwnerReferences: obj.GetOwnerReferences(), Finalizers: obj.GetFinalizers(),
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
		})
	}
}

// What one object's owner does to its metadata must not show in the next one's.
func TestObjectsShareNoMaps(t *testing.T) {
	s := policy.Set{Baseline: "a", Namespace: "shop"}
	first := render.Render(core.Backend{}, s, policy.Policy{Name: "default-deny"})
	first.GetAnnotations()["x"], first.GetLabels()["x"] = "y", "y"
	render.Annotations()["x"] = "y"
	second := render.Render(core.Backend{}, s, policy.Policy{Name: "default-deny"})
	if second.GetAnnotations()["x"] != "" || second.GetLabels()["x"] != "" || render.Annotations()["x"] != "" {
		t.Error("objects share a map")
	}
}

func TestOwner(t *testing.T) {
	cases := map[string]struct {
		labels map[string]string
		want   string
	}{
		"our labels name the baseline":       {labels: render.Labels("pci"), want: "pci"},
		"foreign labels beside ours":         {labels: map[string]string{"app.kubernetes.io/managed-by": "pci-network-baseline", "pcinetwork.dev/baseline": "pci", "x": "y"}, want: "pci"},
		"the baseline label alone is not us": {labels: map[string]string{"pcinetwork.dev/baseline": "pci"}},
		"somebody else manages it":           {labels: map[string]string{"app.kubernetes.io/managed-by": "Helm", "pcinetwork.dev/baseline": "pci"}},
		"no labels":                          {},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := render.Owner(tc.labels); got != tc.want {
				t.Errorf("owner %q, want %q", got, tc.want)
			}
		})
	}
}

// policyNames are the policy names that the CRD's names can lead to: rule, or kube-apiserver entry.
func policyNames(allowance string) []string {
	return []string{"default-deny", "allow-dns", "allow-" + allowance, "allow-kube-apiserver-" + allowance}
}

// validBaseline and validRule repeat the CRD's rules for names (api/v1alpha1: PCINetworkBaseline, AllowRule).
func validBaseline(name string) bool {
	return len(name) <= 48 && len(validation.IsDNS1123Label(name)) == 0 && !strings.Contains(name+"-", "-allow-")
}

func validAllowance(name string) bool {
	return len(name) <= 48 && len(validation.IsDNS1123Label(name)) == 0 && name != "dns" && !strings.HasPrefix(name, "kube-apiserver")
}

func TestTheLongestNamesAreValid(t *testing.T) {
	longest := strings.Repeat("x", 48)
	for _, p := range policyNames(longest) {
		name := render.SecondName(render.Name(longest, p))
		if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 || !strings.HasPrefix(name, "pcinb2-") {
			t.Errorf("%s (%d characters): %v", name, len(name), msgs)
		}
	}
	if msgs := validation.IsValidLabelValue(longest); len(msgs) > 0 {
		t.Errorf("the label of baseline %s: %v", longest, msgs)
	}
}

// FuzzNames looks for two policies that get one name although they are of different baselines, or of one baseline and
// different allowances.
func FuzzNames(f *testing.F) {
	f.Add("a", "b", "a-default-deny", "b")
	f.Add("a", "b-default-deny", "a-allow", "b")
	f.Add("a", "allow-b", "a-allow", "b")
	f.Add("allow-a", "b", "allow", "a-b")
	f.Add("pci", "db", "pci", "db-2")
	f.Fuzz(func(t *testing.T, baseline1, rule1, baseline2, rule2 string) {
		if !validBaseline(baseline1) || !validBaseline(baseline2) || !validAllowance(rule1) || !validAllowance(rule2) {
			t.Skip("the CRD refuses these names")
		}
		for i, p := range policyNames(rule1) {
			for j, q := range policyNames(rule2) {
				same := baseline1 == baseline2 && i == j && (i < 2 || rule1 == rule2)
				name1, name2 := render.Name(baseline1, p), render.Name(baseline2, q)
				if (name1 == name2) != same || (render.SecondName(name1) == render.SecondName(name2)) != same {
					t.Errorf("%s of %s and %s of %s: names %s and %s, same: %v", p, baseline1, q, baseline2, name1, name2, same)
				}
				if render.SecondName(name1) == name2 {
					t.Errorf("%s is the second name of %s of %s and the first of %s of %s", name2, p, baseline1, q, baseline2)
				}
			}
		}
	})
}

// FuzzNameForm looks for a name that an API would refuse, or that Calico would take apart at a dot.
func FuzzNameForm(f *testing.F) {
	f.Add("cardholder-data", "db")
	f.Add(strings.Repeat("x", 48), strings.Repeat("y", 48))
	f.Add("a.b", "c")
	f.Add("0", "0")
	f.Fuzz(func(t *testing.T, baseline, rule string) {
		if !validBaseline(baseline) || !validAllowance(rule) {
			t.Skip("the CRD refuses these names")
		}
		for _, p := range append(policyNames(rule), "guard") {
			for _, name := range []string{render.Name(baseline, p), render.SecondName(render.Name(baseline, p))} {
				if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 || strings.Contains(name, ".") {
					t.Errorf("%s: %v", name, msgs)
				}
			}
		}
	})
}

// Every pair of short names over the critical words, which random strings never hit.
func TestNamesTellBaselinesAndRulesApart(t *testing.T) {
	var names []string
	words := []string{"allow", "default", "deny", "dns", "a", "2"}
	for _, x := range words {
		names = append(names, x)
		for _, y := range words {
			names = append(names, x+"-"+y)
			for _, z := range words {
				names = append(names, x+"-"+y+"-"+z)
			}
		}
	}
	seen := map[string]string{}
	for _, b := range names {
		if !validBaseline(b) {
			continue
		}
		for _, p := range reachable(names) {
			owner := b + " " + p
			if other, taken := seen[render.Name(b, p)]; taken {
				t.Fatalf("%s is the name of both %q and %q", render.Name(b, p), other, owner)
			}
			if other, taken := seen[render.SecondName(render.Name(b, p))]; taken {
				t.Fatalf("the second name of %q is the name of %q", owner, other)
			}
			seen[render.Name(b, p)] = owner
		}
	}
}

// reachable lists every policy name that one baseline can have, once.
func reachable(allowances []string) []string {
	out := []string{"default-deny", "allow-dns"}
	for _, n := range allowances {
		if validAllowance(n) {
			out = append(out, "allow-"+n)
		}
		out = append(out, "allow-kube-apiserver-"+n)
	}
	return out
}

// A second name is taken when somebody else's object has the first. It must not be the first name of another policy of
// ours: the two would overwrite each other for ever.
func TestSecondNamesAreNobodysFirstName(t *testing.T) {
	const baseline = "pci"
	first := map[string]bool{}
	for _, p := range []string{"default-deny", "allow-dns", "allow-db", "allow-db-2", "allow-kube-apiserver-ci", "allow-kube-apiserver-ci-2"} {
		first[render.Name(baseline, p)] = true
	}
	for name := range first {
		if second := render.SecondName(name); first[second] {
			t.Errorf("the second name of %s is %s, which another policy of the same baseline has", name, second)
		}
	}
}

// A deny without ports would be one of all ports, and one without a list would let in nobody.
func TestNoFirewallThatClosesEverything(t *testing.T) {
	whole := policy.HostFirewall{Baseline: "b", Ports: []int32{10250}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, layer := range hosts {
		if got := render.HostFirewall(layer, whole); len(got) == 0 {
			t.Errorf("%s: nothing at all", layer.Name())
		}
		for what, f := range map[string]policy.HostFirewall{
			"without ports": {Baseline: "b", Allowed: whole.Allowed}, "without a list": {Baseline: "b", Ports: whole.Ports},
		} {
			if got := render.HostFirewall(layer, f); len(got) > 0 {
				t.Errorf("%s %s: %v", layer.Name(), what, got)
			}
		}
	}
}
