// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pcinetwork/pci-network-baseline/test/process"
)

// A machine is a process that is PID 1 of its own mount, network, pid, uts, ipc
// and cgroup namespaces. When it ends, the kernel ends everything in it, and
// with the last process its mounts and interfaces go.
//
// The outside machine, until it is detached, ends by itself when the process
// that started it does, however that ends. Nodes end with the outside machine.
type machine struct {
	process.Entry
	Cgroups []string `json:"cgroups"` // as seen from outside of it

	leash   *os.File      // of the outside machine: closing it ends it
	reports *json.Decoder // what the machine says of its progress
	log     string
}

// Descriptors that a machine inherits.
const (
	leashFD    = 3
	reportsFD  = 4
	listenerFD = 5 // outside only: a listener of the host's network
)

// report is a line that a machine writes while it starts.
type report struct {
	Step  string `json:"step,omitempty"`
	Error string `json:"error,omitempty"`
	Up    bool   `json:"up,omitempty"`    // the namespaces are there
	Ready bool   `json:"ready,omitempty"` // everything is
}

// launch starts a machine, the outside one with a listener. dir is the cluster's
// directory, and stands on the command line, by which down knows the process again.
func launch(dir, name string, hub *machine, listener *os.File) (*machine, error) {
	cgroups, err := makeCgroups(dir, name)
	if err != nil {
		return nil, err
	}
	held, leash, err := newLeash(hub)
	if err != nil {
		return nil, err
	}
	reports, told, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	m := &machine{Cgroups: cgroups, leash: leash, reports: json.NewDecoder(reports), log: filepath.Join(dir, "logs", name, "machine.log")}
	if err := os.MkdirAll(filepath.Dir(m.log), 0o750); err != nil {
		return nil, err
	}
	log, err := os.Create(m.log)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, append([]string{commandEnter, dir, name}, cgroups...)...) //nolint:noctx // ourselves; it outlives this process
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{held, told} // leashFD, reportsFD
	if listener != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, listener)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC, // and the cgroup namespace when it is in its cgroup
	}
	err = cmd.Start()
	for _, ours := range []*os.File{held, told, log} {
		err = errors.Join(err, ours.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("starting machine %s: %w", name, err)
	}
	m.Entry = process.NewEntry(name, cmd.Process.Pid)
	go func() { _ = cmd.Wait() }() // else it stays a zombie, with its cgroups busy
	return m, nil
}

// newLeash returns what a machine holds, and reads to the end when it is to end.
func newLeash(hub *machine) (held, leash *os.File, err error) {
	if hub == nil {
		return os.Pipe()
	}
	fd, err := unix.PidfdOpen(hub.PID, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("looking for machine %s: %w", hub.Name, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil, nil
}

// follow passes on what the machine reports, until it reports what is awaited.
func (m *machine) follow(ctx context.Context, say func(string, ...any), until func(report) bool) error {
	result := make(chan error, 1)
	go func() {
		for {
			var r report
			switch err := m.reports.Decode(&r); {
			case errors.Is(err, io.EOF):
				result <- fmt.Errorf("machine %s ended early; %s", m.Name, process.Tail(m.log))
				return
			case err != nil:
				result <- fmt.Errorf("reading the reports of %s: %w", m.Name, err)
				return
			case r.Error != "":
				result <- fmt.Errorf("machine %s: %s", m.Name, r.Error)
				return
			case r.Step != "":
				say("%s: %s", m.Name, r.Step)
			case until(r):
				result <- nil
				return
			}
		}
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("starting machine %s: %w", m.Name, context.Cause(ctx))
	}
}

// detach lets the outside machine outlive this process, and with it the nodes.
func (m *machine) detach() error {
	_, err := m.leash.Write([]byte{1})
	return errors.Join(err, m.leash.Close())
}

// execIn runs a command in all namespaces of a machine, with our own streams.
func execIn(ctx context.Context, dir string, args []string) error {
	if len(args) > 1 && args[1] == "--" {
		args = append(args[:1:1], args[2:]...)
	}
	if len(args) < 2 {
		return errUsage
	}
	s, err := readState(dir)
	if err != nil {
		return err
	}
	for _, m := range s.Machines {
		if m.Name != args[0] {
			continue
		}
		if !m.Alive(dir) {
			return fmt.Errorf("machine %s has ended; its logs are in %s", m.Name, filepath.Join(dir, "logs", m.Name))
		}
		// Joining its cgroups first: they are to account for whatever runs in the machine.
		for _, c := range m.Cgroups {
			if err := os.WriteFile(filepath.Join(c, procs), []byte("0"), 0); err != nil {
				return err
			}
		}
		here, err := os.Getwd()
		if err != nil {
			return err
		}
		target := []string{"--target", strconv.Itoa(m.PID), "--all", "--wdns=" + here, "--"}
		cmd := exec.CommandContext(ctx, "nsenter", append(target, args[1:]...)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		err = cmd.Run()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return &statusError{exit.ExitCode()}
		}
		return err
	}
	return fmt.Errorf("no machine %q runs here; see 'make cluster'", args[0])
}

// statusError is the status of a command that was run for its own sake.
type statusError struct{ code int }

func (e *statusError) Error() string { return fmt.Sprintf("exit status %d", e.code) }
