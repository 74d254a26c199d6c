// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"net/netip"
	"time"
)

// View is what of the interfaces answers a node of the cluster, as the operator's own program saw it there.
type View struct {
	Node string
	// From is the node's address, At when it ended to look. Both are the kubelet's word, not that of who looked.
	From netip.Addr
	At   time.Time
	// Seen is what was left; empty where there is a Problem, which says why.
	Seen    Seen
	Problem string
}

// Seen is what is left of a look, in the termination message of a pod, of which Kubernetes keeps 4 KiB.
type Seen struct {
	// Answers are by role, for roles of which something was looked at. What is the node's own is not among them.
	Answers map[Role]Answers `json:"answers"`
	// Missing is how much could not be found or asked.
	Missing int `json:"missing,omitempty"`
}

// Answers are those of the interfaces of one role.
type Answers struct {
	// Looked is how many interfaces were looked at, and Answered how many of them answer; Some are the first of these.
	Looked   int              `json:"looked"`
	Answered int              `json:"answered,omitempty"`
	Some     []netip.AddrPort `json:"some,omitempty"`
}
