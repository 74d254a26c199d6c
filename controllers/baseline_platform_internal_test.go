// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// scopeWith returns the scope of a baseline with everything in place, on a platform.
func scopeWith(engine engines.Assessment) *baselineScope {
	return &baselineScope{
		baseline: &pcinetv1alpha1.PCINetworkBaseline{
			ObjectMeta: metav1.ObjectMeta{Name: "b", Generation: 1},
			Spec:       pcinetv1alpha1.PCINetworkBaselineSpec{Directions: []pcinetv1alpha1.Direction{"Ingress", "Egress"}},
		},
		backend: writtenToCore, engine: engine, proof: unproven, now: time.Unix(0, 0),
		tally: Tally{States: map[pcinetv1alpha1.CoverageState]int{pcinetv1alpha1.CoverageProtected: 3}},
	}
}

func TestReadyFollowsThePolicyEngine(t *testing.T) {
	t.Parallel()
	finding := func(effect engines.Effect, reason string, backend engines.Backend) engines.Assessment {
		return engines.Assessment{Observed: true, Findings: []engines.Finding{{Effect: effect, Reason: reason, Backend: backend, Message: "m"}}}
	}
	pending := func(s *baselineScope) {
		s.tally.States[pcinetv1alpha1.CoverageFailing] = 1
		s.tally.Offenders = []Offender{{Namespace: "n", Record: Record{State: pcinetv1alpha1.CoverageFailing, Stalled: true, Worst: checks.Finding{Reason: "Forbidden", Message: "f"}}}}
	}
	cases := map[string]struct {
		engine engines.Assessment
		change func(*baselineScope)
		want   map[string]string // "" for absent
	}{
		"an engine that enforces": {
			engine: engines.Assessment{Observed: true},
			want:   map[string]string{"Ready": "True/AllNamespacesProtected", "PolicyEngineSupported": "True/PolicyEngineEnforces", "Stalled": "", "Reconciling": ""},
		},
		"an engine that is off": {
			engine: finding(engines.Disables, "CiliumAuditMode", ""),
			want:   map[string]string{"Ready": "False/CiliumAuditMode", "PolicyEngineSupported": "False/CiliumAuditMode", "Stalled": "True/CiliumAuditMode", "Reconciling": ""},
		},
		"an agent that is not Ready for a while": {
			engine: finding(engines.Disables, "PolicyAgentNotReady", ""),
			want:   map[string]string{"Ready": "False/PolicyAgentNotReady", "Stalled": "", "Reconciling": "True/Progressing"},
		},
		"an engine that is not known": {
			engine: finding(engines.Unsure, "PolicyEngineUnknown", ""),
			want:   map[string]string{"Ready": "True/AllNamespacesProtected", "PolicyEngineSupported": "Unknown/PolicyEngineUnknown", "Stalled": "", "Compliant": "Unknown/RequirementsUnknown"},
		},
		"what concerns another backend does not count": {
			engine: finding(engines.Disables, "CiliumIgnoresCiliumPolicy", engines.Cilium),
			want:   map[string]string{"Ready": "True/AllNamespacesProtected", "PolicyEngineSupported": "True/PolicyEngineEnforces"},
		},
		"a platform that was not looked at": {
			want: map[string]string{"Ready": "True/AllNamespacesProtected", "PolicyEngineSupported": "Unknown/NotObserved"},
		},
		"namespaces that fail come first": {
			engine: finding(engines.Disables, "NoPolicyEngine", ""), change: pending,
			want: map[string]string{"Ready": "False/Forbidden", "PolicyEngineSupported": "False/NoPolicyEngine", "Stalled": "True/Forbidden"},
		},
		"denied packets get through, and namespaces wait": {
			engine: engines.Assessment{Observed: true},
			change: func(s *baselineScope) {
				s.proof = probe.Summary{Status: metav1.ConditionFalse, Reason: "DeniedTrafficPasses", Message: "Look."}
				s.tally.States[pcinetv1alpha1.CoveragePending] = 1
				s.tally.Offenders = []Offender{{Namespace: "n", Record: Record{State: pcinetv1alpha1.CoveragePending, Worst: checks.Finding{Reason: "DNSNotFound"}}}}
			},
			want: map[string]string{"Ready": "False/DeniedTrafficPasses", "EnforcementProven": "False/DeniedTrafficPasses", "Stalled": "", "Compliant": "False/RequirementsNotMet"},
		},
		"Audit stays Audit": {
			engine: finding(engines.Disables, "NoPolicyEngine", ""), change: func(s *baselineScope) { s.baseline.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit },
			want: map[string]string{"Ready": "False/AuditMode", "PolicyEngineSupported": "False/NoPolicyEngine"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scopeWith(tc.engine)
			if tc.change != nil {
				tc.change(s)
			}
			conditions := s.status().Conditions
			for kind, want := range tc.want {
				got := ""
				if c := apimeta.FindStatusCondition(conditions, kind); c != nil {
					got = string(c.Status) + "/" + c.Reason
				}
				if got != want {
					t.Errorf("%s is %q, want %q", kind, got, want)
				}
			}
		})
	}
}

// After a restart the status of the last process stands until namespaces and platform were looked at.
func TestTheLastStatusStandsUntilThePlatformWasLookedAt(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		behind   int
		observed bool
		probed   bool
		declared bool
		looked   bool
		asked    bool
		seen     int64
		held     bool
	}{
		"everything was looked at":               {observed: true, probed: true, seen: 1},
		"the platform was not looked at":         {probed: true, seen: 1, held: true},
		"some namespaces were not looked at":     {behind: 1, observed: true, probed: true, seen: 1, held: true},
		"the canaries' namespace was not looked": {observed: true, seen: 1, held: true},
		"the management was not looked at":       {observed: true, probed: true, declared: true, seen: 1, held: true},
		"the cloud was not asked":                {observed: true, probed: true, declared: true, looked: true, seen: 1, held: true},
		"the cloud was asked":                    {observed: true, probed: true, declared: true, looked: true, asked: true, seen: 1},
		"a new generation is told at once":       {seen: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scopeWith(engines.Assessment{Observed: tc.observed})
			s.admissionKnown, s.proofKnown = true, tc.probed
			s.managementKnown, s.management.complete = tc.looked, tc.asked
			if tc.declared {
				s.baseline.Spec.ManagementEncryption = &pcinetv1alpha1.ManagementEncryption{}
			}
			s.tally.Behind, s.baseline.Status.ObservedGeneration = tc.behind, tc.seen
			if after := (&BaselineReconciler{}).hold(s); (after > 0) != tc.held {
				t.Errorf("held for %s, want held %t", after, tc.held)
			}
		})
	}
}

// Who denies the namespace of an agent cuts off what runs beside it. It is named, and stays in scope: a look-alike must not get
// out of it.
func TestAnAgentsNamespaceThatIsCoveredIsNamed(t *testing.T) {
	t.Parallel()
	spec := func(change func(*pcinetv1alpha1.PCINetworkBaselineSpec)) func(*baselineScope) {
		return func(s *baselineScope) { change(&s.baseline.Spec) }
	}
	exemptUntil := func(end time.Duration) func(*baselineScope) {
		return func(s *baselineScope) {
			s.baseline.Spec.Exemptions = []pcinetv1alpha1.Exemption{{
				Namespaces: []pcinetv1alpha1.NamespaceName{"networking"}, ExpiresAt: metav1.NewTime(s.now.Add(end)),
			}}
		}
	}
	const covers = "Cilium runs in namespace networking, which this baseline covers: add it to spec.namespaces.exclude."
	cases := map[string]struct {
		namespace string
		change    func(*baselineScope)
		want      string
	}{
		"a system namespace":     {namespace: "kube-system"},
		"a namespace of its own": {namespace: "networking", want: covers},
		"excluded by name": {namespace: "networking", change: spec(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
			s.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{"networking"}
		})},
		"another one excluded by name": {namespace: "networking", want: covers, change: spec(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
			s.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{"other"}
		})},
		"exempt":           {namespace: "networking", change: exemptUntil(time.Second)},
		"exempt until now": {namespace: "networking", want: covers, change: exemptUntil(0)},
		"where labels decide": {
			namespace: "networking", change: spec(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{}
			}),
			want: "Cilium runs in namespace networking, which this baseline may cover: add it to spec.namespaces.exclude.",
		},
		"a system namespace, where those are covered": {
			namespace: "kube-system", change: spec(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.System = pcinetv1alpha1.SystemNamespacesInclude
			}),
			want: "Cilium runs in namespace kube-system, which this baseline covers: add it to spec.namespaces.exclude.",
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := scopeWith(engines.Assessment{
				Observed: true, Agents: []engines.Agent{{Name: "Cilium", Namespace: tc.namespace}},
				Findings: []engines.Finding{{Effect: engines.Weakens, Message: "m"}},
			})
			s.cluster.SystemNamespaces = []string{"kube-system"}
			if tc.change != nil {
				tc.change(s)
			}
			want := []string{"m"}
			if tc.want != "" {
				want = []string{tc.want, "m"}
			}
			if diff := cmp.Diff(want, s.status().Platform.Warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}

// A status is at most 16 KiB, whatever the platform and however many namespaces offend.
func TestAStatusIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1000)
	a := engines.Assessment{
		Observed: true, Provider: engines.OpenShift, Encapsulation: snapshot.Overlay,
		Engine: snapshot.Component{Name: long, Version: long}, Base: snapshot.Component{Name: long},
		Findings: []engines.Finding{{Effect: engines.Disables, Reason: "CiliumIgnoresNetworkPolicy", Message: long}},
	}
	s := scopeWith(a)
	for i := range 50 {
		s.engine.Engine.Signals = append(s.engine.Engine.Signals, snapshot.Signal{Object: fmt.Sprint(i), Says: long, Weak: true})
		s.engine.Findings = append(s.engine.Findings, engines.Finding{Effect: engines.Weakens, Message: fmt.Sprint(i, long)})
		s.tally.Offenders = append(s.tally.Offenders, Offender{
			Namespace: strings.Repeat("n", 63), Record: Record{State: pcinetv1alpha1.CoverageContested, Worst: checks.Finding{Reason: "RepeatedChanges", Message: long}, Widening: long},
		})
		if i < 20 {
			s.cluster.SystemNamespaces = append(s.cluster.SystemNamespaces, "openshift-network-operator")
		}
	}
	status := s.status()
	if len(status.Platform.Signals) != maxPlatformEntries || len(status.Platform.Warnings) != maxPlatformEntries {
		t.Errorf("%d signals, %d warnings", len(status.Platform.Signals), len(status.Platform.Warnings))
	}
	data, err := json.Marshal(status)
	if err != nil || len(data) > 16<<10 {
		t.Errorf("%d bytes: %v", len(data), err)
	}
	t.Logf("%d bytes", len(data))
}
