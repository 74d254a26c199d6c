// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PCINetworkBaseline declares that every namespace in scope is default-deny.
//
// The name becomes part of the names of the policies it writes, so it is a DNS label of at most 48 characters, and
// holds no "-allow-", which would make two baselines' policy names ambiguous.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pcinb,categories=pcinetwork
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 48 && !format.dns1123Label().validate(self.metadata.name).hasValue()",message="metadata.name must be a DNS label of at most 48 characters (lower case letters, digits and '-'; no dots): it becomes part of policy names"
// +kubebuilder:validation:XValidation:rule="!(self.metadata.name + '-').contains('-allow-')",message="metadata.name must neither contain '-allow-' nor end in '-allow': the policies of two baselines could get one name"
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Enforcement",type=string,JSONPath=`.spec.enforcement`
// +kubebuilder:printcolumn:name="Covered",type=string,JSONPath=`.status.covered`,description="Namespaces in scope that have their deny and allowances, of all in scope"
// +kubebuilder:printcolumn:name="Exempt",type=integer,JSONPath=`.status.namespaces.exempt`
// +kubebuilder:printcolumn:name="Effective",type=string,JSONPath=`.status.conditions[?(@.type=="DefaultDenyEffective")].status`,description="False when another policy undoes the deny"
// +kubebuilder:printcolumn:name="Compliant",type=string,JSONPath=`.status.conditions[?(@.type=="Compliant")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Pending",type=integer,priority=1,JSONPath=`.status.namespaces.pending`
// +kubebuilder:printcolumn:name="Contested",type=integer,priority=1,JSONPath=`.status.namespaces.contested`
// +kubebuilder:printcolumn:name="Failing",type=integer,priority=1,JSONPath=`.status.namespaces.failing`
// +kubebuilder:printcolumn:name="InPlace",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="DefaultDenyInPlace")].status`
// +kubebuilder:printcolumn:name="Proven",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="EnforcementProven")].status`
// +kubebuilder:printcolumn:name="Supported",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="PolicyEngineSupported")].status`
// +kubebuilder:printcolumn:name="Engine",type=string,priority=1,JSONPath=`.status.platform.engine`
// +kubebuilder:printcolumn:name="Backend",type=string,priority=1,JSONPath=`.status.backend`
// +kubebuilder:printcolumn:name="Message",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
type PCINetworkBaseline struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is the standard object metadata.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the platform team declares. An empty spec is a complete baseline: both directions denied in every
	// namespace that is not a system namespace, cluster DNS allowed.
	// +optional
	// +kubebuilder:default={}
	Spec PCINetworkBaselineSpec `json:"spec,omitzero"` //nolint:kubeapilinter // defaulted, so it is never empty

	// status is what the operator last observed.
	// +optional
	// +kubebuilder:default:={"observedGeneration":-1}
	Status PCINetworkBaselineStatus `json:"status,omitzero"` //nolint:kubeapilinter // defaulted, so it is never empty
}

// PCINetworkBaselineSpec is the declared baseline.
// +kubebuilder:validation:XValidation:rule="!has(self.allow) || !has(self.allow.rules) || self.allow.rules.all(r, r.direction in self.directions)",message="a rule's direction must be one of spec.directions; add the direction there or remove the rule (a rule in a direction that is not denied would isolate pods instead of opening a hole)",fieldPath=".allow.rules"
// +kubebuilder:validation:XValidation:rule="!has(self.allow) || !has(self.allow.kubeAPIServer) || self.allow.kubeAPIServer.size() == 0 || 'Egress' in self.directions",message="allow.kubeAPIServer needs Egress in spec.directions; add it there or remove the entries",fieldPath=".allow.kubeAPIServer"
// +kubebuilder:validation:XValidation:rule="!has(self.exemptions) || !has(self.namespaces) || !has(self.namespaces.exclude) || self.exemptions.all(e, e.namespaces.all(n, !(n in self.namespaces.exclude)))",message="a namespace cannot be both exempt and listed in namespaces.exclude; keep the exemption, which has an owner and an end",fieldPath=".exemptions"
type PCINetworkBaselineSpec struct {
	// enforcement is Enforce (the operator writes and repairs policies) or Audit (it plans, compares and reports, and
	// writes no policy; policies written before stay and are no longer repaired).
	// +optional
	// +kubebuilder:default=Enforce
	Enforcement Enforcement `json:"enforcement,omitempty"`

	// namespaces says which namespaces the baseline covers. Unset covers every namespace but the system ones.
	// +optional
	// +kubebuilder:default={}
	Namespaces NamespaceScope `json:"namespaces,omitzero"` //nolint:kubeapilinter // defaulted, so it is never empty

	// directions lists the directions that are denied by default. Unset denies both; fewer is a finding, because the
	// guidance asks for both.
	// +optional
	// +listType=atomic
	// +kubebuilder:default={Ingress,Egress}
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:XValidation:rule="self.size() < 2 || self[0] != self[1]",message="directions: list each direction once"
	Directions []Direction `json:"directions,omitempty"`

	// backend is the policy API that is written to. Auto chooses the best one that the platform is certain to enforce. If
	// the asked one cannot work, the baseline is Stalled, and the one in use, or else NetworkPolicy, goes on protecting.
	// +optional
	// +kubebuilder:default=Auto
	Backend Backend `json:"backend,omitempty"`

	// guardLayer is None, or Auto: also write one cluster-wide deny where the platform has an API for it (Calico
	// GlobalNetworkPolicy, CiliumClusterwideNetworkPolicy, or ClusterNetworkPolicy). It denies where the policies of a namespace
	// are missing, and never replaces them.
	// +optional
	// +kubebuilder:default=None
	GuardLayer GuardLayer `json:"guardLayer,omitempty"`

	// allow lists the holes in the deny.
	// +optional
	// +kubebuilder:default={}
	Allow Allow `json:"allow,omitzero"` //nolint:kubeapilinter // defaulted, so it is never empty

	// admission says what the API server itself refuses, while the operator is down too.
	// +optional
	// +kubebuilder:default={}
	Admission Admission `json:"admission,omitzero"` //nolint:kubeapilinter // defaulted, so it is never empty

	// exemptions takes named namespaces out of the baseline for a limited time. When an exemption expires its
	// namespaces are denied again at that moment.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Exemptions []Exemption `json:"exemptions,omitempty"`

	// verification says how often packets prove that the deny is enforced, and on how many nodes.
	// +optional
	// +kubebuilder:default={}
	Verification Verification `json:"verification,omitzero"` //nolint:kubeapilinter // defaulted, so it is never empty

	// review records the last review of the baseline, which PCI DSS 1.2.7 asks for every six months. Unset makes the
	// condition ReviewCurrent Unknown; more than 180 days ago makes it False.
	// +optional
	Review Review `json:"review,omitzero"`

	// managementAccess declares who may reach the management interfaces (4.2). Unset leaves the condition
	// ManagementAccessRestricted Unknown.
	// +optional
	ManagementAccess *ManagementAccess `json:"managementAccess,omitempty"`

	// managementEncryption asks for the management interfaces to be looked at (4.3); {} asks for it with the defaults. Unset, the
	// operator connects to none of them, and the condition ManagementTrafficEncrypted is Unknown.
	// +optional
	ManagementEncryption *ManagementEncryption `json:"managementEncryption,omitempty"`

	// deletionPolicy says what happens to the policies when the baseline is deleted: Retain leaves every one of them in
	// place, Delete removes exactly those that this baseline owns.
	// +optional
	// +kubebuilder:default=Retain
	DeletionPolicy DeletionPolicy `json:"deletionPolicy,omitempty"`
}

// Enforcement says whether policies are written.
//
// +kubebuilder:validation:Enum=Enforce;Audit
type Enforcement string

// The values of Enforcement.
const (
	EnforcementEnforce Enforcement = "Enforce"
	EnforcementAudit   Enforcement = "Audit"
)

// Direction is a direction of traffic, seen from the pod.
//
// +kubebuilder:validation:Enum=Ingress;Egress
type Direction string

// The values of Direction.
const (
	DirectionIngress Direction = "Ingress"
	DirectionEgress  Direction = "Egress"
)

// Backend names a policy API: NetworkPolicy (networking.k8s.io/v1), Calico (projectcalico.org/v3) or Cilium (cilium.io/v2).
//
// +kubebuilder:validation:Enum=Auto;NetworkPolicy;Calico;Cilium
type Backend string

// The values of Backend.
const (
	BackendAuto          Backend = "Auto"
	BackendNetworkPolicy Backend = "NetworkPolicy"
	BackendCalico        Backend = "Calico"
	BackendCilium        Backend = "Cilium"
)

// GuardLayer says whether a cluster-wide deny is written too.
//
// +kubebuilder:validation:Enum=None;Auto
type GuardLayer string

// The values of GuardLayer.
const (
	GuardLayerNone GuardLayer = "None"
	GuardLayerAuto GuardLayer = "Auto"
)

// DeletionPolicy says what happens to the policies of a deleted baseline.
//
// +kubebuilder:validation:Enum=Retain;Delete
type DeletionPolicy string

// The values of DeletionPolicy.
const (
	DeletionPolicyRetain DeletionPolicy = "Retain"
	DeletionPolicyDelete DeletionPolicy = "Delete"
)

// SystemNamespaces says what happens to system namespaces.
//
// +kubebuilder:validation:Enum=Exclude;Include
type SystemNamespaces string

// The values of SystemNamespaces.
const (
	SystemNamespacesExclude SystemNamespaces = "Exclude"
	SystemNamespacesInclude SystemNamespaces = "Include"
)

// NamespaceName is the name of a namespace: a DNS label.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="!format.dns1123Label().validate(self).hasValue()",message="must be the name of a namespace: lower case letters, digits and '-', beginning and ending with a letter or digit"
type NamespaceName string

// NamespaceScope selects namespaces.
type NamespaceScope struct {
	// selector selects namespaces by label. Unset selects every namespace. Whoever may label a namespace can move it
	// in or out of the scope; leave it unset where that is not acceptable.
	// +optional
	Selector *LabelSelector `json:"selector,omitempty"`

	// exclude lists namespaces by name that are never covered.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Exclude []NamespaceName `json:"exclude,omitempty"`

	// system is Exclude (system namespaces are not covered; status.systemNamespaces lists them) or Include. With Include
	// everything that the cluster's own components need must be written as allow.rules first.
	// +optional
	// +kubebuilder:default=Exclude
	System SystemNamespaces `json:"system,omitempty"`
}

// Exemption takes namespaces out of the baseline until a moment in time.
type Exemption struct {
	// namespaces lists the exempt namespaces by name; names cannot be spoofed as labels can.
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Namespaces []NamespaceName `json:"namespaces,omitempty"`

	// reason says why the namespaces cannot be covered yet.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.trim().size() > 0",message="reason must say why the namespaces cannot be covered yet; blanks are no answer"
	Reason string `json:"reason,omitempty"`

	// approvedBy names who approved the exemption.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.trim().size() > 0",message="approvedBy must name who approved the exemption; blanks are no answer"
	ApprovedBy string `json:"approvedBy,omitempty"`

	// expiresAt is the moment from which the namespaces are denied again, between 2020 and 2100.
	// +required
	// +kubebuilder:validation:XValidation:rule="self >= timestamp('2020-01-01T00:00:00Z') && self < timestamp('2100-01-01T00:00:00Z')",message="expiresAt must lie between 2020 and 2100, such as 2027-01-31T00:00:00Z: an exemption ends; a namespace that is never to be covered belongs in namespaces.exclude"
	ExpiresAt metav1.Time `json:"expiresAt,omitzero"` //nolint:kubeapilinter // a zero time is no time, and the schema asks for a date-time

	// ticket refers to the record of the approval, such as a ticket number or a link.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Ticket string `json:"ticket,omitempty"`
}

// Verification says how the deny is proven with packets, on at most 4 nodes at a time.
//
// +kubebuilder:validation:XValidation:rule="!has(self.nodes) || !has(self.intervalSeconds) || !has(self.freshnessSeconds) || (self.nodes + 3) / 4 * self.intervalSeconds <= self.freshnessSeconds",message="4 nodes are tested at a time, so covering nodes takes nodes/4 intervals; that must not be more than freshnessSeconds, or the first proof is stale before the last is made"
// +kubebuilder:validation:XValidation:rule="!has(self.intervalSeconds) || !has(self.freshnessSeconds) || 2 * self.intervalSeconds <= self.freshnessSeconds",message="freshnessSeconds must be at least twice intervalSeconds, or a proof is stale before the next one is made"
type Verification struct {
	// intervalSeconds is how long to wait between two rounds of tests, less up to a tenth at random. A round begins at once when the
	// baseline, the platform or one of its settings changes, or a node joins.
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=86400
	IntervalSeconds int32 `json:"intervalSeconds,omitempty"`

	// freshnessSeconds is how old a proof may be to count.
	// +optional
	// +kubebuilder:default=14400
	// +kubebuilder:validation:Minimum=120
	// +kubebuilder:validation:Maximum=2592000
	FreshnessSeconds int32 `json:"freshnessSeconds,omitempty"`

	// nodes is how many nodes must have a proof that counts; in a smaller cluster it is all of them. All nodes have their turn.
	// +optional
	// +kubebuilder:default=100
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=5000
	Nodes int32 `json:"nodes,omitempty"`

	// vantage is a host outside of the cluster from which pods are reached by their own addresses, and on which pci-network-baseline
	// probe --vantage runs. Ingress from there must then be proven on every node, too. Unset: ingress from outside is not tested.
	// +optional
	Vantage Vantage `json:"vantage,omitzero"`
}

// Vantage is where a program outside of the cluster dials canaries for the canaries.
type Vantage struct {
	// address is the host's IP address, which pods know it by.
	// +required
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=39
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip.isCanonical(self) && !ip(self).isUnspecified() && !ip(self).isLoopback()",message="address must be the IP address that pods know the host by, such as 192.0.2.7 or 2001:db8::7"
	Address string `json:"address,omitempty"`

	// port is the TCP port on which it listens.
	// +optional
	// +kubebuilder:default=24310
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// Review records a review of the baseline.
type Review struct {
	// reviewedAt is when the baseline was last reviewed, between 2020 and 2100.
	// +required
	// +kubebuilder:validation:XValidation:rule="self >= timestamp('2020-01-01T00:00:00Z') && self < timestamp('2100-01-01T00:00:00Z')",message="reviewedAt must lie between 2020 and 2100: give the moment of the last review, such as 2026-07-01T00:00:00Z"
	ReviewedAt metav1.Time `json:"reviewedAt,omitzero"` //nolint:kubeapilinter // a zero time is no time, and the schema asks for a date-time

	// reviewedBy names who reviewed it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.trim().size() > 0",message="reviewedBy must name who reviewed the baseline; blanks are no answer"
	ReviewedBy string `json:"reviewedBy,omitempty"`
}

// PCINetworkBaselineList is a list of baselines.
//
// +kubebuilder:object:root=true
type PCINetworkBaselineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []PCINetworkBaseline `json:"items"`
}
