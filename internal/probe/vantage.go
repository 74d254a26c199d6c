// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"k8s.io/utils/clock"
)

const (
	// vantageTimeout is how long a vantage waits for an answer, and askTimeout how long who asked it does.
	vantageTimeout = 700 * time.Millisecond
	askTimeout     = 2 * time.Second
	// maxQuestion bounds a question, and maxAskers how many are answered at a time.
	maxQuestion = 256
	maxAskers   = 64
)

// vantage dials for canaries from outside of the cluster, and says what came of it. It knows nothing and keeps nothing: a question is a
// line as ParseDial reads it, the answer a letter. It dials the ports of targets alone, and says nothing there but a nonce.
func vantage(ctx context.Context, address string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	free := make(chan struct{}, maxAskers)
	for {
		free <- struct{}{}
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			time.Sleep(retryAccept)
			<-free
			continue
		}
		go func() {
			defer func() { _ = conn.Close(); <-free }()
			_ = conn.SetDeadline(clock.RealClock{}.Now().Add(requestTimeout)) // it fails only on a closed connection
			if d, err := readQuestion(conn); err == nil {
				_, _ = conn.Write([]byte{byte(d.once(ctx, vantageTimeout))})
			}
		}()
	}
}

func readQuestion(conn io.Reader) (Dial, error) {
	line := bufio.NewScanner(io.LimitReader(conn, maxQuestion))
	line.Scan()
	d, err := ParseDial(line.Text())
	if err != nil {
		return d, err
	}
	if !slices.Contains(ingressPorts[:], int32(d.Address.Port())) || d.Name == "" || d.Via.IsValid() {
		return d, fmt.Errorf("%s is no target's", d)
	}
	return d, nil
}

// ask has the vantage dial.
func (d Dial) ask(ctx context.Context) Outcome {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.Via.String())
	if err != nil {
		return Unheard
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	d.Via = netip.AddrPort{}
	answer := make([]byte, 1)
	if _, err := fmt.Fprintln(conn, d); err != nil {
		return Unheard
	}
	if _, err := io.ReadFull(conn, answer); err != nil {
		return Unheard
	}
	return Outcome(answer[0])
}
