// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"slices"

	"k8s.io/apimachinery/pkg/labels"
)

// The kinds of objects that settings are read from.
const (
	KindNode                     = "Node"
	KindDaemonSet                = "DaemonSet"
	KindPod                      = "Pod"
	KindCustomResourceDefinition = "CustomResourceDefinition"
	KindConfigMap                = "ConfigMap"
	KindAPIService               = "APIService"
	KindCiliumNodeConfig         = "CiliumNodeConfig"
	KindCiliumNode               = "CiliumNode"
	KindFelixConfiguration       = "FelixConfiguration"
	KindClusterInformation       = "ClusterInformation"
	KindIPPool                   = "IPPool"
	KindHostEndpoint             = "HostEndpoint"
	KindInstallation             = "Installation"
	KindDatastoreMigration       = "DatastoreMigration"
	KindNodeClass                = "NodeClass"
	KindNetworkConfig            = "network.config.openshift.io"
	KindNetworkOperator          = "network.operator.openshift.io"
)

// EnvWeavePassword is a variable of the environment that holds a secret: of it no more is kept than EnvGiven.
const (
	EnvWeavePassword = "WEAVE_PASSWORD"
	EnvGiven         = "(given)"
)

// Evidence is what the API shows of the cluster's network: the nodes, the DaemonSets that may be agents, and the settings
// that were asked for. Engines are told and judged from it alone.
type Evidence struct {
	// Nodes are sorted by name, DaemonSets by namespace and name.
	Nodes      []Node
	DaemonSets []DaemonSet
	// Kinds are the names of all CustomResourceDefinitions, sorted, such as ciliumnodeconfigs.cilium.io.
	Kinds []string
	// Readings holds the outcome for every source that is read, and for those whose kind the API does not serve.
	Readings map[Source]Reading
}

// Has says whether a CustomResourceDefinition exists.
func (e *Evidence) Has(crd string) bool {
	_, found := slices.BinarySearch(e.Kinds, crd)
	return found
}

// Source is what is asked of the API: the objects of a kind, limited by what is not empty.
type Source struct {
	Kind string
	// Group is given where two groups serve the kind and it matters which one counts.
	Group string
	// Namespace and Name limit to one namespace or object; Selector is a label selector.
	Namespace, Name, Selector string
}

// String names the source for people.
func (s Source) String() string {
	text := s.Kind
	switch {
	case s.Selector != "" && s.Namespace != "":
		return text + " of " + s.Namespace + "/" + s.Name
	case s.Namespace != "" && s.Name != "":
		return text + " " + s.Namespace + "/" + s.Name
	case s.Name != "":
		return text + " " + s.Name
	}
	return text
}

// Reading is the outcome of reading a source.
type Reading struct {
	// Pending says that the first answer is not there yet.
	Pending bool
	// Absent says that the API does not serve the kind.
	Absent bool
	// Problem says why the source cannot be read, or "". It is stable: no times, no addresses.
	Problem string
	// Objects are sorted by namespace and name.
	Objects []Object
}

// Object is one object with settings.
type Object struct {
	Kind, Namespace, Name string
	// Data is that of a ConfigMap. For a HostEndpoint it is the labels. For a pod: "node" and "ready". For a CiliumNode: "wireguard", its public key, and "ipsec", the
	// index of its key.
	Data map[string]string
	// Fields are the top-level fields of any other kind, such as spec. Shared with the cache: read only.
	Fields map[string]any
}

// String names the object for people.
func (o *Object) String() string {
	if o.Namespace != "" {
		return o.Kind + " " + o.Namespace + "/" + o.Name
	}
	return o.Kind + " " + o.Name
}

// Node is one node. Labels and Annotations are shared with the cache: read only.
type Node struct {
	Name   string
	Labels labels.Set
	// Annotations are those that network plugins and distributions keep settings in, and no others.
	Annotations map[string]string
	ProviderID  string
	// Kubelet is the version of the kubelet, whose suffix tells distributions apart.
	Kubelet string
	// Ready is the condition of that name.
	Ready bool
	// NetworkReason is the reason of the condition NetworkUnavailable, in which plugins name themselves.
	NetworkReason string
}

// DaemonSet is one DaemonSet, with what tells network agents and their settings.
type DaemonSet struct {
	Namespace, Name string
	// Labels are those of its pods; Selector selects them.
	Labels   map[string]string
	Selector string
	// NodeSelector limits the nodes.
	NodeSelector map[string]string
	// Containers are the init containers, then the others.
	Containers []Container
	// Desired is on how many nodes it should run, Ready on how many its pod is Ready.
	Desired, Ready int32
}

// Container returns a container by name, or nil.
func (d *DaemonSet) Container(name string) *Container {
	for i := range d.Containers {
		if d.Containers[i].Name == name {
			return &d.Containers[i]
		}
	}
	return nil
}

// String names the DaemonSet for people.
func (d *DaemonSet) String() string { return KindDaemonSet + " " + d.Namespace + "/" + d.Name }

// Container is one container of a DaemonSet's pods.
type Container struct {
	Name, Image string
	// Flags and Env are the settings that are looked at, by name without dashes; what else is on a command line or in
	// the environment may be secret and is not kept.
	Flags, Env map[string]string
}

// Signal is one thing that led to a conclusion.
type Signal struct {
	// Object is what was looked at, Says what it says.
	Object, Says string
	// Weak marks signals that could mean something else.
	Weak bool
}

// Component is a piece of software in the cluster's network.
type Component struct {
	// Name is empty when nothing is known; Version when it does not show.
	Name, Version string
	Signals       []Signal
}

// Coverage is on how many nodes the agent is Ready.
type Coverage struct {
	Ready, Total int
	// Missing are the names of nodes without a Ready agent, sorted; empty while they are not known.
	Missing []string
	// Excluded counts nodes on which no agent of the kind can run, by why.
	Excluded map[string]int
	// Down counts nodes that are not Ready themselves, so that nothing is known about their agent.
	Down int
}

// Encapsulation says how pod traffic travels between nodes.
type Encapsulation string

// The encapsulations.
const (
	Overlay              Encapsulation = "Overlay"
	Direct               Encapsulation = "Direct"
	UnknownEncapsulation Encapsulation = "Unknown"
)

// PolicyAPIs are the policy APIs beside the core one.
type PolicyAPIs struct {
	// CalicoServed says that projectcalico.org/v3 is registered; CalicoAggregated that a server of its own answers it,
	// and not CRDs; CalicoAvailable that it answers.
	CalicoServed, CalicoAggregated, CalicoAvailable bool
	// CalicoStaged says that staged policies are served too: Calico has had them only since 3.30 without a licence.
	CalicoStaged bool
	// CalicoGlobal says that its cluster-wide policies are served.
	CalicoGlobal bool
	// CalicoMigrating says that Calico's objects are on the move, and writes have no effect until that is over.
	CalicoMigrating bool
	// CiliumServed says that cilium.io/v2 is served.
	CiliumServed bool
	// CiliumClusterwide says that its cluster-wide policies are served.
	CiliumClusterwide bool
	// ClusterNetworkPolicy says that policy.networking.k8s.io is served. That alone does not mean that anybody enforces it.
	ClusterNetworkPolicy bool
}

// Serves says whether the API server serves a kind of policy, which is named as kubectl names it. Whether it answers now is
// another question.
func (a PolicyAPIs) Serves(resource string) bool {
	switch resource {
	case "networkpolicies.projectcalico.org":
		return a.CalicoServed
	case "globalnetworkpolicies.projectcalico.org":
		return a.CalicoServed && a.CalicoGlobal
	case "stagednetworkpolicies.projectcalico.org":
		return a.CalicoServed && a.CalicoStaged
	case "ciliumnetworkpolicies.cilium.io":
		return a.CiliumServed
	case "ciliumclusterwidenetworkpolicies.cilium.io":
		return a.CiliumClusterwide
	case "clusternetworkpolicies.policy.networking.k8s.io":
		return a.ClusterNetworkPolicy
	}
	return false
}
