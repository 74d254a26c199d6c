// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// controlPlaneRestricted (4.2; PCI DSS 1.3.1, 1.4.2): what the cloud says that runs the API server. A failed reading says nothing, and
// no attestation stands for it: somebody's word is for what the cloud does not show, not for a cloud that was not asked.
func controlPlaneRestricted(s Subject, v *verdicts) {
	if s.Cloud == nil {
		return
	}
	for _, j := range ControlPlaneRestricted(s.Cloud, allowedSet(s.Access).Prefixes()) {
		switch {
		case j.Unshown:
			attested(s, v, j)
		case j.Result == checks.Error:
			v.add(j.Result, unreadable(s.Cloud), j.Subject, j.Evidence, j.Remedy)
		case j.Result == checks.Pass:
			v.add(j.Result, pcinetv1alpha1.ReasonAccessRestricted, j.Subject, j.Evidence, "")
		default:
			v.add(j.Result, pcinetv1alpha1.ReasonAccessTooWide, j.Subject, j.Evidence, j.Remedy)
			if len(j.Surplus) > 0 {
				v.with(map[string]string{PropertySurplus: everyRange(j.Surplus)})
			}
		}
	}
	if p := s.Since; p != nil {
		v.warn(pcinetv1alpha1.ReasonCloudUnreadable, s.Cloud.Cluster.String(), p.Problem+"; until it answers, what it said before is judged, for a few hours", p.Remedy)
	}
}

// PropertySurplus is that of a finding which has all the ranges that are let in and not allowed.
const PropertySurplus = "surplus"

// everyRange names ranges, up to what a report has room for.
func everyRange(ranges []netip.Prefix) string {
	const most = 512
	var out []string
	for _, p := range ranges[:min(most, len(ranges))] {
		out = append(out, p.String())
	}
	if more := len(ranges) - most; more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return strings.Join(out, ", ")
}

// unreadable is the reason for an error that the cloud's answer, or the lack of it, leads to.
func unreadable(p *snapshot.ControlPlane) string {
	switch p.Failure {
	case "":
		return pcinetv1alpha1.ReasonAccessNotDeclared
	case snapshot.NotAsked:
		return pcinetv1alpha1.ReasonNotObserved
	default:
		return pcinetv1alpha1.ReasonCloudUnreadable
	}
}

// restrictedBy says whether the cloud lets in nobody but who is allowed, as far as it tells.
func restrictedBy(s Subject) bool {
	return !slices.ContainsFunc(ControlPlaneRestricted(s.Cloud, allowedSet(s.Access).Prefixes()), func(j Judgement) bool {
		return j.Result == checks.Fail || j.Result == checks.Error
	})
}

// clusterObjectsRestricted (4.2): what objects ask for that clusters are made from. They are usually about other clusters, whose
// allow-list this need not be, and say what was asked for and not what is: they warn, and vouch for nothing. One that names this
// cluster's API server counts.
func clusterObjectsRestricted(s Subject, v *verdicts) {
	for _, g := range s.ObjectGaps {
		v.warn(pcinetv1alpha1.ReasonManagementNotObservable, g.What, g.Why, g.Remedy)
	}
	allowed := allowedSet(s.Access).Prefixes()
	for i := range s.Objects {
		p := &s.Objects[i]
		own := p.Host != "" && slices.Contains(s.ServerNames, p.Host)
		for _, j := range ControlPlaneRestricted(p, allowed) {
			switch {
			case j.Result == checks.Fail && own:
				v.fail(pcinetv1alpha1.ReasonAccessTooWide, j.Subject, j.Evidence, j.Remedy)
			case j.Result == checks.Fail, j.Result == checks.Warn:
				v.warn(pcinetv1alpha1.ReasonAccessTooWide, j.Subject, j.Evidence, j.Remedy)
			default:
				v.skip(j.Subject, j.Evidence)
			}
		}
	}
}
