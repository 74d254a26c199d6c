// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	checks "github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// etcdWith is an interface that shows a certificate of a day of July.
func etcdWith(host byte, certificate string, from int) snapshot.Interface {
	return snapshot.Interface{
		Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, host}), 2379), Role: snapshot.RoleEtcd, Object: "Node cp",
		Sight: snapshot.Sight{Speech: snapshot.SpeechTLS, Chain: []snapshot.Certificate{{
			SHA256: certificate, SPKI: "k" + certificate, NotBefore: time.Date(2026, 7, from, 0, 0, 0, 0, time.UTC),
		}}},
	}
}

// follower returns a reconciler that has begun to follow keys.
func follower() *ManagementReconciler {
	return &ManagementReconciler{
		Metrics: metrics.New(prometheus.NewRegistry()), inventory: &snapshot.Management{}, keys: map[string]snapshot.Keys{},
	}
}

func TestKeysAreFollowedFromLookToLook(t *testing.T) {
	r := follower()
	changes := func(interfaces ...snapshot.Interface) []int {
		r.follow(&snapshot.Management{Interfaces: interfaces}, today)
		var out []int
		for i := range interfaces {
			out = append(out, interfaces[i].Keys.Changes)
		}
		return out
	}
	silent := etcdWith(1, "", 0)
	silent.Sight = snapshot.Sight{Speech: snapshot.SpeechUnreachable}
	other := etcdWith(1, "z", 30)
	other.ServerName = "other"
	for _, step := range []struct {
		name string
		gaps []snapshot.Gap
		look []snapshot.Interface
		want []int
	}{
		{"the first look", nil, []snapshot.Interface{etcdWith(1, "a", 1), etcdWith(2, "a", 1)}, []int{0, 0}},
		{"one has another certificate", nil, []snapshot.Interface{etcdWith(1, "b", 2), etcdWith(2, "a", 1)}, []int{1, 0}},
		{"it does not answer", nil, []snapshot.Interface{silent, etcdWith(2, "a", 1)}, []int{1, 0}},
		{"under another name it shows another one", nil, []snapshot.Interface{etcdWith(1, "b", 2), other}, []int{1, 1}},
		{"the other is not listed, because lists failed", []snapshot.Gap{{}}, []snapshot.Interface{etcdWith(1, "b", 2)}, []int{1}},
		{"and the one neither", []snapshot.Gap{{}}, []snapshot.Interface{etcdWith(2, "a", 1)}, []int{0}},
		{"it is there again, and has changed", nil, []snapshot.Interface{etcdWith(1, "c", 3)}, []int{2}},
		{"it is gone", nil, nil, nil},
		{"one of its address begins anew", nil, []snapshot.Interface{etcdWith(1, "d", 4)}, []int{0}},
	} {
		r.inventory.Gaps = step.gaps
		if diff := cmp.Diff(step.want, changes(step.look...)); diff != "" {
			t.Errorf("%s: changes (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestTokenKeysAreFollowedFromLookToLook(t *testing.T) {
	key := func(id string) snapshot.TokenKey { return snapshot.TokenKey{ID: id, SPKI: "s" + id} }
	signing := func(id string) snapshot.TokenKey { k := key(id); k.Signs = true; return k }
	r := follower()
	for n, step := range []struct {
		name string
		look []snapshot.TokenKey
		want []string
	}{
		{"the first look", []snapshot.TokenKey{signing("a"), key("b")}, []string{"a since 0", "b since 0"}},
		{"nothing is read", nil, nil},
		{"one that was there from the beginning signs now", []snapshot.TokenKey{key("a"), signing("b")}, []string{"a since 0", "b since 0"}},
		{"another is there", []snapshot.TokenKey{key("a"), signing("b"), key("c")}, []string{"a since 0", "b since 0", "c since 3 after 0"}},
		{"it signs", []snapshot.TokenKey{key("b"), signing("c")}, []string{"b since 0", "c since 3 after 0 signs since 4"}},
		{"one of other servers does", []snapshot.TokenKey{signing("a"), key("b")}, []string{"a since 0", "b since 0"}},
		{"it still signs", []snapshot.TokenKey{signing("c")}, []string{"c since 3 after 0 signs since 4"}},
		{"another takes its place at once", []snapshot.TokenKey{signing("d")}, []string{"d since 7 after 3 signs since 7"}},
		{"one has its name", []snapshot.TokenKey{{ID: "d", SPKI: "other"}}, []string{"d since 8 after 7"}},
	} {
		m := &snapshot.Management{Tokens: snapshot.Tokens{Keys: step.look}}
		r.follow(m, today.AddDate(0, 0, n))
		var got []string
		day := func(at time.Time) int { return int(at.Sub(today) / (24 * time.Hour)) }
		for i := range m.Tokens.Keys {
			k := &m.Tokens.Keys[i]
			text := fmt.Sprintf("%s since %d", k.ID, day(k.Seen.Since))
			if !k.Seen.Before.IsZero() {
				text += fmt.Sprintf(" after %d", day(k.Seen.Before))
			}
			if k.Seen.Changes > 0 {
				text += fmt.Sprintf(" signs since %d", day(k.Seen.Changed))
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestWhatWasWrittenOfKeysIsReadOnce(t *testing.T) {
	in := etcdWith(1, "a", 1)
	written := map[string]snapshot.Keys{checks.Name(&in): {Since: today, Certificate: "a", Changes: 3}}
	asked := 0
	r := follower()
	r.keys = nil
	r.Remembered = func(_ context.Context, b *pcinetv1alpha1.PCINetworkBaseline) (map[string]snapshot.Keys, error) {
		asked++
		switch {
		case asked == 1:
			return nil, errors.New("no answer")
		case b.Name == "poor":
			return map[string]snapshot.Keys{checks.Name(&in): {Since: today, Certificate: "a", Changes: 1}}, nil
		}
		return written, nil
	}
	baselines := make([]pcinetv1alpha1.PCINetworkBaseline, 3)
	baselines[0].Name, baselines[0].Spec.ManagementEncryption = "rich", &pcinetv1alpha1.ManagementEncryption{}
	baselines[1].Name, baselines[1].Spec.ManagementEncryption = "poor", &pcinetv1alpha1.ManagementEncryption{}
	baselines[2].Name = "of access alone"
	if err := r.remember(t.Context(), baselines); err == nil || r.keys != nil {
		t.Errorf("what could not be read counts as nothing: %v", r.keys)
	}
	r.keys = map[string]snapshot.Keys{checks.Name(&in): {Since: today, Certificate: "b"}} // what was seen before it could be read
	for range 2 {
		if err := r.remember(t.Context(), baselines); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(written, r.keys); diff != "" || asked != 3 {
		t.Errorf("asked %d times (-want +got):\n%s", asked, diff)
	}
}
