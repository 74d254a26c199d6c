// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

// NodeEncryption is whether the cluster's network encrypts what pods of one node send to those of another. Between pods of one node
// nothing is encrypted, whatever the engine.
type NodeEncryption struct {
	State EncryptionState
	// How is WireGuard or IPsec, with what limits it. Says is what shows the state. Both are for people, without a full stop.
	How, Says string
	// Unread says that what would show it could not be read.
	Unread bool
	// Clear are the nodes that show no key of their own, sorted: what they send to others goes in the clear.
	Clear []string
}

// EncryptionState is how much is encrypted. It is unknown when empty.
type EncryptionState string

// The states.
const (
	EncryptionUnknown EncryptionState = ""
	// Encrypted: it is turned on, and no node is known to be left out.
	Encrypted EncryptionState = "Encrypted"
	// EncryptedPartly: it is turned on, and some nodes or some traffic are left out.
	EncryptedPartly EncryptionState = "EncryptedPartly"
	// Unencrypted: it is turned off, or the engine has nothing of the kind.
	Unencrypted EncryptionState = "Unencrypted"
)
