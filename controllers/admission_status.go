// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"time"

	apiequality "k8s.io/apimachinery/pkg/api/equality"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/render/admission"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

// maxAdmissionMessage, before what to do about it, and maxBreakGlassReason are admission's part of keeping a status below 16 KiB.
const (
	maxAdmissionMessage = 158
	maxBreakGlassReason = 100
)

// admissionStatus says what became of the objects of a baseline.
func admissionStatus(glass plan.BreakGlass, err error) pcinetv1alpha1.AdmissionStatus {
	out := pcinetv1alpha1.AdmissionStatus{State: pcinetv1alpha1.PolicyInPlace}
	if glass.Ignored != "" {
		out.Message = "Annotation " + pcinetv1alpha1.AnnotationBreakGlass + " is not in force. " + glass.Ignored
	}
	if glass.InForce {
		out.BreakGlass.Until.Time = glass.Until.UTC().Truncate(time.Second) // as it is stored
		out.BreakGlass.Reason = status.Clip(glass.Reason, maxBreakGlassReason)
	}
	if s := (*stranger)(nil); errors.As(err, &s) {
		out.State = pcinetv1alpha1.PolicyMissing
		remedy := ". Run it as " + s.account + "."
		out.Message = status.Clip(s.Error(), min(maxAdmissionMessage, 256-len(remedy))) + remedy // 256 is the field's
		return out
	}
	if err != nil {
		out.State = pcinetv1alpha1.PolicyMissing
		what := "Objects of admission cannot be kept"
		if u := (*unkept)(nil); errors.As(err, &u) {
			what = u.what
		}
		out.Message = status.Clip(what+": "+cause(err), maxAdmissionMessage) + ". " + remedy(refusal(err), "")
		return out
	}
	out.Message = status.Clip(out.Message, maxAdmissionMessage)
	return out
}

// relaxed says which refusals the owner of a baseline does without; "" for none.
func relaxed(b *pcinetv1alpha1.PCINetworkBaseline) string {
	text := ""
	if m := b.Spec.Admission.PodGate; mode(m) != admission.Deny {
		text += fmt.Sprintf(" Pods of a new namespace do not wait for them: spec.admission.podGate is %s.", m)
	}
	if m := b.Spec.Admission.TamperGuard; mode(m) != admission.Deny {
		text += fmt.Sprintf(" Changes to them are not refused but repaired: spec.admission.tamperGuard is %s.", m)
	}
	return text
}

// broken says whether a break-glass is in force.
func broken(s pcinetv1alpha1.AdmissionStatus) bool { return !s.BreakGlass.Until.IsZero() }

func sameAdmission(a, b pcinetv1alpha1.AdmissionStatus) bool {
	return apiequality.Semantic.DeepEqual(a, b)
}
