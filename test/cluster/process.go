// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/pcinetwork/pci-network-baseline/test/process"
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

// launch starts one component, appending to its log, and adds it to the pids file.
func (c *Cluster) launch(ctx context.Context, name string, args []string) (*process.Process, error) {
	// ctx bounds the start, not the life of the process.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), filepath.Join(c.opts.Assets, name), args...) //nolint:gosec // G204: starting the given binaries is the purpose
	cmd.Dir = c.opts.Dir
	if c.opts.Detach {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	} else {
		// A group of its own: Ctrl-C is for the caller, who stops the parts in order.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	}
	p, err := process.Start(name, filepath.Join(c.opts.Dir, logDir, name+".log"), cmd, c.spawner.start)
	if err != nil {
		return nil, err
	}
	c.processes = append(c.processes, p)
	return p, c.writePIDs()
}
