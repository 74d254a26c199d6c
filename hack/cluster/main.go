// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command cluster runs Kubernetes with real nodes, pods and packets on one
// Linux machine, without a container engine. See docs/development.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
)

// Exit codes that scripts may want to tell apart.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitUnsupported = 3 // this machine cannot run nodes; nothing was started
)

const help = `usage, from the root of the repository:
  bin/node/cluster check                                see whether this machine can run nodes; exit status 3 if not
  bin/node/cluster build [-cni none|cilium|calico]      build or download what a cluster is made of
  bin/node/cluster up    [-cni none|cilium|calico] [-nodes N] [-server n1]  start one
  bin/node/cluster up    [FLAG]... -- COMMAND [ARG]...  start one for a command, and end it with the command
  bin/node/cluster join                                 add a node to it
  bin/node/cluster down                                 end it
  bin/node/cluster exec  MACHINE [--] COMMAND [ARG]...  run a command in n1, n2, ... or outside

"outside" has the address %s, which is no node's and no pod's.
Everything that a cluster writes is in %s, and what it is made of in %s.
`

func main() {
	runtime.LockOSThread() // PID 1 of a machine needs its first thread: see enter
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:])
	stop()
	var unsupported *unsupportedError
	var status *statusError
	switch {
	case err == nil:
	case errors.As(err, &status):
		os.Exit(status.code)
	case errors.Is(err, errUsage):
		fmt.Fprintf(os.Stderr, help, outsideIP, runDir, buildDir)
		os.Exit(exitUsage)
	case errors.As(err, &unsupported):
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(exitUnsupported)
	default:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(exitFailed)
	}
}

var errUsage = errors.New("usage")

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	root, err := repository()
	if err != nil {
		return err
	}
	switch command, args := args[0], args[1:]; command {
	case "build", "up":
		opts, err := parse(command, args)
		if err != nil {
			return err
		}
		opts.root = root
		if command == "build" {
			return newBuilder(opts, os.Stdout).build(ctx)
		}
		return up(ctx, opts)
	case "check":
		return check(ctx, root)
	case "join":
		return join(ctx, filepath.Join(root, runDir))
	case "down":
		return down(filepath.Join(root, runDir), os.Stdout)
	case "exec":
		return execIn(ctx, filepath.Join(root, runDir), args)
	case commandEnter:
		return enter(args)
	case commandSupervise:
		return supervise(ctx, args)
	}
	return errUsage
}

// options of a cluster.
type options struct {
	root   string // the repository
	cni    string
	nodes  int
	server string   // the machine of the control plane: outside, or a node
	images []string // archives of images for the nodes, besides those that every cluster has

	command []string // that the cluster is for; none if it is to stay
}

// The networks that a cluster can have.
const (
	cniNone   = "none"   // the reference bridge plugin: it accepts policies and enforces none
	cniCilium = "cilium" // the agent and its plugin
	cniCalico = "calico" // Felix, its plugin and its API server
)

func parse(command string, args []string) (options, error) {
	var opts options
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.StringVar(&opts.cni, "cni", cniNone, cniNone+", "+cniCilium+" or "+cniCalico)
	flags.IntVar(&opts.nodes, "nodes", 1, fmt.Sprintf("1 to %d", maxNodes))
	flags.StringVar(&opts.server, "server", outside, "where the control plane runs: "+outside+", or a node such as "+nodeName(1))
	flags.Func("image", "`archive` of an image for the nodes, such as bin/image.tar; may be repeated", func(path string) error {
		opts.images = append(opts.images, path)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return opts, errUsage
	}
	if command == "up" {
		opts.command = flags.Args()
	}
	switch {
	case flags.NArg() > len(opts.command):
		return opts, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case opts.cni != cniNone && opts.cni != cniCilium && opts.cni != cniCalico:
		return opts, fmt.Errorf("unknown CNI %q: want %s, %s or %s", opts.cni, cniNone, cniCilium, cniCalico)
	case opts.server != outside && addresses()[opts.server] == "":
		return opts, fmt.Errorf("no machine %q: the control plane runs %s, or on a node such as %s", opts.server, outside, nodeName(1))
	case opts.nodes < 1 || opts.nodes > maxNodes:
		return opts, fmt.Errorf("%d nodes: want 1 to %d", opts.nodes, maxNodes)
	}
	return opts, nil
}

// repository returns the root of the repository, in which cluster is to be run.
func repository() (string, error) {
	root, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(root, "hack", "cluster", "main.go")); err != nil {
		return "", errors.New("run it from the root of the repository")
	}
	return root, nil
}
