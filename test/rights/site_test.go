// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rights_test compares what the operator may do with what it does: the roles of config/rbac, config/probe and config/reports with the audit log of a
// real API server, under which the program that ships does all it ever does.
package rights_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
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
	repoRoot  = "../.."
	account   = "pci-network-baseline"
	namespace = "pci-network-baseline-system" // of the operator
	user      = "system:serviceaccount:" + namespace + ":" + account
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	klog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// site is a cluster with the operator. Its own client is in system:masters.
type site struct {
	client.Client
	cluster *cluster.Cluster
	audit   string // path of the log
	metrics string // address of the operator's
	token   string // of the operator's ServiceAccount
	log     string // path of the operator's
}

// newSite starts a cluster whose API server does not stream lists, as older ones and those that have it turned off: from one
// that does the operator never lists, and could not be seen to need that verb. Without a controller manager statuses stay as
// fixtures have them.
func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{audit: filepath.Join(t.TempDir(), "audit.log")}
	var err error
	s.cluster, err = cluster.Start(t.Context(), cluster.Options{
		Dir:                t.TempDir(),
		Assets:             cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")),
		AuditLog:           s.audit,
		ExtraAPIServerArgs: []string{"--feature-gates=WatchList=false"},
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
	if s.Client, err = client.New(s.cluster.Config(), client.Options{Scheme: types}); err != nil {
		t.Fatal(err)
	}
	if err := s.cluster.Install(t.Context(), repoRoot, "probe", "reports"); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) run(t *testing.T, command string, args ...string) {
	t.Helper()
	if output, err := exec.CommandContext(t.Context(), command, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", command, args, err, output)
	}
}

// start builds the operator and starts it with a token of its ServiceAccount. It ends with the test.
func (s *site) start(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	binary, kubeconfig := filepath.Join(dir, "operator"), filepath.Join(dir, "kubeconfig")
	s.run(t, "go", "build", "-o", binary, repoRoot)
	token := &authenticationv1.TokenRequest{}
	object := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	if err := s.SubResource("token").Create(t.Context(), object, token); err != nil {
		t.Fatal(err)
	}
	s.token, s.metrics = token.Status.Token, freeAddress(t)
	if err := s.cluster.KubeconfigForToken(kubeconfig, s.token); err != nil {
		t.Fatal(err)
	}
	s.log = filepath.Join(dir, "log")
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), binary,
		"--kubeconfig="+kubeconfig, "--leader-elect=true", "--metrics-bind-address="+s.metrics, "--health-probe-bind-address=0", "--probe-image=canary")
	cmd.Stdout, cmd.Stderr = log, log
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
		_ = log.Close()
		if text, err := os.ReadFile(s.log); t.Failed() && err == nil {
			t.Logf("end of the operator's log:\n%s", text[max(0, len(text)-2000):])
		}
	})
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

// scrape asks for the metrics as somebody whom the API server knows and who may not have them.
func (s *site) scrape(t *testing.T) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}} // nobody signed it
	defer transport.CloseIdleConnections()
	eventually.That(t, "a scrape is refused", func() error {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+s.metrics+"/metrics", http.NoBody)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+s.token)
		response, err := (&http.Client{Transport: transport, Timeout: eventually.Patience / 3}).Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusForbidden {
			return fmt.Errorf("the answer is %s", response.Status)
		}
		return nil
	})
}

// asOperator returns a client of the operator's account.
func (s *site) asOperator(t *testing.T) client.Client {
	t.Helper()
	config := rest.AnonymousClientConfig(s.cluster.Config())
	config.BearerToken, config.UserAgent = s.token, byTest
	c, err := client.New(config, client.Options{Scheme: s.Scheme(), Mapper: s.RESTMapper()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fixture returns the objects of a platform of test/platforms.
func fixture(t *testing.T, name string) []*unstructured.Unstructured {
	t.Helper()
	file, err := os.Open(filepath.Join(repoRoot, "test", "platforms", "testdata", name, "cluster.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var out []*unstructured.Unstructured
	for decoder := utilyaml.NewYAMLOrJSONDecoder(file, 4096); ; {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, object)
	}
}

// definition defines a kind with any fields, in one of the forms of fixtures.
func definition(kind schema.GroupVersionKind, plural, scope string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{
			"name":        plural + "." + kind.Group,
			"annotations": map[string]any{"api-approved.kubernetes.io": "unapproved, a test's"}, // wanted in groups of Kubernetes' own
		},
		"spec": map[string]any{
			"group": kind.Group, "scope": scope,
			"names": map[string]any{"kind": kind.Kind, "listKind": kind.Kind + "List", "plural": plural, "singular": strings.ToLower(kind.Kind)},
			"versions": []any{map[string]any{
				"name": kind.Version, "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
			}},
		},
	}}
}

// place creates objects, with their statuses, and returns what takes them away.
func (s *site) place(t *testing.T, objects []*unstructured.Unstructured) (remove func()) {
	t.Helper()
	for _, object := range objects {
		if n := object.GetNamespace(); n != "" {
			err := s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}})
			if client.IgnoreAlreadyExists(err) != nil {
				t.Fatal(err)
			}
		}
		eventually.That(t, object.GetKind()+" "+object.GetName()+" is created", func() error { // its kind may not be served yet
			fresh := object.DeepCopy()
			err := s.Create(t.Context(), fresh)
			if status, has := object.Object["status"]; err == nil && has && object.GetKind() != "CustomResourceDefinition" {
				fresh.Object["status"] = status
				return client.IgnoreNotFound(s.Status().Update(t.Context(), fresh)) // not every kind has one of its own
			}
			return client.IgnoreAlreadyExists(err)
		})
	}
	return func() {
		t.Helper()
		for _, object := range objects {
			eventually.That(t, object.GetKind()+" "+object.GetName()+" is gone", func() error {
				err := s.Delete(t.Context(), object.DeepCopy(), client.GracePeriodSeconds(0))
				if apierrors.IsNotFound(err) || apimeta.IsNoMatchError(err) {
					return nil
				}
				return fmt.Errorf("it is there: %w", err)
			})
		}
	}
}
