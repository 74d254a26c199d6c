// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package platforms_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

var (
	coreKind   = schema.GroupVersionKind{Group: "networking.k8s.io", Version: "v1", Kind: "NetworkPolicy"}
	ciliumKind = schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumNetworkPolicy"}
	calicoKind = schema.GroupVersionKind{Group: "projectcalico.org", Version: "v3", Kind: "NetworkPolicy"}
	stagedKind = schema.GroupVersionKind{Group: "projectcalico.org", Version: "v3", Kind: "StagedNetworkPolicy"}
	guardKind  = schema.GroupVersionKind{Group: "cilium.io", Version: "v2", Kind: "CiliumClusterwideNetworkPolicy"}
)

// define defines a kind with any fields, as fixtures do with those that detection reads.
func define(t *testing.T, kind schema.GroupVersionKind, plural, scope string) {
	t.Helper()
	status := map[string]any{"status": map[string]any{}}
	place(t, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": plural + "." + kind.Group},
		"spec": map[string]any{
			"group": kind.Group, "scope": scope,
			"names": map[string]any{"kind": kind.Kind, "listKind": kind.Kind + "List", "plural": plural, "singular": strings.ToLower(kind.Kind)},
			"versions": []any{map[string]any{
				"name": kind.Version, "served": true, "storage": true, "subresources": status,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}},
		},
	}})
}

func listOf(kind schema.GroupVersionKind) *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind)
	return list
}

// tenantOf returns the first namespace of a baseline.
func tenantOf(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) string {
	t.Helper()
	var list pcinetv1alpha1.NamespaceCoverageList
	if err := env.client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		if list.Items[i].Name == b.Name {
			return list.Items[i].Namespace
		}
	}
	t.Fatalf("baseline %s covers nothing", b.Name)
	return ""
}

// policies returns the policies of a namespace as "Kind.group/name". A server that is down or just back is none without policies.
func policies(t *testing.T, namespace string, kinds ...schema.GroupVersionKind) []string {
	t.Helper()
	var out []string
	for _, kind := range kinds {
		list := listOf(kind)
		err := env.client.List(t.Context(), list, client.InNamespace(namespace))
		switch {
		case apierrors.IsServiceUnavailable(err):
			out = append(out, err.Error())
		case err != nil && !isNoMatch(err) && !apierrors.IsNotFound(err):
			t.Fatal(err)
		}
		for i := range list.Items {
			out = append(out, kind.GroupKind().String()+"/"+list.Items[i].GetName())
		}
	}
	slices.Sort(out)
	return out
}

// awaitPolicies waits until a namespace has exactly the deny of a baseline, in one API; and a second copy, if the test had it repaired.
func awaitPolicies(t *testing.T, namespace string, b *pcinetv1alpha1.PCINetworkBaseline, want schema.GroupVersionKind) {
	t.Helper()
	eventually.That(t, namespace+" has the deny as "+want.String(), func() error {
		wanted := []string{want.GroupKind().String() + "/pcinb-" + b.Name + "-default-deny"}
		got := slices.DeleteFunc(policies(t, namespace, coreKind, ciliumKind, calicoKind), func(p string) bool {
			return p == want.GroupKind().String()+"/pcinb2-"+b.Name+"-default-deny"
		})
		if diff := cmp.Diff(wanted, got); diff != "" {
			return fmt.Errorf("policies (-want +got):\n%s", diff)
		}
		return nil
	})
}

// denies records, from the watches of several kinds, whether a namespace had a deny at every moment. Events of one watch are in
// order, those of two need not be; their resourceVersions, which are etcd's revisions, tell.
type denies struct {
	mu     sync.Mutex
	events map[uint64]existence
}

type existence struct {
	kind   schema.GroupVersionKind
	exists bool
}

func recordDenies(t *testing.T, namespace string, kinds ...schema.GroupVersionKind) *denies {
	t.Helper()
	d := &denies{events: map[uint64]existence{}}
	for _, kind := range kinds {
		list := listOf(kind)
		if err := env.client.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		for i := range list.Items {
			d.note(t, kind, &list.Items[i], true)
		}
		w, err := env.client.Watch(t.Context(), listOf(kind), client.InNamespace(namespace),
			&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.GetResourceVersion()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		go func() {
			for e := range w.ResultChan() {
				if object, ok := e.Object.(*unstructured.Unstructured); ok {
					d.note(t, kind, object, e.Type != watch.Deleted)
				}
			}
		}()
	}
	return d
}

func (d *denies) note(t *testing.T, kind schema.GroupVersionKind, object *unstructured.Unstructured, exists bool) {
	t.Helper()
	if !strings.HasSuffix(object.GetName(), "-default-deny") {
		return
	}
	var revision uint64
	if _, err := fmt.Sscan(object.GetResourceVersion(), &revision); err != nil {
		t.Error(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events[revision] = existence{kind, exists}
}

// noGap fails the test if there was a moment without any.
func (d *denies) noGap(t *testing.T, atLeast int) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	live := map[schema.GroupVersionKind]bool{}
	for _, revision := range slices.Sorted(maps.Keys(d.events)) {
		e := d.events[revision]
		live[e.kind] = e.exists
		if !live[coreKind] && !live[ciliumKind] && !live[calicoKind] {
			t.Errorf("at revision %d nothing denies: %s was removed", revision, e.kind)
		}
	}
	if len(d.events) < atLeast {
		t.Errorf("%d changes were recorded, want at least %d", len(d.events), atLeast)
	}
}

func TestABackendIsSwitchedWithoutAGap(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=Unknown/NoNodes")
	namespace := tenantOf(t, b)
	awaitPolicies(t, namespace, b, coreKind)

	define(t, ciliumKind, "ciliumnetworkpolicies", "Namespaced")
	recorded := recordDenies(t, namespace, coreKind, ciliumKind)
	load(t, "cilium")
	awaitPolicies(t, namespace, b, ciliumKind)
	soon(t, b, "a switch to Cilium", "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces", "Stalled")
	if b.Status.Backend != pcinetv1alpha1.BackendCilium {
		t.Errorf("status.backend is %s", b.Status.Backend)
	}
	awaitPolicies(t, addTenant(t, b.Name), b, ciliumKind)

	settings := find(t, "cilium", "ConfigMap", "cilium-config")
	change(t, settings, "false", "data", "enable-cilium-network-policy")
	awaitPolicies(t, namespace, b, coreKind)
	change(t, settings, "true", "data", "enable-cilium-network-policy")
	awaitPolicies(t, namespace, b, ciliumKind)
	recorded.noGap(t, 6)
}

func TestWhatKeepsABackendFromWorkingIsSaid(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	define(t, ciliumKind, "ciliumnetworkpolicies", "Namespaced") // with the status, which Cilium writes
	load(t, "cilium")
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected")
	namespace := tenantOf(t, b)
	awaitPolicies(t, namespace, b, ciliumKind)

	ask := func(backend pcinetv1alpha1.Backend) {
		t.Helper()
		eventually.That(t, "spec.backend is "+string(backend), func() error {
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
				return err
			}
			b.Spec.Backend = backend
			return env.client.Update(t.Context(), b)
		})
	}
	ask(pcinetv1alpha1.BackendCalico)
	await(t, b, "Ready=False/BackendNotEnforced", "Stalled=True/BackendNotEnforced", "Reconciling", "DefaultDenyInPlace=True/AllNamespacesProtected")
	awaitPolicies(t, namespace, b, ciliumKind)
	awaitPolicies(t, addTenant(t, b.Name), b, ciliumKind) // what protects others protects a new one too
	ask(pcinetv1alpha1.BackendNetworkPolicy)
	await(t, b, "Ready=True/AllNamespacesProtected", "Stalled")
	awaitPolicies(t, namespace, b, coreKind)
	ask(pcinetv1alpha1.BackendCilium)
	awaitPolicies(t, namespace, b, ciliumKind)

	refused := listOf(ciliumKind)
	if err := env.client.List(t.Context(), refused, client.InNamespace(namespace)); err != nil || len(refused.Items) != 1 {
		t.Fatalf("%d policies, %v", len(refused.Items), err)
	}
	conditions := []any{map[string]any{"type": "Valid", "status": "False", "message": "no such selector"}}
	change(t, &refused.Items[0], conditions, "status", "conditions")
	await(t, b, "Ready=False/PolicyRefused", "Stalled=True/PolicyRefused")
	if o := b.Status.Offenders; len(o) != 1 || !strings.Contains(o[0].Message, "Cilium does not accept it: no such selector") {
		t.Errorf("offenders %+v", o)
	}
	conditions[0].(map[string]any)["status"] = "True"
	change(t, &refused.Items[0], conditions, "status", "conditions")
	await(t, b, "Ready=True/AllNamespacesProtected", "Stalled")
}

// A lost definition takes the policies with it; the core ones take their place at once.
func TestAnAPIThatGoesIsReplaced(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	load(t, "cilium")
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected")
	namespace := tenantOf(t, b)
	awaitPolicies(t, namespace, b, ciliumKind)
	remove(t, find(t, "cilium", "CustomResourceDefinition", "ciliumnetworkpolicies.cilium.io"))
	awaitPolicies(t, namespace, b, coreKind)
	place(t, find(t, "cilium", "CustomResourceDefinition", "ciliumnetworkpolicies.cilium.io"))
	awaitPolicies(t, namespace, b, ciliumKind)

	// What was watched once before is watched again.
	deny := &unstructured.Unstructured{}
	deny.SetGroupVersionKind(ciliumKind)
	if err := env.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "pcinb-" + b.Name + "-default-deny"}, deny); err != nil {
		t.Fatal(err)
	}
	change(t, deny, []any{map[string]any{"fromEntities": []any{"all"}}}, "spec", "ingress")
	restored(t, deny)
	await(t, b, "Ready=True/AllNamespacesProtected")
	began := time.Now()
	awaitPolicies(t, addTenant(t, b.Name), b, ciliumKind)
	if took := time.Since(began); took > noticed {
		t.Errorf("a new namespace took %s", took)
	}
}

func TestARestartInSyncWritesNoPolicyInAnyAPI(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	load(t, "cilium")
	stop := launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected")
	namespace := tenantOf(t, b)
	awaitPolicies(t, namespace, b, ciliumKind)
	recorded := recordDenies(t, namespace, coreKind, ciliumKind)
	stop()
	launch(t)
	awaitPolicies(t, addTenant(t, b.Name), b, ciliumKind) // it works
	recorded.mu.Lock()
	defer recorded.mu.Unlock()
	if len(recorded.events) != 1 {
		t.Errorf("policies were written: %v", recorded.events)
	}
}

func TestAuditIsPreviewedWithStagedPolicies(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	load(t, "calico-operator-native")
	define(t, stagedKind, "stagednetworkpolicies", "Namespaced")
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces")
	namespace := tenantOf(t, b)
	awaitPolicies(t, namespace, b, calicoKind)

	enforce := func(e pcinetv1alpha1.Enforcement) {
		t.Helper()
		eventually.That(t, "enforcement is "+string(e), func() error {
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
				return err
			}
			b.Spec.Enforcement = e
			return env.client.Update(t.Context(), b)
		})
	}
	staged := func(namespace string, want ...string) {
		t.Helper()
		eventually.That(t, fmt.Sprintf("%s has %v", namespace, want), func() error {
			if diff := cmp.Diff(want, policies(t, namespace, stagedKind)); diff != "" {
				return errors.New(diff)
			}
			return nil
		})
	}
	name := "StagedNetworkPolicy.projectcalico.org/pcinb-" + b.Name + "-default-deny"
	enforce(pcinetv1alpha1.EnforcementAudit)
	staged(namespace, name)
	awaitPolicies(t, namespace, b, calicoKind) // what was enforced stays
	fresh := addTenant(t, b.Name)
	staged(fresh, name)
	if got := policies(t, fresh, coreKind, calicoKind); len(got) > 0 {
		t.Errorf("Audit wrote %v", got)
	}
	enforce(pcinetv1alpha1.EnforcementEnforce)
	awaitPolicies(t, fresh, b, calicoKind)
	staged(fresh)
	staged(namespace)
}

func TestTheGuardIsKeptBesideThePolicies(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	load(t, "cilium")
	define(t, guardKind, "ciliumclusterwidenetworkpolicies", "Cluster")
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected")
	layer := func(g pcinetv1alpha1.GuardLayer) {
		t.Helper()
		eventually.That(t, "guardLayer is "+string(g), func() error {
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
				return err
			}
			b.Spec.GuardLayer = g
			return env.client.Update(t.Context(), b)
		})
	}
	guard := func() *unstructured.Unstructured {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(guardKind)
		o.SetName("pcinb-" + b.Name + "-guard")
		return o
	}
	told := func(want pcinetv1alpha1.Guard) {
		t.Helper()
		eventually.That(t, "the status tells of the guard", func() error {
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
				return err
			}
			if diff := cmp.Diff(want, b.Status.Guard); diff != "" {
				return errors.New(diff)
			}
			return nil
		})
	}
	const resource = "ciliumclusterwidenetworkpolicies.cilium.io"
	layer(pcinetv1alpha1.GuardLayerAuto)
	told(pcinetv1alpha1.Guard{
		Resource: resource, State: pcinetv1alpha1.PolicyInPlace,
		Message: "Hosts, pods on their node's network and endpoints without a namespace are outside of it.",
	})
	live := guard()
	if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(live), live); err != nil {
		t.Fatal(err)
	}
	if spec := fmt.Sprint(live.Object["spec"]); !strings.Contains(spec, "kube-system") || !strings.Contains(spec, b.Name) {
		t.Errorf("the guard neither leaves out system namespaces nor selects those of the baseline: %s", spec)
	}

	if err := env.client.Delete(t.Context(), guard()); err != nil {
		t.Fatal(err)
	}
	exists := func() error { return env.client.Get(t.Context(), client.ObjectKeyFromObject(live), guard()) }
	eventually.That(t, "a deleted guard is back", exists)
	change(t, live, map[string]any{"endpointSelector": map[string]any{}}, "spec")
	restored(t, live)

	layer(pcinetv1alpha1.GuardLayerNone)
	eventually.That(t, "the guard is gone", func() error {
		if err := exists(); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
	told(pcinetv1alpha1.Guard{})

	foreign := guard()
	foreign.Object["spec"] = map[string]any{"endpointSelector": map[string]any{}, "ingress": []any{map[string]any{}}}
	if err := env.client.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(env.client.Delete(context.WithoutCancel(t.Context()), guard())); err != nil {
			t.Error(err)
		}
	})
	layer(pcinetv1alpha1.GuardLayerAuto)
	told(pcinetv1alpha1.Guard{
		Resource: resource, State: pcinetv1alpha1.PolicyCollision,
		Message: resource + " " + foreign.GetName() + " is somebody else's. Delete or rename it.",
	})
}

// While Calico's objects are moved, what is written may be lost and has no effect.
func TestNothingIsWrittenWhileCalicoMigrates(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	load(t, "calico-operator-native")
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces")
	namespace := tenantOf(t, b)
	awaitPolicies(t, namespace, b, calicoKind)

	for _, o := range manifests(t, "calico-migrating") {
		if o.GetKind() == "CustomResourceDefinition" && strings.HasPrefix(o.GetName(), "datastoremigrations.") {
			place(t, o)
		}
	}
	var migration *unstructured.Unstructured
	for _, o := range manifests(t, "calico-migrating") {
		if o.GetKind() == "DatastoreMigration" {
			migration = o
			place(t, o)
		}
	}
	soon(t, b, "a migration", "Ready=False/CalicoMigrating", "PolicyEngineSupported=False/CalicoMigrating", "Reconciling=True/Progressing", "Stalled")
	policy := &unstructured.Unstructured{}
	policy.SetGroupVersionKind(calicoKind)
	policy.SetNamespace(namespace)
	policy.SetName("pcinb-" + b.Name + "-default-deny")
	if err := env.client.Delete(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	await(t, b, "Ready=False/PoliciesMissing")
	if got := policies(t, namespace, coreKind, calicoKind); len(got) > 0 {
		t.Errorf("written during the migration: %v", got)
	}
	remove(t, migration)
	awaitPolicies(t, namespace, b, calicoKind)
	await(t, b, "Ready=True/AllNamespacesProtected")
}

// Deletion waits for the guard as it waits for the policies; what a baseline that retains has written stays.
func TestTheGuardGoesWithABaselineThatAsksForIt(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	load(t, "cilium")
	define(t, guardKind, "ciliumclusterwidenetworkpolicies", "Cluster")
	launch(t)
	for _, policy := range []pcinetv1alpha1.DeletionPolicy{pcinetv1alpha1.DeletionPolicyDelete, pcinetv1alpha1.DeletionPolicyRetain} {
		b := protect(t)
		eventually.That(t, "deletionPolicy is "+string(policy), func() error {
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
				return err
			}
			b.Spec.GuardLayer, b.Spec.DeletionPolicy = pcinetv1alpha1.GuardLayerAuto, policy
			return env.client.Update(t.Context(), b)
		})
		guard := &unstructured.Unstructured{}
		guard.SetGroupVersionKind(guardKind)
		guard.SetName("pcinb-" + b.Name + "-guard")
		key := client.ObjectKeyFromObject(guard)
		eventually.That(t, "there is a guard, and the finalizer if wanted", func() error {
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
				return err
			}
			if wanted := policy == pcinetv1alpha1.DeletionPolicyDelete; len(b.Finalizers) > 0 != wanted {
				return fmt.Errorf("finalizers %v", b.Finalizers)
			}
			return env.client.Get(t.Context(), key, guard)
		})
		await(t, b, "Ready=True/AllNamespacesProtected")
		namespace := tenantOf(t, b)
		if err := env.client.Delete(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		eventually.That(t, "the baseline is gone", func() error {
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); !apierrors.IsNotFound(err) {
				return fmt.Errorf("it is there: %w", err)
			}
			return nil
		})
		err := env.client.Get(t.Context(), key, guard)
		left := policies(t, namespace, ciliumKind)
		switch policy {
		case pcinetv1alpha1.DeletionPolicyDelete:
			if !apierrors.IsNotFound(err) || len(left) > 0 {
				t.Errorf("left behind: guard %v, policies %v", err, left)
			}
		case pcinetv1alpha1.DeletionPolicyRetain:
			if err != nil || len(left) != 1 {
				t.Errorf("not retained: guard %v, policies %v", err, left)
			}
		}
	}
}
