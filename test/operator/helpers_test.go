// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const (
	// groupLabel on a namespace says which baseline of these tests it is for.
	groupLabel = "example.com/group"
	// mallory is the field manager of whoever tampers.
	mallory = client.FieldOwner("mallory")
)

var names atomic.Int64

// uniqueName returns a name that no other test of the package has.
func uniqueName(prefix string) string { return fmt.Sprintf("%s-%d", prefix, names.Add(1)) }

// create creates an object that goes with the test.
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
		if err := client.IgnoreNotFound(env.client.Delete(contextOf(t), object)); err != nil {
			t.Error(err)
		}
	})
}

// contextOf returns a context for cleanups, in which t.Context is over.
func contextOf(t *testing.T) context.Context {
	t.Helper()
	return context.WithoutCancel(t.Context())
}

// createNamespace creates a namespace of a group ("" for none) and returns its name.
func createNamespace(t *testing.T, group string) string {
	t.Helper()
	return createNamed(t, uniqueName("tenant"), group)
}

func createNamed(t *testing.T, name, group string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if group != "" {
		namespace.Labels = map[string]string{groupLabel: group}
	}
	create(t, namespace)
	return name
}

// newBaseline returns a baseline for a group of the same name.
//
// Nothing is refused for it: these tests are about repair, and about what happens when nobody stops mallory. test/admission is
// about the rest.
func newBaseline(name string) *pcinetv1alpha1.PCINetworkBaseline {
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.Spec.Admission = pcinetv1alpha1.Admission{PodGate: pcinetv1alpha1.AdmissionOff, TamperGuard: pcinetv1alpha1.AdmissionOff}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{groupLabel: pcinetv1alpha1.LabelValue(name)}}
	return b
}

// createBaseline creates a baseline for a group of its own; change, if not nil, changes it first.
func createBaseline(t *testing.T, change func(*pcinetv1alpha1.PCINetworkBaseline)) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	b := newBaseline(uniqueName("base"))
	if change != nil {
		change(b)
	}
	create(t, b)
	return b
}

// changeBaseline changes the live baseline, and b with it.
func changeBaseline(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, change func(*pcinetv1alpha1.PCINetworkBaseline)) {
	t.Helper()
	modify(t, b, func() { change(b) })
}

// modify reads an object, changes and writes it back as mallory, until nobody was faster.
func modify(t *testing.T, object client.Object, change func()) {
	t.Helper()
	eventually.That(t, "an update succeeds", func() error {
		if err := env.client.Get(t.Context(), keyOf(object), object); err != nil {
			return err
		}
		change()
		return env.client.Update(t.Context(), object, mallory)
	})
}

// setLabel sets a label of a namespace; "" removes it.
func setLabel(t *testing.T, namespace, key, value string) {
	t.Helper()
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	modify(t, object, func() {
		metav1.SetMetaDataLabel(&object.ObjectMeta, key, value)
		if value == "" {
			delete(object.Labels, key)
		}
	})
}

// touch makes the operator look at a namespace now.
func touch(t *testing.T, namespace string) {
	t.Helper()
	setLabel(t, namespace, "example.com/touched", uniqueName("touch"))
}

func policiesIn(t *testing.T, namespace string) map[string]*networkingv1.NetworkPolicy {
	t.Helper()
	var list networkingv1.NetworkPolicyList
	if err := env.client.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	out := map[string]*networkingv1.NetworkPolicy{}
	for i := range list.Items {
		out[list.Items[i].Name] = &list.Items[i]
	}
	return out
}

func namesOf(policies map[string]*networkingv1.NetworkPolicy) []string {
	return slices.Sorted(maps.Keys(policies))
}

// version returns a resourceVersion as the number that it is on a real API server.
func version(object client.Object) int64 {
	v, err := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err)
	}
	return v
}

// coverageOf returns the coverage of a namespace, or an error.
func coverageOf(t *testing.T, namespace, baseline string) (*pcinetv1alpha1.NamespaceCoverage, error) {
	t.Helper()
	c := &pcinetv1alpha1.NamespaceCoverage{}
	err := env.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: baseline}, c)
	return c, err
}

// awaitCoverage waits for a coverage of the baseline's present generation in a state, and for what else must hold.
func awaitCoverage(t *testing.T, namespace string, b *pcinetv1alpha1.PCINetworkBaseline, state pcinetv1alpha1.CoverageState,
	also ...func(*pcinetv1alpha1.NamespaceCoverage) error,
) *pcinetv1alpha1.NamespaceCoverage {
	t.Helper()
	var c *pcinetv1alpha1.NamespaceCoverage
	eventually.That(t, fmt.Sprintf("namespace %s is %s for baseline %s", namespace, state, b.Name), func() error {
		var err error
		if c, err = coverageOf(t, namespace, b.Name); err != nil {
			return err
		}
		if c.Status.State != state || c.Status.BaselineGeneration != b.Generation {
			return fmt.Errorf("it is %s as of generation %d, not %d: %v", c.Status.State, c.Status.BaselineGeneration, b.Generation, c.Status.Conditions)
		}
		for _, f := range also {
			if err := f(c); err != nil {
				return err
			}
		}
		return nil
	})
	return c
}

// awaitNoCoverage waits until a namespace has no coverage of a baseline.
func awaitNoCoverage(t *testing.T, namespace, baseline string) {
	t.Helper()
	eventually.That(t, "the coverage of "+namespace+" is gone", func() error {
		_, err := coverageOf(t, namespace, baseline)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
}

// protected creates a namespace of the baseline's group and waits until it is protected.
func protected(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) string {
	t.Helper()
	namespace := createNamespace(t, b.Name)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	return namespace
}

// expected is a condition as it should be: "Ready=False/AuditMode". Without "=" the condition must be absent.
type expected string

func (e expected) check(conditions []metav1.Condition) error {
	kind, want, present := strings.Cut(string(e), "=")
	c := apimeta.FindStatusCondition(conditions, kind)
	switch {
	case c == nil && present:
		return fmt.Errorf("condition %s is absent", kind)
	case c == nil:
		return nil
	}
	if got := string(c.Status) + "/" + c.Reason; got != want {
		return fmt.Errorf("condition %s is %q (%s), want %q", kind, got, c.Message, want)
	}
	return nil
}

// holds checks conditions of a coverage, for awaitCoverage.
func holds(want ...expected) func(*pcinetv1alpha1.NamespaceCoverage) error {
	return func(c *pcinetv1alpha1.NamespaceCoverage) error {
		var errs []error
		for _, w := range want {
			errs = append(errs, w.check(c.Status.Conditions))
		}
		return errors.Join(errs...)
	}
}

// awaitBaseline waits until the status is about the present generation and the conditions are as expected.
func awaitBaseline(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, want ...expected) {
	t.Helper()
	eventually.That(t, fmt.Sprintf("baseline %s is %v", b.Name, want), func() error {
		if err := env.client.Get(t.Context(), keyOf(b), b); err != nil {
			return err
		}
		if b.Status.ObservedGeneration != b.Generation {
			return fmt.Errorf("generation %d was observed, not %d", b.Status.ObservedGeneration, b.Generation)
		}
		for _, w := range want {
			if err := w.check(b.Status.Conditions); err != nil {
				return err
			}
		}
		return nil
	})
}

// message returns the message of a condition.
func message(conditions []metav1.Condition, kind string) string {
	if c := apimeta.FindStatusCondition(conditions, kind); c != nil {
		return c.Message
	}
	return ""
}

// awaitEvent waits for an event about an object. Events about a baseline are in namespace default.
func awaitEvent(t *testing.T, namespace, about, reason string, contains ...string) {
	t.Helper()
	eventually.That(t, "there is an event "+reason+" about "+about, func() error {
		var list eventsv1.EventList
		if err := env.client.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
			return err
		}
		var seen []string
		for i := range list.Items {
			e := &list.Items[i]
			if e.Regarding.Name != about {
				continue
			}
			seen = append(seen, e.Reason+": "+e.Note)
			if e.Reason == reason && !slices.ContainsFunc(contains, func(s string) bool { return !strings.Contains(e.Note, s) }) {
				return nil
			}
		}
		return fmt.Errorf("there are %q, none with %q", seen, contains)
	})
}

func keyOf(object client.Object) client.ObjectKey { return client.ObjectKeyFromObject(object) }

// noEvent returns an error if a namespace has events with a reason.
func noEvent(t *testing.T, namespace, reason string) error {
	t.Helper()
	var list eventsv1.EventList
	if err := env.client.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range list.Items {
		if e := &list.Items[i]; e.Reason == reason {
			return fmt.Errorf("event %s about %s: %s", e.Reason, e.Regarding.Name, e.Note)
		}
	}
	return nil
}
