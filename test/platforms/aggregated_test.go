// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package platforms_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const aggregatedFixture = "calico-operator-aggregated"

func stored(kind string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: storedGroup, Version: "v3", Kind: kind}
}

// aggregate loads a platform on which a server of its own serves Calico's API, and waits until that answers.
func aggregate(t *testing.T) {
	t.Helper()
	define(t, stored("NetworkPolicy"), "networkpolicies", "Namespaced")
	define(t, stored("StagedNetworkPolicy"), "stagednetworkpolicies", "Namespaced")
	define(t, stored("GlobalNetworkPolicy"), "globalnetworkpolicies", "Cluster")
	// Calico's own storage, by which it shows that it has staged policies.
	define(t, schema.GroupVersionKind{Group: "crd.projectcalico.org", Version: "v1", Kind: "StagedNetworkPolicy"}, "stagednetworkpolicies", "Namespaced")
	load(t, aggregatedFixture)
	available(t, "True")
}

// available waits until the API server says of the extension whether it answers.
func available(t *testing.T, want string) {
	t.Helper()
	service := find(t, aggregatedFixture, "APIService", "v3.projectcalico.org")
	eventually.That(t, "the APIService has Available="+want, func() error {
		live := like(service)
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(service), live); err != nil {
			return err
		}
		conditions, _, err := unstructured.NestedSlice(live.Object, "status", "conditions")
		for _, c := range conditions {
			if m, ok := c.(map[string]any); ok && m["type"] == "Available" && m["status"] == want {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("conditions %v", conditions))
	})
}

// denyOf returns the deny of a baseline, to be read, without content.
func denyOf(kind schema.GroupVersionKind, namespace string, b *pcinetv1alpha1.PCINetworkBaseline) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kind)
	o.SetNamespace(namespace)
	o.SetName("pcinb-" + b.Name + "-default-deny")
	return o
}

func TestCalicoIsWrittenThroughItsOwnServer(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	aggregate(t)
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces", "Stalled", "Reconciling")
	namespace := tenantOf(t, b)
	awaitPolicies(t, namespace, b, calicoKind)
	if b.Status.Backend != pcinetv1alpha1.BackendCalico {
		t.Errorf("Auto chose %s", b.Status.Backend)
	}
	deny := denyOf(calicoKind, namespace, b)
	if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(deny), deny); err != nil {
		t.Fatal(err)
	}
	if deny.GetGeneration() != 0 || deny.GetResourceVersion() == "" {
		t.Errorf("the server is not like Calico's: %v", deny.Object["metadata"])
	}

	wrote := func(want ...string) {
		t.Helper()
		time.Sleep(3 * time.Second) // so that what is written again and again shows
		if diff := cmp.Diff(want, env.extension.written(namespace)); diff != "" {
			t.Errorf("writes (-want +got):\n%s", diff)
		}
	}
	wrote("POST")
	change(t, deny, []any{map[string]any{"action": "Allow"}}, "spec", "ingress")
	restored(t, deny)
	if err := env.client.Delete(t.Context(), denyOf(calicoKind, namespace, b)); err != nil {
		t.Fatal(err)
	}
	restored(t, deny)
	wrote("POST", "PUT", "POST", "POST") // with the second repair comes a second copy

	change(t, asUnstructured(b), string(pcinetv1alpha1.EnforcementAudit), "spec", "enforcement")
	eventually.That(t, "an Audit is previewed", func() error {
		if got := policies(t, namespace, stagedKind); len(got) != 1 {
			return fmt.Errorf("staged policies %v", got)
		}
		return nil
	})
	awaitPolicies(t, namespace, b, calicoKind) // what was enforced stays
}

func asUnstructured(b *pcinetv1alpha1.PCINetworkBaseline) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(pcinetv1alpha1.GroupVersion.WithKind("PCINetworkBaseline"))
	o.SetName(b.Name)
	return o
}

// What a server that is down does not answer is not known, and nothing is written elsewhere in its place.
func TestAServerThatIsDownIsNotTakenForAbsent(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	aggregate(t)
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces")
	kept := tenantOf(t, b)
	lost := addTenant(t, b.Name)
	awaitPolicies(t, kept, b, calicoKind)
	awaitPolicies(t, lost, b, calicoKind)
	recorded := recordDenies(t, kept, coreKind, stored("NetworkPolicy"))

	env.extension.turn(t, down)
	fresh := addTenant(t, b.Name)
	if err := env.client.Delete(t.Context(), denyOf(stored("NetworkPolicy"), lost, b)); err != nil {
		t.Fatal(err)
	}
	elsewhere := func(during time.Duration) {
		t.Helper()
		for end := time.Now().Add(during); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			await(t, b)
			got := slices.Concat(policies(t, kept, coreKind), policies(t, lost, coreKind), policies(t, fresh, coreKind))
			if b.Status.Backend != pcinetv1alpha1.BackendCalico || len(got) > 0 {
				t.Fatalf("backend %s, policies of other APIs %v", b.Status.Backend, got)
			}
		}
	}
	elsewhere(2 * time.Second) // the API server has not noticed yet
	change(t, find(t, aggregatedFixture, "APIService", "v3.projectcalico.org"), "now", "metadata", "annotations", "example.com/look")
	available(t, "False")
	elsewhere(3 * time.Second)
	await(t, b, "Ready=False/WriteFailed", "Stalled", "PolicyEngineSupported=True/PolicyEngineEnforces")

	env.extension.turn(t, serving)
	available(t, "True")
	for _, namespace := range []string{kept, lost, fresh} {
		awaitPolicies(t, namespace, b, calicoKind)
	}
	await(t, b, "Ready=True/AllNamespacesProtected", "Stalled", "Reconciling")
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	if len(recorded.events) != 1 {
		t.Errorf("the deny that nobody had touched was written: %v", recorded.events)
	}
}

// An API server that has just started refuses writes for a while, with the code of what only a human can change.
func TestAServerThatSettlesIsNotTakenForARefusal(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	aggregate(t)
	env.extension.turn(t, settling)
	launch(t)
	b := protect(t)
	await(t, b, "Ready=False/WriteFailed", "Stalled")
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		await(t, b)
		ready := apimeta.FindStatusCondition(b.Status.Conditions, pcinetv1alpha1.ConditionReady)
		if apimeta.FindStatusCondition(b.Status.Conditions, pcinetv1alpha1.ConditionStalled) != nil || ready.Reason != pcinetv1alpha1.ReasonWriteFailed {
			t.Fatalf("conditions %+v", b.Status.Conditions)
		}
	}
	env.extension.turn(t, serving)
	soon(t, b, "a server that has settled", "Ready=True/AllNamespacesProtected", "Stalled", "Reconciling")
	namespace := tenantOf(t, b)
	awaitPolicies(t, namespace, b, calicoKind)
	// A first write that came late is no repair: the first real one is not taken for the second, which is what begins a fight.
	deny := denyOf(calicoKind, namespace, b)
	if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(deny), deny); err != nil {
		t.Fatal(err)
	}
	change(t, deny, []any{map[string]any{"action": "Allow"}}, "spec", "ingress")
	restored(t, deny)
	if diff := cmp.Diff([]string{"POST", "PUT"}, env.extension.written(namespace)); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

// After a restart during an outage nothing shows what protects in the API that does not answer: the core one protects until it
// does, and nothing of the other is lost.
func TestARestartWhileAServerIsDown(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	aggregate(t)
	stop := launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces")
	kept := tenantOf(t, b)
	awaitPolicies(t, kept, b, calicoKind)
	recorded := recordDenies(t, kept, stored("NetworkPolicy"))
	stop()
	env.extension.turn(t, down)
	launch(t)
	fresh := addTenant(t, b.Name)
	eventually.That(t, "the core API protects "+fresh, func() error {
		if got := policies(t, fresh, coreKind); len(got) != 1 {
			return fmt.Errorf("policies %v", got)
		}
		return nil
	})
	env.extension.turn(t, serving)
	for _, namespace := range []string{kept, fresh} {
		awaitPolicies(t, namespace, b, calicoKind)
	}
	await(t, b, "Ready=True/AllNamespacesProtected", "Stalled", "Reconciling")
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	if len(recorded.events) != 1 {
		t.Errorf("the deny that nobody had touched was written: %v", recorded.events)
	}
}
