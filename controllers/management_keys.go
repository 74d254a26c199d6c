// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	checks "github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// maxKeys bounds what is remembered of interfaces that are not in the inventory.
const maxKeys = 20_000

// remember makes what the last process saw of keys this one's, as far as it is written in reports. Without it, a restart would begin to
// wait for a rotation anew.
func (r *ManagementReconciler) remember(ctx context.Context, baselines []pcinetv1alpha1.PCINetworkBaseline) error {
	if r.remembers {
		return nil
	}
	keys := maps.Clone(r.keys)
	if keys == nil {
		keys = map[string]snapshot.Keys{}
	}
	for i := range baselines {
		if b := &baselines[i]; b.Spec.ManagementEncryption != nil && r.Remembered != nil {
			written, err := r.Remembered(ctx, b)
			if err != nil {
				return fmt.Errorf("reading what was seen of keys: %w", err)
			}
			for subject, k := range written {
				if k.Changes >= keys[subject].Changes {
					keys[subject] = k
				}
			}
		}
	}
	r.keys, r.remembers = keys, true
	return nil
}

// follow adds what is known of them to the keys of an inventory, and counts the interfaces' that have changed. What is not in it any more
// is forgotten, unless it may be there.
func (r *ManagementReconciler) follow(m *snapshot.Management, now time.Time) {
	known := r.followTokens(m, now)
	for i := range m.Interfaces {
		in := &m.Interfaces[i]
		subject := checks.Name(in)
		if k, twice := known[subject]; twice { // under another name it may show another certificate
			in.Keys = k
			continue
		}
		before := r.keys[subject]
		in.Keys = before
		if in.Sight.Speech == snapshot.SpeechTLS && len(in.Sight.Chain) > 0 {
			in.Keys = before.Followed(&in.Sight.Chain[0], now)
		}
		if in.Keys.Changes > before.Changes {
			r.Metrics.ObserveKeyChange(in.Role, in.Keys.Kept)
		}
		if !in.Keys.Since.IsZero() {
			known[subject] = in.Keys
		}
	}
	if len(r.inventory.Gaps) > 0 {
		for subject, k := range r.keys {
			if _, there := known[subject]; !there && len(known) < maxKeys {
				known[subject] = k
			}
		}
	}
	r.keys = known
}

// followTokens adds what is known of them to keys that verify tokens, and returns all that is known of such. One that is not published
// any more is not forgotten: of several API servers, the one that is restarted first publishes others than the rest.
func (r *ManagementReconciler) followTokens(m *snapshot.Management, now time.Time) map[string]snapshot.Keys {
	known := map[string]snapshot.Keys{}
	var newest time.Time
	for subject, k := range r.keys {
		if checks.NamesTokenKey(subject) && len(known) < maxKeys {
			known[subject] = k
			if k.Since.After(newest) {
				newest = k.Since
			}
		}
	}
	m.Tokens.Keys = slices.Clone(m.Tokens.Keys)
	for i := range m.Tokens.Keys {
		key := &m.Tokens.Keys[i]
		subject := checks.TokenKeyName(key)
		k := known[subject]
		if k.Key != key.SPKI {
			k = snapshot.Keys{Since: now, Key: key.SPKI, Before: newest}
		}
		if key.Signs && k.Changes == 0 && !k.Before.IsZero() {
			k.Changes, k.Changed = 1, now
		}
		known[subject], key.Seen = k, k
	}
	return known
}
