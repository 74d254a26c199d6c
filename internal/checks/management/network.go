// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"fmt"
	"strings"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// nodeTrafficEncrypted (4.3; PCI DSS 2.2.7, 4.2.1): what supporting systems send from node to node is encrypted below them as well. It
// is for an assessor to see, and no verdict: the guidance asks the systems themselves to encrypt, on any network.
func nodeTrafficEncrypted(s Subject, v *verdicts) {
	const (
		subject = "Pod traffic between nodes"
		remedy  = "Turn on WireGuard or IPsec in the network plugin, or let every supporting system use TLS"
	)
	n := encryptionOf(s)
	switch n.State {
	case snapshot.EncryptionUnknown:
		if n.Unread {
			v.warn(pcinetv1alpha1.ReasonManagementNotObservable, subject, "whether it is encrypted is not known: "+n.Says, "See the condition PolicyEngineSupported, the operator's roles, and what the cloud says")
			return
		}
		v.skip(subject, cmp.Or(n.Says, "nothing in the API shows whether it is encrypted"))
	case snapshot.Encrypted:
		v.pass(subject, fmt.Sprintf("it is encrypted by %s (%s)", n.How, n.Says))
	case snapshot.EncryptedPartly:
		evidence := fmt.Sprintf("it is encrypted by %s (%s)", n.How, n.Says)
		if len(n.Clear) > 0 {
			v.warn(pcinetv1alpha1.ReasonPlaintext, subject, evidence+", but not from and to "+some(n.Clear), "See why the network plugin publishes no key there; its log says so")
			return
		}
		v.warn(pcinetv1alpha1.ReasonPlaintext, subject, evidence, "See whether that is so for what supporting systems send, or let every one of them use TLS")
	case snapshot.Unencrypted:
		v.warn(pcinetv1alpha1.ReasonPlaintext, subject, "it is not encrypted: "+n.Says, remedy)
	}
}

// encryptionOf is that of the network plugin, which knows its nodes, or the cloud's where the plugin shows nothing. Where the cloud says that it is
// on and the plugin that it is off, one of them is wrong.
func encryptionOf(s Subject) snapshot.NodeEncryption {
	if s.Cloud == nil || s.Network.Unread || (s.Cloud.Encryption.State == snapshot.EncryptionUnknown && !s.Cloud.Encryption.Unread) {
		return s.Network
	}
	out := s.Cloud.Encryption
	out.Says = s.Cloud.Cluster.String() + " says " + out.Says
	switch {
	case s.Network.State == snapshot.EncryptionUnknown:
		return out
	case s.Network.State == snapshot.Unencrypted && out.State == snapshot.Encrypted:
		out.State, out.Says = snapshot.EncryptedPartly, out.Says+"; but "+s.Network.Says
		return out
	default:
		return s.Network
	}
}

// some names the first of a sorted list.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
