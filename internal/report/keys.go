// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Keys returns what a report says was seen of the keys of interfaces, by subject.
func Keys(live *unstructured.Unstructured) map[string]snapshot.Keys {
	out := map[string]snapshot.Keys{}
	for _, r := range resultsOf(live) {
		if k, ok := management.KeysOf(r.Properties); ok && r.Rule == management.KeysRotated {
			out[r.Properties[propertySubject]] = k
		}
	}
	return out
}
