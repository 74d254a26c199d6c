// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

var (
	now     = metav1.NewTime(time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC))
	earlier = metav1.NewTime(now.Add(-time.Hour))
)

func condition(value metav1.ConditionStatus, message string, at metav1.Time) metav1.Condition {
	return metav1.Condition{Type: "Ready", Status: value, Reason: "R", Message: message, ObservedGeneration: 7, LastTransitionTime: at}
}

func TestConditions(t *testing.T) {
	old := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: "Old", Message: "old", ObservedGeneration: 6, LastTransitionTime: earlier}
	cases := map[string]struct {
		previous []metav1.Condition
		set      func(*status.Conditions)
		want     []metav1.Condition
	}{
		"a new condition changes now": {
			set:  func(c *status.Conditions) { c.Set("Ready", metav1.ConditionTrue, "R", "m") },
			want: []metav1.Condition{condition(metav1.ConditionTrue, "m", now)},
		},
		"the same status keeps its time, whatever reason, message and generation say": {
			previous: []metav1.Condition{old},
			set:      func(c *status.Conditions) { c.Set("Ready", metav1.ConditionTrue, "R", "m") },
			want:     []metav1.Condition{condition(metav1.ConditionTrue, "m", earlier)},
		},
		"another status changes now": {
			previous: []metav1.Condition{old},
			set:      func(c *status.Conditions) { c.Set("Ready", metav1.ConditionFalse, "R", "m") },
			want:     []metav1.Condition{condition(metav1.ConditionFalse, "m", now)},
		},
		"Unknown is another status than False": {
			previous: []metav1.Condition{{Type: "Ready", Status: metav1.ConditionFalse, LastTransitionTime: earlier}},
			set:      func(c *status.Conditions) { c.Set("Ready", metav1.ConditionUnknown, "R", "m") },
			want:     []metav1.Condition{condition(metav1.ConditionUnknown, "m", now)},
		},
		"the time of another type is not taken": {
			previous: []metav1.Condition{{Type: "Stalled", Status: metav1.ConditionTrue, LastTransitionTime: earlier}},
			set:      func(c *status.Conditions) { c.Set("Ready", metav1.ConditionTrue, "R", "m") },
			want:     []metav1.Condition{condition(metav1.ConditionTrue, "m", now)},
		},
		"what is not set again is dropped": {previous: []metav1.Condition{old}, set: func(*status.Conditions) {}},
		"the order is that of setting": {
			previous: []metav1.Condition{old},
			set: func(c *status.Conditions) {
				c.Set("Z", metav1.ConditionTrue, "R", "")
				c.Set("A", metav1.ConditionTrue, "R", "")
			},
			want: []metav1.Condition{
				{Type: "Z", Status: metav1.ConditionTrue, Reason: "R", ObservedGeneration: 7, LastTransitionTime: now},
				{Type: "A", Status: metav1.ConditionTrue, Reason: "R", ObservedGeneration: 7, LastTransitionTime: now},
			},
		},
		"a long message is clipped": {
			set:  func(c *status.Conditions) { c.Set("Ready", metav1.ConditionTrue, "R", strings.Repeat("x", 301)) },
			want: []metav1.Condition{condition(metav1.ConditionTrue, strings.Repeat("x", 297)+"…", now)},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := status.Conditions{Generation: 7, Now: now, Previous: tc.previous}
			tc.set(&c)
			if diff := cmp.Diff(tc.want, c.List()); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestClip(t *testing.T) {
	cases := map[string]struct {
		text string
		n    int
		want string
	}{
		"a short text stays":                       {text: "abc", n: 10, want: "abc"},
		"a text that just fits stays":              {text: "abcdef", n: 6, want: "abcdef"},
		"one byte too many costs three":            {text: "abcdefg", n: 6, want: "abc…"},
		"a character of two bytes is not cut":      {text: "aäöüaaaa", n: 7, want: "aä…"},
		"a character of four bytes is not cut":     {text: "a😀😀😀", n: 9, want: "a😀…"},
		"nothing of a first character that is cut": {text: "😀😀", n: 6, want: "…"},
		"room for the mark alone":                  {text: "abcd", n: 3, want: "…"},
		"a quote counts twice":                     {text: `a"""`, n: 7, want: `a"""`},
		"a quote too many":                         {text: `a""""`, n: 7, want: `a"…`},
		"a bracket counts six times":               {text: "a<bc>", n: 14, want: "a<bc…"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := status.Clip(tc.text, tc.n); got != tc.want {
				t.Errorf("clipped to %q, want %q", got, tc.want)
			}
		})
	}
}

// Less room than the mark itself needs: still at most n bytes, and no panic.
func TestClipToLessThanItsMark(t *testing.T) {
	for n := range 3 {
		func() {
			defer func() {
				if r := recover(); r != nil {
					t.Errorf("Clip to %d bytes: %v", n, r)
				}
			}()
			if got := status.Clip("abcdef", n); len(got) > n {
				t.Errorf("Clip to %d bytes gives %q", n, got)
			}
		}()
	}
}

// A broken character must cost itself, not the whole message, which names the cause.
func TestClipKeepsTheTextAroundABrokenCharacter(t *testing.T) {
	got := status.Clip("admission webhook \xff refused: "+strings.Repeat("x", 300), 100)
	if !strings.HasPrefix(got, "admission webhook ") || len(got) < 90 || len(got) > 100 {
		t.Errorf("clipped to %q, want nearly 100 bytes of the message", got)
	}
}

func FuzzClip(f *testing.F) {
	f.Add("", 0)
	f.Add("a", 0)
	f.Add("…", 2)
	f.Add("abcdef", 3)
	f.Add("aäöü", 6)
	f.Add("😀😀😀", 8)
	f.Add("…………", 7)
	f.Add("\xff\xfe", 3)
	f.Add("a\xf0\x9f\x98", 3)
	f.Add("<p>\"&\\\b\x00\x7f\u2028", 20)
	f.Fuzz(func(t *testing.T, text string, n int) {
		if n < 0 || n > 1<<16 {
			t.Skip("callers clip to a few hundred bytes")
		}
		if strings.Contains(text, "\ufffd") {
			t.Skip("it counts as the broken character that it mostly stands for")
		}
		got := status.Clip(text, n)
		kept, clipped := strings.CutSuffix(got, "…")
		switch {
		case jsonSize(t, got) > n:
			t.Errorf("%d bytes, want at most %d", jsonSize(t, got), n)
		case utf8.ValidString(text) && !utf8.ValidString(got):
			t.Errorf("%q was cut within a character: %q", text, got)
		case jsonSize(t, text) <= n && got != text:
			t.Errorf("%q fits in %d bytes and became %q", text, n, got)
		case jsonSize(t, text) > n && (clipped != (n >= len("…")) || !strings.HasPrefix(text, kept)):
			t.Errorf("%q became %q, which is not its beginning", text, got)
		case jsonSize(t, text) > n && clipped && utf8.ValidString(text) && n-jsonSize(t, got) >= len(`\u0000`):
			t.Errorf("%q became %q: a whole character more had fitted in %d bytes", text, got, n)
		}
	})
}

// jsonSize returns how many bytes a text takes as JSON, without its quotes.
func jsonSize(t *testing.T, text string) int {
	t.Helper()
	data, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return len(data) - len(`""`)
}

// Server-side apply owns what the payload holds: labels, annotations or spec in it would become ours.
func TestPayloadHoldsTheStatusAlone(t *testing.T) {
	gvk := schema.GroupVersionKind{Group: "pcinetwork.dev", Version: "v1alpha1", Kind: "PCINetworkBaseline"}
	b := &pcinetv1alpha1.PCINetworkBaseline{
		ObjectMeta: metav1.ObjectMeta{
			Name: "pci", UID: "1", ResourceVersion: "2", Generation: 3, CreationTimestamp: now,
			Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"}, Finalizers: []string{"e"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "f"}},
		},
		Spec: pcinetv1alpha1.PCINetworkBaselineSpec{Enforcement: pcinetv1alpha1.EnforcementEnforce},
	}
	value := &pcinetv1alpha1.PCINetworkBaselineStatus{ObservedGeneration: 3, Covered: "1/2"}
	namespaced := b.DeepCopy()
	namespaced.Namespace = "shop"
	for name, tc := range map[string]struct {
		obj  metav1.Object
		want map[string]any
	}{
		"of a cluster-scoped object": {b, map[string]any{"name": "pci"}},
		"of a namespaced object":     {namespaced, map[string]any{"name": "pci", "namespace": "shop"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := status.Payload(gvk, tc.obj, value)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]any{
				"apiVersion": "pcinetwork.dev/v1alpha1", "kind": "PCINetworkBaseline", "metadata": tc.want,
				"status": map[string]any{"observedGeneration": int64(3), "covered": "1/2"},
			}
			if diff := cmp.Diff(want, got.Object); diff != "" {
				t.Errorf("payload (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPayloadOfWhatIsNoStatus(t *testing.T) {
	_, err := status.Payload(schema.GroupVersionKind{}, &metav1.ObjectMeta{Name: "pci"}, "text")
	if err == nil || !strings.HasPrefix(err.Error(), "converting the status of pci: ") {
		t.Errorf("error %v, want one that names the object", err)
	}
}
