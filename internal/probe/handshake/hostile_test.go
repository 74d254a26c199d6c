// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pcinetwork/pci-network-baseline/internal/probe/handshake"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// hostile is an endpoint, and what must be seen of it. Of a wanted certificate only the type and size of the key count.
type hostile struct {
	at   netip.AddrPort
	name string // "": server.test
	want snapshot.Sight
}

// good is what is seen of a server as it should be.
func good(change func(*snapshot.Sight)) snapshot.Sight {
	s := snapshot.Sight{
		Speech: snapshot.SpeechTLS, Version: tls.VersionTLS13, Cipher: tls.TLS_AES_128_GCM_SHA256,
		Old: snapshot.TurnedDown, Weak: snapshot.TurnedDown, ClientCertificate: snapshot.ClientCertificateIgnored,
		Chain: []snapshot.Certificate{{KeyType: "ECDSA", KeyBits: 256}},
	}
	if change != nil {
		change(&s)
	}
	return s
}

func keys(chain ...snapshot.Certificate) func(*snapshot.Sight) {
	return func(s *snapshot.Sight) { s.Chain = chain }
}

func distrusted(why string) func(*snapshot.Sight) {
	return func(s *snapshot.Sight) { s.Untrusted = why }
}

func speaks(speech snapshot.Speech, detail string) snapshot.Sight {
	return snapshot.Sight{Speech: speech, Detail: detail}
}

const (
	inTheClear = "It answers a TLS handshake in the clear."
	onRequest  = "It answers a request in the clear."
	hangsUp    = "It takes connections and ends them without an answer."
	mute       = "It takes connections and answers nothing in time."
)

// suites returns a configuration of some versions and suites.
func suites(cert tls.Certificate, lowest, highest uint16, ciphers ...uint16) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: lowest, MaxVersion: highest, CipherSuites: ciphers}
}

func modern(cert tls.Certificate) *tls.Config {
	return suites(cert, tls.VersionTLS12, tls.VersionTLS13)
}

// The dials of all endpoints overlap, so that the test takes as long as the slowest of them.
func TestHostileEndpoints(t *testing.T) {
	ca := newAuthority(t, nil)
	all := map[string]hostile{}
	for _, some := range []map[string]hostile{versions(t, ca), certificates(t, ca), clients(t, ca), broken(t, ca), plainServers(t)} {
		for name, h := range some {
			if _, twice := all[name]; twice {
				t.Fatalf("two endpoints are called %q", name)
			}
			all[name] = h
		}
	}
	if len(all) < 40 {
		t.Errorf("%d hostile endpoints, want at least 40", len(all))
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	got := lookAt(t, all, roots)
	for name, h := range all {
		t.Run(name, func(t *testing.T) {
			h.want.Address = h.at
			options := cmp.Options{cmpopts.EquateComparable(netip.AddrPort{}), cmp.Transformer("key", func(c snapshot.Certificate) []any { return []any{c.KeyType, c.KeyBits} })}
			if diff := cmp.Diff(h.want, got[name], options); diff != "" {
				t.Errorf("seen (-want +got):\n%s", diff)
			}
		})
	}
}

// lookAt looks at all endpoints together, and wants each to take no longer than its budget.
func lookAt(t *testing.T, all map[string]hostile, roots *x509.CertPool) map[string]snapshot.Sight {
	t.Helper()
	var names []string
	var targets []handshake.Target
	var endpoints []netip.AddrPort
	for name, h := range all {
		names = append(names, name)
		endpoints = append(endpoints, h.at)
		asked := h.name
		if asked == "" {
			asked = "server.test"
		}
		if asked == "none" {
			asked = ""
		}
		targets = append(targets, handshake.Target{Address: h.at, ServerName: asked, Roots: roots, MinVersion: tls.VersionTLS12})
	}
	out := map[string]snapshot.Sight{}
	for i, s := range handshake.NewDialer(handshake.NewScope(endpoints...).OnLoopback()).Look(t.Context(), targets) {
		out[names[i]] = s
	}
	return out
}

func versions(t *testing.T, ca *authority) map[string]hostile {
	t.Helper()
	cert := ca.issue(t, nil, nil)
	rsaCert := ca.issue(t, must(rsa.GenerateKey(rand.Reader, 2048)), nil)
	rsaKey := snapshot.Certificate{KeyType: "RSA", KeyBits: 2048}
	over := func(config *tls.Config) netip.AddrPort { return serve(t, overTLS(config, nil)) }
	return map[string]hostile{
		"TLS 1.2 and 1.3": {at: over(modern(cert)), want: good(nil)},
		"TLS 1.3 alone":   {at: over(suites(cert, tls.VersionTLS13, tls.VersionTLS13)), want: good(nil)},
		"TLS 1.0 to 1.3":  {at: over(suites(cert, tls.VersionTLS10, tls.VersionTLS13)), want: good(func(s *snapshot.Sight) { s.Old = snapshot.Accepted })},
		"TLS 1.2 alone": {at: over(suites(cert, tls.VersionTLS12, tls.VersionTLS12)), want: good(func(s *snapshot.Sight) {
			s.Version, s.Cipher = tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
		})},
		"TLS 1.1 alone": {at: over(suites(cert, tls.VersionTLS11, tls.VersionTLS11)), want: good(func(s *snapshot.Sight) {
			s.Version, s.Cipher, s.Old = tls.VersionTLS11, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, snapshot.Accepted
		})},
		"TLS 1.0 alone": {at: over(suites(cert, tls.VersionTLS10, tls.VersionTLS10)), want: good(func(s *snapshot.Sight) {
			s.Version, s.Cipher, s.Old = tls.VersionTLS10, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, snapshot.Accepted
		})},
		"RC4 among strong suites": {
			at:   over(suites(rsaCert, tls.VersionTLS12, tls.VersionTLS13, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA)),
			want: good(func(s *snapshot.Sight) { s.Weak, s.Chain = snapshot.Accepted, []snapshot.Certificate{rsaKey} }),
		},
		"triple DES alone": {at: over(suites(rsaCert, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)), want: good(func(s *snapshot.Sight) {
			s.Version, s.Cipher, s.Weak, s.Chain = tls.VersionTLS12, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA, snapshot.Accepted, []snapshot.Certificate{rsaKey}
		})},
		"no forward secrecy": {at: over(suites(rsaCert, tls.VersionTLS12, tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256)), want: good(func(s *snapshot.Sight) {
			s.Version, s.Cipher, s.Chain = tls.VersionTLS12, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, []snapshot.Certificate{rsaKey}
		})},
		"no encryption at all, in TLS":    {at: openSSLServer(t, rsaCert, "-tls1_2", "-cipher", "NULL:@SECLEVEL=0"), want: refusing()},
		"finite-field key exchange alone": {at: openSSLServer(t, rsaCert, "-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"), want: refusing()},
		"a key agreed on beforehand":      {at: startOpenSSL(t, "-nocert", "-tls1_2", "-psk", "abcdef12", "-cipher", "PSK-AES128-GCM-SHA256"), want: refusing()},
	}
}

// refusing is what is seen of a server that speaks TLS and has nothing in common with us.
func refusing() snapshot.Sight {
	return snapshot.Sight{
		Speech: snapshot.SpeechTLS, Detail: "It speaks TLS, but no handshake succeeds: it refuses, with an alert.",
		Old: snapshot.TurnedDown, Weak: snapshot.TurnedDown,
	}
}

func certificates(t *testing.T, ca *authority) map[string]hostile {
	t.Helper()
	intermediate := newAuthority(t, ca)
	below := intermediate.issue(t, nil, nil)
	withChain := below
	withChain.Certificate = [][]byte{below.Certificate[0], intermediate.cert.Raw}
	p256 := snapshot.Certificate{KeyType: "ECDSA", KeyBits: 256}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(*x509.Certificate)) netip.AddrPort {
		return serve(t, overTLS(modern(ca.issue(t, nil, change)), nil))
	}
	one := func(cert tls.Certificate) netip.AddrPort { return serve(t, overTLS(modern(cert), nil)) }
	return map[string]hostile{
		"expired":            {at: with(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), want: good(distrusted("it has expired, or is not valid yet"))},
		"not valid yet":      {at: with(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), want: good(distrusted("it has expired, or is not valid yet"))},
		"for another name":   {at: with(nil), name: "other.test", want: good(distrusted("it is not for other.test"))},
		"for any name below": {at: with(func(c *x509.Certificate) { c.DNSNames = []string{"*.server.test"} }), name: "a.server.test", want: good(nil)},
		"for no name but the common one": {
			at:   with(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses, c.Subject.CommonName = nil, nil, "server.test" }),
			want: good(distrusted("it is not for server.test")),
		},
		"for its address":          {at: with(nil), name: "none", want: good(nil)},
		"for another address":      {at: with(func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 2)} }), name: "none", want: good(distrusted("it is not for 127.0.0.1"))},
		"self-signed":              {at: one((&authority{}).issue(t, nil, nil)), want: good(distrusted("it was issued by nobody expected"))},
		"of another authority":     {at: one(newAuthority(t, nil).issue(t, nil, nil)), want: good(distrusted("it was issued by nobody expected"))},
		"with its intermediate":    {at: one(withChain), want: good(keys(p256, p256))},
		"without its intermediate": {at: one(below), want: good(distrusted("it was issued by nobody expected"))},
		"for clients only":         {at: with(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), want: good(distrusted("it does not verify"))},
		"a small key":              {at: one(ca.issue(t, must(rsa.GenerateKey(rand.Reader, 1024)), nil)), want: good(keys(snapshot.Certificate{KeyType: "RSA", KeyBits: 1024}))},
		"a key of P-384":           {at: one(ca.issue(t, must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), nil)), want: good(keys(snapshot.Certificate{KeyType: "ECDSA", KeyBits: 384}))},
		"a key of Ed25519":         {at: one(ca.issue(t, ed, nil)), want: good(keys(snapshot.Certificate{KeyType: "Ed25519", KeyBits: 256}))},
	}
}

func clients(t *testing.T, ca *authority) map[string]hostile {
	t.Helper()
	cert := ca.issue(t, nil, nil)
	asking := func(highest uint16, auth tls.ClientAuthType, as func(net.Conn) net.Conn) netip.AddrPort {
		config := suites(cert, tls.VersionTLS12, highest)
		config.ClientAuth, config.ClientCAs = auth, x509.NewCertPool()
		return serve(t, func(c net.Conn) { overTLS(config, nil)(as(c)) })
	}
	modern := suites(cert, tls.VersionTLS13, tls.VersionTLS13)
	modern.ClientAuth = tls.RequestClientCert
	alone := serve(t, overTLS(modern, nil))
	plainly := func(c net.Conn) net.Conn { return c }
	late := func(after time.Duration) func(net.Conn) net.Conn {
		return func(c net.Conn) net.Conn { return &later{Conn: c, after: after} }
	}
	wants := func(what snapshot.ClientCertificate) func(*snapshot.Sight) {
		return func(s *snapshot.Sight) { s.ClientCertificate = what }
	}
	return map[string]hostile{
		"asks for a client certificate": {at: asking(tls.VersionTLS13, tls.RequestClientCert, plainly), want: good(wants(snapshot.ClientCertificateOptional))},
		"requires a client certificate": {at: asking(tls.VersionTLS13, tls.RequireAndVerifyClientCert, plainly), want: good(wants(snapshot.ClientCertificateRequired))},
		"requires a client certificate, TLS 1.2": {at: asking(tls.VersionTLS12, tls.RequireAndVerifyClientCert, plainly), want: good(func(s *snapshot.Sight) {
			s.ClientCertificate, s.Version, s.Cipher = snapshot.ClientCertificateRequired, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
		})},
		"requires a client certificate, and says so late": {at: asking(tls.VersionTLS13, tls.RequireAndVerifyClientCert, late(time.Second)), want: good(wants(snapshot.ClientCertificateRequired))},
		"asks for a client certificate, and hangs up":     {at: asking(tls.VersionTLS13, tls.RequireAndVerifyClientCert, late(0)), want: good(wants(snapshot.ClientCertificateAsked))},
		"asks for a client certificate, of TLS 1.3 alone": {at: alone, want: good(wants(snapshot.ClientCertificateAsked))},
		"OpenSSL requires a client certificate":           {at: openSSLServer(t, cert, "-Verify", "1", "-tls1_3"), want: good(wants(snapshot.ClientCertificateRequired))},
	}
}

func broken(t *testing.T, ca *authority) map[string]hostile {
	t.Helper()
	config := modern(ca.issue(t, nil, nil))
	unusable := func(why string) snapshot.Sight {
		return snapshot.Sight{Speech: snapshot.SpeechTLS, Detail: "It speaks TLS, but no handshake succeeds: " + why + "."}
	}
	var sent atomic.Int64
	garbled := ca.issue(t, nil, nil)
	garbled.Certificate = [][]byte{[]byte("no certificate")}
	return map[string]hostile{
		"an alert at once":             {at: serve(t, func(c net.Conn) { _, _ = c.Write([]byte{21, 3, 3, 0, 2, 2, 40}); drain(c) }), want: refusing()},
		"an alert on request":          {at: serve(t, answers("GET ", "\x15\x03\x01\x00\x02\x02\x0a")), want: speaks(snapshot.SpeechTLS, "It speaks TLS, but did not answer a handshake in time.")},
		"a slow TLS server":            {at: serve(t, func(c net.Conn) { time.Sleep(700 * time.Millisecond); overTLS(config, nil)(c) }), want: good(nil)},
		"a TLS record that never ends": {at: serve(t, drips("\x16\x03\x03\x40\x00")), want: unusable("it takes too long")},
		"TLS records for ever": {
			at:   serve(t, floods("", "\x16\x03\x03\x00\x08\x02\x00\xff\xff\x00\x00\x00\x00", &sent)),
			want: unusable("it sends more than 64 KiB"),
		},
		"a certificate that is none": {at: serve(t, overTLS(modern(garbled), nil)), want: func() snapshot.Sight {
			s := unusable("what it sends cannot be accepted, such as a key that is too small")
			s.Old, s.Weak = snapshot.TurnedDown, snapshot.TurnedDown
			return s
		}()},
		"a key of 512 bits": {at: tinyKey(t), want: good(func(s *snapshot.Sight) {
			s.Version, s.Cipher, s.ClientCertificate = tls.VersionTLS12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, ""
			s.Chain, s.Untrusted = []snapshot.Certificate{{KeyType: "RSA", KeyBits: 512}}, "it is not for server.test"
		})},
	}
}

func plainServers(t *testing.T) map[string]hostile {
	t.Helper()
	var sent atomic.Int64
	t.Cleanup(func() {
		if n := sent.Load(); n > 64<<20 {
			t.Errorf("a server could send %d bytes", n)
		}
	})
	at := func(talk func(net.Conn)) netip.AddrPort { return serve(t, talk) }
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // closed at once, for a port on which nobody listens
	if err != nil {
		t.Fatal(err)
	}
	closed := netip.MustParseAddrPort(l.Addr().String())
	_ = l.Close()
	return map[string]hostile{
		"HTTP":                     {at: at(answers("", "HTTP/1.1 400 Bad Request\r\n\r\n")), want: speaks(snapshot.SpeechPlain, inTheClear)},
		"HTTP to requests alone":   {at: at(answers("GET / HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\n")), want: speaks(snapshot.SpeechPlain, onRequest)},
		"gRPC":                     {at: at(answers("PRI * HTTP/2.0", "\x00\x00\x00\x04\x00\x00\x00\x00\x00")), want: speaks(snapshot.SpeechPlain, onRequest)},
		"a line protocol":          {at: at(answers("GET ", "-ERR unknown command\r\n")), want: speaks(snapshot.SpeechPlain, onRequest)},
		"a banner of SSH":          {at: at(says("SSH-2.0-OpenSSH_9.2\r\n")), want: speaks(snapshot.SpeechPlain, inTheClear)},
		"a banner of mail":         {at: at(says("220 mail.test ESMTP\r\n")), want: speaks(snapshot.SpeechPlain, inTheClear)},
		"a banner of a database":   {at: at(says("\x4a\x00\x00\x00\x0a8.0.36\x00")), want: speaks(snapshot.SpeechPlain, inTheClear)},
		"one byte":                 {at: at(says("x")), want: speaks(snapshot.SpeechPlain, inTheClear)},
		"a banner of a gigabyte":   {at: at(floods("", strings.Repeat("welcome ", 128), &sent)), want: speaks(snapshot.SpeechPlain, inTheClear)},
		"a banner that never ends": {at: at(drips("hello ")), want: speaks(snapshot.SpeechPlain, inTheClear)},
		"silence":                  {at: at(says("")), want: speaks(snapshot.SpeechSilent, mute)},
		"silence, then the end":    {at: at(func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }), want: speaks(snapshot.SpeechSilent, hangsUp)},
		"the end at once":          {at: at(func(net.Conn) {}), want: speaks(snapshot.SpeechSilent, hangsUp)},
		"a reset":                  {at: at(func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), want: speaks(snapshot.SpeechSilent, hangsUp)},
		"nobody":                   {at: closed, want: speaks(snapshot.SpeechClosed, "Nobody listens there.")},
		"a connection never taken": {at: full(t), want: speaks(snapshot.SpeechUnreachable, "It does not answer: a policy or firewall in between, or no such host.")},
	}
}

// Nothing is asked of a server that speaks TLS, and no redirect is followed.
func TestNothingIsFollowed(t *testing.T) {
	var reached, inside atomic.Int64
	elsewhere := serve(t, func(net.Conn) { reached.Add(1) })
	redirect := "HTTP/1.1 302 Found\r\nLocation: http://" + elsewhere.String() + "/\r\nContent-Length: 0\r\n\r\n"
	ca := newAuthority(t, nil)
	lookAt(t, map[string]hostile{
		"redirects":     {at: serve(t, answers("GET ", redirect))},
		"redirects all": {at: serve(t, says(redirect))},
		"TLS":           {at: serve(t, overTLS(modern(ca.issue(t, nil, nil)), &inside))},
	}, nil)
	if n := reached.Load(); n > 0 {
		t.Errorf("%d connections to where a redirect leads", n)
	}
	if n := inside.Load(); n > 0 {
		t.Errorf("%d bytes sent in an encrypted connection", n)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
