// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake_test

import (
	"crypto/tls"
	"crypto/x509"
	"os/exec"
	"regexp"
	"testing"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// unpackedSslscan is where hack/sslscan.sh unpacks it.
const unpackedSslscan = "../../../bin/sslscan/usr/bin/sslscan"

// enabled are the versions in a scan, which asks for each with a ClientHello of its own making.
var enabled = regexp.MustCompile(`(?m)^(SSLv2|SSLv3|TLSv1\.[0-3])\s+(enabled|disabled)`)

// sslscan returns the program.
func sslscan(t *testing.T) string {
	t.Helper()
	for _, p := range []string{unpackedSslscan, "sslscan"} {
		if found, err := exec.LookPath(p); err == nil {
			return found
		}
	}
	t.Skip("there is no sslscan: make sslscan says why, or install it")
	return ""
}

// scan returns the highest version that sslscan finds, 0 for none, and whether there is one older than TLS 1.2.
func scan(t *testing.T, program, at string) (highest uint16, old bool) {
	t.Helper()
	// The timeout is for servers that never answer.
	out, _ := exec.CommandContext(t.Context(), "timeout", "20", program, "--no-colour", "--no-ciphersuites", "--no-fallback", "--no-renegotiation",
		"--no-heartbleed", "--no-compression", "--no-groups", "--sni-name=server.test", "--timeout=3", at).Output() // a failed one finds nothing
	for _, m := range enabled.FindAllStringSubmatch(string(out), -1) {
		if m[2] != "enabled" {
			continue
		}
		version := map[string]uint16{"TLSv1.0": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}[m[1]]
		old = old || version < tls.VersionTLS12
		highest = max(highest, version)
	}
	return highest, old
}

// sslscan, a third implementation, finds the same versions.
func TestSslscanFindsTheSame(t *testing.T) {
	program := sslscan(t)
	ca := newAuthority(t, nil)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	all := compared(t, ca)
	seen, found := lookAt(t, all, roots), 0
	for name, h := range all {
		got := seen[name]
		highest, old := scan(t, program, h.at.String())
		if highest != got.Version || old != (got.Old == snapshot.Accepted) {
			t.Errorf("%s: version %#x and old ones %q, sslscan says %#x, %v", name, got.Version, got.Old, highest, old)
		}
		if highest != 0 {
			found++
		}
	}
	if found < len(all)/2 {
		t.Errorf("sslscan finds something at %d of %d servers alone", found, len(all))
	}
}
