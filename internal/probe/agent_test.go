// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
)

// freePort returns a port of this host that nobody uses over TCP or UDP.
func freePort(t *testing.T) int {
	t.Helper()
	var config net.ListenConfig
	for {
		l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().(*net.TCPAddr)
		p, err := config.ListenPacket(t.Context(), "udp", address.String())
		_ = l.Close()
		if err == nil {
			_ = p.Close()
			return address.Port
		}
	}
}

// newAgent returns an agent in a hurry with files of its own. The second result asks it.
func newAgent(t *testing.T, name string) (*probe.Agent, func()) {
	t.Helper()
	dir := t.TempDir()
	a := &probe.Agent{
		Name: name, Ask: filepath.Join(dir, "ask"), Out: filepath.Join(dir, "out"),
		Pace: 50 * time.Millisecond, Timeout: 300 * time.Millisecond, Patience: 2 * time.Second,
	}
	return a, func() {
		if err := os.WriteFile(a.Ask, []byte("now"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// start runs an agent. The function that it returns waits for its report.
func start(ctx context.Context, t *testing.T, a *probe.Agent) func() probe.Report {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Run(ctx) }() // what goes wrong is in its report
	return func() probe.Report {
		<-done
		data, err := os.ReadFile(a.Out)
		if err != nil {
			t.Fatal(err)
		}
		var r probe.Report
		if err := json.Unmarshal(data, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func dial(p policy.Protocol, port int, name string) probe.Dial {
	return probe.Dial{Protocol: p, Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)), Name: name}
}

// Two agents talk over the loopback; what listens and does not answer, or is not there, is told apart.
func TestAnAgentTellsWhatItFinds(t *testing.T) {
	t.Parallel()
	target, _ := newAgent(t, "target")
	target.Ports = []int{freePort(t)}
	ctx, cancel := context.WithCancel(t.Context())
	report := start(ctx, t, target)
	defer func() { cancel(); _ = report() }()
	var config net.ListenConfig
	mute, err := config.Listen(ctx, "tcp", "127.0.0.1:0") // its backlog takes connections
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mute.Close() }()
	port, nobody, silent := target.Ports[0], freePort(t), mute.Addr().(*net.TCPAddr).Port
	source, ask := newAgent(t, "source")
	source.Dials = []probe.Dial{
		dial(policy.TCP, port, "target"), dial(policy.UDP, port, "target"), dial(policy.TCP, port, ""),
		dial(policy.TCP, port, "other"), dial(policy.UDP, port, "targe"), dial(policy.TCP, nobody, "target"), dial(policy.UDP, nobody, "target"), dial(policy.TCP, silent, "target"),
	}
	source.Holds = []probe.Dial{dial(policy.TCP, port, "target"), dial(policy.TCP, nobody, "target")}
	source.Watches = []probe.Dial{dial(policy.UDP, port, "target"), dial(policy.UDP, nobody, "target")}
	found := start(t.Context(), t, source)
	time.Sleep(time.Second)
	ask()
	got := found()
	if diff := cmp.Diff(probe.Report{Outcomes: "AAAWWRRS", Held: "AU"}, probe.Report{Outcomes: got.Outcomes, Held: got.Held, Error: got.Error}); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	if len(got.Watched) != 2 || got.Watched[0] < 2000 || got.Watched[1] != -1 {
		t.Errorf("it watched %v, want a place that answered to the end, and one that never did", got.Watched)
	}
}

// A connection that its other end does not hear of any more is not held.
func TestAConnectionThatBreaksIsNotHeld(t *testing.T) {
	t.Parallel()
	target, _ := newAgent(t, "target")
	target.Ports = []int{freePort(t)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := start(ctx, t, target)
	source, ask := newAgent(t, "source")
	source.Holds = []probe.Dial{dial(policy.TCP, target.Ports[0], "target")}
	found := start(t.Context(), t, source)
	time.Sleep(time.Second)
	cancel()
	_ = ended()
	time.Sleep(time.Second)
	ask()
	if got := found(); got.Held != "R" {
		t.Errorf("held %q, want R", got.Held)
	}
}

// What changes while it is dialled is not stable, unless it stays one way long enough.
func TestAnAgentWaitsUntilOutcomesAreStable(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	source, ask := newAgent(t, "source")
	source.Patience = 20 * time.Second
	source.Dials = []probe.Dial{dial(policy.TCP, port, "late")}
	ask()
	found := start(t.Context(), t, source)
	time.Sleep(60 * time.Millisecond) // one refusal, at most two
	late, _ := newAgent(t, "late")
	late.Ports = []int{port}
	ctx, cancel := context.WithCancel(t.Context())
	ended := start(ctx, t, late)
	got := found()
	cancel()
	_ = ended()
	if got.Outcomes != "A" && got.Outcomes != "R" {
		t.Errorf("it reports %+v", got)
	}
}

// An agent that is ended before it was asked, or cannot serve, says so, and has proven nothing.
func TestAnAgentSaysWhatKeepsItFromReporting(t *testing.T) {
	t.Parallel()
	ended, _ := newAgent(t, "ended")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := start(ctx, t, ended)(); !strings.Contains(got.Error, "before it was asked") || got.Outcomes != "" {
		t.Errorf("it reports %+v", got)
	}
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	taken, ask := newAgent(t, "taken")
	taken.Ports = []int{l.Addr().(*net.TCPAddr).Port}
	ask()
	if got := start(t.Context(), t, taken)(); !strings.Contains(got.Error, "address already in use") || got.Outcomes != "" {
		t.Errorf("it reports %+v", got)
	}
}

func TestParseDial(t *testing.T) {
	t.Parallel()
	for text, valid := range map[string]bool{
		"TCP/10.0.0.1:80/name": true, "UDP/[fd00::1]:80/name": true, "TCP/10.0.0.1:80/": true, "UDP/10.0.0.1:80/name/[fd00::2]:81": true,
		"TCP/10.0.0.1:80/name/host:81": false, "TCP/10.0.0.1:80/name/10.0.0.2:81/": false,
		"UDP/10.0.0.1:80/": false, "SCTP/10.0.0.1:80/name": false, "TCP/10.0.0.1/name": false, "TCP/host:80/name": false, "TCP": false, "": false,
	} {
		d, err := probe.ParseDial(text)
		if (err == nil) != valid {
			t.Errorf("%q: %v, want valid %t", text, err, valid)
		}
		if err == nil && d.String() != text {
			t.Errorf("%q is read as %q", text, d)
		}
	}
}

// The arguments of a canary's pod are those that an agent takes.
func TestAnAgentTakesTheArgumentsOfItsPod(t *testing.T) {
	t.Parallel()
	s := seen(sampleOf(both, "a", "b"))
	for _, c := range s.Canaries("") {
		args := s.Pod(c, probe.Image{Name: "image"}).Spec.Containers[0].Args
		if args[0] != probe.Command {
			t.Fatalf("the first argument is %q", args[0])
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := probe.Main(ctx, append(args[1:], "--ask="+filepath.Join(t.TempDir(), "ask"), "--out="+filepath.Join(t.TempDir(), "out")))
		if want := fmt.Sprint(context.Canceled); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", c, err, want)
		}
	}
	for _, args := range [][]string{{}, {"--name=a", "--ask=b"}, {"--name=a", "--ask=b", "--out=c", "more"}, {"--name=a", "--ask=b", "--out=c", "--serve=99999"}, {"--vantage=127.0.0.1:0", "--name=a", "--ask=b", "--out=c"}} {
		if err := probe.Main(t.Context(), args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}
