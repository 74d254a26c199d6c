// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// Allow lists the holes in the deny.
type Allow struct {
	// dns is ClusterDNS (every pod may ask the cluster's DNS servers, found from their Service, EndpointSlices and
	// pods) or None. It has no effect when Egress is not denied.
	// +optional
	// +kubebuilder:default=ClusterDNS
	DNS DNSAllowance `json:"dns,omitempty"`

	// kubeAPIServer lists the pods that may reach the Kubernetes API server. Unset allows none.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	KubeAPIServer []KubeAPIServerAllowance `json:"kubeAPIServer,omitempty"`

	// rules lists further holes, each with its justification.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	Rules []AllowRule `json:"rules,omitempty"`
}

// DNSAllowance says which DNS servers pods may ask.
//
// +kubebuilder:validation:Enum=ClusterDNS;None
type DNSAllowance string

// The values of DNSAllowance.
const (
	DNSAllowanceClusterDNS DNSAllowance = "ClusterDNS"
	DNSAllowanceNone       DNSAllowance = "None"
)

// Subject says which pods an allowance is for.
type Subject struct {
	// namespaceSelector limits the allowance to namespaces in scope with these labels. Unset means every namespace in
	// scope.
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`

	// podSelector limits the allowance to pods with these labels. Unset means every pod of those namespaces.
	// +optional
	PodSelector *LabelSelector `json:"podSelector,omitempty"`
}

// AllowanceName names an allowance; it becomes part of a policy name.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=48
// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be lower case letters, digits and '-', beginning and ending with a letter or digit, such as payments-db: it becomes part of a policy name"
type AllowanceName string

// KubeAPIServerAllowance lets pods reach the Kubernetes API server.
type KubeAPIServerAllowance struct {
	// name identifies the entry; its policy is named pcinb-<baseline>-allow-kube-apiserver-<name>.
	// +required
	Name AllowanceName `json:"name,omitempty"`

	// namespaceSelector limits the entry to namespaces in scope with these labels. Unset means every namespace in scope.
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`

	// podSelector selects the pods that may reach the API server; select as few as possible. An empty selector ({})
	// means every pod and must be written out.
	// +required
	PodSelector *LabelSelector `json:"podSelector,omitempty"`
}

// AllowRule is one hole in the deny.
//
// +kubebuilder:validation:XValidation:rule="self.name != 'dns' && !self.name.startsWith('kube-apiserver')",message="the names dns and kube-apiserver… are taken by allow.dns and allow.kubeAPIServer; choose another name",fieldPath=".name"
type AllowRule struct {
	// name identifies the rule; its policy is named pcinb-<baseline>-allow-<name>.
	// +required
	Name AllowanceName `json:"name,omitempty"`

	// justification says which business need the hole serves (PCI DSS 1.2.5). It is copied to the policy.
	// +required
	// +kubebuilder:validation:MinLength=10
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.trim().size() >= 10",message="justification must name the business need in at least 10 characters; leading and trailing blanks do not count"
	Justification string `json:"justification,omitempty"`

	// direction is Ingress (peers may connect to the pods) or Egress (the pods may connect to peers).
	// +required
	Direction Direction `json:"direction,omitempty"`

	// subject says which pods the hole is for. Unset means every pod in scope.
	// +optional
	Subject *Subject `json:"subject,omitempty"`

	// peers lists the other side; traffic with any of them is allowed. There is no short form for "everybody": write
	// the CIDR.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Peers []Peer `json:"peers,omitempty"` //nolint:kubeapilinter // no field is required, a CEL rule asks for exactly one of two forms

	// ports lists the ports, after address translation: the pod's own port, not the Service's. There is no short form
	// for "all ports": write the range.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Ports []Port `json:"ports,omitempty"`
}

// Peer is the other side of allowed traffic: either an address range, or pods by selectors.
//
// +kubebuilder:validation:XValidation:rule="has(self.cidr) != (has(self.namespaceSelector) || has(self.podSelector))",message="a peer is either a cidr, or namespaceSelector and/or podSelector: give exactly one of the two forms"
// +kubebuilder:validation:XValidation:rule="!has(self.except) || has(self.cidr)",message="except takes ranges out of cidr: give cidr, or remove except",fieldPath=".except"
// +kubebuilder:validation:XValidation:rule="!has(self.except) || !has(self.cidr) || !isCIDR(self.cidr) || self.except.all(e, !isCIDR(e) || (cidr(self.cidr).containsCIDR(cidr(e)) && cidr(self.cidr).prefixLength() < cidr(e).prefixLength()))",message="every entry of except must lie within cidr and be smaller than it; correct the entry or widen cidr",fieldPath=".except"
type Peer struct {
	// namespaceSelector selects the pods of all namespaces with these labels. With podSelector unset: every pod there.
	// +optional
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`

	// podSelector selects pods by label, in the namespaces of namespaceSelector, or in the subject's own namespace when
	// that is unset.
	// +optional
	PodSelector *LabelSelector `json:"podSelector,omitempty"`

	// cidr is an address range such as 10.0.0.0/8 or 2001:db8::/32, without host bits.
	// +optional
	CIDR CIDR `json:"cidr,omitempty"`

	// except lists ranges inside cidr that stay denied.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	Except []CIDR `json:"except,omitempty"`
}

// CIDR is an address range in CIDR notation, without host bits.
//
// +kubebuilder:validation:MinLength=4
// +kubebuilder:validation:MaxLength=43
// +kubebuilder:validation:XValidation:rule="isCIDR(self) && cidr(self).masked() == cidr(self)",message="must be an address range in CIDR notation without host bits, such as 10.1.0.0/16 or 2001:db8::/32"
type CIDR string

// Port is a port or a range of ports of one protocol.
//
// +kubebuilder:validation:XValidation:rule="!has(self.endPort) || self.endPort >= self.port",message="endPort is the last port of the range: it must not be smaller than port; leave it out for a single port",fieldPath=".endPort"
type Port struct {
	// protocol is TCP, UDP or SCTP.
	// +required
	Protocol Protocol `json:"protocol,omitempty"`

	// port is the port number, or the first one of a range.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// endPort is the last port of a range, inclusive. Unset means port alone.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	EndPort int32 `json:"endPort,omitempty"`
}

// Protocol is a transport protocol.
//
// +kubebuilder:validation:Enum=TCP;UDP;SCTP
type Protocol string
