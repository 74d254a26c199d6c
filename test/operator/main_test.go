// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package operator_test runs the reconcilers against a real API server and controller manager, under the operator's own
// RBAC. Tests that run in parallel share one operator and select namespaces of their own by label. Those that stop it, or
// change what all namespaces share, are not parallel, and so come first.
package operator_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const repoRoot = "../.."

// env is what TestMain started. Configuration and clients are those of a cluster administrator.
var env struct {
	dir     string
	cluster *cluster.Cluster
	config  *rest.Config
	http    *http.Client
	client  client.WithWatch
	audit   *auditLog
	// operator is the one that parallel tests share.
	operator *operator
	// binary builds the operator and returns its path.
	binary func() (string, error)
}

// unsynced are goroutines that controller-runtime leaves behind when a cache of several namespaces ends before it is in sync.
func unsynced(made string) goleak.Option {
	return goleak.IgnoreTopFunction("sigs.k8s.io/controller-runtime/pkg/cache." + made + ".func1")
}

func TestMain(m *testing.M) {
	flag.Parse()
	before := goleak.IgnoreCurrent()
	code, err := run(m)
	if err == nil {
		err = goleak.Find(before, unsynced("newMultiNamespaceInformer"), unsynced("newMultiNamespaceInformerHandlerRegistration"))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "operator tests:", err)
		code = 1
	}
	os.Exit(code)
}

// run keeps the directory, for its logs, unless everything passed.
func run(m *testing.M) (code int, err error) {
	if env.dir, err = os.MkdirTemp("", "pcinb-operator-"); err != nil {
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
	code = m.Run()
	if err := errors.Join(env.operator.stop(), env.cluster.Stop()); err != nil {
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
	env.binary = sync.OnceValues(buildOperator)
	env.audit = &auditLog{path: filepath.Join(env.dir, "audit.log")}
	var err error
	env.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir:               env.dir,
		Assets:            cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")),
		ControllerManager: true,
		AuditLog:          env.audit.path,
	})
	if err != nil {
		return err
	}
	if err := prepare(ctx); err != nil {
		return errors.Join(err, env.cluster.Stop())
	}
	return nil
}

// prepare installs what the operator needs, gives the cluster a DNS, and starts the operator.
func prepare(ctx context.Context) error {
	env.config = env.cluster.Config()
	s := runtime.NewScheme()
	err := errors.Join(scheme.AddToScheme(s), pcinetv1alpha1.AddToScheme(s))
	if err != nil {
		return err
	}
	if env.client, err = client.NewWithWatch(env.config, client.Options{Scheme: s}); err != nil {
		return err
	}
	if env.http, err = rest.HTTPClientFor(env.config); err != nil {
		return err
	}
	if err := env.cluster.Install(ctx, repoRoot); err != nil {
		return err
	}
	for _, object := range kubeDNS() {
		if err := env.client.Create(ctx, object); err != nil {
			return err
		}
	}
	env.operator, err = startOperator(operatorOptions{})
	return err
}

// buildOperator builds the program that ships.
func buildOperator() (string, error) {
	path := filepath.Join(env.dir, "pci-network-baseline")
	command := exec.CommandContext(context.Background(), "go", "build", "-o", path, ".")
	command.Dir = repoRoot
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the operator: %w\n%s", err, output)
	}
	return path, nil
}

// kubeDNS returns the cluster's DNS as kubeadm makes it. No pod runs, so the endpoints are made up.
func kubeDNS() []client.Object {
	return dnsObjects(metav1.NamespaceSystem, "kube-dns", map[string]string{"k8s-app": "kube-dns"}, 53)
}

// openShiftDNS returns the DNS of OpenShift, whose servers listen on 5353.
func openShiftDNS() []client.Object {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "openshift-dns"}}
	selector := map[string]string{"dns.operator.openshift.io/daemonset-dns": "default"}
	return append([]client.Object{namespace}, dnsObjects(namespace.Name, "dns-default", selector, 5353)...)
}
