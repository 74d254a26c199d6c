// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted is vocabulary that imports something of ours.
package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/internal/planted" // fault: depguard
)
