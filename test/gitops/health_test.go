// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gitops_test checks that GitOps tools and we read the same verdict from the same object: Argo CD by the health
// checks in config/argocd, Flux and kubectl by kstatus.
package gitops_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

const (
	argoDir  = "../../config/argocd"
	group    = "pcinetwork.dev"
	baseline = "PCINetworkBaseline"
	coverage = "NamespaceCoverage"

	// minStates is how many states of a baseline the GitOps promise is made for.
	minStates = 12

	testsHead = "# Written from testdata/ by go test ./test/gitops -update; do not edit.\n"
)

// healthTests is the form of health_test.yaml in Argo CD's repository.
type healthTests struct {
	Tests []healthTest `json:"tests"`
}

type healthTest struct {
	InputPath    string `json:"inputPath"`
	HealthStatus health `json:"healthStatus"`
}

func kindDir(kind string) string {
	return filepath.Join(argoDir, "resource_customizations", group, kind)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func script(t *testing.T, kind string) string {
	t.Helper()
	return string(read(t, filepath.Join(kindDir(kind), "health.lua")))
}

// form is one of the ways in which Argo CD gets to a health check.
type form struct {
	script       string
	allLibraries bool
}

// forms returns the three that config/argocd has.
func forms(t *testing.T, kind string) map[string]form {
	t.Helper()
	return map[string]form{
		"built into Argo CD":    {script(t, kind), true},
		"a key in argocd-cm":    {lookUp(t, keysFile, kind), false},
		"wildcard in argocd-cm": {lookUp(t, wildcardFile, kind), false},
	}
}

// states returns the objects of a kind by file name, as test/operator recorded them from an API server.
func states(t *testing.T, kind string) map[string]*unstructured.Unstructured {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(kindDir(kind), "testdata", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]*unstructured.Unstructured{}
	for _, path := range paths {
		data, err := yaml.YAMLToJSON(read(t, path))
		if err != nil {
			t.Fatal(err)
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(data); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if object.GetKind() != kind {
			t.Fatalf("%s: kind is %s", path, object.GetKind())
		}
		objects[filepath.Base(path)] = object
	}
	return objects
}

// expected returns the verdict that the name of a recorded object begins with.
func expected(file string) string {
	status, _, _ := strings.Cut(file, "_")
	return strings.ToUpper(status[:1]) + status[1:]
}

// subjectOf reads an object through our own types.
func subjectOf(t *testing.T, object *unstructured.Unstructured) subject {
	t.Helper()
	s := subject{hasStatus: object.Object["status"] != nil}
	var err error
	if object.GetKind() == coverage {
		var typed pcinetv1alpha1.NamespaceCoverage
		err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &typed, true)
		s.metadata, s.conditions = typed.ObjectMeta, typed.Status.Conditions
	} else {
		var typed pcinetv1alpha1.PCINetworkBaseline
		err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &typed, true)
		s.metadata, s.conditions = typed.ObjectMeta, typed.Status.Conditions
		s.observedGeneration = &typed.Status.ObservedGeneration
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func computeKstatus(t *testing.T, object *unstructured.Unstructured) status.Status {
	t.Helper()
	result, err := status.Compute(object)
	if err != nil {
		t.Fatal(err)
	}
	return result.Status
}

func TestEveryToolAgreesOnRecordedObjects(t *testing.T) {
	for _, kind := range []string{baseline, coverage} {
		scripts, objects := forms(t, kind), states(t, kind)
		seen := map[string]bool{}
		for name, object := range objects {
			t.Run(kind+"/"+name, func(t *testing.T) {
				ours := judge(subjectOf(t, object))
				seen[ours.argo.Status] = true
				if want := expected(name); ours.argo.Status != want {
					t.Errorf("we say %s, the name of the file %s", ours.argo.Status, want)
				}
				for name, form := range scripts {
					got, err := argoRun(form.script, object.Object, form.allLibraries)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if diff := cmp.Diff(ours.argo, got); diff != "" {
						t.Errorf("%s: health.lua and we disagree (-ours +health.lua):\n%s", name, diff)
					}
				}
				if got := computeKstatus(t, object); got != ours.kstatus {
					t.Errorf("kstatus says %s, we say %s", got, ours.kstatus)
				}
			})
		}
		for _, status := range []string{"Healthy", "Progressing", "Degraded", "Suspended"} {
			if !seen[status] {
				t.Errorf("%s: no recorded object is %s", kind, status)
			}
		}
		if kind == baseline && len(objects) < minStates {
			t.Errorf("%d recorded baselines, want at least %d", len(objects), minStates)
		}
	}
}

// TestHealthTestsAreUpToDate keeps the folder as Argo CD's repository would take it.
func TestHealthTestsAreUpToDate(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{baseline, coverage} {
		objects := states(t, kind)
		var file healthTests
		for _, name := range slices.Sorted(maps.Keys(objects)) {
			message := judge(subjectOf(t, objects[name])).argo.Message
			file.Tests = append(file.Tests, healthTest{"testdata/" + name, health{expected(name), message}})
		}
		data, err := yaml.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join(kindDir(kind), "health_test.yaml"), testsHead+string(data))
	}
}

// TestEveryToolAgreesOnEveryCombination goes through all that a verdict can depend on, also what no operator writes.
func TestEveryToolAgreesOnEveryCombination(t *testing.T) {
	t.Parallel()
	count := 0
	for object := range combinations {
		count++
		kind := object.GetKind()
		ours := judge(subjectOf(t, object))
		got, err := argoRun(script(t, kind), object.Object, false)
		if err != nil {
			t.Fatalf("%v\n%v", err, object.Object)
		}
		if diff := cmp.Diff(ours.argo, got); diff != "" {
			t.Errorf("health.lua and we disagree (-ours +health.lua):\n%s%v", diff, object.Object)
		}
		want := ours.kstatus
		if ours.argo.Message == messageFirstReport {
			// Without a Ready condition kstatus takes anything for done. That is why the CRD gives a new baseline the
			// observedGeneration -1, and why the operator writes a coverage together with its conditions.
			want = status.CurrentStatus
		}
		if got := computeKstatus(t, object); got != want {
			t.Errorf("kstatus says %s, we say %s\n%v", got, want, object.Object)
		}
	}
	if count < 500 {
		t.Errorf("only %d combinations", count)
	}
}

// combinations yields objects of both kinds, at generation 3. Stalled stands before Reconciling, because kstatus takes the first that is
// true; the operator never writes both.
func combinations(yield func(*unstructured.Unstructured) bool) {
	options := func(name string, values ...string) []any {
		list := []any{nil}
		for _, value := range values {
			conditionStatus, reason, _ := strings.Cut(value, "/")
			list = append(list, map[string]any{
				"type": name, "status": conditionStatus, "reason": reason, "message": name + " is " + value,
			})
		}
		return list
	}
	stalled := options("Stalled", "True/InvalidSpec", "False/Fine", "Unknown/Fine")
	reconciling := options("Reconciling", "True/Progressing", "False/Fine", "Unknown/Fine")
	ready := options("Ready", "True/AllNamespacesProtected", "True/AuditMode", "False/AuditMode", "Unknown/AuditMode",
		"False/PoliciesMissing", "Unknown/NotObserved")

	generations := map[string][]any{baseline: {int64(-1), int64(2), int64(3)}, coverage: {int64(0)}}
	for _, kind := range []string{baseline, coverage} {
		for _, deleting := range []bool{false, true} {
			for _, observed := range generations[kind] {
				for i := range len(stalled) * len(reconciling) * len(ready) {
					conditions := []any{
						stalled[i%len(stalled)],
						reconciling[i/len(stalled)%len(reconciling)],
						ready[i/len(stalled)/len(reconciling)],
					}
					conditions = slices.DeleteFunc(conditions, func(c any) bool { return c == nil })
					if !yield(compose(kind, deleting, observed, conditions)) {
						return
					}
				}
			}
		}
	}
	_ = yield(compose(coverage, false, nil, nil))
}

func compose(kind string, deleting bool, observed any, conditions []any) *unstructured.Unstructured {
	metadata := map[string]any{"name": "x", "generation": int64(3)}
	if deleting {
		metadata["deletionTimestamp"] = "2026-11-20T10:00:00Z"
	}
	object := map[string]any{"apiVersion": group + "/v1alpha1", "kind": kind, "metadata": metadata}
	if observed == nil {
		return &unstructured.Unstructured{Object: object}
	}
	state := map[string]any{}
	if kind == baseline {
		state["observedGeneration"] = observed
	}
	if len(conditions) > 0 {
		state["conditions"] = conditions
	}
	object["status"] = state
	return &unstructured.Unstructured{Object: object}
}

// TestABrokenScriptIsCaught breaks the script in every place that decides; each time some object must get another
// verdict than ours.
func TestABrokenScriptIsCaught(t *testing.T) {
	t.Parallel()
	source := script(t, baseline)
	for _, fault := range [][2]string{
		{`obj.metadata.deletionTimestamp ~= nil`, `false`},
		{`obj.status == nil`, `false`},
		{`obj.status.observedGeneration ~= obj.metadata.generation`, `false`},
		{`obj.status.observedGeneration ~= obj.metadata.generation`, `true`},
		{`holds("Stalled")`, `false`},
		{`holds("Reconciling")`, `false`},
		{`conditions[name].status == "True"`, `conditions[name].status ~= "False"`},
		{`health("Degraded", conditions.Stalled.message)`, `health("Degraded", nil)`},
		{`ready == nil`, `false`},
		{`ready.status == "True"`, `ready.status ~= "Unknown"`},
		{`ready.status == "True"`, `false`},
		{`ready.status == "False" and `, ``},
		{`ready.reason == "AuditMode"`, `true`},
		{`ready.reason == "AuditMode"`, `false`},
	} {
		broken := strings.Replace(source, fault[0], fault[1], 1)
		if broken == source {
			t.Fatalf("%q is not in health.lua", fault[0])
		}
		if !caught(t, broken) {
			t.Errorf("nobody notices when %q becomes %q", fault[0], fault[1])
		}
	}
}

// caught says whether a script differs from us on a recorded object or a combination.
func caught(t *testing.T, broken string) bool {
	t.Helper()
	differs := func(object *unstructured.Unstructured) bool {
		got, err := argoRun(broken, object.Object, false)
		return err != nil || got != judge(subjectOf(t, object)).argo
	}
	for _, kind := range []string{baseline, coverage} {
		for _, object := range states(t, kind) {
			if differs(object) {
				return true
			}
		}
	}
	for object := range combinations {
		if differs(object) {
			return true
		}
	}
	return false
}

// TestOneScriptServesBothKinds keeps the form with a wildcard possible.
func TestOneScriptServesBothKinds(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(script(t, baseline), script(t, coverage)); diff != "" {
		t.Errorf("the scripts differ (-%s +%s):\n%s", baseline, coverage, diff)
	}
}

func TestJudgeTellsUnknownFromAudit(t *testing.T) {
	t.Parallel()
	s := subject{hasStatus: true, conditions: []metav1.Condition{{
		Type: "Ready", Status: metav1.ConditionUnknown, Reason: pcinetv1alpha1.ReasonAuditMode, Message: "m",
	}}}
	if got := fmt.Sprint(judge(s).argo); got != "{Progressing m}" {
		t.Error(got)
	}
}
