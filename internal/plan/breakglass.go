// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"fmt"
	"strings"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// BreakGlassLimit is how far ahead the end of a break-glass may lie.
const BreakGlassLimit = time.Hour

// BreakGlass is what the annotation of a baseline says at one moment.
type BreakGlass struct {
	// InForce: everybody may change the policies of the baseline, until Until.
	InForce bool
	Until   time.Time
	Reason  string
	// Ignored says why an annotation that is there is not in force; "" when there is none.
	Ignored string
	// ChangesAt is the next moment at which time alone changes the answer; zero for never.
	ChangesAt time.Time
}

// ParseBreakGlass reads the annotation. It needs no memory, so no restart makes it longer: it is in force in the hour before the
// time that it names. Whatever cannot be read is not in force.
func ParseBreakGlass(b *pcinetv1alpha1.PCINetworkBaseline, now time.Time) BreakGlass {
	text, set := b.Annotations[pcinetv1alpha1.AnnotationBreakGlass]
	if !set {
		return BreakGlass{}
	}
	deadline, reason, _ := strings.Cut(strings.TrimSpace(text), " ")
	until, err := time.Parse(time.RFC3339, deadline)
	out := BreakGlass{Until: until, Reason: strings.TrimSpace(reason)}
	switch {
	case err != nil || out.Reason == "":
		return BreakGlass{Ignored: "It must be a time and a reason, such as \"2027-01-31T12:00:00Z CHG-2041 restore the ledger\"."}
	case !now.Before(until):
		out.Ignored = fmt.Sprintf("It ended at %s. Remove it.", deadline)
	case until.After(now.Add(BreakGlassLimit)):
		out.ChangesAt = until.Add(-BreakGlassLimit)
		out.Ignored = fmt.Sprintf("%s is more than an hour ahead: it would begin at %s.", deadline, out.ChangesAt.UTC().Format(time.RFC3339))
	default:
		out.InForce, out.ChangesAt = true, until
	}
	return out
}
