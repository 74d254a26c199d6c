// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reports_test runs the operator on a real API server to and from which the APIs of reports come and go, and reads its reports
// with the types of their own module.
package reports_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/controllers"
	"github.com/pcinetwork/pci-network-baseline/internal/report"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const (
	repoRoot  = "../.."
	namespace = "pci-network-baseline-system" // of the operator
	account   = "pci-network-baseline"
	baseline  = "pci"
	// period is how often a report is looked at.
	period = 100 * time.Millisecond
)

// The APIs of reports.
var openReports, policyReports = report.APIs[0], report.APIs[1]

func TestMain(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// site is a control plane. Its own client is in system:masters.
type site struct {
	client.Client

	cluster *cluster.Cluster
	audit   string
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{audit: filepath.Join(dir, "audit.log")}
	var err error
	s.cluster, err = cluster.Start(t.Context(), cluster.Options{
		Dir: dir, Assets: cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")), ControllerManager: true, AuditLog: s.audit,
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
	if err := errors.Join(scheme.AddToScheme(types), pcinetv1alpha1.AddToScheme(types), apiextensionsv1.AddToScheme(types)); err != nil {
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
		err = controllers.Setup(mgr, controllers.Options{Namespace: namespace, Workers: 2, Registry: prometheus.NewRegistry(), ReportPeriod: period})
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

// define installs an API of reports: OpenReports' as its module has it, the older one derived from that.
func (s *site) define(t *testing.T, api report.API) {
	t.Helper()
	crd := &apiextensionsv1.CustomResourceDefinition{}
	text, err := os.ReadFile(filepath.Join(moduleDir(t, "github.com/openreports/reports-api"), "config", "crd", openReports.Group+"_"+openReports.Plural+".yaml"))
	if err == nil {
		err = yaml.UnmarshalStrict(text, crd)
	}
	if err != nil {
		t.Fatal(err)
	}
	if api != openReports {
		older(crd, api)
	}
	if err := s.Create(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
}

// older makes wgpolicyk8s.io/v1alpha2 of OpenReports: it has no source and configuration of a report, and three severities.
func older(crd *apiextensionsv1.CustomResourceDefinition, api report.API) {
	crd.Name, crd.Spec.Group = api.Definition(), api.Group
	crd.Annotations = map[string]string{"api-approved.kubernetes.io": "unapproved, a test's"}
	crd.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{
		Plural: api.Plural, Singular: strings.ToLower(api.Kind), Kind: api.Kind, ListKind: api.Kind + "List", ShortNames: []string{"cpolr"},
	}
	version := &crd.Spec.Versions[0]
	version.Name = api.Version
	fields := version.Schema.OpenAPIV3Schema.Properties
	delete(fields, "source")
	delete(fields, "configuration")
	severity := fields["results"].Items.Schema.Properties["severity"]
	severity.Enum = slices.DeleteFunc(severity.Enum, func(v apiextensionsv1.JSON) bool {
		return slices.Contains([]string{`"critical"`, `"info"`}, string(v.Raw))
	})
	fields["results"].Items.Schema.Properties["severity"] = severity
}

// moduleDir returns where the sources of a module are.
func moduleDir(t *testing.T, module string) string {
	t.Helper()
	var out []byte
	for _, args := range [][]string{{"mod", "download", module}, {"list", "-m", "-f", "{{.Dir}}", module}} {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir, cmd.Stderr = repoRoot, os.Stderr
		var err error
		if out, err = cmd.Output(); err != nil {
			t.Fatalf("go %v: %v", args, err)
		}
	}
	return strings.TrimSpace(string(out))
}

// read returns the baseline's report.
func (s *site) read(t *testing.T, api report.API) (*unstructured.Unstructured, error) {
	t.Helper()
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(api.GroupVersionKind)
	return o, s.Get(t.Context(), client.ObjectKey{Name: report.Name(baseline)}, o)
}

// await waits until the baseline's report holds a text, as JSON.
func (s *site) await(t *testing.T, api report.API, text string) *unstructured.Unstructured {
	t.Helper()
	var found *unstructured.Unstructured
	eventually.That(t, fmt.Sprintf("the %s of %s says %s", api.Kind, baseline, text), func() error {
		o, err := s.read(t, api)
		if err != nil {
			return err
		}
		content, err := o.MarshalJSON()
		if err == nil && !bytes.Contains(content, []byte(text)) {
			err = fmt.Errorf("it says %s", content)
		}
		found = o
		return err
	})
	return found
}

// stir has the baseline's report looked at.
func (s *site) stir(t *testing.T) {
	t.Helper()
	s.kubectl(t, "annotate", "pcinb", baseline, "--overwrite", fmt.Sprintf("example.com/stirred=%d", time.Now().UnixNano()))
}
