// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package tamper_test attacks a cluster that the operator protects, in three roles, and wants each attack refused, repaired,
// reported, or harmless for a reason. The table that comes of it is in docs/security.md.
package tamper_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const (
	repoRoot          = "../.."
	operatorNamespace = "pci-network-baseline-system"
	operatorUser      = "system:serviceaccount:" + operatorNamespace + ":pci-network-baseline"
)

var update = flag.Bool("update", false, "write the table instead of comparing it")

func TestMain(m *testing.M) {
	flag.Parse()
	// Attacks wait for the API server more than for a processor.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// site is a cluster in which the operator runs. Its own client is in system:masters.
type site struct {
	client.WithWatch
	cluster  *cluster.Cluster
	operator *operator
}

// newSite starts a cluster, with more arguments for its API server, and installs what the operator needs.
func newSite(t *testing.T, apiServerArgs ...string) *site {
	t.Helper()
	running, err := cluster.Start(t.Context(), cluster.Options{
		Dir:                t.TempDir(),
		Assets:             assets(),
		ControllerManager:  true,
		ExtraAPIServerArgs: apiServerArgs,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := &site{cluster: running}
	s.WithWatch = s.clientOf(t, running.Config())
	return s
}

func assets() string { return cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")) }

// install installs the operator but for its Deployment, and starts it.
func (s *site) install(t *testing.T) {
	t.Helper()
	if err := s.cluster.Install(t.Context(), repoRoot, "probe"); err != nil {
		t.Fatal(err)
	}
	s.operator = &operator{config: s.cluster.Config()}
	s.operator.start(t)
	t.Cleanup(func() { s.operator.stop(t) })
}

func (s *site) installCRDs(t *testing.T) {
	t.Helper()
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "crd"))
	s.kubectl(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
}

func (s *site) kubectl(t *testing.T, args ...string) {
	t.Helper()
	if _, err := s.cluster.Run(t.Context(), args...); err != nil {
		t.Fatal(err)
	}
}

// clientOf returns a client that reads nothing from a cache. It has the kinds from the site's own one, because whoever may not
// impersonate may not ask for them either.
func (s *site) clientOf(t *testing.T, config *rest.Config) client.WithWatch {
	t.Helper()
	types := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(types), pcinetv1alpha1.AddToScheme(types)); err != nil {
		t.Fatal(err)
	}
	options := client.Options{Scheme: types}
	if s.WithWatch != nil {
		options.Mapper = s.RESTMapper()
	}
	c, err := client.NewWithWatch(config, options)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// as returns a client of a user that the API server knows by a certificate.
func (s *site) as(t *testing.T, user string, groups ...string) client.WithWatch {
	t.Helper()
	config, _, err := s.cluster.ConfigFor(user, groups...)
	if err != nil {
		t.Fatal(err)
	}
	return s.clientOf(t, config)
}

// await waits until check succeeds.
func await(t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	eventually.That(t, what, func() error { return check(t.Context()) })
}

// within says why check does not succeed in time; nil if it does.
func within(t *testing.T, limit time.Duration, check func(context.Context) error) error {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := check(t.Context())
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (s *site) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := s.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// change reads an object, changes and writes it back, until nobody was faster.
func (s *site) change(t *testing.T, object client.Object, f func()) {
	t.Helper()
	await(t, "an update succeeds", func(ctx context.Context) error {
		if err := s.Get(ctx, keyOf(object), object); err != nil {
			return err
		}
		f()
		return s.Update(ctx, object)
	})
}

// gone waits until an object is not there.
func (s *site) gone(t *testing.T, object client.Object) {
	t.Helper()
	await(t, object.GetName()+" is gone", func(ctx context.Context) error {
		err := s.Get(ctx, keyOf(object), object)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
}

func keyOf(object client.Object) client.ObjectKey { return client.ObjectKeyFromObject(object) }

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}
