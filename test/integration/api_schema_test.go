// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// These steps stand in a node's path for any element of a list and any value of a map.
const (
	anyItem  = "[]"
	anyValue = "{}"
)

// node is a place in a CRD's schema.
type node struct {
	path   []string
	schema *apiextensionsv1.JSONSchemaProps
}

// rule is one thing that the schema demands of the values at one place.
type rule struct {
	place  string // such as spec.allow.rules[].name
	demand string // such as maxLength 48
}

func (r rule) String() string { return r.place + ": " + r.demand }

func compareRules(a, b rule) int {
	return cmp.Or(strings.Compare(a.place, b.place), strings.Compare(a.demand, b.demand))
}

// walk visits n and every node below it, but for metadata and the type.
func walk(n node, visit func(node)) {
	visit(n)
	child := func(step string, schema *apiextensionsv1.JSONSchemaProps) {
		walk(node{append(slices.Clone(n.path), step), schema}, visit)
	}
	for _, name := range slices.Sorted(maps.Keys(n.schema.Properties)) {
		if len(n.path) == 0 && (name == "apiVersion" || name == "kind" || name == "metadata") {
			continue
		}
		property := n.schema.Properties[name]
		child(name, &property)
	}
	if n.schema.Items != nil {
		child(anyItem, n.schema.Items.Schema)
	}
	if n.schema.AdditionalProperties != nil {
		child(anyValue, n.schema.AdditionalProperties.Schema)
	}
}

func (n node) place() string {
	var b strings.Builder
	for _, step := range n.path {
		if b.Len() > 0 && step != anyItem {
			b.WriteByte('.')
		}
		b.WriteString(step)
	}
	return b.String()
}

// rules lists what n demands, one per line of the schema, per required property and per value of an enum. Types are not
// among them: the compiler checks those.
func (n node) rules() []rule {
	var rules []rule
	add := func(format string, args ...any) {
		rules = append(rules, rule{n.place(), fmt.Sprintf(format, args...)})
	}
	s := n.schema
	for _, l := range n.limits() {
		add("%s %d", l.keyword, l.limit)
	}
	for _, value := range s.Enum {
		add("enum %s", value.Raw)
	}
	if s.Pattern != "" {
		add("pattern %s", s.Pattern)
	}
	if s.Format == "date-time" {
		add("format %s", s.Format)
	}
	if t := s.XListType; t != nil && *t != "atomic" {
		add("list type %s", *t)
	}
	for _, property := range s.Required {
		add("required %s", property)
	}
	for _, validation := range s.XValidations {
		add("%s", validation.Message)
	}
	return rules
}

// describe lists what n demands, whether null reaches its rules, and what it defaults to, one line each.
func (n node) describe() []string {
	var found []string
	for _, r := range n.rules() {
		line := r.String()
		for _, validation := range n.schema.XValidations {
			if validation.Message == r.demand && validation.FieldPath != "" {
				line += " (at " + validation.FieldPath + ")"
			}
		}
		found = append(found, line)
	}
	if n.schema.Nullable {
		found = append(found, rule{n.place(), "nullable"}.String())
	}
	if value := n.schema.Default; value != nil {
		found = append(found, rule{n.place(), "default " + string(value.Raw)}.String())
	}
	return found
}

// limit is a rule that is a number, and the measure of a value that it is about.
type limit struct {
	keyword string
	limit   int64
	upper   bool
	measure func(any) (int64, bool)
}

// limits lists the numeric rules of n.
func (n node) limits() []limit {
	var found []limit
	add := func(keyword string, value *int64, measure func(any) (int64, bool)) {
		if value != nil {
			found = append(found, limit{keyword, *value, strings.HasPrefix(keyword, "max"), measure})
		}
	}
	s := n.schema
	add("minLength", s.MinLength, size)
	add("maxLength", s.MaxLength, size)
	add("minItems", s.MinItems, size)
	add("maxItems", s.MaxItems, size)
	add("minProperties", s.MinProperties, size)
	add("maxProperties", s.MaxProperties, size)
	add("minimum", integer(s.Minimum), number)
	add("maximum", integer(s.Maximum), number)
	return found
}

func integer(f *float64) *int64 {
	if f == nil {
		return nil
	}
	return new(int64(*f))
}

func size(value any) (int64, bool) {
	switch value := value.(type) {
	case string:
		return int64(utf8.RuneCountInString(value)), true
	case []any:
		return int64(len(value)), true
	case map[string]any:
		return int64(len(value)), true
	}
	return 0, false
}

func number(value any) (int64, bool) {
	n, ok := value.(int64)
	return n, ok
}

// shownBy lists the rules of n and below of which value, which the API server accepted, is an example that matters: a
// limit that is just kept, the very value of an enum, and otherwise any value at all. Validations in CEL are not
// among them: whether a value is an example of those only a person can say.
func shownBy(n node, value any) []rule {
	var shown []rule
	add := func(format string, args ...any) {
		shown = append(shown, rule{n.place(), fmt.Sprintf(format, args...)})
	}
	s := n.schema
	for _, l := range n.limits() {
		if got, ok := l.measure(value); ok && got == l.limit {
			add("%s %d", l.keyword, l.limit)
		}
	}
	for _, allowed := range s.Enum {
		if raw, err := json.Marshal(value); err == nil && string(raw) == string(allowed.Raw) {
			add("enum %s", allowed.Raw)
		}
	}
	if s.Pattern != "" {
		add("pattern %s", s.Pattern)
	}
	if s.Format == "date-time" {
		add("format %s", s.Format)
	}
	if s.XListType != nil {
		add("list type %s", *s.XListType)
	}
	if properties, ok := value.(map[string]any); ok {
		for _, property := range s.Required {
			if _, ok := properties[property]; ok {
				add("required %s", property)
			}
		}
	}
	for step, below := range children(n, value) {
		shown = append(shown, shownBy(step, below)...)
	}
	return shown
}

// children yields the nodes just below n with the values that value has there.
func children(n node, value any) func(yield func(node, any) bool) {
	return func(yield func(node, any) bool) {
		switch value := value.(type) {
		case []any:
			for _, item := range value {
				if n.schema.Items != nil && !yield(node{append(slices.Clone(n.path), anyItem), n.schema.Items.Schema}, item) {
					return
				}
			}
		case map[string]any:
			for name, item := range value {
				step, schema := anyValue, (*apiextensionsv1.JSONSchemaProps)(nil)
				if property, ok := n.schema.Properties[name]; ok {
					step, schema = name, &property
				} else if n.schema.AdditionalProperties != nil {
					schema = n.schema.AdditionalProperties.Schema
				}
				if schema != nil && !yield(node{append(slices.Clone(n.path), step), schema}, item) {
					return
				}
			}
		}
	}
}

// find returns the first place in value that path leads to, as map keys and list indices, and what is there.
func find(value any, path []string) (place []any, found any, ok bool) {
	if len(path) == 0 {
		return nil, value, true
	}
	try := func(step, below any) bool {
		if rest, at, yes := find(below, path[1:]); yes {
			place, found, ok = append([]any{step}, rest...), at, true
		}
		return ok
	}
	switch value := value.(type) {
	case []any:
		for i, item := range value {
			if path[0] == anyItem && try(i, item) {
				break
			}
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(value)) {
			if (path[0] == anyValue || path[0] == name) && try(name, value[name]) {
				break
			}
		}
	}
	return place, found, ok
}

// field writes a place as the API server does.
func field(place []any) string {
	var b strings.Builder
	for _, step := range place {
		switch step := step.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(step) + "]")
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		}
	}
	return cmp.Or(b.String(), "<nil>") // the whole object
}

// removed is a value that means: take the key away.
type removed struct{}

// replace sets what is at place in object, which it changes.
func replace(object any, place []any, value any) any {
	if len(place) == 0 {
		return value
	}
	switch step := place[0].(type) {
	case int:
		list := object.([]any)
		list[step] = replace(list[step], place[1:], value)
	case string:
		properties := object.(map[string]any)
		if _, gone := value.(removed); gone && len(place) == 1 {
			delete(properties, step)
			break
		}
		properties[step] = replace(properties[step], place[1:], value)
	}
	return object
}
