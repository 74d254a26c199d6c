// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

// statusLimit is what docs/spec.md promises of a status, as JSON.
const statusLimit = 16 << 10

// crowd returns the tally of n namespaces with the longest names, in which everything is wrong that can be: half of them
// are Failing, half Contested, and something undoes the deny in each. All messages are far too long and made of one letter.
func crowd(n int, letter string) Tally {
	store := NewStore()
	text := strings.Repeat(letter, 2000)
	for i := range n {
		state, reason := pcinetv1alpha1.CoverageFailing, strings.Repeat("R", 64)
		if i%2 == 1 {
			state, reason = pcinetv1alpha1.CoverageContested, pcinetv1alpha1.ReasonRepeatedChanges
		}
		store.Set(fmt.Sprintf("n%062d", i), longest.Name, Record{
			Generation: longest.Generation, State: state, Stalled: true, Widening: text,
			Worst: checks.Finding{Reason: reason, Message: text},
		})
	}
	return store.Tally(longest)
}

// talkative returns an assessment in which everything is long, and something of everything.
func talkative(letter string) engines.Assessment {
	text := strings.Repeat(letter, 2000)
	a := engines.Assessment{
		Observed: true, Provider: engines.Provider("Unknown"), Encapsulation: snapshot.UnknownEncapsulation,
		Engine:   snapshot.Component{Name: text, Version: text},
		Base:     snapshot.Component{Name: text, Version: text},
		Coverage: snapshot.Coverage{Ready: math.MaxInt32, Total: math.MaxInt32},
		Findings: []engines.Finding{{Effect: engines.Disables, Reason: strings.Repeat("R", 64), Message: text}},
	}
	for i := range 20 {
		a.Engine.Signals = append(a.Engine.Signals, snapshot.Signal{Object: fmt.Sprint(i, text), Says: text, Weak: true})
		a.Findings = append(a.Findings, engines.Finding{Effect: engines.Weakens, Message: text})
	}
	return a
}

// longest is a baseline whose status has most to say.
var longest = &pcinetv1alpha1.PCINetworkBaseline{
	ObjectMeta: metav1.ObjectMeta{Name: strings.Repeat("b", 48), Generation: math.MaxInt64},
	Spec: pcinetv1alpha1.PCINetworkBaselineSpec{
		Directions: []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress},
	},
}

// The status of the worst baseline stays below the limit whatever language its messages are in, and whatever JSON makes of
// them: an admission webhook's answer may be a page of HTML.
func TestTheStatusDoesNotGrow(t *testing.T) {
	var cluster snapshot.Cluster
	for i := range 32 {
		cluster.SystemNamespaces = append(cluster.SystemNamespaces, fmt.Sprintf("s%062d", i))
	}
	variants := map[string]declared{
		"enforcing":             func(*pcinetv1alpha1.PCINetworkBaseline) {},
		"being deleted":         func(b *pcinetv1alpha1.PCINetworkBaseline) { b.DeletionTimestamp = &metav1.Time{Time: today} },
		"auditing":              func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit },
		"denying one direction": func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Directions = b.Spec.Directions[1:] },
	}
	for _, n := range []int{300, 10_000} {
		for what, letter := range map[string]string{"Latin": "x", "Chinese": "漢", "quotes": `"`, "brackets": "<", "zeros": "\x00"} {
			tally := crowd(n, letter)
			for how, change := range variants {
				broken := how == "enforcing"
				t.Run(fmt.Sprintf("%d namespaces, messages of %s, %s", n, what, how), func(t *testing.T) {
					b := longest.DeepCopy()
					change(b)
					reviewed(2000 * day)(b)
					b.Spec.Review.ReviewedBy = strings.Repeat(letter, 128)
					for i := range 32 {
						exempt(-day, pcinetv1alpha1.NamespaceName(strings.Repeat("e", 63)), "another")(b)
						b.Spec.Exemptions[i].ApprovedBy = strings.Repeat(letter, 128)
					}
					backend := backendChoice{api: writtenToCore.api, reason: strings.Repeat("R", 64), message: strings.Repeat(letter, 2000)}
					guard := pcinetv1alpha1.Guard{Resource: strings.Repeat("g", 128), State: pcinetv1alpha1.PolicyCollision, Message: status.Clip(strings.Repeat(letter, 2000), maxGuardMessage)}
					checkSize(t, &baselineScope{
						baseline: b, cluster: cluster, engine: talkative(letter), backend: backend, guard: guard, tally: tally, now: today,
						proof: probe.Summary{
							Status: metav1.ConditionFalse, Reason: strings.Repeat("R", 64), Message: strings.Repeat(letter, 2000),
							Proven: math.MaxInt32, Disproven: math.MaxInt32, Required: math.MaxInt32, Oldest: today,
							Window: new(time.Duration(math.MaxInt32) * time.Millisecond), Cut: 1, Kept: 1,
							Older: &pcinetv1alpha1.OlderPods{Count: new(int32(math.MaxInt32)), Names: slices.Repeat([]string{strings.Repeat("p", maxOlderName)}, maxOlder)},
						},
						lastRound: today, blind: blindness{resource: strings.Repeat(letter, 128), more: 8, forbidden: true},
						admission: admissionStatus(plan.BreakGlass{InForce: broken, Until: today, Reason: strings.Repeat(letter, 2000)}, errors.New(strings.Repeat(letter, 2000))),
					})
				})
			}
		}
	}
}

func checkSize(t *testing.T, s *baselineScope) {
	t.Helper()
	got := s.status()
	data, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > statusLimit {
		t.Errorf("the status takes %d bytes, want at most %d", len(data), statusLimit)
	}
	if !apimeta.IsStatusConditionTrue(got.Conditions, pcinetv1alpha1.ConditionContested) {
		t.Error("it does not say that namespaces are contested")
	}
	if want := fmt.Sprintf("0/%d", s.selected()); got.Covered != want {
		t.Errorf("covered is %q, want %q", got.Covered, want)
	}
	if len(got.Offenders) < maxOffenders-4 { // where everything is long, the last have no room
		t.Errorf("%d offenders, want at least %d", len(got.Offenders), maxOffenders-4)
	}
	for _, o := range got.Offenders {
		if o.State != pcinetv1alpha1.CoverageFailing || !strings.HasSuffix(o.Message, "…") {
			t.Errorf("offender %s is %s: %q; want the worst, with the beginning of what is wrong", o.Namespace, o.State, o.Message)
		}
	}
	t.Logf("%d bytes", len(data))
}
