// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// greet makes a handshake in which everything is offered, and notes what was agreed on. It ends the connection.
func (d *Dialer) greet(ctx context.Context, c *conn, t Target, s *snapshot.Sight) error {
	defer func() { _ = c.Close() }()
	began := d.clock.Now()
	asked := false
	client := tls.Client(c, t.taking(offer{tls.VersionTLS10, tls.VersionTLS13, everything()}, s, &asked))
	handshake, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err := client.HandshakeContext(handshake)
	if err == nil {
		s.ClientCertificate = snapshot.ClientCertificateIgnored
		if asked {
			s.ClientCertificate = d.insists(ctx, client, t, d.clock.Since(began))
		}
	}
	switch {
	case asked && alert(err):
		s.ClientCertificate = snapshot.ClientCertificateRequired
	case s.Version == 0 && err != nil:
		s.Detail = "It speaks TLS, but no handshake succeeds: " + cause(err) + "."
	}
	return err
}

// insists says what becomes of whoever shows no certificate to a server that asked for one, "" if that cannot be told. Since TLS 1.3 a server says so
// after the handshake, for which it needs at least as long as that took; one that then says nothing is asked within a handshake of TLS 1.2.
func (d *Dialer) insists(ctx context.Context, client *tls.Conn, t Target, took time.Duration) snapshot.ClientCertificate {
	if client.ConnectionState().Version < tls.VersionTLS13 {
		return snapshot.ClientCertificateOptional
	}
	_ = client.SetReadDeadline(d.clock.Now().Add(min(answerTimeout, 100*time.Millisecond+2*took)))
	switch _, err := client.Read(make([]byte, 1)); {
	case err == nil:
		return snapshot.ClientCertificateOptional
	case alert(err):
		return snapshot.ClientCertificateRequired
	case !errors.Is(err, os.ErrDeadlineExceeded): // it hangs up, for whatever cause
		return snapshot.ClientCertificateAsked
	}
	c, err := d.again(ctx, t.Address)
	if err != nil {
		return ""
	}
	var s snapshot.Sight
	var asked bool
	handshake, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err = tls.Client(c, t.taking(offer{tls.VersionTLS10, tls.VersionTLS12, everything()}, &s, &asked)).HandshakeContext(handshake)
	_ = c.Close()
	switch {
	case err == nil && asked:
		return snapshot.ClientCertificateOptional
	case asked && alert(err):
		return snapshot.ClientCertificateRequired
	default: // such as one that takes nothing below TLS 1.3
		return snapshot.ClientCertificateAsked
	}
}

// cause says why a handshake failed, without what the other side sent.
func cause(err error) string {
	switch {
	case alert(err):
		return "it refuses, with an alert"
	case errors.Is(err, errTooMuch):
		return errTooMuch.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return "it takes too long"
	default:
		return "what it sends cannot be accepted, such as a key that is too small"
	}
}

// offer is what a handshake offers.
type offer struct {
	lowest, highest uint16
	ciphers         []uint16
}

// taking returns a configuration that makes an offer, takes whatever the server sends, and notes it.
func (t Target) taking(o offer, s *snapshot.Sight, asked *bool) *tls.Config {
	return &tls.Config{
		ServerName:         t.ServerName,
		MinVersion:         o.lowest,
		MaxVersion:         o.highest,
		CipherSuites:       o.ciphers,
		InsecureSkipVerify: true, //nolint:gosec // nothing is sent to it; what it shows is judged by trust, below
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			*asked = true
			return &tls.Certificate{}, nil
		},
		VerifyConnection: func(state tls.ConnectionState) error {
			s.Version, s.Cipher = state.Version, state.CipherSuite
			for _, c := range state.PeerCertificates {
				s.Chain = append(s.Chain, snapshot.CertificateOf(c))
			}
			s.Untrusted = untrusted(t, state.PeerCertificates)
			return nil
		},
	}
}

// untrusted says why a chain is not trusted.
func untrusted(t Target, chain []*x509.Certificate) string {
	if len(chain) == 0 {
		return "no certificate was sent"
	}
	if t.Roots == nil {
		return "no root is expected of it"
	}
	name := t.ServerName
	if name == "" {
		name = t.Address.Addr().Unmap().String()
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: t.Roots, Intermediates: intermediates})
	invalid, other, authority := x509.CertificateInvalidError{}, x509.HostnameError{}, x509.UnknownAuthorityError{}
	switch {
	case err == nil:
		return ""
	case errors.As(err, &other):
		return "it is not for " + name
	case errors.As(err, &authority):
		return "it was issued by nobody expected"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it has expired, or is not valid yet"
	default:
		return "it does not verify"
	}
}

// tempt finds out whether a server that speaks TLS also takes what it should not.
func (d *Dialer) tempt(ctx context.Context, t Target, s *snapshot.Sight) {
	if t.MinVersion > tls.VersionTLS10 {
		s.Old = d.takes(ctx, t, offer{tls.VersionTLS10, t.MinVersion - 1, everything()})
	}
	s.Weak = d.takes(ctx, t, offer{tls.VersionTLS10, tls.VersionTLS12, weak()})
}

// takes makes a handshake and says whether the offer was taken. An alert turns it down; so does whoever hangs up twice, as some do who
// have nothing in common with the client. A server that is slow or cannot be reached says nothing.
func (d *Dialer) takes(ctx context.Context, t Target, o offer) snapshot.Acceptance {
	for range 2 {
		c, err := d.again(ctx, t.Address)
		if err != nil {
			return ""
		}
		var s snapshot.Sight
		var asked bool
		err = tls.Client(c, t.taking(o, &s, &asked)).HandshakeContext(ctx)
		_ = c.Close()
		switch {
		case err == nil, s.Version != 0: // it went as far as its certificate
			return snapshot.Accepted
		case alert(err):
			return snapshot.TurnedDown
		case !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET):
			return ""
		}
	}
	return snapshot.TurnedDown
}

// alert says whether the other side ended a handshake with an alert.
func alert(err error) bool {
	remote := (*net.OpError)(nil)
	return errors.As(err, &remote) && remote.Op == "remote error"
}

// everything lists all cipher suites that can be offered, the strong ones first.
func everything() []uint16 {
	var out []uint16
	for _, c := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		out = append(out, c.ID)
	}
	return out
}

// weak lists the suites of RC4 (RFC 7465 forbids it) and triple DES (NIST SP 800-131A disallows it). Those of NULL and export
// ciphers, and with a finite-field key exchange, cannot be offered.
func weak() []uint16 {
	return []uint16{
		tls.TLS_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA,
		tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA,
	}
}
