// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API that this package renders.
var GroupVersion = schema.GroupVersion{Group: "cilium.io", Version: "v2"}

// Kinds of the API.
const (
	KindNetworkPolicy            = "CiliumNetworkPolicy"
	KindClusterwideNetworkPolicy = "CiliumClusterwideNetworkPolicy"
)

// AddToScheme adds the kinds of this package.
func AddToScheme(s *runtime.Scheme) error {
	for kind, obj := range map[string]runtime.Object{
		KindNetworkPolicy:                     &NetworkPolicy{},
		KindNetworkPolicy + "List":            &NetworkPolicyList{},
		KindClusterwideNetworkPolicy:          &ClusterwideNetworkPolicy{},
		KindClusterwideNetworkPolicy + "List": &ClusterwideNetworkPolicyList{},
	} {
		s.AddKnownTypeWithName(GroupVersion.WithKind(kind), obj)
	}
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}

// The types hold the part of Cilium's API that is rendered. Cilium's own would bring its agent's libraries, a Kubernetes
// client and 10 MB into the operator (docs/dependencies.md). test/semantic proves that both are the same on the wire.

// NetworkPolicy is a policy of one namespace.
//
// +kubebuilder:object:root=true
type NetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   Rule   `json:"spec"`
	Status Status `json:"status,omitzero"`
}

// NetworkPolicyList is a list of policies.
//
// +kubebuilder:object:root=true
type NetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []NetworkPolicy `json:"items"`
}

// ClusterwideNetworkPolicy is a policy of the whole cluster.
//
// +kubebuilder:object:root=true
type ClusterwideNetworkPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   Rule   `json:"spec"`
	Status Status `json:"status,omitzero"`
}

// ClusterwideNetworkPolicyList is a list of cluster-wide policies.
//
// +kubebuilder:object:root=true
type ClusterwideNetworkPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []ClusterwideNetworkPolicy `json:"items"`
}

// Rule is what a policy says. A section with an empty rule denies its direction; an absent or empty one says nothing.
type Rule struct {
	EndpointSelector *metav1.LabelSelector `json:"endpointSelector,omitempty"`
	Ingress          []IngressRule         `json:"ingress,omitempty"`
	Egress           []EgressRule          `json:"egress,omitempty"`
	// Unknown lists fields of a live object that this package never renders. It is never sent. Without it such a field,
	// enableDefaultDeny for one, would be lost in decoding and be no drift.
	Unknown []string `json:"unknown,omitempty"`
}

// IngressRule allows traffic from one form of peers.
type IngressRule struct {
	FromEndpoints []metav1.LabelSelector `json:"fromEndpoints,omitempty"`
	FromCIDRSet   []CIDRRule             `json:"fromCIDRSet,omitempty"`
	FromEntities  []string               `json:"fromEntities,omitempty"`
	ToPorts       []PortRule             `json:"toPorts,omitempty"`
}

// EgressRule allows traffic to one form of peers.
type EgressRule struct {
	ToEndpoints []metav1.LabelSelector `json:"toEndpoints,omitempty"`
	ToCIDRSet   []CIDRRule             `json:"toCIDRSet,omitempty"`
	ToEntities  []string               `json:"toEntities,omitempty"`
	ToPorts     []PortRule             `json:"toPorts,omitempty"`
}

// CIDRRule is a range of addresses outside of the cluster, less those excepted.
type CIDRRule struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// PortRule is a list of ports.
type PortRule struct {
	Ports []PortProtocol `json:"ports"`
}

// PortProtocol is a port, or with EndPort a range of ports, of a protocol.
type PortProtocol struct {
	Port     string `json:"port"`
	EndPort  int32  `json:"endPort,omitempty"`
	Protocol string `json:"protocol"`
}

// Status is what Cilium says of a policy. The condition Valid is False when its agents refuse the policy, which then has no
// effect.
type Status struct {
	Conditions []Condition `json:"conditions,omitempty"`
}

// Condition is one condition of a policy.
type Condition struct {
	Type    string                 `json:"type"`
	Status  metav1.ConditionStatus `json:"status"`
	Reason  string                 `json:"reason,omitempty"`
	Message string                 `json:"message,omitempty"`
}

// ConditionValid is the type of the condition that says whether a policy was accepted.
const ConditionValid = "Valid"
