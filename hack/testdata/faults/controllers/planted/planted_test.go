// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package planted // fault: testpackage

import (
	"context"
	"testing"
)

func TestPlanted(t *testing.T) {
	ctx := context.Background() // fault: usetesting
	if ctx.Err() != nil {
		t.Fatal("planted")
	}
}
