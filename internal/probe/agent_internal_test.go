// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe

import "testing"

func TestOutcomeOfManyDials(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dials string
		want  Outcome
	}{
		"the last three count":                    {"AAASSS", Silent},
		"two are too few":                         {"AA", Sometimes},
		"an answer among the last is an answer":   {"SSSSAS", Sometimes},
		"an answer long ago is none":              {"ASSRSR", Unstable},
		"silence and refusals taking turns":       {"SRSRSR", Unstable},
		"nobody dialled, so nothing is known":     {"", Unstable},
		"somebody else has answered in between":   {"SSWSSW", Unstable},
		"somebody else has answered all the time": {"WWW", Wrong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := history(c.dials).outcome(); got != c.want {
				t.Errorf("%s is %q, want %q", c.dials, string(got), string(c.want))
			}
		})
	}
}
