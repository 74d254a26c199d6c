// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package platforms_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// manifests reads the objects of a fixture.
func manifests(t *testing.T, name string) []*unstructured.Unstructured {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name, "cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) > 0 {
			out = append(out, object)
		}
	}
}

// load creates the objects of a fixture, and takes them away when the test ends.
func load(t *testing.T, name string) {
	t.Helper()
	for _, object := range manifests(t, name) {
		place(t, object)
	}
}

// place creates an object with its status and takes it away when the test ends.
func place(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	if ns := object.GetNamespace(); ns != "" {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}
		if err := env.client.Create(t.Context(), namespace); client.IgnoreAlreadyExists(err) != nil {
			t.Fatal(err)
		}
	}
	if object.GetKind() == "APIService" {
		if err := unstructured.SetNestedField(object.Object, env.extension.port, "spec", "service", "port"); err != nil {
			t.Fatal(err)
		}
	}
	if object.GetKind() == "Service" { // an ExternalName: the port of the name behind it
		port := []any{map[string]any{"port": env.extension.port, "protocol": "TCP"}}
		if err := unstructured.SetNestedSlice(object.Object, port, "spec", "ports"); err != nil {
			t.Fatal(err)
		}
	}
	status, hasStatus := object.Object["status"]
	eventually.That(t, "created "+object.GetKind()+" "+object.GetName(), func() error {
		fresh := object.DeepCopy()
		err := env.client.Create(t.Context(), fresh) // a kind that was just defined may not be served yet
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	t.Cleanup(func() { remove(t, object) })
	if hasStatus && slices.Contains([]string{"Node", "DaemonSet", "Pod"}, object.GetKind()) {
		eventually.That(t, "status of "+object.GetName(), func() error {
			live := like(object)
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(object), live); err != nil {
				return err
			}
			live.Object["status"] = status
			return env.client.Status().Update(t.Context(), live)
		})
	}
	if object.GetKind() == "CustomResourceDefinition" {
		eventually.That(t, object.GetName()+" is established", func() error {
			live := like(object)
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(object), live); err != nil {
				return err
			}
			conditions, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
			for _, c := range conditions {
				if m, ok := c.(map[string]any); ok && m["type"] == "Established" && m["status"] == "True" {
					return nil
				}
			}
			return errors.New("it is not")
		})
	}
}

func like(object *unstructured.Unstructured) *unstructured.Unstructured {
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(object.GroupVersionKind())
	return live
}

// remove deletes an object and waits until it is gone.
func remove(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	gone := func(err error) bool { return apierrors.IsNotFound(err) || isNoMatch(err) }
	eventually.That(t, object.GetName()+" is gone", func() error {
		err := env.client.Delete(ctx, object.DeepCopy(), client.GracePeriodSeconds(0))
		if err != nil && !gone(err) {
			return err
		}
		err = env.client.Get(ctx, client.ObjectKeyFromObject(object), like(object))
		if gone(err) {
			return nil
		}
		return fmt.Errorf("it is there: %w", err)
	})
}
