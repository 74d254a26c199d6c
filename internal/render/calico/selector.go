// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package calico

import (
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Selectors that select every endpoint and none.
const (
	everything = "all()"
	nothing    = "!all()"
)

// expression renders a label selector in Calico's syntax. As in Kubernetes, "not in" also matches where the label is absent.
//
// The syntax has no escapes (projectcalico.org/v3 NetworkPolicySpec.Selector). A value or key that it cannot spell is none
// that a label can have, so the term is replaced by what it then means. An operator that is not known selects nothing.
func expression(s *metav1.LabelSelector) string {
	if s == nil {
		return everything
	}
	var terms []string
	for _, key := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		terms = append(terms, in(key, []string{s.MatchLabels[key]}))
	}
	for _, e := range s.MatchExpressions {
		terms = append(terms, requirement(e))
	}
	if len(terms) == 0 {
		return everything
	}
	return strings.Join(terms, " && ")
}

func requirement(e metav1.LabelSelectorRequirement) string {
	switch e.Operator {
	case metav1.LabelSelectorOpIn:
		return in(e.Key, e.Values)
	case metav1.LabelSelectorOpNotIn:
		return notIn(e.Key, e.Values)
	case metav1.LabelSelectorOpExists:
		if !isKey(e.Key) {
			return nothing
		}
		return "has(" + e.Key + ")"
	case metav1.LabelSelectorOpDoesNotExist:
		if !isKey(e.Key) {
			return everything
		}
		return "!has(" + e.Key + ")"
	default:
		return nothing
	}
}

func in(key string, values []string) string {
	list := literals(values)
	switch {
	case !isKey(key) || len(list) == 0:
		return nothing
	case len(list) == 1:
		return key + " == " + list[0]
	default:
		return key + " in {" + strings.Join(list, ", ") + "}"
	}
}

func notIn(key string, values []string) string {
	list := literals(values)
	if !isKey(key) || len(list) == 0 {
		return everything
	}
	return key + " not in {" + strings.Join(list, ", ") + "}"
}

// literals quotes the values that can be label values.
func literals(values []string) []string {
	var out []string
	for _, v := range values {
		if strings.Trim(v, wordCharacters) == "" {
			out = append(out, `"`+v+`"`)
		}
	}
	return out
}

// isKey says whether a label can have this key, and Calico reads it as one word.
func isKey(key string) bool {
	return key != "" && len(key) <= maxKey && strings.Trim(key, wordCharacters+"/") == ""
}

const (
	wordCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."
	maxKey         = 512
)
