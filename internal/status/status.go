// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package status builds conditions and the server-side apply payload of a status.
package status

import (
	"fmt"
	"unicode/utf8"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxMessage is how many bytes, as JSON, of a condition's message are kept.
const maxMessage = 300

// Conditions collects the conditions of one object. Those that are not set again are dropped, so a condition is always
// judged from what was observed this time; only the time of the last transition comes from the previous ones.
type Conditions struct {
	Generation int64
	Now        metav1.Time
	Previous   []metav1.Condition
	list       []metav1.Condition
}

// Set adds a condition.
func (c *Conditions) Set(kind string, value metav1.ConditionStatus, reason, message string) {
	cond := metav1.Condition{
		Type: kind, Status: value, Reason: reason, Message: Clip(message, maxMessage),
		ObservedGeneration: c.Generation, LastTransitionTime: c.Now,
	}
	if old := apimeta.FindStatusCondition(c.Previous, kind); old != nil && old.Status == value {
		cond.LastTransitionTime = old.LastTransitionTime
	}
	c.list = append(c.list, cond)
}

// List returns the conditions in the order in which they were set.
func (c *Conditions) List() []metav1.Condition { return c.list }

// Clip shortens a text to at most n bytes, as JSON writes them, without cutting a character.
func Clip(s string, n int) string {
	const more = "…"
	size, end := 0, 0 // end is where the mark still fits
	for i, r := range s {
		if size <= n-len(more) {
			end = i
		}
		if size += jsonSize(r); size > n {
			if n < len(more) {
				return ""
			}
			return s[:end] + more
		}
	}
	return s
}

// jsonSize is how many bytes a character takes as JSON: a message may quote HTML, of which every bracket takes six. So does
// a byte that is no character.
func jsonSize(r rune) int {
	switch {
	case r == '"', r == '\\', r == '\n', r == '\r', r == '\t', r == '\b', r == '\f':
		return 2
	case r < ' ', r == '<', r == '>', r == '&', r == '\u2028', r == '\u2029', r == utf8.RuneError:
		return 6
	}
	return utf8.RuneLen(r)
}

// Payload returns the server-side apply payload that makes obj's status ours: its kind, name and the given status, and
// nothing else.
func Payload(gvk schema.GroupVersionKind, obj metav1.Object, value any) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(value)
	if err != nil {
		return nil, fmt.Errorf("converting the status of %s: %w", obj.GetName(), err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"status": content}}
	u.SetGroupVersionKind(gvk)
	u.SetName(obj.GetName())
	u.SetNamespace(obj.GetNamespace())
	return u, nil
}
