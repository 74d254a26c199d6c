// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lifecycle_test runs the program that ships while namespaces end and come again, and while its own processes are
// killed. PCINB_FAULTS=full kills them more often.
package lifecycle_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
	"github.com/pcinetwork/pci-network-baseline/test/site"
)

var env site.Site

func TestMain(m *testing.M) { os.Exit(site.Run(m, "../..", &env)) }

// pick returns the first in the full plan, the second in that for every run of the tests.
func pick[T any](full, short T) T {
	if site.Full() {
		return full
	}
	return short
}

// launch starts an operator that ends with the test.
func launch(t *testing.T) *site.Operator {
	t.Helper()
	o, err := env.Launch(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.Kill()
		if t.Failed() {
			t.Logf("end of the operator's log:\n%s", o.Tail())
		}
	})
	return o
}

// dropLease takes the lease from an operator that was killed, so that the next does not wait for it to end.
func dropLease(t *testing.T) {
	t.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: site.Namespace, Name: "pci-network-baseline"}}
	if err := client.IgnoreNotFound(env.Client.Delete(t.Context(), lease)); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, check func() error) {
	t.Helper()
	if _, err := eventually.Within(t.Context(), eventually.Patience, check); err != nil {
		t.Fatal(err)
	}
}

func ready(t *testing.T, o *site.Operator) {
	t.Helper()
	await(t, func() error { return o.Ready(t.Context()) })
}

func rest(t *testing.T) {
	t.Helper()
	if err := env.Rest(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func mark(t *testing.T) int64 {
	t.Helper()
	at, err := env.Audit.Mark(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func protected(t *testing.T, baseline string, namespaces ...string) {
	t.Helper()
	await(t, func() error { return env.Protected(t.Context(), baseline, namespaces...) })
}

// createBaseline creates a baseline, and waits for its gate. It goes, and leaves its policies, when the test ends.
func createBaseline(t *testing.T, name string, tamperGuard pcinetv1alpha1.AdmissionMode) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	b := site.NewBaseline(name)
	b.Spec.Admission.TamperGuard = tamperGuard
	if err := env.Client.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Client.Delete(context.WithoutCancel(t.Context()), b); err != nil {
			t.Error(err)
		}
	})
	await(t, func() error {
		key := client.ObjectKey{Name: "pcinb-" + name + "-pod-gate"}
		return env.Client.Get(t.Context(), key, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{})
	})
	return b
}

// createNamespace creates a namespace, and the account of its pods, for which nobody then has to wait. Of a name that was there before,
// the server refuses accounts for as long as it still sees the namespace that went.
func createNamespace(ctx context.Context, name, baseline string) error {
	if err := env.Client.Create(ctx, site.NewNamespace(name, baseline)); err != nil {
		return err
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "default"}}
	_, err := eventually.Within(ctx, eventually.Patience, func() error { return client.IgnoreAlreadyExists(env.Client.Create(ctx, account.DeepCopy())) })
	return err
}

// createNamespaces creates protected namespaces.
func createNamespaces(t *testing.T, baseline string, count int) []string {
	t.Helper()
	var names []string
	for i := range count {
		names = append(names, fmt.Sprintf("%s-%d", baseline, i))
		if err := createNamespace(t.Context(), names[i], baseline); err != nil {
			t.Fatal(err)
		}
	}
	protected(t, baseline, names...)
	return names
}

func record(t *testing.T) *site.Recorder {
	t.Helper()
	r, err := env.Record(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

func newPod(namespace, name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

func lives(t *testing.T, r *site.Recorder, baseline string) []*site.Life {
	t.Helper()
	all, err := r.Lives(t.Context(), baseline)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func sound(t *testing.T, l *site.Life) {
	t.Helper()
	if err := l.Sound(); err != nil {
		t.Error(err)
	}
}
