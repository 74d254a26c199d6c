// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
)

// observed returns a status with the counts 1 to 5 and the given conditions, written as Type=Status.
func observed(conditions ...string) pcinetv1alpha1.PCINetworkBaselineStatus {
	s := pcinetv1alpha1.PCINetworkBaselineStatus{Namespaces: &pcinetv1alpha1.NamespaceCounts{
		Selected: new(int32(10)), Protected: new(int32(1)), Pending: new(int32(2)), Contested: new(int32(3)), Failing: new(int32(4)), Exempt: new(int32(5)),
	}}
	for _, c := range conditions {
		kind, value, _ := strings.Cut(c, "=")
		s.Conditions = append(s.Conditions, metav1.Condition{Type: kind, Status: metav1.ConditionStatus(value)})
	}
	return s
}

// series lists what a registry serves for baselines, sorted: name{label values} value.
func series(t *testing.T, reg *prometheus.Registry) []string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			baseline := false
			for _, l := range m.GetLabel() {
				baseline = baseline || l.GetName() == "baseline"
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			if baseline {
				out = append(out, fmt.Sprintf("%s{%s} %v", strings.TrimPrefix(f.GetName(), "pcinb_"), strings.Join(labels, ","), m.GetGauge().GetValue()))
			}
		}
	}
	slices.Sort(out)
	return out
}

var counts = []string{
	"namespaces{baseline=pci,state=Contested} 3",
	"namespaces{baseline=pci,state=Exempt} 5",
	"namespaces{baseline=pci,state=Failing} 4",
	"namespaces{baseline=pci,state=Pending} 2",
	"namespaces{baseline=pci,state=Protected} 1",
}

// ready returns the series of the condition Ready of the baseline pci with the given status.
func ready(is metav1.ConditionStatus) []string {
	var out []string
	for _, s := range []metav1.ConditionStatus{"False", "True", "Unknown"} {
		value := 0
		if s == is {
			value = 1
		}
		out = append(out, fmt.Sprintf("baseline_condition{baseline=pci,status=%s,type=Ready} %d", s, value))
	}
	return out
}

func TestMetricsFollowTheNamingRules(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := metrics.New(reg)
	m.Observe("pci", observed("Ready=True"))
	m.Writes.WithLabelValues("NetworkPolicy", "create", "success").Inc()
	m.Protection.Observe(0.1)
	m.ProofNodes.WithLabelValues("pci", "proven").Set(1)
	m.ProofCells.WithLabelValues("Ingress", "IPv4", "TCP", "same-node", "proven").Set(1)
	m.ProofRounds.WithLabelValues("judged").Inc()
	m.BreakGlass.WithLabelValues("pci").Set(1)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 11 {
		t.Errorf("%d metrics are linted, want all 11: give the new one a value here", len(families))
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// A counter that appears with its first event has no increase to alert on, so causes are there from the start.
func TestRepairsAreThereFromTheStart(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	metrics.New(reg)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "pcinb_repairs_total" && m.GetCounter().GetValue() == 0 {
				got = append(got, m.GetLabel()[0].GetValue())
			}
		}
	}
	if diff := cmp.Diff([]string{"deleted", "edited", "replaced"}, got); diff != "" {
		t.Errorf("causes (-want +got):\n%s", diff)
	}
}

func TestObserve(t *testing.T) {
	cases := map[string]struct {
		statuses []pcinetv1alpha1.PCINetworkBaselineStatus // one after another
		want     []string
	}{
		"counts and conditions":       {[]pcinetv1alpha1.PCINetworkBaselineStatus{observed("Ready=True")}, append(ready("True"), counts...)},
		"a condition that changes":    {[]pcinetv1alpha1.PCINetworkBaselineStatus{observed("Ready=True"), observed("Ready=Unknown")}, append(ready("Unknown"), counts...)},
		"no counts yet":               {[]pcinetv1alpha1.PCINetworkBaselineStatus{{}}, nil},
		"conditions and no counts":    {[]pcinetv1alpha1.PCINetworkBaselineStatus{{Conditions: observed("Ready=False").Conditions}}, ready("False")},
		"the same status is no event": {[]pcinetv1alpha1.PCINetworkBaselineStatus{observed("Ready=True"), observed("Ready=True")}, append(ready("True"), counts...)},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewPedanticRegistry()
			m := metrics.New(reg)
			for _, s := range tc.statuses {
				m.Observe("pci", s)
			}
			if diff := cmp.Diff(tc.want, series(t, reg)); diff != "" {
				t.Errorf("series (-want +got):\n%s", diff)
			}
		})
	}
}

// Reconciling and Stalled are present only when true, so they go from one status to the next. A series that stays behind
// says for ever that the baseline is stalled.
func TestObserveDropsConditionsThatAreGone(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := metrics.New(reg)
	m.Observe("pci", observed("Ready=False", "Stalled=True"))
	m.Observe("pci", observed("Ready=True"))
	if diff := cmp.Diff(append(ready("True"), counts...), series(t, reg)); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestForgetLeavesNothingBehind(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := metrics.New(reg)
	m.Observe("pci", observed("Ready=True"))
	want := series(t, reg)
	m.Observe("pci-2", observed("Ready=True", "Stalled=True"))
	m.Forget("pci-2")
	if diff := cmp.Diff(want, series(t, reg)); diff != "" {
		t.Errorf("series after forgetting another baseline (-want +got):\n%s", diff)
	}
	m.Forget("pci")
	if left := series(t, reg); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
