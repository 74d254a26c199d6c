// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	results "github.com/pcinetwork/pci-network-baseline/internal/checks"
	checks "github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/report"
)

// A report that is written before everything was looked at would forget what the one before it knows.
func TestAReportWaitsUntilEverythingIsKnown(t *testing.T) {
	failed := checks.Finding{Check: "TrafficEncrypted", Clause: "4.3", Result: results.Fail, Subject: "etcd"}
	for name, tc := range map[string]struct {
		change func(*ReportReconciler, *pcinetv1alpha1.PCINetworkBaseline)
		want   string
	}{
		"nothing of management is asked for": {
			func(_ *ReportReconciler, b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.ManagementEncryption = nil }, "NamespaceProtected; map[]",
		},
		"management is not judged": {func(*ReportReconciler, *pcinetv1alpha1.PCINetworkBaseline) {}, ""},
		"management was judged as it is declared": {
			func(r *ReportReconciler, b *pcinetv1alpha1.PCINetworkBaseline) {
				r.Managements.results.Store(b.Name, newManagementResult(b, nil, true))
				r.Managements.keep(b.Name, []checks.Finding{failed})
			}, "TrafficEncrypted NamespaceProtected; map[]",
		},
		"management was judged as it was declared": {
			func(r *ReportReconciler, b *pcinetv1alpha1.PCINetworkBaseline) {
				r.Managements.results.Store(b.Name, newManagementResult(b, nil, true))
				b.Spec.ManagementEncryption = &pcinetv1alpha1.ManagementEncryption{MaxCertificateAgeDays: 7}
			}, "",
		},
		"the status is of an older generation": {
			func(_ *ReportReconciler, b *pcinetv1alpha1.PCINetworkBaseline) {
				b.Spec.ManagementEncryption, b.Status.ObservedGeneration = nil, 2
			}, "",
		},
		"a namespace was not looked at": {
			func(r *ReportReconciler, b *pcinetv1alpha1.PCINetworkBaseline) {
				b.Spec.ManagementEncryption = nil
				r.Store.Expect("shop")
			}, "",
		},
		"there is more than a report has room for": {
			func(r *ReportReconciler, b *pcinetv1alpha1.PCINetworkBaseline) {
				r.Managements.results.Store(b.Name, newManagementResult(b, nil, true))
				many := make([]checks.Finding, report.MaxResults+7)
				for i := range many {
					many[i].Result = results.Pass
				}
				r.Managements.keep(b.Name, many)
			}, "many; map[pass:7]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := &pcinetv1alpha1.PCINetworkBaseline{}
			b.Name, b.UID, b.Generation, b.Status.ObservedGeneration = "pci", "1", 3, 3
			b.Spec.ManagementEncryption = &pcinetv1alpha1.ManagementEncryption{}
			r := &ReportReconciler{Store: NewStore(), Managements: &ManagementReconciler{}}
			r.Store.Set("web", b.Name, Record{
				UID: b.UID, Generation: 3, State: pcinetv1alpha1.CoverageFailing, Worst: results.Finding{Reason: "Forbidden", Message: "No."},
			})
			tc.change(r, b)
			got := ""
			if rep := r.collect(b); rep != nil {
				for i := range rep.Findings {
					got += rep.Findings[i].Check + " "
				}
				if len(rep.Findings) > report.MaxResults {
					got = "many "
				}
				got = fmt.Sprintf("%s; %v", got[:max(0, len(got)-1)], rep.Unlisted)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
