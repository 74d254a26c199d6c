// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/site"
)

const slow = "example.com/slow"

// slowPods creates one pod that waits for its finalizer to go, and one that waits for a kubelet, of which there is none.
func slowPods(t *testing.T, namespace string) {
	t.Helper()
	finalized, running := newPod(namespace, "finalized"), newPod(namespace, "running")
	finalized.Finalizers = []string{slow}
	running.Spec.NodeName = "node"
	for _, pod := range []*corev1.Pod{finalized, running} {
		await(t, func() error { return env.Client.Create(t.Context(), pod) })
	}
}

// release lets the slow pods go.
func release(t *testing.T, namespace string) {
	t.Helper()
	if err := env.Client.Delete(t.Context(), newPod(namespace, "running"), client.GracePeriodSeconds(0)); err != nil {
		t.Error(err)
	}
	time.Sleep(500 * time.Millisecond) // in which nothing may happen to the deny
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
	if err := env.Client.Patch(t.Context(), newPod(namespace, "finalized"), patch); err != nil {
		t.Error(err)
	}
}

func remove(t *testing.T, namespaces ...string) {
	t.Helper()
	for _, name := range namespaces {
		if err := env.Client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
}

func gone(t *testing.T, namespaces ...string) {
	t.Helper()
	for _, name := range namespaces {
		await(t, func() error {
			if err := env.Client.Get(t.Context(), client.ObjectKey{Name: name}, &corev1.Namespace{}); !apierrors.IsNotFound(err) {
				return fmt.Errorf("namespace %s is there: %w", name, err)
			}
			return nil
		})
	}
}

// The server removes pods first and policies after them (ordered namespace deletion). The operator is given every reason to
// write meanwhile, and does so in the one namespace that stays.
func TestTerminatingNamespacesAreLeftAlone(t *testing.T) { //nolint:paralleltest // one control plane, and everything is counted
	const baseline = "ending"
	dropLease(t)
	o := launch(t)
	b := createBaseline(t, baseline, pcinetv1alpha1.AdmissionOff) // so that policies can be deleted
	all := createNamespaces(t, baseline, 4)
	stays, ending := all[0], all[1:]
	for _, name := range ending {
		slowPods(t, name)
	}
	await(t, func() error { return o.Leads(t.Context()) }) // or it would not remove anything anyway
	rest(t)
	r, since := record(t), mark(t)
	remove(t, ending...)
	for _, name := range ending {
		await(t, func() error { return terminate(t, name) })
	}

	for _, name := range all {
		policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: site.DNS(baseline)}}
		if err := env.Client.Delete(t.Context(), policy); err != nil {
			t.Fatal(err)
		}
	}
	protected(t, baseline, stays)
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"directions":["Ingress"],"allow":{"dns":"None"}}}`))
	if err := env.Client.Patch(t.Context(), b, patch); err != nil {
		t.Fatal(err)
	}
	await(t, func() error {
		policy := &networkingv1.NetworkPolicy{}
		if err := env.Client.Get(t.Context(), client.ObjectKey{Namespace: stays, Name: site.Deny(baseline)}, policy); err != nil || len(policy.Spec.PolicyTypes) != 1 {
			return fmt.Errorf("the namespace that stays does not follow the baseline: %v, %w", policy.Spec.PolicyTypes, err)
		}
		return nil
	})
	for _, name := range ending { // out of scope: whatever is there would have to go
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{%q:null}}}`, site.Group))
		if err := env.Client.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, patch); err != nil {
			t.Fatal(err)
		}
	}
	rest(t)
	o.Kill()
	ready(t, launch(t))
	rest(t)
	for _, name := range ending {
		release(t, name)
	}
	gone(t, ending...)
	judgeEnding(t, r, since, baseline, ending)
}

// terminate returns an error unless all pods of a namespace have been told to end.
func terminate(t *testing.T, namespace string) error {
	t.Helper()
	var pods corev1.PodList
	if err := env.Client.List(t.Context(), &pods, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range pods.Items {
		if pods.Items[i].DeletionTimestamp == nil {
			return fmt.Errorf("pod %s/%s was not told", namespace, pods.Items[i].Name)
		}
	}
	return nil
}

func judgeEnding(t *testing.T, r *site.Recorder, since int64, baseline string, ending []string) {
	t.Helper()
	requests, err := env.Audit.Mutations(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range requests {
		if slices.Contains(ending, request.Object.Namespace) || slices.Contains(ending, request.Object.Name) {
			t.Errorf("a write to a terminating namespace: %s", request)
		}
	}
	ended := 0
	for _, l := range lives(t, r, baseline) {
		sound(t, l)
		if l.Gone && l.Denies == 1 {
			ended++
		}
	}
	if ended != len(ending) {
		t.Errorf("the end of %d namespaces was recorded, of %d", ended, len(ending))
	}
	t.Logf("| terminating namespaces | %d | 0 writes of %d by the operator meanwhile |", ended, len(requests))
}

// Half of the namespaces are out of scope when they go: what the operator means to remove then has the name of what it must not.
func TestANamespaceOfTheSameNameIsNew(t *testing.T) { //nolint:paralleltest // see above
	const baseline = "again"
	dropLease(t)
	o := launch(t)
	createBaseline(t, baseline, pcinetv1alpha1.AdmissionEnforce)
	names := createNamespaces(t, baseline, pick(60, 20))
	await(t, func() error { return o.Leads(t.Context()) })
	rest(t)
	r, since := record(t), mark(t)
	released := map[string]bool{}
	for i, name := range names {
		if i%2 == 0 {
			released[name] = true
			patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"labels":{%q:null}}}`, site.Group))
			if err := env.Client.Patch(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, patch); err != nil {
				t.Fatal(err)
			}
		}
		remove(t, name)
	}
	for _, name := range names {
		await(t, func() error { return createNamespace(t.Context(), name, baseline) })
	}
	protected(t, baseline, names...)
	rest(t)
	requests, err := env.Audit.Writes(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range requests {
		if request.Verb == "delete" && !released[request.Object.Namespace] {
			t.Errorf("a delete: %s", request)
		}
	}
	all := lives(t, r, baseline)
	anew := 0
	for _, l := range all {
		if l.Gone && released[l.Namespace] { // the operator may have removed the deny in time
			continue
		}
		sound(t, l)
		if !l.Ending && l.Denies == 1 && l.Coverages == 1 {
			anew++
		}
	}
	if anew != len(names) || len(all) != 2*len(names) {
		t.Errorf("%d of %d namespaces have a deny and a coverage of their own, in %d lives", anew, len(names), len(all))
	}
	t.Logf("| namespaces made anew | %d | %d writes |", anew, len(requests))
}
