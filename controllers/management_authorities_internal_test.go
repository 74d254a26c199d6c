// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/client-go/rest"
)

// A file of authorities that cannot be read is not one that holds none; and what a client does not name is its host's.
func TestAuthoritiesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(empty, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		config rest.TLSClientConfig
		whole  bool
	}{
		"none is named":    {rest.TLSClientConfig{}, true},
		"it is not there":  {rest.TLSClientConfig{CAFile: empty + "x"}, false},
		"it holds nothing": {rest.TLSClientConfig{CAFile: empty}, false},
		"nonsense":         {rest.TLSClientConfig{CAData: []byte("-")}, false},
	} {
		if list, whole := authoritiesOf(&rest.Config{TLSClientConfig: tc.config})(); whole != tc.whole || len(list) > 0 {
			t.Errorf("%s: %d, whole: %t", name, len(list), whole)
		}
	}
}
