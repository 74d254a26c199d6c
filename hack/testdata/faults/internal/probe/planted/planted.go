// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted is a probe that imports outwards.
package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/controllers/planted" // fault: depguard
)
