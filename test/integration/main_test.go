// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package integration_test tests the API and the controllers on a real API
// server. All tests share one cluster, so they keep to namespaces and baselines
// of their own.
package integration_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2/textlogger"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const repoRoot = "../.."

var update = flag.Bool("update", false, "rewrite the files in testdata that tests compare with")

// env is what TestMain started. Its configuration and client are those of a
// cluster administrator.
var env struct {
	cluster *cluster.Cluster
	config  *rest.Config
	scheme  *runtime.Scheme
	client  client.Client
}

func TestMain(m *testing.M) {
	flag.Parse()
	before := goleak.IgnoreCurrent()
	code, err := run(m)
	if err == nil {
		err = goleak.Find(before)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "integration tests:", err)
		code = 1
	}
	os.Exit(code)
}

// run keeps the cluster's directory, for its logs, unless everything passed.
func run(m *testing.M) (code int, err error) {
	logger := logr.Discard()
	if testing.Verbose() {
		logger = textlogger.NewLogger(textlogger.NewConfig())
	}
	ctrl.SetLogger(logger)

	dir, err := os.MkdirTemp("", "pcinb-integration-")
	if err != nil {
		return 0, err
	}
	if err := setUp(dir); err != nil {
		return 0, fmt.Errorf("%w (logs: %s)", err, dir)
	}
	code = m.Run()
	if err := env.cluster.Stop(); err != nil {
		return code, err
	}
	if code != 0 {
		fmt.Fprintln(os.Stderr, "logs of the control plane:", dir)
		return code, nil
	}
	return code, os.RemoveAll(dir)
}

func setUp(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var err error
	env.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir:               dir,
		Assets:            cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")),
		ControllerManager: true,
	})
	if err != nil {
		return err
	}
	env.config = env.cluster.Config()
	env.scheme = newScheme()
	if env.client, err = client.New(env.config, client.Options{Scheme: env.scheme}); err == nil {
		err = applyCRDs(ctx, env.client, filepath.Join(repoRoot, "config", "crd"))
	}
	if err != nil {
		_ = env.cluster.Stop()
	}
	return err
}

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(s))
	utilruntime.Must(apiextensionsv1.AddToScheme(s))
	utilruntime.Must(pcinetv1alpha1.AddToScheme(s))
	return s
}
