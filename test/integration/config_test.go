// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	configDir         = repoRoot + "/config"
	operatorNamespace = "pci-network-baseline-system"
	operatorAccount   = "system:serviceaccount:" + operatorNamespace + ":pci-network-baseline"
)

// manifests is a cluster of its own, because what is installed there is cluster-scoped, with kubectl and a client that
// refuses unknown fields.
type manifests struct {
	cluster *cluster.Cluster
	client  client.Client
}

// TestConfig installs config/default with kubectl, as a user does, and checks what came of it.
func TestConfig(t *testing.T) {
	running, err := cluster.Start(t.Context(), cluster.Options{
		Dir:               t.TempDir(),
		Assets:            cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")),
		ControllerManager: true, // creates the Deployment's pods, and aggregates roles
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := running.Stop(); err != nil {
			t.Error(err)
		}
	})
	c, err := client.New(running.Config(), client.Options{Scheme: env.scheme})
	if err != nil {
		t.Fatal(err)
	}
	m := manifests{running, client.WithFieldValidation(c, metav1.FieldValidationStrict)}
	m.kubectl(t, "", "apply", "--server-side", "-k", filepath.Join(configDir, "default"))
	m.kubectl(t, "", "wait", "--for=condition=Established", "crd", "--all")

	t.Run("applying config/default again changes nothing", m.testApplyAgain)
	t.Run("Pod Security restricted admits the operator's pods and no worse ones", m.testPodSecurity)
	t.Run("roles permit what they should and no more", m.testPermissions)
	t.Run("samples are accepted", m.testSamples)
	t.Run("config/samples/full.yaml sets every field", m.testFullSample)
	t.Run("Argo CD finds no difference after a sync", m.testInSync)
	t.Run("Argo CD syncs CRDs, operator and baseline in this order", m.testSyncWaves)
	t.Run("recorded objects have the form of the CRDs", m.testRecordedObjects)
}

// try runs kubectl as a cluster administrator.
func (m manifests) try(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	args = append([]string{"--kubeconfig", m.cluster.Kubeconfig()}, args...)
	cmd := exec.CommandContext(t.Context(), m.cluster.Kubectl(), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args[2:], " "), err, stderr.String())
	}
	return stdout.String(), nil
}

func (m manifests) kubectl(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	out, err := m.try(t, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// get returns one object.
func (m manifests) get(t *testing.T, args ...string) *unstructured.Unstructured {
	t.Helper()
	return decode(t, m.kubectl(t, "", append([]string{"get", "-o", "json"}, args...)...))[0]
}

// decode reads YAML or JSON documents.
func decode(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
}

func asJSON(t *testing.T, object *unstructured.Unstructured) string {
	t.Helper()
	data, err := object.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// soon waits for what controllers do.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func (m manifests) testApplyAgain(t *testing.T) {
	soon(t, "two replicas", func() bool {
		replicas, _, _ := unstructured.NestedInt64(
			m.get(t, "deployment", "pci-network-baseline", "-n", operatorNamespace).Object, "status", "replicas")
		return replicas == 2
	})
	rendered := m.kubectl(t, "", "kustomize", filepath.Join(configDir, "default"))
	// What Git declares, without what controllers write.
	read := func() map[string]any {
		live := map[string]any{}
		list := decode(t, m.kubectl(t, rendered, "get", "-o", "json", "-f", "-"))[0]
		err := list.EachListItem(func(item runtime.Object) error {
			object, ok := item.(*unstructured.Unstructured)
			if !ok {
				return fmt.Errorf("a %T", item)
			}
			unstructured.RemoveNestedField(object.Object, "status")
			unstructured.RemoveNestedField(object.Object, "metadata", "resourceVersion")
			live[object.GetKind()+" "+object.GetNamespace()+"/"+object.GetName()] = object.Object
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return live
	}
	before := read()
	if want := len(decode(t, rendered)); len(before) != want {
		t.Fatalf("%d live objects, want %d", len(before), want)
	}
	m.kubectl(t, "", "apply", "--server-side", "-k", filepath.Join(configDir, "default"))
	if diff := cmp.Diff(before, read()); diff != "" {
		t.Errorf("the second apply changed objects (-first +second):\n%s", diff)
	}
}

func (m manifests) testPodSecurity(t *testing.T) {
	soon(t, "two pods of the Deployment", func() bool {
		names := m.kubectl(t, "", "get", "pods", "-n", operatorNamespace, "-o", "name")
		return strings.Count(names, "pod/pci-network-baseline-") == 2
	})
	template, _, err := unstructured.NestedMap(
		m.get(t, "deployment", "pci-network-baseline", "-n", operatorNamespace).Object, "spec", "template")
	if err != nil {
		t.Fatal(err)
	}
	object := &unstructured.Unstructured{Object: template}
	object.SetAPIVersion("v1")
	object.SetKind("Pod")
	object.SetNamespace(operatorNamespace)
	object.SetName("as-in-the-deployment")
	pod := asJSON(t, object)
	m.kubectl(t, pod, "create", "--dry-run=server", "-f", "-")
	for name, change := range map[string][2]string{
		"privileged":          {`"allowPrivilegeEscalation":false`, `"privileged":true`},
		"escalation":          {`"allowPrivilegeEscalation":false`, `"allowPrivilegeEscalation":true`},
		"an added capability": {`"drop":["ALL"]`, `"add":["NET_RAW"],"drop":["ALL"]`},
		"root":                {`"runAsNonRoot":true`, `"runAsNonRoot":false`},
		"no seccomp":          {`"type":"RuntimeDefault"`, `"type":"Unconfined"`},
		"host network":        {`"serviceAccountName"`, `"hostNetwork":true,"serviceAccountName"`},
	} {
		worse := strings.Replace(pod, change[0], change[1], 1)
		if worse == pod {
			t.Fatalf("%s: the pod has no %s", name, change[0])
		}
		_, err := m.try(t, worse, "create", "--dry-run=server", "-f", "-")
		if err == nil || !strings.Contains(err.Error(), `violates PodSecurity "restricted:latest"`) {
			t.Errorf("%s: %v; want a refusal by Pod Security", name, err)
		}
	}
}

// access is one question to the API server's authorizer. A resource is "name", "name/subresource", "name=object" or a
// path; namespace "" is every namespace.
type access struct {
	user, verb, group, resource, namespace string
}

func (m manifests) allowed(t *testing.T, a access) bool {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: a.user}}
	resource, object, _ := strings.Cut(a.resource, "=")
	resource, subresource, _ := strings.Cut(resource, "/")
	if resource == "" {
		review.Spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Verb: a.verb, Path: a.resource}
	} else {
		review.Spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
			Verb: a.verb, Group: a.group, Resource: resource, Subresource: subresource, Name: object, Namespace: a.namespace,
		}
	}
	if err := m.client.Create(t.Context(), review); err != nil {
		t.Fatal(err)
	}
	return review.Status.Allowed
}

func (m manifests) testPermissions(t *testing.T) {
	const (
		ours    = "pcinetwork.dev"
		tenant  = "payments"
		viewer  = "tenant-viewer"
		admin   = "tenant-admin"
		auditor = "auditor"
		scraper = "scraper"
	)
	m.kubectl(t, "", "create", "namespace", tenant)
	m.kubectl(t, "", "create", "rolebinding", viewer, "--clusterrole=view", "--user="+viewer, "-n", tenant)
	m.kubectl(t, "", "create", "rolebinding", admin, "--clusterrole=admin", "--user="+admin, "-n", tenant)
	m.kubectl(t, "", "create", "clusterrolebinding", auditor, "--clusterrole=view", "--user="+auditor)
	m.kubectl(t, "", "create", "clusterrolebinding", scraper, "--clusterrole=pci-network-baseline-metrics-reader", "--user="+scraper)

	for _, yes := range []access{
		{operatorAccount, "watch", "", "namespaces", ""},
		{operatorAccount, "list", "", "pods", ""},
		{operatorAccount, "watch", "discovery.k8s.io", "endpointslices", ""},
		{operatorAccount, "list", "", "nodes", ""},
		{operatorAccount, "watch", "apps", "daemonsets", ""},
		{operatorAccount, "list", "", "configmaps=cilium-config", ""},
		{operatorAccount, "watch", "apiregistration.k8s.io", "apiservices=v3.projectcalico.org", ""},
		{operatorAccount, "create", "networking.k8s.io", "networkpolicies", tenant},
		{operatorAccount, "delete", "networking.k8s.io", "networkpolicies", tenant},
		{operatorAccount, "update", ours, "namespacecoverages", tenant},
		{operatorAccount, "patch", ours, "pcinetworkbaselines/status", ""},
		{operatorAccount, "get", ours, "namespacecoverages", ""}, // or it may not write a binding with one as parameter
		{operatorAccount, "update", "admissionregistration.k8s.io", "validatingadmissionpolicies=pcinb-pod-gate", ""},
		{operatorAccount, "delete", "admissionregistration.k8s.io", "validatingadmissionpolicybindings", ""},
		{operatorAccount, "create", "events.k8s.io", "events", tenant},
		{operatorAccount, "create", "authentication.k8s.io", "tokenreviews", ""},
		{operatorAccount, "create", "authentication.k8s.io", "selfsubjectreviews", ""},
		{operatorAccount, "create", "authorization.k8s.io", "subjectaccessreviews", ""},
		{operatorAccount, "create", "coordination.k8s.io", "leases", operatorNamespace},
		{operatorAccount, "update", "coordination.k8s.io", "leases=pci-network-baseline", operatorNamespace},
		{operatorAccount, "create", "", "events", operatorNamespace},
		{viewer, "get", ours, "namespacecoverages", tenant},
		{admin, "list", ours, "namespacecoverages", tenant},
		{auditor, "list", ours, "pcinetworkbaselines", ""},
		{scraper, "get", "", "/metrics", ""},
	} {
		soon(t, fmt.Sprintf("%+v is allowed", yes), func() bool { return m.allowed(t, yes) })
	}
	for _, no := range []access{
		{operatorAccount, "get", "", "secrets", operatorNamespace},
		{operatorAccount, "list", "", "secrets", ""},
		{operatorAccount, "get", "", "nodes/proxy", ""},
		{operatorAccount, "list", "", "configmaps", ""},
		{operatorAccount, "watch", "apiregistration.k8s.io", "apiservices", ""},
		{operatorAccount, "get", "", "nodes/configz", ""}, // config/management grants these
		{operatorAccount, "get", "", "/flagz", ""},
		{operatorAccount, "get", "openreports.io", "clusterreports", ""}, // and config/reports these
		{operatorAccount, "get", "wgpolicyk8s.io", "clusterpolicyreports", ""},
		{operatorAccount, "create", "", "pods", tenant},
		{operatorAccount, "update", "admissionregistration.k8s.io", "validatingadmissionpolicies=theirs", ""},
		{operatorAccount, "delete", "admissionregistration.k8s.io", "validatingadmissionpolicies=pcinb-own-limits", ""},
		{operatorAccount, "create", "admissionregistration.k8s.io", "mutatingadmissionpolicies", ""},
		{operatorAccount, "patch", "", "namespaces", ""},
		{operatorAccount, "update", "coordination.k8s.io", "leases=kube-controller-manager", operatorNamespace},
		{operatorAccount, "update", "coordination.k8s.io", "leases=pci-network-baseline", tenant},
		{operatorAccount, "impersonate", "", "users", ""},
		{operatorAccount, "escalate", "rbac.authorization.k8s.io", "clusterroles", ""},
		{viewer, "get", ours, "namespacecoverages", operatorNamespace},
		{viewer, "list", ours, "pcinetworkbaselines", ""},
		{admin, "patch", ours, "namespacecoverages", tenant},
		{admin, "delete", ours, "namespacecoverages", tenant},
		{auditor, "patch", ours, "pcinetworkbaselines", ""},
		{scraper, "get", "", "/logs", ""},
	} {
		if m.allowed(t, no) {
			t.Errorf("%+v is allowed", no)
		}
	}
}

// sampleFiles returns the samples by file name.
func sampleFiles(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(configDir, "samples", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	samples := map[string]string{}
	for _, path := range paths {
		if name := filepath.Base(path); name != "kustomization.yaml" {
			samples[name] = readFile(t, path)
		}
	}
	if len(samples) < 3 {
		t.Fatalf("only %d samples", len(samples))
	}
	return samples
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func (m manifests) testSamples(t *testing.T) {
	for name, text := range sampleFiles(t) {
		if _, err := m.try(t, text, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		misspelt := strings.Replace(text, "enforcement:", "enforcment:", 1)
		if _, err := m.try(t, misspelt, "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"); err == nil {
			t.Errorf("%s: a misspelt field was accepted, so this test proves nothing", name)
		}
	}
	m.kubectl(t, "", "apply", "--server-side", "--dry-run=server", "-k", filepath.Join(configDir, "samples"))
}

func (m manifests) testFullSample(t *testing.T) {
	crd := m.get(t, "crd", "pcinetworkbaselines.pcinetwork.dev")
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil {
		t.Fatal(err)
	}
	schema, _, err := unstructured.NestedMap(
		versions[0].(map[string]any), "schema", "openAPIV3Schema", "properties", "spec")
	if err != nil {
		t.Fatal(err)
	}
	fields, set := map[string]bool{}, map[string]bool{}
	schemaFields(schema, "spec", fields)
	valueFields(decode(t, sampleFiles(t)["full.yaml"])[0].Object["spec"], "spec", set)
	if len(fields) < 40 {
		t.Fatalf("the CRD has only the fields %v", slices.Sorted(maps.Keys(fields)))
	}
	// A list of peers, or one subject, stands for the others of its type. What others exclude is shown in a comment.
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		comment := "# " + field[strings.LastIndex(field, ".")+1:] + ": "
		if !set[field] && !strings.Contains(sampleFiles(t)["full.yaml"], comment) && !strings.Contains(field, "Selector.match") {
			t.Errorf("%s is not shown", field)
		}
	}
	for _, field := range []string{
		"spec.namespaces.selector.matchLabels", "spec.namespaces.selector.matchExpressions.operator",
		"spec.namespaces.selector.matchExpressions.values",
	} {
		if !set[field] {
			t.Errorf("%s is not shown", field)
		}
	}
}

// schemaFields adds the path of every field below a schema.
func schemaFields(schema map[string]any, path string, found map[string]bool) {
	if items, ok := schema["items"].(map[string]any); ok {
		schemaFields(items, path, found)
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, property := range properties {
		found[path+"."+name] = true
		schemaFields(property.(map[string]any), path+"."+name, found)
	}
}

// valueFields adds the path of every field that is set below a value.
func valueFields(value any, path string, found map[string]bool) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			valueFields(item, path, found)
		}
	case map[string]any:
		for name, item := range value {
			found[path+"."+name] = true
			valueFields(item, path+"."+name, found)
		}
	}
}

// testInSync does what Argo CD does with ServerSideApply and ServerSideDiff: apply as argocd-controller, then compare the
// live object with the result of a dry run.
func (m manifests) testInSync(t *testing.T) {
	samples := sampleFiles(t)
	samples["the baseline of config/argocd/deploy"] = readFile(t, filepath.Join(configDir, "argocd", "deploy", "baseline.yaml"))
	for file, text := range samples {
		manifest := decode(t, text)[0]
		reversed := manifest.DeepCopy()
		reverseLists(reversed.Object["spec"])
		for order, manifest := range map[string]*unstructured.Unstructured{"as written": manifest, "lists reversed": reversed} {
			m.sync(t, manifest)
			m.reportOn(t, manifest)
			if diff := m.outOfSync(t, manifest); diff != "" {
				t.Errorf("%s, %s: OutOfSync (-live +after the next sync):\n%s", file, order, diff)
			}
		}
		m.patch(t, manifest, `{"spec":{"enforcement":"`+otherEnforcement(manifest)+`"}}`)
		if m.outOfSync(t, manifest) == "" {
			t.Errorf("%s: a change by hand is no difference, so this test proves nothing", file)
		}
		m.patch(t, manifest, `{"metadata":{"finalizers":null}}`)
		if err := m.client.Delete(t.Context(), manifest.DeepCopy()); err != nil {
			t.Fatal(err)
		}
	}
}

func otherEnforcement(manifest *unstructured.Unstructured) string {
	if value, _, _ := unstructured.NestedString(manifest.Object, "spec", "enforcement"); value == "Audit" {
		return "Enforce"
	}
	return "Audit"
}

const argoFieldOwner = client.FieldOwner("argocd-controller")

// sync applies manifest and returns the result.
func (m manifests) sync(t *testing.T, manifest *unstructured.Unstructured, options ...client.ApplyOption) *unstructured.Unstructured {
	t.Helper()
	result := manifest.DeepCopy()
	options = append(options, argoFieldOwner, client.ForceOwnership)
	if err := m.client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(result), options...); err != nil {
		t.Fatal(err)
	}
	return result
}

func (m manifests) outOfSync(t *testing.T, manifest *unstructured.Unstructured) string {
	t.Helper()
	live := manifest.DeepCopy()
	if err := m.client.Get(t.Context(), client.ObjectKeyFromObject(manifest), live); err != nil {
		t.Fatal(err)
	}
	predicted := m.sync(t, manifest, client.DryRunAll)
	live.SetManagedFields(nil)
	predicted.SetManagedFields(nil)
	return cmp.Diff(live.Object, predicted.Object)
}

// reportOn writes what the operator writes, which is no concern of Git.
func (m manifests) reportOn(t *testing.T, manifest *unstructured.Unstructured) {
	t.Helper()
	report := manifest.DeepCopy()
	report.Object["status"] = recorded(t, "PCINetworkBaseline")["healthy_ready.yaml"].Object["status"]
	if err := m.client.Status().Patch(t.Context(), report, client.Merge); err != nil {
		t.Fatal(err)
	}
	m.patch(t, manifest, `{"metadata":{"finalizers":["pcinetwork.dev/test"]}}`)
}

func (m manifests) patch(t *testing.T, manifest *unstructured.Unstructured, change string) {
	t.Helper()
	err := m.client.Patch(t.Context(), manifest.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(change)))
	if err != nil {
		t.Fatal(err)
	}
}

func reverseLists(value any) {
	switch value := value.(type) {
	case []any:
		slices.Reverse(value)
		for _, item := range value {
			reverseLists(item)
		}
	case map[string]any:
		for _, item := range value {
			reverseLists(item)
		}
	}
}

func (m manifests) testSyncWaves(t *testing.T) {
	const confirm = "Prune=confirm,Delete=confirm"
	rendered := m.kubectl(t, "", "kustomize", filepath.Join(configDir, "argocd", "deploy"))
	m.kubectl(t, rendered, "apply", "--server-side", "--dry-run=server", "--field-manager=argocd-controller", "--force-conflicts", "-f", "-")
	baselines := 0
	for _, object := range decode(t, rendered) {
		wave, err := strconv.Atoi(object.GetAnnotations()["argocd.argoproj.io/sync-wave"])
		if err != nil && object.GetAnnotations()["argocd.argoproj.io/sync-wave"] != "" {
			t.Fatal(err)
		}
		want, guarded := 0, false
		switch object.GetKind() {
		case "CustomResourceDefinition":
			want, guarded = -1, true
		case "PCINetworkBaseline":
			want, guarded = 1, true
			baselines++
		}
		if wave != want {
			t.Errorf("%s %s is in wave %d, want %d", object.GetKind(), object.GetName(), wave, want)
		}
		if got := object.GetAnnotations()["argocd.argoproj.io/sync-options"]; (got == confirm) != guarded {
			t.Errorf("%s %s has the sync options %q", object.GetKind(), object.GetName(), got)
		}
	}
	if baselines != 1 {
		t.Errorf("%d baselines, want 1", baselines)
	}
}

// recorded returns the objects that Argo CD's health checks are tested with, by file name.
func recorded(t *testing.T, kind string) map[string]*unstructured.Unstructured {
	t.Helper()
	dir := filepath.Join(configDir, "argocd", "resource_customizations", "pcinetwork.dev", kind, "testdata")
	paths, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in %s (%v)", dir, err)
	}
	objects := map[string]*unstructured.Unstructured{}
	for _, path := range paths {
		objects[filepath.Base(path)] = decode(t, readFile(t, path))[0]
	}
	return objects
}

func (m manifests) testRecordedObjects(t *testing.T) {
	for _, kind := range []string{"PCINetworkBaseline", "NamespaceCoverage"} {
		for file, object := range recorded(t, kind) {
			fresh := object.DeepCopy()
			fresh.Object["metadata"] = map[string]any{"name": "recorded"}
			if object.GetNamespace() != "" {
				fresh.SetNamespace("default")
			}
			stored := fresh.DeepCopy()
			if err := m.client.Create(t.Context(), stored); err != nil {
				t.Fatalf("%s %s: %v", kind, file, err)
			}
			if kind == "PCINetworkBaseline" { // its status is a subresource
				stored.Object["status"] = fresh.Object["status"]
				if err := m.client.Status().Update(t.Context(), stored); err != nil {
					t.Errorf("%s %s: %v", kind, file, err)
				}
			}
			for _, field := range []string{"spec", "status"} {
				if diff := cmp.Diff(object.Object[field], stored.Object[field]); diff != "" {
					t.Errorf("%s %s: %s (-recorded +stored):\n%s", kind, file, field, diff)
				}
			}
			if err := m.client.Delete(t.Context(), stored); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// forbidden lists what no role may grant: wildcards, secrets, nodes/proxy (which is remote code execution), and verbs
// that turn into any other permission.
func forbidden(rules []rbacv1.PolicyRule) []string {
	var found []string
	for _, rule := range rules {
		for _, resource := range rule.Resources {
			if name, _, _ := strings.Cut(resource, "/"); name == "secrets" || resource == "nodes/proxy" {
				found = append(found, resource)
			}
		}
		for _, verb := range rule.Verbs {
			if slices.Contains([]string{"escalate", "bind", "impersonate"}, verb) {
				found = append(found, verb)
			}
		}
		for _, value := range slices.Concat(rule.APIGroups, rule.Resources, rule.Verbs, rule.NonResourceURLs) {
			if strings.Contains(value, "*") {
				found = append(found, value)
			}
		}
	}
	return found
}

func TestRolesGrantNothingForbidden(t *testing.T) {
	t.Parallel()
	kubectl := filepath.Join(cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")), "kubectl")
	roles := 0
	for _, dir := range []string{
		"default", "management", "management/cloud", "management/objects", "management/vantage", "reports", "prometheus", "argocd/deploy", "hostfirewall", "hostfirewall/enforce",
	} {
		rendered, err := exec.CommandContext(t.Context(), kubectl, "kustomize", filepath.Join(configDir, dir)).Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, object := range decode(t, string(rendered)) {
			if kind := object.GetKind(); kind != "Role" && kind != "ClusterRole" {
				continue
			}
			roles++
			var role rbacv1.ClusterRole
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role); err != nil {
				t.Fatal(err)
			}
			if len(role.Rules) == 0 || role.AggregationRule != nil {
				t.Errorf("%s: no rules of its own to check", role.Name)
			}
			if found := forbidden(role.Rules); len(found) > 0 {
				t.Errorf("config/%s: %s %s grants %v", dir, object.GetKind(), role.Name, found)
			}
		}
	}
	if roles < 12 {
		t.Errorf("only %d roles", roles)
	}

	for name, rule := range map[string]rbacv1.PolicyRule{
		"any verb":        {APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"*"}},
		"any resource":    {APIGroups: []string{""}, Resources: []string{"*"}, Verbs: []string{"get"}},
		"any subresource": {APIGroups: []string{""}, Resources: []string{"*/status"}, Verbs: []string{"get"}},
		"any group":       {APIGroups: []string{"*"}, Resources: []string{"pods"}, Verbs: []string{"get"}},
		"any path":        {NonResourceURLs: []string{"/*"}, Verbs: []string{"get"}},
		"secrets":         {APIGroups: []string{""}, Resources: []string{"pods", "secrets"}, Verbs: []string{"list"}},
		"the kubelet":     {APIGroups: []string{""}, Resources: []string{"nodes/proxy"}, Verbs: []string{"get"}},
		"escalation":      {APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles"}, Verbs: []string{"escalate"}},
	} {
		if len(forbidden([]rbacv1.PolicyRule{rule})) == 0 {
			t.Errorf("%s passes unnoticed", name)
		}
	}
}
