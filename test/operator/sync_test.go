// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const gitManager = "argocd-controller"

// oddlySpelled has no list in alphabetical order, and a time that Go would write in another way.
const oddlySpelled = `
apiVersion: pcinetwork.dev/v1alpha1
kind: PCINetworkBaseline
spec:
  directions: [Egress, Ingress]
  namespaces: {exclude: [zoo, bar]}
  allow:
    kubeAPIServer:
      - {name: operators, podSelector: {}}
      - {name: monitoring, podSelector: {}}
    rules:
      - name: gateway
        justification: Card network gateway, contract 4711
        direction: Egress
        peers: [{cidr: 203.0.113.0/24, except: [203.0.113.9/32, 203.0.113.8/32]}, {cidr: 198.51.100.0/24}]
        ports: [{protocol: UDP, port: 443}, {protocol: TCP, port: 443}]
  exemptions:
    - namespaces: [legacy-shop, legacy-billing]
      reason: Their appliance answers on random ports
      approvedBy: ciso@example.com
      expiresAt: "2098-06-30T23:00:00.000+02:00"
`

// TestGitFindsNoDifferenceWhenTheOperatorHasWorked applies as Argo CD does: server-side, by force, and asks a dry run for
// differences. The operator writes a status, a finalizer and nothing else of a baseline.
func TestGitFindsNoDifferenceWhenTheOperatorHasWorked(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob(filepath.Join(repoRoot, "config", "samples", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	manifests := map[string]string{"oddly spelled": oddlySpelled}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		manifests[filepath.Base(path)] = string(data)
	}
	delete(manifests, "kustomization.yaml")
	for name, manifest := range manifests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			object := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(manifest), &object.Object); err != nil {
				t.Fatal(err)
			}
			b := newBaseline(uniqueName("base"))
			object.SetName(b.Name)
			err := errors.Join(
				unstructured.SetNestedStringMap(object.Object, map[string]string{groupLabel: b.Name}, "spec", "namespaces", "selector", "matchLabels"),
				unstructured.SetNestedField(object.Object, string(pcinetv1alpha1.DeletionPolicyDelete), "spec", "deletionPolicy"),
			)
			if err != nil {
				t.Fatal(err)
			}
			createNamespace(t, b.Name)
			gitSync(t, object)
			deleteAtEnd(t, b)
			eventually.That(t, "the operator has worked", func() error {
				awaitBaseline(t, b, "Reconciling", "Stalled")
				if len(b.Finalizers) == 0 || b.Status.Covered == "0/0" {
					return fmt.Errorf("finalizers are %v, covered %s", b.Finalizers, b.Status.Covered)
				}
				return nil
			})

			before := concernOfGit(t, object)
			if diff := cmp.Diff(before, withoutStatus(gitSync(t, object, client.DryRunAll))); diff != "" {
				t.Errorf("OutOfSync (-held +after the next sync):\n%s", diff)
			}
			gitSync(t, object)
			after := concernOfGit(t, object)
			if diff := cmp.Diff(before, after); diff != "" || after.GetGeneration() != 1 {
				t.Errorf("after the next sync, generation %d (-before +after):\n%s", after.GetGeneration(), diff)
			}
		})
	}
}

// gitSync applies a manifest as Argo CD does and returns the result.
func gitSync(t *testing.T, manifest *unstructured.Unstructured, options ...client.ApplyOption) *unstructured.Unstructured {
	t.Helper()
	result := manifest.DeepCopy()
	options = append(options, client.FieldOwner(gitManager), client.ForceOwnership)
	if err := env.client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(result), options...); err != nil {
		t.Fatal(err)
	}
	return result
}

// concernOfGit reads the object without its status, which the operator may write at any time.
func concernOfGit(t *testing.T, manifest *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	held := manifest.DeepCopy()
	if err := env.client.Get(t.Context(), keyOf(manifest), held); err != nil {
		t.Fatal(err)
	}
	return withoutStatus(held)
}

// withoutStatus drops the status, and of the managed fields all but those that Git has, whose time tells of a write.
func withoutStatus(object *unstructured.Unstructured) *unstructured.Unstructured {
	delete(object.Object, "status")
	object.SetResourceVersion("")
	object.SetManagedFields(slices.DeleteFunc(object.GetManagedFields(), func(e metav1.ManagedFieldsEntry) bool { return e.Manager != gitManager }))
	return object
}
