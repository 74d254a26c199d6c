// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os/exec"
	"regexp"
	"testing"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// differing lists where OpenSSL sees something else, rightly.
var differing = map[string]bool{
	"no encryption at all, in TLS":    true, // it can speak what Go cannot offer
	"finite-field key exchange alone": true,
	"a key agreed on beforehand":      true,
	"triple DES alone":                true, // Debian builds it without
	"for no name but the common one":  true, // it still looks there
}

// compared are the servers of which another implementation sees the same.
func compared(t *testing.T, ca *authority) map[string]hostile {
	t.Helper()
	all := map[string]hostile{}
	for _, some := range []map[string]hostile{versions(t, ca), certificates(t, ca), clients(t, ca)} {
		for name, h := range some {
			if h.name == "" && !differing[name] {
				all[name] = h
			}
		}
	}
	return all
}

// OpenSSL's client, another implementation, sees of each server what we see: the version, the certificate, whether old versions are
// accepted, whether the chain is trusted.
func TestOpenSSLSeesTheSame(t *testing.T) {
	ca := newAuthority(t, nil)
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	all := compared(t, ca)
	file := writePEM(t, ca.cert)
	seen := lookAt(t, all, roots)
	for name, h := range all {
		t.Run(name, func(t *testing.T) {
			got := seen[name]
			at := h.at.String()
			version, fingerprint, trusted := openSSLClient(t, at, "-CAfile", file)
			if want := tlsVersions[version]; got.Version != want {
				t.Errorf("version %#x, OpenSSL says %q", got.Version, version)
			}
			if len(got.Chain) > 0 && got.Chain[0].SHA256 != fingerprint {
				t.Errorf("certificate %s, OpenSSL says %s", got.Chain[0].SHA256, fingerprint)
			}
			if got.Version != 0 && (got.Untrusted == "") != trusted {
				t.Errorf("untrusted because %q, OpenSSL says %v", got.Untrusted, trusted)
			}
			for _, old := range []string{"-tls1", "-tls1_1"} {
				if taken, _, _ := openSSLClient(t, at, old); taken != "" && got.Old != snapshot.Accepted {
					t.Errorf("OpenSSL gets %s, we see old versions %q", taken, got.Old)
				}
			}
		})
	}
}

var (
	tlsVersions = map[string]uint16{"": 0, "TLSv1": tls.VersionTLS10, "TLSv1.1": tls.VersionTLS11, "TLSv1.2": tls.VersionTLS12, "TLSv1.3": tls.VersionTLS13}
	agreed      = regexp.MustCompile(`(?m)^New, (?:TLS|SSL)\S*, Cipher is [A-Z0-9]`)
	protocol    = regexp.MustCompile(`(?m)^\s*Protocol\s*: (\S+)|^New, (TLSv1\.3), Cipher is TLS_`)
)

// openSSLClient makes a handshake, and returns the version, "" for none, the fingerprint of the server's certificate, and whether its
// chain and name verify.
func openSSLClient(t *testing.T, at string, args ...string) (version, fingerprint string, trusted bool) {
	t.Helper()
	// The timeout is for servers that never answer.
	cmd := exec.CommandContext(t.Context(), "timeout", append([]string{
		"3", "openssl", "s_client", "-connect", at, "-servername", "server.test", "-verify_hostname", "server.test",
		"-purpose", "sslserver", "-cipher", "ALL:@SECLEVEL=0", "-showcerts",
	}, args...)...)
	out, _ := cmd.Output() // without input it ends after the handshake; a failed one is an error and seen below
	if block, _ := pem.Decode(out); block != nil {
		sum := sha256.Sum256(block.Bytes)
		fingerprint = hex.EncodeToString(sum[:])
	}
	if agreed.Match(out) {
		for _, m := range protocol.FindSubmatch(out)[1:] {
			version += string(m)
		}
	}
	return version, fingerprint, regexp.MustCompile(`(?m)^Verify return code: 0 |^Verification: OK`).Match(out)
}
