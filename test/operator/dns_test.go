// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// The DNS is everybody's, so no test here is parallel.

// withoutDNS takes the cluster's DNS away until the test ends.
func withoutDNS(t *testing.T) {
	t.Helper()
	for _, object := range kubeDNS() {
		if err := env.client.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { restoreDNS(t) })
}

// restoreDNS brings back what is missing of it.
func restoreDNS(t *testing.T) {
	t.Helper()
	for _, object := range kubeDNS() {
		if err := env.client.Create(contextOf(t), object); client.IgnoreAlreadyExists(err) != nil {
			t.Error(err)
		}
	}
}

func TestWithoutDNSNamespacesAreDeniedAndItIsSaid(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	before := protected(t, b)
	withoutDNS(t)
	awaitCoverage(t, before, b, pcinetv1alpha1.CoveragePending, omits("dns")) // the operator has seen it go
	namespace := createNamespace(t, b.Name)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoveragePending,
		holds("Ready=False/DNSNotFound", "Reconciling=True/Progressing", "Stalled", "DefaultDenyEffective=True/NothingWidens"), omits("dns"))
	if err := exactly(t, namespace, wantDeny(b.Name)); err != nil {
		t.Error(err)
	}
	awaitBaseline(t, b, "Ready=False/DNSNotFound", "DefaultDenyInPlace=False/DNSNotFound", "Stalled")
	awaitEvent(t, metav1.NamespaceDefault, b.Name, "DNSNotFound", "DNS")
	recorder := record(t, namespace)

	restoreDNS(t)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, omits())
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	recorder.noGap(t)
}

// The Service's target ports have names, so without endpoints the port of its pods is not known.
func TestAnAllowanceForDNSOutlivesItsEndpoints(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	recorder := record(t, namespace)
	t.Cleanup(func() { restoreDNS(t) })
	if err := env.client.Delete(t.Context(), kubeDNS()[1]); err != nil {
		t.Fatal(err)
	}
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoveragePending, holds("Ready=False/DNSNotFound"), omits("dns"))
	restoreDNS(t)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, omits())
	if events := recorder.noGap(t); len(events) > 0 {
		t.Errorf("policies were written to: %v", events)
	}
	if err := exactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name)); err != nil {
		t.Error(err)
	}
}

func TestOpenShiftsDNSIsAllowedOnItsPodsPort(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	for _, object := range openShiftDNS() {
		if err := env.client.Create(t.Context(), object); client.IgnoreAlreadyExists(err) != nil {
			t.Fatal(err)
		}
		if _, isNamespace := object.(*corev1.Namespace); !isNamespace { // a deleted namespace could not be made anew at once
			deleteAtEnd(t, object)
		}
	}
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name,
		podRule("openshift-dns", map[string]string{"dns.operator.openshift.io/daemonset-dns": "default"}, 5353)))
	if err := noEvent(t, namespace, "PolicyRepaired"); err != nil {
		t.Errorf("following the cluster is no repair: %v", err)
	}
}

func TestANodeLocalCacheIsAllowedByItsAddresses(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	cache := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: uniqueName("node-local-dns"), Labels: map[string]string{"k8s-app": "node-local-dns"}},
		Spec: corev1.PodSpec{
			HostNetwork: true,
			Containers: []corev1.Container{{
				Name: "node-cache", Image: "node-cache", Args: []string{"-localip", "169.254.20.10,198.19.0.10", "-conf", "/etc/Corefile"},
			}},
		},
	}
	eventually.That(t, "a pod can be created", func() error { // its service account may be seconds away
		return env.client.Create(t.Context(), cache)
	})
	deleteAtEnd(t, cache)
	ports := wantDNS(b.Name).Spec.Egress[0].Ports
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name, addressRule(ports, "169.254.20.10/32", "198.19.0.10/32")))
	if err := env.client.Delete(t.Context(), cache, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
}

// A rollout replaces the DNS servers' pods, and with them the addresses in their EndpointSlice.
func TestARolloutOfTheDNSServersWritesNothing(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	protected(t, b)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	env.audit.idle(t, env.operator)
	since := env.audit.mark(t)
	slice := &discoveryv1.EndpointSlice{ObjectMeta: kubeDNS()[1].(*discoveryv1.EndpointSlice).ObjectMeta}
	for _, address := range []string{"10.244.0.3", "10.244.0.4", "10.244.0.2"} {
		modify(t, slice, func() { slice.Endpoints[0].Addresses = []string{address} })
	}
	env.audit.idle(t, env.operator)
	if writes := env.audit.writes(t, env.operator, since); len(writes) > 0 {
		t.Errorf("the operator wrote: %v", writes)
	}
}

// omits checks which allowances a coverage says were left out, for awaitCoverage.
func omits(names ...string) func(*pcinetv1alpha1.NamespaceCoverage) error {
	return func(c *pcinetv1alpha1.NamespaceCoverage) error {
		if len(c.Status.Omitted) != len(names) {
			return fmt.Errorf("omitted are %v", c.Status.Omitted)
		}
		for i, name := range names {
			if o := c.Status.Omitted[i]; o.Name != name || o.Message == "" || o.Reason == "" {
				return errors.New("omitted is " + fmt.Sprint(o))
			}
		}
		return nil
	}
}
