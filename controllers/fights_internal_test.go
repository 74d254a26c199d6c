// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

var (
	begin = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	deny  = types.NamespacedName{Namespace: "shop", Name: "pcinb-pci-default-deny"}
)

func TestAFightIsMoreThanFiveRepairsInAMinute(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		repairs []time.Duration // after begin
		asked   time.Duration
		want    bool
		until   time.Duration
	}{
		"five repairs":                    {repairs: []time.Duration{0, 1, 2, 3, 4}, asked: 5},
		"six within a minute":             {repairs: []time.Duration{0, 1, 2, 3, 4, 59e9}, asked: 59e9, want: true, until: 60e9},
		"six in more than a minute":       {repairs: []time.Duration{0, 1e9, 2e9, 3e9, 4e9, 60e9}, asked: 60e9},
		"long over":                       {repairs: []time.Duration{0, 1, 2, 3, 4, 5}, asked: 61e9},
		"the latest six of many count":    {repairs: []time.Duration{0, 1e9, 2e9, 3e9, 4e9, 5e9, 6e9, 7e9}, asked: 8e9, want: true, until: 62e9},
		"over when the oldest six is old": {repairs: []time.Duration{0, 1e9, 2e9, 3e9, 4e9, 5e9, 6e9, 7e9}, asked: 62e9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFights()
			for _, after := range tc.repairs {
				f.repaired(deny, "mallory", begin.Add(after))
			}
			manager, until, fought := f.contested(deny, begin.Add(tc.asked))
			if fought != tc.want || (fought && (manager != "mallory" || !until.Equal(begin.Add(tc.until)))) {
				t.Errorf("contested: %v by %q until %s, want %v by mallory until %s", fought, manager, until.Sub(begin), tc.want, tc.until)
			}
		})
	}
}

// Namespaces that come and go leave nothing behind, however they were at their end.
func TestAGoneNamespaceIsForgotten(t *testing.T) {
	t.Parallel()
	r := &NamespaceReconciler{Store: NewStore(), fights: newFights()}
	other := types.NamespacedName{Namespace: "ledger", Name: deny.Name}
	for _, object := range []types.NamespacedName{deny, other} {
		r.fights.repaired(object, "mallory", begin)
		r.authored.Store(object, author{"pci", "1", "7"})
		r.Store.Born(object.Namespace, begin)
		r.Store.Expect(object.Namespace)
		r.Store.Set(object.Namespace, "pci", Record{Generation: 1})
	}
	r.forget(deny.Namespace)
	if n := len(r.fights.objects); n != 1 {
		t.Errorf("fights remember %d objects, want the other namespace's", n)
	}
	kept := map[any]bool{}
	r.authored.Range(func(key, _ any) bool { kept[key] = true; return true })
	if len(kept) != 1 || !kept[other] {
		t.Errorf("authors are remembered of %v, want %v", kept, other)
	}
	if len(r.Store.namespaces) != 1 || len(r.Store.born) != 1 {
		t.Errorf("the store remembers %v and %v, want the other namespace alone", r.Store.namespaces, r.Store.born)
	}
}
