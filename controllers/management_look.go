// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/x509"
	"net/netip"
	"slices"
	"time"

	"github.com/pcinetwork/pci-network-baseline/internal/probe/handshake"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// sightline is one way to look at an interface; seen is what came of it, and when.
type (
	sightline struct {
		address       netip.AddrPort
		server, roots string
		cluster       bool
		minimum       uint16
	}
	seen struct {
		sight snapshot.Sight
		at    time.Time
		// unsure: it said nothing of use for the first time, so it is looked at again soon.
		unsure bool
	}
)

// look returns the inventory with what was seen of it, for each minimum version.
func (r *ManagementReconciler) look(ctx context.Context, minimums []uint16) map[uint16]snapshot.Management {
	out := map[uint16]snapshot.Management{0: *r.inventory}
	now, kept := r.Clock.Now(), map[sightline]seen{}
	for _, minimum := range minimums {
		var due []sightline
		for i := range r.inventory.Interfaces {
			if in := &r.inventory.Interfaces[i]; !in.UDP {
				v := sightline{in.Address, in.ServerName, in.Roots, in.ClusterRoots, minimum}
				if old, known := r.seen[v]; known && !old.due(now) {
					kept[v] = old
				} else if _, twice := kept[v]; !twice {
					kept[v] = seen{}
					due = append(due, v)
				}
			}
		}
		for i, sight := range r.dial(ctx, due) {
			kept[due[i]] = r.seen[due[i]].followed(sight, now)
		}
		m := *r.inventory
		m.APIServer, m.Kubelets, m.Tokens = r.asked.APIServer, r.asked.Kubelets, r.asked.Tokens
		m.Authorities, m.AuthoritiesUnread = r.asked.Authorities, r.asked.AuthoritiesUnread
		m.Interfaces = slices.Clone(m.Interfaces)
		for i := range m.Interfaces {
			if in := &m.Interfaces[i]; !in.UDP {
				in.Sight = kept[sightline{in.Address, in.ServerName, in.Roots, in.ClusterRoots, minimum}].sight
			}
		}
		r.follow(&m, now)
		r.Metrics.ObserveInterfaces(m.Interfaces)
		out[minimum] = m
	}
	r.seen = kept
	return out
}

// due says whether it is time to look again.
func (s seen) due(now time.Time) bool {
	period := inventoryPeriod / 2
	if certain(s.sight) {
		period = lookPeriod
	}
	return s.unsure || now.Sub(s.at) >= period
}

// followed returns what is known after another look. Pods and nodes come and go between inventory and look, so one that says nothing of
// use is asked twice at first, or after it said something, and until then what it said before holds.
func (s seen) followed(by snapshot.Sight, now time.Time) seen {
	out := seen{sight: by, at: now, unsure: !certain(by) && !s.unsure && (s.at.IsZero() || certain(s.sight))}
	if out.unsure && certain(s.sight) {
		out.sight = s.sight
	}
	return out
}

// certain says whether there is nothing to gain from looking again soon.
func certain(s snapshot.Sight) bool {
	return s.Speech == snapshot.SpeechPlain || s.Speech == snapshot.SpeechClosed ||
		(s.Speech == snapshot.SpeechTLS && s.Old != "" && s.Weak != "" && (s.ClientCertificate != "" || s.Version == 0))
}

// dial looks at interfaces of the inventory, and at nothing else.
func (r *ManagementReconciler) dial(ctx context.Context, views []sightline) []snapshot.Sight {
	scope := make([]netip.AddrPort, 0, len(views))
	targets := make([]handshake.Target, 0, len(views))
	for _, v := range views {
		scope = append(scope, v.address)
		t := handshake.Target{Address: v.address, ServerName: v.server, MinVersion: v.minimum}
		switch {
		case v.cluster:
			t.Roots = r.Asker.Roots
		case v.roots != "":
			t.Roots = x509.NewCertPool()
			t.Roots.AppendCertsFromPEM([]byte(v.roots))
		}
		targets = append(targets, t)
	}
	return handshake.NewDialer(handshake.NewScope(scope...)).Look(ctx, targets)
}
