// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

// ideal is what an undisturbed run does.
type ideal struct {
	before, after map[string]any
	writes        []string // keys, in order
	events        []string
	made          map[string]int
	// slack is how much oftener an object may be created or deleted.
	slack int
}

// TestPlans breaks each workload at each of its writes and events.
func TestPlans(t *testing.T) {
	t.Parallel()
	for offset, name := range slices.Sorted(maps.Keys(workloads)) {
		w := workloads[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var still, moved ideal
			t.Run("undisturbed", func(t *testing.T) { still, moved = undisturbed(t, w) })
			if len(still.writes) == 0 || len(still.events) == 0 {
				t.Fatalf("it writes %v and sees %v", still.writes, still.events)
			}
			s := sample{name: name, workload: w, next: offset % *stride}
			for _, at := range still.writes {
				for _, m := range []mode{refused, failed, lost, exitBefore, exitAfter} {
					s.plan(t, "crash: ", string(m)+" "+at, &still, func(p *play) { p.crash(w, &still, fault{at, m}) })
				}
			}
			if w.moves == nil {
				return
			}
			for _, at := range still.events {
				s.plan(t, "stale: ", string(frozen)+" "+at, &moved, func(p *play) { p.stale(w, &moved, at) })
				for _, m := range []mode{dropped, merged} {
					s.plan(t, "lossy: ", string(m)+" "+at, &still, func(p *play) { p.lossy(w, &still, lens{at: at, mode: m}) })
				}
			}
		})
	}
}

// sample chooses one plan of every stride.
type sample struct {
	name     string
	workload workload
	i, next  int
}

// plan runs a plan, from the first state to its end, if it is chosen.
func (s *sample) plan(t *testing.T, kind, name string, want *ideal, run func(p *play)) {
	t.Helper()
	if s.i == s.next {
		s.next += *stride
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlay(t, enter(t), s.workload.time())
			t.Cleanup(func() { totals.plan(kind+s.name, t.Failed()) })
			s.workload.setUp(p)
			p.reach(want.before)
			run(p)
			p.conclude(want)
		})
	}
	s.i++
}

// undisturbed runs a workload without a fault, and then what happens to the world.
func undisturbed(t *testing.T, w workload) (still, moved ideal) {
	t.Helper()
	p := newPlay(t, enter(t), w.time())
	w.setUp(p)
	still.before = p.rest()
	p.op.wire.arm(fault{}, lens{})
	w.change(p)
	still.after = p.rest()
	counts := map[string]int{}
	for _, done := range p.op.wire.written() {
		counts[done.String()]++
		still.writes = append(still.writes, key(done.String(), counts[done.String()]))
	}
	still.events = p.op.wire.noticed()
	p.await("the history is complete", func() error { return p.history.complete(t.Context()) })
	still.made = p.history.made(p.mine)
	moved = still
	if w.moves != nil {
		w.moves(p)
		// Watches of several kinds have no order: two changes may be seen in the one or in the other, and be followed in between.
		moved.after, moved.slack = p.rest(), 1
	}
	p.end()
	p.judge(nil)
	moved.made = p.history.made(p.mine)
	return still, moved
}

func (w workload) time() clock.PassiveClock {
	if w.clock == nil {
		return clock.RealClock{}
	}
	return w.clock()
}

// crash breaks one write.
func (p *play) crash(w workload, want *ideal, f fault) {
	p.t.Helper()
	p.op.wire.arm(f, lens{})
	attended, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(attended)
		p.attend(over)
	}()
	defer func() {
		close(over)
		<-attended
	}()
	w.change(p)
	p.reach(want.after)
}

// attend starts a new operator when the old one has ended, as a kubelet does.
func (p *play) attend(over <-chan struct{}) {
	wire := p.op.wire
	select {
	case <-wire.struck:
	case <-over:
		return
	}
	if wire.fault.mode != exitBefore && wire.fault.mode != exitAfter {
		return
	}
	if err := p.op.kill(); err != nil {
		p.t.Error(err)
	}
	next := newWire()
	op, err := p.world.start(next, p.clock)
	if err != nil {
		p.t.Error(err)
		return
	}
	p.op, p.wires = op, append(p.wires, next)
}

// conclude ends a plan that has converged.
func (p *play) conclude(want *ideal) {
	p.t.Helper()
	select {
	case <-p.wires[0].struck:
	default:
		p.t.Log("what the fault waits for did not happen this time")
		totals.add(func() { totals.missed++ })
	}
	time.Sleep(linger)
	p.reach(want.after)
	p.end()
	p.judge(want)
}
