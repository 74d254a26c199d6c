// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestScope(t *testing.T) {
	selectPCI := func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Namespaces.Selector = matchLabels("pci=true") }
	cases := map[string]struct {
		spec func(*pcinetv1alpha1.PCINetworkBaselineSpec)
		ns   snapshot.Namespace
		want plan.Verdict
	}{
		"an unset selector covers every namespace": {ns: namespace("shop"), want: plan.InScope},
		"an empty selector covers every namespace": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Namespaces.Selector = matchLabels() },
			ns:   namespace("shop"), want: plan.InScope,
		},
		"a namespace with the label is covered":                {spec: selectPCI, ns: namespace("shop", "pci=true"), want: plan.InScope},
		"a namespace without the label is not covered":         {spec: selectPCI, ns: namespace("shop"), want: plan.OutOfScope},
		"a namespace with another value is not covered":        {spec: selectPCI, ns: namespace("shop", "pci=false"), want: plan.OutOfScope},
		"a namespace without any labels is not covered either": {spec: selectPCI, ns: snapshot.Namespace{Name: "shop"}, want: plan.OutOfScope},
		"expressions are evaluated beside labels": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.Selector = matchLabels("pci=true")
				s.Namespaces.Selector.MatchExpressions = []pcinetv1alpha1.LabelSelectorRequirement{
					{Key: "tier", Operator: "NotIn", Values: []pcinetv1alpha1.LabelValue{"lab", "sandbox"}},
				}
			},
			ns: namespace("shop", "pci=true", "tier=lab"), want: plan.OutOfScope,
		},
		"an excluded namespace is not covered": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{"lab", "shop"}
			},
			ns: namespace("shop"), want: plan.OutOfScope,
		},
		"a namespace whose name begins like an excluded one is covered": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{"shop"}
			},
			ns: namespace("shop-eu"), want: plan.InScope,
		},
		"exclusion beats the selector": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				selectPCI(s)
				s.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{"shop"}
			},
			ns: namespace("shop", "pci=true"), want: plan.OutOfScope,
		},
		"a system namespace is not covered":                {ns: namespace("kube-system"), want: plan.OutOfScope},
		"the first and last system namespace are no gap":   {ns: namespace("calico-system"), want: plan.OutOfScope},
		"the operator's own namespace is not covered":      {ns: namespace("pci-network-baseline-system"), want: plan.OutOfScope},
		"a label does not make a namespace a system one":   {ns: namespace("shop", "kubernetes.io/metadata.name=kube-system"), want: plan.InScope},
		"a system namespace is not covered for its labels": {spec: selectPCI, ns: namespace("kube-system", "pci=true"), want: plan.OutOfScope},
		"kube-public is no system namespace":               {ns: namespace("kube-public"), want: plan.InScope},
		"an unset namespaces.system leaves them out":       {spec: setSystem(""), ns: namespace("kube-system"), want: plan.OutOfScope},
		"system Include covers system namespaces":          {spec: setSystem(pcinetv1alpha1.SystemNamespacesInclude), ns: namespace("kube-system"), want: plan.InScope},
		"system Include covers the operator's own as well": {spec: setSystem(pcinetv1alpha1.SystemNamespacesInclude), ns: namespace("pci-network-baseline-system"), want: plan.InScope},
		"system Include still obeys exclude": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				setSystem(pcinetv1alpha1.SystemNamespacesInclude)(s)
				s.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{"kube-system"}
			},
			ns: namespace("kube-system"), want: plan.OutOfScope,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := decide(t, baseline(tc.spec), tc.ns, snapshot.Cluster{SystemNamespaces: system})
			if got.Verdict != tc.want {
				t.Fatalf("verdict %s, want %s", got.Verdict, tc.want)
			}
			if empty := cmp.Equal(got.Set, policy.Set{}, cmpopts.EquateEmpty()); empty != (tc.want != plan.InScope) {
				t.Errorf("verdict %s comes with the set %v", got.Verdict, lines(got.Set))
			}
		})
	}
}

func setSystem(v pcinetv1alpha1.SystemNamespaces) func(*pcinetv1alpha1.PCINetworkBaselineSpec) {
	return func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Namespaces.System = v }
}

func TestExemptions(t *testing.T) {
	exempt := func(reason string, end time.Time, namespaces ...pcinetv1alpha1.NamespaceName) pcinetv1alpha1.Exemption {
		return pcinetv1alpha1.Exemption{Namespaces: namespaces, Reason: reason, ApprovedBy: "CISO", ExpiresAt: metav1.NewTime(end)}
	}
	day := 24 * time.Hour
	notice := now.Add(plan.ExpiryNotice)
	cases := map[string]struct {
		exemptions []pcinetv1alpha1.Exemption
		spec       func(*pcinetv1alpha1.PCINetworkBaselineSpec)
		want       plan.Verdict
		wantReason string // of the exemption that the decision names
		wantChange time.Time
	}{
		"without an exemption nothing changes by time": {want: plan.InScope},
		"an exemption of another namespace does not count": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("other", now.Add(day), "billing")},
			want:       plan.InScope,
		},
		"one nanosecond before its end it holds": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("a", now.Add(time.Nanosecond), "shop")},
			want:       plan.Exempt, wantReason: "a", wantChange: now.Add(time.Nanosecond),
		},
		"at its end the namespace is denied": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("a", now, "shop")},
			want:       plan.InScope, wantReason: "a",
		},
		"one nanosecond after its end the namespace is denied": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("a", now.Add(-time.Nanosecond), "shop")},
			want:       plan.InScope, wantReason: "a",
		},
		"long before its end the next change is the notice": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("a", now.Add(90*day), "shop")},
			want:       plan.Exempt, wantReason: "a", wantChange: now.Add(76 * day),
		},
		"one nanosecond before the notice the next change is the notice": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("a", notice.Add(time.Nanosecond), "shop")},
			want:       plan.Exempt, wantReason: "a", wantChange: now.Add(time.Nanosecond),
		},
		"at the notice the next change is the end": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("a", notice, "shop")},
			want:       plan.Exempt, wantReason: "a", wantChange: notice,
		},
		"of two exemptions the longer one holds": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("short", now.Add(day), "shop"), exempt("long", now.Add(2*day), "billing", "shop")},
			want:       plan.Exempt, wantReason: "long", wantChange: now.Add(2 * day),
		},
		"of two exemptions the longer one holds in any order": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("long", now.Add(2*day), "billing", "shop"), exempt("short", now.Add(day), "shop")},
			want:       plan.Exempt, wantReason: "long", wantChange: now.Add(2 * day),
		},
		"an expired exemption does not end one that runs": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("runs", now.Add(day), "shop"), exempt("expired", now.Add(-day), "shop")},
			want:       plan.Exempt, wantReason: "runs", wantChange: now.Add(day),
		},
		"of two expired exemptions the last one is named": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("older", now.Add(-2*day), "shop"), exempt("newer", now.Add(-day), "shop")},
			want:       plan.InScope, wantReason: "newer",
		},
		"an exemption of a namespace out of scope does not bring it back": {
			exemptions: []pcinetv1alpha1.Exemption{exempt("a", now.Add(day), "shop")},
			spec:       func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Namespaces.Selector = matchLabels("pci=true") },
			want:       plan.OutOfScope,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := baseline(tc.spec)
			b.Spec.Exemptions = tc.exemptions
			got := decide(t, b, namespace("shop"), snapshot.Cluster{SystemNamespaces: system})
			if got.Verdict != tc.want {
				t.Errorf("verdict %s, want %s", got.Verdict, tc.want)
			}
			if !got.ChangesAt.Equal(tc.wantChange) {
				t.Errorf("changes at %s, want %s", got.ChangesAt, tc.wantChange)
			}
			reason := ""
			if got.Exemption != nil {
				reason = got.Exemption.Reason
			}
			if reason != tc.wantReason {
				t.Errorf("names the exemption %q, want %q", reason, tc.wantReason)
			}
			if hasSet := len(got.Set.Deny.Directions) > 0; hasSet != (tc.want == plan.InScope) {
				t.Errorf("verdict %s comes with the set %v", got.Verdict, lines(got.Set))
			}
		})
	}
}

// What time changes is found by waiting until ChangesAt: between now and then nothing may change, and then something does.
func TestExemptionChangesAtIsTheNextChange(t *testing.T) {
	end := now.Add(40 * 24 * time.Hour)
	b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
		s.Exemptions = []pcinetv1alpha1.Exemption{{Namespaces: []pcinetv1alpha1.NamespaceName{"shop"}, ExpiresAt: metav1.NewTime(end)}}
	})
	compiled, err := plan.Compile(b)
	if err != nil {
		t.Fatal(err)
	}
	at := func(when time.Time) plan.Decision { return compiled.For(namespace("shop"), snapshot.Cluster{}, when) }
	var visited []time.Time
	for when := now; !when.IsZero(); when = at(when).ChangesAt {
		visited = append(visited, when)
		if len(visited) > 5 {
			t.Fatalf("never comes to an end: %v", visited)
		}
	}
	if diff := cmp.Diff([]time.Time{now, end.Add(-plan.ExpiryNotice), end}, visited); diff != "" {
		t.Errorf("visited (-want +got):\n%s", diff)
	}
	if v := at(end.Add(-time.Nanosecond)).Verdict; v != plan.Exempt {
		t.Errorf("just before its end: %s, want %s", v, plan.Exempt)
	}
	if v := at(end).Verdict; v != plan.InScope {
		t.Errorf("at its end: %s, want %s", v, plan.InScope)
	}
}

func TestCompileNamesTheFieldItCannotRead(t *testing.T) {
	bad := &pcinetv1alpha1.LabelSelector{MatchExpressions: []pcinetv1alpha1.LabelSelectorRequirement{{Key: "tier", Operator: "In"}}}
	cases := map[string]struct {
		spec func(*pcinetv1alpha1.PCINetworkBaselineSpec)
		want string
	}{
		"the namespace selector": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Namespaces.Selector = bad },
			want: "spec.namespaces.selector: ",
		},
		"an API server allowance": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Allow.KubeAPIServer = []pcinetv1alpha1.KubeAPIServerAllowance{{Name: "ci", NamespaceSelector: bad}}
			},
			want: "spec.allow.kubeAPIServer ci: namespaceSelector: ",
		},
		"a rule's subject": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Allow.Rules = []pcinetv1alpha1.AllowRule{{Name: "db", Subject: &pcinetv1alpha1.Subject{NamespaceSelector: bad}}}
			},
			want: "spec.allow.rules db: subject.namespaceSelector: ",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := plan.Compile(baseline(tc.spec))
			if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("error %v, want one that begins with %q", err, tc.want)
			}
		})
	}
}
