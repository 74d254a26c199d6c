// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted reaches a client. What imports it reaches one too, which depguard cannot see.
package planted

import (
	_ "k8s.io/client-go/rest"
)
