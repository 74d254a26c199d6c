// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package backends_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cluster"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

// rendered is one object and how to read such.
type rendered struct {
	name  string
	obj   client.Object
	empty func() client.Object
}

// everyObject renders the cases of the golden files with every backend.
func everyObject(t *testing.T, namespace string) []rendered {
	t.Helper()
	var out []rendered
	for _, b := range []render.Backend{core.Backend{}, calico.Backend{}, calico.Backend{Staged: true}, cilium.Backend{}} {
		for _, path := range casesOf(t, "*") {
			var set policy.Set
			readCase(t, path, &set)
			set.Namespace = namespace
			for _, p := range set.Ordered() {
				if p.Role == policy.Allowance && len(p.Rules) == 0 {
					continue
				}
				obj := render.Render(b, set, p)
				obj.SetName(filepath.Base(filepath.Dir(path)) + "-" + p.Name)
				out = append(out, rendered{
					name: fmt.Sprintf("%T %s", obj, obj.GetName()), obj: obj,
					empty: func() client.Object { o, _ := b.New(); return o },
				})
			}
		}
	}
	for _, l := range []render.GuardLayer{calico.Guard{}, cilium.Guard{}, cluster.Guard{}} {
		for _, path := range casesOf(t, "guard/*") {
			var guard policy.Guard
			readCase(t, path, &guard)
			obj := render.Guard(l, guard)
			obj.SetName("guard-" + filepath.Base(filepath.Dir(path)))
			out = append(out, rendered{
				name: fmt.Sprintf("%T %s", obj, obj.GetName()), obj: obj,
				empty: func() client.Object { o, _ := l.New(); return o },
			})
		}
	}
	return out
}

func casesOf(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(repoRoot, "internal/render/testdata", pattern, "in.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	return paths
}

func readCase(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What is rendered is accepted under the engines' own CRDs, is read back as it was rendered, and is then left alone: a
// second look writes nothing.
func TestWhatIsRenderedIsStoredAsRendered(t *testing.T) {
	c := env.client
	namespace := createNamespace(t)
	writes := 0
	applier := &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) { writes++ }}
	for _, r := range everyObject(t, namespace) {
		t.Run(r.name, func(t *testing.T) {
			createServed(t, applier, c, r.obj)
			live := read(t, c, r)
			if d := apply.Diff(r.obj, live); !d.None() {
				text, _ := yaml.Marshal(live)
				t.Fatalf("drift right after the write: %v\n%s", d.Fields, text)
			}
			writes = 0
			change, err := applier.Write(t.Context(), r.obj, live)
			if err != nil || change.Operation != apply.None || writes != 0 {
				t.Errorf("a second look did %s with %d writes: %v", change.Operation, writes, err)
			}
		})
	}
}

// createServed creates an object. Right after a kind is added, the server may not serve it yet, or refuse it for a moment.
func createServed(t *testing.T, applier *apply.Applier, c client.Client, obj client.Object) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		_, err := applier.Write(ctx, obj, nil)
		if ctx.Err() == nil {
			last = err
		}
		return err == nil, nil
	})
	if err != nil {
		t.Fatalf("%v: %v", err, last)
	}
	t.Cleanup(func() {
		//nolint:usetesting // t.Context is already over in a cleanup
		if err := client.IgnoreNotFound(c.Delete(context.Background(), obj)); err != nil {
			t.Error(err)
		}
	})
}

func read(t *testing.T, c client.Client, r rendered) client.Object {
	t.Helper()
	live := r.empty()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(r.obj), live); err != nil {
		t.Fatal(err)
	}
	return live
}

// Whatever somebody changes is seen and put right, even what the rendered kind has no field for.
func TestChangesToNativePoliciesAreDrift(t *testing.T) {
	c := env.client
	namespace := createNamespace(t)
	applier := &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}
	set := policy.Set{Baseline: "pci", Namespace: namespace, Deny: policy.Policy{
		Name: "default-deny", Role: policy.Deny, Directions: []policy.Direction{policy.Ingress, policy.Egress},
	}}
	cases := map[string]struct {
		backend render.Backend
		patch   string
		want    []string
	}{
		"Calico: a rule that allows everything": {calico.Backend{}, `{"spec":{"egress":[{"action":"Allow"}]}}`, []string{"spec.egress"}},
		"Calico: only some pods":                {calico.Backend{}, `{"spec":{"selector":"app == \"a\""}}`, []string{"spec.selector"}},
		"Calico: a direction less":              {calico.Backend{}, `{"spec":{"types":["Ingress"]}}`, []string{"spec.types"}},
		"Calico: labels of the server's own":    {calico.Backend{}, `{"metadata":{"labels":{"projectcalico.org/tier":"default"}}}`, nil},
		"Calico staged: no longer evaluated":    {calico.Backend{Staged: true}, `{"spec":{"stagedAction":"Ignore"}}`, []string{"spec.stagedAction"}},
		"Cilium: a list that says nothing":      {cilium.Backend{}, `{"spec":{"ingress":[]}}`, []string{"spec.ingress"}},
		"Cilium: a rule that allows everything": {cilium.Backend{}, `{"spec":{"egress":[{"toEntities":["all"]}]}}`, []string{"spec.egress"}},
		"Cilium: the deny is switched off":      {cilium.Backend{}, `{"spec":{"enableDefaultDeny":{"ingress":false,"egress":false}}}`, []string{"spec.unknown"}},
		"Cilium: a second rule":                 {cilium.Backend{}, `{"specs":[{"endpointSelector":{},"ingress":[{"fromEntities":["all"]}]}]}`, []string{"spec.unknown"}},
		"Cilium: only some pods":                {cilium.Backend{}, `{"spec":{"endpointSelector":{"matchLabels":{"app":"a"}}}}`, []string{"spec.endpointSelector"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := rendered{obj: render.Render(tc.backend, set, set.Deny), empty: func() client.Object { o, _ := tc.backend.New(); return o }}
			createServed(t, applier, c, r.obj)
			if err := c.Patch(t.Context(), read(t, c, r), client.RawPatch(types.MergePatchType, []byte(tc.patch))); err != nil {
				t.Fatal(err)
			}
			live := read(t, c, r)
			if diff := cmp.Diff(tc.want, apply.Diff(r.obj, live).Fields); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
			if _, err := applier.Write(t.Context(), r.obj, live); err != nil {
				t.Fatal(err)
			}
			if d := apply.Diff(r.obj, read(t, c, r)); !d.None() {
				t.Errorf("drift after the repair: %v", d.Fields)
			}
		})
	}
}
