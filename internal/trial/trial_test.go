// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package trial_test

import (
	"net/netip"
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
	for name, tc := range map[string]struct {
		live *policy.HostFirewall
		kept *trial.List
		want trial.Stage
	}{
		"not ours":                          {nil, &trial.List{Ports: ports, Allowed: list}, trial.Strange},
		"on all":                            {&policy.HostFirewall{Ports: ports, Allowed: list}, nil, trial.AllNodes},
		"on all, with a port of somebody's": {&policy.HostFirewall{Ports: more, Allowed: list}, &trial.List{Ports: ports, Allowed: list}, trial.Strange},
		"on all, with a port less":          {&policy.HostFirewall{Ports: less, Allowed: list}, &trial.List{Ports: ports, Allowed: list}, trial.Strange},
		"on all, as it was kept":            {&policy.HostFirewall{Ports: less, Allowed: list}, &trial.List{Ports: less, Allowed: list}, trial.FewerPorts},
		"on all, a kept list":               {&policy.HostFirewall{Ports: more, Allowed: other}, &trial.List{Ports: more, Allowed: other}, trial.Earlier},
		"on all, a kept list, changed":      {&policy.HostFirewall{Ports: ports, Allowed: other}, &trial.List{Ports: more, Allowed: other}, trial.Strange},
		"on all, a list that was not kept":  {&policy.HostFirewall{Ports: ports, Allowed: other}, &trial.List{Ports: ports, Allowed: list}, trial.Strange},
		"on all, a list of nobody's":        {&policy.HostFirewall{Ports: ports, Allowed: other}, nil, trial.Strange},
		"on one":                            {&policy.HostFirewall{Nodes: one, Ports: ports, Allowed: list}, nil, trial.OneNode},
		"on other nodes":                    {&policy.HostFirewall{Nodes: none, Ports: ports, Allowed: list}, &trial.List{Ports: ports, Allowed: list}, trial.Strange},
		"on one, another list":              {&policy.HostFirewall{Nodes: one, Ports: ports, Allowed: other}, &trial.List{Ports: ports, Allowed: other}, trial.Strange},
		"on one, with a port less":          {&policy.HostFirewall{Nodes: one, Ports: less, Allowed: list}, nil, trial.Strange},
		"on all, for the list and others":   {&policy.HostFirewall{Ports: ports, Allowed: ranges("10.0.0.0/8", "192.0.2.0/24")}, &trial.List{Ports: ports, Allowed: list}, trial.Strange},
	} {
		if got := trial.StageOf(tc.live, policy.HostFirewall{Ports: ports, Allowed: list}, one, tc.kept); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestNext(t *testing.T) {
	const long, short = trial.Enough, trial.Enough - time.Second
	for name, tc := range map[string]struct {
		seen trial.Seen
		want trial.Act
	}{
		"nothing is there":                       {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Armed: true}, trial.Try},
		"nobody would take it back":              {trial.Seen{Stage: trial.Absent, Fit: trial.Fits}, trial.Wait},
		"the list is refused":                    {trial.Seen{Stage: trial.Absent, Fit: trial.Misfits, Armed: true}, trial.Wait},
		"not everything is known":                {trial.Seen{Stage: trial.Absent, Fit: trial.Unknown, Armed: true}, trial.Wait},
		"somebody does not answer beforehand":    {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Armed: true, Contact: "x"}, trial.Wait},
		"it was taken back":                      {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Armed: true, Tried: true}, trial.Wait},
		"it was kept, and is gone":               {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Armed: true, Kept: true}, trial.Try},
		"an earlier list":                        {trial.Seen{Stage: trial.Earlier, Fit: trial.Fits, Armed: true}, trial.Try},
		"an earlier list, the new one refused":   {trial.Seen{Stage: trial.Earlier, Fit: trial.Misfits, Armed: true}, trial.Wait},
		"an earlier list, nobody to take back":   {trial.Seen{Stage: trial.Earlier, Fit: trial.Fits}, trial.Wait},
		"on one node, for a moment":              {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Tried: true, For: short}, trial.Hold},
		"on one node, long enough":               {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Tried: true, For: long, Confirmed: true}, trial.Widen},
		"on one node, confirmed at once":         {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Tried: true, For: short, Confirmed: true}, trial.Hold},
		"on one node, not confirmed":             {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Tried: true, For: long}, trial.Hold},
		"on one node, never confirmed":           {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Tried: true, For: short, Late: true}, trial.TakeBack},
		"on one node, confirmed in the end":      {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Tried: true, For: long, Late: true, Confirmed: true}, trial.Widen},
		"on all nodes, no longer confirmed":      {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Tried: true, For: long, Late: true}, trial.Keep},
		"on one node, after a start":             {trial.Seen{Stage: trial.OneNode, Fit: trial.Unknown, Armed: true, Tried: true}, trial.Hold},
		"on one node, not everything is known":   {trial.Seen{Stage: trial.OneNode, Fit: trial.Unknown, Armed: true, Tried: true, For: long, Confirmed: true}, trial.Hold},
		"on all nodes, not everything is known":  {trial.Seen{Stage: trial.AllNodes, Fit: trial.Unknown, Armed: true, Tried: true, For: long}, trial.Hold},
		"on one node, somebody does not answer":  {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Armed: true, Tried: true, For: long, Contact: "x"}, trial.TakeBack},
		"on one node, the dead man is away":      {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Tried: true, For: long}, trial.TakeBack},
		"on one node, with the dead man awaited": {trial.Seen{Stage: trial.OneNode, Fit: trial.Unknown, Awaited: true, Tried: true}, trial.Hold},
		"nothing, with the dead man awaited":     {trial.Seen{Stage: trial.Absent, Fit: trial.Fits, Awaited: true}, trial.Wait},
		"on one node, now refused":               {trial.Seen{Stage: trial.OneNode, Fit: trial.Misfits, Armed: true, Tried: true, For: long}, trial.TakeBack},
		"on all nodes, for a moment":             {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Tried: true, For: short}, trial.Hold},
		"on all nodes, long enough":              {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Tried: true, For: long}, trial.Keep},
		"on all nodes, somebody does not answer": {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Tried: true, Contact: "x"}, trial.TakeBack},
		"on all nodes, the dead man is away":     {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Tried: true, For: long}, trial.TakeBack},
		"on all nodes, without a note":           {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Contact: "x"}, trial.TakeBack},
		"kept":                                   {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Kept: true, For: long}, trial.Hold},
		"kept, a node breaks down":               {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Armed: true, Kept: true, Contact: "x"}, trial.Hold},
		"kept, the dead man is away":             {trial.Seen{Stage: trial.AllNodes, Fit: trial.Fits, Kept: true}, trial.Hold},
		"kept, now refused":                      {trial.Seen{Stage: trial.AllNodes, Fit: trial.Misfits, Armed: true, Kept: true}, trial.Hold},
		"kept, and changed by somebody":          {trial.Seen{Stage: trial.Strange, Fit: trial.Fits, Armed: true, Kept: true}, trial.Restore},
		"kept, with another port to close":       {trial.Seen{Stage: trial.FewerPorts, Fit: trial.Fits, Armed: true}, trial.Widen},
		"the same, and nobody to take back":      {trial.Seen{Stage: trial.FewerPorts, Fit: trial.Fits}, trial.Wait},
		"the same, and it was tried":             {trial.Seen{Stage: trial.FewerPorts, Fit: trial.Fits, Armed: true, Tried: true}, trial.Wait},
		"kept, changed, and a node is broken":    {trial.Seen{Stage: trial.Strange, Fit: trial.Unknown, Contact: "x", Kept: true}, trial.Restore},
		"kept, and narrowed to the trial's":      {trial.Seen{Stage: trial.OneNode, Fit: trial.Fits, Contact: "x", Kept: true}, trial.Restore},
		"an earlier list, the new one ended us":  {trial.Seen{Stage: trial.Earlier, Fit: trial.Fits, Armed: true, Tried: true}, trial.Wait},
		"a new list that is to mend an earlier":  {trial.Seen{Stage: trial.Earlier, Fit: trial.Fits, Armed: true, Contact: "x"}, trial.Try},
		"the trial of another list":              {trial.Seen{Stage: trial.Strange, Fit: trial.Fits, Armed: true}, trial.TakeBack},
	} {
		if got := trial.Next(tc.seen); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}
