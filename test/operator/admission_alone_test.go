// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// Every test here stops the shared operator or changes what all namespaces share, so none is parallel.

func TestPodsWaitForACoverageThatSomebodyDeleted(t *testing.T) { //nolint:paralleltest // see above
	alone(t)
	o := launch(t, operatorOptions{})
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionEnforce))
	namespace := protected(t, b)
	awaitServiceAccount(t, namespace)
	coverage := &pcinetv1alpha1.NamespaceCoverage{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: b.Name}}
	eventually.That(t, "the guard keeps the coverage", func() error {
		return refusedBy(env.client.Delete(t.Context(), coverage, client.DryRunAll), "pcinb-tamper-guard", "namespacecoverages "+namespace+"/"+b.Name)
	})
	admitted(t, namespace)
	changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Annotations = map[string]string{pcinetv1alpha1.AnnotationBreakGlass: time.Now().Add(time.Minute).UTC().Format(time.RFC3339) + " CHG-1"}
	})
	eventually.That(t, "the glass is broken", func() error { return env.client.Delete(t.Context(), coverage, client.DryRunAll) })
	crash(t, o)
	if err := env.client.Delete(t.Context(), coverage); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "a pod is refused for want of the coverage", func() error {
		return refusedBy(tryPod(t, namespace, ""), "pcinb-pod-gate", "no params found", "pcinb-"+b.Name+"-pod-gate")
	})
	get(t, namespace, denyName(b.Name)) // it is there
	launch(t, operatorOptions{})
	admitted(t, namespace)
	if _, err := coverageOf(t, namespace, b.Name); err != nil {
		t.Error(err)
	}
}

func TestPoliciesOfAdmissionAreRepaired(t *testing.T) { //nolint:paralleltest // see above
	for _, name := range []string{"pcinb-pod-gate", "pcinb-tamper-guard", "pcinb-own-limits"} { //nolint:paralleltest // see above
		t.Run(name, func(t *testing.T) {
			policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
			checked := func() error {
				if err := env.client.Get(t.Context(), keyOf(policy), policy); err != nil {
					return err
				}
				if policy.Status.ObservedGeneration != policy.Generation || policy.Status.TypeChecking == nil {
					return errors.New("the API server has not checked its types")
				}
				return nil
			}
			eventually.That(t, "its types are checked", checked)
			for _, w := range policy.Status.TypeChecking.ExpressionWarnings {
				t.Errorf("%s: %s", w.FieldRef, w.Warning)
			}
			want := policy.Spec.DeepCopy()
			restored := func(what string) {
				t.Helper()
				eventually.That(t, what+" is repaired", func() error {
					if err := env.client.Get(t.Context(), keyOf(policy), policy); err != nil {
						return err
					}
					if diff := cmp.Diff(want, &policy.Spec); diff != "" {
						return fmt.Errorf("it differs (-want +got):\n%s", diff)
					}
					return nil
				})
			}
			for what, change := range map[string]func(){
				"a failure that is ignored": func() { policy.Spec.FailurePolicy = new(admissionregistrationv1.Ignore) },
				"a validation that passes":  func() { policy.Spec.Validations[0].Expression = "true" },
				"a condition that is never met": func() {
					policy.Spec.MatchConditions = append(policy.Spec.MatchConditions, admissionregistrationv1.MatchCondition{Name: "never", Expression: "false"})
				},
				"resources that are not matched": func() {
					policy.Spec.MatchConstraints.ExcludeResourceRules = policy.Spec.MatchConstraints.ResourceRules
				},
			} {
				modify(t, policy, change)
				restored(what)
			}
			if err := env.client.Delete(t.Context(), policy); err != nil {
				t.Fatal(err)
			}
			restored("a deletion")
		})
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "pcinb-own-limits"}}
	if err := env.client.Delete(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "the binding of the own limits is back", func() error { return env.client.Get(t.Context(), keyOf(binding), binding) })
}

// An API server that is behind has the coverage of an earlier namespace of the name.
func TestTheCoverageOfAnotherNamespaceAdmitsNothing(t *testing.T) { //nolint:paralleltest // see above
	alone(t)
	o := launch(t, operatorOptions{})
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionOff))
	namespace := protected(t, b)
	awaitServiceAccount(t, namespace)
	held(t, unprotectable(t, b))
	admitted(t, namespace)
	crash(t, o)
	coverage, err := coverageOf(t, namespace, b.Name)
	if err != nil {
		t.Fatal(err)
	}
	of := coverage.Status.NamespaceUID
	modify(t, coverage, func() { coverage.Status.NamespaceUID = "of-an-earlier-one" })
	held(t, namespace)
	modify(t, coverage, func() { coverage.Status.NamespaceUID = of })
	admitted(t, namespace)
}

// Under another name than the guard lets pass the operator denies and repairs, and does not shut itself out.
func TestAnOperatorUnderAnotherNameIsNotShutOut(t *testing.T) { //nolint:paralleltest // see above
	alone(t)
	o := launch(t, operatorOptions{administrator: "renamed"})
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionEnforce))
	namespace := protected(t, b)
	awaitBaseline(t, b, "Ready=False/AdmissionNotInPlace", "DefaultDenyInPlace=True/AllNamespacesProtected")
	want := "Objects of admission are not written: they would shut out the operator, which is renamed. Run it as " + operatorUser + "."
	if got := message(b.Status.Conditions, pcinetv1alpha1.ConditionReady); got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	awaitEvent(t, "default", b.Name, pcinetv1alpha1.ReasonAdmissionNotInPlace, "renamed")
	if err := env.client.Delete(t.Context(), get(t, namespace, denyName(b.Name))); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "the deny is back", func() error {
		return env.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: denyName(b.Name)}, &networkingv1.NetworkPolicy{})
	})
	bindings := func() error {
		var errs []error
		for _, name := range []string{"pcinb-" + b.Name + "-pod-gate", "pcinb-" + b.Name + "-tamper-guard"} {
			errs = append(errs, env.client.Get(t.Context(), client.ObjectKey{Name: name}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}))
		}
		return errors.Join(errs...)
	}
	if err := bindings(); !apierrors.IsNotFound(err) {
		t.Errorf("a binding is there: %v", err)
	}
	crash(t, o)
	launch(t, operatorOptions{})
	eventually.That(t, "the bindings are there", bindings)
}

// The guard goes down and comes back while the operator does not run, so that the deny has an owner. Then the owner goes.
func TestTheGarbageCollectorIsRefused(t *testing.T) { //nolint:paralleltest // see above
	alone(t)
	o := launch(t, operatorOptions{})
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionOff, pcinetv1alpha1.AdmissionEnforce))
	namespace := protected(t, b)
	tryDelete := func() error {
		return env.client.Delete(t.Context(), get(t, namespace, denyName(b.Name)), client.DryRunAll)
	}
	up := func() error { return refusedBy(tryDelete(), "pcinb-tamper-guard") }
	eventually.That(t, "the guard is up", up)
	crash(t, o)
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "pcinb-" + b.Name + "-tamper-guard"}}
	if err := errors.Join(env.client.Get(t.Context(), keyOf(binding), binding), env.client.Delete(t.Context(), binding)); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "the guard is down", tryDelete)
	owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "owner"}}
	create(t, owner)
	references := []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
	foreign := foreignPolicy(namespace, "theirs")
	foreign.OwnerReferences = references
	create(t, foreign)
	deny := get(t, namespace, denyName(b.Name))
	modify(t, deny, func() { deny.OwnerReferences = references })
	binding.ResourceVersion = ""
	create(t, binding)
	eventually.That(t, "the guard is up again", up)

	since := env.audit.mark(t)
	if err := env.client.Delete(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "the garbage collector takes what is not guarded", func() error {
		err := env.client.Get(t.Context(), keyOf(foreign), foreign)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
	eventually.That(t, "the garbage collector is refused", func() error {
		var seen []string
		for _, r := range env.audit.requests(t, since) {
			if r.Verb == "delete" && r.ObjectRef.Name == deny.Name && strings.Contains(r.UserAgent, "generic-garbage-collector") {
				seen = append(seen, r.String())
				if r.ResponseStatus.Code == 403 {
					return nil
				}
			}
		}
		return fmt.Errorf("its requests are %v", seen)
	})
	if got := get(t, namespace, denyName(b.Name)); got.UID != deny.UID || got.DeletionTimestamp != nil {
		t.Errorf("the deny was deleted: %v", got.ObjectMeta)
	}
	launch(t, operatorOptions{})
	eventually.That(t, "the deny has no owner", func() error {
		if owners := get(t, namespace, denyName(b.Name)).OwnerReferences; len(owners) > 0 {
			return fmt.Errorf("it has %v", owners)
		}
		return nil
	})
}

// dropKind deletes a CRD, and all objects of it. It is back at the end of the test, if not before.
func dropKind(t *testing.T, plural string) (restore func()) {
	t.Helper()
	restore = func() {
		t.Helper()
		for _, args := range [][]string{
			{"apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "crd")},
			{"wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"},
		} {
			if _, err := env.cluster.Run(contextOf(t), args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(restore)
	if _, err := env.cluster.Run(t.Context(), "delete", "crd", plural+".pcinetwork.dev", "--timeout=30s"); err != nil {
		t.Fatal(err)
	}
	return restore
}

func TestWithoutTheKindOfCoveragesPodsWaitAndDeniesStay(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionEnforce))
	namespace, other := protected(t, b), createNamespace(t, "")
	for _, n := range []string{namespace, other, metav1.NamespaceSystem, operatorNamespace} {
		awaitServiceAccount(t, n)
	}
	admitted(t, namespace)
	uid := get(t, namespace, denyName(b.Name)).UID
	restore := dropKind(t, "namespacecoverages")
	held := func(namespace string) {
		t.Helper()
		eventually.That(t, "a pod in "+namespace+" is refused", func() error {
			err := tryPod(t, namespace, "")
			if err == nil || !strings.Contains(err.Error(), "pcinb-pod-gate") {
				return fmt.Errorf("the answer is %w", err)
			}
			return nil
		})
	}
	held(namespace)
	for _, n := range []string{metav1.NamespaceSystem, operatorNamespace} { // of other namespaces it may know already, or not
		if err := tryPod(t, n, ""); err != nil {
			t.Errorf("%s: %v", n, err)
		}
	}
	if err := env.cluster.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{namespace, other} { // an API server that starts knows nothing of the gate's parameter
		held(n)
	}
	for _, n := range []string{metav1.NamespaceSystem, operatorNamespace} {
		admitted(t, n)
	}
	if got := get(t, namespace, denyName(b.Name)); got.UID != uid {
		t.Error("the deny is another one")
	}
	restore()
	admitted(t, namespace)
	admitted(t, other)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	if got := get(t, namespace, denyName(b.Name)); got.UID != uid {
		t.Error("the deny is another one")
	}
}

func TestWithoutTheKindOfBaselinesDeniesStay(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionEnforce))
	namespace, waiting := protected(t, b), unprotectable(t, b)
	awaitServiceAccount(t, namespace)
	held(t, waiting)
	uid := get(t, namespace, denyName(b.Name)).UID
	restore := dropKind(t, "pcinetworkbaselines")
	admitted(t, waiting) // nobody asks for a gate any more
	admitted(t, namespace)
	if got := get(t, namespace, denyName(b.Name)); got.UID != uid {
		t.Error("the deny is another one")
	}
	restore()
	again := newBaseline(b.Name)
	guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionEnforce)(again)
	eventually.That(t, "the baseline can be created again", func() error { return env.client.Create(t.Context(), again) })
	deleteAtEnd(t, again)
	awaitCoverage(t, namespace, again, pcinetv1alpha1.CoverageProtected)
	held(t, waiting)
	if got := get(t, namespace, denyName(b.Name)); got.UID != uid {
		t.Error("the deny is another one")
	}
}

// withoutRight takes verbs for a resource out of the operator's role, and returns what gives them back.
func withoutRight(t *testing.T, resource string, verbs ...string) (restore func()) {
	t.Helper()
	role := &rbacv1.ClusterRole{}
	if err := env.client.Get(t.Context(), client.ObjectKey{Name: "pci-network-baseline-manager"}, role); err != nil {
		t.Fatal(err)
	}
	before := role.DeepCopy().Rules
	for i := range role.Rules {
		if rule := &role.Rules[i]; slices.Contains(rule.Resources, resource) {
			rule.Verbs = slices.DeleteFunc(rule.Verbs, func(v string) bool { return slices.Contains(verbs, v) })
		}
	}
	role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return len(r.Verbs) == 0 })
	if err := env.client.Update(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	restore = func() {
		t.Helper()
		role.Rules = before
		if err := env.client.Update(contextOf(t), role); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(restore)
	time.Sleep(500 * time.Millisecond) // the authorizer learns of it from a watch
	return restore
}

func TestAMissingRightOfAdmissionIsSaidAndStopsNoDeny(t *testing.T) { //nolint:paralleltest // see above
	reading, writing := []string{"list", "watch"}, []string{"create"}
	for what, c := range map[string]struct { //nolint:paralleltest // see above
		resource string
		verbs    []string
		says     string
	}{
		"to read policies":   {"validatingadmissionpolicies", reading, "validatingadmissionpolicies cannot be read"},
		"to read bindings":   {"validatingadmissionpolicybindings", reading, "validatingadmissionpolicybindings cannot be read"},
		"to create bindings": {"validatingadmissionpolicybindings", writing, " cannot be written"},
	} {
		t.Run(what, func(t *testing.T) {
			alone(t)
			restore := withoutRight(t, c.resource, c.verbs...)
			o := launch(t, operatorOptions{early: []client.Object{
				&admissionregistrationv1.ValidatingAdmissionPolicy{}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{},
			}})
			b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionEnforce))
			protected(t, b)
			awaitBaseline(t, b, "Ready=False/AdmissionNotInPlace")
			for _, words := range []string{c.says, "cannot " + c.verbs[0] + " resource", "config/rbac"} {
				if got := message(b.Status.Conditions, "Ready"); !strings.Contains(got, words) {
					t.Errorf("message %q, want %q in it", got, words)
				}
			}
			select {
			case err := <-o.done:
				t.Fatalf("the operator has ended: %v", err)
			default:
			}
			protected(t, b)
			restore()
			awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
		})
	}
}
