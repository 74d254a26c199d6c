// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestKeysFollowed(t *testing.T) {
	at := func(day int) time.Time { return time.Date(2026, 7, day, 0, 0, 0, 0, time.UTC) }
	// A certificate is named by a letter and a key's number, and is valid from the day before it is seen, unless told otherwise.
	type seen struct {
		certificate, key string
		from, on         int
	}
	for name, tc := range map[string]struct {
		seen []seen
		want snapshot.Keys
	}{
		"nothing": {},
		"one alone": {
			[]seen{{"a", "1", 1, 2}},
			snapshot.Keys{Since: at(2), Certificate: "a", Key: "1", From: at(1), KeyFrom: at(1)},
		},
		"the same one again": {
			[]seen{{"a", "1", 1, 2}, {"a", "1", 1, 9}},
			snapshot.Keys{Since: at(2), Certificate: "a", Key: "1", From: at(1), KeyFrom: at(1)},
		},
		"another one with another key": {
			[]seen{{"a", "1", 1, 2}, {"b", "2", 8, 9}},
			snapshot.Keys{Since: at(2), Certificate: "b", Key: "2", From: at(8), KeyFrom: at(8), Changes: 1, Changed: at(9), Before: at(1)},
		},
		"a renewed one with the same key": {
			[]seen{{"a", "1", 1, 2}, {"b", "1", 8, 9}, {"c", "1", 14, 15}},
			snapshot.Keys{Since: at(2), Certificate: "c", Key: "1", From: at(14), KeyFrom: at(1), Changes: 2, Changed: at(15), Before: at(8), Kept: true},
		},
		"a new key after one that was kept": {
			[]seen{{"a", "1", 1, 2}, {"b", "1", 8, 9}, {"c", "2", 14, 15}},
			snapshot.Keys{Since: at(2), Certificate: "c", Key: "2", From: at(14), KeyFrom: at(14), Changes: 2, Changed: at(15), Before: at(8)},
		},
		"two servers that share an address": {
			[]seen{{"b", "2", 2, 3}, {"a", "1", 1, 4}, {"b", "2", 2, 5}, {"a", "1", 1, 6}},
			snapshot.Keys{Since: at(3), Certificate: "b", Key: "2", From: at(2), KeyFrom: at(2)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var k snapshot.Keys
			for _, s := range tc.seen {
				k = k.Followed(&snapshot.Certificate{SHA256: s.certificate, SPKI: s.key, NotBefore: at(s.from)}, at(s.on))
			}
			if diff := cmp.Diff(tc.want, k); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
