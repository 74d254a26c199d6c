// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// maxRequest bounds what is echoed. A datagram's answer is hardly longer than itself: nobody amplifies with it.
	maxRequest = 64
	// retryAccept is how long to wait after a connection could not be accepted.
	retryAccept = 10 * time.Millisecond
	// requestTimeout bounds how long somebody may hold a connection without a request.
	requestTimeout = 5 * time.Second
)

// serve answers on all ports while work runs. It fails if a port cannot be served: silence must mean that something is in
// the way.
func (a *Agent) serve(ctx context.Context, work func() error) (err error) {
	var wait sync.WaitGroup
	var open []io.Closer
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for _, c := range open {
			err = errors.Join(err, c.Close())
		}
		wait.Wait()
	}()
	var config net.ListenConfig
	for _, port := range a.Ports {
		address := net.JoinHostPort("", strconv.Itoa(port))
		listener, err := config.Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("serving: %w", err)
		}
		open = append(open, listener)
		packets, err := config.ListenPacket(ctx, "udp", address)
		if err != nil {
			return fmt.Errorf("serving: %w", err)
		}
		open = append(open, packets)
		wait.Go(func() { a.serveTCP(ctx, listener) })
		wait.Go(func() { a.serveUDP(packets) })
	}
	return work()
}

// serveTCP answers requests on each connection, until nothing comes any more, or ctx ends and the listener is closed.
func (a *Agent) serveTCP(ctx context.Context, l net.Listener) {
	var wait sync.WaitGroup
	defer wait.Wait()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(retryAccept) // no file descriptor left, or somebody hung up
			continue
		}
		wait.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			defer func() { _ = conn.Close() }()
			request := make([]byte, maxRequest)
			for err := error(nil); err == nil; {
				_ = conn.SetDeadline(clock.RealClock{}.Now().Add(requestTimeout))
				var n int
				if n, err = conn.Read(request); err == nil {
					_, err = conn.Write(reply(request[:n], a.Name))
				}
			}
		})
	}
}

// serveUDP answers every datagram, until the socket is closed.
func (a *Agent) serveUDP(p net.PacketConn) {
	request := make([]byte, maxRequest)
	for {
		n, from, err := p.ReadFrom(request)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = p.WriteTo(reply(request[:n], a.Name), from)
		}
	}
}
