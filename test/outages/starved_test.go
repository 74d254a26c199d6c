// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package outages_test

import (
	"fmt"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
	"github.com/pcinetwork/pci-network-baseline/test/site"
)

// While the policies cannot be watched, more namespaces are made than there are workers. Each waits for the cache to see what was
// written to it; the next ones must not wait for them.
func TestNobodyWaitsForAWatchThatIsDown(t *testing.T) { //nolint:paralleltest // one operator at a time
	p := startProxy(t)
	k := keepOperator(t, p)
	b := site.NewBaseline("blind")
	if err := env.Client.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := env.Client.Create(t.Context(), site.NewNamespace("blind-0", b.Name)); err != nil {
		t.Fatal(err)
	}
	if _, err := eventually.Within(t.Context(), eventually.Patience, func() error { return env.Protected(t.Context(), b.Name, "blind-0") }); err != nil {
		t.Fatal(err)
	}
	if err := env.Rest(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.set(p.blind("networkpolicies"))
	defer p.set(nil)
	p.cut()
	denied := func(name string) func() error {
		return func() error {
			return env.Client.Get(t.Context(), client.ObjectKey{Namespace: name, Name: site.Deny(b.Name)}, &networkingv1.NetworkPolicy{})
		}
	}
	for i := range 3 * 32 {
		name := fmt.Sprintf("blind-%d", i+1)
		begun := time.Now()
		if err := env.Client.Create(t.Context(), site.NewNamespace(name, b.Name)); err != nil {
			t.Fatal(err)
		}
		if _, err := eventually.Within(t.Context(), eventually.Patience, denied(name)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Fatalf("%s was denied after %s; end of the operator's log:\n%s", name, took, k.now().Tail())
		}
	}
}
