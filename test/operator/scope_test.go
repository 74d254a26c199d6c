// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/watch"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

func TestANewNamespaceIsDenied(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := createNamespace(t, b.Name)
	coverage := awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, holds(
		"Ready=True/NamespaceProtected", "DefaultDenyInPlace=True/NamespaceProtected", "DefaultDenyEffective=True/NothingWidens",
		"Contested=False/Uncontested", "Reconciling", "Stalled",
	))
	if err := exactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name)); err != nil {
		t.Error(err)
	}
	live := policiesIn(t, namespace)
	if diff := cmp.Diff([]string{allowName(b.Name, "dns"), denyName(b.Name)}, byVersion(live)); diff != "" {
		t.Errorf("a deny must come after its allowances (-want +written):\n%s", diff)
	}
	want := []pcinetv1alpha1.CoveragePolicy{
		{Name: allowName(b.Name, "dns"), Resource: "networkpolicies.networking.k8s.io", Role: pcinetv1alpha1.RoleAllowance, State: pcinetv1alpha1.PolicyInPlace, UID: string(live[allowName(b.Name, "dns")].UID)},
		{Name: denyName(b.Name), Resource: "networkpolicies.networking.k8s.io", Role: pcinetv1alpha1.RoleDeny, State: pcinetv1alpha1.PolicyInPlace, UID: string(live[denyName(b.Name)].UID)},
	}
	if diff := cmp.Diff(want, coverage.Status.Policies); diff != "" {
		t.Errorf("status.policies (-want +got):\n%s", diff)
	}
	if coverage.Status.Enforcement != pcinetv1alpha1.EnforcementEnforce || coverage.Status.Backend != pcinetv1alpha1.BackendNetworkPolicy {
		t.Errorf("enforcement is %s, backend %s", coverage.Status.Enforcement, coverage.Status.Backend)
	}
}

func TestANamespaceIsCoveredFromTheMomentItsLabelsMatch(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := createNamespace(t, "")
	protected(t, b) // the operator has looked at the other one by now, too
	if live := policiesIn(t, namespace); len(live) > 0 {
		t.Fatalf("a namespace out of scope has %v", namesOf(live))
	}

	setLabel(t, namespace, groupLabel, b.Name)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	before := policiesIn(t, namespace)
	touch(t, namespace)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	if diff := cmp.Diff(before, policiesIn(t, namespace)); diff != "" {
		t.Errorf("another label changed the policies:\n%s", diff)
	}

	recorder := record(t, namespace)
	setLabel(t, namespace, groupLabel, "")
	awaitNoCoverage(t, namespace, b.Name)
	awaitExactly(t, namespace)
	if diff := cmp.Diff([]string{denyName(b.Name), allowName(b.Name, "dns")}, order(recorder.all(t), watch.Deleted)); diff != "" {
		t.Errorf("the deny must go first, or pods lose their DNS (-want +deleted):\n%s", diff)
	}
	awaitEvent(t, namespace, b.Name, "PoliciesRemoved", namespace)
}

func TestANamespaceExcludedByNameIsLeftAlone(t *testing.T) {
	t.Parallel()
	name := uniqueName("base")
	excluded, covered := createNamespace(t, name), createNamespace(t, name)
	b := newBaseline(name)
	b.Spec.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{pcinetv1alpha1.NamespaceName(excluded)}
	create(t, b)
	awaitCoverage(t, covered, b, pcinetv1alpha1.CoverageProtected)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	if b.Status.Covered != "1/1" {
		t.Errorf("covered is %s", b.Status.Covered)
	}
	if err := exactly(t, excluded); err != nil {
		t.Error(err)
	}

	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Namespaces.Exclude = nil })
	awaitCoverage(t, excluded, b, pcinetv1alpha1.CoverageProtected)
	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{pcinetv1alpha1.NamespaceName(excluded)}
	})
	awaitExactly(t, excluded)
	awaitNoCoverage(t, excluded, b.Name)
}

// It covers every namespace there is, so it runs while no other test does.
func TestSystemNamespacesAreLeftAloneAndListed(t *testing.T) { //nolint:paralleltest // see above
	b := newBaseline("everything")
	b.Spec.Namespaces.Selector = nil
	b.Spec.DeletionPolicy = pcinetv1alpha1.DeletionPolicyDelete
	create(t, b)
	for _, namespace := range []string{"default", "kube-public", "kube-node-lease"} {
		awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	}
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	for _, system := range []string{"kube-system", operatorNamespace} {
		if err := exactly(t, system); err != nil {
			t.Error(err)
		}
		if !slices.Contains(b.Status.SystemNamespaces, pcinetv1alpha1.NamespaceName(system)) {
			t.Errorf("status.systemNamespaces lacks %s: %v", system, b.Status.SystemNamespaces)
		}
	}

	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Namespaces.System = pcinetv1alpha1.SystemNamespacesInclude
	})
	awaitCoverage(t, "kube-system", b, pcinetv1alpha1.CoverageProtected)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	if len(b.Status.SystemNamespaces) > 0 {
		t.Errorf("nothing is left out, but status.systemNamespaces is %v", b.Status.SystemNamespaces)
	}

	remove(t, b)
	for _, namespace := range []string{"default", "kube-public", "kube-node-lease", "kube-system", operatorNamespace} {
		if err := exactly(t, namespace); err != nil {
			t.Error(err)
		}
	}
}

func TestBaselinesOfOneNamespaceAddUp(t *testing.T) {
	t.Parallel()
	first := createBaseline(t, nil)
	second := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Namespaces.Selector = newBaseline(first.Name).Spec.Namespaces.Selector
		b.Spec.DeletionPolicy = pcinetv1alpha1.DeletionPolicyDelete
		b.Spec.Allow.Rules = []pcinetv1alpha1.AllowRule{rule("gateway")}
	})
	namespace := protected(t, first)
	awaitCoverage(t, namespace, second, pcinetv1alpha1.CoverageProtected)
	both := []*networkingv1.NetworkPolicy{
		wantDeny(first.Name), wantDNS(first.Name),
		wantDeny(second.Name), wantDNS(second.Name), wantRule(second.Name, "gateway"),
	}
	if err := exactly(t, namespace, both...); err != nil {
		t.Fatal(err)
	}

	recorder := record(t, namespace)
	remove(t, second)
	awaitExactly(t, namespace, wantDeny(first.Name), wantDNS(first.Name))
	awaitNoCoverage(t, namespace, second.Name)
	for _, e := range recorder.noGap(t) {
		if _, mine := map[string]bool{denyName(first.Name): true, allowName(first.Name, "dns"): true}[e.policy.Name]; mine {
			t.Errorf("removing one baseline touched the other's policy: %s", e)
		}
	}
	awaitCoverage(t, namespace, first, pcinetv1alpha1.CoverageProtected)
}

func TestABaselineThatSelectsNothingIsNotReady(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	awaitBaseline(t, b, "Ready=False/NoNamespaceSelected", "DefaultDenyInPlace=Unknown/NoNamespaceSelected", "Reconciling", "Stalled")
	awaitEvent(t, "default", b.Name, "NoNamespaceSelected", b.Name)
}

// remove deletes a baseline, which the operator has seen, and waits until it is gone.
func remove(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	awaitBaseline(t, b)
	if err := env.client.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "baseline "+b.Name+" is gone", func() error { return gone(t, b) })
}

// gone returns an error while a baseline exists.
func gone(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) error {
	t.Helper()
	var list pcinetv1alpha1.PCINetworkBaselineList
	if err := env.client.List(t.Context(), &list); err != nil {
		return err
	}
	for i := range list.Items {
		if list.Items[i].UID == b.UID {
			return fmt.Errorf("it is there: %s", message(list.Items[i].Status.Conditions, "Ready"))
		}
	}
	return nil
}
