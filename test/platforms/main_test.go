// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package platforms_test loads manifests of real-world platforms into a real API server and looks what the operator makes of
// them, under its own RBAC. There is no controller manager, so that statuses stay as the manifests have them. The platform
// is everybody's, so no test is parallel.
package platforms_test

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
	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/facts"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	repoRoot          = "../.."
	operatorNamespace = "pci-network-baseline-system"
	operatorUser      = "system:serviceaccount:" + operatorNamespace + ":pci-network-baseline"
)

// env is what TestMain started. client is a cluster administrator's, sources are read as the operator.
var env struct {
	dir     string
	cluster *cluster.Cluster
	client  client.WithWatch
	// extension is what answers for an aggregated API.
	extension *extension
}

func TestMain(m *testing.M) {
	flag.Parse()
	before := goleak.IgnoreCurrent()
	code, err := run(m)
	if err == nil {
		err = goleak.Find(before)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "platform tests:", err)
		code = 1
	}
	os.Exit(code)
}

// run keeps the directory, for its logs, unless everything passed.
func run(m *testing.M) (code int, err error) {
	if env.dir, err = os.MkdirTemp("", "pcinb-platforms-"); err != nil {
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
	if err := setUp(); err != nil {
		return 0, fmt.Errorf("%w (logs: %s)", err, env.dir)
	}
	stop, err := startExtension()
	if err != nil {
		return 0, errors.Join(err, env.cluster.Stop())
	}
	defer stop()
	code = m.Run()
	if err := env.cluster.Stop(); err != nil {
		return code, err
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "logs of the operator and the control plane:", env.dir)
		return code, nil
	}
	return code, os.RemoveAll(env.dir)
}

func setUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var err error
	env.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: env.dir, Assets: cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")),
	})
	if err != nil {
		return err
	}
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), pcinetv1alpha1.AddToScheme(s)); err != nil {
		return err
	}
	// Kinds come and go with fixtures, so nothing may remember what it found.
	if env.client, err = client.NewWithWatch(env.cluster.Config(), client.Options{Scheme: s}); err != nil {
		return err
	}
	if err := env.cluster.Install(ctx, repoRoot); err != nil {
		return errors.Join(err, env.cluster.Stop())
	}
	return nil
}

// asOperator impersonates the operator's ServiceAccount, so that its RBAC is in force.
func asOperator() *rest.Config {
	c := env.cluster.Config()
	c.QPS = -1
	c.Impersonate = rest.ImpersonationConfig{
		UserName: operatorUser,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"},
	}
	return c
}

// newSources returns sources that read as the operator, and end with the test.
func newSources(t *testing.T) *facts.PlatformSources {
	t.Helper()
	watcher, err := client.NewWithWatch(asOperator(), client.Options{Scheme: env.client.Scheme(), Mapper: facts.PlatformMapper()})
	if err != nil {
		t.Fatal(err)
	}
	sources := facts.NewPlatformSources(watcher)
	sources.Start(t.Context(), func() {})
	return sources
}
