// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package planted

// Mode is not written as gofumpt does.
const Mode = 0755 // fault: gofumpt
