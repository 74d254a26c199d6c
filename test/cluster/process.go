// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

const (
	startLimit   = 60 * time.Second // far above what a start takes, for machines under load
	pollInterval = 50 * time.Millisecond
	tailLines    = 10
)

// spawner starts children from one OS thread that lives until close.
//
// Children of an attached cluster carry a parent-death signal, so that they
// cannot outlive a test binary that panics, times out or is killed. Linux
// sends that signal when the *thread* that forked them ends, not the process,
// and Go's runtime may end idle threads. Hence a goroutine that is locked to
// its thread and does nothing but start processes.
type spawner struct {
	work chan func()
}

func newSpawner() *spawner {
	s := &spawner{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range s.work {
			f()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	result := make(chan error)
	s.work <- func() { result <- cmd.Start() }
	return <-result
}

func (s *spawner) close() { close(s.work) }

// process is a child of this cluster. err may be read once done is closed.
type process struct {
	entry
	log  string
	done chan struct{}
	err  error
}

// launch starts one component, appending to its log, and adds it to the pids file.
func (c *Cluster) launch(ctx context.Context, name string, args []string) (*process, error) {
	p := &process{log: filepath.Join(c.opts.Dir, logDir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own copy

	// ctx bounds the start, not the life of the process.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(c.opts.Assets, name), args...) //nolint:gosec // G204: starting the given binaries is the purpose
	cmd.Dir = c.opts.Dir
	cmd.Stdout, cmd.Stderr = log, log
	if c.opts.Detach {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	} else {
		// A group of its own: Ctrl-C is for the caller, who stops the parts in order.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	}
	if err := c.spawner.start(cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p.entry = newEntry(name, cmd.Process.Pid)
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	c.processes = append(c.processes, p)
	return p, c.writePIDs()
}

// await polls probe until it succeeds, p exits, or time is up.
func (p *process) await(ctx context.Context, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.exitError()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (%w); %s", p.Name, err, context.Cause(ctx), p.tail())
		case <-ticker.C:
		}
	}
}

// running returns an error if p has exited.
func (p *process) running() error {
	select {
	case <-p.done:
		return p.exitError()
	default:
		return nil
	}
}

func (p *process) exitError() error {
	status := "exit status 0"
	if p.err != nil {
		status = p.err.Error()
	}
	return fmt.Errorf("%s ended early (%s); %s", p.Name, status, p.tail())
}

// tail returns the end of the log as part of an error message.
func (p *process) tail() string {
	const window = 16 << 10
	file, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(0, size-window), io.SeekStart)
	}
	data, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	lines = lines[max(0, len(lines)-tailLines):]
	return fmt.Sprintf("end of %s:\n%s", p.log, bytes.Join(lines, []byte("\n")))
}
