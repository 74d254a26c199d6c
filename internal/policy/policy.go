// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package policy is the backend-neutral vocabulary of intent: what should be denied and allowed in one namespace,
// before anybody chose the policy API that says it.
package policy

import (
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// Peer is the other side of allowed traffic. Exactly one form is set: CIDR (with Except), or Pods.
type Peer struct {
	CIDR   netip.Prefix
	Except []netip.Prefix
	Pods   *PodPeer
}

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
