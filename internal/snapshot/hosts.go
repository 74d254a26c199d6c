// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import "net/netip"

// HostProtection is what the policy engine does with policies for nodes.
type HostProtection struct {
	// Backend names the policy API that they are written in; "" where the engine has none, or nobody knows the engine.
	Backend string
	// ByIdentity says that the engine knows nodes and pods by identity, so that no range of addresses closes a port to them.
	ByIdentity bool
	// Obstacles say why such a policy would have no effect, or another one than meant; Doubts what cannot be told. Each is a
	// sentence with the object and what to do, and changes only with what it is about.
	Obstacles, Doubts []string
	// Open are the ports that stay open before any policy.
	Open []OpenPort
	// Unsaved names what takes those ports away, or is empty: nothing then saves a node from a wrong policy.
	Unsaved string
	// IPv4Only names what has the engine leave IPv6 alone, or is empty: policies then close nothing to whoever comes by it.
	IPv4Only string
	// PodRanges are those of the engine's address pools.
	PodRanges []netip.Prefix
}

// OpenPort is a TCP port of nodes that no policy closes to addresses of a range.
type OpenPort struct {
	Port int32
	Net  netip.Prefix
	// Object says so.
	Object string
}

// Host is a node, by its addresses.
type Host struct {
	Name string
	// Addresses are all that its object lists.
	Addresses []netip.Addr
	// PodRanges are those that the cluster gave to the node; empty where the network plugin does that.
	PodRanges []netip.Prefix
	// Provider is the scheme of its provider's identifier, such as gce; "" without one.
	Provider string
	// Trial says that a firewall on nodes is tried on it.
	Trial bool
}

// Firewall is how far a firewall on nodes is that a baseline wants enforced.
type Firewall struct {
	State FirewallState
	// Why is a sentence without a full stop, and changes only with what it is about: of FirewallPending and FirewallTakenBack the cause, of
	// FirewallKept what is not as it should be, or "".
	Why string
}

// FirewallState is one of the states.
type FirewallState string

// The states. The zero value is that nobody has looked, or could; then Why says why.
const (
	// FirewallPending: nothing, or an earlier list, is enforced.
	FirewallPending FirewallState = "Pending"
	// FirewallTrying: it is enforced on some or all nodes, and watched.
	FirewallTrying FirewallState = "Trying"
	// FirewallKept: it is enforced on all nodes.
	FirewallKept FirewallState = "Kept"
	// FirewallTakenBack: it was tried, and taken back.
	FirewallTakenBack FirewallState = "TakenBack"
)
