// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted is an observer that writes and decides.
package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/internal/apply/planted"  // fault: depguard
	_ "github.com/pcinetwork/pci-network-baseline/internal/checks/planted" // fault: depguard
)
