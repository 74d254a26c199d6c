// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import "time"

// blind is how long an operator works from a stale view.
const blind = 500 * time.Millisecond

// stale ends the operator at an event, lets the world move on, and has the next operator work from the state as of that event for
// a while before it sees the present.
func (p *play) stale(w workload, want *ideal, at string) {
	p.t.Helper()
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
	time.Sleep(blind)
	close(next.lens.thawed)
	p.reach(want.after)
}

// lossy drops an event, or merges it with the next one of its object.
func (p *play) lossy(w workload, want *ideal, l lens) {
	p.t.Helper()
	p.op.wire.arm(fault{}, l)
	w.change(p)
	p.reach(want.after)
}
