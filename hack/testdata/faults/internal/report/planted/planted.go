// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted is a report that writes itself.
package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/controllers/planted" // fault: depguard
	_ "sigs.k8s.io/controller-runtime/pkg/client"                      // fault: depguard
)
