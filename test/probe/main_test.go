// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package probe_test runs the operator against a real API server, controller manager and scheduler, and plays kubelets and a
// network for its canaries: what they report follows from the live policies, unless a test breaks something. The tests share the
// namespace of the canaries, so none is parallel. Real packets are in test/e2e.
package probe_test

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
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	repoRoot          = "../.."
	operatorNamespace = "pci-network-baseline-system"
	operatorUser      = "system:serviceaccount:" + operatorNamespace + ":pci-network-baseline"
)

// env is what TestMain started. The client is a cluster administrator's.
var env struct {
	cluster *cluster.Cluster
	config  *rest.Config
	client  client.Client
	network *network
}

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe tests:", err)
		code = 1
	}
	os.Exit(code)
}

// run keeps the directory, for its logs, unless everything passed.
func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "pcinb-probe-")
	if err != nil {
		return 0, err
	}
	log, err := os.Create(filepath.Join(dir, "operator.log"))
	if err != nil {
		return 0, err
	}
	defer func() { _ = log.Close() }()
	logger := logr.FromSlogHandler(slog.NewTextHandler(log, nil))
	ctrl.SetLogger(logger)
	klog.SetLogger(logger)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if env.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: dir, Assets: cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")), ControllerManager: true, Scheduler: true,
	}); err != nil {
		return 0, fmt.Errorf("%w (logs: %s)", err, dir)
	}
	if err := prepare(ctx); err != nil {
		return 0, errors.Join(err, env.cluster.Stop())
	}
	done := make(chan struct{})
	go func() { defer close(done); env.network.run(ctx) }()
	code = m.Run()
	cancel()
	<-done
	if err := env.cluster.Stop(); err != nil {
		return code, err
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "logs of the operator and the control plane:", dir)
		return code, nil
	}
	return code, os.RemoveAll(dir)
}

// prepare installs everything of config/default but the Deployment.
func prepare(ctx context.Context) error {
	env.config = env.cluster.Config()
	s := runtime.NewScheme()
	err := errors.Join(scheme.AddToScheme(s), pcinetv1alpha1.AddToScheme(s))
	if err != nil {
		return err
	}
	if env.client, err = client.New(env.config, client.Options{Scheme: s}); err != nil {
		return err
	}
	env.network = newNetwork(env.client)
	if err := env.cluster.Install(ctx, repoRoot); err != nil {
		return err
	}
	return installProbe(ctx)
}

// installProbe makes the namespace of the canaries, and waits until pods can be made there.
func installProbe(ctx context.Context) error {
	err := kubectl(ctx, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "probe"))
	if err != nil {
		return err
	}
	return kubectl(ctx, "wait", "--for=create", "serviceaccount/default", "-n", probe.Namespace, "--timeout=60s")
}

func kubectl(ctx context.Context, args ...string) error {
	_, err := env.cluster.Run(ctx, args...)
	return err
}

// hasty is a clock that is twenty times too fast, so that nobody waits for what takes minutes.
type hasty struct{ start time.Time }

const haste = 20

func (h hasty) Now() time.Time                  { return h.start.Add(haste * time.Since(h.start)) }
func (h hasty) Since(t time.Time) time.Duration { return h.Now().Sub(t) }

// operator is one that runs in this process.
type operator struct {
	image  string
	cancel context.CancelFunc // nil while it does not run
	done   chan error
}

// startOperator starts an operator that runs until the test ends.
func startOperator(t *testing.T, image string) *operator {
	t.Helper()
	o := &operator{image: image}
	t.Cleanup(func() { o.stop(t) })
	o.start(t)
	return o
}

// start starts the operator as its ServiceAccount. It knows nothing of any proof yet.
func (o *operator) start(t *testing.T) {
	t.Helper()
	c := rest.CopyConfig(env.config)
	c.Impersonate = rest.ImpersonationConfig{
		UserName: operatorUser,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}
	mgr, err := controllers.NewManager(c, ctrl.Options{
		Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: new(true)}, // controller-runtime wants every name once in a process
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := controllers.Setup(mgr, controllers.Options{
		Namespace: operatorNamespace, ProbeImage: o.image, Workers: 4, Registry: prometheus.NewRegistry(),
		Clock: hasty{time.Now()}, ProbeLook: 100 * time.Millisecond,
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	o.cancel, o.done = cancel, make(chan error, 1)
	go func() { o.done <- mgr.Start(ctx) }()
}

func (o *operator) stop(t *testing.T) {
	t.Helper()
	if o.cancel == nil {
		return
	}
	o.cancel()
	o.cancel = nil
	if err := <-o.done; err != nil {
		t.Error(err)
	}
}
