// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// change changes the live baseline.
func change(t *testing.T, edit func(*pcinetv1alpha1.PCINetworkBaseline)) {
	t.Helper()
	eventually.That(t, "the baseline is changed", func() error {
		b := &pcinetv1alpha1.PCINetworkBaseline{}
		if err := env.client.Get(t.Context(), client.ObjectKey{Name: baselineName}, b); err != nil {
			return err
		}
		edit(b)
		return env.client.Update(t.Context(), b)
	})
}

// remove deletes an object of the canaries' namespace, or of none.
func remove(t *testing.T, object client.Object, name string) {
	t.Helper()
	object.SetName(name)
	if _, ok := object.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding); !ok {
		object.SetNamespace(probe.Namespace)
	}
	if err := env.client.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func deleteNode(t *testing.T, name string) {
	t.Helper()
	if err := env.client.Delete(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		t.Fatal(err)
	}
}

func awaitNode(t *testing.T, name, what string, is func(*corev1.Node) bool) {
	t.Helper()
	eventually.That(t, what, func() error {
		n := &corev1.Node{}
		if err := env.client.Get(t.Context(), client.ObjectKey{Name: name}, n); err != nil || is(n) {
			return err
		}
		return errors.New("not yet")
	})
}

// installAgain makes the canaries' namespace again.
func installAgain(t *testing.T) {
	t.Helper()
	if err := installProbe(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// noCanary returns an error while there are pods in the canaries' namespace.
func noCanary() error {
	var pods corev1.PodList
	if err := env.client.List(context.Background(), &pods, client.InNamespace(probe.Namespace)); err != nil {
		return err
	}
	if len(pods.Items) > 0 {
		return fmt.Errorf("%d canaries are there", len(pods.Items))
	}
	return nil
}

// refuseCanaries has an admission policy of somebody else refuse pods in the canaries' namespace.
func refuseCanaries(t *testing.T) {
	t.Helper()
	create(t, &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "frozen"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			MatchConstraints: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: probe.Namespace}},
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
					Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
					Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"*"}, Resources: []string{"pods"}},
				}}},
			},
			Validations: []admissionregistrationv1.Validation{{Expression: "false", Message: "no pods here"}},
		},
	})
	create(t, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "frozen"},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: "frozen", ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	})
	eventually.That(t, "it refuses", func() error {
		sample := &probe.Sample{Run: "try", Nodes: []string{"n1"}} // of which Pod Security has nothing to say
		pod := sample.Pod(probe.Canary{Node: "n1", Role: probe.Target}, probe.Image{Name: "canary"})
		err := env.client.Create(t.Context(), pod, client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "no pods here") {
			return fmt.Errorf("it does not yet: %w", err)
		}
		return nil
	})
}
