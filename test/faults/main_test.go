// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package faults_test breaks the operator at each of its writes and at each event that it sees, on a real API server and under
// the operator's own RBAC, and looks what becomes of the policies. docs/faults.md tells how, and what was found.
//
// A run of a workload with one fault is a plan. Plans change the whole cluster, so each has a control plane for itself while it
// runs.
package faults_test

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
)

const (
	repoRoot = "../.."
	// patience is far above what anything here takes, for machines under load.
	patience = 30 * time.Second
	// worldCount is how many control planes run, and so how many plans: they wait most of the time.
	worldCount = 4
)

// stride is of how many plans one runs, the same ones in every run; PCINB_FAULTS=full runs them all.
var stride = flag.Int("stride", 29, "run one of as many plans")

// env is what TestMain started.
var env struct {
	dir string
	// worlds holds those that no plan has.
	worlds chan *world
}

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("PCINB_FAULTS") == "full" {
		*stride = 1
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault tests:", err)
		code = 1
	}
	os.Exit(code)
}

// run keeps the directory, for its logs, unless everything passed.
func run(m *testing.M) (code int, err error) {
	if env.dir, err = os.MkdirTemp("", "pcinb-faults-"); err != nil {
		return 0, err
	}
	log, err := os.Create(filepath.Join(env.dir, "operator.log"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	logger := logr.FromSlogHandler(slog.NewTextHandler(log, nil))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)

	worlds, err := setUp()
	if err != nil {
		return 0, fmt.Errorf("%w (logs: %s)", err, env.dir)
	}
	before := goleak.IgnoreCurrent()
	code = m.Run()
	fmt.Print(totals.String())
	for _, w := range worlds { // connections are kept by the client, not by an operator
		w.http.CloseIdleConnections()
	}
	if err := goleak.Find(before); err != nil {
		fmt.Fprintln(os.Stderr, "operators that were stopped run on:", err)
		code = 1
	}
	for _, w := range worlds {
		err = errors.Join(err, w.cluster.Stop())
	}
	if err != nil {
		return code, err
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "logs of the operators and the control planes:", env.dir)
		return code, nil
	}
	return code, os.RemoveAll(env.dir)
}

// setUp starts the worlds, and has as many tests run in parallel.
func setUp() ([]*world, error) {
	if err := flag.Set("test.parallel", strconv.Itoa(worldCount)); err != nil {
		return nil, err
	}
	worlds := make([]*world, worldCount)
	var group errgroup.Group
	for i := range worlds {
		group.Go(func() (err error) {
			worlds[i], err = startWorld(filepath.Join(env.dir, fmt.Sprint("world-", i)))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		for _, w := range worlds {
			if w != nil {
				err = errors.Join(err, w.cluster.Stop())
			}
		}
		return nil, err
	}
	env.worlds = make(chan *world, len(worlds))
	for _, w := range worlds {
		env.worlds <- w
	}
	return worlds, nil
}

// enter takes a world until the test ends.
func enter(t *testing.T) *world {
	t.Helper()
	w := <-env.worlds
	t.Cleanup(func() { env.worlds <- w })
	return w
}
