// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

func TestAChangedBaselineNeverLeavesANamespaceWithoutItsDeny(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Allow.Rules = []pcinetv1alpha1.AllowRule{rule("gateway")}
	})
	namespace := protected(t, b)
	recording := record(t, namespace)
	changes := map[string]func(*pcinetv1alpha1.PCINetworkBaselineSpec){
		"a rule renamed": func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Allow.Rules[0].Name = "acquirer" },
		"a rule added":   func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Allow.Rules = append(s.Allow.Rules, rule("more")) },
		"rules removed":  func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Allow.Rules = nil },
		"DNS taken away": func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone },
		"DNS given back": func(s *pcinetv1alpha1.PCINetworkBaselineSpec) { s.Allow.DNS = pcinetv1alpha1.DNSAllowanceClusterDNS },
		"a rule once more": func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
			s.Allow.Rules = []pcinetv1alpha1.AllowRule{rule("last")}
		},
	}
	for _, name := range []string{"a rule renamed", "a rule added", "rules removed", "DNS taken away", "DNS given back", "a rule once more"} {
		changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { changes[name](&b.Spec) })
		awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	}
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name), wantRule(b.Name, "last"))
	recording.noGap(t)
}

func TestATakenNameIsNeitherOverwrittenNorAHole(t *testing.T) {
	t.Parallel()
	b := newBaseline(uniqueName("base"))
	namespace := createNamespace(t, b.Name)
	foreign := foreignPolicy(namespace, denyName(b.Name))
	if err := env.client.Create(t.Context(), foreign, mallory); err != nil {
		t.Fatal(err)
	}
	create(t, b)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageFailing, holds("Ready=False/NameCollision", "Stalled=True/NameCollision"))
	awaitBaseline(t, b, "Ready=False/NameCollision", "Stalled=True/NameCollision")
	second := wantDeny(b.Name)
	second.Name = "pcinb2-" + b.Name + "-default-deny"
	if err := exactly(t, namespace, foreign, second, wantDNS(b.Name)); err != nil {
		t.Error(err)
	}

	recording := record(t, namespace)
	if err := env.client.Delete(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
	recording.noGap(t)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected", "Stalled")
}

func TestAnExemptionEndsByItself(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	protected(t, b)
	expiry := time.Now().Add(5 * time.Second).Truncate(time.Second)
	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Exemptions = []pcinetv1alpha1.Exemption{{
			Namespaces: []pcinetv1alpha1.NamespaceName{pcinetv1alpha1.NamespaceName(namespace)},
			Reason:     "Migration", ApprovedBy: "ciso@example.com", ExpiresAt: metav1.NewTime(expiry),
		}}
	})
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageExempt, holds("Ready=False/Exempt"))
	awaitExactly(t, namespace)
	awaitBaseline(t, b, "ExemptionsCurrent=True/ExemptionExpiring")

	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	if time.Now().Before(expiry) {
		t.Error("the namespace was denied before the exemption expired")
	}
	for name, p := range policiesIn(t, namespace) {
		if late := p.CreationTimestamp.Sub(expiry); late > 2*time.Second {
			t.Errorf("%s was written %s after the exemption expired", name, late)
		}
	}
	awaitBaseline(t, b, "ExemptionsCurrent=False/ExemptionExpired", "Ready=True/AllNamespacesProtected")
	awaitEvent(t, namespace, b.Name, "ExemptionExpired")
}

func TestAuditWritesNothingAndSaysWhatItWouldDo(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit
	})
	namespace := createNamespace(t, b.Name)
	coverage := awaitCoverage(t, namespace, b, pcinetv1alpha1.CoveragePending, holds("Ready=False/AuditMode", "Reconciling", "DefaultDenyInPlace=False/PoliciesMissing"))
	for _, p := range coverage.Status.Policies {
		if p.State != pcinetv1alpha1.PolicyMissing {
			t.Errorf("%s is %s, want Missing", p.Name, p.State)
		}
	}
	awaitBaseline(t, b, "Ready=False/AuditMode", "DefaultDenyInPlace=False/PoliciesMissing")
	awaitExactly(t, namespace)

	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Enforcement = pcinetv1alpha1.EnforcementEnforce })
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit })
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, holds("Ready=False/AuditMode"))
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))

	if err := env.client.Delete(t.Context(), policiesIn(t, namespace)[denyName(b.Name)]); err != nil {
		t.Fatal(err)
	}
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoveragePending)
	if err := exactly(t, namespace, wantDNS(b.Name)); err != nil {
		t.Error("Audit has written:", err)
	}
	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Enforcement = pcinetv1alpha1.EnforcementEnforce })
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
}

func TestADeletedBaselineRetainsOrRemovesWhatIsItsOwn(t *testing.T) {
	t.Parallel()
	for _, policy := range []pcinetv1alpha1.DeletionPolicy{pcinetv1alpha1.DeletionPolicyRetain, pcinetv1alpha1.DeletionPolicyDelete} {
		t.Run(string(policy), func(t *testing.T) {
			t.Parallel()
			b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.DeletionPolicy = policy })
			namespace := protected(t, b)
			foreign := foreignPolicy(namespace, "pcinb-"+b.Name+"-mine")
			create(t, foreign)
			awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
			if held := len(b.Finalizers) > 0; held != (policy == pcinetv1alpha1.DeletionPolicyDelete) {
				t.Errorf("finalizers are %v", b.Finalizers)
			}
			recording := record(t, namespace)
			if err := env.client.Delete(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			awaitNoCoverage(t, namespace, b.Name)
			if policy == pcinetv1alpha1.DeletionPolicyRetain {
				recording.noGap(t)
				awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name), foreign)
				return
			}
			awaitExactly(t, namespace, foreign)
			gone := order(recording.all(t), "DELETED")
			if want := []string{denyName(b.Name), allowName(b.Name, "dns")}; fmt.Sprint(gone) != fmt.Sprint(want) {
				t.Errorf("deleted %v, want %v: allowances last", gone, want)
			}
			eventually(t, "the baseline is gone", func() error {
				if err := env.client.Get(t.Context(), keyOf(b), b); client.IgnoreNotFound(err) != nil || err == nil {
					return fmt.Errorf("it is there, finalizers %v: %w", b.Finalizers, err)
				}
				return nil
			})
		})
	}
}

func TestARefusedPolicyIsReportedAndOthersGoOn(t *testing.T) {
	t.Parallel()
	b := newBaseline(uniqueName("base"))
	full := createNamespace(t, b.Name)
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: full, Name: "none"}}
	quota.Spec.Hard = corev1.ResourceList{"count/networkpolicies.networking.k8s.io": resource.MustParse("0")}
	create(t, quota)
	eventually(t, "the quota is in force", func() error {
		err := env.client.Create(t.Context(), foreignPolicy(full, "probe"), client.DryRunAll)
		if err == nil {
			return fmt.Errorf("a policy is accepted")
		}
		return nil
	})
	create(t, b)
	awaitCoverage(t, full, b, pcinetv1alpha1.CoverageFailing, holds("Ready=False/QuotaExceeded", "Stalled=True/QuotaExceeded"))
	awaitEvent(t, full, b.Name, "QuotaExceeded")
	protected(t, b)
	awaitBaseline(t, b, "Ready=False/QuotaExceeded", "Stalled=True/QuotaExceeded", "DefaultDenyInPlace=False/QuotaExceeded")
	modify(t, quota, func() {
		quota.Spec.Hard = corev1.ResourceList{"count/networkpolicies.networking.k8s.io": resource.MustParse("9")}
	})
	eventually(t, "the quota is raised", func() error {
		return env.client.Create(t.Context(), foreignPolicy(full, "probe"), client.DryRunAll)
	})
	touch(t, full)
	awaitCoverage(t, full, b, pcinetv1alpha1.CoverageProtected)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected", "Stalled")
}

func TestATerminatingNamespaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	holder := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "holder", Finalizers: []string{"example.com/hold"}}}
	if err := env.client.Create(t.Context(), holder); err != nil {
		t.Fatal(err)
	}
	since := env.audit.mark(t)
	if err := env.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the namespace controller has removed the policies", func() error {
		if live := policiesIn(t, namespace); len(live) > 0 {
			return fmt.Errorf("there are %v", namesOf(live))
		}
		return nil
	})
	touch(t, namespace)
	time.Sleep(time.Second)
	for _, w := range env.audit.writes(t, env.operator, since) {
		if w.ObjectRef.Namespace == namespace {
			t.Errorf("the operator wrote into a terminating namespace: %s", w)
		}
	}
	modify(t, holder, func() { holder.Finalizers = nil })
	eventually(t, "a namespace of the same name can be made", func() error {
		return env.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{groupLabel: b.Name}}})
	})
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
}

// The DNS is everybody's, so no other test may run.
func TestDNSOnAnotherPortIsAllowedAsSoonAsItIsThere(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	for _, object := range openShiftDNS() {
		create(t, object)
	}
	eventually(t, "port 5353 is allowed", func() error {
		for _, r := range policiesIn(t, namespace)[allowName(b.Name, "dns")].Spec.Egress {
			if fmt.Sprint(r.Ports[0].Port) == fmt.Sprint(new(intstr.FromInt32(5353))) && r.To[0].NamespaceSelector.MatchLabels[corev1.LabelMetadataName] == "openshift-dns" {
				return nil
			}
		}
		return fmt.Errorf("it is not")
	})
	recording := record(t, namespace)
	dns := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-dns"}}
	other := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "openshift-dns", Name: "dns-default"}}
	for _, s := range []*corev1.Service{other, dns} {
		if err := env.client.Delete(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoveragePending, holds("Ready=False/DNSNotFound"))
	awaitBaseline(t, b, "Ready=False/DNSNotFound", "Stalled", "Reconciling=True/Progressing")
	if _, there := policiesIn(t, namespace)[allowName(b.Name, "dns")]; !there {
		t.Error("the allowance went with the Service")
	}
	late := createNamespace(t, b.Name)
	awaitExactly(t, late, wantDeny(b.Name))
	if err := env.client.Create(t.Context(), kubeDNS()[0]); err != nil {
		t.Fatal(err)
	}
	awaitExactly(t, late, wantDeny(b.Name), wantDNS(b.Name))
	recording.noGap(t)
}
