// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot

import "time"

// Keys is what has been seen of the certificates of one interface over time. It is empty where none was seen.
type Keys struct {
	// Since is when the first certificate was seen.
	Since time.Time
	// Certificate and Key are the fingerprints of the one in use and of its public key, as Certificate has them; From is when it
	// became valid.
	Certificate, Key string
	From             time.Time
	// KeyFrom is when the first certificate with this key became valid, as far as one was seen.
	KeyFrom time.Time
	// Changes counts the certificates that took another's place, Changed is when the last did, Before is when that other one had
	// become valid, and Kept says that the key stayed.
	Changes         int
	Changed, Before time.Time
	Kept            bool
}

// Followed returns what is known once a certificate is seen. One that is older than the one in use takes nobody's place: several servers
// may share an address. Nor does one that is seen again.
func (k Keys) Followed(by *Certificate, now time.Time) Keys {
	switch {
	case k.Since.IsZero():
		return Keys{Since: now, Certificate: by.SHA256, Key: by.SPKI, From: by.NotBefore, KeyFrom: by.NotBefore}
	case by.SHA256 == k.Certificate, !by.NotBefore.After(k.From):
		return k
	}
	out := Keys{
		Since: k.Since, Certificate: by.SHA256, Key: by.SPKI, From: by.NotBefore, KeyFrom: by.NotBefore,
		Changes: k.Changes + 1, Changed: now, Before: k.From, Kept: by.SPKI == k.Key,
	}
	if out.Kept {
		out.KeyFrom = k.KeyFrom
	}
	return out
}
