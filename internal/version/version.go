// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package version holds the operator's version.
package version

// Version is set by the build: -ldflags "-X github.com/pcinetwork/pci-network-baseline/internal/version.Version=v1.2.3".
var Version = "dev"
