// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"context"
	"net"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// watchPace is how often places are tried in an agent's first moments: the start window is known to as many milliseconds.
	watchPace = 10 * time.Millisecond
	// watchLimit is how long they are tried.
	watchLimit = 3 * time.Second
	// holdTimeout is how long a connection that is held may take to answer. It is generous: one that was taken for cut cannot be made
	// again.
	holdTimeout = 3 * time.Second
)

// Settled is how long after its start a canary has seen all that it can before what is open changes: a second to make the connections
// that it holds, and what it watches.
const Settled = watchLimit + time.Second

// never says that nothing was answered.
const never = -1

// watchAll watches all places at once from now on. The function that it returns waits for what it has seen.
func (a *Agent) watchAll(ctx context.Context) func() []int64 {
	var wait sync.WaitGroup
	seen := make([]int64, len(a.Watches))
	for i, d := range a.Watches {
		wait.Go(func() { seen[i] = d.watch(ctx) })
	}
	return func() []int64 { wait.Wait(); return seen }
}

// watch tries a place in a row, and returns when it was last tried with success, in milliseconds since it began.
func (d Dial) watch(ctx context.Context) int64 {
	c := clock.RealClock{}
	start := c.Now()
	last := int64(never)
	for ctx.Err() == nil && c.Since(start) < watchLimit {
		tried := c.Now()
		if d.once(ctx, watchPace) == Answered {
			last = tried.Sub(start).Milliseconds()
		}
		time.Sleep(watchPace - c.Since(tried))
	}
	return last
}

// holdAll keeps connections to all places until the agent is asked. The function that it returns waits for a letter for each.
func (a *Agent) holdAll(ctx context.Context, asked <-chan struct{}) func() string {
	var wait sync.WaitGroup
	states := make([]Outcome, len(a.Holds))
	for i, d := range a.Holds {
		wait.Go(func() { states[i] = a.hold(ctx, d, asked) })
	}
	return func() string {
		wait.Wait()
		var out strings.Builder
		for _, s := range states {
			out.WriteByte(byte(s))
		}
		return out.String()
	}
}

// hold keeps a connection in use until the agent is asked, and says what came of its last use; Unstable if it never came to be. One
// that breaks is made again, if it can be: as long as it is allowed, only that it is denied keeps it broken.
func (a *Agent) hold(ctx context.Context, d Dial, asked <-chan struct{}) Outcome {
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for state := Unstable; ; {
		over := false
		select {
		case <-asked:
			over = true
		case <-ctx.Done():
			return state
		case <-time.After(a.Pace):
		}
		if conn == nil && !over {
			conn, _ = (&net.Dialer{Timeout: a.Timeout}).DialContext(ctx, "tcp", d.Address.String())
		}
		if conn != nil {
			if state = d.exchange(conn, clock.RealClock{}.Now().Add(holdTimeout)); state != Answered {
				_ = conn.Close()
				conn = nil
			}
		}
		if over {
			return state
		}
	}
}
