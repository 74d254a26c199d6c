// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"reflect"
	"slices"

	checks "github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/report"
)

// managementFindings are the findings about one baseline that a report has room for, the worst first, and how many more there are.
type managementFindings struct {
	list []checks.Finding
	more report.Counts
}

// keep remembers the findings about a baseline, and tells if they are others than before.
func (r *ManagementReconciler) keep(baseline string, findings []checks.Finding) {
	now := managementFindings{list: slices.Clone(findings[:min(len(findings), report.MaxResults)]), more: report.Counts{}}
	for i := range findings[len(now.list):] {
		now.more[findings[len(now.list)+i].Result]++
	}
	before, had := r.findings.Swap(baseline, now)
	if !had || !reflect.DeepEqual(before, now) {
		r.judged.tell()
	}
}

// findingsOf returns what is known of a baseline. Who calls it asks first whether anything is.
func (r *ManagementReconciler) findingsOf(baseline string) managementFindings {
	value, _ := r.findings.Load(baseline)
	found, _ := value.(managementFindings)
	return found
}
