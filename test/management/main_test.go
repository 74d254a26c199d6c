// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package management_test runs the operator's reconcilers against real control planes, of which one is sound and one is started with
// every weakness that there is a check for, and reads what the status of a baseline says. API servers and etcds are real, and so are
// authentication and authorization of what a kubelet is asked; kubelets themselves are small servers that answer with the kubelet's
// own type of its configuration.
//
// All of it is in a network namespace in which every address of 10.0.0.0/8 is this host's: the operator connects to no loopback
// address, and ports are those of real clusters.
package management_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"
	"k8s.io/klog/v2"
	testclock "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/controllers"
	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const (
	repoRoot  = "../.."
	namespace = "pci-network-baseline-system" // of the operator
	account   = "pci-network-baseline"
)

func TestMain(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	if os.Getenv(inside) == "" {
		code, err := own()
		if err != nil {
			fmt.Fprintln(os.Stderr, "a network namespace of its own:", err)
			code = 1
		}
		os.Exit(code)
	}
	if err := network(); err != nil {
		fmt.Fprintln(os.Stderr, "management tests:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// site is a control plane with an operator. Its own client is in system:masters.
type site struct {
	client.Client

	cluster  *cluster.Cluster
	registry *prometheus.Registry
	clock    *testclock.FakePassiveClock
	clouds   *cloud.Reader // nil for none
	baseline string
}

// newSite starts a control plane that is reached at an address, too, and installs what the operator needs.
func newSite(t *testing.T, address string, args func(dir string) []string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{clock: testclock.NewFakePassiveClock(time.Now()), baseline: "management"}
	var err error
	s.cluster, err = cluster.Start(t.Context(), cluster.Options{
		Dir: dir, Assets: cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")),
		ExtraAPIServerArgs: append([]string{"--bind-address=0.0.0.0", "--advertise-address=" + address}, args(dir)...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	types := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(types), pcinetv1alpha1.AddToScheme(types)); err != nil {
		t.Fatal(err)
	}
	if s.Client, err = client.New(s.cluster.Config(), client.Options{Scheme: types}); err != nil {
		t.Fatal(err)
	}
	if err := s.cluster.Install(t.Context(), repoRoot); err != nil {
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

// operate runs the operator with a token of its account until stop, or the test's end.
func (s *site) operate(t *testing.T) (stop func()) {
	t.Helper()
	s.registry = prometheus.NewRegistry()
	token := &authenticationv1.TokenRequest{}
	object := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	if err := s.SubResource("token").Create(t.Context(), object, token); err != nil {
		t.Fatal(err)
	}
	c := rest.AnonymousClientConfig(s.cluster.Config())
	c.BearerToken, c.QPS = token.Status.Token, -1
	mgr, err := controllers.NewManager(c, ctrl.Options{
		Metrics: metricsserver.Options{BindAddress: "0"}, HealthProbeBindAddress: "0",
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err == nil {
		err = controllers.Setup(mgr, controllers.Options{Namespace: namespace, Workers: 2, Registry: s.registry, Clock: s.clock, Clouds: s.clouds, ReportPeriod: 100 * time.Millisecond})
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// declare writes the baseline, and so has everything looked at that is not known to be as it was.
func (s *site) declare(t *testing.T, change func(*pcinetv1alpha1.PCINetworkBaselineSpec)) {
	t.Helper()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error { // the operator sets a finalizer
		b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: s.baseline}}
		err := s.Get(t.Context(), client.ObjectKeyFromObject(b), b)
		if err == nil {
			change(&b.Spec)
			return s.Update(t.Context(), b)
		}
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		b.Spec.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{"none"}
		change(&b.Spec)
		return s.Create(t.Context(), b)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// hour lets an hour pass for the operator, and has it look.
func (s *site) hour(t *testing.T) {
	t.Helper()
	s.clock.SetTime(s.clock.Now().Add(61 * time.Minute))
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) { spec.ManagementEncryption.CertificateNoticeDays++ })
}

// status returns the baseline's, once it is of its generation.
func (s *site) status(t *testing.T) (*pcinetv1alpha1.PCINetworkBaseline, error) {
	t.Helper()
	b := &pcinetv1alpha1.PCINetworkBaseline{}
	if err := s.Get(t.Context(), client.ObjectKey{Name: s.baseline}, b); err != nil {
		return nil, err
	}
	if b.Status.ObservedGeneration != b.Generation {
		return nil, errors.New("the status is of an older generation")
	}
	return b, nil
}

// await waits for a condition, as "Type=Status/Reason: part of the message".
func (s *site) await(t *testing.T, want string) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	head, message, _ := strings.Cut(want, ": ")
	kind, value, _ := strings.Cut(head, "=")
	var last string
	for deadline := time.Now().Add(eventually.Patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		b, err := s.status(t)
		if err != nil {
			last = err.Error()
			continue
		}
		c := apimeta.FindStatusCondition(b.Status.Conditions, kind)
		if c == nil {
			last = "there is no " + kind
			continue
		}
		if last = fmt.Sprintf("%s/%s: %s", c.Status, c.Reason, c.Message); strings.HasPrefix(last, value) && strings.Contains(c.Message, message) {
			return b
		}
	}
	t.Fatalf("waited for %s, and have %s=%s", want, kind, last)
	return nil
}
