// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Memory is what is remembered across processes, in a text each, so that a person who deletes what is remembered of a try leaves what is
// remembered of what stands.
type Memory struct {
	// Kept is what was kept last on all nodes, nil for nothing. If another list fails it is put back.
	Kept *List
	// Tried is what was tried last, and is not kept; nil for nothing. It is noted before the policy is written: whoever ends in between is
	// followed by one who leaves what stands.
	Tried *Attempt
	// Renewed is noted before the policy is deleted to be made anew, and forgotten once it is there again.
	Renewed *Renewal
}

// Renewal is the deletion of a policy that is to be made anew, for an engine that does not take a change of it otherwise.
type Renewal struct {
	// From is the stage at which it was.
	From  Stage     `json:"from"`
	Begun time.Time `json:"begun"`
}

// renewing is for how long a policy that was deleted to be made anew counts as one that is to be there: whoever ended in between is followed by
// another process after 15 s, and some more until that one knows what is wanted.
const renewing = time.Minute

// Attempt is a list that was tried. If it is on no node any more, it was taken back.
type Attempt struct {
	List
	Begun time.Time `json:"begun"`
	// Sure says that nobody has to confirm it: it lets in everybody whom the list that was kept let in.
	Sure bool `json:"sure,omitempty"`
	// Why it was taken back; "" if it was not, or by somebody else than the operator.
	Why string `json:"why,omitempty"`
}

// ReadMemory reads the texts; what cannot be read is nothing.
func ReadMemory(kept, tried, renewed string) Memory {
	var out Memory
	list, attempt, renewal := &List{}, &Attempt{}, &Renewal{}
	if json.Unmarshal([]byte(kept), list) == nil {
		out.Kept = list
	}
	if json.Unmarshal([]byte(tried), attempt) == nil {
		out.Tried = attempt
	}
	if json.Unmarshal([]byte(renewed), renewal) == nil {
		out.Renewed = renewal
	}
	return out
}

// Texts returns what ReadMemory reads, "" for nothing.
func (m Memory) Texts() (kept, tried, renewed string) {
	if m.Kept != nil {
		kept = text(m.Kept)
	}
	if m.Tried != nil {
		tried = text(m.Tried)
	}
	if m.Renewed != nil {
		renewed = text(m.Renewed)
	}
	return kept, tried, renewed
}

func text(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return "" // not possible: it holds strings, numbers and a time
	}
	return string(data)
}

// Intended returns what is wanted, with the ports that are closed already: one is not opened because for a moment nobody was seen behind it.
// live is nil for what is no firewall of ours.
func (m Memory) Intended(wanted policy.HostFirewall, live *policy.HostFirewall) policy.HostFirewall {
	ports := slices.Clone(wanted.Ports)
	if m.Kept.isOf(wanted) {
		ports = append(ports, m.Kept.Ports...)
	}
	if t := m.Tried; t != nil && t.isOf(wanted) && live != nil && t.covers(*live) && holds(live.Ports, t.Ports) {
		ports = append(ports, t.Ports...)
	}
	slices.Sort(ports)
	wanted.Ports = slices.Compact(ports)
	return wanted
}

// isKept says whether what is intended was kept, every port of it.
func (m Memory) isKept(intended policy.HostFirewall) bool {
	return m.Kept.covers(intended)
}

// wasTried says whether what is intended was tried, every port of it.
func (m Memory) wasTried(intended policy.HostFirewall) bool {
	return m.Tried != nil && m.Tried.covers(intended)
}

// Begin returns m with a try that begins now. What was kept is forgotten unless it stands: whoever deleted it had a reason.
func (m Memory) Begin(intended policy.HostFirewall, from Stage, now time.Time) Memory {
	out := Memory{Tried: &Attempt{List: ListOf(intended), Begun: now.UTC().Truncate(time.Second), Sure: m.Kept.within(intended)}}
	if from != Absent {
		out.Kept = m.Kept
	}
	return out
}

// Failed returns m with why what is intended was taken back; restored says that what was kept stands again.
func (m Memory) Failed(intended policy.HostFirewall, why string, restored bool) Memory {
	out := Memory{Tried: &Attempt{List: ListOf(intended), Why: why}}
	if m.wasTried(intended) {
		out.Tried.Begun = m.Tried.Begun
	}
	if restored {
		out.Kept = m.Kept
	}
	return out
}

// Succeeded returns what is remembered once what is intended is kept.
func (Memory) Succeeded(intended policy.HostFirewall) Memory {
	kept := ListOf(intended)
	return Memory{Kept: &kept}
}

// Stands says whether what was kept stands, as far as is remembered: nothing is tried in its place.
func (m Memory) Stands() bool {
	return m.Kept != nil && (m.Tried == nil || m.Tried.Why != "")
}

// Over returns m with the end of a try that was noted, and of which nothing is on nodes while what was kept is.
func (m Memory) Over() Memory {
	if m.Tried != nil && m.Tried.Why == "" {
		over := *m.Tried
		over.Why = "another list was wanted meanwhile, or the operator ended"
		m.Tried = &over
	}
	return m
}

// Renew returns m with the deletion of a policy that was at a stage.
func (m Memory) Renew(from Stage, now time.Time) Memory {
	m.Renewed = &Renewal{From: from, Begun: now.UTC()}
	return m
}

// Resumed returns the stage of a policy that is not there. It is the one before if somebody deleted it a moment ago to make it anew, and has not done
// so: Absent would be told as taken back, and forgets what was kept. It is Strange where only what was kept may follow. limit is for how long
// the dead man bears silence: after that it may have been he who deleted it.
func (m Memory) Resumed(intended policy.HostFirewall, limit time.Duration, now time.Time) Stage {
	if m.Renewed == nil {
		return Absent
	}
	switch age := now.Sub(m.Renewed.Begun); {
	case age < 0 || age >= min(renewing, limit):
		return Absent
	case m.Renewed.From == OneNode && m.wasTried(intended):
		return OneNode
	case m.Kept != nil:
		return Strange
	}
	return Absent
}

// Token is what a person confirms the try with: another one for each.
func (m Memory) Token() string {
	if m.Tried == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(text(m.Tried.List) + m.Tried.Begun.Format(time.RFC3339)))
	return hex.EncodeToString(sum[:4])
}

// See completes what is seen: confirmed is the token that a person has left, "" for none. A trial of which nothing is remembered can be confirmed by nobody.
func (m Memory) See(seen Seen, intended policy.HostFirewall, confirmed string, now time.Time) Seen {
	seen.Kept = m.isKept(intended)
	seen.Tried = m.wasTried(intended) && !seen.Kept
	seen.Confirmed = seen.Tried && (m.Tried.Sure || confirmed == m.Token())
	seen.Late = !seen.Tried || now.Sub(m.Tried.Begun) >= Confirm
	return seen
}
