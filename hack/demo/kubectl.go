// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// kubectl runs the cluster's own kubectl as an administrator.
type kubectl struct {
	path       string
	kubeconfig string
	cache      string // discovery cache, so that nothing is written to $HOME
	out        *printer
}

// run runs kubectl without showing it.
func (k *kubectl) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, k.path, args...) //nolint:gosec // G204: the cluster's own kubectl
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.kubeconfig, "KUBECACHEDIR="+k.cache, "KUBERC=off", "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A group of its own: Ctrl-C is for the demo, which then ends this too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	text := stdout.String() + stderr.String()
	if err != nil {
		return text, fmt.Errorf("%s: %w\n%s", quote(append([]string{"kubectl"}, args...)), err, strings.TrimSpace(text))
	}
	return text, nil
}

// show runs kubectl, and prints the command and its output.
func (k *kubectl) show(ctx context.Context, args ...string) (string, error) {
	k.out.command(append([]string{"kubectl"}, args...))
	text, err := k.run(ctx, args...)
	if err != nil {
		return text, err
	}
	k.out.output(text)
	return text, nil
}

// showAll shows several commands, up to the first that fails.
func (k *kubectl) showAll(ctx context.Context, commands ...string) error {
	for _, command := range commands {
		if _, err := k.show(ctx, strings.Fields(command)...); err != nil {
			return err
		}
	}
	return nil
}

// refused runs a command that must not succeed, and returns what it said.
func (k *kubectl) refused(ctx context.Context, args ...string) (string, error) {
	k.out.command(append([]string{"kubectl"}, args...))
	text, err := k.run(ctx, args...)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return text, fmt.Errorf("%s should have been refused, but: %s", quote(append([]string{"kubectl"}, args...)), text)
	case !errors.As(err, &exit):
		return text, err
	}
	k.out.output(text)
	return text, nil
}
