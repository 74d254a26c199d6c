// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// keys are those of an interface whose certificate has taken another's place ten days ago.
func keys(change func(*snapshot.Keys)) snapshot.Keys {
	k := snapshot.Keys{
		Since: today.Add(-200 * day), Certificate: "c2", Key: "k2", From: today.Add(-10 * day), KeyFrom: today.Add(-10 * day),
		Changes: 1, Changed: today.Add(-10 * day), Before: today.Add(-100 * day),
	}
	change(&k)
	return k
}

func TestKeysRotated(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		keys snapshot.Keys
		want []string
	}{
		"nobody remembers":   {snapshot.Keys{}, nil},
		"nothing changed":    {keys(func(k *snapshot.Keys) { k.Changes = 0 }), []string{"skip: no other certificate than this one of 2026-06-21 has been seen since 2025-12-13"}},
		"a new key in time":  {keys(func(*snapshot.Keys) {}), []string{"pass: its certificate and key were replaced on 2026-06-21, after 90 days"}},
		"a new key too late": {keys(func(k *snapshot.Keys) { k.Before = today.Add(-377 * day) }), []string{"warn: its certificate and key were replaced on 2026-06-21, after 367 days"}},
		"the key of before": {
			keys(func(k *snapshot.Keys) { k.Kept, k.KeyFrom = true, k.Before }),
			[]string{"warn: its certificate was renewed on 2026-06-21 with the key of the one before, in use since 2026-03-23"},
		},
		"the key of long before": {
			keys(func(k *snapshot.Keys) { k.Kept, k.KeyFrom = true, today.Add(-367*day) }),
			[]string{"fail: its certificate is renewed, but its key has been in use for more than 366 days"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound()
			s.Interfaces[grafana].Keys = tc.keys
			s.Interfaces[insecure].Keys = keys(func(*snapshot.Keys) {}) // nobody listens there any more
			var got []string
			for _, f := range management.Run(s) {
				if f.Check != management.KeysRotated {
					continue
				}
				got = append(got, fmt.Sprintf("%s: %s", f.Result, f.Evidence))
				if diff := cmp.Diff(management.KeyProperties(tc.keys), f.Properties); diff != "" {
					t.Errorf("properties (-want +got):\n%s", diff)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestTokenKeysRotated(t *testing.T) {
	t.Parallel()
	at := func(days int) time.Time { return today.Add(time.Duration(days) * day) }
	for name, tc := range map[string]struct {
		seen snapshot.Keys
		want []string
	}{
		"nobody remembers": {snapshot.Keys{}, nil},
		"seen from the beginning": {
			snapshot.Keys{Since: at(-336)}, []string{"skip: it has been seen since 2025-07-30; how old it is, and whether it was replaced in time, cannot be seen yet"},
		},
		"seen for almost too long": {
			snapshot.Keys{Since: at(-336).Add(-1)}, []string{"warn: it has been in use since 2025-07-30 or longer, and will soon be older than its cryptoperiod"},
		},
		"seen for too long": {
			snapshot.Keys{Since: at(-366).Add(-1)}, []string{"fail: it has been in use since 2025-06-30 or longer, which is more than 366 days"},
		},
		"too old, and it had replaced another": {
			snapshot.Keys{Since: at(-367), Before: at(-400), Changes: 1, Changed: at(-367)},
			[]string{"fail: it has been in use since 2025-06-29 or longer, which is more than 366 days"},
		},
		"beside another": {
			snapshot.Keys{Since: at(-2), Before: at(-100)}, []string{"skip: it was added on 2026-06-29, and has not been seen to sign"},
		},
		"in place of another": {
			snapshot.Keys{Since: at(-2), Before: at(-100), Changes: 1, Changed: at(-1)},
			[]string{"pass: it was seen to sign in place of another on 2026-06-30, after 99 days"},
		},
		"in place of another, too late": {
			snapshot.Keys{Since: at(-2), Before: at(-377), Changes: 1, Changed: at(-1)},
			[]string{"warn: it was seen to sign in place of another on 2026-06-30, after 376 days"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound()
			s.Tokens.Keys[0].Seen = tc.seen
			var got []string
			for _, f := range management.Run(s) {
				if f.Check == management.KeysRotated {
					got = append(got, fmt.Sprintf("%s: %s", f.Result, f.Evidence))
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeysAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for _, want := range []snapshot.Keys{keys(func(*snapshot.Keys) {}), keys(func(k *snapshot.Keys) { k.Kept = true }), {Since: today, Certificate: "c", Key: "k", From: today, KeyFrom: today}, {Since: today, Key: "of tokens", Before: today, Changes: 1, Changed: today}} {
		got, ok := management.KeysOf(management.KeyProperties(want))
		if diff := cmp.Diff(want, got); diff != "" || !ok {
			t.Errorf("%v (-want +got):\n%s", ok, diff)
		}
	}
	sound := management.KeyProperties(keys(func(*snapshot.Keys) {}))
	for key, value := range map[string]string{"changes": "many", "keyKept": "", "certificateSHA256": "", "firstSeen": "", "changedAt": "yesterday"} {
		damaged := maps.Clone(sound)
		damaged[key] = value
		if k, ok := management.KeysOf(damaged); ok {
			t.Errorf("with %s %q it reads %+v", key, value, k)
		}
	}
}
