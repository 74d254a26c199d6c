// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/report"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

var (
	update = flag.Bool("update", false, "write what is rendered to testdata")
	now    = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
)

// input is what a case's in.yaml holds.
type input struct {
	Baseline   pcinetv1alpha1.PCINetworkBaseline
	Management []management.Finding
	Namespaces []struct {
		Name    string
		State   pcinetv1alpha1.CoverageState
		Finding checks.Finding
	}
	More     report.Counts
	Previous map[string]any
}

func (in *input) report() *report.Report {
	var namespaces []management.Finding
	for _, n := range in.Namespaces {
		namespaces = append(namespaces, report.Namespace(n.Name, n.State, n.Finding))
	}
	return report.New(&in.Baseline, in.Management, namespaces, in.More)
}

// Each case is a directory: in.yaml says what is known, and beside it is the report in each API, ready for kubectl apply.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range inputs {
		for _, api := range report.APIs {
			t.Run(filepath.Dir(path)+" "+api.Kind, func(t *testing.T) {
				var in input
				text, err := os.ReadFile(path)
				if err == nil {
					err = yaml.Unmarshal(text, &in)
				}
				if err != nil {
					t.Fatal(err)
				}
				var previous *unstructured.Unstructured
				if in.Previous != nil {
					previous = &unstructured.Unstructured{Object: in.Previous}
				}
				got, err := yaml.Marshal(object(t, in.report(), api, previous, now))
				if err != nil {
					t.Fatal(err)
				}
				compare(t, filepath.Join(filepath.Dir(path), strings.ToLower(api.Kind)+".yaml"), got)
			})
		}
	}
}

func compare(t *testing.T, path string, got []byte) {
	t.Helper()
	const accept = "To accept it: go test ./internal/report -run TestGolden -update"
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Errorf("%v\n%s", err, accept)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s\n%s", path, diff, accept)
	}
}

func object(t *testing.T, r *report.Report, api report.API, previous *unstructured.Unstructured, at time.Time) *unstructured.Unstructured {
	t.Helper()
	o, err := r.Object(api, previous, at)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// many returns a report with findings of each result.
func many(n int, results ...checks.Result) *report.Report {
	var findings []management.Finding
	for _, result := range results {
		for i := range n {
			findings = append(findings, management.Finding{
				Check: "TrafficEncrypted", Clause: management.Encryption, Result: result, Reason: "Plaintext",
				Subject: fmt.Sprintf("kubelet 10.0.%d.%d:10250 (Node node-%d)", i/256, i%256, i), Evidence: strings.Repeat("x", 100), Remedy: strings.Repeat("y", 100),
			})
		}
	}
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci", UID: "1"}}
	b.Status.Conditions = []metav1.Condition{{Type: pcinetv1alpha1.ConditionReviewCurrent, Status: metav1.ConditionTrue, Reason: "ReviewCurrent"}}
	return report.New(b, findings, nil, nil)
}

func results(t *testing.T, o *unstructured.Unstructured) []any {
	t.Helper()
	list, _, err := unstructured.NestedSlice(o.Object, "results")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAReportIsBounded(t *testing.T) {
	for _, api := range report.APIs {
		o := object(t, many(10_000, checks.Pass, checks.Fail), api, nil, now)
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 1<<20 || len(text) < 800<<10 {
			t.Errorf("%s: %d bytes", api.Kind, len(text))
		}
		list := results(t, o)
		first, last := fmt.Sprint(list[0]), fmt.Sprint(list[len(list)-1])
		if !strings.Contains(first, "ReviewCurrent") {
			t.Errorf("%s: the first is %s", api.Kind, first)
		}
		if strings.Contains(fmt.Sprint(list[1:len(list)-1]), "result:pass") {
			t.Errorf("%s: something that passed takes the place of what failed", api.Kind)
		}
		left := 20_000 - (len(list) - 2)
		if want := fmt.Sprintf("%d results are counted in the summary and not listed", left); !strings.Contains(last, want) || !strings.Contains(last, fmt.Sprintf("%d fail, 10000 pass", left-10_000)) {
			t.Errorf("%s: it ends with %s, want %s", api.Kind, last, want)
		}
		if diff := cmp.Diff(map[string]any{"fail": int64(10_000), "pass": int64(10_001), "warn": int64(0), "error": int64(0), "skip": int64(0)}, o.Object["summary"]); diff != "" {
			t.Errorf("%s: the summary counts everything (-want +got):\n%s", api.Kind, diff)
		}
	}
}

func TestAnUnchangedReportStaysWhatItIs(t *testing.T) {
	for _, api := range report.APIs {
		r := many(20, checks.Fail, checks.Error, checks.Warn, checks.Skip, checks.Pass)
		before := object(t, r, api, nil, now)
		if diff := cmp.Diff(before, object(t, r, api, before, now.Add(time.Hour))); diff != "" {
			t.Errorf("%s (-before +an hour later):\n%s", api.Kind, diff)
		}
		if changed := object(t, many(20, checks.Fail), api, before, now.Add(time.Hour)); cmp.Equal(before.Object["results"], changed.Object["results"]) {
			t.Errorf("%s: what is gone is still in it", api.Kind)
		}
	}
}

func TestAPreviousReportThatCannotBeReadIsForgotten(t *testing.T) {
	previous := &unstructured.Unstructured{Object: map[string]any{"results": []any{map[string]any{"timestamp": "yesterday"}}}}
	got := results(t, object(t, many(1, checks.Fail), report.APIs[0], previous, now))
	if len(got) != 2 || !strings.Contains(fmt.Sprint(got[1]), fmt.Sprint(now.Unix())) {
		t.Errorf("the report is %v", got)
	}
}

func TestOurs(t *testing.T) {
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci", UID: "1"}}
	labels := func(manager, baseline string) map[string]string {
		return map[string]string{"app.kubernetes.io/managed-by": manager, "pcinetwork.dev/baseline": baseline}
	}
	for name, tc := range map[string]struct {
		live metav1.ObjectMeta
		want bool
	}{
		"labelled ours":                        {metav1.ObjectMeta{Labels: labels("pci-network-baseline", "pci")}, true},
		"of another baseline":                  {metav1.ObjectMeta{Labels: labels("pci-network-baseline", "pci2")}, false},
		"somebody else's":                      {metav1.ObjectMeta{Labels: labels("kyverno", "pci")}, false},
		"without labels":                       {metav1.ObjectMeta{}, false},
		"without labels, owned by it":          {metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{UID: "1"}}}, true},
		"owned by one of the same name before": {metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{UID: "0", Name: "pci"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := report.Ours(&tc.live, b); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestKeysAreReadBack(t *testing.T) {
	k := snapshot.Keys{Since: now, Certificate: "c", Key: "k", From: now.Add(-time.Hour), KeyFrom: now.Add(-time.Hour), Changes: 1, Changed: now, Before: now.Add(-2 * time.Hour)}
	finding := func(check, subject string, properties map[string]string) management.Finding {
		return management.Finding{Check: check, Clause: management.Encryption, Result: checks.Pass, Subject: subject, Evidence: "e", Properties: properties}
	}
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci", UID: "1"}}
	r := report.New(b, []management.Finding{
		finding(management.KeysRotated, "etcd 10.0.0.1:2379 (Node cp)", management.KeyProperties(k)),
		finding(management.KeysRotated, "kubelet 10.0.0.1:10250 (Node cp)", map[string]string{"changes": "forged"}),
		finding("TrafficEncrypted", "kubelet 10.0.0.2:10250 (Node n1)", management.KeyProperties(k)),
	}, nil, nil)
	for _, api := range report.APIs {
		if diff := cmp.Diff(map[string]snapshot.Keys{"etcd 10.0.0.1:2379 (Node cp)": k}, report.Keys(object(t, r, api, nil, now))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", api.Kind, diff)
		}
	}
	if got := report.Keys(nil); len(got) > 0 {
		t.Errorf("without a report it remembers %v", got)
	}
}

func TestSubjectsNameObjects(t *testing.T) {
	for subject, want := range map[string]string{
		"Ingress shop/web":                              "networking.k8s.io/v1 Ingress shop/web",
		"kubelet of Node n1.example.com":                "v1 Node /n1.example.com",
		"Grafana 10.0.0.3:3000 (Service monitoring/g)":  "v1 Service monitoring/g",
		"ServiceMonitor monitoring/api":                 "monitoring.coreos.com/v1 ServiceMonitor monitoring/api",
		"APIService v1.example.com":                     "apiregistration.k8s.io/v1 APIService /v1.example.com",
		"MutatingWebhookConfiguration w, a.example.com": "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration /w",
		"The list of services":                          "",
		"Who can reach the API server from outside":     "",
		"API server":            "",
		"spec.managementAccess": "",
	} {
		b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "pci", UID: "1"}}
		r := report.New(b, []management.Finding{{Check: "x", Subject: subject, Evidence: "e", Result: checks.Fail}}, nil, nil)
		got := ""
		for _, result := range results(t, object(t, r, report.APIs[0], nil, now)) {
			fields, _ := result.(map[string]any)
			list, _, err := unstructured.NestedSlice(fields, "resources")
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range list {
				ref, _ := o.(map[string]any)
				namespace, _ := ref["namespace"].(string)
				got = fmt.Sprintf("%v %v %s/%v", ref["apiVersion"], ref["kind"], namespace, ref["name"])
			}
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", subject, got, want)
		}
	}
}
