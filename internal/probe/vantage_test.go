// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
)

// serveTarget answers one port of a target as a canary does, on an address of loopback that no other test has, which it returns.
func serveTarget(t *testing.T, port uint16) netip.AddrPort {
	t.Helper()
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(1 + rand.IntN(254)), byte(rand.IntN(256)), byte(1 + rand.IntN(254))}), port)
	p, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	go func() {
		request := make([]byte, 64)
		for {
			n, from, err := p.ReadFrom(request)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(append(request[:n:n], " target"...), from)
		}
	}()
	return address
}

// A vantage dials ports of targets for whom asks, and nothing else. Who asks one that is not there does not take that for silence. It is
// not parallel: other tests serve these ports, too.
func TestAVantageDialsForCanaries(t *testing.T) {
	place := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(freePort(t)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- probe.Main(ctx, []string{"--vantage=" + place.String()}) }()
	target := serveTarget(t, 24302)
	via := func(p policy.Protocol, port uint16, via netip.AddrPort) probe.Dial {
		return probe.Dial{Protocol: p, Address: netip.AddrPortFrom(target.Addr(), port), Name: "target", Via: via}
	}
	source, ask := newAgent(t, "source")
	source.Patience = 20 * time.Second
	source.Dials = []probe.Dial{
		via(policy.UDP, 24302, place), via(policy.UDP, 24301, place), via(policy.TCP, 24302, place),
		via(policy.UDP, 24303, place), via(policy.UDP, 24302, netip.AddrPortFrom(place.Addr(), uint16(freePort(t)))),
	}
	ask()
	if got := start(t.Context(), t, source)(); got.Outcomes != "ARRVV" {
		t.Errorf("it reports %+v, want ARRVV", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What is no question gets no answer, and keeps nobody waiting.
func TestAVantageAnswersQuestionsAlone(t *testing.T) {
	t.Parallel()
	place := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- probe.Main(ctx, []string{"--vantage=" + place}) }()
	defer func() { cancel(); <-ended }()
	for _, question := range []string{
		"\n", "GET / HTTP/1.1\r\n\r\n", "TCP/127.0.0.1:22/target\n", "TCP/127.0.0.1:24301/\n", "UDP/127.0.0.1:24301/target/127.0.0.1:24310\n",
	} {
		var conn net.Conn
		for deadline := time.Now().Add(10 * time.Second); conn == nil; time.Sleep(10 * time.Millisecond) {
			var err error
			if conn, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", place); err != nil && time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
		_, _ = io.WriteString(conn, question)
		if answer, _ := io.ReadAll(conn); len(answer) > 0 {
			t.Errorf("%q is answered with %q", question, answer)
		}
		_ = conn.Close()
	}
}
