// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package outages_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/test/site"
)

// A fault answers a request in place of the API server, or has next do it.
type fault func(w http.ResponseWriter, r *http.Request, next http.Handler)

// proxy stands between an operator and the API server.
type proxy struct {
	server  site.Server
	address string
	next    *httputil.ReverseProxy
	cert    tls.Certificate
	fault   atomic.Pointer[fault]
	hit     atomic.Int64 // requests that a fault has changed

	mu       sync.Mutex
	listener *http.Server // nil while nobody listens
	watches  map[*http.Request]context.CancelFunc
}

func startProxy(t *testing.T) *proxy {
	t.Helper()
	target, err := url.Parse(env.Cluster.ServerURL())
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{next: httputil.NewSingleHostReverseProxy(target), watches: map[*http.Request]context.CancelFunc{}}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(env.Cluster.CAData())
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	p.next.Transport = transport
	p.next.FlushInterval = -1 // events are for now
	p.next.ErrorLog = log.New(io.Discard, "", 0)
	p.certify(t)
	p.listen(t)
	t.Cleanup(func() {
		p.refuse(t)
		transport.CloseIdleConnections()
	})
	return p
}

// certify makes a certificate that signs for itself.
func (p *proxy) certify(t *testing.T) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	p.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	p.server.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// listen serves; the first time on any free port, then on the same.
func (p *proxy) listen(t *testing.T) {
	t.Helper()
	if p.address == "" {
		p.address = "127.0.0.1:0"
	}
	var config net.ListenConfig
	var listener net.Listener
	var err error
	for range 100 { // the port may be taken for an instant, by a client that dials itself
		if listener, err = config.Listen(t.Context(), "tcp", p.address); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.address = listener.Addr().String()
	p.server.URL = "https://" + p.address
	server := &http.Server{
		Handler: p, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{p.cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}},
	}
	p.mu.Lock()
	p.listener = server
	p.mu.Unlock()
	go func() { _ = server.ServeTLS(listener, "", "") }()
}

// refuse breaks all connections and refuses new ones until listen.
func (p *proxy) refuse(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	server := p.listener
	p.listener = nil
	p.mu.Unlock()
	if server != nil {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
}

// set puts a fault between; nil takes it away.
func (p *proxy) set(f fault) {
	if f == nil {
		p.fault.Store(nil)
		return
	}
	p.fault.Store(&f)
}

// cut ends every watch that runs.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, cancel := range p.watches {
		cancel()
	}
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if watching(r) {
		ctx, cancel := context.WithCancel(r.Context())
		r = r.WithContext(ctx)
		p.mu.Lock()
		p.watches[r] = cancel
		p.mu.Unlock()
		defer func() {
			cancel()
			p.mu.Lock()
			delete(p.watches, r)
			p.mu.Unlock()
		}()
	}
	if f := p.fault.Load(); f != nil {
		(*f)(w, r, p.next)
		return
	}
	p.next.ServeHTTP(w, r)
}

func watching(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }

func writing(r *http.Request) bool { return r.Method != http.MethodGet }

// answer answers as the API server does.
func answer(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.Header().Set("Content-Type", "application/json")
	if code == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{ //nolint:errchkjson // whoever does not take the answer has hung up
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: "made up by a test",
	})
}

// storm answers a share of the requests with an error; half of the failed writes have landed if landed is set.
func (p *proxy) storm(code int, reason metav1.StatusReason, share float64, landed bool) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch {
		case mathrand.Float64() >= share, code == http.StatusConflict && !writing(r): // nobody conflicts with a read
			next.ServeHTTP(w, r)
			return
		case landed && writing(r) && mathrand.Float64() < 0.5:
			next.ServeHTTP(&deaf{header: http.Header{}}, r)
		}
		p.hit.Add(1)
		answer(w, code, reason)
	}
}

// deaf is a response that nobody gets.
type deaf struct{ header http.Header }

func (d *deaf) Header() http.Header         { return d.header }
func (d *deaf) Write(b []byte) (int, error) { return len(b), nil }
func (d *deaf) WriteHeader(int)             {}

// slow lets every request wait.
func (p *proxy) slow(delay time.Duration) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		select {
		case <-time.After(delay):
			p.hit.Add(1)
			next.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}
}

// shortWatches ends each watch after a while: every second one as a server that closes it, the others as a broken connection.
func (p *proxy) shortWatches(life time.Duration) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if !watching(r) {
			next.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), life)
		defer cancel()
		clean := p.hit.Add(1)%2 == 0
		defer func() {
			if failure := recover(); failure != nil && !clean { // the reverse proxy panics to break the connection
				panic(failure)
			}
		}()
		next.ServeHTTP(w, r.WithContext(ctx))
	}
}

// blind refuses the watches of one kind, while all others go on.
func (p *proxy) blind(resource string) fault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if watching(r) && path.Base(r.URL.Path) == resource {
			p.hit.Add(1)
			answer(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	}
}

// forgetful tells everybody who goes on from a version that this is too old.
func (p *proxy) forgetful(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if version := r.URL.Query().Get("resourceVersion"); !writing(r) && version != "" && version != "0" {
		p.hit.Add(1)
		answer(w, http.StatusGone, metav1.StatusReasonExpired)
		return
	}
	next.ServeHTTP(w, r)
}
