// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// PCINetworkBaselineStatus is what the operator last observed. Its size does not grow with the cluster: detail per
// namespace is in the NamespaceCoverage of that namespace.
type PCINetworkBaselineStatus struct {
	// conditions say what is true of the baseline; docs/spec.md lists every type and reason.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=24
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation that status is about; -1 before anybody has looked.
	// +optional
	// +kubebuilder:default=-1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"` //nolint:kubeapilinter // 0 is no generation, so it need not be told from unset

	// covered is protected/selected, such as "20/20".
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Covered string `json:"covered,omitempty"`

	// backend is the policy API that is written to.
	// +optional
	Backend Backend `json:"backend,omitempty"`

	// guard is the cluster-wide deny of the guard layer. Empty when spec.guardLayer is None.
	// +optional
	Guard Guard `json:"guard,omitzero"`

	// admission is what the API server refuses for this baseline.
	// +optional
	Admission AdmissionStatus `json:"admission,omitzero"`

	// platform is what was detected of the cluster's network.
	// +optional
	Platform *PlatformStatus `json:"platform,omitempty"` //nolint:kubeapilinter // with required counters of pointers only nil is unambiguous

	// proof sums up what packets have shown. Empty before any node was tested.
	// +optional
	Proof *ProofStatus `json:"proof,omitempty"` //nolint:kubeapilinter // with required counters of pointers only nil is unambiguous

	// namespaces counts the namespaces by state.
	// +optional
	Namespaces *NamespaceCounts `json:"namespaces,omitempty"` //nolint:kubeapilinter // with required counters of pointers only nil is unambiguous

	// systemNamespaces lists the namespaces that are not covered because they are system namespaces, whether they exist
	// or not. Empty when namespaces.system is Include.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	SystemNamespaces []NamespaceName `json:"systemNamespaces,omitempty"`

	// offenders lists at most 20 namespaces and management interfaces that are not as they should be, the worst first; fewer where
	// they would make the status larger than 16 KiB.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=20
	Offenders []Offender `json:"offenders,omitempty"`
}

// Guard is the cluster-wide deny of the guard layer. Conditions do not depend on it: it adds to the policies of namespaces.
type Guard struct {
	// resource is its kind as kubectl names it, such as globalnetworkpolicies.projectcalico.org. Empty when the platform has
	// none.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Resource string `json:"resource,omitempty"`

	// state says how the live object compares with the intended one.
	// +required
	State PolicyState `json:"state,omitempty"`

	// message says what it does not cover, or why it could not be written.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// NamespaceCounts counts namespaces by state. Selected is the sum of protected, pending, contested and failing;
// exempt namespaces are counted apart.
type NamespaceCounts struct {
	// selected counts the namespaces in scope.
	// +required
	// +kubebuilder:validation:Minimum=0
	Selected *int32 `json:"selected,omitempty"`

	// protected counts namespaces in scope whose deny and allowances exist and match.
	// +required
	// +kubebuilder:validation:Minimum=0
	Protected *int32 `json:"protected,omitempty"`

	// pending counts namespaces in scope that wait for the operator, or would be changed if enforcement were Enforce.
	// +required
	// +kubebuilder:validation:Minimum=0
	Pending *int32 `json:"pending,omitempty"`

	// exempt counts namespaces that an exemption takes out of scope.
	// +required
	// +kubebuilder:validation:Minimum=0
	Exempt *int32 `json:"exempt,omitempty"`

	// contested counts namespaces in which somebody else keeps changing our policies.
	// +required
	// +kubebuilder:validation:Minimum=0
	Contested *int32 `json:"contested,omitempty"`

	// failing counts namespaces whose policies could not be written or read.
	// +required
	// +kubebuilder:validation:Minimum=0
	Failing *int32 `json:"failing,omitempty"`
}

// Offender is a namespace, or something about management, that is not as it should be.
//
// +kubebuilder:validation:XValidation:rule="has(self.__namespace__) != has(self.subject) && has(self.__namespace__) == has(self.state)",message="an offender is a namespace with the state of its coverage, or a subject"
type Offender struct {
	// namespace is its name.
	// +optional
	Namespace NamespaceName `json:"namespace,omitempty"`

	// state is the state of its coverage.
	// +optional
	State CoverageState `json:"state,omitempty"`

	// subject is what else it is, such as an interface or an Ingress.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Subject string `json:"subject,omitempty"`

	// reason is that of the coverage's first condition that is not as it should be, or of what was found about the subject.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message says what is wrong there, in at most 256 characters.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Message string `json:"message,omitempty"`
}

// PlatformStatus is what was detected of the cluster's network.
type PlatformStatus struct {
	// engine enforces policies. Unset when none was recognised; the condition PolicyEngineSupported says why.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Engine string `json:"engine,omitempty"`

	// version is the engine's, as the tag of its image says it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`

	// baseCNI connects the pods. It may be another than the engine. Unset when none was recognised.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	BaseCNI string `json:"baseCNI,omitempty"`

	// encapsulation is Overlay (pod traffic is wrapped between nodes), Direct or Unknown.
	// +required
	Encapsulation Encapsulation `json:"encapsulation,omitempty"`

	// provider runs the cluster, or is the distribution that it was made with, such as EKS or k3s; Unknown when nothing shows.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Provider string `json:"provider,omitempty"`

	// nodes counts the nodes on which the engine's agent is Ready.
	// +required
	Nodes PlatformNodes `json:"nodes,omitzero"`

	// signals lists at most 5 things that led to this; weak ones could mean something else.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=128
	Signals []string `json:"signals,omitempty"`

	// warnings lists at most 5 things that weaken enforcement without ending it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=200
	Warnings []string `json:"warnings,omitempty"`
}

// ProofStatus sums up what packets have shown.
type ProofStatus struct {
	// proven counts nodes with a proof that counts, in every direction that the baseline denies.
	// +required
	// +kubebuilder:validation:Minimum=0
	Proven *int32 `json:"proven,omitempty"`

	// disproven counts nodes on which denied traffic got through.
	// +required
	// +kubebuilder:validation:Minimum=0
	Disproven *int32 `json:"disproven,omitempty"`

	// required counts the nodes that must be proven.
	// +required
	// +kubebuilder:validation:Minimum=0
	Required *int32 `json:"required,omitempty"`

	// lastRoundAt is when nodes were last tested.
	// +optional
	LastRoundAt metav1.Time `json:"lastRoundAt,omitzero"` //nolint:kubeapilinter // a zero time is no time

	// startWindowMilliseconds is how long after its start a canary got denied packets through at most, although the deny was there before
	// it. Unset before it was measured.
	// +optional
	// +kubebuilder:validation:Minimum=0
	StartWindowMilliseconds *int32 `json:"startWindowMilliseconds,omitempty"`

	// establishedConnections says what becomes of connections that are older than their deny: Cut, Kept, or Mixed where nodes or
	// directions differ. Unset before it was measured.
	// +optional
	EstablishedConnections EstablishedConnections `json:"establishedConnections,omitempty"`

	// olderPods tells of pods in scope that are older than the deny of their namespace, so that it does not reach connections that they
	// had then. They are counted every 10 minutes. Unset where such connections are cut, and when they could not be counted.
	// +optional
	OlderPods *OlderPods `json:"olderPods,omitempty"` //nolint:kubeapilinter // only nil is unambiguous: none is an answer, too

	// oldestAt is when the oldest proof that is needed was made. Unset unless enough nodes are proven.
	// +optional
	OldestAt metav1.Time `json:"oldestAt,omitzero"` //nolint:kubeapilinter // a zero time is no time
}

// EstablishedConnections says what becomes of connections that are older than their deny.
//
// +kubebuilder:validation:Enum=Cut;Kept;Mixed
type EstablishedConnections string

// The values of EstablishedConnections.
const (
	EstablishedCut   EstablishedConnections = "Cut"
	EstablishedKept  EstablishedConnections = "Kept"
	EstablishedMixed EstablishedConnections = "Mixed"
)

// OlderPods tells of pods that are older than their deny.
type OlderPods struct {
	// count is how many there are.
	// +required
	// +kubebuilder:validation:Minimum=0
	Count *int32 `json:"count,omitempty"`

	// names lists at most 3 of them, as namespace/name, a long one shortened.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=3
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=127
	Names []string `json:"names,omitempty"`
}

// PlatformNodes counts nodes.
type PlatformNodes struct {
	// ready counts nodes on which the engine's agent is Ready; where the engine has no agent of its own, nodes that are.
	// +required
	// +kubebuilder:validation:Minimum=0
	Ready *int32 `json:"ready,omitempty"`

	// total counts the nodes on which it should be: those that are Ready, and on which such an agent can run.
	// +required
	// +kubebuilder:validation:Minimum=0
	Total *int32 `json:"total,omitempty"`
}

// Encapsulation says how pod traffic travels between nodes.
//
// +kubebuilder:validation:Enum=Overlay;Direct;Unknown
type Encapsulation string

// The encapsulations.
const (
	EncapsulationOverlay Encapsulation = "Overlay"
	EncapsulationDirect  Encapsulation = "Direct"
	EncapsulationUnknown Encapsulation = "Unknown"
)
