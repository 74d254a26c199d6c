// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// Whatever runs before the operator starts is not its own; everything else has to end with it, libraries' goroutines too. It
// compares, so nothing else may run.
func TestAStoppedOperatorLeavesNoGoroutine(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	protected(t, b)
	alone(t)
	before := goleak.IgnoreCurrent()
	o := launch(t, operatorOptions{elect: true})
	eventually.That(t, "it is elected", func() error {
		if !o.leads() {
			return errors.New("it is not")
		}
		return nil
	})
	namespace := protected(t, b)
	if err := env.client.Delete(t.Context(), policiesIn(t, namespace)[denyName(b.Name)]); err != nil {
		t.Fatal(err)
	}
	awaitEvent(t, namespace, b.Name, "PolicyRepaired")
	crash(t, o)
	eventually.That(t, "nothing of it runs", func() error { return goleak.Find(before) })
}
