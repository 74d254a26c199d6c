// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package planted

import (
	_ "github.com/pcinetwork/pci-network-baseline/internal/planted" // fault: gci
	_ "k8s.io/client-go/rest"
)
