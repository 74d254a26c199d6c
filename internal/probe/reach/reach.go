// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reach looks from where it runs at which interfaces of a cluster's management answer, and compares that with who may reach
// them (4.2). It is for a place outside of the cluster: what lets in whom there, no object of the cluster shows.
package reach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"k8s.io/utils/clock"

	"github.com/pcinetwork/pci-network-baseline/internal/probe/handshake"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Verdict is what an answer means.
type Verdict string

// The verdicts.
const (
	// Reached: it answers somebody who is not on the allow-list.
	Reached Verdict = "reached"
	// Allowed: it answers somebody who is.
	Allowed Verdict = "allowed"
	// Shut: it did not answer.
	Shut Verdict = "shut"
	// Unknown: it was not asked.
	Unknown Verdict = "unknown"
)

// Report is what was seen from one place at one time.
type Report struct {
	// From is the address that it was seen from, At when. OnList says whether spec.managementAccess.allowedCIDRs has the address.
	From   netip.Addr `json:"from"`
	At     time.Time  `json:"at"`
	OnList bool       `json:"onAllowList"`
	// Missing says what the inventory lacks: of that nothing is known.
	Missing    []string    `json:"missing,omitempty"`
	Interfaces []Interface `json:"interfaces"`

	// gaps is how much of Missing is of the inventory itself, and not of doors.
	gaps int
}

// Interface is one interface with what came of it.
type Interface struct {
	Address netip.AddrPort `json:"address"`
	// Role is what it is for, Object what it was found by; Answer is what it speaks.
	Role    string          `json:"role"`
	Object  string          `json:"object"`
	Answer  snapshot.Speech `json:"answer"`
	Verdict Verdict         `json:"verdict"`

	// kind is what Role is for the operator; empty for what is no part of its inventory.
	kind snapshot.Role
}

// Plan is what to look at, and who may reach it.
type Plan struct {
	Targets []Interface
	// Lists are the allow-lists of all baselines that have one: an address is on the list if all of them have it.
	Lists   [][]netip.Prefix
	Missing []string

	gaps int
}

// Look looks at everything, and judges as somebody with the address from. Cost: as [handshake.Dialer.Look].
func Look(ctx context.Context, p Plan, from netip.Addr, now clock.PassiveClock) Report {
	out := Report{From: from, At: now.Now().UTC().Truncate(time.Second), OnList: p.allows(from), Missing: p.Missing, gaps: p.gaps}
	var scope []netip.AddrPort
	for _, t := range p.Targets {
		scope = append(scope, t.Address)
	}
	slices.SortFunc(scope, netip.AddrPort.Compare)
	scope = slices.Compact(scope)
	targets := make([]handshake.Target, 0, len(scope))
	for _, a := range scope {
		targets = append(targets, handshake.Target{Address: a})
	}
	seen := map[netip.AddrPort]snapshot.Sight{}
	for i, s := range handshake.NewDialer(handshake.NewScope(scope...)).Look(ctx, targets) {
		seen[scope[i]] = s
	}
	for _, t := range p.Targets {
		t.Answer = seen[t.Address].Speech
		t.Verdict = verdict(t.Answer, out.OnList)
		out.Interfaces = append(out.Interfaces, t)
	}
	slices.SortStableFunc(out.Interfaces, func(a, b Interface) int {
		return cmp.Or(cmp.Compare(rank[a.Verdict], rank[b.Verdict]), a.Address.Compare(b.Address), cmp.Compare(a.Object, b.Object))
	})
	return out
}

var rank = map[Verdict]int{Reached: 0, Unknown: 1, Allowed: 2, Shut: 3}

func verdict(s snapshot.Speech, onList bool) Verdict {
	switch s {
	case snapshot.SpeechClosed, snapshot.SpeechUnreachable:
		return Shut
	case snapshot.SpeechTLS, snapshot.SpeechPlain, snapshot.SpeechSilent:
		if onList {
			return Allowed
		}
		return Reached
	default:
		return Unknown
	}
}

func (p *Plan) allows(from netip.Addr) bool {
	for _, list := range p.Lists {
		if !slices.ContainsFunc(list, func(c netip.Prefix) bool { return c.Contains(from.Unmap()) }) {
			return false
		}
	}
	return len(p.Lists) > 0
}

// Err says what is wrong; nil if nothing answers that should not, and everything was asked.
func (r *Report) Err() error {
	count := map[Verdict]int{}
	for _, i := range r.Interfaces {
		count[i.Verdict]++
	}
	var errs []error
	if n := count[Reached]; n > 0 {
		errs = append(errs, fmt.Errorf("%d interfaces answer %s, which is not on the allow-list", n, r.From))
	}
	if n := count[Unknown] + len(r.Missing); n > 0 {
		errs = append(errs, fmt.Errorf("%d could not be asked or found, so nothing is known of them", n))
	}
	if len(r.Interfaces) == 0 {
		errs = append(errs, errors.New("there was nothing to look at"))
	}
	return errors.Join(errs...)
}

// maxSome is how many interfaces of a role are named, so that all roles have room in 4 KiB.
const maxSome = 3

// Seen returns what the operator is left of a report, less what is at the host's own addresses.
func (r *Report) Seen(own []netip.Addr) snapshot.Seen {
	out := snapshot.Seen{Answers: map[snapshot.Role]snapshot.Answers{}, Missing: r.gaps}
	type of struct {
		kind snapshot.Role
		at   netip.AddrPort
	}
	told := map[of]bool{}
	for _, i := range r.Interfaces {
		if i.kind == "" || told[of{i.kind, i.Address}] || slices.Contains(own, i.Address.Addr()) {
			continue
		}
		told[of{i.kind, i.Address}] = true
		a := out.Answers[i.kind]
		switch i.Verdict {
		case Unknown:
			out.Missing++
			continue
		case Reached, Allowed:
			a.Answered++
			if len(a.Some) < maxSome {
				a.Some = append(a.Some, i.Address)
			}
		case Shut:
		}
		a.Looked++
		out.Answers[i.kind] = a
	}
	return out
}

// source is the address that this host uses towards a target. No packet is sent.
func source(ctx context.Context, to netip.AddrPort) (netip.Addr, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", to.String())
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = c.Close() }()
	local, err := netip.ParseAddrPort(c.LocalAddr().String())
	return local.Addr().Unmap(), err
}
