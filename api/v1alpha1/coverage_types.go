// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// NamespaceCoverage says what the operator did and found in one namespace for one baseline, whose name it has. The
// operator alone writes it, in one request together with its status: it has no status subresource, so that a new
// namespace costs one write, and therefore no observedGeneration.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Namespaced,shortName=nscov,categories=pcinetwork
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Enforcement",type=string,JSONPath=`.status.enforcement`
// +kubebuilder:printcolumn:name="Effective",type=string,JSONPath=`.status.conditions[?(@.type=="DefaultDenyEffective")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type NamespaceCoverage struct { //nolint:kubeapilinter // no status subresource: a new namespace costs one write
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is what the operator did and found. It has one writer and is replaced as a whole.
	// +optional
	// +structType=atomic
	Status NamespaceCoverageStatus `json:"status,omitzero"` //nolint:kubeapilinter // an empty status says as much as none
}

// NamespaceCoverageStatus is what the operator did and found in one namespace.
type NamespaceCoverageStatus struct {
	// conditions say what is true of the namespace; docs/spec.md lists every type and reason.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=12
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// baselineGeneration is the generation of the baseline that status is about.
	// +optional
	// +kubebuilder:validation:Minimum=1
	BaselineGeneration int64 `json:"baselineGeneration,omitempty"`

	// namespaceUID is the UID of the namespace that status is about. The gate admits pods of no other one of its name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	NamespaceUID string `json:"namespaceUID,omitempty"`

	// state sums the namespace up in one word.
	// +optional
	State CoverageState `json:"state,omitempty"`

	// enforcement is the baseline's enforcement.
	// +optional
	Enforcement Enforcement `json:"enforcement,omitempty"`

	// backend is the policy API that is written to.
	// +optional
	Backend Backend `json:"backend,omitempty"`

	// policies lists the policies that the namespace should have and those that are about to be removed.
	// +optional
	// +listType=map
	// +listMapKey=resource
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Policies []CoveragePolicy `json:"policies,omitempty"`

	// omitted lists allowances that resolved to nothing and were therefore not written.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Omitted []OmittedAllowance `json:"omitted,omitempty"`

	// widening lists at most 20 policies of others that undo the deny for some pods.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Widening []WideningPolicy `json:"widening,omitempty"`

	// uncoveredPods tells of pods that no policy of this kind can cover, such as host-network pods.
	// +optional
	UncoveredPods UncoveredPods `json:"uncoveredPods,omitzero"`

	// exemption is the exemption that takes the namespace out of scope, or the one that expired last.
	// +optional
	Exemption Exemption `json:"exemption,omitzero"`
}

// CoverageState sums a namespace up in one word: Protected (deny and allowances exist and match), Pending (not yet, or,
// in Audit, not), Contested (they exist, but somebody keeps changing them), Failing (they could not be written or
// read), Exempt (an exemption takes the namespace out of scope), Terminating (the namespace has been going for more than
// five minutes; nothing is written there, so only a baseline's offenders have this state).
//
// +kubebuilder:validation:Enum=Protected;Pending;Contested;Failing;Exempt;Terminating
type CoverageState string

// The values of CoverageState.
const (
	CoverageProtected CoverageState = "Protected"
	CoveragePending   CoverageState = "Pending"
	CoverageContested CoverageState = "Contested"
	CoverageFailing   CoverageState = "Failing"
	CoverageExempt    CoverageState = "Exempt"

	CoverageTerminating CoverageState = "Terminating"
)

// PolicyRole says what a policy is for.
//
// +kubebuilder:validation:Enum=Deny;Allowance
type PolicyRole string

// The values of PolicyRole.
const (
	RoleDeny      PolicyRole = "Deny"
	RoleAllowance PolicyRole = "Allowance"
)

// PolicyState says how a live policy compares with the intended one.
//
// +kubebuilder:validation:Enum=InPlace;Missing;Drifted;Collision;Superfluous;Refused;Contested
type PolicyState string

// The values of PolicyState.
const (
	// PolicyInPlace: it exists and matches.
	PolicyInPlace PolicyState = "InPlace"
	// PolicyMissing: it does not exist.
	PolicyMissing PolicyState = "Missing"
	// PolicyDrifted: it exists and differs from what it should be.
	PolicyDrifted PolicyState = "Drifted"
	// PolicyCollision: somebody else's object has its name.
	PolicyCollision PolicyState = "Collision"
	// PolicySuperfluous: it is ours and no longer wanted.
	PolicySuperfluous PolicyState = "Superfluous"
	// PolicyRefused: it exists and matches, but the policy engine says that it will not have it.
	PolicyRefused PolicyState = "Refused"
	// PolicyContested: somebody else keeps changing or deleting it, so it may match or not at any moment; it is restored every
	// 2 seconds.
	PolicyContested PolicyState = "Contested"
)

// CoveragePolicy is one policy of the namespace.
type CoveragePolicy struct {
	// name is the name of the policy object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// resource is its kind as kubectl names it, such as networkpolicies.networking.k8s.io.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Resource string `json:"resource,omitempty"`

	// role says what the policy is for.
	// +required
	Role PolicyRole `json:"role,omitempty"`

	// state says how the live policy compares with the intended one.
	// +required
	State PolicyState `json:"state,omitempty"`

	// uid is the object's UID. It tells our object from somebody else's of the same name when labels were removed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	UID string `json:"uid,omitempty"`

	// message says what differs, or why it could not be written.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// OmittedAllowance is an allowance that resolved to nothing. A policy written for it before stays as it is.
type OmittedAllowance struct {
	// name is the allowance's name: dns, kube-apiserver-<name>, or the rule's.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Name string `json:"name,omitempty"`

	// reason is a documented reason, such as DNSNotFound.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message says what was looked for and what to do.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// WideningPolicy is a policy of somebody else that undoes the deny.
type WideningPolicy struct {
	// name is the name of the NetworkPolicy.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// directions lists the directions that it opens.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Directions []Direction `json:"directions,omitempty"`

	// message says what it lets through.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Message string `json:"message,omitempty"`
}

// UncoveredPods tells of pods that no policy can cover.
type UncoveredPods struct {
	// count is how many there are.
	// +required
	// +kubebuilder:validation:Minimum=1
	Count int32 `json:"count,omitempty"`

	// names lists at most 20 of them.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	// +kubebuilder:validation:items:MaxLength=253
	Names []string `json:"names,omitempty"`
}

// NamespaceCoverageList is a list of coverages.
//
// +kubebuilder:object:root=true
type NamespaceCoverageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NamespaceCoverage `json:"items"`
}
