// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// While the platform is not known, only a backend that is certain is written to.
func TestBackendAtTheStart(t *testing.T) {
	t.Parallel()
	const auto, core, cilium = pcinetv1alpha1.BackendAuto, pcinetv1alpha1.BackendNetworkPolicy, pcinetv1alpha1.BackendCilium
	tests := map[string]struct {
		asked    pcinetv1alpha1.Backend
		last     pcinetv1alpha1.Backend
		observed int64 // generation; the spec has 2
		waited   time.Duration
		want     string
	}{
		"the core API is asked for":                             {asked: core, want: "NetworkPolicy"},
		"it was written to last":                                {asked: auto, last: core, observed: 2, want: "NetworkPolicy"},
		"it was, before the spec changed":                       {asked: auto, last: core, observed: 1},
		"nothing was written yet":                               {asked: auto},
		"another one was written to last":                       {asked: auto, last: cilium, observed: 2},
		"the spec changed, and the platform cannot be known":    {asked: auto, last: core, observed: 1, waited: settleTimeout, want: "NetworkPolicy"},
		"nothing was written, and the platform cannot be known": {asked: auto, waited: settleTimeout, want: "NetworkPolicy"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			clock := clocktesting.NewFakePassiveClock(today)
			b := newBackends()
			b.platform = &Platform{Clock: clock}
			baseline := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci", UID: "1", Generation: 2}}
			baseline.Spec.Backend, baseline.Status.Backend, baseline.Status.ObservedGeneration = test.asked, test.last, test.observed
			b.choose(baseline) // from when on it waits
			clock.SetTime(today.Add(test.waited))
			var got string
			if api := b.choose(baseline).api; api != nil {
				got = api.Name()
			}
			if got != test.want {
				t.Errorf("it is written to %q, want %q", got, test.want)
			}
		})
	}
}
