// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// addManagement makes what is measured of management interfaces, and registers it.
func (m *Metrics) addManagement(reg prometheus.Registerer) {
	m.Findings = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "pcinb_management_findings",
		Help: "Findings about management interfaces by baseline, clause of the guidance, check and result.",
	}, []string{"baseline", "clause", "check", "result"})
	m.CloudRead = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "pcinb_cloud_read_timestamp_seconds",
		Help: "When the cloud last said who can reach the API server, in seconds since 1970, for baselines that have it asked.",
	}, []string{"baseline"})
	m.Interfaces = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "pcinb_management_interfaces",
		Help: "Management interfaces that were found, by role and what they answered with.",
	}, []string{"role", "speech"})
	m.CertificateStart = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "pcinb_management_certificate_start_timestamp_seconds",
		Help: "When the oldest certificate that interfaces of a role showed became valid, as Unix time.",
	}, []string{"role"})
	m.CertificateExpiry = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "pcinb_management_certificate_expiry_timestamp_seconds",
		Help: "When the first certificate that interfaces of a role showed ends, as Unix time.",
	}, []string{"role"})
	m.KeyChanges = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pcinb_management_certificate_changes_total",
		Help: "Certificates of interfaces that were seen to take another's place, by role and by what became of the key (replaced or kept).",
	}, []string{"role", "key"})
	reg.MustRegister(m.Findings, m.CloudRead, m.Interfaces, m.CertificateStart, m.CertificateExpiry, m.KeyChanges)
}

// observeCertificates shows of each role the certificate that is the oldest, and the one that ends first.
func (m *Metrics) observeCertificates(interfaces []snapshot.Interface) {
	m.CertificateStart.Reset()
	m.CertificateExpiry.Reset()
	start, expiry := map[snapshot.Role]int64{}, map[snapshot.Role]int64{}
	for i := range interfaces {
		if len(interfaces[i].Sight.Chain) == 0 {
			continue
		}
		role, c := interfaces[i].Role, &interfaces[i].Sight.Chain[0]
		if from, known := start[role]; !known || c.NotBefore.Unix() < from {
			start[role] = c.NotBefore.Unix()
		}
		if to, known := expiry[role]; !known || c.NotAfter.Unix() < to {
			expiry[role] = c.NotAfter.Unix()
		}
	}
	for role, at := range start {
		m.CertificateStart.WithLabelValues(string(role)).Set(float64(at))
		m.CertificateExpiry.WithLabelValues(string(role)).Set(float64(expiry[role]))
	}
}

// ObserveKeyChange counts a certificate that took another's place.
func (m *Metrics) ObserveKeyChange(role snapshot.Role, kept bool) {
	key := "replaced"
	if kept {
		key = "kept"
	}
	m.KeyChanges.WithLabelValues(string(role), key).Inc()
}
