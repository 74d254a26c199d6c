// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	jsonyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// TestEveryRuleOfTheAPI shows the API server, for every rule in the CRDs, a value that keeps it and one that breaks it.
// Most values are derived from a full example; [celExamples] and [furtherExamples] hold what cannot be derived. It fails
// when a rule is left over: whoever adds one to the API adds its examples here.
func TestEveryRuleOfTheAPI(t *testing.T) {
	crds, err := readCRDs(filepath.Join(repoRoot, "config", "crd"))
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, crd := range crds {
		kind := crd.Spec.Names.Kind
		t.Run(kind, func(t *testing.T) {
			root := node{schema: crd.Spec.Versions[0].Schema.OpenAPIV3Schema}
			trial := newTrial(t, kind, root)
			trial.furtherExamples(t)
			walk(root, func(n node) {
				trial.derivedExamples(t, n)
				trial.celExamples(t, n, used)
			})
			trial.checkComplete(t)
		})
	}
	for message := range celExamples {
		if !used[message] {
			t.Errorf("no rule says %q: remove its examples", message)
		}
	}
}

// TestTheAPIKeepsItsRules compares the rules and defaults in the CRDs with the list in testdata, so that none goes or
// changes unnoticed.
func TestTheAPIKeepsItsRules(t *testing.T) {
	crds, err := readCRDs(filepath.Join(repoRoot, "config", "crd"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, crd := range crds {
		walk(node{schema: crd.Spec.Versions[0].Schema.OpenAPIV3Schema}, func(n node) {
			for _, line := range n.describe() {
				got = append(got, crd.Spec.Names.Kind+" "+line)
			}
		})
	}
	golden(t, filepath.Join("testdata", "api-rules.txt"), strings.Join(got, "\n")+"\n")
}

// trial collects what the API server said about one kind.
type trial struct {
	kind     string
	root     node
	full     map[string]any
	other    map[string]any             // the full example with fields that exclude some of its own
	stored   *unstructured.Unstructured // has the status that is to be mutated, if the kind has a status subresource
	accepted map[rule]bool
	rejected map[rule]bool
	refused  map[rule]string // examples that should have been accepted
}

func newTrial(t *testing.T, kind string, root node) *trial {
	t.Helper()
	object := parse(t, kind, fullExamples[kind])
	c := &trial{
		kind: kind, root: root, full: object.Object,
		accepted: map[rule]bool{}, rejected: map[rule]bool{}, refused: map[rule]string{},
	}
	if kind == "PCINetworkBaseline" {
		c.stored = object.DeepCopy()
		c.stored.SetName(uniqueName("stored"))
		status := c.stored.Object["status"]
		create(t, c.stored)
		c.stored.Object["status"] = status
		if err := env.client.Status().Update(t.Context(), c.stored.DeepCopy(), client.DryRunAll); err != nil {
			t.Fatal("the full status: ", err)
		}
	}
	if err := c.submit(t, object, nil); err != nil {
		t.Fatal("the full example: ", err)
	}
	c.accept(t, object.Object)
	if kind == "PCINetworkBaseline" {
		c.other = c.with([]any{"spec", "managementAccess", "cloud"}, fragment(t, otherCloud)).Object
	}
	return c
}

// submit asks the API server for its judgement of object, of which what is at path is of interest. Nothing is stored.
func (c *trial) submit(t *testing.T, object *unstructured.Unstructured, path []string) error {
	t.Helper()
	object = object.DeepCopy()
	if c.stored == nil || len(path) == 0 || path[0] != "status" {
		return env.client.Create(t.Context(), object, client.DryRunAll)
	}
	update := c.stored.DeepCopy()
	update.Object["status"] = object.Object["status"]
	return env.client.Status().Update(t.Context(), update, client.DryRunAll)
}

// accept notes which rules an accepted object is an example of. Whatever the API server accepts the operator has to be
// able to read: an object that it cannot decode would keep it from listing any.
func (c *trial) accept(t *testing.T, object map[string]any) {
	t.Helper()
	for _, r := range shownBy(c.root, object) {
		c.accepted[r] = true
	}
	data, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	typed, err := env.scheme.New(pcinetv1alpha1.GroupVersion.WithKind(c.kind))
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(typed); err != nil {
		t.Errorf("accepted, but the operator cannot read it: %v\n%s", err, data)
	}
}

// with returns the full example with value at place.
func (c *trial) with(place []any, value any) *unstructured.Unstructured {
	object := (&unstructured.Unstructured{Object: c.full}).DeepCopy()
	if !holds(c.full, place) {
		object = (&unstructured.Unstructured{Object: c.other}).DeepCopy()
	}
	if changes, ok := value.(map[string]any); ok && len(place) == 0 {
		maps.Copy(object.Object, changes)
		return object
	}
	replace(object.Object, place, value)
	return object
}

// holds says whether an object has a value at a place. Lists are not looked into.
func holds(value any, place []any) bool {
	for _, step := range place {
		properties, ok := value.(map[string]any)
		if !ok {
			return true
		}
		if value, ok = properties[step.(string)]; !ok {
			return false
		}
	}
	return true
}

// find returns where the full example, or else the other one, has a value for n.
func (c *trial) find(t *testing.T, n node) (place []any, value any) {
	t.Helper()
	place, value, ok := find(c.full, n.path)
	if !ok {
		place, value, ok = find(c.other, n.path)
	}
	if !ok {
		t.Fatalf("the full example of %s lacks %s", c.kind, n.place())
	}
	return place, value
}

func (c *trial) derivedExamples(t *testing.T, n node) {
	t.Helper()
	if len(n.path) == 0 {
		return
	}
	place, valid := c.find(t, n)
	for _, m := range mutations(n, valid) {
		object := c.with(place, m.value)
		err := c.submit(t, object, n.path)
		switch {
		case m.accept && err == nil:
			c.accept(t, object.Object)
		case m.accept:
			c.refused[m.rules[0]] = err.Error()
		default:
			at := field(place)
			if m.below != "" && !strings.HasPrefix(m.below, "[") {
				at += "."
			}
			c.reject(t, m.rules, at+m.below, m.says, err)
		}
	}
}

// celExamples shows the examples of each validation of n that is written in CEL. What such a rule demands is its message.
func (c *trial) celExamples(t *testing.T, n node, used map[string]bool) {
	t.Helper()
	for _, validation := range n.schema.XValidations {
		place, _ := c.find(t, n)
		r := rule{n.place(), validation.Message}
		examples, ok := celExamples[validation.Message]
		if !ok {
			t.Errorf("no examples for %v", r)
			continue
		}
		used[validation.Message] = true
		for _, good := range examples.good {
			object := c.with(place, fragment(t, good))
			if err := c.submit(t, object, n.path); err != nil {
				t.Errorf("%v\nrefuses %s: %v", r, good, err)
				continue
			}
			c.accept(t, object.Object)
			c.accepted[r] = true
		}
		for _, bad := range examples.bad {
			err := c.submit(t, c.with(place, fragment(t, bad)), n.path)
			c.reject(t, []rule{r}, field(place)+validation.FieldPath, validation.Message, err)
		}
	}
}

func (c *trial) furtherExamples(t *testing.T) {
	t.Helper()
	for _, spec := range furtherExamples[c.kind] {
		object := c.with([]any{"spec"}, fragment(t, spec))
		if err := c.submit(t, object, []string{"spec"}); err != nil {
			t.Errorf("%v\n%s", err, spec)
			continue
		}
		c.accept(t, object.Object)
	}
}

// reject checks that err names the field and says what the person can do.
func (c *trial) reject(t *testing.T, rules []rule, at, says string, err error) {
	t.Helper()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) || status.Status().Details == nil {
		t.Errorf("%v: not refused as invalid: %v", rules[0], err)
		return
	}
	for _, cause := range status.Status().Details.Causes {
		if cause.Field == at && strings.Contains(cause.Message, says) {
			if testing.Verbose() { // not when something else fails: these are for whoever words the messages
				t.Logf("%s: %s", at, cause.Message)
			}
			for _, r := range rules {
				c.rejected[r] = true
			}
			return
		}
	}
	t.Errorf("%v\nis not refused with %q at %s, but with\n%s", rules[0], says, at, lines(status.Status().Details.Causes))
}

func lines(causes []metav1.StatusCause) string {
	var b strings.Builder
	for _, cause := range causes {
		b.WriteString("  " + cause.Field + ": " + cause.Message + "\n")
	}
	return b.String()
}

// checkComplete fails for every rule of the schema that lacks an example.
func (c *trial) checkComplete(t *testing.T) {
	t.Helper()
	var all []rule
	walk(c.root, func(n node) { all = append(all, n.rules()...) })
	slices.SortFunc(all, compareRules)
	for _, r := range all {
		if !c.accepted[r] {
			t.Errorf("no accepted example of %v %s", r, c.refused[r])
		}
		if !c.rejected[r] {
			t.Errorf("no rejected example of %v", r)
		}
	}
	if !t.Failed() {
		t.Logf("%s: %d rules, each kept by one example and broken by another", c.kind, len(all))
	}
}

func fragment(t *testing.T, text string) any {
	t.Helper()
	var wrapped map[string]any // so that integers stay integers
	if err := jsonyaml.Unmarshal([]byte("value: "+text), &wrapped); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return wrapped["value"]
}
