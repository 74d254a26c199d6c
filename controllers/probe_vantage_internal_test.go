// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
)

// What was proven of ingress is forgotten if it was not seen from the vantage that is declared, and for nothing else: of two
// baselines the one that has it may not cover the canaries for a while.
func TestProofsOutliveAVantageThatIsNotAskedForForAWhile(t *testing.T) {
	t.Parallel()
	const a, b, none = "203.0.113.1", "203.0.113.2", ""
	ingress := []probe.Result{{
		Check: probe.Check{Cell: probe.Cell{Node: "n", Direction: policy.Ingress}}, Verdict: probe.Proven,
	}}
	tests := map[string]struct {
		// before is the vantage of the round that proves it, looks are those that are declared at the looks after it; rounds has
		// each look judge one.
		before string
		looks  []string
		rounds bool
		forgot bool
	}{
		"the same one":                               {before: a, looks: []string{a, a}},
		"there is none":                              {before: none, looks: []string{none, none}},
		"it is declared":                             {before: none, looks: []string{a}, forgot: true},
		"another one is declared":                    {before: a, looks: []string{b}, forgot: true},
		"it is taken away":                           {before: a, looks: []string{none}},
		"it is not asked for, and then is":           {before: a, looks: []string{none, none, a}},
		"it is not asked for, and then another one":  {before: a, looks: []string{none, b}, forgot: true},
		"it is asked for after a round without":      {before: a, looks: []string{none, a}, rounds: true, forgot: true},
		"a round with it was proven after it all":    {before: none, looks: []string{a, a}, rounds: true, forgot: true},
		"it is not asked for, and a round is as was": {before: a, looks: []string{a, a}, rounds: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &ProbeReconciler{Proofs: NewProofs()}
			look := func(vantage string) *probeScope {
				c := covering{PCINetworkBaseline: &pcinetv1alpha1.PCINetworkBaseline{}}
				c.Spec.Verification.Vantage.Address, c.Spec.Verification.Vantage.Port = vantage, 24310
				s := &probeScope{now: today, covering: []covering{c}}
				r.demand(s)
				if r.run != nil && r.run.Vantage != s.sample().Vantage {
					t.Error("a run goes on that was asked for less or more")
				}
				return s
			}
			judge := func(s *probeScope) {
				r.run = &run{Sample: s.sample()}
				r.note(ingress, nil, today)
			}
			judge(look(test.before))
			var forgot bool
			for _, vantage := range test.looks {
				s := look(vantage)
				forgot = forgot || r.Proofs.records["n"].Proven[policy.Ingress].IsZero()
				if test.rounds {
					judge(s)
				}
			}
			if forgot != test.forgot {
				t.Errorf("forgotten: %t, want %t", forgot, test.forgot)
			}
		})
	}
}
