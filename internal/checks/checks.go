// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package checks judges what was observed in one namespace, one requirement clause a function. All of them run: an
// assessor wants the whole list.
package checks

import (
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Result is the outcome of a check.
type Result string

// The results. Warn is for what an assessor should see but does not break the requirement; Error for what could not be seen; Skip for
// what the requirement does not apply to.
const (
	Pass  Result = "pass"
	Warn  Result = "warn"
	Fail  Result = "fail"
	Error Result = "error"
	Skip  Result = "skip"
)

// Finding is one requirement clause judged in one namespace.
type Finding struct {
	// Check is the name of the check, Clause the clause of the container guidance that it serves.
	Check, Clause string
	Result        Result
	// Reason is a reason of the API; Message names the object, the cause and what to do.
	Reason, Message string
}

// Failed returns the finding if it failed, and a zero finding otherwise.
func (f Finding) Failed() Finding {
	if f.Result != Fail {
		return Finding{}
	}
	return f
}

// Subject is what is judged: one namespace in scope of one baseline.
type Subject struct {
	Baseline  string
	Namespace snapshot.Namespace
	// Directions are those that the baseline denies.
	Directions []pcinetv1alpha1.Direction
	// Policies are the baseline's, as compared with what lives.
	Policies []pcinetv1alpha1.CoveragePolicy
	Omitted  []policy.Omission
	// Foreign are the live NetworkPolicies that are nobody's baseline's.
	Foreign []*networkingv1.NetworkPolicy
}

// All are the checks of one namespace, in the order of reporting.
var All = []func(Subject) Finding{
	DenyInPlace,
	AllowancesInPlace,
	AllowancesResolved,
	BothDirectionsDenied,
	NothingWidens,
	PodsCoverable,
}

// Run runs every check.
func Run(s Subject) []Finding {
	out := make([]Finding, 0, len(All))
	for _, check := range All {
		out = append(out, check(s))
	}
	return out
}

// DenyInPlace (4.1): the deny exists and is what it should be. A deny that had to take a second name still denies.
func DenyInPlace(s Subject) Finding {
	f := Finding{Check: "DenyInPlace", Clause: "4.1", Result: Fail, Reason: pcinetv1alpha1.ReasonPoliciesMissing}
	f.Message = fmt.Sprintf("Namespace %s has no default deny of baseline %s.", s.Namespace.Name, s.Baseline)
	for _, p := range s.Policies {
		if p.Role != pcinetv1alpha1.RoleDeny || p.State == pcinetv1alpha1.PolicySuperfluous {
			continue
		}
		if p.State == pcinetv1alpha1.PolicyInPlace {
			return Finding{Check: f.Check, Clause: f.Clause, Result: Pass, Reason: pcinetv1alpha1.ReasonNamespaceProtected}
		}
		switch p.State {
		case pcinetv1alpha1.PolicyCollision:
			f.Reason = pcinetv1alpha1.ReasonNameCollision // both names are taken
		case pcinetv1alpha1.PolicyRefused:
			f.Reason = pcinetv1alpha1.ReasonPolicyRefused
		case pcinetv1alpha1.PolicyContested:
			f.Reason = pcinetv1alpha1.ReasonRepeatedChanges
		default:
		}
		f.Message = describe(s, p)
	}
	return f
}

// AllowancesInPlace (4.1): every allowance exists and is what it should be; a hole that is wider than declared is a
// breach, one that is missing an outage.
func AllowancesInPlace(s Subject) Finding {
	f := Finding{Check: "AllowancesInPlace", Clause: "4.1", Result: Pass, Reason: pcinetv1alpha1.ReasonNamespaceProtected}
	for _, p := range s.Policies {
		switch {
		case p.State == pcinetv1alpha1.PolicyCollision:
			return Finding{Check: f.Check, Clause: f.Clause, Result: Fail, Reason: pcinetv1alpha1.ReasonNameCollision, Message: describe(s, p)}
		case p.State == pcinetv1alpha1.PolicyRefused:
			return Finding{Check: f.Check, Clause: f.Clause, Result: Fail, Reason: pcinetv1alpha1.ReasonPolicyRefused, Message: describe(s, p)}
		case p.Role == pcinetv1alpha1.RoleAllowance && p.State != pcinetv1alpha1.PolicyInPlace:
			f.Result, f.Reason, f.Message = Fail, pcinetv1alpha1.ReasonPoliciesMissing, describe(s, p)
			if p.State == pcinetv1alpha1.PolicyContested {
				f.Reason = pcinetv1alpha1.ReasonRepeatedChanges
			}
		}
	}
	return f
}

func describe(s Subject, p pcinetv1alpha1.CoveragePolicy) string {
	text := fmt.Sprintf("%s %s/%s is %s", Title(p.Resource), s.Namespace.Name, p.Name, strings.ToLower(string(p.State)))
	if p.Message != "" {
		text += ": " + p.Message
	}
	return text + "."
}

// Title is a kind of policy in a message: its resource, which kubectl takes, or the kind where everybody knows it.
func Title(resource string) string {
	if resource == "networkpolicies.networking.k8s.io" {
		return "NetworkPolicy"
	}
	return resource
}

// AllowancesResolved (4.1): every allowance resolved to something that could be written.
func AllowancesResolved(s Subject) Finding {
	f := Finding{Check: "AllowancesResolved", Clause: "4.1", Result: Pass, Reason: pcinetv1alpha1.ReasonNamespaceProtected}
	if len(s.Omitted) > 0 {
		f.Result, f.Reason, f.Message = Fail, s.Omitted[0].Reason, s.Omitted[0].Message
	}
	return f
}

// BothDirectionsDenied (4.1): the guidance asks for ingress and egress.
func BothDirectionsDenied(s Subject) Finding {
	f := Finding{Check: "BothDirectionsDenied", Clause: "4.1", Result: Pass, Reason: pcinetv1alpha1.ReasonNothingWidens}
	if len(s.Directions) < 2 {
		f.Result, f.Reason = Fail, pcinetv1alpha1.ReasonDirectionNotDenied
		f.Message = fmt.Sprintf("Baseline %s denies %v alone. Set spec.directions to [Ingress, Egress].", s.Baseline, s.Directions)
	}
	return f
}

// NothingWidens (4.1): no other NetworkPolicy undoes the deny. Policies add up, so one that allows everything to some
// pods voids the deny for them.
func NothingWidens(s Subject) Finding {
	f := Finding{Check: "NothingWidens", Clause: "4.1", Result: Pass, Reason: pcinetv1alpha1.ReasonNothingWidens}
	if widening := Widening(s.Foreign); len(widening) > 0 {
		w := widening[0]
		f.Result, f.Reason = Fail, pcinetv1alpha1.ReasonPolicyWidens
		f.Message = fmt.Sprintf("NetworkPolicy %s/%s %s, which undoes the deny. Narrow it: kubectl edit networkpolicy -n %s %s.",
			s.Namespace.Name, w.Name, w.Message, s.Namespace.Name, w.Name)
	}
	return f
}

// PodsCoverable (4.1): pods on their node's network are outside every NetworkPolicy (networking.k8s.io/v1: behaviour
// undefined; engines ignore them), so they are listed.
func PodsCoverable(s Subject) Finding {
	f := Finding{Check: "PodsCoverable", Clause: "4.1", Result: Pass, Reason: pcinetv1alpha1.ReasonNothingWidens}
	if n := len(s.Namespace.HostNetworkPods); n > 0 {
		f.Result = Warn
		f.Message = fmt.Sprintf("%d host-network pods in %s are outside every NetworkPolicy, such as %s.", n, s.Namespace.Name, s.Namespace.HostNetworkPods[0])
	}
	return f
}
