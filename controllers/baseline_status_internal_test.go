// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

const day = 24 * time.Hour

// today is the time of all these tests.
var today = time.Date(2026, time.July, 1, 12, 0, 0, 0, time.UTC)

// writtenToCore is the choice of the core API.
var writtenToCore = backendChoice{api: &policyAPI{Backend: core.Backend{}}}

// unproven is what is known before any node was tested.
var unproven = probe.Summary{Status: metav1.ConditionUnknown, Reason: pcinetv1alpha1.ReasonProofPending}

// declared is what a test changes of a baseline that is otherwise as it should be.
type declared func(*pcinetv1alpha1.PCINetworkBaseline)

// judgedAt returns a baseline whose namespaces are all protected, as it is judged at a time.
func judgedAt(now time.Time, changes ...declared) *baselineScope {
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci", Generation: 3}}
	b.Spec.Directions = []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress}
	for _, change := range changes {
		change(b)
	}
	return &baselineScope{
		baseline: b, backend: writtenToCore, now: now, proof: unproven,
		tally: Tally{States: map[pcinetv1alpha1.CoverageState]int{pcinetv1alpha1.CoverageProtected: 2}},
	}
}

// reviewed records a review that is so old.
func reviewed(age time.Duration) declared {
	return func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Review = pcinetv1alpha1.Review{ReviewedAt: metav1.NewTime(today.Add(-age)), ReviewedBy: "qsa@example.com"}
	}
}

// exempt adds an exemption that ends so far from today.
func exempt(left time.Duration, namespaces ...pcinetv1alpha1.NamespaceName) declared {
	return func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Exemptions = append(b.Spec.Exemptions, pcinetv1alpha1.Exemption{
			Namespaces: namespaces, Reason: "It is old.", ApprovedBy: "ciso", ExpiresAt: metav1.NewTime(today.Add(left)),
		})
	}
}

// said returns what a condition says: "False/ReviewOverdue: …".
func said(t *testing.T, conditions []metav1.Condition, kind string) string {
	t.Helper()
	c := apimeta.FindStatusCondition(conditions, kind)
	if c == nil {
		t.Fatalf("there is no condition %s", kind)
	}
	if c.ObservedGeneration != 3 {
		t.Errorf("condition %s is about generation %d", kind, c.ObservedGeneration)
	}
	return strings.TrimSuffix(fmt.Sprintf("%s/%s: %s", c.Status, c.Reason, c.Message), ": ")
}

// clockCase is a baseline, what a condition says of it today, and when time alone will change that.
type clockCase struct {
	changes []declared
	want    string
	next    time.Duration
}

func runClock(t *testing.T, condition string, cases map[string]clockCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := judgedAt(today, tc.changes...)
			if diff := cmp.Diff(tc.want, said(t, s.status().Conditions, condition)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", condition, diff)
			}
			if next := s.nextClock(); next != tc.next {
				t.Errorf("the next look is in %s, want %s", next, tc.next)
			}
		})
	}
}

// later is when a look is due that a moment asks for: just after it.
func later(d time.Duration) time.Duration { return d + time.Millisecond }

func TestReviewCurrent(t *testing.T) {
	const (
		current = "True/Reviewed: Reviewed by qsa@example.com."
		overdue = "False/ReviewOverdue: The last review, by qsa@example.com, is more than 180 days old. Review the rules and exemptions, then set spec.review."
		ahead   = "False/ReviewInFuture: spec.review.reviewedAt is in the future. Correct it."
		never   = "Unknown/NeverReviewed: No review is recorded. Review the rules and exemptions, then set spec.review."
	)
	runClock(t, "ReviewCurrent", map[string]clockCase{
		"never":                     {nil, never, 0},
		"now":                       {[]declared{reviewed(0)}, current, later(0)},
		"yesterday":                 {[]declared{reviewed(day)}, current, later(179 * day)},
		"a second short of overdue": {[]declared{reviewed(180*day - time.Second)}, current, later(time.Second)},
		"exactly 180 days ago":      {[]declared{reviewed(180 * day)}, current, later(0)},
		"a second overdue":          {[]declared{reviewed(180*day + time.Second)}, overdue, 0},
		"years ago":                 {[]declared{reviewed(2000 * day)}, overdue, 0},
		"a second ahead":            {[]declared{reviewed(-time.Second)}, ahead, later(time.Second)},
		"next year":                 {[]declared{reviewed(-365 * day)}, ahead, later(365 * day)},
	})
}

func TestExemptionsCurrent(t *testing.T) {
	const (
		prepare = ". Prepare the namespace for the deny, or renew the approval."
		end     = ". Remove the entry from spec.exemptions, or renew its approval."
		soon    = "True/ExemptionExpiring: Expires within 14 days: "
		over    = "False/ExemptionExpired: Expired, and denied again: "
	)
	runClock(t, "ExemptionsCurrent", map[string]clockCase{
		"none":                            {nil, "True/NoExemptions", 0},
		"15 days left":                    {[]declared{exempt(15*day, "shop")}, "True/ExemptionsValid", later(day)},
		"a second more than 14 days left": {[]declared{exempt(14*day+time.Second, "shop")}, "True/ExemptionsValid", later(time.Second)},
		"exactly 14 days left":            {[]declared{exempt(14*day, "shop")}, soon + "shop (ciso, 2026-07-15T12:00:00Z)" + prepare, later(0)},
		"a second left":                   {[]declared{exempt(time.Second, "shop")}, soon + "shop (ciso, 2026-07-01T12:00:01Z)" + prepare, later(time.Second)},
		"it ends now":                     {[]declared{exempt(0, "shop")}, over + "shop (ciso, 2026-07-01T12:00:00Z)" + end, later(0)},
		"it ended":                        {[]declared{exempt(-time.Second, "shop")}, over + "shop (ciso, 2026-07-01T11:59:59Z)" + end, 0},
		"several namespaces":              {[]declared{exempt(-day, "shop", "bank", "till")}, over + "shop and 2 more (ciso, 2026-06-30T12:00:00Z)" + end, 0},
		"two that ended":                  {[]declared{exempt(-day, "shop"), exempt(-2*day, "bank")}, over + "shop (ciso, 2026-06-30T12:00:00Z); bank (ciso, 2026-06-29T12:00:00Z)" + end, 0},
		"one that ended is worse than one that will": {
			[]declared{exempt(day, "bank"), exempt(-day, "shop")}, over + "shop (ciso, 2026-06-30T12:00:00Z)" + end, later(day),
		},
		"one that will end soon is worse than one that is valid": {
			[]declared{exempt(100*day, "bank"), exempt(2*day, "shop")}, soon + "shop (ciso, 2026-07-03T12:00:00Z)" + prepare, later(2 * day),
		},
		"a review that is overdue sooner": {
			[]declared{exempt(100*day, "shop"), reviewed(179 * day)}, "True/ExemptionsValid", later(day),
		},
		"a review that is overdue later": {
			[]declared{exempt(15*day, "shop"), reviewed(100 * day)}, "True/ExemptionsValid", later(day),
		},
	})
}

// TestTheNextClockMissesNothing judges baselines at and around every moment that could matter, and wants a look to be due
// before they say anything else.
func TestTheNextClockMissesNothing(t *testing.T) {
	baselines := map[string][]declared{
		"a review":                  {reviewed(100 * day)},
		"a review to come":          {reviewed(-3 * day)},
		"an exemption":              {exempt(20*day, "shop")},
		"two exemptions":            {exempt(20*day, "shop"), exempt(6*day, "bank")},
		"a review and an exemption": {reviewed(170 * day), exempt(24*day, "shop")},
	}
	var moments []time.Duration
	for d := -200 * day; d <= 200*day; d += day {
		moments = append(moments, d-time.Second, d, d+time.Nanosecond, d+time.Second)
	}
	for name, changes := range baselines {
		t.Run(name, func(t *testing.T) {
			changed := 0
			for i := range moments[1:] {
				before, after := judgedAt(today.Add(moments[i]), changes...), judgedAt(today.Add(moments[i+1]), changes...)
				a, b := before.status().Conditions, after.status().Conditions
				if slices.EqualFunc(a, b, func(x, y metav1.Condition) bool {
					return x.Status == y.Status && x.Reason == y.Reason && x.Message == y.Message
				}) {
					continue
				}
				changed++
				if next := before.nextClock(); next == 0 || next > later(moments[i+1]-moments[i]) {
					t.Errorf("%s from today it says something new, and %s before that the next look is in %s", moments[i+1], moments[i+1]-moments[i], next)
				}
			}
			if changed == 0 {
				t.Error("nothing changes: this test shows nothing")
			}
		})
	}
}

// compliance is what Compliant says of requirements that are all True but for the given ones; "" leaves one out.
type compliance struct {
	not  map[string]metav1.ConditionStatus
	want string
}

func (c compliance) check(t *testing.T) {
	t.Helper()
	conditions := &status.Conditions{Generation: 3, Now: metav1.NewTime(today)}
	for _, kind := range append([]string{pcinetv1alpha1.ConditionReady, pcinetv1alpha1.ConditionContested}, requirements...) {
		value, given := c.not[kind]
		if !given {
			value = metav1.ConditionTrue
		}
		if value != "" {
			conditions.Set(kind, value, "Because", "")
		}
	}
	setCompliant(conditions)
	if diff := cmp.Diff(c.want, said(t, conditions.List(), "Compliant")); diff != "" {
		t.Errorf("Compliant (-want +got):\n%s", diff)
	}
}

func TestCompliant(t *testing.T) {
	const (
		no, unknown = metav1.ConditionFalse, metav1.ConditionUnknown
		notMet      = "False/RequirementsNotMet: Not met: "
		notKnown    = "Unknown/RequirementsUnknown: Unknown: "
	)
	type values = map[string]metav1.ConditionStatus
	all := func(value metav1.ConditionStatus) values {
		out := values{}
		for _, kind := range requirements {
			out[kind] = value
		}
		return out
	}
	everything := strings.Join(requirements, ", ") + "."
	cases := map[string]compliance{
		"every requirement is True":       {nil, "True/RequirementsMet"},
		"every requirement is Unknown":    {all(unknown), notKnown + everything},
		"every requirement is False":      {all(no), notMet + everything},
		"every requirement is missing":    {all(""), notKnown + everything},
		"False beats Unknown":             {values{"ReviewCurrent": no, "DefaultDenyInPlace": unknown}, notMet + "ReviewCurrent."},
		"two are False":                   {values{"ReviewCurrent": no, "DefaultDenyInPlace": no}, notMet + "DefaultDenyInPlace, ReviewCurrent."},
		"two are Unknown":                 {values{"ReviewCurrent": unknown, "DefaultDenyInPlace": unknown}, notKnown + "DefaultDenyInPlace, ReviewCurrent."},
		"what is no requirement is apart": {values{"Ready": no, "Contested": unknown}, "True/RequirementsMet"},
	}
	for _, kind := range requirements {
		cases[kind+" alone is False"] = compliance{values{kind: no}, notMet + kind + "."}
		cases[kind+" alone is Unknown"] = compliance{values{kind: unknown}, notKnown + kind + "."}
		cases[kind+" alone is missing"] = compliance{values{kind: ""}, notKnown + kind + "."}
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) { tc.check(t) })
	}
}

// What the owner of a baseline has switched off contradicts nothing that is in place, and is no secret.
func TestReadyTellsWhatIsNotRefused(t *testing.T) {
	const all = "True/AllNamespacesProtected: Each of 2 namespaces in scope has its deny and allowances."
	const gate = " Pods of a new namespace do not wait for them: spec.admission.podGate is "
	const guard = " Changes to them are not refused but repaired: spec.admission.tamperGuard is "
	const enforce, warn, off = pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionWarn, pcinetv1alpha1.AdmissionOff
	for name, tc := range map[string]struct {
		gate, guard pcinetv1alpha1.AdmissionMode
		want        string
	}{
		"both refuse":             {enforce, enforce, all},
		"unset is what closes":    {"", "", all},
		"the gate is off":         {off, enforce, all + gate + "Off."},
		"the gate warns":          {warn, enforce, all + gate + "Warn."},
		"the tamper guard is off": {enforce, off, all + guard + "Off."},
		"neither refuses":         {off, warn, all + gate + "Off." + guard + "Warn."},
	} {
		t.Run(name, func(t *testing.T) {
			s := judgedAt(today, func(b *pcinetv1alpha1.PCINetworkBaseline) {
				b.Spec.Admission = pcinetv1alpha1.Admission{PodGate: tc.gate, TamperGuard: tc.guard}
			})
			if diff := cmp.Diff(tc.want, said(t, s.status().Conditions, "Ready")); diff != "" {
				t.Errorf("Ready (-want +got):\n%s", diff)
			}
		})
	}
}

// A baseline with nothing wrong is not Compliant in this version, and says which requirements nobody looked at.
func TestCompliantIsNotClaimedForWhatIsNotAssessed(t *testing.T) {
	got := judgedAt(today, reviewed(day)).status().Conditions
	const unknown = "Unknown: PolicyEngineSupported, EnforcementProven, ManagementAccessRestricted, ManagementTrafficEncrypted."
	if diff := cmp.Diff("Unknown/RequirementsUnknown: "+unknown, said(t, got, "Compliant")); diff != "" {
		t.Errorf("Compliant (-want +got):\n%s", diff)
	}
	for _, c := range got {
		if c.Type == pcinetv1alpha1.ConditionPolicyEngineSupported || c.Type == pcinetv1alpha1.ConditionEnforcementProven { // assessed, but not in this test
			continue
		}
		if (c.Reason == pcinetv1alpha1.ReasonNotAssessed) != (c.Status == metav1.ConditionUnknown && c.Type != "Compliant") {
			t.Errorf("%s is %s for the reason %s", c.Type, c.Status, c.Reason)
		}
	}
}

// Whoever adds a condition decides whether Compliant counts it.
func TestEveryConditionIsARequirementOrKnownNotToBe(t *testing.T) {
	apart := []string{"Ready", "Reconciling", "Stalled", "Contested", "Compliant"}
	var got []string
	for _, c := range judgedAt(today).status().Conditions {
		if !slices.Contains(apart, c.Type) {
			got = append(got, c.Type)
		}
	}
	want := slices.Sorted(slices.Values(requirements))
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requirements (-counted +set):\n%s", diff)
	}
}

func TestWhatIsNotWatchedIsNotFine(t *testing.T) {
	t.Parallel()
	protected := map[pcinetv1alpha1.CoverageState]int{pcinetv1alpha1.CoverageProtected: 1}
	failing := map[pcinetv1alpha1.CoverageState]int{pcinetv1alpha1.CoverageFailing: 1}
	tests := map[string]struct {
		blind  blindness
		states map[pcinetv1alpha1.CoverageState]int
		behind int
		ready  string
		lasts  bool
	}{
		"a right is missing":              {blindness{resource: "pods", forbidden: true}, protected, 0, "Unknown/NotWatched", true},
		"the API server refuses":          {blindness{resource: "pods", more: 2}, protected, 0, "Unknown/NotWatched", false},
		"not all have been looked at":     {blindness{resource: "pods"}, protected, 1, "Unknown/NotWatched", false},
		"no namespace has been looked at": {blindness{resource: "pods", forbidden: true}, nil, 1, "Unknown/NotWatched", true},
		"what fails is not hidden by it":  {blindness{resource: "pods"}, failing, 1, "False/PoliciesMissing", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := judgedAt(today)
			s.blind, s.tally.States, s.tally.Behind = test.blind, test.states, test.behind
			wrong := s.count(pcinetv1alpha1.CoverageFailing) > 0
			if wrong {
				s.tally.Offenders = []Offender{{Namespace: "shop", Record: Record{State: pcinetv1alpha1.CoverageFailing, Worst: checks.Finding{Reason: pcinetv1alpha1.ReasonPoliciesMissing}}}}
			}
			got := s.conditions()
			if ready := said(t, got, pcinetv1alpha1.ConditionReady); !strings.HasPrefix(ready, test.ready) {
				t.Errorf("Ready is %s, want %s", ready, test.ready)
			}
			if !wrong {
				for _, kind := range []string{pcinetv1alpha1.ConditionDefaultDenyInPlace, pcinetv1alpha1.ConditionDefaultDenyEffective} {
					if c := said(t, got, kind); !strings.HasPrefix(c, "Unknown/NotWatched: pods") {
						t.Errorf("%s is %s", kind, c)
					}
				}
			}
			if lasts := apimeta.IsStatusConditionTrue(got, pcinetv1alpha1.ConditionStalled); lasts != test.lasts {
				t.Errorf("stalled: %v", lasts)
			}
		})
	}
}

func TestAProcessThatCannotSeeTakesBackWhatTheLastOneCalledWell(t *testing.T) {
	t.Parallel()
	condition := func(kind string, value metav1.ConditionStatus) metav1.Condition {
		return metav1.Condition{Type: kind, Status: value, Reason: "Old", ObservedGeneration: 3, LastTransitionTime: metav1.Time{Time: today.Add(-day)}}
	}
	tests := map[string]struct {
		blind blindness
		ready metav1.ConditionStatus
		want  []string
		// also is a condition that is True beside.
		also string
	}{
		"all was well": {blindness{resource: "pods"}, metav1.ConditionTrue, []string{
			"Ready Unknown/NotWatched", "Reconciling True/Progressing", "DefaultDenyInPlace Unknown/NotWatched", "Contested False/Old",
			"ReviewCurrent True/Old", "Compliant Unknown/RequirementsUnknown",
		}, ""},
		"all was well, and worked on": {blindness{resource: "pods"}, metav1.ConditionTrue, []string{
			"Ready Unknown/NotWatched", "Reconciling True/Progressing", "DefaultDenyInPlace Unknown/NotWatched", "Contested False/Old",
			"ReviewCurrent True/Old", "Compliant Unknown/RequirementsUnknown",
		}, pcinetv1alpha1.ConditionReconciling},
		"a person has to act": {blindness{resource: "pods", forbidden: true}, metav1.ConditionTrue, []string{
			"Ready Unknown/NotWatched", "Stalled True/NotWatched", "DefaultDenyInPlace Unknown/NotWatched", "Contested False/Old",
			"ReviewCurrent True/Old", "Compliant Unknown/RequirementsUnknown",
		}, ""},
		"what was wrong stays": {blindness{resource: "pods"}, metav1.ConditionFalse, []string{
			"Ready False/Old", "DefaultDenyInPlace Unknown/NotWatched", "Contested False/Old", "ReviewCurrent True/Old",
			"Compliant Unknown/RequirementsUnknown",
		}, ""},
		"what was wrong stays, and is worked on": {blindness{resource: "pods"}, metav1.ConditionFalse, []string{
			"Ready False/Old", "DefaultDenyInPlace Unknown/NotWatched", "Contested False/Old", "ReviewCurrent True/Old",
			"Compliant Unknown/RequirementsUnknown", "Reconciling True/Old",
		}, pcinetv1alpha1.ConditionReconciling},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &pcinetv1alpha1.PCINetworkBaseline{}
			b.Generation, b.Status.ObservedGeneration, b.Status.Covered = 4, 3, "7/7"
			b.Status.Conditions = []metav1.Condition{
				condition(pcinetv1alpha1.ConditionReady, test.ready), condition(pcinetv1alpha1.ConditionDefaultDenyInPlace, metav1.ConditionTrue),
				condition(pcinetv1alpha1.ConditionContested, metav1.ConditionFalse), condition(pcinetv1alpha1.ConditionReviewCurrent, metav1.ConditionTrue),
				condition(pcinetv1alpha1.ConditionCompliant, metav1.ConditionTrue),
			}
			if test.also != "" {
				b.Status.Conditions = append(b.Status.Conditions, condition(test.also, metav1.ConditionTrue))
			}
			s := &baselineScope{baseline: b, blind: test.blind, now: today}
			out := s.disowned()
			var got []string
			for _, c := range out.Conditions {
				got = append(got, fmt.Sprintf("%s %s/%s", c.Type, c.Status, c.Reason))
				if moved := c.LastTransitionTime.Equal(&metav1.Time{Time: today}); moved == (c.Reason == "Old" || c.Type == test.also) || c.ObservedGeneration != 3 {
					t.Errorf("%s is of generation %d, since %s", c.Type, c.ObservedGeneration, c.LastTransitionTime)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if out.Covered != "7/7" || out.ObservedGeneration != 3 {
				t.Errorf("the rest is %+v", out)
			}
			b.Status = out
			if diff := cmp.Diff(out, s.disowned()); diff != "" {
				t.Errorf("said twice (-once +twice):\n%s", diff)
			}
		})
	}
}

func TestWhoHoldsALeaseLeads(t *testing.T) {
	t.Parallel()
	lease := func(holder string, renewed time.Duration) coordinationv1.LeaseSpec {
		return coordinationv1.LeaseSpec{HolderIdentity: &holder, RenewTime: &metav1.MicroTime{Time: today.Add(-renewed)}, LeaseDurationSeconds: new(int32(15))}
	}
	tests := map[string]struct {
		lease coordinationv1.LeaseSpec
		want  bool
	}{
		"it is renewed":        {lease("a", 14*time.Second), true},
		"it has run out":       {lease("a", 15*time.Second), false},
		"it was given back":    {lease("", 0), false},
		"nobody has taken it":  {coordinationv1.LeaseSpec{}, false},
		"a clock that is fast": {lease("a", -time.Minute), true},
	}
	for name, test := range tests {
		if got := held(test.lease, today); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
