// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package outages_test runs the program that ships against an API server that does not answer, or not as it should, while
// the world changes. PCINB_FAULTS=full makes the faults last longer.
package outages_test

import (
	"os"
	"testing"

	"github.com/pcinetwork/pci-network-baseline/test/site"
)

var env site.Site

func TestMain(m *testing.M) { os.Exit(site.Run(m, "../..", &env)) }
