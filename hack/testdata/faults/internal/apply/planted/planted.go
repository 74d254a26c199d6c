// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted is an applier that knows the domain.
package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/internal/policy/planted" // fault: depguard
)
