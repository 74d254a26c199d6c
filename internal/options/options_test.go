// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package options_test

import (
	"flag"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/options"
)

// parse returns the options that the flags give, from the defaults that main sets.
func parse(t *testing.T, args ...string) *options.Options {
	t.Helper()
	o := &options.Options{Namespace: "pci-network-baseline-system"}
	fs := flag.NewFlagSet("test", flag.ContinueOnError)
	o.BindFlags(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestDefaults(t *testing.T) {
	want := &options.Options{
		Namespace: "pci-network-baseline-system", LeaderElect: true, Workers: 32,
		MetricsAddress: ":8443", MetricsSecure: true, HealthAddress: ":8081", LogLevel: "info", LogFormat: "json",
	}
	got := parse(t)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if err := got.Validate(); err != nil {
		t.Errorf("the defaults are not valid: %v", err)
	}
}

func TestValidate(t *testing.T) {
	plain := func(address string) []string {
		return []string{"--metrics-secure=false", "--metrics-bind-address=" + address}
	}
	const refused = "--metrics-secure=false: "
	cases := map[string]struct {
		args []string
		want []string // beginnings of the errors, one a line
	}{
		"everything given": {args: []string{"--namespace=ops", "--workers=1024", "--log-level=debug", "--log-format=text", "--metrics-bind-address=0"}},
		"one worker":       {args: []string{"--workers=1"}},
		"no workers":       {args: []string{"--workers=0"}, want: []string{"--workers 0: "}},
		"too many workers": {args: []string{"--workers=1025"}, want: []string{"--workers 1025: "}},
		"no namespace":     {args: []string{"--namespace="}, want: []string{`--namespace "": `}},
		"a bad namespace":  {args: []string{"--namespace=Ops.x"}, want: []string{`--namespace "Ops.x": `}},
		"a bad level":      {args: []string{"--log-level=loud"}, want: []string{`--log-level "loud": `}},
		"a bad format":     {args: []string{"--log-format=xml"}, want: []string{`--log-format "xml": `}},
		"everything wrong is said at once": {
			args: append(plain(":8080"), "--namespace=A", "--workers=0", "--log-level=x", "--log-format=y"),
			want: []string{`--namespace "A": `, "--workers 0: ", refused, `--log-level "x": `, `--log-format "y": `},
		},
		"secure metrics anywhere":                     {args: []string{"--metrics-bind-address=0.0.0.0:8443"}},
		"plain metrics on IPv4 loopback":              {args: plain("127.0.0.1:8080")},
		"plain metrics on another IPv4 loopback":      {args: plain("127.9.9.9:8080")},
		"plain metrics on IPv6 loopback":              {args: plain("[::1]:8080")},
		"plain metrics turned off":                    {args: plain("0")},
		"plain metrics on every address":              {args: plain(":8080"), want: []string{refused}},
		"plain metrics on the IPv4 wildcard":          {args: plain("0.0.0.0:8080"), want: []string{refused}},
		"plain metrics on the IPv6 wildcard":          {args: plain("[::]:8080"), want: []string{refused}},
		"plain metrics on a pod's address":            {args: plain("10.0.0.7:8080"), want: []string{refused}},
		"plain metrics on a name":                     {args: plain("localhost:8080"), want: []string{refused}},
		"plain metrics on an address without a port":  {args: plain("127.0.0.1"), want: []string{refused}},
		"plain metrics on what the library defaults":  {args: plain(""), want: []string{refused}},
		"plain metrics on a name that looks loopback": {args: plain("127.0.0.1.example.com:8080"), want: []string{refused}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var got []string
			if err := parse(t, tc.args...).Validate(); err != nil {
				got = strings.Split(err.Error(), "\n")
			}
			if len(got) != len(tc.want) {
				t.Fatalf("errors %q, want %d: %q", got, len(tc.want), tc.want)
			}
			for i, want := range tc.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("error %q, want one that begins with %q", got[i], want)
				}
			}
		})
	}
}

func TestLevel(t *testing.T) {
	for text, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError} {
		if got, err := parse(t, "--log-level="+text).Level(); err != nil || got != want {
			t.Errorf("%s is %s, %v, want %s", text, got, err, want)
		}
	}
}

// FuzzPlainMetrics: whatever address is allowed without TLS is one that package net listens on at loopback.
func FuzzPlainMetrics(f *testing.F) {
	for _, seed := range []string{"127.0.0.1:8080", "[::1]:8080", ":8080", "0.0.0.0:1", "localhost:80", "[::ffff:127.0.0.1]:80", "[::ffff:10.0.0.1]:80", "[::1%lo]:80", "127.0.0.1:http", "0", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, address string) {
		o := parse(t)
		o.MetricsSecure, o.MetricsAddress = false, address
		if address == "0" || o.Validate() != nil {
			return
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatalf("%q is allowed: %v", address, err)
		}
		host, _, _ = strings.Cut(host, "%")
		if ip := net.ParseIP(host); !ip.IsLoopback() {
			t.Errorf("%q is allowed, and is %s", address, ip)
		}
	})
}
