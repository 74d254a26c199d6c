// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"testing"
	"time"
)

// TestStaleViews ends the operator at each event, lets the world move on, and has the next operator work from the state as of
// that event for a while before it sees the present.
func TestStaleViews(t *testing.T) {
	t.Parallel()
	for name, w := range workloads {
		if w.moves == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want ideal
			t.Run("undisturbed", func(t *testing.T) { want = undisturbed(t, w, true) })
			for _, at := range sample(t, want.events, len(name)) {
				t.Run(at, func(t *testing.T) { stale(t, w, &want, at, "stale: "+name) })
			}
		})
	}
}

// TestLossyViews drops each event, or merges it with the next one of its object.
func TestLossyViews(t *testing.T) {
	t.Parallel()
	for name, w := range workloads {
		if w.moves == nil {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want ideal
			t.Run("undisturbed", func(t *testing.T) { want = undisturbed(t, w, false) })
			for i, m := range []mode{dropped, merged} {
				for _, at := range sample(t, want.events, len(name)+i) {
					t.Run(string(m)+" "+at, func(t *testing.T) { lossy(t, w, &want, lens{at: at, mode: m}, "lossy: "+name) })
				}
			}
		})
	}
}

// sample returns all events, or one of every stride, from an offset on.
func sample(t *testing.T, events []string, offset int) []string {
	t.Helper()
	if len(events) == 0 {
		t.Fatal("there are no events")
	}
	if *all {
		return events
	}
	var out []string
	for i := offset % stride; i < len(events); i += stride {
		out = append(out, events[i])
	}
	return out
}

func stale(t *testing.T, w workload, want *ideal, at, kind string) {
	t.Helper()
	t.Parallel()
	p := newPlay(t, enter(t), w.time())
	totals.plan(t, kind)
	w.setUp(p)
	p.reach(want.before)
	wire := p.op.wire
	wire.arm(fault{}, lens{at: at, mode: frozen})
	w.change(p)
	select {
	case <-wire.struck:
	case <-time.After(patience / 3):
	}
	p.end()
	w.moves(p)
	next := newWire()
	next.lens.asOf, next.lens.thawed = wire.lens.version, make(chan struct{})
	p.launch(next)
	time.Sleep(blind) // it works from what it sees
	close(next.lens.thawed)
	p.reach(want.after)
	p.conclude(want)
}

// blind is how long an operator works from a stale view.
const blind = 500 * time.Millisecond

func lossy(t *testing.T, w workload, want *ideal, l lens, kind string) {
	t.Helper()
	t.Parallel()
	p := newPlay(t, enter(t), w.time())
	totals.plan(t, kind)
	w.setUp(p)
	p.reach(want.before)
	p.op.wire.arm(fault{}, l)
	w.change(p)
	p.reach(want.after)
	p.conclude(want)
}
