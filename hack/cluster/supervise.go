// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/pcinetwork/pci-network-baseline/test/process"
)

// supervise starts what a machine is for, reports, and then lasts as long as
// the machine.
func supervise(ctx context.Context, args []string) error {
	if len(args) != 2 || os.Getppid() != 1 {
		return errUsage
	}
	s, err := newSupervisor(args[0], args[1])
	if err == nil && s.name == outside {
		err = s.runOutside(ctx)
	} else if err == nil {
		err = s.runNode(ctx)
	}
	if err != nil {
		tell(report{Error: err.Error()})
		return err
	}
	tell(report{Ready: true})
	select {} // its end would be the machine's
}

// supervisor is the process that runs a machine's daemons. It is a child of
// PID 1, which reaps what nobody else does, so that both can wait for theirs.
type supervisor struct {
	dir   string // the cluster's
	name  string // the machine's
	build string
	state *state
}

func newSupervisor(dir, name string) (*supervisor, error) {
	s, err := readState(dir)
	if err != nil {
		return nil, err
	}
	build, err := filepath.Abs(buildDir)
	if err != nil {
		return nil, err
	}
	return &supervisor{dir: dir, name: name, build: build, state: s}, ip(context.Background(), "link set lo up")
}

// binary returns the path of one of our own builds.
func (s *supervisor) binary(name string) string { return filepath.Join(s.build, name) }

// file returns the path of a file of this machine.
func (s *supervisor) file(name string) string { return filepath.Join("/run", name) }

// daemon starts a program that runs as long as the machine.
func (s *supervisor) daemon(name, path string, args ...string) (*process.Process, error) {
	cmd := exec.Command(path, args...) //nolint:noctx // starting the given programs is the purpose; they outlive any context
	cmd.Env = append(os.Environ(),
		"PATH="+s.build+":/usr/lib/llvm-19/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
		"TMPDIR=/run", "K8S_NODE_NAME="+s.name, "KUBERNETES_SERVICE_HOST=")
	cmd.Dir = "/run"
	return process.Start(name, filepath.Join(s.dir, "logs", s.name, name+".log"), cmd, (*exec.Cmd).Start)
}

// wait polls until check succeeds.
func wait(ctx context.Context, what string, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, errors.Join(err, context.Cause(ctx)))
		case <-time.After(50 * time.Millisecond):
		}
	}
}
