// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// grace is how long a process may take to end after SIGTERM.
const grace = 5 * time.Second

// Entry identifies one process. A PID alone may have been given to another
// process since; the start time, in clock ticks since boot, tells.
type Entry struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Started uint64 `json:"started"`
}

// NewEntry describes the process that has pid now.
func NewEntry(name string, pid int) Entry {
	return Entry{Name: name, PID: pid, Started: startTime(pid)}
}

// Alive reports whether the recorded process still runs; dir stands on its
// command line. A zombie does not run: its command line is empty.
func (e Entry) Alive(dir string) bool {
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(e.PID), "cmdline"))
	return err == nil && bytes.Contains(cmdline, []byte(dir)) && e.Started == startTime(e.PID)
}

// ending reports whether the process has lost its command line, and is no zombie yet.
func (e Entry) ending() bool {
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(e.PID), "cmdline"))
	fields := stat(e.PID)
	return err == nil && len(cmdline) == 0 && fields != nil && fields[0] != "Z" && fields[0] != "X" && e.Started == startTime(e.PID)
}

// Signal signals the process if it is still the one recorded.
func (e Entry) Signal(dir string, sig os.Signal) error {
	// The handle pins the process, so that the PID cannot change hands between check and signal.
	handle, err := os.FindProcess(e.PID)
	if err != nil {
		return err
	}
	defer func() { _ = handle.Release() }()
	if !e.Alive(dir) {
		return nil
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %s to %s (process %d): %w", sig, e.Name, e.PID, err)
	}
	return nil
}

// End stops the processes of group by SIGTERM, and those that outlast it by SIGKILL.
func End(group []Entry, dir string) error {
	return end(group, dir, syscall.SIGTERM, syscall.SIGKILL)
}

// Kill stops the processes of group by SIGKILL.
func Kill(group []Entry, dir string) error {
	return end(group, dir, syscall.SIGKILL)
}

func end(group []Entry, dir string, signals ...os.Signal) error {
	var errs []error
	for _, sig := range signals {
		for _, e := range group {
			errs = append(errs, e.Signal(dir, sig))
		}
		if gone(group, dir) {
			return errors.Join(errs...)
		}
	}
	for _, e := range group {
		if e.Alive(dir) {
			errs = append(errs, fmt.Errorf("%s (process %d) survives SIGKILL", e.Name, e.PID))
		}
	}
	return errors.Join(errs...)
}

// gone waits until no process of group is left, for as long as grace allows.
func gone(group []Entry, dir string) bool {
	for deadline := time.Now().Add(grace); ; time.Sleep(pollInterval / 5) {
		left := false
		for _, e := range group {
			left = left || e.Alive(dir) || e.ending()
		}
		if !left || time.Now().After(deadline) {
			return !left
		}
	}
}

// startTime returns field 22 of /proc/PID/stat, or 0 if there is no such process.
func startTime(pid int) uint64 {
	fields := stat(pid)
	if fields == nil {
		return 0
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return ticks
}

// stat returns the fields of /proc/PID/stat from the third on, which is the state, or nil if there is no such process.
func stat(pid int) []string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	// Field 2 is the program's name in parentheses and may contain anything.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 20 {
		return nil
	}
	return fields
}
