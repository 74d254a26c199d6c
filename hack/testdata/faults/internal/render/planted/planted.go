// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted is a renderer that knows the API and the planner.
package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/api/planted"           // fault: depguard
	_ "github.com/pcinetwork/pci-network-baseline/internal/plan/planted" // fault: depguard
	_ "github.com/pcinetwork/pci-network-baseline/internal/planted"
)
