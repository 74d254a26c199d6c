// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// What is taken to be served and is not can never be read, and a baseline that is to remove its policies would wait for it.
func TestCalicoKindsThatAreServed(t *testing.T) {
	t.Parallel()
	const policies, staged, global = "networkpolicies.projectcalico.org", "stagednetworkpolicies.projectcalico.org", "globalnetworkpolicies.projectcalico.org"
	registered := func(service any) readings {
		return readings{{Kind: snapshot.KindAPIService, Name: "v3.projectcalico.org"}: read(snapshot.Object{Fields: map[string]any{
			"spec": map[string]any{"service": service}, "status": map[string]any{"conditions": []any{map[string]any{"type": "Available", "status": "True"}}},
		}})}
	}
	for name, tc := range map[string]struct {
		kinds    []string
		readings readings
		want     []string
	}{
		"nothing":                             {},
		"definitions of all":                  {[]string{policies, staged, global}, registered(nil), []string{policies, staged, global}},
		"definitions of some":                 {[]string{policies}, registered(nil), []string{policies}},
		"a server of its own, with any store": {nil, registered(map[string]any{"name": "calico-api"}), []string{policies, global}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slices.Sort(tc.kinds)
			apis := engines.Assess(&snapshot.Evidence{Kinds: tc.kinds, Readings: tc.readings}).APIs
			var got []string
			for _, kind := range []string{policies, staged, global} {
				if apis.Serves(kind) {
					got = append(got, kind)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("served (-want +got):\n%s", diff)
			}
		})
	}
}
