// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"bytes"
	"errors"
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
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cluster"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

var update = flag.Bool("update", false, "write what is rendered to testdata")

// backends are rendered to testdata/<case>/<name>.yaml, guards to testdata/guard/<case>/<name>.yaml, hosts to
// testdata/hosts/<case>/<name>.yaml; scheme tells the kinds of what they return.
var (
	backends = map[string]render.Backend{
		"core":          core.Backend{},
		"calico":        calico.Backend{},
		"calico-staged": calico.Backend{Staged: true},
		"cilium":        cilium.Backend{},
	}
	guards = map[string]render.GuardLayer{
		"calico":  calico.Guard{},
		"cilium":  cilium.Guard{},
		"cluster": cluster.Guard{},
	}
	hosts = map[string]render.HostLayer{
		"calico": calico.Hosts{},
		"cilium": cilium.Hosts{},
	}
	scheme = runtime.NewScheme()
	_      = errors.Join(networkingv1.AddToScheme(scheme), calico.AddToScheme(scheme), cilium.AddToScheme(scheme), cluster.AddToScheme(scheme))
)

// Each case is a directory: in.yaml holds a policy.Set, policy.Guard or policy.HostFirewall, and beside it is what each backend makes of it,
// ready for kubectl apply.
func TestGolden(t *testing.T) {
	for name, backend := range backends {
		eachCase(t, "testdata/*/in.yaml", name, func(t *testing.T, in []byte) []byte {
			t.Helper()
			var set policy.Set
			if err := yaml.UnmarshalStrict(in, &set); err != nil {
				t.Fatal(err)
			}
			var objects []render.Object
			for _, p := range set.Ordered() {
				objects = append(objects, render.Render(backend, set, p))
			}
			return documents(t, objects)
		})
	}
	for name, layer := range guards {
		eachCase(t, "testdata/guard/*/in.yaml", name, func(t *testing.T, in []byte) []byte {
			t.Helper()
			var guard policy.Guard
			if err := yaml.UnmarshalStrict(in, &guard); err != nil {
				t.Fatal(err)
			}
			return documents(t, []render.Object{render.Guard(layer, guard)})
		})
	}
	for name, layer := range hosts {
		eachCase(t, "testdata/hosts/*/in.yaml", name, func(t *testing.T, in []byte) []byte {
			t.Helper()
			var firewall policy.HostFirewall
			if err := yaml.UnmarshalStrict(in, &firewall); err != nil {
				t.Fatal(err)
			}
			return documents(t, render.HostFirewall(layer, firewall))
		})
	}
}

func eachCase(t *testing.T, pattern, name string, render func(t *testing.T, in []byte) []byte) {
	t.Helper()
	inputs, err := filepath.Glob(pattern)
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no cases in %s: %v", pattern, err)
	}
	for _, input := range inputs {
		dir := filepath.Dir(input)
		t.Run(dir+" "+name, func(t *testing.T) {
			in, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, filepath.Join(dir, name+".yaml"), render(t, in))
		})
	}
}

// documents encodes objects in their order.
func documents(t *testing.T, objects []render.Object) []byte {
	t.Helper()
	var out bytes.Buffer
	for i, obj := range objects {
		if obj.GetObjectKind().GroupVersionKind().Empty() {
			kinds, _, err := scheme.ObjectKinds(obj)
			if err != nil {
				t.Fatal(err)
			}
			obj.GetObjectKind().SetGroupVersionKind(kinds[0])
		}
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
