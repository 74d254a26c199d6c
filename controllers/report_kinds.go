// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"slices"
	"sync"

	"github.com/pcinetwork/pci-network-baseline/internal/report"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// reportKinds says in which APIs reports can be written. It goes by the definitions that platform detection reads, so no kind is read
// or watched that is not there, and one that comes later is noticed.
type reportKinds struct {
	changed topic

	mu      sync.Mutex
	defined []report.API
}

// note takes what is defined now. While definitions cannot be read, what was known stays: that one is gone is not known.
func (k *reportKinds) note(e *snapshot.Evidence) {
	definitions := e.Readings[snapshot.Source{Kind: snapshot.KindCustomResourceDefinition}]
	if definitions.Pending || definitions.Problem != "" {
		return
	}
	var now []report.API
	for _, api := range report.APIs {
		if e.Has(api.Definition()) {
			now = append(now, api)
		}
	}
	k.mu.Lock()
	same := slices.Equal(k.defined, now)
	k.defined = now
	k.mu.Unlock()
	if !same {
		k.changed.tell()
	}
}

func (k *reportKinds) list() []report.API {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.defined
}
