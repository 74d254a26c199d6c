// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// ManagedCloud says which cluster of which cloud this is. What is unset is taken from what the cloud leaves on nodes, in tokens and in
// the API server's certificate. What shows nowhere, or shows in two ways, leaves the condition ManagementAccessRestricted Unknown,
// and so does the description of another cluster.
//
// +kubebuilder:validation:XValidation:rule="self.provider != 'None' || !(has(self.name) || has(self.location) || has(self.project) || has(self.subscriptionID) || has(self.resourceGroup))",message="provider None asks no cloud: remove the other fields"
// +kubebuilder:validation:XValidation:rule="!has(self.location) || self.provider != 'AKS'",message="location is of EKS and GKE: remove it, AKS finds a cluster by subscriptionID, resourceGroup and name",fieldPath=".location"
// +kubebuilder:validation:XValidation:rule="!has(self.project) || self.provider in ['GKE', 'None']",message="project is of GKE: set provider to GKE, or remove it",fieldPath=".project"
// +kubebuilder:validation:XValidation:rule="!has(self.subscriptionID) || self.provider in ['AKS', 'None']",message="subscriptionID is of AKS: set provider to AKS, or remove it",fieldPath=".subscriptionID"
// +kubebuilder:validation:XValidation:rule="!has(self.resourceGroup) || self.provider in ['AKS', 'None']",message="resourceGroup is of AKS: set provider to AKS, or remove it",fieldPath=".resourceGroup"
type ManagedCloud struct {
	// provider is the managed service. Auto goes by what it leaves in the cluster. None says that no cloud is to be asked,
	// because none runs the API server, or because what it says is attested instead.
	// +optional
	// +kubebuilder:default=Auto
	Provider CloudProvider `json:"provider,omitempty"`

	// name is the cluster's name in the cloud.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9A-Za-z][0-9A-Za-z_-]*$')",message="must be a cluster's name: letters, digits, '-' and '_', beginning with a letter or digit"
	Name string `json:"name,omitempty"`

	// location is a region such as eu-central-1, or a zone of GKE.
	// +optional
	// +kubebuilder:validation:MinLength=2
	// +kubebuilder:validation:MaxLength=41
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z][a-z0-9-]*$')",message="must be a region or zone, such as eu-central-1 or europe-west3-a"
	Location string `json:"location,omitempty"`

	// project is the ID of the project on GKE.
	// +optional
	// +kubebuilder:validation:MinLength=3
	// +kubebuilder:validation:MaxLength=127
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{1,61}[a-z0-9]$')",message="must be a project's ID, such as shop-prod; not its name or number"
	Project string `json:"project,omitempty"`

	// subscriptionID is that of the subscription on AKS.
	// +optional
	// +kubebuilder:validation:MinLength=36
	// +kubebuilder:validation:MaxLength=36
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$')",message="must be a subscription's ID, such as 00000000-0000-0000-0000-000000000000"
	SubscriptionID string `json:"subscriptionID,omitempty"`

	// resourceGroup is that of the cluster on AKS, not that of its nodes.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=90
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9A-Za-z_().-]*$')",message="must be a resource group's name: letters, digits, '.', '-', '_' and parentheses"
	ResourceGroup string `json:"resourceGroup,omitempty"`
}

// CloudProvider is a managed Kubernetes service.
//
// +kubebuilder:validation:Enum=Auto;EKS;GKE;AKS;None
type CloudProvider string

// The values of provider.
const (
	CloudAuto CloudProvider = "Auto"
	CloudEKS  CloudProvider = "EKS"
	CloudGKE  CloudProvider = "GKE"
	CloudAKS  CloudProvider = "AKS"
	CloudNone CloudProvider = "None"
)
