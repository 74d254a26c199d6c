// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package trial_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
)

func ranges(list ...string) (out []netip.Prefix) {
	for _, r := range list {
		out = append(out, netip.MustParsePrefix(r))
	}
	return out
}

func TestStageOf(t *testing.T) {
	one := metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	none := metav1.LabelSelector{MatchLabels: map[string]string{"a": "c"}}
	list, other := ranges("10.0.0.0/8"), ranges("10.0.0.0/9")
	ports, more, less := []int32{6443, 10250}, []int32{2379, 6443, 10250}, []int32{10250}
	kept, tried := trial.Note{Outcome: trial.Kept}, trial.Note{Outcome: trial.Tried}
	for name, tc := range map[string]struct {
		live *policy.HostFirewall
		note trial.Note // of the live list
		want trial.Stage
	}{
		"not ours":                          {nil, kept, trial.Strange},
		"on all":                            {&policy.HostFirewall{Ports: ports, Allowed: list}, tried, trial.AllNodes},
		"on all, with a port of before":     {&policy.HostFirewall{Ports: more, Allowed: list}, trial.Note{Outcome: trial.Kept, Ports: more}, trial.AllNodes},
		"on all, with a port of somebody's": {&policy.HostFirewall{Ports: more, Allowed: list}, trial.Note{Outcome: trial.Kept, Ports: ports}, trial.Earlier},
		"on all, with a port less":          {&policy.HostFirewall{Ports: less, Allowed: list}, kept, trial.Earlier},
		"on all, a kept list":               {&policy.HostFirewall{Ports: ports, Allowed: other}, kept, trial.Earlier},
		"on all, a list that was not kept":  {&policy.HostFirewall{Ports: ports, Allowed: other}, tried, trial.Strange},
		"on all, a list of nobody's":        {&policy.HostFirewall{Ports: ports, Allowed: other}, trial.Note{}, trial.Strange},
		"on one":                            {&policy.HostFirewall{Nodes: one, Ports: ports, Allowed: list}, tried, trial.OneNode},
		"on other nodes":                    {&policy.HostFirewall{Nodes: none, Ports: ports, Allowed: list}, kept, trial.Strange},
		"on one, another list":              {&policy.HostFirewall{Nodes: one, Ports: ports, Allowed: other}, kept, trial.Strange},
		"on one, with a port less":          {&policy.HostFirewall{Nodes: one, Ports: less, Allowed: list}, tried, trial.Strange},
		"on all, for the list and others":   {&policy.HostFirewall{Ports: ports, Allowed: ranges("10.0.0.0/8", "192.0.2.0/24")}, kept, trial.Earlier},
	} {
		if got := trial.StageOf(tc.live, policy.HostFirewall{Ports: ports, Allowed: list}, one, tc.note); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestNext(t *testing.T) {
	const long, short = trial.Enough, trial.Enough - time.Second
	tried, kept := trial.Note{Outcome: trial.Tried}, trial.Note{Outcome: trial.Kept}
	for name, tc := range map[string]struct {
		seen trial.Seen
		want trial.Act
	}{
		"nothing is there":                       {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Armed: true}, trial.Try},
		"nobody would take it back":              {trial.Seen{Stage: trial.Absent, Fit: trial.Fits}, trial.Wait},
		"the list is refused":                    {trial.Seen{Stage: trial.Absent, Fit: trial.Misfits, Armed: true}, trial.Wait},
		"not everything is known":                {trial.Seen{Stage: trial.Absent, Fit: trial.Unknown, Armed: true}, trial.Wait},
		"somebody does not answer beforehand":    {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Armed: true, Contact: "x"}, trial.Wait},
		"it was taken back":                      {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Armed: true, Note: tried}, trial.Wait},
		"it was kept, and is gone":               {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Armed: true, Note: kept}, trial.Try},
		"an earlier list":                        {trial.Seen{Stage: trial.Earlier, Fit: trial.Fits, Armed: true}, trial.Try},
		"an earlier list, the new one refused":   {trial.Seen{Stage: trial.Earlier, Fit: trial.Misfits, Armed: true}, trial.Wait},
		"an earlier list, nobody to take back":   {trial.Seen{Stage: trial.Earlier, Fit: trial.Fits}, trial.Wait},
		"on one node, for a moment":              {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Note: tried, For: short}, trial.Hold},
		"on one node, long enough":               {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Note: tried, For: long, Confirmed: true}, trial.Widen},
		"on one node, confirmed at once":         {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Note: tried, For: short, Confirmed: true}, trial.Hold},
		"on one node, not confirmed":             {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Note: tried, For: long, AtStage: trial.Confirm - time.Second}, trial.Hold},
		"on one node, never confirmed":           {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Note: tried, For: short, AtStage: trial.Confirm}, trial.TakeBack},
		"on one node, confirmed in the end":      {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Note: tried, For: long, AtStage: trial.Confirm, Confirmed: true}, trial.Widen},
		"on all nodes, no longer confirmed":      {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Note: tried, For: long, AtStage: trial.Confirm}, trial.Keep},
		"on one node, after a start":             {trial.Seen{Stage: trial.OneNode, Fit: trial.Unknown, Armed: true, Note: tried}, trial.Hold},
		"on one node, somebody does not answer":  {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Note: tried, For: long, Contact: "x"}, trial.TakeBack},
		"on one node, the dead man is away":      {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Note: tried, For: long}, trial.TakeBack},
		"on one node, with the dead man awaited": {trial.Seen{Stage: trial.OneNode, Fit: trial.Unknown, Awaited: true, Note: tried}, trial.Hold},
		"nothing, with the dead man awaited":     {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Awaited: true}, trial.Wait},
		"on one node, now refused":               {trial.Seen{Stage: trial.OneNode, Fit: trial.Misfits, Armed: true, Note: tried, For: long}, trial.TakeBack},
		"on all nodes, for a moment":             {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Note: tried, For: short}, trial.Hold},
		"on all nodes, long enough":              {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Note: tried, For: long}, trial.Keep},
		"on all nodes, somebody does not answer": {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Note: tried, Contact: "x"}, trial.TakeBack},
		"on all nodes, the dead man is away":     {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Note: tried, For: long}, trial.TakeBack},
		"on all nodes, without a note":           {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Contact: "x"}, trial.TakeBack},
		"kept":                                   {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Note: kept, For: long}, trial.Hold},
		"kept, a node breaks down":               {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Note: kept, Contact: "x"}, trial.Hold},
		"kept, the dead man is away":             {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Note: kept}, trial.Hold},
		"kept, now refused":                      {trial.Seen{Stage: trial.AllNodes, Fit: trial.Misfits, Armed: true, Note: kept}, trial.Hold},
		"kept, and changed by somebody":          {trial.Seen{Stage: trial.Strange, Fit: trial.Fits, Armed: true, Note: kept}, trial.Restore},
		"kept, with another port to close":       {trial.Seen{Stage: trial.Earlier, Fit: trial.Fits, Armed: true, Note: kept}, trial.Widen},
		"kept, changed, and a node is broken":    {trial.Seen{Stage: trial.Strange, Fit: trial.Unknown, Contact: "x", Note: kept}, trial.Restore},
		"kept, and narrowed to the trial's":      {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Contact: "x", Note: kept}, trial.Restore},
		"an earlier list, the new one ended us":  {trial.Seen{Stage: trial.Earlier, Fit: trial.Fits, Armed: true, Note: tried}, trial.Wait},
		"a new list that is to mend an earlier":  {trial.Seen{Stage: trial.Earlier, Fit: trial.Fits, Armed: true, Contact: "x"}, trial.Try},
		"the trial of another list":              {trial.Seen{Stage: trial.Strange, Fit: trial.Fits, Armed: true}, trial.TakeBack},
	} {
		if got := trial.Next(tc.seen); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

// A note holds for its list alone.
func TestNote(t *testing.T) {
	list, other := ranges("10.0.0.0/8", "2001:db8::/32"), ranges("10.0.0.0/8")
	n := trial.NewNote(policy.HostFirewall{Allowed: list, Ports: []int32{6443}}, trial.Tried, `n1 "did not answer"`)
	if got := trial.ReadNote(n.String(), list); !reflect.DeepEqual(got, n) {
		t.Errorf("%+v, want %+v", got, n)
	}
	for name, text := range map[string]string{"of another list": trial.NewNote(policy.HostFirewall{Allowed: other}, trial.Tried, "").String(), "none": "", "not ours": "kept"} {
		if got := trial.ReadNote(text, list); !reflect.DeepEqual(got, trial.Note{}) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Between the note that a list is tried and the policy that does it, a process may end, or the API server refuse: the list that was kept before
// stays. It may be another one, or the same with fewer ports.
func TestNoteBeforeThePolicy(t *testing.T) {
	one := metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	old := policy.HostFirewall{Ports: []int32{10250}, Allowed: ranges("10.0.0.0/9")}
	for name, wanted := range map[string]policy.HostFirewall{
		"another list": {Ports: []int32{10250}, Allowed: ranges("10.0.0.0/8")},
		"another port": {Ports: []int32{6443, 10250}, Allowed: old.Allowed},
	} {
		text := trial.NewNote(wanted, trial.Tried, "").After(trial.StandingOf(old)).String()
		seen := trial.Seen{
			Stage: trial.StageOf(&old, wanted, one, trial.ReadNote(text, old.Allowed)), Fit: trial.Fits, Armed: true,
			Note: trial.ReadNote(text, wanted.Allowed),
		}
		if seen.Stage != trial.Earlier || trial.Next(seen) != trial.Wait {
			t.Errorf("%s: %s, %s", name, seen.Stage, trial.Next(seen))
		}
		forgotten := trial.NewNote(wanted, trial.Tried, "").String() // as when none was kept before
		if got := trial.StageOf(&old, wanted, one, trial.ReadNote(forgotten, old.Allowed)); got != trial.Strange {
			t.Errorf("%s, with none kept before: %s", name, got)
		}
	}
}

// What was kept before is what another list is tried in place of, and what comes back, whatever list is wanted by then.
func TestNoteOfAnotherList(t *testing.T) {
	before := trial.StandingOf(policy.HostFirewall{Ports: []int32{10250}, Allowed: ranges("10.0.0.0/9")})
	text := trial.NewNote(policy.HostFirewall{Allowed: ranges("10.0.0.0/8")}, trial.Tried, "").After(before).String()
	if got, want := trial.ReadNote(text, ranges("192.0.2.0/24")), (trial.Note{Before: before}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestWithin(t *testing.T) {
	before := trial.StandingOf(policy.HostFirewall{Ports: []int32{6443, 10250}, Allowed: ranges("10.0.0.0/9", "192.0.2.0/24")})
	for name, tc := range map[string]struct {
		before *trial.Standing
		f      policy.HostFirewall
		want   bool
	}{
		"wider":                {before, policy.HostFirewall{Ports: []int32{6443}, Allowed: ranges("10.0.0.0/8", "192.0.2.0/25", "192.0.2.128/25")}, true},
		"the same":             {before, policy.HostFirewall{Ports: before.Ports, Allowed: before.Allowed}, true},
		"a range is gone":      {before, policy.HostFirewall{Ports: []int32{6443}, Allowed: ranges("10.0.0.0/8")}, false},
		"half of it is gone":   {before, policy.HostFirewall{Ports: []int32{6443}, Allowed: ranges("10.0.0.0/8", "192.0.2.0/25")}, false},
		"another port":         {before, policy.HostFirewall{Ports: []int32{443, 6443}, Allowed: before.Allowed}, false},
		"nothing stood before": {nil, policy.HostFirewall{Allowed: before.Allowed}, false},
	} {
		if got := tc.before.Within(tc.f); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
