// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	results "github.com/pcinetwork/pci-network-baseline/internal/checks"
	checks "github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

func TestFindingsMakeACondition(t *testing.T) {
	f := func(clause string, result results.Result, reason string) checks.Finding {
		return checks.Finding{Clause: clause, Result: result, Reason: reason, Subject: "S", Evidence: "e", Remedy: "Do"}
	}
	cases := map[string]struct {
		clause   string
		findings []checks.Finding
		want     string
	}{
		"nothing was found":               {"4.3", nil, "Unknown/ManagementNotObservable: Nothing was found that could be judged."},
		"another clause's does not count": {"4.3", []checks.Finding{f("4.2", results.Fail, "X")}, "Unknown/ManagementNotObservable: Nothing was found that could be judged."},
		"all passed":                      {"4.3", []checks.Finding{f("4.3", results.Pass, "X"), f("4.3", results.Warn, "Y"), f("4.3", results.Skip, "Z")}, "True/TrafficEncrypted: Every interface that answers encrypts."},
		"skipped alone is not good":       {"4.3", []checks.Finding{f("4.3", results.Skip, "X")}, "Unknown/ManagementNotObservable: Nothing was found that could be judged."},
		"what was not seen is Unknown":    {"4.3", []checks.Finding{f("4.3", results.Error, "E"), f("4.3", results.Pass, "X")}, "Unknown/E: S: e. Do."},
		"what failed is False":            {"4.3", []checks.Finding{f("4.3", results.Fail, "F"), f("4.3", results.Fail, "G"), f("4.3", results.Error, "E")}, "False/F: 2 findings, first: S: e. Do."},
		"access that was seen":            {"4.2", []checks.Finding{f("4.2", results.Pass, "X"), f("4.2", results.Pass, "AccessRestricted")}, "True/AccessRestricted: S: e. Do."},
		"one thing that is attested":      {"4.2", []checks.Finding{f("4.2", results.Pass, "AccessAttested"), f("4.2", results.Pass, "AccessRestricted")}, "True/AccessAttested: S: e. Do."},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := summarize(tc.findings, tc.clause)
			if diff := cmp.Diff(tc.want, fmt.Sprintf("%s/%s: %s", c.Status, c.Reason, c.Message)); diff != "" {
				t.Errorf("condition (-want +got):\n%s", diff)
			}
		})
	}
}

// Until others than the cluster itself were asked, nobody calls access restricted; what is wrong already is said.
func TestAccessIsNotRestrictedBeforeEverybodyWasAsked(t *testing.T) {
	finding := func(result results.Result, reason string) checks.Finding {
		return checks.Finding{Clause: checks.Access, Result: result, Reason: reason}
	}
	cases := map[string]struct {
		finding  checks.Finding
		complete bool
		want     string
	}{
		"it passed":                           {finding(results.Pass, pcinetv1alpha1.ReasonAccessAttested), true, "True/AccessAttested"},
		"it passed, but a cloud is asked yet": {finding(results.Pass, pcinetv1alpha1.ReasonAccessAttested), false, "Unknown/NotObserved"},
		"it failed, and a cloud is asked yet": {finding(results.Fail, pcinetv1alpha1.ReasonConsoleExposed), false, "False/ConsoleExposed"},
		"it could not be seen":                {finding(results.Error, pcinetv1alpha1.ReasonAccessNotDeclared), false, "Unknown/AccessNotDeclared"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := newManagementResult(&pcinetv1alpha1.PCINetworkBaseline{}, []checks.Finding{tc.finding}, tc.complete)
			if diff := cmp.Diff(tc.want, string(got.restricted.Status)+"/"+got.restricted.Reason); diff != "" {
				t.Errorf("access (-want +got):\n%s", diff)
			}
		})
	}
}

// managed returns a scope of a baseline that declares both, with what was judged, if known.
func managed(known bool, change func(*pcinetv1alpha1.PCINetworkBaseline)) *baselineScope {
	s := judgedAt(today)
	s.baseline.Generation = 7
	s.baseline.Spec.ManagementAccess, s.baseline.Spec.ManagementEncryption = &pcinetv1alpha1.ManagementAccess{}, &pcinetv1alpha1.ManagementEncryption{}
	change(s.baseline)
	s.managementKnown = known
	s.management = newManagementResult(s.baseline, []checks.Finding{
		{Clause: "4.3", Result: results.Fail, Reason: "Plaintext", Subject: "etcd", Evidence: "it answers in the clear", Remedy: "Do"},
		{Clause: "4.2", Result: results.Pass, Reason: "AccessAttested", Subject: "Everything", Evidence: "attested"},
	}, true)
	return s
}

// What the last process saw is not what this one has seen.
func TestNothingIsKnownOfManagementBeforeALook(t *testing.T) {
	old := func(generation int64, reason string) func(*pcinetv1alpha1.PCINetworkBaseline) {
		return func(b *pcinetv1alpha1.PCINetworkBaseline) {
			b.Status.ObservedGeneration = generation
			for _, kind := range []string{pcinetv1alpha1.ConditionManagementAccessRestricted, pcinetv1alpha1.ConditionManagementTrafficEncrypted} {
				b.Status.Conditions = append(b.Status.Conditions, metav1.Condition{
					Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: "old", ObservedGeneration: generation,
				})
			}
			b.Status.Offenders = []pcinetv1alpha1.Offender{{Namespace: "gone", State: pcinetv1alpha1.CoverageFailing, Reason: "X"}, {Subject: "kubelet", Reason: "Plaintext"}}
		}
	}
	const looking = "Unknown/NotObserved: The management interfaces are being looked at."
	cases := map[string]struct {
		known  bool
		change func(*pcinetv1alpha1.PCINetworkBaseline)
		// want are the conditions of access and encryption, offenders the subjects.
		want      [2]string
		offenders string
	}{
		"this process has looked": {true, old(7, "TLSTooOld"), [2]string{"True/AccessAttested: Everything: attested.", "False/Plaintext: etcd: it answers in the clear. Do."}, "[etcd]"},
		"it has not yet":          {false, old(7, "TLSTooOld"), [2]string{looking, looking}, "[]"},
		"of another generation":   {false, old(6, "TLSTooOld"), [2]string{looking, looking}, "[]"},
		"nobody had looked":       {false, old(7, "NotAssessed"), [2]string{looking, looking}, "[]"},
		"the first time":          {false, func(*pcinetv1alpha1.PCINetworkBaseline) {}, [2]string{looking, looking}, "[]"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := managed(tc.known, tc.change).status()
			for i, kind := range []string{pcinetv1alpha1.ConditionManagementAccessRestricted, pcinetv1alpha1.ConditionManagementTrafficEncrypted} {
				c := apimeta.FindStatusCondition(got.Conditions, kind)
				if diff := cmp.Diff(tc.want[i], fmt.Sprintf("%s/%s: %s", c.Status, c.Reason, c.Message)); diff != "" {
					t.Errorf("%s (-want +got):\n%s", kind, diff)
				}
			}
			subjects := []string{}
			for _, o := range got.Offenders {
				if o.Subject != "" {
					subjects = append(subjects, o.Subject)
				}
			}
			if fmt.Sprint(subjects) != tc.offenders {
				t.Errorf("offenders are %v, want %s", subjects, tc.offenders)
			}
		})
	}
}

// Silence is believed the second time, and meanwhile what was seen before holds. What is certain holds for an hour.
func TestSilenceIsBelievedTheSecondTime(t *testing.T) {
	sound := snapshot.Sight{
		Speech: snapshot.SpeechTLS, Version: tls.VersionTLS13, Old: snapshot.TurnedDown, Weak: snapshot.TurnedDown, ClientCertificate: snapshot.ClientCertificateIgnored,
	}
	untold := sound
	untold.ClientCertificate = ""
	silent := snapshot.Sight{Speech: snapshot.SpeechUnreachable}
	closed := snapshot.Sight{Speech: snapshot.SpeechClosed}
	cases := map[string]struct {
		before seen
		by     snapshot.Sight
		want   snapshot.Speech
		// dueAfter is how long the result holds.
		dueAfter time.Duration
	}{
		"the first look":                   {by: sound, want: snapshot.SpeechTLS, dueAfter: lookPeriod},
		"nobody listens":                   {by: closed, want: snapshot.SpeechClosed, dueAfter: lookPeriod},
		"silence at the first look":        {by: silent, want: snapshot.SpeechUnreachable},
		"silence after an answer":          {before: seen{sight: sound}, by: silent, want: snapshot.SpeechTLS},
		"silence again":                    {before: seen{sight: sound, unsure: true}, by: silent, want: snapshot.SpeechUnreachable, dueAfter: inventoryPeriod / 2},
		"silence for long":                 {before: seen{sight: silent, at: today.Add(-time.Hour)}, by: silent, want: snapshot.SpeechUnreachable, dueAfter: inventoryPeriod / 2},
		"nothing of client certificates":   {by: untold, want: snapshot.SpeechTLS},
		"an answer after silence":          {before: seen{sight: silent, unsure: true}, by: closed, want: snapshot.SpeechClosed, dueAfter: lookPeriod},
		"TLS that could not be told whole": {by: snapshot.Sight{Speech: snapshot.SpeechTLS, Old: snapshot.TurnedDown}, want: snapshot.SpeechTLS},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := tc.before.followed(tc.by, today)
			if got.sight.Speech != tc.want {
				t.Errorf("it is %s, want %s", got.sight.Speech, tc.want)
			}
			if got.due(today.Add(tc.dueAfter-time.Second)) != (tc.dueAfter == 0) || !got.due(today.Add(tc.dueAfter)) {
				t.Errorf("it is not due after %s: %+v", tc.dueAfter, got)
			}
		})
	}
}

// Interfaces come between namespaces that are Failing and those that wait, and share the places with them. A status that would be too
// large loses the last.
func TestInterfacesAndNamespacesShareThePlaces(t *testing.T) {
	s := managed(true, func(*pcinetv1alpha1.PCINetworkBaseline) {})
	s.tally.Offenders = []Offender{
		{Namespace: "failing", Record: Record{State: pcinetv1alpha1.CoverageFailing, Worst: results.Finding{Reason: "Forbidden"}}},
		{Namespace: "pending", Record: Record{State: pcinetv1alpha1.CoveragePending, Worst: results.Finding{Reason: "PoliciesMissing"}}},
	}
	var got []string
	for _, o := range s.offenders() {
		got = append(got, string(o.Namespace)+o.Subject)
	}
	if diff := cmp.Diff([]string{"failing", "etcd", "pending"}, got); diff != "" {
		t.Errorf("offenders (-want +got):\n%s", diff)
	}

	s = &baselineScope{baseline: longest.DeepCopy(), engine: talkative("<"), tally: crowd(300, "<"), now: today, managementKnown: true, backend: writtenToCore}
	s.baseline.Spec.ManagementAccess, s.baseline.Spec.ManagementEncryption = &pcinetv1alpha1.ManagementAccess{}, &pcinetv1alpha1.ManagementEncryption{}
	var findings []checks.Finding
	for i := range 500 {
		text := strings.Repeat("<", 2000)
		findings = append(findings, checks.Finding{Clause: []string{"4.2", "4.3"}[i%2], Result: results.Fail, Reason: strings.Repeat("R", 64), Subject: text, Evidence: text, Remedy: text})
	}
	s.management = newManagementResult(s.baseline, findings, true)
	s.tally.Offenders = nil
	full := s.status()
	data, err := json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > statusLimit || len(full.Offenders) != maxOffenders {
		t.Errorf("a status of %d bytes with %d offenders", len(data), len(full.Offenders))
	}
	full.Guard.Message = strings.Repeat("x", statusLimit-len(data)+400) // two places more than there is room for
	fit(&full)
	if data, err := json.Marshal(full); err != nil || len(data) > statusLimit || len(full.Offenders) < maxOffenders-4 || len(full.Offenders) == maxOffenders {
		t.Errorf("a status of %d bytes with %d offenders: %v", len(data), len(full.Offenders), err)
	}
	if full.Offenders[0].Subject != status.Clip(strings.Repeat("<", 2000), maxSubject) {
		t.Error("it has not lost the last, but the first")
	}
}
