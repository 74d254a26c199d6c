// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The gate holds back the pods of exactly those namespaces that the plan covers, less the system namespaces.
func TestTheGateIsForWhatThePlanCovers(t *testing.T) {
	gated, covered := 0, 0
	for seed := range uint64(3000) {
		r := newRandom(seed)
		b := r.baseline()
		b.Spec.Namespaces.Selector = r.selector()
		b.Spec.Namespaces.System = pickOne(r, pcinetv1alpha1.SystemNamespacesExclude, pcinetv1alpha1.SystemNamespacesInclude)
		b.Spec.Namespaces.Exclude = pickOne(r, nil, []pcinetv1alpha1.NamespaceName{"n-0"}, []pcinetv1alpha1.NamespaceName{"n-1", "kube-system"})
		b.Spec.Exemptions = []pcinetv1alpha1.Exemption{{
			Namespaces: []pcinetv1alpha1.NamespaceName{"n-2"}, ExpiresAt: metav1.NewTime(now.Add(pickOne(r, -time.Hour, 0, time.Hour))),
		}}
		compiled, err := plan.Compile(b)
		if err != nil {
			t.Fatal(err)
		}
		c := snapshot.Cluster{SystemNamespaces: system}
		gate, changesAt := compiled.Gate(c, now)
		selector, err := metav1.LabelSelectorAsSelector(&gate)
		if err != nil {
			t.Fatal(err)
		}
		if end := b.Spec.Exemptions[0].ExpiresAt.Time; end.After(now) != changesAt.Equal(end) {
			t.Fatalf("seed %d: changes at %s, the exemption ends at %s", seed, changesAt, end)
		}
		for _, name := range append([]string{"n-0", "n-1", "n-2", "n-3"}, system...) {
			ns := namespace(name, fmt.Sprintf("%s=%s", pickOne(r, "app", "tier"), pickOne(r, "a", "b")))
			want := compiled.For(ns, c, now).Verdict == plan.InScope && !slices.Contains(system, name)
			if got := selector.Matches(ns.Labels); got != want {
				t.Fatalf("seed %d: namespace %s %v is gated: %t, want %t; selector %v", seed, name, ns.Labels, got, want, selector)
			}
			if covered++; want {
				gated++
			}
		}
	}
	if gated < 500 || covered-gated < 500 {
		t.Fatalf("%d of %d are gated, which proves nothing", gated, covered)
	}
}

func TestBreakGlass(t *testing.T) {
	for name, tc := range map[string]struct {
		text    string
		inForce bool
		ignored bool
		changes time.Duration
	}{
		"half an hour":               {text: "2026-11-23T09:30:00Z CHG-1 restore", inForce: true, changes: 30 * time.Minute},
		"an hour":                    {text: "2026-11-23T10:00:00Z CHG-1", inForce: true, changes: time.Hour},
		"an hour and a second":       {text: "2026-11-23T10:00:01Z CHG-1", ignored: true, changes: time.Second},
		"over":                       {text: "2026-11-23T09:00:00Z CHG-1", ignored: true},
		"no reason":                  {text: "2026-11-23T09:30:00Z", ignored: true},
		"no time":                    {text: "please", ignored: true},
		"another zone, same instant": {text: "2026-11-23T10:30:00+01:00 CHG-1", inForce: true, changes: 30 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			b := baseline(nil)
			b.Annotations = map[string]string{pcinetv1alpha1.AnnotationBreakGlass: tc.text}
			got := plan.ParseBreakGlass(b, now)
			changes := time.Duration(0)
			if !got.ChangesAt.IsZero() {
				changes = got.ChangesAt.Sub(now)
			}
			if got.InForce != tc.inForce || (got.Ignored != "") != tc.ignored || changes != tc.changes {
				t.Errorf("got %+v", got)
			}
		})
	}
}
