// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines_test

import (
	"strings"
	"testing"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestBackendFor(t *testing.T) {
	t.Parallel()
	const none, core, calico, cilium, auto = engines.Backend(""), engines.NetworkPolicy, engines.Calico, engines.Cilium, engines.Auto
	assessed := func(native engines.Backend, apis snapshot.PolicyAPIs, findings ...engines.Finding) engines.Assessment {
		return engines.Assessment{Observed: true, Certain: true, Native: native, Engine: snapshot.Component{Name: "E"}, APIs: apis, Findings: findings}
	}
	calicoUp := snapshot.PolicyAPIs{CalicoServed: true, CalicoAggregated: true, CalicoAvailable: true}
	calicoDown := snapshot.PolicyAPIs{CalicoServed: true, CalicoAggregated: true}
	calicoMoving := snapshot.PolicyAPIs{CalicoServed: true, CalicoAvailable: true, CalicoMigrating: true}
	ciliumUp := snapshot.PolicyAPIs{CiliumServed: true}
	uncertain := assessed(calico, calicoUp)
	uncertain.Certain = false
	off := engines.Finding{Effect: engines.Disables, Backend: cilium, Reason: "CiliumIgnoresCiliumPolicy"}
	everythingOff := engines.Finding{Effect: engines.Disables, Reason: "CiliumAuditMode"}
	cases := map[string]struct {
		asked    engines.Backend
		platform engines.Assessment
		last     engines.Backend
		want     engines.Backend
		refused  string
	}{
		"Auto on a platform that was never certain is the core API":           {asked: auto, want: core},
		"an empty backend is Auto":                                            {platform: assessed(cilium, ciliumUp), want: cilium},
		"Auto takes Calico where v3 answers":                                  {asked: auto, platform: assessed(calico, calicoUp), want: calico},
		"Auto takes the core API where Calico's v3 is not served":             {asked: auto, platform: assessed(calico, snapshot.PolicyAPIs{}), want: core},
		"Auto does not begin with Calico while v3 does not answer":            {asked: auto, platform: assessed(calico, calicoDown), want: core},
		"Auto stays with Calico while v3 does not answer":                     {asked: auto, platform: assessed(calico, calicoDown), last: calico, want: calico},
		"Auto does not begin with Calico during a migration":                  {asked: auto, platform: assessed(calico, calicoMoving), want: core},
		"Auto stays with Calico during a migration":                           {asked: auto, platform: assessed(calico, calicoMoving), last: calico, want: calico},
		"Auto leaves Calico when v3 is gone for certain":                      {asked: auto, platform: assessed(calico, snapshot.PolicyAPIs{}), last: calico, want: core},
		"Auto takes Cilium where it is served":                                {asked: auto, platform: assessed(cilium, ciliumUp), want: cilium},
		"Auto takes the core API where Cilium ignores its own policies":       {asked: auto, platform: assessed(cilium, ciliumUp, off), last: cilium, want: core},
		"what switches every policy off changes no backend":                   {asked: auto, platform: assessed(cilium, ciliumUp, everythingOff), last: cilium, want: cilium},
		"Auto takes the core API where CRDs of Cilium are leftovers":          {asked: auto, platform: assessed("", ciliumUp), want: core},
		"Auto follows a certain change of engine":                             {asked: auto, platform: assessed(cilium, ciliumUp), last: calico, want: cilium},
		"an uncertain platform keeps what is written to":                      {asked: auto, platform: uncertain, last: cilium, want: cilium},
		"NetworkPolicy is always possible":                                    {asked: core, platform: uncertain, last: calico, want: core},
		"Calico where it works":                                               {asked: calico, platform: assessed(calico, calicoUp), last: core, want: calico},
		"Calico without v3 is refused, and what protects stays":               {asked: calico, platform: assessed(calico, snapshot.PolicyAPIs{}), want: core, refused: "BackendNotServed"},
		"Calico with v3 that does not answer is refused at first":             {asked: calico, platform: assessed(calico, calicoDown), want: core, refused: "BackendNotServed"},
		"Calico with v3 that stopped to answer stays":                         {asked: calico, platform: assessed(calico, calicoDown), last: calico, want: calico},
		"Calico during a migration is refused at first":                       {asked: calico, platform: assessed(calico, calicoMoving), last: core, want: core, refused: "CalicoMigrating"},
		"Calico where Cilium enforces is refused":                             {asked: calico, platform: assessed(cilium, ciliumUp), last: cilium, want: cilium, refused: "BackendNotEnforced"},
		"Cilium where its policies are no supported API is refused":           {asked: cilium, platform: assessed("", ciliumUp), want: core, refused: "BackendNotEnforced"},
		"Cilium without its CRDs is refused":                                  {asked: cilium, platform: assessed(cilium, snapshot.PolicyAPIs{}), want: core, refused: "BackendNotServed"},
		"Cilium that ignores its own policies is refused":                     {asked: cilium, platform: assessed(cilium, ciliumUp, off), want: core, refused: "CiliumIgnoresCiliumPolicy"},
		"a native backend on an uncertain platform is refused":                {asked: calico, platform: uncertain, want: core, refused: "PolicyEngineUncertain"},
		"a native backend that is in use survives an uncertain platform":      {asked: calico, platform: uncertain, last: calico, want: calico},
		"a native backend is refused while the platform was not looked at":    {asked: cilium, last: none, want: core, refused: "PolicyEngineUncertain"},
		"another native backend than the one in use waits for certainty, too": {asked: cilium, platform: uncertain, last: calico, want: calico, refused: "PolicyEngineUncertain"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			choice := engines.BackendFor(tc.asked, &tc.platform, tc.last)
			if choice.Backend != tc.want || choice.Reason != tc.refused {
				t.Errorf("backend %s, refused %q (%s); want %s, refused %q", choice.Backend, choice.Reason, choice.Message, tc.want, tc.refused)
			}
			if (choice.Message == "") != (tc.refused == "") || !strings.HasPrefix(choice.Message, "spec.backend") && tc.refused != "" {
				t.Errorf("message %q", choice.Message)
			}
		})
	}
}
