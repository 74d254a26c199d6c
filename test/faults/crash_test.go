// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"slices"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

// stride is of how many plans one runs, unless all do.
const stride = 9

// ideal is what an undisturbed run does.
type ideal struct {
	before, after map[string]any
	writes        []string // keys, in order
	events        []string
	made          map[string]int
}

// undisturbed runs a workload, and what happens to the world after it if asked to, without a fault.
func undisturbed(t *testing.T, w workload, moves bool) ideal {
	t.Helper()
	p := newPlay(t, enter(t), w.time())
	w.setUp(p)
	out := ideal{before: p.rest()}
	p.op.wire.arm(fault{}, lens{})
	w.change(p)
	out.after = p.rest()
	counts := map[string]int{}
	for _, done := range p.op.wire.written() {
		counts[done.String()]++
		out.writes = append(out.writes, key(done.String(), counts[done.String()]))
	}
	out.events = slices.Clone(p.op.wire.events)
	if moves {
		w.moves(p)
		out.after = p.rest()
	}
	p.end()
	p.judge(p.history.made(p.mine))
	out.made = p.history.made(p.mine)
	return out
}

func (w workload) time() clock.PassiveClock {
	if w.clock == nil {
		return clock.RealClock{}
	}
	return w.clock()
}

// TestCrashPlans breaks each write of each workload in each way.
func TestCrashPlans(t *testing.T) {
	t.Parallel()
	for name, w := range workloads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want ideal
			t.Run("undisturbed", func(t *testing.T) { want = undisturbed(t, w, false) })
			if len(want.writes) == 0 {
				t.Fatal("it writes nothing")
			}
			t.Logf("%d writes: %v", len(want.writes), want.writes)
			n := 0
			for _, at := range want.writes {
				for _, m := range modes {
					if n++; *all || n%stride == len(name)%stride {
						t.Run(string(m)+" "+at, func(t *testing.T) { crash(t, w, &want, fault{at, m}, "crash: "+name) })
					}
				}
			}
		})
	}
}

// crash runs one plan.
func crash(t *testing.T, w workload, want *ideal, f fault, kind string) {
	t.Helper()
	t.Parallel()
	p := newPlay(t, enter(t), w.time())
	totals.plan(t, kind)
	w.setUp(p)
	p.reach(want.before)
	p.op.wire.arm(f, lens{})
	attended, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(attended)
		p.attend(over)
	}()
	func() {
		defer func() {
			close(over)
			<-attended
		}()
		w.change(p)
		p.reach(want.after)
	}()
	p.conclude(want)
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
	p.judge(want.made)
}
