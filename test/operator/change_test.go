// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

type spec = pcinetv1alpha1.PCINetworkBaselineSpec

// Mutations tried: remove before write, deny deleted and made anew; both fail.
func TestNoChangeOfABaselineLeavesAnInstantWithoutADeny(t *testing.T) {
	t.Parallel()
	withRule := func(s *spec) { s.Allow.Rules = []pcinetv1alpha1.AllowRule{rule("gateway")} }
	for name, c := range map[string]struct {
		before, change func(*spec)
		want           func(baseline string) []*networkingv1.NetworkPolicy
	}{
		"a rule is added": {
			change: withRule,
			want: func(b string) []*networkingv1.NetworkPolicy {
				return set(wantDeny(b), wantDNS(b), wantRule(b, "gateway"))
			},
		},
		"a rule is removed": {
			before: withRule, change: func(s *spec) { s.Allow.Rules = nil },
			want: func(b string) []*networkingv1.NetworkPolicy { return set(wantDeny(b), wantDNS(b)) },
		},
		"a rule is renamed": {
			before: withRule, change: func(s *spec) { s.Allow.Rules[0].Name = "acquirer" },
			want: func(b string) []*networkingv1.NetworkPolicy {
				return set(wantDeny(b), wantDNS(b), wantRule(b, "acquirer"))
			},
		},
		"DNS is no longer allowed": {
			change: func(s *spec) { s.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone },
			want:   func(b string) []*networkingv1.NetworkPolicy { return set(wantDeny(b)) },
		},
		"DNS is allowed": {
			before: func(s *spec) { s.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone },
			change: func(s *spec) { s.Allow.DNS = pcinetv1alpha1.DNSAllowanceClusterDNS },
			want:   func(b string) []*networkingv1.NetworkPolicy { return set(wantDeny(b), wantDNS(b)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
				if c.before != nil {
					c.before(&b.Spec)
				}
			})
			namespace := protected(t, b)
			recorder := record(t, namespace)
			changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { c.change(&b.Spec) })
			awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
			awaitExactly(t, namespace, c.want(b.Name)...)
			for _, e := range recorder.noGap(t) {
				if e.policy.Name == denyName(b.Name) {
					t.Errorf("the deny was written to: %s", e)
				}
			}
		})
	}
}

func set(p ...*networkingv1.NetworkPolicy) []*networkingv1.NetworkPolicy { return p }

func TestAChangeOfDirectionsKeepsTheOtherOneDenied(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	recorder := record(t, namespace)
	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Directions = []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress}
	})
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, holds("DefaultDenyEffective=False/DirectionNotDenied"))
	awaitExactly(t, namespace, wantDeny(b.Name, ingress))
	awaitBaseline(t, b, "DefaultDenyEffective=False/DirectionNotDenied", "Compliant=False/RequirementsNotMet")
	events := recorder.noGap(t, ingress)
	if diff := cmp.Diff([]string{denyName(b.Name)}, order(events, watch.Modified)); diff != "" {
		t.Errorf("updated (-want +got):\n%s", diff)
	}

	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Directions = []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress}
	})
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, holds("DefaultDenyEffective=True/NothingWidens"))
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
	recorder.noGap(t, ingress)
	if got := byVersion(policiesIn(t, namespace)); got[1] != denyName(b.Name) {
		t.Errorf("egress was denied before DNS was allowed: %v", got)
	}
}

func TestTwentyEditsInARowNeverOpenANamespace(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	recorder := record(t, namespace)
	for i := range 20 {
		changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
			b.Spec.Allow.Rules = []pcinetv1alpha1.AllowRule{rule(fmt.Sprintf("gateway-%d", i))}
			b.Spec.Allow.DNS = []pcinetv1alpha1.DNSAllowance{pcinetv1alpha1.DNSAllowanceNone, pcinetv1alpha1.DNSAllowanceClusterDNS}[i%2]
		})
	}
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name), wantRule(b.Name, "gateway-19"))
	recorder.noGap(t)
}

func TestAPolicyThatWidensIsReportedAndLeftAlone(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	wide := foreignPolicy(namespace, "let-me-in")
	wide.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
	create(t, wide)
	create(t, foreignPolicy(namespace, "narrow"))
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, holds("DefaultDenyEffective=False/PolicyWidens"), func(c *pcinetv1alpha1.NamespaceCoverage) error {
		if len(c.Status.Widening) != 1 || c.Status.Widening[0].Name != "let-me-in" {
			return fmt.Errorf("widening is %v", c.Status.Widening)
		}
		return nil
	})
	awaitBaseline(t, b, "DefaultDenyEffective=False/PolicyWidens", "DefaultDenyInPlace=True/AllNamespacesProtected")
	if text := message(b.Status.Conditions, "DefaultDenyEffective"); !strings.Contains(text, namespace+"/let-me-in") {
		t.Errorf("the message does not name the policy: %s", text)
	}
	if err := env.client.Delete(t.Context(), wide); err != nil {
		t.Fatal(err)
	}
	awaitBaseline(t, b, "DefaultDenyEffective=True/NothingWidens")
}

func TestAForeignObjectOfTheSameNameIsNeverTouched(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := createNamespace(t, "")
	foreign := foreignPolicy(namespace, denyName(b.Name))
	create(t, foreign)
	second := wantDeny(b.Name)
	second.Name = secondName(b.Name)

	setLabel(t, namespace, groupLabel, b.Name)
	c := awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageFailing, holds(
		"Ready=False/NameCollision", "Stalled=True/NameCollision", "DefaultDenyInPlace=False/NameCollision", "Reconciling"))
	awaitEvent(t, namespace, b.Name, "NameCollision", foreign.Name)
	awaitBaseline(t, b, "Ready=False/NameCollision", "Stalled=True/NameCollision", "Reconciling")
	if err := exactly(t, namespace, foreign, wantDNS(b.Name), second); err != nil {
		t.Error(err)
	}
	if now := get(t, namespace, foreign.Name); now.UID != foreign.UID || now.ResourceVersion != foreign.ResourceVersion {
		t.Error("the foreign object was written to")
	}
	if text := message(c.Status.Conditions, "Ready"); !strings.Contains(text, foreign.Name) || !strings.Contains(text, second.Name) {
		t.Errorf("the message does not name both objects: %s", text)
	}

	recorder := record(t, namespace)
	if err := env.client.Delete(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, holds("Ready=True/NamespaceProtected", "Stalled"))
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected", "Stalled")
	if got := order(recorder.noGap(t), watch.Deleted); !slices.Equal(got, []string{foreign.Name, second.Name}) {
		t.Errorf("deleted: %v", got)
	}
}

func TestTwoTakenNamesAreReported(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := createNamespace(t, "")
	for _, name := range []string{denyName(b.Name), secondName(b.Name)} {
		create(t, foreignPolicy(namespace, name))
	}
	setLabel(t, namespace, groupLabel, b.Name)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageFailing, holds(
		"Ready=False/NameCollision", "Stalled=True/NameCollision", "DefaultDenyEffective=False/NameCollision"))
	awaitBaseline(t, b, "Ready=False/NameCollision", "Stalled=True/NameCollision")
}

func TestTheAPIServersAddressesAreAllowedAndFollowed(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone
		b.Spec.Allow.KubeAPIServer = []pcinetv1alpha1.KubeAPIServerAllowance{{
			Name: "controllers", PodSelector: &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{"role": "controller"}},
		}}
	})
	namespace := protected(t, b)
	own := apiServerPort(t)
	want := ours(b.Name, allowName(b.Name, "kube-apiserver-controllers"), networkingv1.NetworkPolicySpec{
		PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"role": "controller"}},
		PolicyTypes: []networkingv1.PolicyType{egress},
		Egress:      []networkingv1.NetworkPolicyEgressRule{addressRule(tcp(own), "198.18.0.1/32")},
	})
	if err := exactly(t, namespace, wantDeny(b.Name), want); err != nil {
		t.Fatal(err)
	}
	recorder := record(t, namespace)
	create(t, endpointSlice("default", "kubernetes", "198.18.0.2", 6443))
	wider := want.DeepCopy()
	wider.Spec.Egress = append(wider.Spec.Egress, addressRule(tcp(6443), "198.18.0.2/32"))
	awaitExactly(t, namespace, wantDeny(b.Name), wider)
	recorder.noGap(t)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	if err := noEvent(t, namespace, "PolicyRepaired"); err != nil {
		t.Errorf("following the cluster is no repair: %v", err)
	}
}
