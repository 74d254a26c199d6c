// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package site is a control plane with the operator's manifests in it, on which tests run the program that ships as
// processes: for what only a process shows, such as kill -9, failover and an API server that does not answer.
package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	// Namespace is the operator's own.
	Namespace = "pci-network-baseline-system"
	// User is its identity.
	User    = "system:serviceaccount:" + Namespace + ":" + account
	account = "pci-network-baseline"
)

// Full says whether to run the full plans, not those that fit into every run of the tests.
func Full() bool { return os.Getenv("PCINB_FAULTS") == "full" }

// Site is a running control plane and what is needed to run operators on it. Client is a cluster administrator's.
type Site struct {
	Root    string // of the repository
	Cluster *cluster.Cluster
	Client  client.WithWatch
	Audit   *AuditLog

	dir    string
	http   *http.Client
	binary string
	mu     sync.Mutex
	count  int // of operators
}

// Run is a TestMain: it brings a site up, runs the tests, and ends everything. Goroutines that are left count as a failure.
// The directory with the logs is kept unless everything passed.
func Run(m *testing.M, root string, s *Site) int {
	before := goleak.IgnoreCurrent()
	code, err := s.run(m, root)
	if err == nil {
		err = goleak.Find(before)
	}
	if err != nil {
		code = 1
		fmt.Fprintln(os.Stderr, err)
	}
	if code == 0 {
		if err := os.RemoveAll(s.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	fmt.Fprintln(os.Stderr, "logs of the operators and the control plane:", s.dir)
	return code
}

func (s *Site) run(m *testing.M, root string) (code int, err error) {
	if s.Root, err = filepath.Abs(root); err != nil {
		return 1, err
	}
	if s.dir, err = os.MkdirTemp("", "pcinb-site-"); err != nil {
		return 1, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s.Audit = &AuditLog{site: s, path: filepath.Join(s.dir, "audit.log")}
	s.Cluster, err = cluster.Start(ctx, cluster.Options{
		Dir:               s.dir,
		Assets:            cluster.Assets(s.Root, os.Getenv("KUBEBUILDER_ASSETS")),
		ControllerManager: true,
		AuditLog:          s.Audit.path,
	})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, s.Cluster.Stop()) }()
	if err := s.prepare(ctx); err != nil {
		return 1, err
	}
	defer s.http.CloseIdleConnections()
	return m.Run(), nil
}

// prepare makes the clients, builds the operator and installs what it needs but itself.
func (s *Site) prepare(ctx context.Context) error {
	types := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(types), pcinetv1alpha1.AddToScheme(types)); err != nil {
		return err
	}
	config := s.Cluster.Config()
	var err error
	if s.http, err = rest.HTTPClientFor(config); err != nil {
		return err
	}
	if s.Client, err = client.NewWithWatch(config, client.Options{Scheme: types, HTTPClient: s.http}); err != nil {
		return err
	}
	s.binary = filepath.Join(s.dir, "pci-network-baseline")
	build := exec.CommandContext(ctx, "go", "build", "-o", s.binary, ".") //nolint:gosec // G204: into a directory of ours
	build.Dir = s.Root
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the operator: %w\n%s", err, output)
	}
	if _, err := s.Cluster.Run(ctx, "apply", "-f", filepath.Join(s.Root, "hack", "demo", "manifests", "dns.yaml")); err != nil {
		return err
	}
	return s.Cluster.Install(ctx, s.Root)
}

// touch sends a GET to the API server.
func (s *Site) touch(ctx context.Context, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Cluster.ServerURL()+path, http.NoBody)
	if err != nil {
		return err
	}
	response, err := s.http.Do(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return errors.Join(err, response.Body.Close())
}
