// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package tamper_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pcinetwork/pci-network-baseline/controllers"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// The lease is short, so that a test sees one lost.
const (
	leaseDuration = 5 * time.Second
	renewDeadline = 4 * time.Second
	retryPeriod   = 300 * time.Millisecond
)

// operator runs in this process, again whenever it ends, as a kubelet would run it.
type operator struct {
	config *rest.Config // of an administrator
	cancel context.CancelFunc
	done   chan struct{}
	starts atomic.Int64
	failed atomic.Pointer[error] // why it ended last
}

// start returns when the operator is elected.
func (o *operator) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	o.cancel, o.done = cancel, make(chan struct{})
	elected := make(chan struct{})
	go func() {
		defer close(o.done)
		for ctx.Err() == nil {
			if err := o.run(ctx, elected); err != nil {
				o.failed.Store(&err)
				time.Sleep(100 * time.Millisecond)
			}
		}
	}()
	select {
	case <-elected:
	case <-time.After(eventually.Patience):
		if err := o.failed.Load(); err != nil {
			t.Error(*err)
		}
		t.Fatal("the operator is not elected")
	}
}

// run runs it once, as its ServiceAccount, so that its RBAC is in force. The first one that is elected closes the channel.
func (o *operator) run(ctx context.Context, elected chan struct{}) error {
	o.starts.Add(1)
	c := rest.CopyConfig(o.config)
	c.Impersonate = rest.ImpersonationConfig{
		UserName: operatorUser,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}
	mgr, err := controllers.NewManager(c, ctrl.Options{
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
		// controller-runtime wants every name once in a process.
		Controller:                    config.Controller{SkipNameValidation: new(true)},
		LeaderElection:                true,
		LeaderElectionID:              "pci-network-baseline",
		LeaderElectionNamespace:       operatorNamespace,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 new(leaseDuration),
		RenewDeadline:                 new(renewDeadline),
		RetryPeriod:                   new(retryPeriod),
	})
	if err != nil {
		return err
	}
	if err := controllers.Setup(mgr, controllers.Options{Namespace: operatorNamespace, Workers: 8, Registry: prometheus.NewRegistry()}); err != nil {
		return err
	}
	go func() {
		select {
		case <-ctx.Done():
		case <-mgr.Elected():
			select {
			case <-elected:
			default:
				close(elected)
			}
		}
	}()
	return mgr.Start(ctx)
}

func (o *operator) stop(t *testing.T) {
	t.Helper()
	o.cancel()
	select {
	case <-o.done:
	case <-time.After(time.Minute):
		t.Error("the operator does not stop")
	}
}
