// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// held waits until pods of a namespace are refused by the gate.
func held(t *testing.T, namespace string) {
	t.Helper()
	eventually.That(t, "a pod in "+namespace+" is refused", func() error { return refusedBy(tryPod(t, namespace, ""), "pcinb-pod-gate", namespace) })
}

// admitted waits until pods of a namespace are let in.
func admitted(t *testing.T, namespace string) {
	t.Helper()
	eventually.That(t, "a pod in "+namespace+" is admitted", func() error { return tryPod(t, namespace, "") })
}

func TestAGateThatWarnsAdmitsAndOneThatIsOffIsSilent(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionOff))
	namespace := unprotectable(t, b)
	held(t, namespace)
	warned := func() (bool, error) {
		c := as(t, "")
		err := c.Create(t.Context(), pod(namespace, ""), client.DryRunAll)
		return strings.Contains(strings.Join(c.texts, "\n"), "its pods wait for it"), err
	}
	changeBaseline(t, b, guarded(pcinetv1alpha1.AdmissionWarn, pcinetv1alpha1.AdmissionOff))
	eventually.That(t, "a pod is admitted with a warning", func() error {
		yes, err := warned()
		if err == nil && !yes {
			return errors.New("there is none")
		}
		return err
	})
	changeBaseline(t, b, guarded(pcinetv1alpha1.AdmissionOff, pcinetv1alpha1.AdmissionOff))
	eventually.That(t, "a pod is admitted without a warning", func() error {
		yes, err := warned()
		if err == nil && yes {
			return errors.New("there is one")
		}
		return err
	})
}

// Each namespace is held at first: only what the case changes lets its pods in. Another one is still held.
func TestTheGateLeavesAlone(t *testing.T) {
	t.Parallel()
	cases := map[string]func(b *pcinetv1alpha1.PCINetworkBaseline, namespace string){
		"an excluded namespace": func(b *pcinetv1alpha1.PCINetworkBaseline, namespace string) {
			b.Spec.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{pcinetv1alpha1.NamespaceName(namespace)}
		},
		"an exempt namespace": func(b *pcinetv1alpha1.PCINetworkBaseline, namespace string) {
			b.Spec.Exemptions = []pcinetv1alpha1.Exemption{exemption(namespace, time.Now().Add(time.Hour))}
		},
		"a namespace of which another label is asked": func(b *pcinetv1alpha1.PCINetworkBaseline, namespace string) {
			b.Spec.Namespaces.Selector.MatchExpressions = []pcinetv1alpha1.LabelSelectorRequirement{{
				Key: corev1.LabelMetadataName, Operator: "NotIn", Values: []pcinetv1alpha1.LabelValue{pcinetv1alpha1.LabelValue(namespace)},
			}}
		},
	}
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionOff))
			namespace, other := unprotectable(t, b), unprotectable(t, b)
			held(t, namespace)
			changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { change(b, namespace) })
			admitted(t, namespace)
			if err := refusedBy(tryPod(t, other, ""), "pcinb-pod-gate", other); err != nil {
				t.Errorf("another namespace: %v", err)
			}
		})
	}
	t.Run("every namespace under Audit", func(t *testing.T) {
		t.Parallel()
		b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionOff))
		namespace := unprotectable(t, b)
		held(t, namespace)
		changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit })
		admitted(t, namespace)
		binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "pcinb-" + b.Name + "-pod-gate"}}
		eventually.That(t, "there is no gate", func() error {
			err := env.client.Get(t.Context(), keyOf(binding), binding)
			if err == nil {
				return errors.New("there is one")
			}
			return client.IgnoreNotFound(err)
		})
	})
}

// The namespaces are everybody's, so it runs while no other test does.
func TestTheGateNeverHoldsASystemNamespace(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionOff)(b)
		b.Spec.Namespaces.System = pcinetv1alpha1.SystemNamespacesInclude
	})
	other := unprotectable(t, b)
	held(t, other)
	for _, system := range []string{metav1.NamespaceSystem, operatorNamespace} {
		awaitServiceAccount(t, system)
		createQuota(t, system, 0)
		setLabel(t, system, groupLabel, b.Name)
		t.Cleanup(func() {
			object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}}
			patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:null}}}`, groupLabel)
			if err := env.client.Patch(contextOf(t), object, client.RawPatch("application/merge-patch+json", patch)); err != nil {
				t.Error(err)
			}
		})
		awaitCoverage(t, system, b, pcinetv1alpha1.CoverageFailing)
		if err := tryPod(t, system, ""); err != nil {
			t.Errorf("%s: %v", system, err)
		}
	}
	held(t, other)
}

func TestTheGateHoldsWhileTheAPIServerRestarts(t *testing.T) { //nolint:paralleltest // it is everybody's API server
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionEnforce))
	good, namespace := protected(t, b), unprotectable(t, b)
	awaitServiceAccount(t, good)
	held(t, namespace)
	if err := env.cluster.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		if err := tryPod(t, namespace, ""); err == nil {
			t.Fatal("a pod was admitted after the start")
		}
		err := env.client.Delete(t.Context(), get(t, good, denyName(b.Name)), client.DryRunAll)
		if err == nil {
			t.Fatal("a deletion was admitted after the start")
		}
	}
	held(t, namespace)
	admitted(t, good)
}
