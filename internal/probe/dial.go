// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Outcome is what came of a dial.
type Outcome byte

// The outcomes.
const (
	// Answered: who was dialled has answered; where no name is known, the connection was accepted.
	Answered Outcome = 'A'
	// Refused: somebody said no, be it the host or a firewall that rejects.
	Refused Outcome = 'R'
	// Silent: nothing came back.
	Silent Outcome = 'S'
	// Wrong: somebody else answered.
	Wrong Outcome = 'W'
	// Sometimes: the outcomes kept changing to the end, and who was dialled has answered among the last.
	Sometimes Outcome = 'F'
	// Unstable: they kept changing, and nobody has answered among the last.
	Unstable Outcome = 'U'
	// Unheard: the vantage, which was to dial, did not say what came of it.
	Unheard Outcome = 'V'
)

// Dial is one place to dial. Name is what answers there; empty where being accepted is all that is asked. Via is the vantage that is to
// dial; zero for who asks itself.
type Dial struct {
	Protocol policy.Protocol
	Address  netip.AddrPort
	Name     string
	Via      netip.AddrPort
}

// String is the form that ParseDial reads.
func (d Dial) String() string {
	text := fmt.Sprintf("%s/%s/%s", d.Protocol, d.Address, d.Name)
	if d.Via.IsValid() {
		text += "/" + d.Via.String()
	}
	return text
}

// ParseDial reads PROTOCOL/ADDRESS:PORT/NAME, with /VANTAGE:PORT or without.
func ParseDial(s string) (Dial, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 3 || len(parts) > 4 || (parts[0] != string(policy.TCP) && parts[0] != string(policy.UDP)) {
		return Dial{}, fmt.Errorf("%q: must be PROTOCOL/ADDRESS:PORT/NAME with TCP or UDP", s)
	}
	address, err := netip.ParseAddrPort(parts[1])
	if err != nil {
		return Dial{}, err
	}
	d := Dial{Protocol: policy.Protocol(parts[0]), Address: address, Name: parts[2]}
	if len(parts) > 3 {
		if d.Via, err = netip.ParseAddrPort(parts[3]); err != nil {
			return Dial{}, err
		}
	}
	if d.Name == "" && d.Protocol == policy.UDP {
		return Dial{}, fmt.Errorf("%q: UDP needs a name: nothing else tells an answer", s)
	}
	return d, nil
}

// dialAll dials every place once, at the same time.
func (a *Agent) dialAll(ctx context.Context, histories []history) {
	var wait sync.WaitGroup
	for i, d := range a.Dials {
		wait.Go(func() { histories[i] = append(histories[i], d.once(ctx, a.Timeout)) })
	}
	wait.Wait()
}

// once dials one place.
func (d Dial) once(ctx context.Context, timeout time.Duration) Outcome {
	if d.Via.IsValid() {
		return d.ask(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, strings.ToLower(string(d.Protocol)), d.Address.String())
	if err != nil {
		return failure(err)
	}
	defer func() { _ = conn.Close() }()
	if d.Name == "" {
		return Answered
	}
	deadline, _ := ctx.Deadline()
	return d.exchange(conn, deadline)
}

// exchange says something on a connection, and looks who answers.
func (d Dial) exchange(conn net.Conn, deadline time.Time) Outcome {
	_ = conn.SetDeadline(deadline) // it fails only on a closed connection
	nonce := rand.Text()
	if _, err := io.WriteString(conn, nonce); err != nil {
		return failure(err)
	}
	want := reply([]byte(nonce), d.Name)
	got := make([]byte, len(want)+1) // one more, so that a longer answer is not taken for it
	n, err := io.ReadAtLeast(conn, got, 1)
	for err == nil && d.Protocol == policy.TCP && n < len(want) {
		var more int
		more, err = conn.Read(got[n:])
		n += more
	}
	switch {
	case bytes.Equal(got[:n], want):
		return Answered
	case n > 0:
		return Wrong
	}
	return failure(err)
}

// failure tells a no from silence. A connection that was made and then ended was cut by somebody on the way.
func failure(err error) Outcome {
	for _, no := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EACCES, syscall.EPERM, io.EOF} {
		if errors.Is(err, no) {
			return Refused
		}
	}
	return Silent
}

// reply is what a canary answers to a nonce.
func reply(nonce []byte, name string) []byte {
	return append(append(bytes.Clone(nonce), ' '), name...)
}
