// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

func exemption(namespace string, expiresAt time.Time) pcinetv1alpha1.Exemption {
	return pcinetv1alpha1.Exemption{
		Namespaces: []pcinetv1alpha1.NamespaceName{pcinetv1alpha1.NamespaceName(namespace)},
		Reason:     "The nightly batch uses dynamic ports", ApprovedBy: "ciso@example.com", Ticket: "RISK-311",
		ExpiresAt: metav1.NewTime(expiresAt),
	}
}

func TestAnExemptNamespaceHasNoPoliciesUntilTheExemptionEnds(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace, other := protected(t, b), protected(t, b)
	recorder := record(t, namespace)

	expiry := time.Now().Truncate(time.Second).Add(5 * time.Second)
	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Exemptions = []pcinetv1alpha1.Exemption{exemption(namespace, expiry)}
	})
	c := awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageExempt, holds("Ready=False/Exempt", "DefaultDenyInPlace", "Reconciling", "Stalled"))
	if c.Status.Exemption.Ticket != "RISK-311" || !strings.Contains(message(c.Status.Conditions, "Ready"), "ciso@example.com") {
		t.Errorf("the coverage does not tell of the exemption: %v", c.Status)
	}
	if err := exactly(t, namespace); err != nil {
		t.Error(err)
	}
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected", "ExemptionsCurrent=True/ExemptionExpiring")
	if got := *b.Status.Namespaces; *got.Exempt != 1 || *got.Selected != 1 || b.Status.Covered != "1/1" {
		t.Errorf("%d exempt, %d selected, covered %s", *got.Exempt, *got.Selected, b.Status.Covered)
	}
	awaitEvent(t, namespace, b.Name, "Exempt", namespace)
	if time.Now().After(expiry) {
		t.Fatal("the machine is too slow for this test")
	}

	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected", "ExemptionsCurrent=False/ExemptionExpired", "Compliant=False/RequirementsNotMet")
	awaitEvent(t, namespace, b.Name, "ExemptionExpired", namespace)
	awaitEvent(t, metav1.NamespaceDefault, b.Name, "ExemptionExpired", namespace)
	for _, e := range recorder.all(t) {
		if e.kind == watch.Added && e.policy.Name == denyName(b.Name) {
			if late := e.at.Sub(expiry); late < 0 || late > time.Second {
				t.Errorf("denied again %s after the exemption ended", late)
			}
		}
	}
	awaitCoverage(t, other, b, pcinetv1alpha1.CoverageProtected)
}

func TestAnExemptionIsJudgedByItsEnd(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ends  time.Duration
		state pcinetv1alpha1.CoverageState
		want  expected
	}{
		"ended long ago":  {-day, pcinetv1alpha1.CoverageProtected, "ExemptionsCurrent=False/ExemptionExpired"},
		"ends in 13 days": {13 * day, pcinetv1alpha1.CoverageExempt, "ExemptionsCurrent=True/ExemptionExpiring"},
		"ends in 15 days": {15 * day, pcinetv1alpha1.CoverageExempt, "ExemptionsCurrent=True/ExemptionsValid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			group := uniqueName("base")
			namespace := createNamespace(t, group)
			recorder := record(t, namespace)
			b := newBaseline(group)
			b.Spec.Exemptions = []pcinetv1alpha1.Exemption{exemption(namespace, time.Now().Add(c.ends))}
			create(t, b)
			awaitCoverage(t, namespace, b, c.state)
			awaitBaseline(t, b, c.want)
			wrote := len(recorder.all(t)) > 0
			if exempt := c.state == pcinetv1alpha1.CoverageExempt; exempt == wrote {
				t.Errorf("exempt: %t, written to: %t", exempt, wrote)
			}
		})
	}
}

func TestAuditWritesNothingAndSaysWhatItWould(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit })
	namespace := createNamespace(t, b.Name)
	c := awaitCoverage(t, namespace, b, pcinetv1alpha1.CoveragePending, holds(
		"Ready=False/AuditMode", "DefaultDenyInPlace=False/PoliciesMissing", "Reconciling", "Stalled"))
	if err := exactly(t, namespace); err != nil {
		t.Error(err)
	}
	for _, p := range c.Status.Policies {
		if p.State != pcinetv1alpha1.PolicyMissing {
			t.Errorf("%s is %s", p.Name, p.State)
		}
	}
	if len(c.Status.Policies) != 2 {
		t.Errorf("policies: %v", c.Status.Policies)
	}
	awaitBaseline(t, b, "Ready=False/AuditMode", "DefaultDenyInPlace=False/PoliciesMissing", "Reconciling", "Stalled")
	if text := message(b.Status.Conditions, "Ready"); !strings.Contains(text, "1 of 1") {
		t.Errorf("Ready does not say how many namespaces Enforce would change: %s", text)
	}
	awaitEvent(t, metav1.NamespaceDefault, b.Name, "AuditMode") // perhaps of the moment before there was a namespace

	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Enforcement = pcinetv1alpha1.EnforcementEnforce })
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
}

func TestASwitchToAuditKeepsThePoliciesAndRepairsNothing(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace, untouched := protected(t, b), protected(t, b)
	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit })
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, holds("Ready=False/AuditMode", "DefaultDenyInPlace=True/NamespaceProtected"))
	awaitBaseline(t, b, "Ready=False/AuditMode")
	recorder := record(t, untouched)

	if err := env.client.Delete(t.Context(), get(t, namespace, denyName(b.Name))); err != nil {
		t.Fatal(err)
	}
	dns := get(t, namespace, allowName(b.Name, "dns"))
	modify(t, dns, func() { dns.Spec.Egress = append(dns.Spec.Egress, addressRule(nil, "0.0.0.0/0")) })
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoveragePending, holds("Ready=False/AuditMode"), func(c *pcinetv1alpha1.NamespaceCoverage) error {
		states := map[string]pcinetv1alpha1.PolicyState{}
		for _, p := range c.Status.Policies {
			states[p.Name] = p.State
		}
		if states[denyName(b.Name)] != pcinetv1alpha1.PolicyMissing || states[allowName(b.Name, "dns")] != pcinetv1alpha1.PolicyDrifted {
			return fmt.Errorf("policies are %v", states)
		}
		return nil
	})
	awaitBaseline(t, b, "Ready=False/AuditMode", "DefaultDenyInPlace=False/PoliciesMissing")
	if live := policiesIn(t, namespace); len(live) != 1 || len(live[dns.Name].Spec.Egress) != 2 {
		t.Errorf("Audit wrote: %v", namesOf(live))
	}

	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Enforcement = pcinetv1alpha1.EnforcementEnforce })
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
	if events := recorder.noGap(t); len(events) > 0 {
		t.Errorf("policies that were right were written to: %v", events)
	}
}
