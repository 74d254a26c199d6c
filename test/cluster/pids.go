// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// PIDFile lists the processes of a cluster, in its directory.
	PIDFile = "pids.json"

	// grace is how long a process may take to end after SIGTERM.
	grace = 5 * time.Second
)

// entry identifies one process. A PID alone may have been given to another
// process since; the start time, in clock ticks since boot, tells.
type entry struct {
	Name    string `json:"name"`
	PID     int    `json:"pid"`
	Started uint64 `json:"started"`
}

// pidFile is the content of [PIDFile].
type pidFile struct {
	// Dir is the directory as it stands on the command lines.
	Dir       string  `json:"dir"`
	Processes []entry `json:"processes"`
}

// Record hands a process that the caller has started, such as an operator,
// over to the cluster: Stop and StopDetached end it before the control plane.
// The cluster's directory must stand on its command line, as part of the path
// of a kubeconfig say, because that is how StopDetached tells it. The caller
// still has to Wait for cmd if it lives as long.
func (c *Cluster) Record(name string, cmd *exec.Cmd) error {
	if cmd.Process == nil {
		return fmt.Errorf("recording %s: it has not been started", name)
	}
	e := newEntry(name, cmd.Process.Pid)
	for deadline := time.Now().Add(time.Second); !e.alive(c.opts.Dir) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // until it has executed its binary, its command line is ours, or empty
		e = newEntry(name, cmd.Process.Pid)
	}
	if !e.alive(c.opts.Dir) {
		return fmt.Errorf("recording %s: process %d has ended, or %s is not on its command line", name, e.PID, c.opts.Dir)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recorded = append(c.recorded, e)
	return c.writePIDs()
}

// StopDetached ends the processes that are recorded in dir, and no others, and
// removes their data. Nothing running there is no error.
func StopDetached(dir string) error {
	file, err := readPIDs(dir)
	if err != nil || file.Dir == "" {
		return err
	}
	if err := end(file.Processes, file.Dir); err != nil {
		return err
	}
	return removeState(dir)
}

// end stops processes in the order in which they depend on each other: the
// API server and etcd last, as nothing shuts down cleanly without them.
func end(processes []entry, dir string) error {
	var clients, server, store []entry
	for _, e := range processes {
		switch e.Name {
		case etcd:
			store = append(store, e)
		case apiServer:
			server = append(server, e)
		default:
			clients = append(clients, e)
		}
	}
	var errs []error
	for _, group := range [][]entry{clients, server, store} {
		errs = append(errs, endGroup(group, dir))
	}
	return errors.Join(errs...)
}

func endGroup(group []entry, dir string) error {
	var errs []error
	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for _, e := range group {
			errs = append(errs, e.signal(dir, sig))
		}
		if gone(group, dir) {
			return errors.Join(errs...)
		}
	}
	for _, e := range group {
		if e.alive(dir) {
			errs = append(errs, fmt.Errorf("%s (process %d) survives SIGKILL", e.Name, e.PID))
		}
	}
	return errors.Join(errs...)
}

// gone waits until no process of group is left, for as long as grace allows.
func gone(group []entry, dir string) bool {
	for deadline := time.Now().Add(grace); ; time.Sleep(pollInterval / 5) {
		left := false
		for _, e := range group {
			left = left || e.alive(dir)
		}
		if !left || time.Now().After(deadline) {
			return !left
		}
	}
}

// signal signals the process if it is still the one recorded.
func (e entry) signal(dir string, sig os.Signal) error {
	// The handle pins the process, so that the PID cannot change hands between check and signal.
	handle, err := os.FindProcess(e.PID)
	if err != nil {
		return err
	}
	defer func() { _ = handle.Release() }()
	if !e.alive(dir) {
		return nil
	}
	if err := handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %s to %s (process %d): %w", sig, e.Name, e.PID, err)
	}
	return nil
}

// alive reports whether the recorded process still runs. A zombie does not: its
// command line is empty.
func (e entry) alive(dir string) bool {
	cmdline, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(e.PID), "cmdline"))
	return err == nil && bytes.Contains(cmdline, []byte(dir)) && e.Started == startTime(e.PID)
}

func newEntry(name string, pid int) entry {
	return entry{Name: name, PID: pid, Started: startTime(pid)}
}

// startTime returns field 22 of /proc/PID/stat, or 0 if there is no such process.
func startTime(pid int) uint64 {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	// Field 2 is the program's name in parentheses and may contain anything.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return 0
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0
	}
	return ticks
}

func (c *Cluster) entries() []entry {
	var all []entry
	for _, p := range c.processes {
		all = append(all, p.entry)
	}
	return append(all, c.recorded...)
}

// writePIDs needs c.mu. It renames, so that a reader never sees half a file.
func (c *Cluster) writePIDs() error {
	data, err := json.MarshalIndent(pidFile{Dir: c.opts.Dir, Processes: c.entries()}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(c.opts.Dir, PIDFile)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// readPIDs returns the zero value if nothing is recorded in dir.
func readPIDs(dir string) (pidFile, error) {
	data, err := os.ReadFile(filepath.Join(dir, PIDFile)) //nolint:gosec // G304: reading the file of the given directory is the purpose
	if errors.Is(err, fs.ErrNotExist) {
		return pidFile{}, nil
	}
	if err != nil {
		return pidFile{}, err
	}
	var file pidFile
	if err := json.Unmarshal(data, &file); err != nil {
		return pidFile{}, fmt.Errorf("reading %s: %w", filepath.Join(dir, PIDFile), err)
	}
	if file.Dir == "" { // would be found on every command line
		return pidFile{}, fmt.Errorf("%s names no directory", filepath.Join(dir, PIDFile))
	}
	return file, nil
}

// removeState removes what is of no use once the processes are gone. Logs stay.
func removeState(dir string) error {
	return errors.Join(
		os.RemoveAll(filepath.Join(dir, dataDir)),
		os.RemoveAll(filepath.Join(dir, PIDFile)),
	)
}
