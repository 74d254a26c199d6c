// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policy is the backend-neutral vocabulary of intent: what should be denied and allowed in one namespace,
// before anybody chose the policy API that says it.
package policy

import (
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Direction is a direction of traffic, seen from the pod.
type Direction string

// The values of Direction.
const (
	Ingress Direction = "Ingress"
	Egress  Direction = "Egress"
)

// Protocol is a transport protocol: TCP, UDP or SCTP.
type Protocol string

// The values of Protocol that the operator itself uses.
const (
	TCP Protocol = "TCP"
	UDP Protocol = "UDP"
)

// Port is a range of ports of one protocol, after address translation; First equals Last for a single port.
type Port struct {
	Protocol    Protocol
	First, Last int32
}

// Peer is the other side of allowed traffic. Exactly one form is set: CIDR (with Except and Place), or Pods.
type Peer struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
	// Place says what is known to be at CIDR, for engines that know nodes by identity and not by address.
	Place Place
	Pods  *PodPeer
}

// Place is something at an address that an engine may know by another name. Empty means nothing is known.
type Place string

// The values of Place.
const (
	// KubeAPIServer is an endpoint of the Kubernetes API server.
	KubeAPIServer Place = "KubeAPIServer"
	// OwnNode is the node that the pod runs on, as node-local DNS caches are.
	OwnNode Place = "OwnNode"
)

// PodPeer selects pods as peers. A nil Namespaces means the policy's own namespace; a nil Pods every pod there.
type PodPeer struct {
	Namespaces *metav1.LabelSelector
	Pods       *metav1.LabelSelector
}

// Rule allows traffic with any of the peers on any of the ports. An empty list allows nothing: unlike in the policy
// APIs it never means "all".
type Rule struct {
	Direction Direction
	Peers     []Peer
	Ports     []Port
}

// Role says what a policy is for.
type Role string

// The values of Role.
const (
	Deny      Role = "Deny"
	Allowance Role = "Allowance"
)

// Policy is the intent behind one policy object.
type Policy struct {
	// Name is the part of the object's name after the baseline's: default-deny, or allow-<name>.
	Name string
	Role Role
	// Pods selects the pods of the namespace that it is for; empty selects all.
	Pods metav1.LabelSelector
	// Directions are those that a deny isolates. Empty in an allowance.
	Directions []Direction
	// Rules are what an allowance lets through. Empty in a deny.
	Rules []Rule
	// Justification is the business reason of an allowance.
	Justification string
}

// Guard is the intent behind the one cluster-wide object of a baseline's guard layer: it denies wherever the objects of a
// namespace are missing, and allows nothing.
type Guard struct {
	Baseline   string
	Directions []Direction
	// Namespaces selects the namespaces in scope by label; empty selects all.
	Namespaces metav1.LabelSelector
	// Except lists by name the namespaces that must never be selected: system, excluded and exempt ones, sorted.
	Except []string
}

// HostFirewall is the intent behind the policy for nodes: of the addresses that are neither a node's nor a pod's, none but Allowed
// reaches Ports of the nodes. Whatever else reaches a node, or leaves it, is not touched.
type HostFirewall struct {
	Baseline string
	// Nodes selects nodes by label; empty selects all.
	Nodes metav1.LabelSelector
	// Ports are of TCP, sorted. Without ports there is nothing to close; without Allowed nobody would get in, so neither is rendered.
	Ports   []int32
	Allowed []netip.Prefix
}

// LabelHostFirewall and HostFirewallTrial mark the nodes on which a policy for nodes is tried first. A person sets the label, on nodes
// whose consoles can be reached.
const (
	LabelHostFirewall = "pcinetwork.dev/host-firewall"
	HostFirewallTrial = "trial"
)

// TrialNodes selects the nodes of the trial.
func TrialNodes() metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: map[string]string{LabelHostFirewall: HostFirewallTrial}}
}

// Omission is an allowance that resolved to nothing and is therefore not written: an empty rule could mean "all".
type Omission struct {
	// Name is the policy's name, as in Policy.
	Name string
	// Reason and Message say why and what to do.
	Reason, Message string
}

// Set is everything that one baseline wants in one namespace.
type Set struct {
	Baseline   string
	Namespace  string
	Allowances []Policy
	Deny       Policy
	// Omitted lists what is wanted and could not be resolved. A live policy for it is left alone.
	Omitted []Omission
}

// Ordered returns the policies in the order in which they may be written: every allowance before the deny.
func (s Set) Ordered() []Policy {
	out := make([]Policy, 0, len(s.Allowances)+1)
	out = append(out, s.Allowances...)
	return append(out, s.Deny)
}

// Object is any API object: what intent is rendered to.
type Object interface {
	metav1.Object
	runtime.Object
}
