// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// LabelSelector selects objects by their labels. It has the form of metav1.LabelSelector, but is bounded and
// validated by the API server, so that a selector that could not be read never reaches the operator.
// An empty selector ({}) selects everything.
type LabelSelector struct {
	// matchLabels lists labels that must all be present with the given value. It cannot be empty, and no value can be null,
	// as templates write it where a variable is missing: a selector with a label less selects more.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	// +kubebuilder:validation:XValidation:rule="self.size() > 0",message="matchLabels must hold at least one label; to select everything leave matchLabels out"
	// +kubebuilder:validation:XValidation:rule="self.all(k, type(self[k]) == string)",message="every label in matchLabels must have a value, and null is none: give the value, write \"\" for the empty one, or remove the label"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",message="every key of matchLabels must be a label key such as app or example.com/app: an optional DNS name and '/', then 1 to 63 letters, digits, '-', '_' and '.'"
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`

	// matchExpressions lists requirements that must all be met, beside matchLabels.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelValue is the value of a label: empty, or up to 63 letters, digits, '-', '_' and '.', beginning and ending
// with a letter or digit.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`
type LabelValue string

// LabelSelectorRequirement is one requirement on one label key.
//
// +kubebuilder:validation:XValidation:rule="self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 : !has(self.values) || self.values.size() == 0",message="values must be given for In and NotIn, and must be left out for Exists and DoesNotExist",fieldPath=".values"
type LabelSelectorRequirement struct {
	// key is the label key that the requirement is on, in at most 253 characters.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches(r'^([a-z0-9]+((-+|[.])[a-z0-9]+)*/)?[^\\W_]([-.\\w]{0,61}[^\\W_])?$')",message="key must be a label key such as app or example.com/app: an optional DNS name and '/', then 1 to 63 letters, digits, '-', '_' and '.'"
	Key string `json:"key,omitempty"`

	// operator relates the key to the values.
	// +required
	Operator LabelSelectorOperator `json:"operator,omitempty"`

	// values are the label values for In and NotIn; left out for Exists and DoesNotExist.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Values []LabelValue `json:"values,omitempty"`
}

// LabelSelectorOperator relates a label key to values.
//
// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
type LabelSelectorOperator string
