// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the API of pci-network-baseline: PCINetworkBaseline, which a platform team declares,
// and NamespaceCoverage, in which the operator says what it did and found in one namespace.
//
// +kubebuilder:object:generate=true
// +groupName=pcinetwork.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "pcinetwork.dev", Version: "v1alpha1"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion,
		&PCINetworkBaseline{}, &PCINetworkBaselineList{},
		&NamespaceCoverage{}, &NamespaceCoverageList{},
	)
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
