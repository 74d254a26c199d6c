// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// refuse refuses an operation on the NetworkPolicies of one namespace, and returns what ends that.
func refuse(t *testing.T, namespace string, operation admissionregistrationv1.OperationType, text string) (end func()) {
	t.Helper()
	return refuseWhere(t, map[string]string{corev1.LabelMetadataName: namespace}, namespace, operation, text)
}

// refuseWhere refuses an operation on the NetworkPolicies of all namespaces with some labels, of which namespace is one.
func refuseWhere(t *testing.T, labels map[string]string, namespace string, operation admissionregistrationv1.OperationType, text string) (end func()) {
	t.Helper()
	name := "refuse-" + namespace
	gate := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: onPolicies(operation)}},
			},
			Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: text, Reason: new(metav1.StatusReasonForbidden)}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        name,
			ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			MatchResources: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: labels},
			},
		},
	}
	create(t, gate)
	create(t, binding)
	refused := func() bool { return attempt(t, namespace, operation) != nil }
	eventually.That(t, "the admission policy is in force", func() error {
		if !refused() {
			return fmt.Errorf("%s is not refused", operation)
		}
		return nil
	})
	return func() {
		t.Helper()
		if err := env.client.Delete(t.Context(), binding); err != nil {
			t.Fatal(err)
		}
		eventually.That(t, "the admission policy is out of force", func() error { return attempt(t, namespace, operation) })
	}
}

// onPolicies is what an admission policy or webhook is asked about.
func onPolicies(operation admissionregistrationv1.OperationType) admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{operation},
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{"networking.k8s.io"}, APIVersions: []string{"v1"}, Resources: []string{"networkpolicies"},
		},
	}
}

// attempt tries an operation on a policy of nobody's. A failed deletion leaves that policy, named probe.
func attempt(t *testing.T, namespace string, operation admissionregistrationv1.OperationType) error {
	t.Helper()
	probe := foreignPolicy(namespace, "probe")
	if operation == admissionregistrationv1.Create {
		return env.client.Create(t.Context(), probe, client.DryRunAll)
	}
	if err := client.IgnoreAlreadyExists(env.client.Create(t.Context(), probe)); err != nil {
		return err
	}
	return env.client.Delete(t.Context(), probe)
}

func TestAnAdmissionPolicyThatRefusesIsReported(t *testing.T) {
	t.Parallel()
	// Words that another kind of refusal uses must not mislead.
	const text = "User \"bob\" cannot write policies here"
	b := createBaseline(t, nil)
	namespace := createNamespace(t, "")
	end := refuse(t, namespace, admissionregistrationv1.Create, text)
	setLabel(t, namespace, groupLabel, b.Name)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageFailing, holds("Ready=False/AdmissionRefused", "Stalled=True/AdmissionRefused", "DefaultDenyInPlace=False/PoliciesMissing"))
	awaitEvent(t, namespace, b.Name, "AdmissionRefused", text)
	protected(t, b) // other namespaces go on
	awaitBaseline(t, b, "Ready=False/AdmissionRefused", "Stalled=True/AdmissionRefused")
	awaitEvent(t, metav1.NamespaceDefault, b.Name, "AdmissionRefused", namespace)
	eventually.That(t, "the baseline counts both namespaces", func() error {
		awaitBaseline(t, b)
		if len(b.Status.Offenders) != 1 || string(b.Status.Offenders[0].Namespace) != namespace || b.Status.Covered != "1/2" {
			return fmt.Errorf("offenders %v, covered %s", b.Status.Offenders, b.Status.Covered)
		}
		return nil
	})
	end()
	touch(t, namespace)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected", "Stalled")
}

func TestAQuotaThatLeavesNoRoomIsReported(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := createNamespace(t, "")
	quota := createQuota(t, namespace, 0)
	setLabel(t, namespace, groupLabel, b.Name)
	c := awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageFailing, holds("Ready=False/QuotaExceeded", "Stalled=True/QuotaExceeded"))
	if text := message(c.Status.Conditions, "Ready"); !strings.Contains(text, "count/networkpolicies.networking.k8s.io") {
		t.Errorf("the message does not say what to raise: %s", text)
	}
	awaitEvent(t, namespace, b.Name, "QuotaExceeded", quota.Name)
	protected(t, b)
	awaitBaseline(t, b, "Ready=False/QuotaExceeded", "Stalled=True/QuotaExceeded")

	setQuota(t, quota, 5)
	touch(t, namespace)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected", "Stalled")
}

func TestARefusedAllowanceOpensNothing(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	recorder := record(t, namespace)
	quota := createQuota(t, namespace, 2)
	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Allow.Rules = []pcinetv1alpha1.AllowRule{rule("gateway")}
		b.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone
	})
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageFailing, holds("Ready=False/QuotaExceeded", "DefaultDenyInPlace=False/PoliciesMissing"))
	if err := exactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name)); err != nil {
		t.Errorf("what cannot be completed must not be begun: %v", err)
	}
	recorder.noGap(t)
	setQuota(t, quota, 3)
	touch(t, namespace)
	awaitExactly(t, namespace, wantDeny(b.Name), wantRule(b.Name, "gateway"))
	recorder.noGap(t)
}

func createQuota(t *testing.T, namespace string, policies int64) *corev1.ResourceQuota {
	t.Helper()
	quota := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "policies"}}
	quota.Spec.Hard = corev1.ResourceList{"count/networkpolicies.networking.k8s.io": *resource.NewQuantity(policies, resource.DecimalSI)}
	create(t, quota)
	awaitQuota(t, quota, policies)
	return quota
}

func setQuota(t *testing.T, quota *corev1.ResourceQuota, policies int64) {
	t.Helper()
	modify(t, quota, func() {
		quota.Spec.Hard = corev1.ResourceList{"count/networkpolicies.networking.k8s.io": *resource.NewQuantity(policies, resource.DecimalSI)}
	})
	awaitQuota(t, quota, policies)
}

// awaitQuota waits until admission enforces what the quota says: it goes by its status.
func awaitQuota(t *testing.T, quota *corev1.ResourceQuota, policies int64) {
	t.Helper()
	eventually.That(t, "the quota is in force", func() error {
		if err := env.client.Get(t.Context(), keyOf(quota), quota); err != nil {
			return err
		}
		hard, ok := quota.Status.Hard["count/networkpolicies.networking.k8s.io"]
		if !ok || hard.Value() != policies || len(quota.Status.Used) == 0 {
			return fmt.Errorf("status is %v", quota.Status)
		}
		err := env.client.Create(t.Context(), foreignPolicy(quota.Namespace, "probe"), client.DryRunAll)
		used := quota.Status.Used["count/networkpolicies.networking.k8s.io"]
		if (err == nil) != (used.Value() < policies) {
			return fmt.Errorf("%d of %d are used, and a creation says %w", used.Value(), policies, err)
		}
		return nil
	})
}

// It takes a right away that every namespace needs, so it runs while no other test does.
func TestAMissingRightIsReported(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	covered, late := protected(t, b), createNamespace(t, "")
	recorder := record(t, covered)
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "pci-network-baseline-manager"}}
	var rules []rbacv1.PolicyRule
	modify(t, role, func() {
		rules = role.DeepCopy().Rules
		for i := range role.Rules {
			if role.Rules[i].Resources[0] == "networkpolicies" {
				role.Rules[i].Verbs = []string{"list", "watch"}
			}
		}
	})
	restore := func() error {
		if err := env.client.Get(contextOf(t), keyOf(role), role); err != nil {
			return err
		}
		role.Rules = rules
		return env.client.Update(contextOf(t), role)
	}
	t.Cleanup(func() {
		if err := restore(); err != nil {
			t.Error(err)
		}
	})
	operatorClient, err := client.New(env.operator.config(), client.Options{Scheme: env.client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	inForce := func() error {
		probe := wantDeny("probe")
		probe.Namespace = late
		return operatorClient.Create(t.Context(), probe, client.DryRunAll)
	}
	eventually.That(t, "the right is gone", func() error {
		if inForce() == nil {
			return fmt.Errorf("it is there")
		}
		return nil
	})

	setLabel(t, late, groupLabel, b.Name)
	c := awaitCoverage(t, late, b, pcinetv1alpha1.CoverageFailing, holds("Ready=False/Forbidden", "Stalled=True/Forbidden"))
	if text := message(c.Status.Conditions, "Ready"); !strings.Contains(text, "ClusterRole") {
		t.Errorf("the message gives no remedy: %s", text)
	}
	awaitEvent(t, late, b.Name, "Forbidden", "networkpolicies")
	awaitBaseline(t, b, "Ready=False/Forbidden", "Stalled=True/Forbidden", "DefaultDenyInPlace=False/Forbidden")
	recorder.noGap(t)

	if err := restore(); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "the right is back", inForce)
	touch(t, late)
	awaitCoverage(t, late, b, pcinetv1alpha1.CoverageProtected)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected", "Stalled")
	if err := exactly(t, covered, set(wantDeny(b.Name), wantDNS(b.Name))...); err != nil {
		t.Error(err)
	}
}
