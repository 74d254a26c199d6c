// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pcinetwork/pci-network-baseline/controllers"
)

const (
	operatorNamespace = "pci-network-baseline-system"
	operatorUser      = "system:serviceaccount:" + operatorNamespace + ":pci-network-baseline"
)

// operator is an operator that runs in this process.
type operator struct {
	registry *prometheus.Registry
	// agent is the User-Agent of its requests; no two operators have the same.
	agent   string
	elected <-chan struct{}
	cancel  context.CancelFunc
	done    chan error
}

type operatorOptions struct {
	// elect turns leader election on; the lease is never released, as after a crash.
	elect bool
	// clock is nil for the real one.
	clock clock.PassiveClock
	// early are kinds that are asked for before everything else.
	early []client.Object
	// administrator has it run as a cluster's administrator of this name.
	administrator string
}

// The lease of operators with leader election: short, so that a test sees one expire.
const (
	leaseDuration = 5 * time.Second
	renewDeadline = 4 * time.Second
	retryPeriod   = 300 * time.Millisecond
)

// startLimit is how long the caches of an operator may take.
const startLimit = 30 * time.Second

var operators atomic.Int64

// startOperator starts an operator as its ServiceAccount, and returns when its caches are in sync.
func startOperator(opts operatorOptions) (*operator, error) {
	o := &operator{
		registry: prometheus.NewRegistry(),
		agent:    fmt.Sprintf("operator-%d", operators.Add(1)),
		done:     make(chan error, 1),
	}
	conf := o.config()
	if opts.administrator != "" {
		conf.Impersonate = rest.ImpersonationConfig{UserName: opts.administrator, Groups: []string{"system:masters"}}
	}
	mgr, err := controllers.NewManager(conf, ctrl.Options{
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
		// controller-runtime wants every name once in a process.
		Controller:              config.Controller{SkipNameValidation: new(true)},
		LeaderElection:          opts.elect,
		LeaderElectionID:        "pci-network-baseline",
		LeaderElectionNamespace: operatorNamespace,
		LeaseDuration:           new(leaseDuration),
		RenewDeadline:           new(renewDeadline),
		RetryPeriod:             new(retryPeriod),
	})
	if err != nil {
		return nil, err
	}
	err = controllers.Setup(mgr, controllers.Options{
		Namespace: operatorNamespace, Workers: 8, Registry: o.registry, Clock: opts.clock,
	})
	if err != nil {
		return nil, err
	}
	for _, obj := range opts.early {
		if _, err := mgr.GetCache().GetInformer(context.Background(), obj, cache.BlockUntilSynced(false)); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	o.cancel, o.elected = cancel, mgr.Elected()
	go func() { o.done <- mgr.Start(ctx) }()
	starting, started := context.WithTimeout(ctx, startLimit)
	defer started()
	if !mgr.GetCache().WaitForCacheSync(starting) {
		return nil, errors.Join(errors.New("the operator's caches do not sync"), o.stop())
	}
	return o, nil
}

// config impersonates the operator's ServiceAccount, so that its RBAC is in force.
func (o *operator) config() *rest.Config {
	c := rest.CopyConfig(env.config)
	c.UserAgent = o.agent
	c.Impersonate = rest.ImpersonationConfig{
		UserName: operatorUser,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}
	return c
}

// stop ends the operator. With leader election it ends as a crash does: the lease stays taken.
func (o *operator) stop() error {
	o.cancel()
	select {
	case err := <-o.done:
		return err
	case <-time.After(time.Minute):
		return errors.New("the operator does not stop")
	}
}

// leads says whether the operator was elected.
func (o *operator) leads() bool {
	select {
	case <-o.elected:
		return true
	default:
		return false
	}
}

// launch starts an operator that ends with the test.
func launch(t *testing.T, opts operatorOptions) *operator {
	t.Helper()
	o, err := startOperator(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := halt(o); err != nil {
			t.Error(err)
		}
	})
	return o
}

// halt stops an operator that may have been stopped before.
func halt(o *operator) error {
	if o.done == nil {
		return nil
	}
	err := o.stop()
	o.done = nil
	return err
}

// crash stops an operator.
func crash(t *testing.T, o *operator) {
	t.Helper()
	if err := halt(o); err != nil {
		t.Fatal(err)
	}
}

// alone stops the shared operator while the test runs, which must not be parallel.
func alone(t *testing.T) {
	t.Helper()
	if err := env.operator.stop(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var err error
		if env.operator, err = startOperator(operatorOptions{}); err != nil {
			t.Error(err)
		}
	})
}
