// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// tally sums up what all plans did.
type tally struct {
	mu sync.Mutex
	// plans counts those that ran, by kind of fault and workload; missed those whose write or event did not come, diverged
	// those that failed.
	plans            map[string]int
	missed, diverged int
	// absence is the longest time that a namespace had no deny because of the operator.
	absence time.Duration
	// writes counts all requests of the plans, turned those that a precondition or the state of the object turned down.
	writes, turned int
}

var totals = tally{plans: map[string]int{}}

func (s *tally) add(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// plan counts a plan.
func (s *tally) plan(kind string, diverged bool) {
	s.add(func() {
		s.plans[kind]++
		if diverged {
			s.diverged++
		}
	})
}

func (s *tally) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out strings.Builder
	n := 0
	for _, kind := range slices.Sorted(maps.Keys(s.plans)) {
		fmt.Fprintf(&out, "%-55s %4d plans\n", kind, s.plans[kind])
		n += s.plans[kind]
	}
	if n == 0 {
		return ""
	}
	fmt.Fprintf(&out, "%d plans run, %d of them without their fault, %d divergences, longest absence of a deny %s\n", n, s.missed, s.diverged, s.absence)
	fmt.Fprintf(&out, "%d writes, %d of them turned down as stale\n", s.writes, s.turned)
	return out.String()
}
