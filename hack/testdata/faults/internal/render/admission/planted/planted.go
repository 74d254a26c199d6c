// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted knows a backend.
package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/internal/render/core/planted" // fault: depguard
)
