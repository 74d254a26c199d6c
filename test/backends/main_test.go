// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package backends_test writes what the backends render to a real API server that serves the engines' kinds.
package backends_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cluster"
	testcluster "github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const repoRoot = "../.."

// env is what TestMain started.
var env struct {
	cluster *testcluster.Cluster
	client  client.Client
}

func TestMain(m *testing.M) {
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "backends tests:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "pcinb-backends-")
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
	return code, os.RemoveAll(dir)
}

func setUp(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	var err error
	env.cluster, err = testcluster.Start(ctx, testcluster.Options{
		Dir: dir, Assets: testcluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")),
	})
	if err != nil {
		return err
	}
	s := runtime.NewScheme()
	err = errors.Join(scheme.AddToScheme(s), calico.AddToScheme(s), cilium.AddToScheme(s), cluster.AddToScheme(s))
	if err == nil {
		env.client, err = client.New(env.cluster.Config(), client.Options{Scheme: s})
	}
	if err == nil {
		err = install(ctx)
	}
	if err != nil {
		_ = env.cluster.Stop()
	}
	return err
}

// install adds the engines' kinds: Cilium's and SIG Network's from their modules, Calico's from testdata.
func install(ctx context.Context) error {
	objects, err := calicoCRDs()
	if err != nil {
		return err
	}
	files := []string{"testdata/defaults.yaml"}
	dir, err := moduleDir(ctx, "test/semantic", "github.com/cilium/cilium")
	if err != nil {
		return err
	}
	for _, kind := range []string{"ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"} {
		files = append(files, filepath.Join(dir, "pkg/k8s/apis/cilium.io/client/crds/v2", kind+".yaml"))
	}
	if dir, err = moduleDir(ctx, ".", "sigs.k8s.io/network-policy-api"); err != nil {
		return err
	}
	files = append(files, filepath.Join(dir, "config/crd/standard/policy.networking.k8s.io_clusternetworkpolicies.yaml"))
	for _, f := range files {
		more, err := documentsOf(f)
		if err != nil {
			return err
		}
		objects = append(objects, more...)
	}
	for _, o := range objects {
		if err := env.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("engines")); err != nil {
			return fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// moduleDir returns where the sources of a module are that the module in dir requires.
func moduleDir(ctx context.Context, dir, module string) (string, error) {
	var out []byte
	for _, args := range [][]string{{"mod", "download", module}, {"list", "-m", "-f", "{{.Dir}}", module}} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Stderr = filepath.Join(repoRoot, dir), os.Stderr
		var err error
		if out, err = cmd.Output(); err != nil {
			return "", fmt.Errorf("go %v: %w", args, err)
		}
	}
	return strings.TrimSpace(string(out)), nil
}

func documentsOf(path string) ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &o.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(o.Object) > 0 {
			delete(o.Object, "status")
			out = append(out, o)
		}
	}
	return out, nil
}

// calicoCRDs derives the kinds from that of the NetworkPolicy, from which they differ in few fields.
func calicoCRDs() ([]*unstructured.Unstructured, error) {
	text, err := os.ReadFile("testdata/crd.yaml")
	if err != nil {
		return nil, err
	}
	str, boolean := apiextensionsv1.JSONSchemaProps{Type: "string"}, apiextensionsv1.JSONSchemaProps{Type: "boolean"}
	more := map[string]map[string]apiextensionsv1.JSONSchemaProps{
		"NetworkPolicy":       nil,
		"StagedNetworkPolicy": {"stagedAction": str},
		"GlobalNetworkPolicy": {"namespaceSelector": str, "doNotTrack": boolean, "preDNAT": boolean, "applyOnForward": boolean},
	}
	var out []*unstructured.Unstructured
	for kind, fields := range more {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(text, crd); err != nil {
			return nil, err
		}
		names := &crd.Spec.Names
		names.Kind, names.ListKind, names.Singular = kind, kind+"List", strings.ToLower(kind)
		names.Plural = strings.TrimSuffix(names.Singular, "y") + "ies"
		crd.Name = names.Plural + "." + crd.Spec.Group
		if kind == "GlobalNetworkPolicy" {
			crd.Spec.Scope = apiextensionsv1.ClusterScoped
		}
		maps.Copy(crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].Properties, fields)
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(crd)
		if err != nil {
			return nil, err
		}
		delete(content, "status")
		out = append(out, &unstructured.Unstructured{Object: content})
	}
	tier := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(tierCRD), &tier.Object); err != nil {
		return nil, err
	}
	return append(out, tier), nil
}

// tierCRD defines the kind of tiers, with nothing of its schema.
const tierCRD = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: tiers.projectcalico.org
spec:
  group: projectcalico.org
  scope: Cluster
  names: {kind: Tier, plural: tiers, singular: tier, listKind: TierList}
  versions:
    - {name: v3, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

func createNamespace(t *testing.T) string {
	t.Helper()
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := env.client.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	return n.Name
}
