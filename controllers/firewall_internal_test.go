// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	testclock "k8s.io/utils/clock/testing"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe/contact"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
)

// A rollout of the operator, in which for a while no pod is there by which a kubelet could be seen, is no loss of contact; but it is no
// time in which everybody answered either.
func TestAnswers(t *testing.T) {
	began := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	unseen, lost := fmt.Errorf("no pod: %w", contact.ErrUnseen), errors.New("n1 does not answer")
	for name, tc := range map[string]struct {
		stage trial.Stage
		looks []error // one a minute
		want  string
		held  time.Duration
	}{
		"everybody answers":             {trial.OneNode, []error{nil, nil, nil}, "", 2 * time.Minute},
		"somebody does not, once":       {trial.OneNode, []error{nil, lost, nil}, "", time.Minute},
		"somebody does not":             {trial.OneNode, []error{nil, lost, lost}, "n1 does not answer", 0},
		"somebody does not beforehand":  {trial.Absent, []error{lost}, "n1 does not answer", 0},
		"nobody can be seen for a time": {trial.AllNodes, []error{nil, unseen, nil}, "", time.Minute},
		"nobody can be seen for long":   {trial.AllNodes, []error{nil, unseen, unseen}, unseen.Error(), 0},
		"nobody can be seen at first":   {trial.OneNode, []error{unseen, unseen}, "", 0},
		"nobody can be seen beforehand": {trial.Absent, []error{unseen}, unseen.Error(), 0},
	} {
		w := &firewallWatched{since: began}
		var s *firewallScope
		for minute, err := range tc.looks {
			s = &firewallScope{now: began.Add(time.Duration(minute) * time.Minute), watched: w, seen: trial.Seen{Stage: tc.stage}}
			s.answers(err)
		}
		if s.seen.Contact != tc.want || s.seen.For != tc.held {
			t.Errorf("%s: %q for %s, want %q for %s", name, s.seen.Contact, s.seen.For, tc.want, tc.held)
		}
	}
}

// He is alive whose Lease changes. One that has changed before this process looked may be of a man who is dead, and one that did not change while
// nobody could look, as when an API server is away, may not.
func TestHear(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	type look struct {
		after   time.Duration
		version string
	}
	for name, tc := range map[string]struct {
		looks  []look
		heard  bool
		silent time.Duration
	}{
		"first seen":                       {[]look{{0, "1"}}, false, 0},
		"no change yet":                    {[]look{{0, "1"}, {10 * time.Second, "1"}}, false, 10 * time.Second},
		"a change":                         {[]look{{0, "1"}, {10 * time.Second, "1"}, {10 * time.Second, "2"}}, true, 0},
		"silent since":                     {[]look{{0, "1"}, {time.Second, "2"}, {10 * time.Second, "2"}, {10 * time.Second, "2"}}, true, 20 * time.Second},
		"nobody could look":                {[]look{{0, "1"}, {time.Second, "2"}, {time.Hour, "2"}}, false, trialPace},
		"nobody could, and silent since":   {[]look{{0, "1"}, {time.Second, "2"}, {time.Hour, "2"}, {14 * time.Second, "2"}}, false, 16 * time.Second},
		"nobody could, and he shows one":   {[]look{{0, "1"}, {time.Second, "2"}, {time.Hour, "2"}, {time.Second, "3"}}, true, 0},
		"he showed one while nobody could": {[]look{{0, "1"}, {time.Second, "2"}, {time.Hour, "3"}}, false, 0},
	} {
		w, at, silent := &firewallWatched{}, now, time.Duration(0)
		for _, l := range tc.looks {
			at = at.Add(l.after)
			silent = w.hear(l.version, at)
		}
		if w.heard != tc.heard || silent != tc.silent {
			t.Errorf("%s: heard %t, silent for %s", name, w.heard, silent)
		}
	}
	s := &firewallScope{unarmed: "no dead man", seen: trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Awaited: true}}
	if got := s.why(); got != "nobody said that people still come in" {
		t.Errorf("a dead man who is awaited is why: %s", got)
	}
	if s.seen.Awaited = false; s.why() != s.unarmed {
		t.Error("one who does not come is not")
	}
}

// A node that joins is there before its HostEndpoint: a list that is tried waits for a minute, and goes no further, before it is taken back for that.
func TestBear(t *testing.T) {
	began := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		seen trial.Seen
		fits []trial.Fit // one every 30 s
		want trial.Fit
		held bool
	}{
		"at once":                  {trial.Seen{Stage: trial.OneNode}, []trial.Fit{trial.Fits, trial.Misfits}, trial.Unknown, false},
		"for a minute":             {trial.Seen{Stage: trial.AllNodes}, []trial.Fit{trial.Misfits, trial.Misfits, trial.Misfits}, trial.Misfits, true},
		"with a pause":             {trial.Seen{Stage: trial.OneNode}, []trial.Fit{trial.Misfits, trial.Fits, trial.Misfits}, trial.Unknown, false},
		"not known in between":     {trial.Seen{Stage: trial.OneNode}, []trial.Fit{trial.Misfits, trial.Unknown, trial.Misfits}, trial.Misfits, true},
		"not known before":         {trial.Seen{Stage: trial.OneNode}, []trial.Fit{trial.Unknown, trial.Unknown, trial.Misfits}, trial.Unknown, false},
		"and then it is over":      {trial.Seen{Stage: trial.OneNode}, []trial.Fit{trial.Misfits, trial.Fits}, trial.Fits, true},
		"before anything is tried": {trial.Seen{Stage: trial.Absent}, []trial.Fit{trial.Misfits}, trial.Misfits, true},
		"of one that is kept":      {trial.Seen{Stage: trial.AllNodes, Kept: true}, []trial.Fit{trial.Misfits}, trial.Misfits, true},
	} {
		w := &firewallWatched{since: began}
		var s *firewallScope
		for i, fit := range tc.fits {
			s = &firewallScope{now: began.Add(time.Duration(i+1) * 30 * time.Second), watched: w, seen: tc.seen}
			s.seen.Fit, s.seen.For = fit, trial.Enough
			s.bear()
		}
		if s.seen.Fit != tc.want || (s.seen.For > 0) != tc.held || w.since.Equal(s.now) == tc.held {
			t.Errorf("%s: %s for %s, want %s", name, s.seen.Fit, s.seen.For, tc.want)
		}
	}
}

// What goes no further says so, and what cannot be looked at is not taken for what another engine has left.
func TestHeldAndUnseen(t *testing.T) {
	for stage, confirmed := range map[trial.Stage]bool{trial.OneNode: true, trial.AllNodes: false} {
		for fit, want := range map[trial.Fit]bool{trial.Fits: false, trial.Unknown: true} {
			s := &firewallScope{act: trial.Hold, seen: trial.Seen{Stage: stage, Fit: fit, Confirmed: confirmed}}
			if got := s.state(nil); strings.Contains(got.Why, "goes no further") != want {
				t.Errorf("%s, %s: %+v", stage, fit, got)
			}
		}
	}
	live := &unstructured.Unstructured{}
	for name, tc := range map[string]struct {
		s    firewallScope
		want bool
	}{
		"there is none":                         {firewallScope{}, false},
		"nobody answers":                        {firewallScope{unread: errors.New("x")}, true},
		"another engine has left one":           {firewallScope{unread: errors.New("x"), live: live, layer: cilium.Hosts{}, wanted: firewall{layer: calico.Hosts{}}}, true},
		"the other engine does not answer":      {firewallScope{unread: errors.New("x"), live: live, layer: calico.Hosts{}, wanted: firewall{layer: calico.Hosts{}}}, false},
		"it is there, and of an unknown engine": {firewallScope{unread: errors.New("x"), live: live, layer: calico.Hosts{}}, false},
	} {
		if got := tc.s.unseen(); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// Whatever cannot be read takes nothing back, and whoever broke the glass is not left alone with what is tried.
func TestDecide(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	broken := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
		pcinetv1alpha1.AnnotationBreakGlass: now.Add(time.Minute).Format(time.RFC3339) + " somebody is cut off",
	}}}
	for name, tc := range map[string]struct {
		baseline *pcinetv1alpha1.PCINetworkBaseline
		lease    *coordinationv1.Lease
		known    bool
		seen     trial.Seen
		want     trial.Act
	}{
		"somebody is cut off":              {&pcinetv1alpha1.PCINetworkBaseline{}, &coordinationv1.Lease{}, true, trial.Seen{Stage: trial.OneNode, Armed: true, Contact: "x", Tried: true}, trial.TakeBack},
		"the same, and the glass broken":   {broken, &coordinationv1.Lease{}, true, trial.Seen{Stage: trial.OneNode, Armed: true, Contact: "x", Tried: true}, trial.TakeBack},
		"kept, changed, the glass broken":  {broken, &coordinationv1.Lease{}, true, trial.Seen{Stage: trial.Strange, Armed: true, Kept: true}, trial.Wait},
		"strange, and the glass broken":    {broken, &coordinationv1.Lease{}, true, trial.Seen{Stage: trial.Strange, Armed: true}, trial.Wait},
		"nobody tried, the glass broken":   {broken, &coordinationv1.Lease{}, true, trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Armed: true}, trial.Wait},
		"on all nodes, the note unread":    {&pcinetv1alpha1.PCINetworkBaseline{}, nil, true, trial.Seen{Stage: trial.AllNodes}, trial.Wait},
		"not known yet what is wanted":     {&pcinetv1alpha1.PCINetworkBaseline{}, &coordinationv1.Lease{}, false, trial.Seen{Stage: trial.Strange}, trial.Wait},
		"strange, and everything is known": {&pcinetv1alpha1.PCINetworkBaseline{}, &coordinationv1.Lease{}, true, trial.Seen{Stage: trial.Strange}, trial.TakeBack},
	} {
		s := &firewallScope{now: now, baseline: tc.baseline, lease: tc.lease, known: tc.known, seen: tc.seen, wanted: firewall{layer: cilium.Hosts{}}}
		(&FirewallReconciler{}).decide(s)
		if s.act != tc.want {
			t.Errorf("%s: %s, want %s", name, s.act, tc.want)
		}
		s.wanted.layer = nil
		if (&FirewallReconciler{}).decide(s); s.act == trial.TakeBack && tc.seen.Stage == trial.Strange {
			t.Errorf("%s, and it is not known which engine there is: %s", name, s.act)
		}
	}
}

// What was said of one list says nothing of another, and what cannot be looked at any more is not kept.
func TestStateIsOfItsList(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	a := policy.HostFirewall{Baseline: "b", Ports: []int32{6443}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	b, more := a, a
	b.Allowed, more.Ports = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/9")}, []int32{6443, 10250}
	kept := snapshot.Firewall{State: snapshot.FirewallKept}
	clock := testclock.NewFakePassiveClock(now)
	r := &FirewallReconciler{Clock: clock, firewalls: &firewalls{}, watched: map[string]*firewallWatched{"b": {lookedAt: now}}}
	r.firewalls.wanted.Store("b", firewall{policy: a})
	r.firewalls.tell(a, kept)
	if got := r.firewalls.stateOf(a); got != kept {
		t.Errorf("%+v of what was said", got)
	}
	for name, other := range map[string]policy.HostFirewall{"another list": b, "another port": more, "another baseline": {Baseline: "c"}} {
		if got := r.firewalls.stateOf(other); got != (snapshot.Firewall{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	r.blind("b", errors.New("connection refused"))
	if got := r.firewalls.stateOf(a); got != kept {
		t.Errorf("%+v after one look that failed", got)
	}
	clock.SetTime(now.Add(pulseAge))
	r.blind("b", errors.New("connection refused"))
	if got := r.firewalls.stateOf(a); got.State != "" || got.Why == "" {
		t.Errorf("%+v of what nobody can look at", got)
	}
}

// A policy that the engine refuses has no effect, however long it is there.
func TestRefusedByTheEngine(t *testing.T) {
	for status, want := range map[string]snapshot.FirewallState{"True": snapshot.FirewallKept, "False": snapshot.FirewallPending} {
		condition := map[string]any{"type": "Valid", "status": status, "message": "x"}
		s := &firewallScope{
			live: &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": []any{condition}}}},
			seen: trial.Seen{Stage: trial.AllNodes, Kept: true},
		}
		if got := s.state(nil); got.State != want {
			t.Errorf("Valid is %s: %+v", status, got)
		}
	}
}

// What is written is compared with what is read: a number of another type would be written for ever.
func TestGeneric(t *testing.T) {
	f := policy.HostFirewall{Baseline: "b", Ports: []int32{6443}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	for _, l := range hostLayers {
		for _, object := range render.HostFirewall(l, f) {
			got, err := generic(object)
			if err != nil {
				t.Fatal(err)
			}
			text, err := got.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			stored := &unstructured.Unstructured{}
			if err := stored.UnmarshalJSON(text); err != nil {
				t.Fatal(err)
			}
			if drift := apply.Diff(got, stored); !drift.None() {
				t.Errorf("%s of %s: %+v", got.GetKind(), l.Name(), drift)
			}
		}
	}
}

// While nobody knows the engine, a policy that nobody wants is not stood by for longer than after a start.
func TestUnknownEngineIsNoSign(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		layer render.HostLayer
		want  time.Time
	}{"known": {cilium.Hosts{}, now}, "unknown": {nil, now.Add(-blindFor)}} {
		w := &firewallWatched{knownAt: now.Add(-blindFor)}
		s := &firewallScope{now: now, known: true, wanted: firewall{layer: tc.layer}, watched: w}
		if s.know(); !w.knownAt.Equal(tc.want) {
			t.Errorf("%s: it was known last at %s", name, w.knownAt)
		}
	}
}

// What one engine let in is forgotten under another, and while it is not known which there is nothing is.
func TestMemoryIsOfItsEngine(t *testing.T) {
	kept, tried, _ := trial.Memory{}.Succeeded(policy.HostFirewall{Ports: []int32{6443}}).Texts()
	for name, tc := range map[string]struct {
		layer   render.HostLayer
		backend string
		want    bool
	}{
		"the same": {calico.Hosts{}, "Calico", true}, "another": {calico.Hosts{}, "Cilium", false},
		"not known yet": {nil, "Cilium", true}, "not noted": {cilium.Hosts{}, "", true},
	} {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationKept: kept, annotationTried: tried, annotationBackend: tc.backend}}}
		s := &firewallScope{wanted: firewall{layer: tc.layer}}
		if s.remember(lease); (s.memory.Kept != nil) != tc.want {
			t.Errorf("%s: %+v", name, s.memory)
		}
	}
}
