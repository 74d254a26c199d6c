// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

var update = flag.Bool("update", false, "write what is rendered to testdata")

// backends are rendered to testdata/<case>/<name>.yaml; scheme tells the kinds of what they return.
var (
	backends = map[string]render.Backend{"core": core.Backend{}}
	scheme   = runtime.NewScheme()
	_        = networkingv1.AddToScheme(scheme)
)

// Each case is a directory: in.yaml holds a policy.Set, and beside it is what each backend makes of it, ready for
// kubectl apply.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no cases in testdata: %v", err)
	}
	for _, input := range inputs {
		dir := filepath.Dir(input)
		for name, backend := range backends {
			t.Run(filepath.Base(dir)+" "+name, func(t *testing.T) {
				compareGolden(t, filepath.Join(dir, name+".yaml"), renderFile(t, backend, input))
			})
		}
	}
}

// renderFile renders the set of a file, in the order of writing.
func renderFile(t *testing.T, backend render.Backend, path string) []byte {
	t.Helper()
	in, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var set policy.Set
	if err := yaml.UnmarshalStrict(in, &set); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var out bytes.Buffer
	for i, p := range set.Ordered() {
		obj := render.Render(backend, set, p)
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
		t.Errorf("%v\nTo accept what is rendered: go test ./internal/render -run TestGolden -update", err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s\nTo accept it: go test ./internal/render -run TestGolden -update", path, diff)
	}
}
