// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"strings"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

const (
	// reviewPeriod is how long a review holds: PCI DSS 1.2.7 asks for one at least every six months.
	reviewPeriod = 180 * 24 * time.Hour
	// maxOffenders and maxOffenderMessage keep a status near 16 KiB whatever the size of the cluster; fit takes away what is over.
	maxOffenders       = 20
	maxOffenderMessage = 144
)

// baselineScope is one baseline on its way through one reconcile. All fields are set by Reconcile.
type baselineScope struct {
	baseline *pcinetv1alpha1.PCINetworkBaseline
	cluster  snapshot.Cluster
	engine   engines.Assessment
	backend  backendChoice
	guard    pcinetv1alpha1.Guard
	// guardKnown: guard was looked at by this process.
	guardKnown bool
	admission  pcinetv1alpha1.AdmissionStatus
	// admissionKnown: admission was looked at by this process.
	admissionKnown bool
	management     managementResult
	// managementKnown: management was judged by this process, as it is declared now.
	managementKnown bool
	// proof is what packets have shown, as of lastRound; proofKnown: whether they can was looked at by this process.
	proof      probe.Summary
	lastRound  time.Time
	proofKnown bool
	tally      Tally
	// blind is what is not watched, so that nothing good can be said of it.
	blind blindness
	now   time.Time
}

// count returns the number of namespaces in a state.
func (s *baselineScope) count(state pcinetv1alpha1.CoverageState) int { return s.tally.States[state] }

// selected is the number of namespaces in scope.
func (s *baselineScope) selected() int {
	return s.count(pcinetv1alpha1.CoverageProtected) + s.count(pcinetv1alpha1.CoveragePending) +
		s.count(pcinetv1alpha1.CoverageContested) + s.count(pcinetv1alpha1.CoverageFailing)
}

// status is the whole status as it should be.
func (s *baselineScope) status() pcinetv1alpha1.PCINetworkBaselineStatus {
	n := func(count int) *int32 { return new(int32(count)) }
	out := pcinetv1alpha1.PCINetworkBaselineStatus{
		ObservedGeneration: s.baseline.Generation,
		Covered:            fmt.Sprintf("%d/%d", s.count(pcinetv1alpha1.CoverageProtected), s.selected()),
		Backend:            pcinetv1alpha1.Backend(s.backend.api.Name()),
		Platform:           s.platform(),
		Guard:              s.guard,
		Proof:              s.proofStatus(),
		Admission:          s.admission,
		Namespaces: &pcinetv1alpha1.NamespaceCounts{
			Selected:  n(s.selected()),
			Protected: n(s.count(pcinetv1alpha1.CoverageProtected)),
			Pending:   n(s.count(pcinetv1alpha1.CoveragePending)),
			Exempt:    n(s.count(pcinetv1alpha1.CoverageExempt)),
			Contested: n(s.count(pcinetv1alpha1.CoverageContested)),
			Failing:   n(s.count(pcinetv1alpha1.CoverageFailing)),
		},
		Conditions: s.conditions(),
	}
	if s.baseline.Spec.Namespaces.System != pcinetv1alpha1.SystemNamespacesInclude {
		for _, name := range s.cluster.SystemNamespaces {
			out.SystemNamespaces = append(out.SystemNamespaces, pcinetv1alpha1.NamespaceName(name))
		}
	}
	out.Offenders = s.offenders()
	fit(&out)
	return out
}

func (s *baselineScope) conditions() []metav1.Condition {
	c := &status.Conditions{Generation: s.baseline.Generation, Now: metav1.NewTime(s.now), Previous: s.baseline.Status.Conditions}
	s.setReady(c)
	s.setInPlace(c)
	s.setEffective(c)
	s.setContested(c)
	s.setExemptions(c)
	s.setReview(c)
	s.setEngine(c)
	s.setProven(c)
	s.setManagement(c)
	setCompliant(c)
	return c.List()
}

// worst returns the reason and a message that counts the offenders that match and quotes the first.
func (s *baselineScope) worst(match func(Offender) bool) (reason, message string) {
	var first *Offender
	count := 0
	for i := range s.tally.Offenders {
		if o := &s.tally.Offenders[i]; match(*o) {
			if first == nil {
				first = o
			}
			count++
		}
	}
	if first == nil {
		return "", ""
	}
	message = first.Worst.Message
	if count > 1 {
		message = fmt.Sprintf("%d namespaces, first %s: %s", count, first.Namespace, message)
	}
	return first.Worst.Reason, message
}

func unprotected(o Offender) bool {
	return o.State == pcinetv1alpha1.CoverageFailing || o.State == pcinetv1alpha1.CoveragePending
}

// foremost says what is not as it should be: a break-glass, which explains the rest; that denied packets got through, which makes the
// policies worth nothing there; or the worst namespace.
func (s *baselineScope) foremost() (reason, message string) {
	if broken(s.admission) {
		return pcinetv1alpha1.ReasonBreakGlass, fmt.Sprintf("Everybody may change the policies of baseline %s, and they are not repaired: %s. End it: kubectl annotate pcinb %s %s-.",
			s.baseline.Name, s.admission.BreakGlass.Reason, s.baseline.Name, pcinetv1alpha1.AnnotationBreakGlass)
	}
	if s.proof.Status == metav1.ConditionFalse {
		return s.proof.Reason, s.proof.Message
	}
	return s.worst(func(o Offender) bool { return unprotected(o) || o.State == pcinetv1alpha1.CoverageContested })
}

func (s *baselineScope) setReady(c *status.Conditions) {
	reason, message := s.foremost()
	stalled, stalledMessage := s.worst(func(o Offender) bool { return o.Stalled })
	hindered, hindrance, lasting := s.hindrance()
	progress := ""
	ready := func(value metav1.ConditionStatus, reason, message string) {
		c.Set(pcinetv1alpha1.ConditionReady, value, reason, message)
	}
	switch {
	case !s.baseline.DeletionTimestamp.IsZero():
		progress = fmt.Sprintf("Removing the policies of baseline %s.", s.baseline.Name)
		ready(metav1.ConditionFalse, pcinetv1alpha1.ReasonDeleting, progress)
	case s.behind():
		progress = "Some namespaces are yet to be looked at."
		ready(metav1.ConditionUnknown, pcinetv1alpha1.ReasonProgressing, progress)
	case s.count(pcinetv1alpha1.CoverageFailing) > 0:
		ready(metav1.ConditionFalse, reason, message)
	case s.baseline.Spec.Enforcement == pcinetv1alpha1.EnforcementAudit:
		ready(metav1.ConditionFalse, pcinetv1alpha1.ReasonAuditMode, s.auditMessage())
	case s.nothing():
		ready(metav1.ConditionFalse, pcinetv1alpha1.ReasonNoNamespaceSelected,
			fmt.Sprintf("Baseline %s covers no namespace. Check spec.namespaces and spec.exemptions: kubectl get namespaces --show-labels.", s.baseline.Name))
	case reason != "":
		progress = message
		ready(metav1.ConditionFalse, reason, message)
	case hindered != "":
		if lasting && stalled == "" {
			stalled, stalledMessage = hindered, hindrance
		} else {
			progress = hindrance
		}
		ready(metav1.ConditionFalse, hindered, hindrance)
	case !s.seeing():
		progress = s.blind.message()
		ready(metav1.ConditionUnknown, pcinetv1alpha1.ReasonNotWatched, progress)
	default:
		reason, message = s.protected()
		ready(metav1.ConditionTrue, reason, message)
	}
	s.setProgress(c, progress, stalled, stalledMessage)
}

// protected says that all is well. Of what admission was told not to refuse it tells too, and of namespaces that do not go: their
// pods went first, so nothing contradicts it, but somebody has to look.
func (s *baselineScope) protected() (reason, message string) {
	message = fmt.Sprintf("Each of %d namespaces in scope has its deny and allowances.", s.selected()) + relaxed(s.baseline)
	reason, stuck := s.worst(func(o Offender) bool { return o.State == pcinetv1alpha1.CoverageTerminating })
	if reason == "" {
		return pcinetv1alpha1.ReasonAllNamespacesProtected, message
	}
	return reason, message + " " + stuck
}

func (s *baselineScope) auditMessage() string {
	pending := s.count(pcinetv1alpha1.CoveragePending)
	if pending == 0 {
		return "Audit: every namespace in scope has its policies, but nothing keeps them so. Set spec.enforcement to Enforce."
	}
	return fmt.Sprintf("Audit: %d of %d namespaces would be changed; see kubectl get nscov -A. Set spec.enforcement to Enforce.", pending, s.selected())
}

func (s *baselineScope) setInPlace(c *status.Conditions) {
	reason, message := s.worst(unprotected)
	switch {
	case s.behind():
		c.Set(pcinetv1alpha1.ConditionDefaultDenyInPlace, metav1.ConditionUnknown, pcinetv1alpha1.ReasonProgressing, "Some namespaces are yet to be looked at.")
	case s.nothing():
		c.Set(pcinetv1alpha1.ConditionDefaultDenyInPlace, metav1.ConditionUnknown, pcinetv1alpha1.ReasonNoNamespaceSelected, "")
	case reason != "":
		c.Set(pcinetv1alpha1.ConditionDefaultDenyInPlace, metav1.ConditionFalse, reason, message)
	case !s.seeing():
		c.Set(pcinetv1alpha1.ConditionDefaultDenyInPlace, metav1.ConditionUnknown, pcinetv1alpha1.ReasonNotWatched, s.blind.message())
	default:
		c.Set(pcinetv1alpha1.ConditionDefaultDenyInPlace, metav1.ConditionTrue, pcinetv1alpha1.ReasonAllNamespacesProtected, "")
	}
}

// widening counts the namespaces in which something undoes the deny, and quotes the first.
func (s *baselineScope) widening() string {
	message, count := "", 0
	for _, o := range s.tally.Offenders {
		if o.Widening == "" {
			continue
		}
		if count++; count == 1 {
			message = o.Widening
		}
	}
	if count > 1 {
		message = fmt.Sprintf("%d namespaces. %s", count, message)
	}
	return message
}

func (s *baselineScope) setEffective(c *status.Conditions) {
	set := func(value metav1.ConditionStatus, reason, message string) {
		c.Set(pcinetv1alpha1.ConditionDefaultDenyEffective, value, reason, message)
	}
	missing, missingMessage := s.worst(unprotected)
	widening := s.widening()
	switch {
	case s.behind():
		set(metav1.ConditionUnknown, pcinetv1alpha1.ReasonProgressing, "Some namespaces are yet to be looked at.")
	case s.nothing():
		set(metav1.ConditionUnknown, pcinetv1alpha1.ReasonNoNamespaceSelected, "")
	case missing == pcinetv1alpha1.ReasonPoliciesMissing:
		set(metav1.ConditionFalse, missing, missingMessage)
	case len(s.baseline.Spec.Directions) < 2:
		set(metav1.ConditionFalse, pcinetv1alpha1.ReasonDirectionNotDenied,
			fmt.Sprintf("Baseline %s denies %s alone. Set spec.directions to [Ingress, Egress].", s.baseline.Name, s.baseline.Spec.Directions[0]))
	case widening != "":
		set(metav1.ConditionFalse, pcinetv1alpha1.ReasonPolicyWidens, widening)
	case s.count(pcinetv1alpha1.CoverageFailing) > 0:
		set(metav1.ConditionUnknown, missing, missingMessage)
	case !s.seeing():
		set(metav1.ConditionUnknown, pcinetv1alpha1.ReasonNotWatched, s.blind.message())
	default:
		set(metav1.ConditionTrue, pcinetv1alpha1.ReasonNothingWidens, "")
	}
}

func (s *baselineScope) setContested(c *status.Conditions) {
	reason, message := s.worst(func(o Offender) bool { return o.Worst.Reason == pcinetv1alpha1.ReasonRepeatedChanges })
	c.Set(pcinetv1alpha1.ConditionContested, truth(reason != ""), or(reason, pcinetv1alpha1.ReasonUncontested), message)
}

// setExemptions judges the clocks of PCI DSS 1.2.5.
func (s *baselineScope) setExemptions(c *status.Conditions) {
	var expired, expiring []string
	for _, e := range s.baseline.Spec.Exemptions {
		text := fmt.Sprintf("%s (%s, %s)", joinNames(e.Namespaces), e.ApprovedBy, e.ExpiresAt.UTC().Format(time.RFC3339))
		switch left := e.ExpiresAt.Sub(s.now); {
		case left <= 0:
			expired = append(expired, text)
		case left <= plan.ExpiryNotice:
			expiring = append(expiring, text)
		}
	}
	set := func(value metav1.ConditionStatus, reason, message string) {
		c.Set(pcinetv1alpha1.ConditionExemptionsCurrent, value, reason, message)
	}
	switch {
	case len(expired) > 0:
		set(metav1.ConditionFalse, pcinetv1alpha1.ReasonExemptionExpired,
			"Expired, and denied again: "+strings.Join(expired, "; ")+". Remove the entry from spec.exemptions, or renew its approval.")
	case len(expiring) > 0:
		set(metav1.ConditionTrue, pcinetv1alpha1.ReasonExemptionExpiring,
			"Expires within 14 days: "+strings.Join(expiring, "; ")+". Prepare the namespace for the deny, or renew the approval.")
	case len(s.baseline.Spec.Exemptions) > 0:
		set(metav1.ConditionTrue, pcinetv1alpha1.ReasonExemptionsValid, "")
	default:
		set(metav1.ConditionTrue, pcinetv1alpha1.ReasonNoExemptions, "")
	}
}

func joinNames(names []pcinetv1alpha1.NamespaceName) string {
	if len(names) > 1 {
		return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
	}
	return string(names[0])
}

// setReview judges the clock of PCI DSS 1.2.7.
func (s *baselineScope) setReview(c *status.Conditions) {
	set := func(value metav1.ConditionStatus, reason, message string) {
		c.Set(pcinetv1alpha1.ConditionReviewCurrent, value, reason, message)
	}
	review := s.baseline.Spec.Review
	switch {
	case review.ReviewedBy == "":
		set(metav1.ConditionUnknown, pcinetv1alpha1.ReasonNeverReviewed, "No review is recorded. Review the rules and exemptions, then set spec.review.")
	case review.ReviewedAt.After(s.now):
		set(metav1.ConditionFalse, pcinetv1alpha1.ReasonReviewInFuture, "spec.review.reviewedAt is in the future. Correct it.")
	case s.now.Sub(review.ReviewedAt.Time) > reviewPeriod:
		set(metav1.ConditionFalse, pcinetv1alpha1.ReasonReviewOverdue,
			"The last review, by "+review.ReviewedBy+", is more than 180 days old. Review the rules and exemptions, then set spec.review.")
	default:
		set(metav1.ConditionTrue, pcinetv1alpha1.ReasonReviewed, "Reviewed by "+review.ReviewedBy+".")
	}
}

// requirements are the conditions that Compliant sums up.
var requirements = []string{
	pcinetv1alpha1.ConditionPolicyEngineSupported,
	pcinetv1alpha1.ConditionDefaultDenyInPlace,
	pcinetv1alpha1.ConditionDefaultDenyEffective,
	pcinetv1alpha1.ConditionEnforcementProven,
	pcinetv1alpha1.ConditionManagementAccessRestricted,
	pcinetv1alpha1.ConditionManagementTrafficEncrypted,
	pcinetv1alpha1.ConditionExemptionsCurrent,
	pcinetv1alpha1.ConditionReviewCurrent,
}

// setCompliant sums up: False beats Unknown beats True. A requirement that nobody judged is Unknown.
func setCompliant(c *status.Conditions) {
	var not, unknown []string
	for _, kind := range requirements {
		switch cond := apimeta.FindStatusCondition(c.List(), kind); {
		case cond == nil, cond.Status == metav1.ConditionUnknown:
			unknown = append(unknown, kind)
		case cond.Status != metav1.ConditionTrue:
			not = append(not, kind)
		}
	}
	switch {
	case len(not) > 0:
		c.Set(pcinetv1alpha1.ConditionCompliant, metav1.ConditionFalse, pcinetv1alpha1.ReasonRequirementsNotMet, "Not met: "+strings.Join(not, ", ")+".")
	case len(unknown) > 0:
		c.Set(pcinetv1alpha1.ConditionCompliant, metav1.ConditionUnknown, pcinetv1alpha1.ReasonRequirementsUnknown, "Unknown: "+strings.Join(unknown, ", ")+".")
	default:
		c.Set(pcinetv1alpha1.ConditionCompliant, metav1.ConditionTrue, pcinetv1alpha1.ReasonRequirementsMet, "")
	}
}

// nextClock returns the time until time alone changes the status; zero for never.
func (s *baselineScope) nextClock() time.Duration {
	var next time.Duration
	at := func(t time.Time) {
		if left := t.Sub(s.now); left >= 0 { // what changes just after t has not yet changed at t
			next = sooner(next, left+time.Millisecond)
		}
	}
	for _, e := range s.baseline.Spec.Exemptions {
		at(e.ExpiresAt.Time)
		at(e.ExpiresAt.Add(-plan.ExpiryNotice))
	}
	if review := s.baseline.Spec.Review; review.ReviewedBy != "" {
		at(review.ReviewedAt.Time)
		at(review.ReviewedAt.Add(reviewPeriod))
	}
	if !s.proof.ChangesAt.IsZero() {
		at(s.proof.ChangesAt)
	}
	return next
}
