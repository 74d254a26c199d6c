// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command bench measures the operator against a raw client and against the
// simplest informer loop that does the same job, on fresh control planes, and
// writes the figures of docs/performance.md:
//
//	go run ./hack/bench -n 1000 -out bin/bench.json
//
// Every contender gets control planes of its own, with the same namespaces,
// the same installed manifests and the same kind of identity, so that none
// pays for another's watches. All of them write what the operator was seen to
// write. Times come from one recorder that watches the cluster, requests from
// the API server's audit log. Ratios are taken per round, with both contenders
// measured one right after the other, and the median round is reported.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/utils/clock"

	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

// The phases, by the letters under which they are listed in help.
const phases = "abcdefghi"

const help = `usage: bench [flags]

Phases, always in this order:
  a  the raw client and the informer loop write the policies of n existing namespaces
  b  the operator does
  c  new namespaces, one by one and in bursts: loop and operator
  d  repair after delete and after edit: loop and operator
  e  a baseline change: operator, and raw client with the same writes
  f  drift while the operator is down
  g  restart in sync
  h  idle
  i  what admission adds to requests: the same ones to the operator's API server and the raw client's

Flags:
`

// options are the flags.
type options struct {
	n         int
	out       string
	operator  string
	manifests string
	specimen  string
	only      string
	rounds    int
	foreign   int
	idle      time.Duration
	keep      bool
	assets    string
}

func (o *options) bindFlags(flags *flag.FlagSet) {
	flags.IntVar(&o.n, "n", 1000, "namespaces that exist when a contender starts")
	flags.StringVar(&o.out, "out", "bin/bench.json", "write the figures to this `file`")
	flags.StringVar(&o.operator, "operator", "bin/pci-network-baseline", "the operator's `binary`; empty measures the raw client and the loop alone")
	flags.StringVar(&o.manifests, "manifests", "config/default", "kustomization `directory` to install")
	flags.StringVar(&o.specimen, "specimen", "", "JSON `file` with the objects of one namespace, instead of asking the operator first")
	flags.StringVar(&o.only, "only", phases, "run only the phases with these `letters`; for developing, writes no result file")
	flags.IntVar(&o.rounds, "rounds", 3, "times that everything with a ratio is repeated")
	flags.IntVar(&o.foreign, "foreign", -1, "policies of others in each namespace; -1 means none below n=10000 and one from there on")
	flags.DurationVar(&o.idle, "idle", time.Minute, "length of phase h")
	flags.BoolVar(&o.keep, "keep", false, "keep the working directory with logs and audit logs")
}

func (o *options) complete() error {
	switch {
	case o.n < minNamespaces:
		return fmt.Errorf("-n is %d, at least %d namespaces are needed", o.n, minNamespaces)
	case o.rounds < 1:
		return fmt.Errorf("-rounds is %d, at least 1 is needed", o.rounds)
	case o.only == "" || strings.Trim(o.only, phases) != "":
		return fmt.Errorf("-only is %q, give letters out of %q", o.only, phases)
	case o.operator == "" && o.specimen == "":
		return errors.New("-specimen is needed when there is no -operator to ask what to write")
	case o.operator == "" && strings.ContainsAny(o.only, "befghi"):
		return errors.New("phases b, e, f, g, h and i need -operator")
	}
	if o.foreign < 0 {
		o.foreign = 0
		if o.n >= 10000 {
			o.foreign = 1
		}
	}
	for _, path := range []*string{&o.operator, &o.manifests} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		if _, err := os.Stat(abs); err != nil {
			return err
		}
		*path = abs
	}
	o.assets = cluster.Assets(".", o.assets)
	return nil
}

func (o *options) runs(phase string) bool { return strings.Contains(o.only, phase) }

// partial says whether something that the result file needs was left out.
func (o *options) partial() bool {
	return slices.ContainsFunc(strings.Split(phases, ""), func(phase string) bool { return !o.runs(phase) })
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) > 0 && args[0] == loopCommand {
		return runLoop(ctx, args[1:])
	}
	opts := options{assets: os.Getenv("KUBEBUILDER_ASSETS")}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.Usage = func() {
		_, _ = fmt.Fprint(flags.Output(), help)
		flags.PrintDefaults()
	}
	opts.bindFlags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := opts.complete(); err != nil {
		return err
	}
	b, err := newBench(opts)
	if err != nil {
		return err
	}
	if err := errors.Join(b.run(ctx), b.close()); err != nil {
		return fmt.Errorf("%w; logs are in %s", err, b.dir)
	}
	b.results.print(out)
	if !opts.keep {
		if err := os.RemoveAll(b.dir); err != nil {
			return err
		}
	}
	if opts.partial() {
		b.say("phases were left out: %s is not written", opts.out)
		return nil
	}
	return b.results.write(opts.out)
}

// now is the only clock of the bench; it is monotonic.
func now() time.Time { return clock.RealClock{}.Now() }
