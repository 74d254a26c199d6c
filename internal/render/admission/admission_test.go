// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/admission"
)

var update = flag.Bool("update", false, "write what is rendered to testdata")

// Each file holds objects as kubectl would apply them.
func TestGolden(t *testing.T) {
	config := admission.Config{
		Operator: "system:serviceaccount:pci-network-baseline-system:pci-network-baseline",
		DeadMan:  "system:serviceaccount:pci-network-baseline-hosts:dead-man",
		Never:    []string{"kube-system", "pci-network-baseline-system"},
		Tracking: []string{"app.kubernetes.io/instance", "argocd.argoproj.io/"},
		Canaries: admission.Canaries{Namespace: "pci-network-baseline-probe", Policies: []string{"pcinb-probe-target", "pcinb-probe-source"}},
	}
	selector := metav1.LabelSelector{MatchLabels: map[string]string{"pci": "in-scope"}}
	files := map[string][]render.Object{"own-limits-binding": {admission.Limits()}}
	for _, p := range admission.Policies(config) {
		files[p.Name] = []render.Object{p}
	}
	for name, b := range map[string]admission.Baseline{
		"enforce":                        {Gate: admission.Deny, Tamper: admission.Deny, Namespaces: selector},
		"warn":                           {Gate: admission.Warn, Tamper: admission.Warn, Namespaces: selector},
		"gate-alone-for-every-namespace": {Gate: admission.Deny},
		"off":                            {},
	} {
		b.Name = "cardholder-data"
		files["bindings-"+name] = nil
		for _, binding := range admission.Bindings(b) {
			files["bindings-"+name] = append(files["bindings-"+name], binding)
		}
	}
	for name, objects := range files {
		t.Run(name, func(t *testing.T) {
			compareGolden(t, filepath.Join("testdata", name+".yaml"), documents(t, objects))
		})
	}
}

// documents encodes objects in their order.
func documents(t *testing.T, objects []render.Object) []byte {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := admissionregistrationv1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for i, obj := range objects {
		kinds, _, err := scheme.ObjectKinds(obj)
		if err != nil {
			t.Fatal(err)
		}
		obj.GetObjectKind().SetGroupVersionKind(kinds[0])
		text, err := yaml.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes()
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%v\nTo accept what is rendered: go test ./internal/render/admission -run TestGolden -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nTo accept it: go test ./internal/render/admission -run TestGolden -update", path, diff)
	}
}
