// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package process starts and ends the servers that a test cluster is made of,
// and says what their logs said when they fail. It runs on Linux only.
package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

const (
	startLimit   = 60 * time.Second // far above what a start takes, for machines under load
	pollInterval = 50 * time.Millisecond
	tailLines    = 10
)

// Process is a child of this process.
type Process struct {
	Entry
	log  string
	done chan struct{}
	err  error // may be read once done is closed
}

// Start runs cmd by start, which is [exec.Cmd.Start] or does the same on a
// thread of its choice, with its output appended to the file log.
func Start(name, log string, cmd *exec.Cmd, start func(*exec.Cmd) error) (*Process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // G304: writing the given log is the purpose
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the child has its own copy
	cmd.Stdout, cmd.Stderr = file, file
	if err := start(cmd); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	p := &Process{Entry: NewEntry(name, cmd.Process.Pid), log: log, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Await polls probe until it succeeds, p exits, or time is up.
func (p *Process) Await(ctx context.Context, probe func(context.Context) error) error {
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
			return fmt.Errorf("%s is not ready: %w (%w); %s", p.Name, err, context.Cause(ctx), Tail(p.log))
		case <-ticker.C:
		}
	}
}

// Running returns an error if p has exited.
func (p *Process) Running() error {
	select {
	case <-p.done:
		return p.exitError()
	default:
		return nil
	}
}

func (p *Process) exitError() error {
	status := "exit status 0"
	if p.err != nil {
		status = p.err.Error()
	}
	return fmt.Errorf("%s ended early (%s); %s", p.Name, status, Tail(p.log))
}

// Tail returns the end of a log as part of an error message.
func Tail(log string) string {
	const window = 16 << 10
	file, err := os.Open(log) //nolint:gosec // G304: reading the given log is the purpose
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
	return fmt.Sprintf("end of %s:\n%s", log, bytes.Join(lines, []byte("\n")))
}
