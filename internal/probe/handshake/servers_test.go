// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serve runs a server on a loopback port until the test ends, and returns where.
func serve(t *testing.T, talk func(net.Conn)) netip.AddrPort {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				stop := context.AfterFunc(ctx, func() { _ = c.Close() })
				defer stop()
				talk(c)
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// drain reads until the other side ends the connection.
func drain(c io.Reader) { _, _ = io.Copy(io.Discard, c) }

// overTLS speaks TLS, and counts what is sent to it inside.
func overTLS(config *tls.Config, inside *atomic.Int64) func(net.Conn) {
	return func(c net.Conn) {
		s := tls.Server(c, config)
		if s.HandshakeContext(context.Background()) != nil {
			return
		}
		n, _ := io.Copy(io.Discard, s)
		if inside != nil {
			inside.Add(n)
		}
	}
}

// later is a connection whose server answers the client's second flight late, or hangs up if that is not at all.
type later struct {
	net.Conn
	answered, again bool
	after           time.Duration
}

func (c *later) Read(p []byte) (int, error) {
	c.again = c.again || c.answered
	return c.Conn.Read(p)
}

func (c *later) Write(p []byte) (int, error) {
	c.answered = true
	switch {
	case !c.again:
	case c.after == 0:
		return 0, c.Close()
	default:
		time.Sleep(c.after)
	}
	return c.Conn.Write(p)
}

// says sends a text to whoever connects.
func says(banner string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, banner)
		drain(c)
	}
}

// answers sends a text once a line has the given beginning, and hangs up on any other first line.
func answers(line, text string) func(net.Conn) {
	return func(c net.Conn) {
		got, _ := bufio.NewReader(io.LimitReader(c, 4096)).ReadString('\n')
		if strings.HasPrefix(got, line) {
			_, _ = io.WriteString(c, text)
		}
	}
}

// drips sends bytes slowly, for ever.
func drips(text string) func(net.Conn) {
	return func(c net.Conn) {
		for i := 0; ; i++ {
			if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
			time.Sleep(300 * time.Millisecond)
		}
	}
}

// floods sends a text for ever, as fast as it is taken, and counts the bytes.
func floods(beginning, text string, sent *atomic.Int64) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, beginning)
		block := []byte(strings.Repeat(text, 1+(64<<10)/len(text)))
		for {
			n, err := c.Write(block)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}
}

// full returns an endpoint whose queue of connections is full, so that no further one is answered.
func full(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	local, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("the socket has the address %T", name)
	}
	at := netip.AddrPortFrom(netip.AddrFrom4(local.Addr), uint16(local.Port))
	for range 8 {
		dialer := net.Dialer{Timeout: 100 * time.Millisecond}
		c, err := dialer.DialContext(t.Context(), "tcp", at.String())
		if err != nil {
			return at
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the queue never fills")
	return at
}

// authority issues certificates.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t *testing.T, parent *authority) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a := &authority{key: key}
	if parent == nil {
		parent = &authority{cert: template, key: key}
	} else {
		template.Subject.CommonName = "intermediate"
	}
	a.cert = sign(t, template, parent.cert, key, parent.key)
	return a
}

// sign returns a certificate of a key.
func sign(t *testing.T, template, parent *x509.Certificate, key, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issue returns a certificate of a server that is good for 127.0.0.1 and server.test, but for what change does to it. A key of nil is one of
// P-256.
func (a *authority) issue(t *testing.T, key crypto.Signer, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	if key == nil {
		var err error
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "server"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"server.test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	parent, signer := a.cert, a.key
	if parent == nil { // self-signed
		parent, signer = template, key
	}
	leaf := sign(t, template, parent, key, signer)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// openSSLServer runs OpenSSL's server, for what Go's cannot be made to do, until the test ends.
func openSSLServer(t *testing.T, cert tls.Certificate, args ...string) netip.AddrPort {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "server.pem")
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})...)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return startOpenSSL(t, append([]string{"-cert", file, "-key", file}, args...)...)
}

func startOpenSSL(t *testing.T, args ...string) netip.AddrPort {
	t.Helper()
	cmd := exec.Command("openssl", append([]string{"s_server", "-accept", "127.0.0.1:0", "-naccept", "1000"}, args...)...) //nolint:noctx // ended below
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe() // held open: the server ends with its input
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("these tests need OpenSSL (Debian: apt-get install openssl): %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if at, found := strings.CutPrefix(lines.Text(), "ACCEPT "); found {
			go drain(out)
			return netip.MustParseAddrPort(at)
		}
	}
	t.Fatalf("openssl s_server %v did not start", args)
	return netip.AddrPort{}
}

// tinyKey runs OpenSSL's server with a key that Go neither makes nor takes.
func tinyKey(t *testing.T) netip.AddrPort {
	t.Helper()
	dir := t.TempDir()
	key, cert := filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")
	out, err := exec.CommandContext(t.Context(), "openssl", "req", "-x509", "-newkey", "rsa:512", "-nodes", "-keyout", key, "-out", cert, "-subj", "/CN=tiny", "-days", "1", "-sha1").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return startOpenSSL(t, "-cert", cert, "-key", key, "-tls1_2", "-cipher", "ALL:@SECLEVEL=0")
}

func writePEM(t *testing.T, cert *x509.Certificate) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
