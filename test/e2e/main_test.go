// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e_test runs the operator from config/default on real nodes, and looks at what packets do. The cluster is that
// of hack/cluster, and 'make e2e' starts one for it.
//
// Where the network enforces nothing (CNI none), each packet that should be denied must pass: so these tests can see one.
package e2e_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	operatorNamespace = "pci-network-baseline-system"
	operatorName      = "pci-network-baseline"
)

// env is the cluster, seen by an administrator.
var env struct {
	client     client.Client
	kubectl    string
	kubeconfig string
	enforces   bool   // the network heeds policies
	engine     engine // that enforces them
	next       string // the image to upgrade the operator to
	installed  time.Time
	open       string // the node whose kubelet answers in the clear, too, once it has joined
}

func TestMain(m *testing.M) {
	cni := flag.String("cni", "", "the cluster's network: none, cilium or calico")
	flag.StringVar(&env.next, "image", "", "an `image` of the operator, on every node, to upgrade to")
	flag.Parse()
	if *cni == "" {
		fmt.Println("e2e: nothing was tested here: it takes nodes, and 'make e2e'")
		return
	}
	env.engine, env.enforces = engines[*cni]
	ctrl.SetLogger(logr.Discard()) // warnings of the API server
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		keepLogs()
		os.Exit(1)
	}
	code := m.Run()
	if code != 0 {
		keepLogs()
	}
	os.Exit(code)
}

// setUp installs the operator as a user does.
func setUp() error {
	env.kubeconfig = os.Getenv("KUBECONFIG")
	env.kubectl = filepath.Join(cluster.Assets(".", os.Getenv("KUBEBUILDER_ASSETS")), "kubectl")
	config, err := clientcmd.BuildConfigFromFlags("", env.kubeconfig)
	if err != nil {
		return err
	}
	s := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(s), pcinetv1alpha1.AddToScheme(s)); err != nil {
		return err
	}
	if env.client, err = client.New(config, client.Options{Scheme: s}); err != nil {
		return err
	}
	ctx := context.Background()
	env.installed = time.Now()
	if _, err := kubectl(ctx, "apply", "--server-side", "-k", "config/default"); err != nil {
		return err
	}
	return awaitOperator(ctx)
}

func awaitOperator(ctx context.Context) error {
	_, err := kubectl(ctx, "-n", operatorNamespace, "rollout", "status", "deployment", operatorName, "--timeout=3m")
	return err
}

// keepLogs saves what would go with the cluster.
func keepLogs() {
	dir := filepath.Join(filepath.Dir(env.kubeconfig), "logs")
	for name, args := range map[string][]string{
		"operator.log": {"-n", operatorNamespace, "logs", "-l", "app.kubernetes.io/component=manager", "--prefix", "--tail=-1"},
		"pods.txt":     {"get", "pods", "-A", "-o", "wide"},
		"events.txt":   {"get", "events", "-A", "--sort-by=.lastTimestamp"},
	} {
		out, err := kubectl(context.Background(), args...)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), []byte(out), 0o600)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
		}
	}
	fmt.Fprintln(os.Stderr, "e2e: see", dir)
}

func kubectl(ctx context.Context, args ...string) (string, error) {
	return output(ctx, env.kubectl, append([]string{"--kubeconfig", env.kubeconfig}, args...)...)
}

// onMachine runs a command on a node, or on the host "outside", which is no part of the cluster.
func onMachine(ctx context.Context, machine string, args ...string) (string, error) {
	return output(ctx, "bin/node/cluster", append([]string{"exec", machine, "--"}, args...)...)
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return string(out), err
}
