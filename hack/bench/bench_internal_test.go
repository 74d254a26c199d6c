// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

func TestPercentileIsByNearestRank(t *testing.T) {
	t.Parallel()
	var samples []time.Duration
	for i := range 200 {
		samples = append(samples, time.Duration(200-i)*time.Millisecond)
	}
	for percent, want := range map[int]float64{50: 100, 99: 198, 100: 200} {
		if got := percentile(samples, percent); got != want {
			t.Errorf("percentile(1…200 ms, %d) = %v, want %v", percent, got, want)
		}
	}
	if got := percentile([]time.Duration{time.Second}, 50); got != 1000 {
		t.Errorf("percentile of a single sample = %v, want 1000", got)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	if got := median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("median of three = %v, want 2", got)
	}
	if got := median([]float64{4, 1, 2, 3}); got != 2.5 {
		t.Errorf("median of four = %v, want 2.5", got)
	}
}

func TestPaceRatesEachTenth(t *testing.T) {
	t.Parallel()
	began := time.Unix(0, 0)
	var moments []time.Time
	for i := range 100 {
		moments = append(moments, began.Add(time.Duration(i+1)*10*time.Millisecond))
	}
	slices.Reverse(moments)
	for _, rate := range pace(began, moments) {
		if rate < 99 || rate > 101 {
			t.Errorf("a tenth went at %v/s, want 100/s", rate)
		}
	}
}

func TestUsageCountsRequests(t *testing.T) {
	t.Parallel()
	const log = `{"stage":"ResponseComplete","verb":"create","user":{"username":"op"},"objectRef":{"resource":"networkpolicies","namespace":"a"},"responseStatus":{"code":201}}
{"stage":"ResponseComplete","verb":"create","user":{"username":"op"},"objectRef":{"resource":"namespacecoverages","namespace":"a"},"responseStatus":{"code":409}}
{"stage":"ResponseComplete","verb":"patch","user":{"username":"op"},"objectRef":{"resource":"pcinetworkbaselines","subresource":"status"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","verb":"create","user":{"username":"op"},"objectRef":{"resource":"events","namespace":"default"},"responseStatus":{"code":201}}
{"stage":"ResponseComplete","verb":"update","user":{"username":"op"},"objectRef":{"resource":"leases","namespace":"x"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","verb":"list","user":{"username":"op"},"objectRef":{"resource":"namespaces"},"responseStatus":{"code":200}}
{"stage":"ResponseStarted","verb":"watch","user":{"username":"op"},"objectRef":{"resource":"namespaces"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","verb":"get","user":{"username":"op"},"requestURI":"/api"}
{"stage":"ResponseComplete","verb":"delete","user":{"username":"other"},"objectRef":{"resource":"networkpolicies","namespace":"a"},"responseStatus":{"code":200}}
{"stage":"ResponseComplete","verb":"crea`
	got := newUsage()
	if err := got.read(strings.NewReader(log), "op"); err != nil {
		t.Fatal(err)
	}
	want := usage{
		writes: 4, reads: 1, failed: 1,
		namespaced: map[string]int{"a": 2},
		kinds: map[string]int{
			"create networkpolicies": 1, "create namespacecoverages": 1, "patch pcinetworkbaselines/status": 1, "create events": 1,
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(usage{})); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}
	everybody := newUsage()
	if err := everybody.read(strings.NewReader(log), ""); err != nil {
		t.Fatal(err)
	}
	if everybody.kinds["delete networkpolicies"] != 1 {
		t.Errorf("everybody's writes are %s, want the other user's delete among them", &everybody)
	}
}

func deny(change func(*networkingv1.NetworkPolicy)) *networkingv1.NetworkPolicy {
	policy := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: denyName},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}},
	}
	if change != nil {
		change(policy)
	}
	return policy
}

func TestDeniesOnlyWhatDeniesEverything(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*networkingv1.NetworkPolicy){
		"another name":     func(p *networkingv1.NetworkPolicy) { p.Name = "other" },
		"some pods":        func(p *networkingv1.NetworkPolicy) { p.Spec.PodSelector.MatchLabels = map[string]string{"a": "b"} },
		"ingress allowed":  func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}} },
		"egress allowed":   func(p *networkingv1.NetworkPolicy) { p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}} },
		"one direction":    func(p *networkingv1.NetworkPolicy) { p.Spec.PolicyTypes = p.Spec.PolicyTypes[:1] },
		"about to be gone": func(p *networkingv1.NetworkPolicy) { p.DeletionTimestamp = &metav1.Time{} },
		"no policy type":   func(p *networkingv1.NetworkPolicy) { p.Spec.PolicyTypes = nil },
		"other expressions": func(p *networkingv1.NetworkPolicy) {
			p.Spec.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{}}
		},
	} {
		if denies(deny(change)) {
			t.Errorf("%s: counts as the deny", name)
		}
	}
	if !denies(deny(nil)) {
		t.Error("the deny does not count as one")
	}
}

func TestRecorderSeesDenyComeAndGo(t *testing.T) {
	t.Parallel()
	r := &recorder{spaces: map[string]*observed{}, expected: map[string][]*expectation{}}
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	first := r.expect(isDenied, "a")
	r.record(watch.Event{Type: watch.Added, Object: deny(nil)}, at(1))
	again := r.expect(func(o *observed) bool { return o.denied && o.denials > 1 }, "a")
	r.record(watch.Event{Type: watch.Modified, Object: deny(nil)}, at(2)) // a change that opens nothing
	r.record(watch.Event{Type: watch.Deleted, Object: deny(nil)}, at(3))
	protected := r.expect(isProtected, "a")
	r.record(watch.Event{Type: watch.Added, Object: deny(nil)}, at(4))
	r.record(watch.Event{Type: watch.Added, Object: &pcinetv1alpha1.NamespaceCoverage{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a"},
		Status:     pcinetv1alpha1.NamespaceCoverageStatus{State: pcinetv1alpha1.CoverageProtected},
	}}, at(5))
	for name, check := range map[string]struct {
		*expectation
		want int64
	}{"denied": {first, 1}, "denied again": {again, 4}, "protected": {protected, 5}} {
		missing, err := r.wait(t.Context(), check.expectation, time.Second)
		if err != nil || len(missing) > 0 || check.last != at(check.want) {
			t.Errorf("%s: came true at %v, missing %v, error %v; want second %d", name, check.last, missing, err, check.want)
		}
	}
	if got := r.exposures(); got != 1 {
		t.Errorf("%d exposures, want 1", got)
	}
}

func TestRecorderNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	r := &recorder{spaces: map[string]*observed{}, expected: map[string][]*expectation{}}
	e := r.expect(isDenied, "a", "b")
	r.record(watch.Event{Type: watch.Added, Object: deny(nil)}, time.Unix(1, 0))
	missing, err := r.wait(t.Context(), e, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"b"}, missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
}

func TestResultFileHasExactlyTheKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bench.json")
	r := results{n: 1000}
	r.add("start window p99, ms", 1, noTarget, "in the table alone")
	for _, key := range keys {
		if err := r.write(path); err == nil && key != "n" {
			t.Fatalf("written although %s was not measured", key)
		}
		r.add(key, 1.23456, noTarget, "")
	}
	r.figures = slices.DeleteFunc(r.figures, func(f figure) bool { return f.name == "n" })
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]float64
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{}
	for _, key := range keys {
		want[key] = 1.235
	}
	want["n"] = 1000
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result file (-want +got):\n%s", diff)
	}
}

func TestOptionsRefuseWhatCannotRun(t *testing.T) {
	t.Parallel()
	good := options{n: 1000, rounds: 1, only: phases, operator: os.Args[0], manifests: t.TempDir()}
	for name, change := range map[string]func(*options){
		"too few namespaces":              func(o *options) { o.n = 10 },
		"no round":                        func(o *options) { o.rounds = 0 },
		"an unknown phase":                func(o *options) { o.only = "az" },
		"nothing to ask what to write":    func(o *options) { o.operator, o.only = "", "a" },
		"operator phases without it":      func(o *options) { o.operator, o.specimen, o.only = "", "x", "ab" },
		"an operator that does not exist": func(o *options) { o.operator = "/nowhere" },
	} {
		bad := good
		change(&bad)
		if err := bad.complete(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := good.complete(); err != nil {
		t.Errorf("a good set of options is refused: %v", err)
	}
}
