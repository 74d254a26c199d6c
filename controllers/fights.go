// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"maps"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// A fight is more than fightRepairs repairs of one object within fightWindow.
const (
	fightRepairs = 5
	fightWindow  = time.Minute
)

// fights remembers who keeps changing our objects. It holds an entry for every object that was repaired, until the first
// look at it a minute later or its namespace goes, and at most fightRepairs+1 times for each.
type fights struct {
	mu      sync.Mutex
	objects map[types.NamespacedName]*fight
}

type fight struct {
	repairs []time.Time
	manager string
}

func newFights() *fights { return &fights{objects: map[types.NamespacedName]*fight{}} }

// repaired notes a repair of an object that manager, if known, had changed.
func (f *fights) repaired(object types.NamespacedName, manager string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[object]
	if o == nil {
		o = &fight{}
		f.objects[object] = o
	}
	o.repairs = append(o.repairs, now)
	if n := len(o.repairs); n > fightRepairs+1 {
		o.repairs = slices.Delete(o.repairs, 0, n-fightRepairs-1)
	}
	if manager != "" {
		o.manager = manager
	}
}

// contested says whether an object is fought over, with whom (if known), and when the fight will count as over if nothing
// more happens.
func (f *fights) contested(object types.NamespacedName, now time.Time) (manager string, until time.Time, yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := f.objects[object]
	if o == nil {
		return "", time.Time{}, false
	}
	recent := slices.DeleteFunc(slices.Clone(o.repairs), func(t time.Time) bool { return now.Sub(t) >= fightWindow })
	if len(recent) == 0 {
		delete(f.objects, object)
		return "", time.Time{}, false
	}
	if len(recent) <= fightRepairs {
		return "", time.Time{}, false
	}
	return o.manager, recent[0].Add(fightWindow), true
}

// forget drops what is remembered of a namespace that is gone. Cost: the objects that were repaired of late.
func (f *fights) forget(namespace string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.objects, func(object types.NamespacedName, _ *fight) bool { return object.Namespace == namespace })
}
