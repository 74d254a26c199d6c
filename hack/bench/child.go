// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// tick is the unit of CPU time in /proc/PID/stat: USER_HZ, 100 on every
	// architecture that Go runs on.
	tick = 10 * time.Millisecond

	stopLimit = 40 * time.Second // above controller-runtime's 30 s for a graceful end
)

// child is a running contender: the operator, or this program as the loop.
type child struct {
	name    string
	cmd     *exec.Cmd
	health  string // address of /readyz
	started time.Time
	log     string
	done    chan struct{}
	err     error // of the process, once done is closed
}

// newForks returns a queue of functions that run on one OS thread that never
// ends: the parent-death signal is sent when the forking thread ends, and Go
// ends idle threads as it likes.
func newForks() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
}

// startChild starts a process and hands it over to the site's cluster, whose
// Stop ends it. Its output goes to a log in the site's directory.
func (s *site) startChild(ctx context.Context, name, health, program string, args ...string) (*child, error) {
	c := &child{name: name, health: health, log: filepath.Join(s.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()                                        // the child has its own copy
	c.cmd = exec.CommandContext(context.WithoutCancel(ctx), program, args...) //nolint:gosec // G204: starting the contenders is the purpose
	c.cmd.Dir = s.dir
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	result := make(chan error)
	c.started = now()
	s.forks <- func() { result <- c.cmd.Start() }
	if err := <-result; err != nil {
		return nil, err
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	// Right after the start the command line, by which the cluster tells processes, may still be empty.
	if err := poll(ctx, 2*time.Second, func() error { return s.cluster.Record(name, c.cmd) }); err != nil {
		return nil, errors.Join(err, c.check())
	}
	return c, nil
}

// check returns an error if the process has ended, with the end of its log.
func (c *child) check() error {
	select {
	case <-c.done:
	default:
		return nil
	}
	log, err := os.ReadFile(c.log)
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	return fmt.Errorf("%s ended: %w; end of %s:\n%s", c.name, c.err, c.log, strings.Join(lines[max(0, len(lines)-10):], "\n"))
}

// ready returns when /readyz first succeeded.
func (c *child) ready(ctx context.Context) (time.Time, error) {
	for deadline := now().Add(2 * time.Minute); ; {
		err := c.probe(ctx)
		if err == nil {
			return now(), nil
		}
		if now().After(deadline) {
			return now(), fmt.Errorf("%s is not ready: %w; its log is %s", c.name, err, c.log)
		}
		if err := errors.Join(c.check(), sleep(ctx, 2*time.Millisecond)); err != nil {
			return now(), err
		}
	}
}

func (c *child) probe(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.health+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := response.Body.Close(); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return errors.New(response.Status)
	}
	return nil
}

// cpu returns the CPU time that the process has used.
func (c *child) cpu() (time.Duration, error) {
	used, err := processCPU(strconv.Itoa(c.cmd.Process.Pid))
	if err != nil {
		return 0, errors.Join(c.check(), err)
	}
	return used, nil
}

// processCPU returns the CPU time of a process, "self" for this one.
func processCPU(pid string) (time.Duration, error) {
	path := filepath.Join("/proc", pid, "stat")
	stat, err := os.ReadFile(path) //nolint:gosec // G304: a path in /proc
	if err != nil {
		return 0, err
	}
	fields := statFields(stat)
	if len(fields) < 15 {
		return 0, fmt.Errorf("%s is too short", path)
	}
	ticks, err := sumTicks(fields[11:13])
	return time.Duration(ticks) * tick, err
}

// statFields splits /proc/PID/stat behind the program's name, which stands in
// parentheses and may contain anything: state and parent come first, and as
// the 12th to 15th the CPU times of the process, in user mode and in the
// kernel, and of the children that it has waited for.
func statFields(stat []byte) []string {
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}

func sumTicks(fields []string) (int64, error) {
	var sum int64
	for _, field := range fields {
		ticks, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += ticks
	}
	return sum, nil
}

// peakMiB returns the largest resident set that the process has had.
func (c *child) peakMiB() (float64, error) {
	path := filepath.Join("/proc", strconv.Itoa(c.cmd.Process.Pid), "status")
	status, err := os.ReadFile(path) //nolint:gosec // G304: a path in /proc
	if err != nil {
		return 0, errors.Join(c.check(), err)
	}
	for line := range strings.Lines(string(status)) {
		value, found := strings.CutPrefix(line, "VmHWM:")
		if !found {
			continue
		}
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		return kib / 1024, err
	}
	return 0, fmt.Errorf("no VmHWM in %s", path)
}

// settle returns when the process has been at rest for two seconds, or after a
// minute: whatever it still does then belongs to what is measured next.
func (c *child) settle(ctx context.Context) error {
	last, err := c.cpu()
	if err != nil {
		return err
	}
	for rests, rounds := 0, 0; rests < 4 && rounds < 120; rounds++ {
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		used, err := c.cpu()
		if err != nil {
			return err
		}
		if used-last > tick {
			rests = 0
		} else {
			rests++
		}
		last = used
	}
	return nil
}

// stop ends the process and waits for it.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-c.done:
		return nil
	case <-time.After(stopLimit):
		return fmt.Errorf("%s does not end within %s of SIGTERM", c.name, stopLimit)
	}
}

// freeAddress returns a free TCP address on loopback.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
