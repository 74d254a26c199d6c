// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// defaultSpec is what an empty spec means.
const defaultSpec = `
enforcement: Enforce
namespaces: {system: Exclude}
directions: [Ingress, Egress]
backend: Auto
guardLayer: None
admission: {podGate: Enforce, tamperGuard: Enforce}
allow: {dns: ClusterDNS}
verification: {intervalSeconds: 300, freshnessSeconds: 14400, nodes: 100}
deletionPolicy: Retain
`

func baseline(t *testing.T, content string) *unstructured.Unstructured {
	t.Helper()
	object := parse(t, "PCINetworkBaseline", content)
	object.SetName(uniqueName("baseline"))
	return object
}

func TestDefaults(t *testing.T) {
	tests := map[string]string{
		"no spec":            ``,
		"an empty spec":      `spec: {}`,
		"a null spec":        `spec: null`,
		"empty parts":        `spec: {namespaces: {}, allow: {}, verification: {}}`,
		"null parts":         `spec: {namespaces: null, allow: null, enforcement: null, directions: null, backend: null, guardLayer: null, verification: null}`,
		"null fields":        `spec: {namespaces: {system: null, exclude: null}, allow: {dns: null, rules: null}}`,
		"everything spelled": `spec: {` + strings.ReplaceAll(strings.TrimSpace(defaultSpec), "\n", ", ") + `}`,
	}
	want := parse(t, "", defaultSpec).Object
	for _, key := range []string{"apiVersion", "kind"} {
		delete(want, key)
	}
	for name, content := range tests {
		t.Run(name, func(t *testing.T) {
			object := baseline(t, content)
			create(t, object)
			got := live(t, object)
			if diff := cmp.Diff(want, got.Object["spec"]); diff != "" {
				t.Errorf("spec (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string]any{"observedGeneration": int64(-1)}, got.Object["status"]); diff != "" {
				t.Errorf("status before anybody has looked (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("a cloud that is to be found", func(t *testing.T) {
		object := baseline(t, `spec: {managementAccess: {cloud: {}}}`)
		create(t, object)
		got, _, err := unstructured.NestedMap(live(t, object).Object, "spec", "managementAccess")
		if diff := cmp.Diff(map[string]any{"cloud": map[string]any{"provider": "Auto"}, "hostFirewall": "Off"}, got); err != nil || diff != "" {
			t.Errorf("managementAccess (-want +got):\n%s%v", diff, err)
		}
	})
	t.Run("the operator's own type", func(t *testing.T) {
		typed := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: uniqueName("baseline")}}
		create(t, typed)
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(typed), typed); err != nil {
			t.Fatal(err)
		}
		wantTyped := pcinetv1alpha1.PCINetworkBaselineSpec{
			Enforcement:    pcinetv1alpha1.EnforcementEnforce,
			Namespaces:     pcinetv1alpha1.NamespaceScope{System: pcinetv1alpha1.SystemNamespacesExclude},
			Directions:     []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress},
			Backend:        pcinetv1alpha1.BackendAuto,
			GuardLayer:     pcinetv1alpha1.GuardLayerNone,
			Allow:          pcinetv1alpha1.Allow{DNS: pcinetv1alpha1.DNSAllowanceClusterDNS},
			Admission:      pcinetv1alpha1.Admission{PodGate: pcinetv1alpha1.AdmissionEnforce, TamperGuard: pcinetv1alpha1.AdmissionEnforce},
			Verification:   pcinetv1alpha1.Verification{IntervalSeconds: 300, FreshnessSeconds: 14400, Nodes: 100},
			DeletionPolicy: pcinetv1alpha1.DeletionPolicyRetain,
		}
		if diff := cmp.Diff(wantTyped, typed.Spec); diff != "" {
			t.Errorf("spec (-want +got):\n%s", diff)
		}
		if got := typed.Status.ObservedGeneration; got != -1 {
			t.Errorf("observedGeneration %d, want -1", got)
		}
	})
}

// TestApplyingAgainChangesNothing is what Git tools rely on: a manifest that was applied is in sync, and stays so.
func TestApplyingAgainChangesNothing(t *testing.T) {
	manifests := map[string]string{
		"an empty manifest":  ``,
		"spelled defaults":   `spec: {` + strings.ReplaceAll(strings.TrimSpace(defaultSpec), "\n", ", ") + `}`,
		"a partial manifest": `spec: {directions: [Egress], namespaces: {exclude: [zoo, bar]}, allow: {dns: None}}`,
		"a full manifest":    fullExamples["PCINetworkBaseline"],
	}
	maps.Copy(manifests, sampleFiles(t))
	for name, content := range manifests {
		t.Run(name, func(t *testing.T) {
			manifest := baseline(t, content)
			delete(manifest.Object, "status")
			first := apply(t, manifest)
			deleteAtEnd(t, first)

			// The default of status is not stored with a new object: a request to create it carries no status. The next
			// write stores it, once, and usually that is the operator's.
			second := apply(t, manifest)
			if diff := cmp.Diff(essence(first), essence(second)); diff != "" {
				t.Errorf("second apply (-before +after):\n%s", diff)
			}
			unchanged(t, second, apply(t, manifest))

			writeStatus(t, second)
			observed := live(t, second)
			unchanged(t, observed, apply(t, manifest))
			if observed.GetGeneration() != 1 {
				t.Errorf("generation %d after a write of status, want 1", observed.GetGeneration())
			}
		})
	}
}

// unchanged fails when the second apply wrote anything.
func unchanged(t *testing.T, before, after *unstructured.Unstructured) {
	t.Helper()
	if diff := cmp.Diff(before.Object, after.Object); diff != "" {
		t.Errorf("applied again (-before +after):\n%s", diff)
	}
}

// essence is an object without its version and the records of who wrote it.
func essence(object *unstructured.Unstructured) map[string]any {
	object = object.DeepCopy()
	object.SetResourceVersion("")
	object.SetManagedFields(nil)
	return object.Object
}

// writeStatus writes a status as the operator would, by server-side apply.
func writeStatus(t *testing.T, object *unstructured.Unstructured) {
	t.Helper()
	status := parse(t, "PCINetworkBaseline", `
status:
  observedGeneration: 1
  covered: 0/0
  conditions:
    - {type: Ready, status: "False", reason: Progressing, message: Namespaces are being worked on., lastTransitionTime: "2026-07-01T09:00:00Z"}
`)
	status.SetName(object.GetName())
	err := env.client.Status().Apply(t.Context(), client.ApplyConfigurationFromUnstructured(status), client.FieldOwner("operator"))
	if err != nil {
		t.Fatal(err)
	}
}

// TestListsKeepTheirOrder reads back what was written: no list is sorted, and nothing is lost or added.
func TestListsKeepTheirOrder(t *testing.T) {
	manifest := baseline(t, fullExamples["PCINetworkBaseline"])
	delete(manifest.Object, "status")
	got := apply(t, manifest)
	deleteAtEnd(t, got)
	if diff := cmp.Diff(manifest.Object["spec"], got.Object["spec"]); diff != "" {
		t.Errorf("spec (-applied +live):\n%s", diff)
	}

	reversed := manifest.DeepCopy()
	for _, path := range [][]string{
		{"spec", "directions"},
		{"spec", "namespaces", "exclude"},
		{"spec", "allow", "kubeAPIServer"},
		{"spec", "allow", "rules"},
	} {
		place, list, ok := find(reversed.Object, path)
		if !ok {
			t.Fatal("no ", path)
		}
		slices.Reverse(list.([]any))
		replace(reversed.Object, place, list)
	}
	got = apply(t, reversed)
	if diff := cmp.Diff(reversed.Object["spec"], got.Object["spec"]); diff != "" {
		t.Errorf("spec with its lists reversed (-applied +live):\n%s", diff)
	}
	if got.GetGeneration() != 2 {
		t.Errorf("generation %d, want 2", got.GetGeneration())
	}
}

func TestSpecAndStatusAreWrittenApart(t *testing.T) {
	manifest := baseline(t, `spec: {enforcement: Audit}`)
	deleteAtEnd(t, apply(t, manifest))
	writeStatus(t, manifest)
	before := live(t, manifest)

	t.Run("a write of the object leaves status alone", func(t *testing.T) {
		changed := before.DeepCopy()
		changed.Object["spec"].(map[string]any)["enforcement"] = "Enforce"
		changed.Object["status"] = map[string]any{"observedGeneration": int64(99), "covered": "20/20"}
		if err := env.client.Update(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		got := live(t, manifest)
		if diff := cmp.Diff(before.Object["status"], got.Object["status"]); diff != "" {
			t.Errorf("status (-before +after):\n%s", diff)
		}
		if got.GetGeneration() != before.GetGeneration()+1 {
			t.Errorf("generation %d, want %d", got.GetGeneration(), before.GetGeneration()+1)
		}
	})
	t.Run("a write of status leaves the object alone", func(t *testing.T) {
		current := live(t, manifest)
		changed := current.DeepCopy()
		changed.Object["spec"].(map[string]any)["enforcement"] = "Audit"
		changed.Object["status"].(map[string]any)["covered"] = "1/1"
		if err := env.client.Status().Update(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		got := live(t, manifest)
		if diff := cmp.Diff(current.Object["spec"], got.Object["spec"]); diff != "" {
			t.Errorf("spec (-before +after):\n%s", diff)
		}
		if got.GetGeneration() != current.GetGeneration() {
			t.Errorf("generation %d, want %d", got.GetGeneration(), current.GetGeneration())
		}
	})
	t.Run("status cannot be created", func(t *testing.T) {
		object := baseline(t, `status: {observedGeneration: 1, covered: 20/20}`)
		create(t, object)
		if diff := cmp.Diff(map[string]any{"observedGeneration": int64(-1)}, live(t, object).Object["status"]); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
	})
}

// TestCoverageIsStoredInOneWrite: NamespaceCoverage has no status subresource, so that a new namespace costs one request.
func TestCoverageIsStoredInOneWrite(t *testing.T) {
	namespace := createNamespace(t, nil)
	coverage := parse(t, "NamespaceCoverage", fullExamples["NamespaceCoverage"])
	coverage.SetNamespace(namespace)
	want := maps.Clone(coverage.Object["status"].(map[string]any))
	create(t, coverage)
	got := live(t, coverage)
	if diff := cmp.Diff(want, got.Object["status"]); diff != "" {
		t.Errorf("status after one create (-want +got):\n%s", diff)
	}
	for _, entry := range got.GetManagedFields() {
		if fields := entry.FieldsV1.GetRawString(); strings.Contains(fields, "f:conditions") {
			t.Errorf("managed fields go into the parts of status, which are half of the object then: %s", fields)
		}
	}

	got.Object["status"].(map[string]any)["state"] = "Contested"
	if err := env.client.Update(t.Context(), got.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got.Object["status"], live(t, coverage).Object["status"]); diff != "" {
		t.Errorf("status after one update (-want +got):\n%s", diff)
	}
	if err := env.client.Status().Update(t.Context(), live(t, coverage)); !apierrors.IsNotFound(err) {
		t.Errorf("a write to the subresource status: %v, want NotFound", err)
	}
}

// TestMisspelledFieldsAreRefused: a misspelled field must not silently leave its default in force.
func TestMisspelledFieldsAreRefused(t *testing.T) {
	manifest := baseline(t, `spec: {enforcment: Audit}`)
	err := env.client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(manifest.DeepCopy()), gitOps)
	if err == nil || !strings.Contains(err.Error(), ".spec.enforcment: field not declared in schema") {
		t.Errorf("server-side apply: %v, want the field named", err)
	}
	strict := client.WithFieldValidation(env.client, metav1.FieldValidationStrict)
	err = strict.Create(t.Context(), manifest)
	if err == nil || !strings.Contains(err.Error(), `unknown field "spec.enforcment"`) {
		t.Errorf("create with strict validation, which kubectl asks for: %v, want the field named", err)
	}
}

// TestALabelThatIsNullWidensNoSelector: a label less selects more, so null is refused wherever it reaches the API server.
// Where it does not, the selector is what docs/spec.md says, beside its fields; a change there is to be noticed.
func TestALabelThatIsNullWidensNoSelector(t *testing.T) {
	const (
		manifest = `{apiVersion: pcinetwork.dev/v1alpha1, kind: PCINetworkBaseline, metadata: {name: NAME}, spec: {namespaces: {selector: SELECTOR}}}`
		whole    = `{matchLabels: {team: shop, app: x}}`
		null     = `{matchLabels: {team: null, app: x}}`
	)
	setNull := func(kind string) []string {
		patch := `{"spec":{"namespaces":{"selector":{"matchLabels":{"team":null}}}}}`
		if kind == "json" {
			patch = `[{"op":"replace","path":"/spec/namespaces/selector/matchLabels/team","value":null}]`
		}
		return []string{"patch", "pcinb", "NAME", "--type=" + kind, "-p", patch}
	}
	refused := map[string]any(nil)
	tests := map[string]struct {
		before  string // the selector that is there already, if any
		command []string
		after   string
		want    map[string]any // the selector then; nil when the command must be refused
	}{
		"created":                  {"", []string{"create", "-f", "-"}, null, refused},
		"applied server-side":      {"", []string{"apply", "--server-side", "-f", "-"}, null, refused},
		"applied over another":     {whole, []string{"apply", "--server-side", "--force-conflicts", "-f", "-"}, null, refused},
		"replacing another":        {whole, []string{"replace", "-f", "-"}, null, refused},
		"patched in":               {whole, setNull("json"), "", refused},
		"in a list of values":      {"", []string{"create", "-f", "-"}, `{matchExpressions: [{key: app, operator: In, values: [x, null]}]}`, refused},
		"a merge patch":            {whole, setNull("merge"), "", map[string]any{"matchLabels": map[string]any{"app": "x"}}},
		"dropped by kubectl":       {"", []string{"apply", "-f", "-"}, null, map[string]any{"matchLabels": map[string]any{"app": "x"}}},
		"all labels of a map":      {"", []string{"create", "-f", "-"}, `{matchLabels: null}`, map[string]any{}},
		"the last one, by kubectl": {"", []string{"apply", "-f", "-"}, `{matchLabels: {team: null}}`, refused},
	}
	m := manifests{env.cluster, env.client}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			object := baseline(t, "")
			fill := func(text, selector string) string {
				return strings.NewReplacer("NAME", object.GetName(), "SELECTOR", selector).Replace(text)
			}
			if test.before != "" {
				m.kubectl(t, fill(manifest, test.before), "create", "-f", "-")
			}
			deleteAtEnd(t, object)
			var args []string
			for _, arg := range test.command {
				args = append(args, fill(arg, ""))
			}
			_, err := m.try(t, fill(manifest, test.after), args...)
			if test.want == nil {
				if err == nil || !strings.Contains(err.Error(), "spec.namespaces.selector.match") {
					t.Fatalf("got %v, want a refusal that names the field", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			_, got, _ := find(live(t, object).Object, []string{"spec", "namespaces", "selector"})
			if diff := cmp.Diff(any(test.want), got); diff != "" {
				t.Errorf("selector (-want +got):\n%s", diff)
			}
		})
	}
}
