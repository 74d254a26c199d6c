// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package handshake looks at what endpoints speak, as anybody could who does not log in: plain text, TLS, or nothing.
//
// It is safe to run in production. Only endpoints of a [Scope] are dialled, by address; a handshake is made, and where there is none,
// one request with no credentials in it. Answers are neither kept nor followed. Bounds: 64 KiB a connection, [Budget] an endpoint,
// [Workers] endpoints together, [Rate] connections a second.
package handshake

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	"k8s.io/utils/clock"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The bounds of a Dialer. One endpoint takes up to six connections.
const (
	// Budget is the time for one endpoint, waiting for its turn not included.
	Budget = 5 * time.Second
	// Workers is how many endpoints are looked at together, so that a slow one delays nobody.
	Workers = 32
	// Rate is how many connections are made in a second, over all endpoints.
	Rate = 100

	connectTimeout = 2 * time.Second
	answerTimeout  = time.Second
)

// Target is an endpoint to look at.
type Target struct {
	Address netip.AddrPort
	// ServerName is the name to ask for and to find in the certificate; "" asks for none, and wants the address there.
	ServerName string
	// Roots are the expected ones; nil trusts nobody.
	Roots *x509.CertPool
	// MinVersion is the lowest acceptable version, as crypto/tls numbers them.
	MinVersion uint16
}

// Dialer looks at endpoints.
type Dialer struct {
	scope   *Scope
	limiter *rate.Limiter
	dialer  net.Dialer
	clock   clock.PassiveClock // of deadlines, which are the system's: never a fake one
}

// NewDialer returns a Dialer for the endpoints of a scope.
func NewDialer(scope *Scope) *Dialer {
	return &Dialer{scope: scope, limiter: rate.NewLimiter(Rate, Workers), dialer: net.Dialer{Timeout: connectTimeout, KeepAlive: -1}, clock: clock.RealClock{}}
}

// Look returns what was seen of each target, in their order. Cost: at most six connections a target. When ctx ends, the rest is
// NotDialled.
func (d *Dialer) Look(ctx context.Context, targets []Target) []snapshot.Sight {
	out := make([]snapshot.Sight, len(targets))
	var group errgroup.Group
	group.SetLimit(Workers)
	for i, t := range targets {
		group.Go(func() error {
			out[i] = d.look(ctx, t)
			return nil
		})
	}
	_ = group.Wait() // what went wrong is in what was seen
	return out
}

func (d *Dialer) look(ctx context.Context, t Target) snapshot.Sight {
	s := snapshot.Sight{Address: t.Address}
	if err := d.scope.Permits(t.Address); err != nil {
		s.Speech, s.Detail = snapshot.SpeechNotDialled, "It is "+err.Error()+"."
		return s
	}
	if err := d.limiter.WaitN(ctx, 1); err != nil { // so that the budget begins with the first connection
		s.Speech, s.Detail = snapshot.SpeechNotDialled, "There was no time left for it."
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, Budget)
	defer cancel()
	c, err := d.connect(ctx, t.Address)
	if err != nil {
		s.Speech, s.Detail = unconnected(err)
		return s
	}
	err = d.greet(ctx, c, t, &s)
	switch some, tls := c.answered(); {
	case tls:
		s.Speech = snapshot.SpeechTLS
		d.tempt(ctx, t, &s)
	case some:
		s.Speech, s.Detail = snapshot.SpeechPlain, "It answers a TLS handshake in the clear."
	default:
		s.Speech, s.Detail = d.ask(ctx, t.Address, err)
	}
	return s
}

// connect makes a connection that ends with ctx.
func (d *Dialer) connect(ctx context.Context, to netip.AddrPort) (*conn, error) {
	c, err := d.dialer.DialContext(ctx, "tcp", plain(to).String())
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return &conn{Conn: c}, nil
}

// again makes a further connection when it is its turn.
func (d *Dialer) again(ctx context.Context, to netip.AddrPort) (*conn, error) {
	if err := d.limiter.Wait(ctx); err != nil {
		return nil, fmt.Errorf("waiting for a turn: %w", err)
	}
	return d.connect(ctx, to)
}

// unconnected tells a host that says no from silence.
func unconnected(err error) (snapshot.Speech, string) {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return snapshot.SpeechClosed, "Nobody listens there."
	case errors.Is(err, syscall.ECONNRESET): // before we could look
		return snapshot.SpeechSilent, hangsUp
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return snapshot.SpeechUnreachable, "It does not answer: a policy or firewall in between, or no such host."
	case errors.Is(err, context.Canceled):
		return snapshot.SpeechNotDialled, "There was no time left for it."
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return snapshot.SpeechUnreachable, "There is no way to it: a policy or firewall in between, or no such host."
	default:
		return snapshot.SpeechUnreachable, "It cannot be connected to."
	}
}

const hangsUp = "It takes connections and ends them without an answer."

// requests are what plain servers answer to: of HTTP/1, which many other protocols answer with a complaint, and of HTTP/2, which gRPC
// begins with (RFC 9113, 3.4: the preface and empty settings).
var requests = []string{
	"GET / HTTP/1.0\r\n\r\n",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
}

// ask finds out whether an endpoint that did not answer a handshake answers in the clear.
func (d *Dialer) ask(ctx context.Context, to netip.AddrPort, handshake error) (snapshot.Speech, string) {
	for _, request := range requests {
		c, err := d.again(ctx, to)
		if err != nil {
			break
		}
		some, tls := c.exchange(request, d.clock.Now().Add(answerTimeout))
		switch {
		case tls:
			return snapshot.SpeechTLS, "It speaks TLS, but did not answer a handshake in time."
		case some:
			return snapshot.SpeechPlain, "It answers a request in the clear."
		}
	}
	if errors.Is(handshake, context.DeadlineExceeded) {
		return snapshot.SpeechSilent, "It takes connections and answers nothing in time."
	}
	return snapshot.SpeechSilent, hangsUp
}

// exchange sends a request, waits for the beginning of an answer, and ends the connection.
func (c *conn) exchange(request string, deadline time.Time) (any, tls bool) {
	defer func() { _ = c.Close() }()
	if err := c.SetDeadline(deadline); err != nil {
		return false, false
	}
	if _, err := c.Write([]byte(request)); err != nil {
		return false, false
	}
	_, _ = c.Read(make([]byte, len(c.first))) // whatever ends it, answered tells
	return c.answered()
}
