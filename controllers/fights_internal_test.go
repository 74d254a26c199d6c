// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strconv"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

var (
	begin = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	deny  = objectKey{"networkpolicies.networking.k8s.io", "shop", "pcinb-pci-default-deny"}
)

// fightsAt returns fights as of begin, and the clock that they go by.
func fightsAt(began func()) (*fights, *clocktesting.FakePassiveClock) {
	c := clocktesting.NewFakePassiveClock(begin)
	return newFights(c, began), c
}

// hits has an object changed every so often for a time, on a replica that writes as soon as it may and sees what it has
// written. It returns when that was.
func hits(f *fights, c *clocktesting.FakePassiveClock, key objectKey, every, lasting time.Duration) []time.Time {
	var written []time.Time
	for began, at := c.Now(), time.Duration(0); at < lasting; at += every {
		c.SetTime(began.Add(at))
		f.seen(key, true)
		if f.need(key, "mallory", true) == 0 {
			f.wrote(key, false)
			f.seen(key, true)
			written = append(written, c.Now())
		}
	}
	return written
}

func TestTheLadder(t *testing.T) {
	t.Parallel()
	const ms, s, minute = time.Millisecond, time.Second, time.Minute
	for name, tc := range map[string]struct {
		every, lasting time.Duration
		want           int // writes
		fought         bool
	}{
		"one is no beginning":                               {every: ms, lasting: ms, want: 1},
		"two within a minute are the beginning of a fight":  {every: 59 * s, lasting: 118 * s, want: 2},
		"five within a minute are repaired at once":         {every: ms, lasting: 5 * ms, want: 5},
		"a sixth is a fight, and waits":                     {every: ms, lasting: 6 * ms, want: 5, fought: true},
		"a slow sixth is a fight, and waits for nothing":    {every: 5 * s, lasting: 30 * s, want: 6, fought: true},
		"five a minute for ever are no fight":               {every: 12 * s, lasting: 10 * minute, want: 50},
		"six a minute are one, and each is repaired":        {every: 10 * s, lasting: 10 * minute, want: 60, fought: true},
		"a loop is repaired every 1.8 s":                    {every: 10 * ms, lasting: 10 * minute, want: 5 + 333, fought: true},
		"somebody a bit slower than we are is as well":      {every: 1900 * ms, lasting: 19 * s, want: 10, fought: true},
		"two a second are repaired every 2 s, the next one": {every: 500 * ms, lasting: 62 * s, want: 5 + 29, fought: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := 0
			f, c := fightsAt(func() { began++ })
			got := hits(f, c, deny, tc.every, tc.lasting)
			if len(got) != tc.want {
				t.Errorf("%d writes, want %d: %v", len(got), tc.want, got)
			}
			want := standing{repeated: tc.want > 1, fought: tc.fought, manager: "mallory", over: minute}
			if got := f.standing(deny); got != want {
				t.Errorf("it stands %v, want %v", got, want)
			}
			if (began == 1) != tc.fought || began > 1 {
				t.Errorf("%d fights began", began)
			}
			c.SetTime(c.Now().Add(minute))
			if got := f.standing(deny); got != (standing{}) {
				t.Errorf("a quiet minute did not end it: %v", got)
			}
			c.SetTime(c.Now().Add(minute))
			if got := hits(f, c, deny, ms, 6*ms); len(got) != 5 {
				t.Errorf("the next time %d were repaired at once, want 5 again", len(got))
			}
		})
	}
}

// A standby sees what happens to an object, not who does it.
func TestAStandbyJoinsAFightThatNobodyElseLeads(t *testing.T) {
	t.Parallel()
	f, c := fightsAt(func() {})
	f.told(deny, true, true, false)
	for range 100 { // the active replica and the other side are at it
		c.SetTime(c.Now().Add(fightPause))
		f.seen(deny, false)
		if left := f.need(deny, "", false); left != fightPause+standbyDelay {
			t.Fatalf("the standby waits %s, want %s", left, fightPause+standbyDelay)
		}
	}
	if left := f.need(deny, "", true); left != 0 {
		t.Errorf("once elected it waits %s for its first write", left)
	}
	c.SetTime(c.Now().Add(fightPause + standbyDelay))
	if left := f.need(deny, "", false); left != 0 {
		t.Errorf("nobody is at it any more, and the standby waits %s", left)
	}
}

// What a standby was only told ends with the telling; what it has seen itself does not.
func TestAStandbyBelievesTheCoverage(t *testing.T) {
	t.Parallel()
	f, c := fightsAt(func() {})
	f.told(deny, true, false, false)
	if got := f.standing(deny); !got.repeated || got.fought {
		t.Errorf("a second copy is recorded, and it stands %v", got)
	}
	f.told(deny, false, false, false)
	if got := f.standing(deny); got != (standing{}) {
		t.Errorf("nothing is recorded any more, and it stands %v", got)
	}
	hits(f, c, deny, time.Millisecond, 6*time.Millisecond)
	f.told(deny, false, false, false)
	if got := f.standing(deny); !got.fought {
		t.Error("its own fight is forgotten")
	}
}

// A cache that does not show yet what was written has the same repair asked for twice.
func TestACacheThatIsBehindBeginsNoFight(t *testing.T) {
	t.Parallel()
	f, c := fightsAt(func() {})
	for i := range 3 * fightRepairs {
		f.need(deny, "", true)
		f.wrote(deny, i > 0) // what was written is there already, and the cache does not have it yet
		c.SetTime(c.Now().Add(time.Millisecond))
	}
	if got := f.standing(deny); got.repeated || got.fought {
		t.Errorf("it stands %v", got)
	}
}

// What such a cache asks for after the very first write, which is no repair, is not the first repair either.
func TestACacheThatIsBehindTheFirstWriteCountsForNothing(t *testing.T) {
	t.Parallel()
	f, c := fightsAt(func() {})
	for range fightRepairs {
		f.need(deny, "", true)
		f.wrote(deny, true)
		c.SetTime(c.Now().Add(time.Millisecond))
	}
	f.seen(deny, true) // our own
	c.SetTime(c.Now().Add(time.Second))
	hits(f, c, deny, time.Millisecond, time.Millisecond)
	if got := f.standing(deny); got.repeated {
		t.Errorf("after one repair it stands %v", got)
	}
}

// Somebody who is always faster than our writes is in a fight, too.
func TestWhoIsAlwaysFasterFights(t *testing.T) {
	t.Parallel()
	f, c := fightsAt(func() {})
	for range 2 + fightRepairs {
		f.need(deny, "mallory", true)
		f.wrote(deny, true)
		c.SetTime(c.Now().Add(time.Millisecond))
		f.seen(deny, true)
		c.SetTime(c.Now().Add(time.Millisecond))
	}
	if got := f.standing(deny); !got.fought {
		t.Errorf("it stands %v", got)
	}
}

// What was written down is believed by a process that knows nothing itself, and not by the one that knows that it is over.
func TestAFightThatIsOverIsNotResumed(t *testing.T) {
	t.Parallel()
	f, c := fightsAt(func() {})
	hits(f, c, deny, time.Millisecond, 6*time.Millisecond)
	c.SetTime(begin.Add(fightWindow + time.Second))
	f.told(deny, true, true, true)
	if f.standing(deny).fought {
		t.Error("the fight goes on")
	}
	other := objectKey{name: "other"}
	f.told(other, false, true, true)
	if got := f.standing(other); !got.fought || !got.repeated {
		t.Error("what nobody remembers is not resumed")
	}
}

func TestOldFightsAreForgotten(t *testing.T) {
	t.Parallel()
	f, c := fightsAt(func() {})
	for i := range 1000 {
		key := objectKey{name: strconv.Itoa(i)}
		c.SetTime(begin.Add(time.Duration(i) * time.Second))
		hits(f, c, key, time.Millisecond, 6*time.Millisecond)
		if n, most := len(f.objects), int(3*fightWindow/time.Second); n > most {
			t.Fatalf("%d objects are remembered, want those of three minutes at most", n)
		}
	}
	for key, o := range f.objects {
		if cap(o.writes) > 2*fightRepairs {
			t.Errorf("%s: room for %d writes", key.name, cap(o.writes))
		}
	}
}

// Namespaces that come and go leave nothing behind, however they were at their end.
func TestAGoneNamespaceIsForgotten(t *testing.T) {
	t.Parallel()
	r := &NamespaceReconciler{Store: NewStore(), fights: newFights(clock.RealClock{}, func() {})}
	other := objectKey{deny.resource, "ledger", deny.name}
	for _, object := range []objectKey{deny, other} {
		r.fights.need(object, "mallory", true)
		r.authored.Store(object, author{"pci", 1, "shop", "1", "7"})
		r.Store.Born(object.namespace, begin)
		r.Store.Expect(object.namespace)
		r.Store.Set(object.namespace, "pci", Record{Generation: 1})
	}
	r.forget(deny.namespace)
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

// The deny of every API has the same name in a namespace.
func TestObjectsOfTwoAPIsAreTwo(t *testing.T) {
	t.Parallel()
	object := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: deny.namespace, Name: deny.name}}
	ours, cilium := &kind{resource: deny.resource}, &kind{resource: "ciliumnetworkpolicies.cilium.io"}
	if ours.key(object) != deny || cilium.key(object) == deny {
		t.Errorf("they are %v and %v", ours.key(object), cilium.key(object))
	}
}

// What was never in place is not repaired when it is written at last; what was is, also if that could not be recorded as such.
func TestOnlyWhatWasInPlaceIsRepaired(t *testing.T) {
	t.Parallel()
	type recorded = pcinetv1alpha1.CoveragePolicy
	for name, tc := range map[string]struct {
		recorded   recorded
		generation int64 // of the baseline, later than the coverage's
		needed     time.Duration
		want       bool
	}{
		"in no coverage":                       {recorded: recorded{Name: "another"}},
		"it could not be written until now":    {recorded: recorded{Name: deny.name, State: pcinetv1alpha1.PolicyMissing}},
		"it was in place":                      {recorded: recorded{Name: deny.name, State: pcinetv1alpha1.PolicyInPlace, UID: "1"}, want: true},
		"it was in place, for an earlier spec": {recorded: recorded{Name: deny.name, State: pcinetv1alpha1.PolicyInPlace, UID: "1"}, generation: 1},
		"it failed, for an earlier spec":       {recorded: recorded{Name: deny.name, State: pcinetv1alpha1.PolicyMissing}, generation: 1, needed: time.Second},
		"it is contested, and away":            {recorded: recorded{Name: deny.name, State: pcinetv1alpha1.PolicyContested}, want: true},
		"its repair failed, and was recorded":  {recorded: recorded{Name: deny.name, State: pcinetv1alpha1.PolicyMissing}, needed: time.Second, want: true},
		"that was long ago":                    {recorded: recorded{Name: deny.name, State: pcinetv1alpha1.PolicyMissing}, needed: fightWindow},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, c := fightsAt(func() {})
			if tc.needed > 0 {
				f.need(deny, "", true)
				c.SetTime(begin.Add(tc.needed))
			}
			r := &NamespaceReconciler{Store: NewStore(), fights: f}
			s := &scope{baseline: longest.DeepCopy(), previous: &pcinetv1alpha1.NamespaceCoverage{}}
			s.namespace.Name = deny.namespace
			s.previous.Status.BaselineGeneration = s.baseline.Generation
			s.baseline.Generation += tc.generation
			tc.recorded.Resource = deny.resource
			s.previous.Status.Policies = []recorded{tc.recorded}
			w := &wantedPolicy{api: &policyAPI{kind: kind{resource: deny.resource}, Backend: core.Backend{}}, state: pcinetv1alpha1.PolicyMissing}
			w.intended = &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: deny.namespace, Name: deny.name}}
			if got := r.again(s, w); got != tc.want {
				t.Errorf("it is repaired: %t, want %t", got, tc.want)
			}
		})
	}
}

func TestAPolicyIsFoughtOverOnlyWhereItIsRepaired(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*scope)
		want   bool
	}{
		"a policy that is enforced": {change: func(*scope) {}, want: true},
		"under break-glass":         {change: func(s *scope) { s.glass.InForce = true }},
		"under Audit":               {change: func(s *scope) { s.baseline.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit }},
		"while nothing is written":  {change: func(s *scope) { s.backend.paused = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &NamespaceReconciler{Store: NewStore(), fights: newFights(clock.RealClock{}, func() {})}
			api := &policyAPI{kind: kind{resource: deny.resource}, Backend: core.Backend{}}
			intended := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: deny.namespace, Name: deny.name}}
			s := &scope{now: begin, baseline: longest.DeepCopy(), backend: backendChoice{api: api}, previous: &pcinetv1alpha1.NamespaceCoverage{}}
			s.previous.Status.BaselineGeneration = s.baseline.Generation
			s.previous.Status.Policies = []pcinetv1alpha1.CoveragePolicy{
				{Name: deny.name, Resource: deny.resource, UID: "1", State: pcinetv1alpha1.PolicyContested},
			}
			tc.change(s)
			w := &wantedPolicy{api: api, intended: intended, state: pcinetv1alpha1.PolicyMissing}
			r.contend(s, w)
			if got := w.contested != ""; got != tc.want {
				t.Errorf("it is fought over: %t, want %t", got, tc.want)
			}
		})
	}
}
