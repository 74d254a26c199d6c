// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	jsonyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// gitOps is the field owner of manifests that the tests apply as a user.
const gitOps = client.FieldOwner("gitops")

var names atomic.Int64

// uniqueName returns a name that no other test of the package has.
func uniqueName(prefix string) string { return fmt.Sprintf("%s-%d", prefix, names.Add(1)) }

// createNamespace creates a namespace with labels, which goes when the test
// ends, and returns its name.
func createNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: uniqueName("test"), Labels: labels}}
	create(t, namespace)
	return namespace.Name
}

// create creates object and deletes it when the test ends.
func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := env.client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	deleteAtEnd(t, object)
}

func deleteAtEnd(t *testing.T, object client.Object) {
	t.Helper()
	t.Cleanup(func() {
		//nolint:usetesting // t.Context is already over in a cleanup
		if err := client.IgnoreNotFound(env.client.Delete(context.Background(), object)); err != nil {
			t.Error(err)
		}
	})
}

// parse reads a YAML manifest of our API group; kind is given because most
// manifests here would repeat it.
func parse(t *testing.T, kind, manifest string) *unstructured.Unstructured {
	t.Helper()
	var content map[string]any
	if err := jsonyaml.Unmarshal([]byte(manifest), &content); err != nil {
		t.Fatalf("%v in\n%s", err, manifest)
	}
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(pcinetv1alpha1.GroupVersion.WithKind(kind))
	return object
}

// apply applies a copy of manifest server-side and returns the live object.
func apply(t *testing.T, manifest *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	err := env.client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(manifest.DeepCopy()), gitOps)
	if err != nil {
		t.Fatal(err)
	}
	return live(t, manifest)
}

// live reads object from the API server.
func live(t *testing.T, object *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	got := &unstructured.Unstructured{}
	got.SetGroupVersionKind(object.GroupVersionKind())
	if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(object), got); err != nil {
		t.Fatal(err)
	}
	return got
}

// golden compares got with the file at path, which -update rewrites.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nTo accept: go test ./test/integration -run '^%s$' -update", path, diff, t.Name())
	}
}

// readCRDs decodes the CustomResourceDefinitions in dir.
func readCRDs(dir string) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_*.yaml")) // not the kustomization
	if err != nil {
		return nil, err
	}
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(data, crd); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		crds = append(crds, crd)
	}
	if len(crds) == 0 {
		return nil, fmt.Errorf("no CustomResourceDefinition in %s", dir)
	}
	return crds, nil
}

// applyCRDs applies what is in dir server-side and waits until it is served.
func applyCRDs(ctx context.Context, c client.Client, dir string) error {
	crds, err := readCRDs(dir)
	if err != nil {
		return err
	}
	for _, crd := range crds {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(crd)
		if err != nil {
			return err
		}
		delete(content, "status")
		object := &unstructured.Unstructured{Object: content}
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), gitOps); err != nil {
			return err
		}
	}
	for _, crd := range crds {
		if err := awaitServed(ctx, c, crd); err != nil {
			return err
		}
	}
	return nil
}

// awaitServed lists objects: the condition Established comes a little early.
func awaitServed(ctx context.Context, c client.Client, crd *apiextensionsv1.CustomResourceDefinition) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(pcinetv1alpha1.GroupVersion.WithKind(crd.Spec.Names.ListKind))
		last = c.List(ctx, list)
		return last == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", crd.Name, errors.Join(err, last))
	}
	return nil
}
