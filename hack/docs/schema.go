// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const crdDir = "config/crd"

type schema = apiextensionsv1.JSONSchemaProps

// addSchemas adds the tables of fields, of refusals and of printer columns.
func addSchemas(sections map[string]string) error {
	baseline, err := readCRD("pcinetworkbaselines")
	if err != nil {
		return err
	}
	coverage, err := readCRD("namespacecoverages")
	if err != nil {
		return err
	}
	spec, err := at(root(baseline), "spec")
	if err != nil {
		return err
	}
	selector, err := at(spec, "namespaces", "selector")
	if err != nil {
		return err
	}
	exemptions, err := at(spec, "exemptions")
	if err != nil {
		return err
	}
	w := &walker{shapes: map[string]*schema{
		"[selector](#selectors)":                    selector,
		"[condition](#conditions-and-reasons)":      condition(root(baseline)),
		"as [`spec.exemptions[]`](#spec) was given": exemptions.Items.Schema,
	}}

	fields, refusals := w.describe("spec", spec, "as [`spec.exemptions[]`](#spec) was given")
	var names [][]string
	for _, v := range root(baseline).XValidations {
		names = append(names, []string{code("metadata.name"), prose(v.Message)})
	}
	sections["spec-fields"], sections["spec-refusals"] = fieldTable(fields), refusalTable(append(names, refusals...))
	fields, refusals = w.describe("", selector, "[selector](#selectors)")
	sections["selector-fields"], sections["selector-refusals"] = fieldTable(fields), refusalTable(refusals)
	for name, crd := range map[string]*apiextensionsv1.CustomResourceDefinition{"baseline": baseline, "coverage": coverage} {
		status, err := at(root(crd), "status")
		if err != nil {
			return err
		}
		fields, _ := w.describe("status", status, "")
		sections[name+"-status"] = statusTable(fields)
		sections[name+"-columns"] = columnTable(crd)
	}
	return nil
}

func readCRD(plural string) (*apiextensionsv1.CustomResourceDefinition, error) {
	data, err := fs.ReadFile(os.DirFS(crdDir), "pcinetwork.dev_"+plural+".yaml")
	if err != nil {
		return nil, err
	}
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(data, crd); err != nil {
		return nil, fmt.Errorf("%s: %w", plural, err)
	}
	return crd, nil
}

func root(crd *apiextensionsv1.CustomResourceDefinition) *schema {
	return crd.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// at returns the schema of a field.
func at(s *schema, path ...string) (*schema, error) {
	for _, name := range path {
		next, ok := s.Properties[name]
		if !ok {
			return nil, fmt.Errorf("%s has no field %s", crdDir, strings.Join(path, "."))
		}
		s = &next
	}
	return s, nil
}

// condition returns the schema of metav1.Condition.
func condition(s *schema) *schema {
	if conditions, err := at(s, "status", "conditions"); err == nil {
		return conditions.Items.Schema
	}
	return &schema{}
}

// walker describes fields. What has one of the shapes is named and not gone into.
type walker struct {
	shapes   map[string]*schema
	here     string // the shape that is being described
	fields   [][]string
	refusals [][]string
}

// describe returns a row for each field below s, and one for each rule there that has a message of ours.
func (w *walker) describe(path string, s *schema, here string) (fields, refusals [][]string) {
	w.fields, w.refusals, w.here = nil, nil, here
	w.rules(path, s)
	w.below(path, s)
	return w.fields, w.refusals
}

func (w *walker) below(path string, s *schema) {
	if path != "" {
		path += "."
	}
	for _, name := range ordered(s) {
		field := s.Properties[name]
		place := path + name
		w.fields = append(w.fields, []string{code(place), w.kind(&field), defaultOf(s, name), prose(field.Description)})
		w.into(place, &field)
	}
}

// into goes below a field, unless it has a shape that is described elsewhere.
func (w *walker) into(path string, s *schema) {
	if w.shape(s) != "" {
		return
	}
	w.rules(path, s)
	if s.Items != nil {
		w.into(path+"[]", s.Items.Schema)
		return
	}
	if s.AdditionalProperties != nil {
		w.into(path+".*", s.AdditionalProperties.Schema)
		return
	}
	w.below(path, s)
}

func (w *walker) rules(path string, s *schema) {
	for _, v := range s.XValidations {
		w.refusals = append(w.refusals, []string{code(strings.TrimPrefix(path+v.FieldPath, ".")), prose(v.Message)})
	}
}

// shape returns the name of the shape of s, or "".
func (w *walker) shape(s *schema) string {
	for name, known := range w.shapes {
		if name != w.here && reflect.DeepEqual(known.Properties, s.Properties) && len(s.Properties) > 0 {
			return name
		}
	}
	return ""
}

// ordered returns the names of fields: required ones first, then as in the alphabet.
func ordered(s *schema) []string {
	names := slices.Sorted(maps.Keys(s.Properties))
	slices.SortStableFunc(names, func(a, b string) int {
		return rank(s, a) - rank(s, b)
	})
	return names
}

func rank(s *schema, name string) int {
	if slices.Contains(s.Required, name) {
		return 0
	}
	return 1
}

func defaultOf(parent *schema, name string) string {
	field := parent.Properties[name]
	switch {
	case field.Default != nil:
		return code(string(field.Default.Raw))
	case slices.Contains(parent.Required, name):
		return "required"
	}
	return "unset"
}

// kind says in words what a value may be.
func (w *walker) kind(s *schema) string {
	if name := w.shape(s); name != "" {
		return name
	}
	word, of := s.Type, ""
	switch {
	case s.Items != nil:
		word, of = "list", "; of "+w.kind(s.Items.Schema)
	case s.AdditionalProperties != nil:
		word, of = "map", "; to "+w.kind(s.AdditionalProperties.Schema)
	case len(s.Enum) > 0:
		word = enum(s)
	case s.Format == "date-time":
		word = "time (RFC 3339)"
	}
	return strings.Join(append([]string{word}, bounds(s)...), ", ") + of
}

func enum(s *schema) string {
	var values []string
	for _, v := range s.Enum {
		values = append(values, code(strings.Trim(string(v.Raw), `"`)))
	}
	last := len(values) - 1
	if last < 1 {
		return strings.Join(values, "")
	}
	return strings.Join(values[:last], ", ") + " or " + values[last]
}

func bounds(s *schema) []string {
	var out []string
	add := func(text string) {
		if text != "" {
			out = append(out, text)
		}
	}
	add(span(s.MinLength, s.MaxLength, "characters"))
	add(span(s.MinItems, s.MaxItems, "entries"))
	add(span(nil, s.MaxProperties, "members"))
	if s.MinProperties != nil {
		add("not empty")
	}
	add(span(whole(s.Minimum), whole(s.Maximum), ""))
	switch list := s.XListType; {
	case list != nil && *list == "set":
		add("no duplicates")
	case list != nil && *list == "map":
		add("one per " + code(strings.Join(s.XListMapKeys, ", ")))
	}
	if s.Pattern != "" {
		add(code(s.Pattern))
	}
	return out
}

func whole(f *float64) *int64 {
	if f == nil {
		return nil
	}
	return new(int64(*f))
}

func span(low, high *int64, unit string) string {
	text := ""
	switch {
	case low != nil && high != nil:
		text = fmt.Sprintf("%d to %d %s", *low, *high, unit)
	case low != nil:
		text = fmt.Sprintf("at least %d %s", *low, unit)
	case high != nil:
		text = fmt.Sprintf("at most %d %s", *high, unit)
	}
	return strings.TrimSpace(text)
}

func fieldTable(rows [][]string) string {
	return table([]string{"Field", "Value", "Default", "Meaning"}, rows)
}

// statusTable leaves out defaults: a status is given, not asked for.
func statusTable(rows [][]string) string {
	for i := range rows {
		rows[i] = slices.Delete(rows[i], 2, 3)
	}
	return table([]string{"Field", "Value", "Meaning"}, rows)
}

func refusalTable(rows [][]string) string {
	return table([]string{"Field", "Message of the refusal"}, rows)
}

func columnTable(crd *apiextensionsv1.CustomResourceDefinition) string {
	var rows [][]string
	for _, c := range crd.Spec.Versions[0].AdditionalPrinterColumns {
		wide := ""
		if c.Priority > 0 {
			wide = "`-o wide`"
		}
		rows = append(rows, []string{strings.ToUpper(c.Name), code(strings.TrimPrefix(c.JSONPath, ".")), wide})
	}
	return table([]string{"Column", "Shows", ""}, rows)
}
