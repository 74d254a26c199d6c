// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

const (
	// patience is far above what anything here takes, for machines under load.
	patience = 90 * time.Second
	// groupLabel on a namespace says which baseline of these tests it is for.
	groupLabel = "example.com/group"
	// image serves, dials and looks up names.
	image = "nodekit.test/nodekit:v1"
)

var names atomic.Int64

// uniqueName returns a name that no other test has.
func uniqueName(prefix string) string { return fmt.Sprintf("%s-%d", prefix, names.Add(1)) }

// eventually waits until check succeeds.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s until %s: %v", patience, what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// differs returns the difference as an error.
func differs(got, want any) error {
	if diff := cmp.Diff(want, got); diff != "" {
		return errors.New(diff)
	}
	return nil
}

// run runs kubectl, which must succeed.
func run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := kubectl(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// create creates an object that goes with the test.
func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := env.client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(env.client.Delete(context.WithoutCancel(t.Context()), object)); err != nil {
			t.Error(err)
		}
	})
}

// createBaseline creates a baseline for a group of its own; change, if not nil, changes it first.
func createBaseline(t *testing.T, change func(*pcinetv1alpha1.PCINetworkBaseline)) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: uniqueName("base")}}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{groupLabel: pcinetv1alpha1.LabelValue(b.Name)}}
	if change != nil {
		change(b)
	}
	create(t, b)
	return b
}

// createNamespace creates a namespace of a group ("" for none) and returns its name.
func createNamespace(t *testing.T, group string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: uniqueName("tenant")}}
	if group != "" {
		namespace.Labels = map[string]string{groupLabel: group}
	}
	create(t, namespace)
	return namespace.Name
}

// createProtected creates a namespace of a baseline and waits until it is covered.
func createProtected(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) string {
	t.Helper()
	name := createNamespace(t, b.Name)
	awaitProtected(t, name, b)
	return name
}

func awaitProtected(t *testing.T, namespace string, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	eventually(t, "namespace "+namespace+" is protected", func() error {
		c, err := coverageOf(t.Context(), namespace, b)
		if err != nil {
			return err
		}
		if c.Status.State != pcinetv1alpha1.CoverageProtected || c.Status.BaselineGeneration != b.Generation {
			return fmt.Errorf("it is %q as of generation %d", c.Status.State, c.Status.BaselineGeneration)
		}
		return nil
	})
}

func coverageOf(ctx context.Context, namespace string, b *pcinetv1alpha1.PCINetworkBaseline) (*pcinetv1alpha1.NamespaceCoverage, error) {
	c := &pcinetv1alpha1.NamespaceCoverage{}
	err := env.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: b.Name}, c)
	return c, err
}

// podSpec returns the pod of a workload that runs nodekit.
func podSpec(args ...string) corev1.PodSpec {
	return corev1.PodSpec{
		TerminationGracePeriodSeconds: ptr.To[int64](1),
		AutomountServiceAccountToken:  new(false),
		Containers:                    []corev1.Container{{Name: "main", Image: image, ImagePullPolicy: corev1.PullNever, Args: args}},
	}
}

// startServer starts a pod that serves on ports 8080 and 9090, TCP and UDP, and from which to dial.
func startServer(t *testing.T, namespace, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app": name}},
		Spec:       podSpec("serve", "-ports", "8080,9090"),
	}
	for _, c := range change {
		c(pod)
	}
	start(t, pod)
	return pod
}

// start creates a pod and waits until it is Ready.
func start(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	eventually(t, "pod "+pod.Name+" is admitted", func() error { // before, its namespace has no service account, or is not covered
		return env.client.Create(t.Context(), pod)
	})
	eventually(t, "pod "+pod.Name+" is Ready", func() error {
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(pod), pod); err != nil {
			return err
		}
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("phase %s, %+v", pod.Status.Phase, pod.Status.ContainerStatuses)
	})
}

// stopOperator stops the operator until the test ends, or startOperator is called.
func stopOperator(t *testing.T) {
	t.Helper()
	scaleOperator(t.Context(), t, 0)
	t.Cleanup(func() {
		scaleOperator(context.WithoutCancel(t.Context()), t, 2)
	})
}

func startOperator(t *testing.T) {
	t.Helper()
	scaleOperator(t.Context(), t, 2)
}

func scaleOperator(ctx context.Context, t *testing.T, replicas int) {
	t.Helper()
	if _, err := kubectl(ctx, "-n", operatorNamespace, "scale", "deployment", operatorName, fmt.Sprintf("--replicas=%d", replicas)); err != nil {
		t.Fatal(err)
	}
	if replicas > 0 {
		if err := awaitOperator(ctx); err != nil {
			t.Fatal(err)
		}
		return
	}
	eventually(t, "the operator has ended", func() error {
		out, err := kubectl(ctx, "-n", operatorNamespace, "get", "pods", "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("there are %s", out)
		}
		return err
	})
}
