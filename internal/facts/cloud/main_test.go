// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// What the SDKs may use instead of the transport that they are given leads nowhere, and is told; so are goroutines that go on when
// a reading has ended.
func TestMain(m *testing.M) {
	http.DefaultTransport = roundTripper(func(r *http.Request) (*http.Response, error) {
		panic("dialled around the transport: " + r.URL.String())
	})
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		panic("asked a name server: " + address)
	}}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
