// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted is a planner with a client, direct and through another package.
package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/internal/apply/planted" // fault: depguard
	_ "github.com/pcinetwork/pci-network-baseline/internal/planted"
	_ "k8s.io/client-go/rest" // fault: depguard
)
