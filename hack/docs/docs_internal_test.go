// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

func TestPagesAreUpToDate(t *testing.T) {
	t.Chdir("../..")
	for file, makeSections := range pages {
		sections, err := makeSections()
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := fill(string(have), sections)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(have)); diff != "" {
			t.Errorf("%s (-want +got); to accept: go run ./hack/docs\n%s", file, diff)
		}
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	const place = "before\n<!-- begin one -->\nold\n<!-- end one -->\nafter\n"
	for name, test := range map[string]struct {
		text     string
		sections map[string]string
		want     string
		fault    string
	}{
		"replaces what is between the markers": {
			text: place, sections: map[string]string{"one": "new\n"},
			want: "before\n<!-- begin one -->\nnew\n<!-- end one -->\nafter\n",
		},
		"wants a place for every section": {
			text: "nothing", sections: map[string]string{"one": "new\n"}, fault: "no markers for the section one",
		},
		"wants a section for every place": {
			text: place, sections: map[string]string{}, fault: "nothing generates a section one",
		},
		"wants markers to match": {
			text: strings.ReplaceAll(place, "end one", "end two"), sections: map[string]string{"one": ""}, fault: "begin one ends as end two",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := fill(test.text, test.sections)
			switch {
			case test.fault == "" && err != nil:
				t.Fatal(err)
			case test.fault == "":
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			case err == nil || !strings.Contains(err.Error(), test.fault):
				t.Errorf("got error %v, want %q", err, test.fault)
			}
		})
	}
}

func TestNewConstant(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		comment string
		want    constant
		fault   bool
	}{
		"a plain comment":         {comment: "ReasonX: it is so.", want: constant{value: "X", meaning: "It is so."}},
		"a clause in parentheses": {comment: "ReasonX (4.1): it is so.", want: constant{value: "X", clause: "4.1", meaning: "It is so."}},
		"no colon":                {comment: "ReasonX is so.", want: constant{value: "X", meaning: "Is so."}},
		"begins with a field":     {comment: "ReasonX: spec.y is unset.", want: constant{value: "X", meaning: "spec.y is unset."}},
		"no comment":              {comment: "", fault: true},
		"another name's comment":  {comment: "ReasonY: it is so.", fault: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := newConstant("ReasonX", `"X"`, test.comment)
			if (err != nil) != test.fault {
				t.Fatalf("got error %v", err)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(constant{})); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestKind(t *testing.T) {
	t.Parallel()
	list := func(item schema) *apiextensionsv1.JSONSchemaPropsOrArray {
		return &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &item}
	}
	values := []apiextensionsv1.JSON{{Raw: []byte(`"A"`)}, {Raw: []byte(`"B"`)}, {Raw: []byte(`"C"`)}}
	for name, test := range map[string]struct {
		schema schema
		want   string
	}{
		"a bounded string":  {schema{Type: "string", MinLength: new(int64(1)), MaxLength: new(int64(48))}, "string, 1 to 48 characters"},
		"a number":          {schema{Type: "integer", Minimum: new(float64(0))}, "integer, at least 0"},
		"an enumeration":    {schema{Type: "string", Enum: values}, "`A`, `B` or `C`"},
		"a list of strings": {schema{Type: "array", MaxItems: new(int64(8)), XListType: new("set"), Items: list(schema{Type: "string"})}, "list, at most 8 entries, no duplicates; of string"},
		"a keyed list": {
			schema{Type: "array", XListType: new("map"), XListMapKeys: []string{"name"}, Items: list(schema{Type: "object"})},
			"list, one per `name`; of object",
		},
		"a pattern with a bar": {schema{Type: "string", Pattern: "a|b"}, "string, `a\\|b`"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := (&walker{}).kind(&test.schema); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
