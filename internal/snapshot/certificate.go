// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/netip"
)

// CertificateOf keeps what matters of a certificate.
func CertificateOf(c *x509.Certificate) Certificate {
	sum, key := sha256.Sum256(c.Raw), sha256.Sum256(c.RawSubjectPublicKeyInfo)
	out := Certificate{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
		DNSNames: c.DNSNames, KeyType: c.PublicKeyAlgorithm.String(), Signature: c.SignatureAlgorithm.String(), CA: c.IsCA,
		SHA256: hex.EncodeToString(sum[:]), SPKI: hex.EncodeToString(key[:]),
	}
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			out.Addresses = append(out.Addresses, a.Unmap())
		}
	}
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		out.KeyBits = k.N.BitLen()
	case *ecdsa.PublicKey:
		out.KeyBits = k.Curve.Params().BitSize
	case ed25519.PublicKey:
		out.KeyBits = 8 * len(k)
	}
	return out
}

// CertificatesOf returns the certificates of a PEM bundle. ok is false if something in it is none.
func CertificatesOf(bundle []byte) (out []Certificate, ok bool) {
	ok = true
	for {
		var block *pem.Block
		if block, bundle = pem.Decode(bundle); block == nil {
			return out, ok && len(out) > 0
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			ok = false
			continue
		}
		out = append(out, CertificateOf(c))
	}
}
