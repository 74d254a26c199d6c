// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"
	"time"
)

// Sight is what was seen of one endpoint from one place, by somebody who does not log in.
type Sight struct {
	Address netip.AddrPort
	Speech  Speech
	// Detail says what led to it, in words for people. It quotes nothing that the endpoint sent.
	Detail string

	// The rest is empty unless the endpoint speaks TLS, and where a handshake did not get that far.

	// Version and Cipher were agreed on when everything was offered.
	Version, Cipher uint16
	// Old says whether a version below the asked-for minimum is accepted; Weak, whether RC4 or triple DES is.
	Old, Weak         Acceptance
	ClientCertificate ClientCertificate
	// Chain holds the certificates that were sent, the endpoint's own first.
	Chain []Certificate
	// Untrusted says why the chain leads to none of the expected roots, or is for another name; "" if it is trusted.
	Untrusted string
}

// Speech is what an endpoint answers with.
type Speech string

// The speeches.
const (
	SpeechTLS Speech = "TLS"
	// SpeechPlain: it answered in the clear. A protocol that begins so and encrypts later looks the same.
	SpeechPlain Speech = "Plain"
	// SpeechSilent: it takes connections and answers nothing that could be told.
	SpeechSilent Speech = "Silent"
	// SpeechClosed: nobody listens.
	SpeechClosed Speech = "Closed"
	// SpeechUnreachable: no answer at all; a policy, a firewall, or no such host.
	SpeechUnreachable Speech = "Unreachable"
	// SpeechNotDialled: it was not asked.
	SpeechNotDialled Speech = "NotDialled"
)

// Acceptance is whether an offer was taken. It is unknown when empty.
type Acceptance string

// The acceptances.
const (
	Accepted   Acceptance = "Accepted"
	TurnedDown Acceptance = "TurnedDown"
)

// ClientCertificate is what an endpoint wants to know of its client. It is unknown when empty.
type ClientCertificate string

// What an endpoint wants.
const (
	ClientCertificateIgnored  ClientCertificate = "Ignored"
	ClientCertificateOptional ClientCertificate = "Optional"
	ClientCertificateRequired ClientCertificate = "Required"
	// ClientCertificateAsked: it asks for one, and does not show what becomes of whoever has none.
	ClientCertificateAsked ClientCertificate = "Asked"
)

// Certificate is what matters of an X.509 certificate.
type Certificate struct {
	// Subject and Issuer are distinguished names.
	Subject, Issuer     string
	NotBefore, NotAfter time.Time
	DNSNames            []string
	Addresses           []netip.Addr
	// KeyType is RSA, ECDSA, Ed25519, or what else x509 calls it; KeyBits the size of the modulus or of the curve's field.
	KeyType   string
	KeyBits   int
	Signature string
	CA        bool
	// SHA256 is the certificate's fingerprint, in hexadecimal; SPKI that of its public key.
	SHA256, SPKI string
}
