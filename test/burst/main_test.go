// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package burst_test looks at the pod gate from the side of Kubernetes' own controllers: Deployments that come with their
// namespaces, on a real API server, controller manager and scheduler, with the program that ships under its own account.
package burst_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	repoRoot          = "../.."
	operatorNamespace = "pci-network-baseline-system"
	// groupLabel on a namespace says which baseline it is for.
	groupLabel = "example.com/group"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// site is a cluster with the operator installed, but for its Deployment. Its client is in system:masters.
type site struct {
	client.WithWatch
	cluster *cluster.Cluster
	dir     string
	audit   string // the path of the log
	// operator is what runs, where a test wants it stopped.
	operator *os.Process
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir()}
	s.audit = filepath.Join(s.dir, "audit.log")
	var err error
	s.cluster, err = cluster.Start(t.Context(), cluster.Options{
		Dir:               s.dir,
		Assets:            cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")),
		ControllerManager: true,
		Scheduler:         true,
		AuditLog:          s.audit,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	types := apiruntime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(types), pcinetv1alpha1.AddToScheme(types)); err != nil {
		t.Fatal(err)
	}
	if err := s.cluster.Install(t.Context(), repoRoot); err != nil {
		t.Fatal(err)
	}
	if s.WithWatch, err = client.NewWithWatch(s.cluster.Config(), client.Options{Scheme: types}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) kubectl(t *testing.T, args ...string) {
	t.Helper()
	if _, err := s.cluster.Run(t.Context(), args...); err != nil {
		t.Fatal(err)
	}
}

// operate builds the program and runs it as its ServiceAccount until the test ends.
//
// It is the only replica: to be held for some seconds must not cost it a lease.
func (s *site) operate(t *testing.T) *os.Process {
	t.Helper()
	binary := filepath.Join(s.dir, "pci-network-baseline")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = repoRoot
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the operator: %v\n%s", err, output)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "pci-network-baseline"}}
	token := &authenticationv1.TokenRequest{}
	if err := s.SubResource("token").Create(t.Context(), account, token); err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(s.dir, "operator.kubeconfig")
	if err := s.cluster.KubeconfigForToken(kubeconfig, token.Status.Token); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary, "--kubeconfig="+kubeconfig,
		"--leader-elect=false", "--metrics-bind-address=0", "--health-probe-bind-address=0")
	cmd.Stderr = &log
	// It must not outlive a test binary that panics. Linux sends the signal when the thread ends that started it.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		runtime.UnlockOSThread()
		if t.Failed() {
			t.Logf("log of the operator:\n%s", log.String())
		}
	})
	return cmd.Process
}

func signal(t *testing.T, p *os.Process, s syscall.Signal) {
	t.Helper()
	if err := p.Signal(s); err != nil {
		t.Fatal(fmt.Errorf("signalling the operator: %w", err))
	}
}
