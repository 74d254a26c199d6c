// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	clocktesting "k8s.io/utils/clock/testing"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

func deletionPolicy(p pcinetv1alpha1.DeletionPolicy) func(*pcinetv1alpha1.PCINetworkBaseline) {
	return func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.DeletionPolicy = p }
}

func TestARetainedPolicyOutlivesItsBaseline(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, deletionPolicy(pcinetv1alpha1.DeletionPolicyRetain))
	namespaces := []string{protected(t, b), protected(t, b)}
	recorders := []*recorder{record(t, namespaces[0]), record(t, namespaces[1])}
	remove(t, b)
	for i, namespace := range namespaces {
		awaitNoCoverage(t, namespace, b.Name)
		if events := recorders[i].noGap(t); len(events) > 0 {
			t.Errorf("policies were written to: %v", events)
		}
	}

	again := newBaseline(b.Name)
	create(t, again)
	for i, namespace := range namespaces {
		awaitCoverage(t, namespace, again, pcinetv1alpha1.CoverageProtected)
		if events := recorders[i].noGap(t); len(events) > 0 {
			t.Errorf("a baseline of the same name wrote instead of adopting: %v", events)
		}
	}
}

func TestDeleteRemovesExactlyWhatIsOurs(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, deletionPolicy(pcinetv1alpha1.DeletionPolicyDelete))
	namespace, collided := protected(t, b), createNamespace(t, "")
	foreign := []*networkingv1.NetworkPolicy{
		foreignPolicy(namespace, "tenant"),
		foreignPolicy(namespace, denyName(b.Name)+"-not"),
		foreignPolicy(collided, denyName(b.Name)),
	}
	for _, p := range foreign {
		create(t, p)
	}
	setLabel(t, collided, groupLabel, b.Name)
	awaitCoverage(t, collided, b, pcinetv1alpha1.CoverageFailing)
	awaitBaseline(t, b)
	if len(b.Finalizers) != 1 {
		t.Fatalf("finalizers are %v", b.Finalizers)
	}

	recorder := record(t, namespace)
	remove(t, b)
	if err := exactly(t, namespace, foreign[0], foreign[1]); err != nil {
		t.Error(err)
	}
	if err := exactly(t, collided, foreign[2]); err != nil {
		t.Error(err)
	}
	awaitNoCoverage(t, namespace, b.Name)
	awaitNoCoverage(t, collided, b.Name)
	if got := order(recorder.all(t), watch.Deleted); len(got) != 2 || got[0] != denyName(b.Name) {
		t.Errorf("allowances go last, but deleted were %v", got)
	}
}

func TestTheFinalizerFollowsTheDeletionPolicy(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, deletionPolicy(pcinetv1alpha1.DeletionPolicyDelete))
	finalizers := func(n int) {
		t.Helper()
		eventually.That(t, fmt.Sprintf("baseline %s has %d finalizers", b.Name, n), func() error {
			if err := env.client.Get(t.Context(), keyOf(b), b); err != nil {
				return err
			}
			if len(b.Finalizers) != n {
				return fmt.Errorf("it has %v", b.Finalizers)
			}
			return nil
		})
	}
	finalizers(1)
	changeBaseline(t, b, deletionPolicy(pcinetv1alpha1.DeletionPolicyRetain))
	finalizers(0)
}

func TestDeletionWaitsForANamespaceThatRefuses(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, deletionPolicy(pcinetv1alpha1.DeletionPolicyDelete))
	willing, refusing := protected(t, b), protected(t, b)
	gate := refuse(t, refusing, admissionregistrationv1.Delete, "policies of this namespace are frozen")
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	if err := env.client.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	awaitExactly(t, willing)
	awaitCoverage(t, refusing, bumped(b), pcinetv1alpha1.CoverageFailing, holds("Ready=False/AdmissionRefused", "Stalled=True/AdmissionRefused"))
	awaitEvent(t, refusing, b.Name, "AdmissionRefused", "frozen")
	eventually.That(t, "the baseline says what it waits for", func() error {
		if err := env.client.Get(t.Context(), keyOf(b), b); err != nil {
			return err
		}
		for _, want := range []expected{"Ready=False/Deleting", "Stalled=True/AdmissionRefused"} {
			if err := want.check(b.Status.Conditions); err != nil {
				return err
			}
		}
		if text := message(b.Status.Conditions, "Stalled"); !strings.Contains(text, "frozen") {
			return fmt.Errorf("message: %s", text)
		}
		return nil
	})
	if err := exactly(t, refusing, wantDeny(b.Name), wantDNS(b.Name), foreignPolicy(refusing, "probe")); err != nil {
		t.Error(err)
	}

	gate()
	eventually.That(t, "the baseline is gone", func() error {
		touch(t, refusing) // the operator itself tries again after 30 s
		return gone(t, b)
	})
	if err := exactly(t, refusing); err != nil {
		t.Error(err)
	}
}

// bumped returns the baseline as it is with one more generation: a deletion is one.
func bumped(b *pcinetv1alpha1.PCINetworkBaseline) *pcinetv1alpha1.PCINetworkBaseline {
	next := b.DeepCopy()
	next.Generation++
	return next
}

// The namespace is held by a finalizer of an object in it, as by a volume that does not go.
func TestATerminatingNamespaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	hold := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "hold", Finalizers: []string{"example.com/hold"}}}
	create(t, hold)
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := env.client.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	since := env.audit.mark(t)
	eventually.That(t, "the namespace is empty but for what holds it", func() error {
		if _, err := coverageOf(t, namespace, b.Name); err == nil {
			return fmt.Errorf("the coverage is there")
		}
		return exactly(t, namespace)
	})
	awaitBaseline(t, b, "Ready=False/NoNamespaceSelected") // it no longer counts
	protected(t, b)
	for _, w := range env.audit.writes(t, env.operator, since) {
		if w.ObjectRef.Namespace == namespace && w.ObjectRef.Resource != "events" {
			t.Errorf("the operator writes to a terminating namespace: %s", w)
		}
	}

	modify(t, hold, func() { hold.Finalizers = nil })
	again := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: map[string]string{groupLabel: b.Name}}}
	eventually.That(t, "the namespace is made anew", func() error {
		again.ResourceVersion, again.UID = "", ""
		return env.client.Create(t.Context(), again)
	})
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
}

// Nothing tells when a namespace fails to go, so time does. The clock runs ahead, as if it had been held for long.
func TestANamespaceThatDoesNotGoIsTold(t *testing.T) { //nolint:paralleltest // stops the shared operator
	alone(t)
	b := createBaseline(t, nil)
	stays, goes := createNamespace(t, b.Name), createNamespace(t, b.Name)
	hold := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: goes, Name: "hold", Finalizers: []string{"example.com/hold"}}}
	create(t, hold)
	defer modify(t, hold, func() { hold.Finalizers = nil })
	if err := env.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: goes}}); err != nil {
		t.Fatal(err)
	}
	clock := clocktesting.NewFakePassiveClock(time.Now().Add(6 * time.Minute))
	o := launch(t, operatorOptions{clock: clock})
	awaitCoverage(t, stays, b, pcinetv1alpha1.CoverageProtected)
	awaitBaseline(t, b, "Ready=True/NamespaceTerminating", "Stalled")
	want := []pcinetv1alpha1.Offender{{
		Namespace: pcinetv1alpha1.NamespaceName(goes), State: pcinetv1alpha1.CoverageTerminating, Reason: "NamespaceTerminating",
		Message: "Namespace " + goes + " has been terminating for over 5 minutes and is left alone: kubectl get ns " + goes + " -o yaml.",
	}}
	if diff := cmp.Diff(want, b.Status.Offenders); diff != "" {
		t.Errorf("offenders (-want +got):\n%s", diff)
	}
	if b.Status.Covered != "1/1" {
		t.Errorf("covered %s: a namespace that goes is not in scope", b.Status.Covered)
	}
	awaitEvent(t, metav1.NamespaceDefault, b.Name, "NamespaceTerminating", goes)
	if err := exactly(t, goes); err != nil {
		t.Errorf("the operator writes to a namespace that goes: %v", err)
	}
	crash(t, o)
}
