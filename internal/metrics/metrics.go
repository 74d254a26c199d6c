// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package metrics defines the operator's own metrics; those of queues, reconciles and requests are controller-runtime's.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Causes of repairs.
const (
	CauseDeleted  = "deleted"
	CauseEdited   = "edited"
	CauseReplaced = "replaced"
)

// Metrics are the operator's metrics. Labels are bounded: by the number of baselines, and by constants.
type Metrics struct {
	// Namespaces counts namespaces by baseline and state of coverage.
	Namespaces *prometheus.GaugeVec
	// Condition is 1 for the present status of each condition of each baseline.
	Condition *prometheus.GaugeVec
	// BreakGlass is 1 for each baseline whose policies everybody may change, and absent for the others.
	BreakGlass *prometheus.GaugeVec
	// Unwatched is for how many seconds each kind that reports are made of has not been watched; 0 while it is.
	Unwatched *prometheus.GaugeVec
	// Repairs counts policies restored after somebody changed them, by cause.
	Repairs *prometheus.CounterVec
	// Fights counts the times that somebody else began to keep changing an object.
	Fights prometheus.Counter
	// Protection measures from a namespace's creation to its deny, in seconds, for namespaces whose creation was seen.
	Protection prometheus.Histogram
	// Findings counts findings about management by baseline, clause, check and result.
	Findings *prometheus.GaugeVec
	// CloudRead is when a cloud last said who can reach the API server, in seconds since 1970, by baseline.
	CloudRead *prometheus.GaugeVec
	// Interfaces counts management interfaces by role and what they answer with.
	Interfaces *prometheus.GaugeVec
	// CertificateStart and CertificateExpiry are of the oldest certificate of a role, and of the one that ends first; KeyChanges counts
	// those that took another's place.
	CertificateStart, CertificateExpiry *prometheus.GaugeVec
	KeyChanges                          *prometheus.CounterVec
	// ProofNodes counts nodes by baseline and by what packets have shown.
	ProofNodes *prometheus.GaugeVec
	// ProofCells counts the cells of the last round by verdict.
	ProofCells *prometheus.GaugeVec
	// ProofRounds counts rounds by whether they gave a verdict.
	ProofRounds *prometheus.CounterVec
	// ProofWindow measures how long after their start canaries got denied packets through, in seconds.
	ProofWindow prometheus.Histogram
	// Writes counts write requests by kind, operation and outcome.
	Writes *prometheus.CounterVec
}

// New makes the metrics and registers them.
func New(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		Namespaces: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pcinb_namespaces",
			Help: "Namespaces by baseline and state of their coverage.",
		}, []string{"baseline", "state"}),
		Condition: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pcinb_baseline_condition",
			Help: "1 for the present status (True, False or Unknown) of each condition of each baseline.",
		}, []string{"baseline", "type", "status"}),
		BreakGlass: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pcinb_break_glass",
			Help: "1 while everybody may change the policies of a baseline, which are not repaired then; absent otherwise.",
		}, []string{"baseline"}),
		Unwatched: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pcinb_unwatched_seconds",
			Help: "For how long a kind of object has not been watched, so that changes of it were not seen; 0 while it is.",
		}, []string{"resource"}),
		Repairs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pcinb_repairs_total",
			Help: "Policies restored after somebody else changed them, by cause.",
		}, []string{"cause"}),
		Fights: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pcinb_fights_total",
			Help: "Times that somebody else began to keep changing an object of the operator.",
		}),
		Protection: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "pcinb_namespace_protection_seconds",
			Help:    "Time from the moment a namespace's creation was seen to its default deny, in seconds.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		ProofNodes: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pcinb_proof_nodes",
			Help: "Nodes by baseline and by what packets have shown there: proven, disproven, or required (how many must be proven).",
		}, []string{"baseline", "state"}),
		ProofWindow: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "pcinb_proof_start_window_seconds",
			Help:    "How long after its start a canary got denied packets through, in seconds; once for each direction of a proven node.",
			Buckets: []float64{0, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5},
		}),
		ProofCells: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "pcinb_proof_cells",
			Help: "Cells of the last round by direction, family, protocol, path and verdict (proven, disproven or none).",
		}, []string{"direction", "family", "protocol", "path", "verdict"}),
		ProofRounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pcinb_proof_rounds_total",
			Help: "Rounds of tests by outcome: judged, void (something changed meanwhile) or failed (canaries did not run).",
		}, []string{"outcome"}),
		Writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pcinb_writes_total",
			Help: "Write requests to the API server by kind, operation and outcome (success, stale, refused or error).",
		}, []string{"kind", "operation", "outcome"}),
	}
	for _, cause := range []string{CauseDeleted, CauseEdited, CauseReplaced} {
		m.Repairs.WithLabelValues(cause)
	}
	reg.MustRegister(m.Namespaces, m.Condition, m.BreakGlass, m.Unwatched, m.Repairs, m.Fights, m.Protection, m.ProofNodes, m.ProofCells, m.ProofRounds, m.ProofWindow, m.Writes)
	m.addManagement(reg)
	return m
}

// Observe shows the status of a baseline.
func (m *Metrics) Observe(baseline string, s pcinetv1alpha1.PCINetworkBaselineStatus) {
	if n := s.Namespaces; n != nil {
		for state, count := range map[pcinetv1alpha1.CoverageState]*int32{
			pcinetv1alpha1.CoverageProtected: n.Protected,
			pcinetv1alpha1.CoveragePending:   n.Pending,
			pcinetv1alpha1.CoverageContested: n.Contested,
			pcinetv1alpha1.CoverageFailing:   n.Failing,
			pcinetv1alpha1.CoverageExempt:    n.Exempt,
		} {
			m.Namespaces.WithLabelValues(baseline, string(state)).Set(float64(*count))
		}
	}
	if p := s.Proof; p != nil {
		for state, count := range map[string]*int32{"proven": p.Proven, "disproven": p.Disproven, "required": p.Required} {
			m.ProofNodes.WithLabelValues(baseline, state).Set(float64(*count))
		}
	}
	m.BreakGlass.DeleteLabelValues(baseline)
	if !s.Admission.BreakGlass.Until.IsZero() {
		m.BreakGlass.WithLabelValues(baseline).Set(1)
	}
	for _, kind := range []string{pcinetv1alpha1.ConditionReconciling, pcinetv1alpha1.ConditionStalled} {
		if apimeta.FindStatusCondition(s.Conditions, kind) == nil { // they are present only while they are true
			m.Condition.DeletePartialMatch(prometheus.Labels{"baseline": baseline, "type": kind})
		}
	}
	for _, c := range s.Conditions {
		for _, value := range []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse, metav1.ConditionUnknown} {
			is := 0.0
			if c.Status == value {
				is = 1
			}
			m.Condition.WithLabelValues(baseline, c.Type, string(value)).Set(is)
		}
	}
}

// Forget drops the series of a baseline that is gone.
func (m *Metrics) Forget(baseline string) {
	m.Namespaces.DeletePartialMatch(prometheus.Labels{"baseline": baseline})
	m.ProofNodes.DeletePartialMatch(prometheus.Labels{"baseline": baseline})
	m.Condition.DeletePartialMatch(prometheus.Labels{"baseline": baseline})
	m.BreakGlass.DeletePartialMatch(prometheus.Labels{"baseline": baseline})
	m.Findings.DeletePartialMatch(prometheus.Labels{"baseline": baseline})
}

// ObserveFindings shows the findings of one baseline.
func (m *Metrics) ObserveFindings(baseline string, findings []management.Finding) {
	m.Findings.DeletePartialMatch(prometheus.Labels{"baseline": baseline})
	for _, f := range findings {
		m.Findings.WithLabelValues(baseline, f.Clause, f.Check, string(f.Result)).Inc()
	}
}

// ObserveInterfaces shows what interfaces answer with.
func (m *Metrics) ObserveInterfaces(interfaces []snapshot.Interface) {
	m.Interfaces.Reset()
	for i := range interfaces {
		m.Interfaces.WithLabelValues(string(interfaces[i].Role), string(interfaces[i].Sight.Speech)).Inc()
	}
	m.observeCertificates(interfaces)
}
