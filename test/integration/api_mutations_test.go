// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
)

// mutation replaces the value of a node by one at the edge of a rule: just inside, or just outside.
type mutation struct {
	rules  []rule // what the new value is an example of
	value  any
	below  string // the property that the API server names, if it is not the value itself
	accept bool
	says   string // what a rejection has to say
}

// mutations derives from a valid value of n one value on each side of every rule that is not in CEL.
func mutations(n node, valid any) []mutation {
	var found []mutation
	for _, l := range n.limits() {
		r := rule{n.place(), fmt.Sprintf("%s %d", l.keyword, l.limit)}
		outside := l.limit - 1
		if l.upper {
			outside = l.limit + 1
		}
		if inside := resize(n, valid, l.limit); inside != nil {
			found = append(found, mutation{rules: []rule{r}, value: inside, accept: true})
		}
		found = append(found, mutation{rules: []rule{r}, value: resize(n, valid, outside), says: sayLimit(l)})
	}
	found = append(found, enumMutations(n)...)
	found = append(found, textMutations(n)...)
	found = append(found, listMutations(n, valid)...)
	for _, property := range n.schema.Required {
		without := maps.Clone(valid.(map[string]any))
		delete(without, property)
		r := rule{n.place(), "required " + property}
		found = append(found, mutation{rules: []rule{r}, value: without, below: property, says: "Required value"})
	}
	return found
}

func enumMutations(n node) []mutation {
	var found []mutation
	var all []rule
	var supported []string
	for _, value := range n.schema.Enum {
		var decoded any
		if err := json.Unmarshal(value.Raw, &decoded); err != nil {
			panic(err)
		}
		r := rule{n.place(), "enum " + string(value.Raw)}
		all = append(all, r)
		supported = append(supported, string(value.Raw))
		found = append(found, mutation{rules: []rule{r}, value: decoded, accept: true})
	}
	if all != nil {
		says := "supported values: " + strings.Join(supported, ", ")
		found = append(found, mutation{rules: all, value: "Bogus", says: says})
	}
	return found
}

func textMutations(n node) []mutation {
	var found []mutation
	if p := n.schema.Pattern; p != "" {
		r := rule{n.place(), "pattern " + p}
		found = append(found, mutation{rules: []rule{r}, value: "!", says: "should match '" + p})
	}
	if f := n.schema.Format; f == "date-time" {
		r := rule{n.place(), "format " + f}
		found = append(found, mutation{rules: []rule{r}, value: "soon", says: "must be of type date-time"})
	}
	return found
}

// listMutations repeats the first item of a list that is a set or a map.
func listMutations(n node, valid any) []mutation {
	t := n.schema.XListType
	if t == nil || *t == "atomic" {
		return nil
	}
	list := slices.Clone(valid.([]any))
	if len(list) < 2 {
		panic(n.place() + ": the full example needs two items")
	}
	list[1] = runtime.DeepCopyJSONValue(list[0])
	r := rule{n.place(), "list type " + *t}
	return []mutation{{rules: []rule{r}, value: list, below: "[1]", says: "Duplicate value"}}
}

// sayLimit is what the API server says when a limit is broken: it has to hold the number.
func sayLimit(l limit) string {
	switch l.keyword {
	case "minLength":
		return fmt.Sprintf("should be at least %d chars long", l.limit)
	case "maxLength":
		return fmt.Sprintf("may not be more than %d bytes", l.limit)
	case "minItems":
		return fmt.Sprintf("should have at least %d items", l.limit)
	case "maxItems", "maxProperties":
		return fmt.Sprintf("must have at most %d items", l.limit)
	case "minimum":
		return fmt.Sprintf("should be greater than or equal to %d", l.limit)
	case "maximum":
		return fmt.Sprintf("should be less than or equal to %d", l.limit)
	}
	return "no known message for " + l.keyword
}

// resize makes value n's measure long. Strings grow at the front, where every pattern of ours takes an 'a'.
func resize(n node, value any, measure int64) any {
	switch value := value.(type) {
	case int64:
		return measure
	case string:
		if missing := int(measure) - len(value); missing > 0 {
			return strings.Repeat("a", missing) + value
		}
		return value[:measure]
	case []any:
		list := slices.Clone(value)
		for i := len(list); i < int(measure); i++ {
			list = append(list, another(n, value[0], i))
		}
		return list[:measure]
	case map[string]any:
		properties := maps.Clone(value)
		for i := len(properties); i < int(measure); i++ {
			properties[fmt.Sprintf("key-%d", i)] = value[slices.Sorted(maps.Keys(value))[0]]
		}
		return properties
	}
	return nil
}

// another copies an item of the list n so that it differs from the others where they have to differ.
func another(n node, item any, i int) any {
	item = runtime.DeepCopyJSONValue(item)
	switch item := item.(type) {
	case string:
		return fmt.Sprintf("%s%d", item, i)
	case map[string]any:
		for _, key := range n.schema.XListMapKeys {
			item[key] = fmt.Sprintf("%s%d", item[key], i)
		}
	}
	return item
}
