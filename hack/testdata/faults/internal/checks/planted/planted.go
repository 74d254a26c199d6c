// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted is a check that knows the backends.
package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/internal/planted"
	_ "github.com/pcinetwork/pci-network-baseline/internal/render/planted" // fault: depguard
)
