// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"net/http"
	"testing"
)

func TestCredentialsAreNotForAProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://proxy.example.com:3128")
	t.Setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
	proxy := newTransport().Proxy
	for address, want := range map[string]bool{
		"http://169.254.170.23/v1/credentials":                   false,
		"http://169.254.169.254/computeMetadata/v1/instance":     false,
		"https://eks.eu-central-1.amazonaws.com/clusters/prod":   true,
		"https://login.microsoftonline.com/t/oauth2/v2.0/token":  true,
		"https://container.googleapis.com/v1/projects/x/y/z/u/v": true,
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if through, err := proxy(r); err != nil || (through != nil) != want {
			t.Errorf("%s goes through %v, %v", address, through, err)
		}
	}
}
