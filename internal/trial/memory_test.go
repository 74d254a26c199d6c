// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package trial_test

import (
	"reflect"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
)

var (
	// limit is for how long a dead man bears silence.
	limit = 5 * time.Minute
	noon  = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	one   = metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
)

func closing(ports []int32, allowed ...string) policy.HostFirewall {
	return policy.HostFirewall{Ports: ports, Allowed: ranges(allowed...)}
}

// again is what the next process remembers.
func again(m trial.Memory) trial.Memory {
	return trial.ReadMemory(m.Texts())
}

// moment is what is remembered, the live policy, nil for none, and what is wanted, while everybody answers.
type moment struct {
	memory trial.Memory
	live   *policy.HostFirewall
	wanted policy.HostFirewall
}

// seen is what is seen of it when somebody left a token.
func (at moment) seen(token string, now time.Time) (trial.Seen, policy.HostFirewall) {
	intended := at.memory.Intended(at.wanted, at.live)
	out := trial.Seen{Stage: at.memory.Resumed(intended, limit, now), Fit: trial.Fits, Armed: true, For: trial.Enough}
	if at.live != nil {
		out.Stage = trial.StageOf(at.live, intended, one, at.memory.Kept)
	}
	return at.memory.See(out, intended, token, now), intended
}

// expect checks the next step, and returns what is intended.
func expect(t *testing.T, what string, want trial.Act, at moment) policy.HostFirewall {
	t.Helper()
	now, intended := at.seen("", noon)
	if got := trial.Next(now); got != want {
		t.Errorf("%s: %s of %+v, want %s", what, got, now, want)
	}
	return intended
}

func TestMemoryLasts(t *testing.T) {
	a, b := closing([]int32{6443}, "10.0.0.0/8", "2001:db8::/32"), closing([]int32{6443, 10250}, "10.0.0.0/9")
	m := trial.Memory{}.Succeeded(a).Begin(b, trial.Earlier, noon).Failed(b, `n1 "did not answer"`, true).Renew(trial.OneNode, noon)
	if got := again(m); !reflect.DeepEqual(got, m) || got.Kept == nil || got.Tried == nil || got.Renewed == nil {
		t.Errorf("%+v, want %+v", got, m)
	}
	for _, text := range []string{"", "kept", "{"} {
		if got := trial.ReadMemory(text, text, text); !reflect.DeepEqual(got, trial.Memory{}) {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

// A list that was kept stands until another one is, whatever becomes of that one, and whichever process sees it.
func TestAnotherList(t *testing.T) {
	ports := []int32{6443, 10250}
	a, b, c := closing(ports, "10.0.0.0/8"), closing(ports, "10.0.0.0/9"), closing(ports, "10.0.0.0/7")
	m := again(trial.Memory{}.Succeeded(a))
	expect(t, "kept", trial.Hold, moment{m, &a, a})
	expect(t, "another list is wanted", trial.Try, moment{m, &a, b})

	m = again(m.Begin(b, trial.Earlier, noon))
	expect(t, "the process ended before the policy was written", trial.Wait, moment{m, &a, b})
	expect(t, "and the earlier one is wanted again", trial.Hold, moment{m, &a, a})
	onOne := b
	onOne.Nodes = one
	expect(t, "on the trial's node, and nobody has confirmed it", trial.Hold, moment{m, &onOne, b})
	expect(t, "a third one is wanted in the trial", trial.TakeBack, moment{m, &onOne, c})
	expect(t, "the earlier one is wanted in the trial", trial.Restore, moment{m, &onOne, a})
	expect(t, "on all nodes", trial.Keep, moment{m, &b, b})

	m = again(m.Failed(b, "n1 did not answer", true))
	expect(t, "it failed, and the earlier one was put back", trial.Wait, moment{m, &a, b})
	expect(t, "a third one is wanted then", trial.Try, moment{m, &a, c})
	kept, _, _ := m.Texts()
	expect(t, "a person has it tried again", trial.Try, moment{trial.ReadMemory(kept, "", ""), &a, b})
	expect(t, "everything is forgotten", trial.TakeBack, moment{trial.Memory{}, &a, b})

	if m = again(m.Begin(b, trial.Absent, noon)); m.Kept != nil {
		t.Error("what somebody deleted is put back")
	}
	if m = (trial.Memory{}).Succeeded(a).Failed(b, "", false); m.Kept != nil {
		t.Error("what was not put back counts as kept")
	}
}

// A port that was closed stays closed while nobody is seen behind it, one that failed is not closed again, and another one is tried without a person.
func TestPorts(t *testing.T) {
	few, more := []int32{10250}, []int32{6443, 10250}
	a, aMore := closing(few, "10.0.0.0/8"), closing(more, "10.0.0.0/8")
	expect(t, "nobody is seen behind one that is closed", trial.Hold, moment{trial.Memory{}.Succeeded(aMore), &aMore, a})

	m := again(trial.Memory{}.Succeeded(a))
	expect(t, "another port is wanted", trial.Widen, moment{m, &a, aMore})
	m = again(m.Begin(aMore, trial.FewerPorts, noon))
	expect(t, "the process ended before the policy was written", trial.Wait, moment{m, &a, aMore})
	if got := expect(t, "and it is not wanted any more", trial.Hold, moment{m, &a, a}); len(got.Ports) != 1 {
		t.Errorf("it is closed: %v", got.Ports)
	}
	if got := expect(t, "it is closed, and watched, and for a moment not wanted", trial.Keep, moment{m, &aMore, a}); len(got.Ports) != 2 {
		t.Errorf("it is opened: %v", got.Ports)
	}
	m = again(m.Failed(aMore, "n1 did not answer", true))
	expect(t, "it failed", trial.Wait, moment{m, &a, aMore})
	expect(t, "it failed, and is not wanted any more", trial.Hold, moment{m, &a, a})
	expect(t, "and what was kept is deleted", trial.Try, moment{m, nil, a})

	onOne := a
	onOne.Nodes = one
	m = trial.Memory{}.Begin(a, trial.Absent, noon)
	expect(t, "another port is seen in the trial", trial.TakeBack, moment{m, &onOne, aMore})
	expect(t, "and all of it is tried again", trial.Try, moment{m, nil, aMore})
}

// Who ends once the policy is deleted to be made anew is followed by one who makes it, and not told as taken back; for a moment alone, and only as far as
// it was.
func TestRenewal(t *testing.T) {
	ports := []int32{6443, 10250}
	a, b, c := closing(ports, "10.0.0.0/8"), closing(ports, "10.0.0.0/9"), closing(ports, "10.0.0.0/7")
	onOne := b
	onOne.Nodes = one
	first := trial.Memory{}.Begin(b, trial.Absent, noon.Add(-time.Minute))
	stood := trial.Memory{}.Succeeded(a)
	second := stood.Begin(b, trial.Earlier, noon.Add(-time.Minute))
	for name, tc := range map[string]struct {
		memory trial.Memory
		from   trial.Stage
		wanted policy.HostFirewall
		want   trial.Stage
		act    trial.Act
	}{
		"from the trial to all nodes":                         {first, trial.OneNode, b, trial.OneNode, trial.Hold},
		"the same, and another list is wanted meanwhile":      {first, trial.OneNode, c, trial.Absent, trial.Try},
		"the same, and what was kept can be put back":         {second, trial.OneNode, c, trial.Strange, trial.TakeBack},
		"from what was kept to the trial of another":          {second, trial.Earlier, b, trial.Strange, trial.TakeBack},
		"from a trial that failed to what was kept":           {second, trial.Strange, b, trial.Strange, trial.TakeBack},
		"from what somebody made of what is kept":             {stood, trial.Strange, a, trial.Strange, trial.Restore},
		"from what is kept, and somebody narrowed":            {stood, trial.OneNode, a, trial.Strange, trial.Restore},
		"from the trial of another list, and nothing is kept": {first, trial.Strange, b, trial.Absent, trial.Wait},
	} {
		m := again(tc.memory.Renew(tc.from, noon))
		got, _ := (moment{m, nil, tc.wanted}).seen("", noon)
		if act := trial.Next(got); got.Stage != tc.want || act != tc.act {
			t.Errorf("%s: %s, %s, want %s, %s", name, got.Stage, act, tc.want, tc.act)
		}
	}

	m := again(first.Renew(trial.OneNode, noon))
	for name, tc := range map[string]struct {
		limit, age time.Duration
		want       trial.Stage
	}{
		"almost too late":                    {limit, time.Minute - time.Second, trial.OneNode},
		"too late":                           {limit, time.Minute, trial.Absent},
		"the dead man may have done it":      {30 * time.Second, 30 * time.Second, trial.Absent},
		"it is not known what he would have": {0, 0, trial.Absent},
		"of a clock that is ahead":           {limit, -time.Second, trial.Absent},
	} {
		if got := m.Resumed(b, tc.limit, noon.Add(tc.age)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	for name, m := range map[string]trial.Memory{
		"tried": m.Begin(b, trial.Earlier, noon), "failed": m.Failed(b, "x", true), "kept": m.Succeeded(b), "without a note": first,
	} {
		if m.Renewed != nil || m.Resumed(b, limit, noon) != trial.Absent {
			t.Errorf("%s: a note is left: %+v", name, m.Renewed)
		}
	}
	expect(t, "the policy is there again", trial.Hold, moment{m, &onOne, b})
}

// What was kept stands until another list is tried in its place, and again once that is over.
func TestStands(t *testing.T) {
	a, b := closing([]int32{6443}, "10.0.0.0/8"), closing([]int32{6443}, "10.0.0.0/9")
	stood := trial.Memory{}.Succeeded(a)
	second := stood.Begin(b, trial.Earlier, noon)
	for name, tc := range map[string]struct {
		memory trial.Memory
		want   bool
	}{
		"nothing": {trial.Memory{}, false}, "kept": {stood, true}, "another is tried": {second, false}, "the first is tried": {trial.Memory{}.Begin(a, trial.Absent, noon), false},
		"another failed": {second.Failed(b, "x", true), true}, "both are gone": {second.Failed(b, "x", false), false}, "it is over": {second.Over(), true},
		"over, and nothing was kept": {trial.Memory{}.Begin(a, trial.Absent, noon).Over(), false}, "nothing to be over": {stood.Over(), true},
	} {
		if got := again(tc.memory).Stands(); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if second.Tried.Why != "" {
		t.Error("what is over was changed in place")
	}
}

// A person's word is for one try, and only a list that may shut somebody out wants it.
func TestConfirmed(t *testing.T) {
	ports := []int32{6443, 10250}
	a := closing(ports, "10.0.0.0/9", "192.0.2.0/24")
	stood := trial.Memory{}.Succeeded(a)
	for name, tc := range map[string]struct {
		before trial.Memory
		from   trial.Stage
		wanted policy.HostFirewall
		want   bool
	}{
		"nothing stood before":     {trial.Memory{}, trial.Absent, a, false},
		"wider":                    {stood, trial.Earlier, closing(ports, "10.0.0.0/8", "192.0.2.0/25", "192.0.2.128/25"), true},
		"a range is gone":          {stood, trial.Earlier, closing(ports, "10.0.0.0/8"), false},
		"half of it is gone":       {stood, trial.Earlier, closing(ports, "10.0.0.0/8", "192.0.2.0/25"), false},
		"another port":             {stood, trial.Earlier, closing([]int32{443, 6443}, "10.0.0.0/8", "192.0.2.0/24"), false},
		"kept before, and deleted": {stood, trial.Absent, a, true},
	} {
		m := again(tc.before.Begin(tc.wanted, tc.from, noon))
		onOne := tc.wanted
		onOne.Nodes = one
		if got, _ := (moment{m, &onOne, tc.wanted}).seen("", noon); got.Confirmed != tc.want || got.Late {
			t.Errorf("%s: %+v", name, got)
		}
		if got, _ := (moment{m, &onOne, tc.wanted}).seen(m.Token(), noon); !got.Confirmed {
			t.Errorf("%s: a person's word is nothing: %+v", name, got)
		}
		if got, _ := (moment{m, &onOne, tc.wanted}).seen(tc.before.Begin(tc.wanted, tc.from, noon.Add(time.Minute)).Token(), noon); got.Confirmed != tc.want {
			t.Errorf("%s: a word for another try counts: %+v", name, got)
		}
		if got, _ := (moment{m, &onOne, tc.wanted}).seen("", noon.Add(trial.Confirm)); !got.Late {
			t.Errorf("%s: after all that time: %+v", name, got)
		}
	}
	onOne := a
	onOne.Nodes = one
	if got, _ := (moment{trial.Memory{}, &onOne, a}).seen("", noon); got.Confirmed || !got.Late {
		t.Errorf("a trial of which nothing is remembered: %+v", got)
	}
}
