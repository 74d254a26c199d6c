// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	results "github.com/pcinetwork/pci-network-baseline/internal/checks"
	checks "github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

const (
	// maxSubject is an offender's subject as far as its place in a status holds it.
	maxSubject = 128
	// maxStatus is what docs/spec.md promises of a status, as JSON, in bytes.
	maxStatus = 16 << 10
)

// managementResult is what a baseline's status says of management interfaces.
type managementResult struct {
	// access and encryption are what was declared when it was judged.
	access     *pcinetv1alpha1.ManagementAccess
	encryption *pcinetv1alpha1.ManagementEncryption
	// restricted and encrypted are the conditions, without times.
	restricted, encrypted metav1.Condition
	// offenders are the worst, failed ones only.
	offenders []pcinetv1alpha1.Offender
	// complete: others than the cluster itself were asked, too.
	complete bool
}

func failing(f checks.Finding) bool { return f.Result == results.Fail }

// newManagementResult sums findings up, which are sorted by how bad they are. Until they are complete, nothing makes access True.
func newManagementResult(b *pcinetv1alpha1.PCINetworkBaseline, findings []checks.Finding, complete bool) managementResult {
	out := managementResult{
		complete: complete,
		access:   b.Spec.ManagementAccess.DeepCopy(), encryption: b.Spec.ManagementEncryption.DeepCopy(),
		restricted: summarize(findings, checks.Access), encrypted: summarize(findings, checks.Encryption),
	}
	if !complete && out.restricted.Status == metav1.ConditionTrue {
		out.restricted = metav1.Condition{
			Status: metav1.ConditionUnknown, Reason: pcinetv1alpha1.ReasonNotObserved, Message: "Who can reach the API server is being asked.",
		}
	}
	for _, f := range findings {
		if failing(f) && len(out.offenders) < maxOffenders {
			out.offenders = append(out.offenders, pcinetv1alpha1.Offender{
				Subject: status.Clip(f.Subject, maxSubject), Reason: f.Reason, Message: status.Clip(f.Evidence+". "+f.Remedy+".", maxOffenderMessage),
			})
		}
	}
	return out
}

// summarize makes a condition of the findings of one clause: one that failed makes it False, one that could not be judged Unknown.
// Counts of what is fine are left out, because they change all day.
func summarize(findings []checks.Finding, clause string) metav1.Condition {
	var worst, passed *checks.Finding
	count := 0
	for i := range findings {
		switch f := &findings[i]; {
		case f.Clause != clause:
		case f.Result == results.Pass:
			passed = weaker(passed, f)
		case f.Result != results.Fail && f.Result != results.Error:
		case worst == nil:
			worst, count = f, 1
		case f.Result == worst.Result:
			count++
		}
	}
	switch {
	case worst != nil:
		message := worst.Message()
		if count > 1 {
			message = fmt.Sprintf("%d findings, first: %s", count, message)
		}
		value := metav1.ConditionUnknown
		if worst.Result == results.Fail {
			value = metav1.ConditionFalse
		}
		return metav1.Condition{Status: value, Reason: worst.Reason, Message: message}
	case passed == nil:
		return metav1.Condition{Status: metav1.ConditionUnknown, Reason: pcinetv1alpha1.ReasonManagementNotObservable, Message: "Nothing was found that could be judged."}
	case clause == checks.Access:
		return metav1.Condition{Status: metav1.ConditionTrue, Reason: passed.Reason, Message: passed.Message()}
	default:
		return metav1.Condition{Status: metav1.ConditionTrue, Reason: pcinetv1alpha1.ReasonTrafficEncrypted, Message: "Every interface that answers encrypts."}
	}
}

// weaker returns what is to be told of two that passed: somebody's word before what was seen, else the last check's, which says most.
func weaker(before, f *checks.Finding) *checks.Finding {
	if before != nil && before.Reason == pcinetv1alpha1.ReasonAccessAttested {
		return before
	}
	return f
}

// setManagement sets the conditions of 4.2 and 4.3. Until this process has looked they are Unknown.
func (s *baselineScope) setManagement(c *status.Conditions) {
	for _, m := range []struct {
		kind     string
		declared bool
		result   metav1.Condition
		unset    string
	}{
		{
			pcinetv1alpha1.ConditionManagementAccessRestricted, s.baseline.Spec.ManagementAccess != nil, s.management.restricted,
			"Who may reach the management interfaces (4.2) is not declared: spec.managementAccess.",
		},
		{
			pcinetv1alpha1.ConditionManagementTrafficEncrypted, s.baseline.Spec.ManagementEncryption != nil, s.management.encrypted,
			"Nobody asks to look at management traffic (4.3): spec.managementEncryption: {}.",
		},
	} {
		switch {
		case !m.declared:
			c.Set(m.kind, metav1.ConditionUnknown, pcinetv1alpha1.ReasonNotAssessed, m.unset)
		case s.managementKnown:
			c.Set(m.kind, m.result.Status, m.result.Reason, m.result.Message)
		default:
			c.Set(m.kind, metav1.ConditionUnknown, pcinetv1alpha1.ReasonNotObserved, "The management interfaces are being looked at.")
		}
	}
}

// managesNothing says whether the baseline declares nothing of management.
func managesNothing(b *pcinetv1alpha1.PCINetworkBaseline) bool {
	return b.Spec.ManagementAccess == nil && b.Spec.ManagementEncryption == nil
}

// managementOffenders are the interfaces that fail; none until this process has looked.
func (s *baselineScope) managementOffenders() []pcinetv1alpha1.Offender {
	if !s.managementKnown || managesNothing(s.baseline) {
		return nil
	}
	return s.management.offenders
}

// offenders joins namespaces and interfaces: first the namespaces that are Failing, then interfaces, then the others.
func (s *baselineScope) offenders() []pcinetv1alpha1.Offender {
	var failing, others []pcinetv1alpha1.Offender
	for _, o := range s.tally.Offenders[:min(len(s.tally.Offenders), maxOffenders)] {
		offender := pcinetv1alpha1.Offender{
			Namespace: pcinetv1alpha1.NamespaceName(o.Namespace), State: o.State, Reason: o.Worst.Reason,
			Message: status.Clip(o.Worst.Message, maxOffenderMessage),
		}
		if o.State == pcinetv1alpha1.CoverageFailing {
			failing = append(failing, offender)
		} else {
			others = append(others, offender)
		}
	}
	all := append(append(failing, s.managementOffenders()...), others...)
	return all[:min(len(all), maxOffenders)]
}

// fit takes offenders from the end of a status until it is small enough. Only one with twenty can be too large.
func fit(out *pcinetv1alpha1.PCINetworkBaselineStatus) {
	for len(out.Offenders) == maxOffenders {
		data, err := json.Marshal(out)
		if err != nil || len(data) <= maxStatus {
			return
		}
		excess := (len(data)-maxStatus)/(maxOffenderMessage+maxSubject) + 1
		out.Offenders = out.Offenders[:max(0, len(out.Offenders)-excess)]
	}
}
