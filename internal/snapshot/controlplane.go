// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import "net/netip"

// ControlPlane is what whoever runs the API server says of who can reach it: a cloud, or an object that a cluster is made from.
type ControlPlane struct {
	// Cluster is what was asked for. It is empty where an object says it.
	Cluster CloudCluster
	// Object is the object that says it, such as HostedCluster clusters/prod; "" for a cloud.
	Object string
	// Host is the name or address by which clients reach the API server, if that is said.
	Host string
	// Entrances are in a fixed order. There is none when there is a Failure.
	Entrances []Entrance
	// Encryption is what the provider does to traffic between nodes; its state is unknown where that is not said.
	Encryption NodeEncryption
	// Failure says what kept it from being read, and nothing is known then; Problem says it in words, with what the provider
	// answered, and Remedy what to do. They hold no times and no identifiers of requests.
	Failure         Failure
	Problem, Remedy string
}

// ControlPlanes is what others than the cluster itself say of who can reach API servers.
type ControlPlanes struct {
	// Cloud is what the cloud says that runs this cluster's API server; nil where it is not to be asked.
	Cloud *ControlPlane
	// Since is why it could not be read again, where Cloud is of an earlier reading; nil otherwise.
	Since *ControlPlane
	// Objects are what objects in this cluster say, usually of other clusters; ObjectGaps say which could not be read.
	Objects    []ControlPlane
	ObjectGaps []Gap
	// ServerNames are the names and addresses by which this cluster's API server is known.
	ServerNames []string
	// Public says of each of those names that name servers know whether it has an address of the Internet.
	Public map[string]bool
}

// Entrance is one way to the API server.
type Entrance struct {
	// Name is as the provider calls it, such as public endpoint.
	Name string
	Gate Gate
	// Private says that its address is in the customer's network: whoever is not in that, or connected to it, has no way.
	Private bool
	// Identity says who checks callers before the API server does, whatever their address; "" where nobody does.
	Identity string
	// Indirect says that it leads through an API of the provider, and is no address of the API server.
	Indirect bool
	// Ranges are let in when it is open. Unlimited says that there is no list; a private entrance without a list is limited by
	// what is not read.
	Ranges    []netip.Prefix
	Unlimited bool
	// Others are let in beside the ranges, in words.
	Others []string
	// Unread are ranges that are not understood, and settings that say who else is let in and are not there.
	Unread []string
	// Says is the setting in the provider's own words; Field is where an object has it.
	Says, Field string
}

// Gate is whether an entrance is open. It is not known when empty.
type Gate string

// The gates.
const (
	Open Gate = "Open"
	Shut Gate = "Shut"
)

// Failure is why a control plane's description could not be read.
type Failure string

// The failures. None of them says anything about who can reach the API server.
const (
	// NotAsked: there is no answer yet.
	NotAsked Failure = "NotAsked"
	// NotDeclared: which cluster it is cannot be told.
	NotDeclared Failure = "NotDeclared"
	// NoCredentials: there are none, or they were turned down.
	NoCredentials Failure = "NoCredentials"
	// Denied: the credentials are good and may not read it.
	Denied Failure = "Denied"
	// NoSuchCluster: the provider does not know the cluster, or it describes another one than this.
	NoSuchCluster Failure = "NoSuchCluster"
	// Throttled: asked too often, by whomever.
	Throttled Failure = "Throttled"
	// Outage: no answer, or one of an error on the provider's side.
	Outage Failure = "Outage"
	// NotUnderstood: the answer is not what is documented.
	NotUnderstood Failure = "NotUnderstood"
)

// Cloud is a managed Kubernetes service.
type Cloud string

// The clouds.
const (
	EKS Cloud = "EKS"
	GKE Cloud = "GKE"
	AKS Cloud = "AKS"
)

// CloudCluster is which cluster of a cloud this is.
type CloudCluster struct {
	Cloud Cloud
	// Location is a region, or a zone of GKE; not needed for AKS.
	Name, Location string
	// Project is of GKE; Subscription and ResourceGroup are of AKS.
	Project, Subscription, ResourceGroup string

	// The rest is known of this cluster, to tell whether a description is of another one.

	// Issuer is who signs its ServiceAccounts' tokens.
	Issuer string
	// NodeResourceGroup is of AKS: where the nodes are.
	NodeResourceGroup string
	// Signals led to this.
	Signals []Signal
}

// String names the cluster for people.
func (c CloudCluster) String() string {
	text := string(c.Cloud) + " cluster " + c.Name
	if c.Location != "" {
		text += " in " + c.Location
	}
	return text
}
