// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

// maxListed bounds the lists of names in a coverage.
const maxListed = 20

// judge runs the checks over what now is, and notes fights.
func (r *NamespaceReconciler) judge(_ context.Context, s *scope) error {
	if s.invalid != "" || s.decision.Verdict != plan.InScope {
		return nil
	}
	s.contested = r.contested(s)
	s.findings = checks.Run(checks.Subject{
		Baseline:   s.baseline.Name,
		Namespace:  s.namespace,
		Directions: s.baseline.Spec.Directions,
		Policies:   s.policies(),
		Omitted:    s.decision.Set.Omitted,
		Foreign:    s.foreign,
	})
	s.proof = r.proof(s)
	return nil
}

// finding returns the named finding.
func (s *scope) finding(check string) checks.Finding {
	for _, f := range s.findings {
		if f.Check == check {
			return f
		}
	}
	return checks.Finding{}
}

// inPlace returns the first finding that contradicts that the policies are in place.
func (s *scope) inPlace() (checks.Finding, bool) {
	for _, check := range []string{"DenyInPlace", "AllowancesInPlace", "AllowancesResolved"} {
		if f := s.finding(check); f.Result == checks.Fail {
			return f, false
		}
	}
	return checks.Finding{}, true
}

// effective returns the first finding that contradicts that the deny is effective.
func (s *scope) effective() (checks.Finding, bool) {
	for _, check := range []string{"BothDirectionsDenied", "NothingWidens"} {
		if f := s.finding(check); f.Result == checks.Fail {
			return f, false
		}
	}
	return checks.Finding{}, true
}

// state sums the scope up.
func (s *scope) state() pcinetv1alpha1.CoverageState {
	missing, inPlace := s.inPlace()
	switch {
	case s.invalid != "", s.refused != "", missing.Reason == pcinetv1alpha1.ReasonNameCollision,
		missing.Reason == pcinetv1alpha1.ReasonPolicyRefused:
		return pcinetv1alpha1.CoverageFailing
	case s.decision.Verdict == plan.OutOfScope:
		return ""
	case s.decision.Verdict == plan.Exempt:
		return pcinetv1alpha1.CoverageExempt
	case !inPlace:
		return pcinetv1alpha1.CoveragePending
	case s.contested != "":
		return pcinetv1alpha1.CoverageContested
	}
	return pcinetv1alpha1.CoverageProtected
}

// worst returns what to say of the namespace first; a zero finding when all is well.
func (s *scope) worst() checks.Finding {
	missing, inPlace := s.inPlace()
	switch {
	case s.invalid != "":
		return checks.Finding{Reason: pcinetv1alpha1.ReasonInvalidSpec, Message: fmt.Sprintf("Baseline %s cannot be planned: %s. What was in place stays.", s.baseline.Name, s.invalid)}
	case s.refused != "":
		return checks.Finding{Reason: s.refused, Message: s.failure}
	case !inPlace:
		return missing
	case s.contested != "":
		return checks.Finding{Reason: pcinetv1alpha1.ReasonRepeatedChanges, Message: s.contested}
	}
	return s.finding("NothingWidens").Failed()
}

// stalled says whether only a human can make the namespace right.
func (s *scope) stalled() bool {
	switch s.worst().Reason {
	case pcinetv1alpha1.ReasonInvalidSpec, pcinetv1alpha1.ReasonNameCollision, pcinetv1alpha1.ReasonPolicyRefused, pcinetv1alpha1.ReasonForbidden,
		pcinetv1alpha1.ReasonQuotaExceeded, pcinetv1alpha1.ReasonAdmissionRefused:
		return true
	}
	return false
}

// coverage builds the coverage as it should be.
func (s *scope) coverage() pcinetv1alpha1.NamespaceCoverageStatus {
	out := pcinetv1alpha1.NamespaceCoverageStatus{
		BaselineGeneration: s.baseline.Generation,
		NamespaceUID:       string(s.namespace.UID),
		State:              s.state(),
		Enforcement:        s.baseline.Spec.Enforcement,
		Backend:            pcinetv1alpha1.Backend(s.backend.api.Name()),
		Policies:           s.policies(),
		Conditions:         s.conditions(),
	}
	if s.decision.Exemption != nil {
		out.Exemption = *s.decision.Exemption
	}
	if s.decision.Verdict != plan.InScope {
		return out
	}
	for _, o := range s.decision.Set.Omitted {
		out.Omitted = append(out.Omitted, pcinetv1alpha1.OmittedAllowance{Name: strings.TrimPrefix(o.Name, "allow-"), Reason: o.Reason, Message: clipMessage(o.Message)})
	}
	out.Widening = checks.Widening(s.foreign)
	out.Widening = out.Widening[:min(len(out.Widening), maxListed)]
	if pods := s.namespace.HostNetworkPods; len(pods) > 0 {
		out.UncoveredPods = pcinetv1alpha1.UncoveredPods{Count: int32(len(pods)), Names: pods[:min(len(pods), maxListed)]}
	}
	return out
}

func clipMessage(s string) string { return status.Clip(s, 400) }

func (s *scope) conditions() []metav1.Condition {
	c := status.Conditions{Now: metav1.NewTime(s.now.Truncate(time.Second))} // as it is stored
	if s.previous != nil {
		c.Previous = s.previous.Status.Conditions
	}
	s.setReady(&c)
	if p := s.proof; p != nil {
		c.Set(pcinetv1alpha1.ConditionEnforcementProven, p.Status, p.Reason, p.Message)
	}
	if s.invalid == "" && s.decision.Verdict == plan.InScope {
		missing, inPlace := s.inPlace()
		c.Set(pcinetv1alpha1.ConditionDefaultDenyInPlace, truth(inPlace), or(missing.Reason, pcinetv1alpha1.ReasonNamespaceProtected), missing.Message)
		void, effective := s.effective()
		if deny := s.finding("DenyInPlace"); deny.Result == checks.Fail {
			c.Set(pcinetv1alpha1.ConditionDefaultDenyEffective, metav1.ConditionFalse, deny.Reason, deny.Message)
		} else {
			c.Set(pcinetv1alpha1.ConditionDefaultDenyEffective, truth(effective), or(void.Reason, pcinetv1alpha1.ReasonNothingWidens), or(void.Message, s.finding("PodsCoverable").Message))
		}
	}
	c.Set(pcinetv1alpha1.ConditionContested, truth(s.contested != ""),
		pick(s.contested != "", pcinetv1alpha1.ReasonRepeatedChanges, pcinetv1alpha1.ReasonUncontested), s.contested)
	return c.List()
}

func (s *scope) setReady(c *status.Conditions) {
	worst := s.worst()
	switch state := s.state(); {
	case state == pcinetv1alpha1.CoverageExempt:
		e := s.decision.Exemption
		c.Set(pcinetv1alpha1.ConditionReady, metav1.ConditionFalse, pcinetv1alpha1.ReasonExempt,
			fmt.Sprintf("Exempt until %s, approved by %s: %s", e.ExpiresAt.UTC().Format(time.RFC3339), e.ApprovedBy, e.Reason))
	case state == pcinetv1alpha1.CoverageFailing:
		c.Set(pcinetv1alpha1.ConditionReady, metav1.ConditionFalse, worst.Reason, worst.Message)
	case s.auditing():
		c.Set(pcinetv1alpha1.ConditionReady, metav1.ConditionFalse, pcinetv1alpha1.ReasonAuditMode, s.auditMessage())
	case state == pcinetv1alpha1.CoveragePending, state == pcinetv1alpha1.CoverageContested:
		c.Set(pcinetv1alpha1.ConditionReady, metav1.ConditionFalse, worst.Reason, worst.Message)
	default:
		c.Set(pcinetv1alpha1.ConditionReady, metav1.ConditionTrue, pcinetv1alpha1.ReasonNamespaceProtected,
			fmt.Sprintf("The deny of baseline %s and its allowances (%d) are in place.", s.baseline.Name, len(s.decision.Set.Allowances)))
	}
	switch {
	case s.stalled():
		c.Set(pcinetv1alpha1.ConditionStalled, metav1.ConditionTrue, worst.Reason, worst.Message)
	case s.state() == pcinetv1alpha1.CoveragePending && !s.auditing():
		c.Set(pcinetv1alpha1.ConditionReconciling, metav1.ConditionTrue, pcinetv1alpha1.ReasonProgressing, worst.Message)
	}
}

func (s *scope) auditMessage() string {
	changes := len(s.superfluous)
	for _, w := range s.wanted {
		if w.state != pcinetv1alpha1.PolicyInPlace {
			changes++
		}
	}
	if changes == 0 {
		return "Audit: the policies are in place, but nothing keeps them so. Set spec.enforcement to Enforce."
	}
	return fmt.Sprintf("Audit: policies that Enforce would write or remove: %d. See status.policies, then set spec.enforcement to Enforce.", changes)
}

func truth(b bool) metav1.ConditionStatus {
	if b {
		return metav1.ConditionTrue
	}
	return metav1.ConditionFalse
}

// or returns the first text that is not empty.
func or[T ~string](a, b T) T { return pick(a != "", a, b) }

func pick[T any](yes bool, a, b T) T {
	if yes {
		return a
	}
	return b
}
