// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fights_test lets hostile writers loose on the operator's objects. Two replicas run under the operator's own RBAC
// against a real API server and controller manager; every version of every policy is watched, every request audited.
package fights_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/controllers"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const (
	repoRoot          = "../.."
	operatorNamespace = "pci-network-baseline-system"
	operatorUser      = "system:serviceaccount:" + operatorNamespace + ":pci-network-baseline"
	// everybody is the User-Agent of all that is not the operator's.
	everybody = "everybody-else"
)

// lasting returns how long the hostile writers go on.
func lasting() time.Duration {
	if os.Getenv("PCINB_FAULTS") == "full" {
		return 10 * time.Minute
	}
	return 20 * time.Second
}

// env is what TestMain started. Configuration and client are a cluster administrator's.
var env struct {
	dir      string
	cluster  *cluster.Cluster
	config   *rest.Config
	client   client.WithWatch
	auditLog string
	timeline *timeline
}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fights tests:", err)
		code = 1
	}
	os.Exit(code)
}

// run keeps the directory, for its logs, unless everything passed.
func run(m *testing.M) (code int, err error) {
	if env.dir, err = os.MkdirTemp("", "pcinb-fights-"); err != nil {
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
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := setUp(ctx); err != nil {
		return 0, fmt.Errorf("%w (logs: %s)", err, env.dir)
	}
	code = m.Run()
	if err := env.cluster.Stop(); err != nil {
		return code, err
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "logs of the operators and the control plane:", env.dir)
		return code, nil
	}
	return code, os.RemoveAll(env.dir)
}

func setUp(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	env.auditLog = filepath.Join(env.dir, "audit.log")
	var err error
	env.cluster, err = cluster.Start(within, cluster.Options{
		Dir:               env.dir,
		Assets:            cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")),
		ControllerManager: true, // for its garbage collector
		AuditLog:          env.auditLog,
	})
	if err != nil {
		return err
	}
	if err := prepare(ctx); err != nil {
		return errors.Join(err, env.cluster.Stop())
	}
	return nil
}

func prepare(ctx context.Context) error {
	env.config = env.cluster.Config()
	env.config.QPS, env.config.UserAgent = -1, everybody
	s := runtime.NewScheme()
	err := errors.Join(scheme.AddToScheme(s), pcinetv1alpha1.AddToScheme(s))
	if err != nil {
		return err
	}
	if env.client, err = client.NewWithWatch(env.config, client.Options{Scheme: s}); err != nil {
		return err
	}
	if err := env.cluster.Install(ctx, repoRoot); err != nil {
		return err
	}
	env.timeline, err = watchPolicies(ctx)
	return err
}

// replica is an operator with leader election that runs in this process.
type replica struct {
	// agent is the User-Agent of its requests.
	agent   string
	elected <-chan struct{}
	cancel  context.CancelFunc
	done    chan error
}

// launch starts a replica that ends with the test. Like a crash, its end does not release the lease.
func launch(t *testing.T, agent string) *replica {
	t.Helper()
	c := rest.CopyConfig(env.config)
	c.UserAgent = agent
	c.Impersonate = rest.ImpersonationConfig{
		UserName: operatorUser,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}
	mgr, err := controllers.NewManager(c, ctrl.Options{
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress:  "0",
		Controller:              config.Controller{SkipNameValidation: new(true)}, // every name once in a process otherwise
		LeaderElection:          true,
		LeaderElectionID:        "pci-network-baseline",
		LeaderElectionNamespace: operatorNamespace,
	})
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	if err := controllers.Setup(mgr, controllers.Options{Namespace: operatorNamespace, Workers: 8, Registry: registry}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context())) // kill ends it
	r := &replica{agent: agent, elected: mgr.Elected(), cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- mgr.Start(ctx) }()
	t.Cleanup(func() { r.kill(t) })
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the caches do not sync")
	}
	return r
}

// kill ends a replica; a second time nothing happens.
func (r *replica) kill(t *testing.T) {
	t.Helper()
	if r.done == nil {
		return
	}
	r.cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	r.done = nil
}

// twoReplicas starts two replicas, of which the first leads.
func twoReplicas(t *testing.T) (active, standby *replica) {
	t.Helper()
	active = launch(t, t.Name()+"-active")
	select {
	case <-active.elected:
	case <-time.After(eventually.Patience):
		t.Fatal("it is not elected")
	}
	return active, launch(t, t.Name()+"-standby")
}
