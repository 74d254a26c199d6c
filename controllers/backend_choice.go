// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
)

// settleTimeout bounds how long namespaces wait after the start for the platform to be known.
const settleTimeout = 10 * time.Second

// backendChoice is the policy API that a baseline is written to; nil while that is not known. If the asked one cannot work,
// reason and message say why.
type backendChoice struct {
	api             *policyAPI
	reason, message string
	// paused: nothing is written, because it would have no effect and could be lost.
	paused bool
}

// choose returns the backend of a baseline. A backend that cannot be read now is not written to either, because what protects
// is told from its objects: the core API takes its place. Right after the start the platform is unknown for a moment; who
// would write to the core API then had to remove it all again.
func (b *Backends) choose(baseline *pcinetv1alpha1.PCINetworkBaseline) backendChoice {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := engines.Backend(baseline.Status.Backend)
	if known := b.last[baseline.Name]; known.uid == baseline.UID {
		last = known.backend
	}
	choice := b.platform.BackendFor(baseline.Spec.Backend, last)
	if b.unsettled() && !goesOn(baseline, last) {
		return backendChoice{}
	}
	for _, api := range b.policies {
		if api.Name() == string(choice.Backend) && !api.staged && api.readable {
			b.last[baseline.Name] = lastBackend{baseline.UID, choice.Backend}
			paused := choice.Backend == engines.Calico && b.platform.Engine().APIs.CalicoMigrating
			return backendChoice{api, choice.Reason, choice.Message, paused}
		}
	}
	if last != engines.NetworkPolicy && last != "" && !closed(b.leads) {
		return backendChoice{} // the active replica may well read it; two that choose differently would undo each other's work
	}
	out := backendChoice{api: b.policies[0], reason: choice.Reason, message: choice.Message}
	if out.reason == "" && string(choice.Backend) == string(baseline.Spec.Backend) {
		out.reason = pcinetv1alpha1.ReasonBackendNotServed
		out.message = fmt.Sprintf("spec.backend asks for %s, but its policies cannot be listed; see the operator's log and its ClusterRole. "+
			"Meanwhile NetworkPolicy is used.", choice.Backend)
	}
	return out
}

// goesOn says whether the core API is written to whatever the platform is. That it was last is no reason if it was said of an earlier
// spec: the process before may have ended after it had switched.
func goesOn(b *pcinetv1alpha1.PCINetworkBaseline, last engines.Backend) bool {
	return b.Spec.Backend == pcinetv1alpha1.BackendNetworkPolicy || last == engines.NetworkPolicy && b.Status.ObservedGeneration == b.Generation
}

// unsettled says whether it is still worth waiting for the platform to be known. Who waited for ever would leave namespaces
// open.
func (b *Backends) unsettled() bool {
	now := b.platform.Clock.Now()
	if b.asked.IsZero() {
		b.asked = now
	}
	return !b.settled && now.Sub(b.asked) < settleTimeout
}

// unsettledNow is unsettled for who does not hold the lock.
func (b *Backends) unsettledNow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.unsettled()
}

// forget drops what is remembered of a baseline that is gone.
func (b *Backends) forget(baseline string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.last, baseline)
}
