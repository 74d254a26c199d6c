// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// load tells how much of the machine goes to others: with little left over,
// figures say more about them than about the contenders.
type load struct {
	at         time.Time
	busy, ours int64 // ticks of the whole machine, and those of our processes
}

// measureLoad adds up all processes since boot, and ours: this one and its
// children, the control planes and contenders.
func measureLoad() (load, error) {
	result := load{at: now()}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return result, err
	}
	first, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(first) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 9 {
		return result, fmt.Errorf("unexpected first line of /proc/stat: %q", first)
	}
	if result.busy, err = sumTicks(slices.Concat(fields[1:4], fields[6:9])); err != nil {
		return result, err
	}
	result.ours, err = ownTicks()
	return result, err
}

func ownTicks() (int64, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	self := strconv.Itoa(os.Getpid())
	var sum int64
	for _, path := range paths {
		stat, err := os.ReadFile(path) //nolint:gosec // G304: a path in /proc
		if err != nil {
			continue // it has ended since
		}
		fields := statFields(stat)
		if len(fields) < 15 || fields[1] != self && filepath.Base(filepath.Dir(path)) != self {
			continue
		}
		ticks, err := sumTicks(fields[11:15])
		if err != nil {
			return 0, err
		}
		sum += ticks
	}
	return sum, nil
}

// others returns the share of the machine, in percent, that others took since
// before; steal by a hypervisor counts as theirs.
func (l *load) others(before load, cpus int) float64 {
	elapsed := l.at.Sub(before.at)
	if elapsed <= 0 {
		return 0
	}
	foreign := time.Duration(l.busy-before.busy-(l.ours-before.ours)) * tick
	return max(0, 100*foreign.Seconds()/(elapsed.Seconds()*float64(cpus)))
}

// meter reports the load by others between calls.
type meter struct {
	first, last load
	cpus        int
}

func newMeter(cpus int) (*meter, error) {
	at, err := measureLoad()
	return &meter{first: at, last: at, cpus: cpus}, err
}

// lap describes the load since the last lap.
func (m *meter) lap() string {
	at, err := measureLoad()
	if err != nil {
		return ""
	}
	share := at.others(m.last, m.cpus)
	m.last = at
	return fmt.Sprintf("; others took %.0f %% of the machine", share)
}

// total returns the share of the whole run.
func (m *meter) total() float64 {
	at, err := measureLoad()
	if err != nil {
		return 0
	}
	return at.others(m.first, m.cpus)
}
