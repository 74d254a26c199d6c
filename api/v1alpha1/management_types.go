// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// ManagementAccess declares who may reach the interfaces by which the cluster is managed (4.2). Nothing is written or closed:
// what the cluster shows is compared with it.
//
// +kubebuilder:validation:XValidation:rule="self.hostFirewall == 'Off' || (has(self.allowedCIDRs) && self.allowedCIDRs.size() > 0)",message="a firewall on nodes needs a list of who may pass: set allowedCIDRs",fieldPath=".allowedCIDRs"
type ManagementAccess struct {
	// allowedCIDRs lists everybody who may. Unset makes the condition ManagementAccessRestricted Unknown at best: there is
	// nothing to compare with.
	// +optional
	// +listType=map
	// +listMapKey=cidr
	// +kubebuilder:validation:MaxItems=64
	AllowedCIDRs []AllowedCIDR `json:"allowedCIDRs,omitempty"`

	// hostFirewall is what is done about a firewall on nodes. Audit judges whether allowedCIDRs could be enforced on nodes by the policy
	// engine, for the API server, kubelets and what else manages the cluster there, without locking anybody out who must come in; nothing is
	// written. Enforce does it, with Cilium or Calico: on the nodes that a person labels pcinetwork.dev/host-firewall=trial first, where a dead
	// man takes it back if the operator loses contact, then on all. It needs config/hostfirewall/enforce, or enforce-calico. Off takes it back.
	// +optional
	// +kubebuilder:default=Off
	HostFirewall HostFirewall `json:"hostFirewall,omitempty"`

	// loadBalancerCIDRs lists where load balancers in front of the API server connect and check its health from. hostFirewall wants
	// allowedCIDRs to hold them. Unset, there are none but those of the cloud, as far as it publishes them.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	LoadBalancerCIDRs []CIDR `json:"loadBalancerCIDRs,omitempty"`

	// attestation is somebody's word for what no API shows, such as the rules of a firewall in front of the cluster. It is
	// reported as attested, not as verified; what is seen to be wrong stays wrong.
	// +optional
	Attestation Attestation `json:"attestation,omitzero"`

	// cloud asks the cloud that runs the API server who can reach it, every hour and when the spec changes, and compares that
	// with allowedCIDRs. Only the cloud's own endpoints are asked, with an identity of the operator's that may read the
	// description of this cluster and nothing else. Unset asks no cloud, whatever the cluster looks like: who can reach the
	// API server from outside is then attested, or Unknown. {} finds out which cluster of which cloud this is.
	// +optional
	Cloud *ManagedCloud `json:"cloud,omitempty"`
}

// AnnotationHostFirewallConfirmed on a baseline is a person's word that people still come in while allowedCIDRs is tried on nodes: the token of
// this try, from the condition's message. Without it the list is taken back.
const AnnotationHostFirewallConfirmed = "pcinetwork.dev/host-firewall-confirmed"

// HostFirewall says what is done about a firewall on nodes.
//
// +kubebuilder:validation:Enum=Off;Audit;Enforce
type HostFirewall string

// The values of HostFirewall.
const (
	HostFirewallOff     HostFirewall = "Off"
	HostFirewallAudit   HostFirewall = "Audit"
	HostFirewallEnforce HostFirewall = "Enforce"
)

// AllowedCIDR is an address range from which the management interfaces may be reached.
type AllowedCIDR struct {
	// cidr is the range. A range of everybody is no allow-list.
	// +required
	// +kubebuilder:validation:XValidation:rule="!isCIDR(self) || cidr(self).prefixLength() > 0",message="an allow-list that holds everybody allows everybody: give the ranges that administrators come from"
	CIDR CIDR `json:"cidr,omitempty"`

	// name says whose range it is, such as office-berlin.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.trim().size() > 0",message="name must say whose range it is; blanks are no answer"
	Name string `json:"name,omitempty"`

	// justification is the business need (PCI DSS 1.2.5), in at least 10 characters.
	// +required
	// +kubebuilder:validation:MinLength=10
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.trim().size() >= 10",message="justification must name the business need in at least 10 characters; leading and trailing blanks do not count"
	Justification string `json:"justification,omitempty"`
}

// Attestation is the word of a person, for a limited time.
//
// +kubebuilder:validation:XValidation:rule="self.until > self.at",message="an attestation ends after it begins: correct until",fieldPath=".until"
// +kubebuilder:validation:XValidation:rule="self.until - self.at <= duration('9504h')",message="an attestation holds for at most 396 days: look again after a year",fieldPath=".until"
type Attestation struct {
	// by names who attests.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.trim().size() > 0",message="by must name who attests; blanks are no answer"
	By string `json:"by,omitempty"`

	// at is when they looked, between 2020 and 2100.
	// +required
	// +kubebuilder:validation:XValidation:rule="self >= timestamp('2020-01-01T00:00:00Z') && self < timestamp('2100-01-01T00:00:00Z')",message="must lie between 2020 and 2100, such as 2026-07-01T00:00:00Z"
	At metav1.Time `json:"at,omitzero"` //nolint:kubeapilinter // a zero time is no time, and the schema asks for a date-time

	// until is when it ends, between 2020 and 2100.
	// +required
	// +kubebuilder:validation:XValidation:rule="self >= timestamp('2020-01-01T00:00:00Z') && self < timestamp('2100-01-01T00:00:00Z')",message="must lie between 2020 and 2100, such as 2026-07-01T00:00:00Z"
	Until metav1.Time `json:"until,omitzero"` //nolint:kubeapilinter // a zero time is no time, and the schema asks for a date-time

	// evidence is a link to what they saw, such as a record of the firewall's rules.
	// +required
	// +kubebuilder:validation:MinLength=9
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="isURL(self) && url(self).getScheme() == 'https' && url(self).getHost() != ''",message="evidence must be a link such as https://wiki.example.com/firewall/2026-07"
	Evidence string `json:"evidence,omitempty"`
}

// ManagementEncryption asks for the management interfaces to be looked at (4.3): the operator connects to the API server,
// kubelets, etcd, schedulers, controller managers, aggregated APIs, webhooks and supporting systems, once an hour, without
// logging in.
//
// +kubebuilder:validation:XValidation:rule="self.certificateNoticeDays < self.maxCertificateAgeDays",message="certificateNoticeDays must be less than maxCertificateAgeDays, or every certificate would be near its end at once",fieldPath=".certificateNoticeDays"
type ManagementEncryption struct {
	// minimumTLSVersion is the oldest version that an interface may accept.
	// +optional
	// +kubebuilder:default="1.2"
	MinimumTLSVersion TLSVersion `json:"minimumTLSVersion,omitempty"`

	// maxCertificateAgeDays is the cryptoperiod of serving certificates, in days: an older one should have been replaced
	// together with its key (PCI DSS 3.7.4).
	// +optional
	// +kubebuilder:default=398
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=3650
	MaxCertificateAgeDays int32 `json:"maxCertificateAgeDays,omitempty"`

	// certificateNoticeDays is how many days before its end, or before it is too old, a certificate is warned of.
	// +optional
	// +kubebuilder:default=30
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=365
	CertificateNoticeDays int32 `json:"certificateNoticeDays,omitempty"`

	// supportingSystems lists Services to look at beside those that are recognised by their labels, name or owner: logging,
	// monitoring, tracing, GitOps.
	// +optional
	// +listType=map
	// +listMapKey=namespace
	// +listMapKey=service
	// +kubebuilder:validation:MaxItems=64
	SupportingSystems []SupportingSystem `json:"supportingSystems,omitempty"`
}

// TLSVersion is a version of TLS.
//
// +kubebuilder:validation:Enum="1.2";"1.3"
type TLSVersion string

// The versions of TLS. PCI DSS takes older ones for none.
const (
	TLSVersion12 TLSVersion = "1.2"
	TLSVersion13 TLSVersion = "1.3"
)

// SupportingSystem names a Service that belongs to the management of the cluster.
type SupportingSystem struct {
	// namespace is the Service's.
	// +required
	Namespace NamespaceName `json:"namespace,omitempty"`

	// service is its name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="!format.dns1035Label().validate(self).hasValue()",message="must be the name of a Service: lower case letters, digits and '-', beginning with a letter"
	Service string `json:"service,omitempty"`
}
