// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AnnotationBreakGlass on a baseline lets everybody change its policies for at most an hour: "<RFC 3339 time> <reason>".
const AnnotationBreakGlass = "pcinetwork.dev/break-glass"

// Admission says what the API server refuses. Under enforcement Audit it refuses nothing for this baseline.
type Admission struct {
	// podGate is Enforce (a pod of a namespace in scope is refused until the deny is in place there), Warn (it is admitted; whoever
	// creates it is warned, and it is in the audit log, if the namespace's coverage says that its deny is not in place), or Off.
	// System namespaces are never gated.
	// +optional
	// +kubebuilder:default=Enforce
	PodGate AdmissionMode `json:"podGate,omitempty"`

	// tamperGuard is Enforce (nobody but the operator may change or delete what it has written for the baseline), Warn (whoever does
	// is warned, it is in the audit log, and it is repaired), or Off (it is repaired).
	// +optional
	// +kubebuilder:default=Enforce
	TamperGuard AdmissionMode `json:"tamperGuard,omitempty"`
}

// AdmissionMode says what the API server does with a request that it should not be asked.
//
// +kubebuilder:validation:Enum=Enforce;Warn;Off
type AdmissionMode string

// The values of AdmissionMode.
const (
	AdmissionEnforce AdmissionMode = "Enforce"
	AdmissionWarn    AdmissionMode = "Warn"
	AdmissionOff     AdmissionMode = "Off"
)

// AdmissionStatus is what the API server was asked to refuse.
type AdmissionStatus struct {
	// state says how the admission policies and this baseline's bindings compare with the intended ones.
	// +required
	State PolicyState `json:"state,omitempty"`

	// message says which object could not be written and why, or why a break-glass annotation is not in force.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Message string `json:"message,omitempty"`

	// breakGlass is set while everybody may change the baseline's policies.
	// +optional
	BreakGlass BreakGlass `json:"breakGlass,omitzero"`
}

// BreakGlass is a time in which everybody may change the policies of a baseline, and changes to them are not repaired.
type BreakGlass struct {
	// until is when it ends by itself.
	// +required
	Until metav1.Time `json:"until,omitzero"` //nolint:kubeapilinter // a zero time is no time

	// reason is the one given, in at most 128 characters.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Reason string `json:"reason,omitempty"`
}
