// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command demo shows the operator's main job on a real control plane on
// loopback and checks every claim it makes while it does:
//
//	go run ./hack/demo          # stays up afterwards, to be tried by hand
//	go run ./hack/demo -down    # ends it
//	go run ./hack/demo -once    # ends by itself; the exit status is the result
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

// dir holds everything the demo writes. It belongs to the demo alone: what is
// in it when a demo ends is removed, except for logs.
const dir = "bin/demo"

const help = `usage: go run ./hack/demo [flags], from the root of the repository

Starts a control plane on loopback and the operator, shows and checks what the
operator does, and stays up. Everything it writes is in ` + dir + `.

Flags:
`

type options struct {
	once     bool
	down     bool
	operator string
	assets   string
}

func main() {
	// Children of -once die with the thread that started them (see start);
	// the main goroutine, once locked, keeps its thread until the end.
	runtime.LockOSThread()
	// A reader of our output that goes away (SIGPIPE) or a closed terminal (SIGHUP) must not leave processes behind.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	err := run(ctx, stop, os.Args[1:])
	stop()
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// errUsage means that the flag package has already said what is wrong.
var errUsage = errors.New("usage")

func parse(args []string) (options, error) {
	opts := options{}
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.Usage = func() {
		_, _ = fmt.Fprint(flags.Output(), help)
		flags.PrintDefaults()
	}
	flags.BoolVar(&opts.once, "once", false, "end everything after the last step; exit 1 if a step did not show what it should")
	flags.BoolVar(&opts.down, "down", false, "end a demo that stayed up")
	flags.StringVar(&opts.operator, "operator", "bin/pci-network-baseline", "the operator's `binary`")
	flags.StringVar(&opts.assets, "assets", cluster.Assets(".", os.Getenv("KUBEBUILDER_ASSETS")),
		"`directory` with etcd, kube-apiserver, kube-controller-manager and kubectl")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return opts, err
		}
		return opts, errUsage
	}
	if flags.NArg() > 0 {
		return opts, fmt.Errorf("unexpected argument %q; see -help", flags.Arg(0))
	}
	return opts, opts.check()
}

// check says what is missing, with the command that makes it.
func (o *options) check() error {
	if _, err := os.Stat("config/crd/kustomization.yaml"); err != nil {
		return errors.New("run it from the root of the repository: go run ./hack/demo")
	}
	if o.down {
		return nil
	}
	var errs []error
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"} {
		if !executable(filepath.Join(o.assets, name)) {
			errs = append(errs, fmt.Errorf("no executable %s in %s: run 'make controlplane' and use -assets bin/k8s", name, o.assets))
		}
	}
	if !executable(o.operator) {
		errs = append(errs, fmt.Errorf("no executable operator %s: run 'make build'", o.operator))
	}
	return errors.Join(errs...)
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func run(ctx context.Context, stop func(), args []string) error {
	opts, err := parse(args)
	if err != nil {
		return err
	}
	out := newPrinter(os.Stdout)
	if opts.down {
		return down(out)
	}
	s, err := bringUp(ctx, opts, out)
	if err != nil {
		return err
	}
	err = s.tell(ctx)
	interrupted := ctx.Err() != nil
	stop() // from here on Ctrl-C ends the program at once
	signal.Ignore(syscall.SIGPIPE)
	if opts.once || interrupted {
		return s.end(err)
	}
	if err != nil {
		return fmt.Errorf("%w\nThe cluster stays up for you to look at: export KUBECONFIG=%s. End it with: make demo-down", err, s.kubectl.kubeconfig)
	}
	return s.farewell()
}

// down ends what an earlier run has left running.
func down(out *printer) error {
	if _, err := os.Stat(filepath.Join(dir, cluster.PIDFile)); errors.Is(err, fs.ErrNotExist) {
		out.line("No demo is running.")
		return nil
	}
	if err := cluster.StopDetached(dir); err != nil {
		return err
	}
	out.line("The demo has ended. Its logs are in %s.", dir)
	return removeAllButLogs()
}

// removeAllButLogs needs every process of the demo to be gone.
func removeAllButLogs() error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if name := e.Name(); name != "logs" && name != operatorLog {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
		}
	}
	return errors.Join(errs...)
}

// isTerminal says whether colours and the like make sense.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
