// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
)

// TestRequirementsAreThoseOfTheDocs compares what reports say that a check supports with the table that people read.
func TestRequirementsAreThoseOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/management.md")
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]string{}, map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\((?:4\\.\\d|both)\\) \\|.*\\| ?([0-9., ]*) \\|$").FindAllStringSubmatch(string(text), -1) {
		want[row[1]], got[row[1]] = row[2], management.Requirements(row[1])
	}
	if len(want) < 11 {
		t.Fatalf("found only %v", want)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/management.md and reports disagree (-docs +reports):\n%s", diff)
	}
}
