// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	// fightRepairs is how often within fightWindow an object is repaired at once; who makes us repair it once more fights.
	// A fight is over when nothing had to be repaired for fightWindow.
	fightRepairs = 5
	fightWindow  = time.Minute
	// fightPause lies between two repairs in a fight: with what it takes to see and to write, an object is right again 2 s
	// after the other side has stopped, and is written less than 0.6 times a second.
	fightPause = 1800 * time.Millisecond
)

// objectKey names an object of one of the kinds that we write.
type objectKey struct{ resource, namespace, name string }

// fights remembers which of our objects somebody else keeps changing. Its clock is the one that the queue waits by, or a pause
// would never end while the reconciler's is stopped. It holds fightRepairs times at most for each object
// that had to be written again in the last two windows, and nothing of any other: whatever is older goes with the next
// repair, or with its namespace.
type fights struct {
	mu      sync.Mutex
	objects map[objectKey]*fight
	swept   time.Time
	clock   clock.PassiveClock
	began   func() // called, under the lock, when a fight begins
}

type fight struct {
	writes []time.Time // of ours, the latest ones
	needed time.Time   // when one was last needed
	moved  time.Time   // when the object was last seen to change, other than by us
	// repeated: it had to be repaired twice within fightWindow, which is how fights begin; fought: this is one.
	repeated, fought bool
	// told: that is only what the coverage says.
	told bool
	// manager is the other side, if it was ever known.
	manager string
}

// standing is how it stands with an object.
type standing struct {
	repeated, fought bool
	manager          string        // the other side; empty when it is not known
	over             time.Duration // until all this counts as over if nothing more happens
}

func newFights(c clock.PassiveClock, began func()) *fights {
	return &fights{objects: map[objectKey]*fight{}, clock: c, began: began}
}

// need notes that an object has to be written although nothing but somebody else's doing, manager's if known, asks for it.
// It returns how long to wait with that; see left.
func (f *fights) need(key objectKey, manager string, leads bool) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Now()
	o := f.at(key, now)
	if n := len(o.writes); n > 0 && o.moved.After(o.writes[n-1]) { // and not just a cache that is behind
		o.repeated = true
	}
	if !o.fought && len(o.writes) == fightRepairs {
		o.repeated, o.fought, o.moved = true, true, now
		f.began()
	}
	o.needed = now
	if manager != "" {
		o.manager = manager
	}
	return o.left(now, leads)
}

// told takes over what somebody has written down: the process before this one, or the active replica, which a standby believes
// for as long as it says so.
func (f *fights) told(key objectKey, repeated, fought, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[key]
	switch {
	case leads && o != nil:
		return
	case !repeated && !fought:
		if o != nil && o.told {
			delete(f.objects, key)
		}
		return
	}
	now := f.clock.Now()
	o = f.at(key, now)
	if !o.repeated && !o.fought {
		o.told = true
	}
	if fought && !o.fought {
		o.moved = now
	}
	o.repeated, o.fought, o.needed = true, o.fought || fought, now
}

// at returns what is known of an object as of now.
func (f *fights) at(key objectKey, now time.Time) *fight {
	if now.Sub(f.swept) >= fightWindow {
		maps.DeleteFunc(f.objects, func(_ objectKey, o *fight) bool { return now.Sub(o.needed) >= 2*fightWindow })
		f.swept = now
	}
	o := f.objects[key]
	if o == nil {
		o = &fight{}
		f.objects[key] = o
	}
	o.age(now)
	return o
}

// age drops what happened too long ago to count.
func (o *fight) age(now time.Time) {
	o.writes = slices.DeleteFunc(o.writes, func(t time.Time) bool { return now.Sub(t) >= fightWindow })
	if now.Sub(o.needed) >= fightWindow {
		o.repeated, o.fought, o.told, o.manager = false, false, false, ""
	}
}

// left says how long the next write has to wait. A fight is the active replica's. A standby joins in when nothing has
// happened to the object for longer than the active one would wait: neither that one nor the other side is at it any more.
func (o *fight) left(now time.Time, leads bool) time.Duration {
	switch {
	case !o.fought:
		return 0
	case !leads:
		return max(0, o.moved.Add(fightPause+standbyDelay).Sub(now))
	case len(o.writes) == 0:
		return 0
	}
	return max(0, o.writes[len(o.writes)-1].Add(fightPause).Sub(now))
}

// wrote notes that an object that had to be written again was written, or that somebody else was faster. When nobody was seen to be
// there since the last time, our own view is behind, such as after an outage of an aggregated API: that is no fight.
func (f *fights) wrote(key objectKey, faster bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.clock.Now()
	o := f.at(key, now)
	var last time.Time
	if n := len(o.writes); n > 0 {
		last = o.writes[n-1]
	}
	if faster && !o.moved.After(last) {
		return
	}
	o.writes = append(o.writes, now)
	o.writes = slices.Delete(o.writes, 0, max(0, len(o.writes)-fightRepairs))
}

// seen notes that an object has changed, and returns how long there is no use in looking at it.
func (f *fights) seen(key objectKey, leads bool) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[key]
	if o == nil {
		return 0
	}
	now := f.clock.Now()
	o.age(now)
	o.moved = now
	return o.left(now, leads)
}

// know says whether an object had to be written again within fightWindow.
func (f *fights) know(key objectKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[key]
	return o != nil && f.clock.Since(o.needed) < fightWindow
}

// standing says how it stands with an object.
func (f *fights) standing(key objectKey) standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[key]
	if o == nil {
		return standing{}
	}
	now := f.clock.Now()
	o.age(now)
	return standing{o.repeated, o.fought, o.manager, o.needed.Add(fightWindow).Sub(now)}
}

// forget drops what is remembered of a namespace that is gone. Cost: the objects that were repaired of late.
func (f *fights) forget(namespace string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.objects, func(key objectKey, _ *fight) bool { return key.namespace == namespace })
}
