// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package planted is an API that breaks the conventions.
package planted

import (
	_ "sigs.k8s.io/controller-runtime" // fault: depguard
)

// Planted has one fault per field.
type Planted struct {
	// untagged has no tag.
	// +optional
	Untagged string // fault: kubeapilinter jsontags

	// enabled is a bool.
	// +optional
	Enabled bool `json:"enabled,omitempty"` // fault: kubeapilinter nobools

	// name has no bounds.
	// +required
	Name string `json:"name"` // fault: kubeapilinter maxlength

	// neither says nothing about being optional.
	// +kubebuilder:validation:MaxLength=9
	Neither string `json:"neither,omitempty"` // fault: kubeapilinter optionalorrequired
}
