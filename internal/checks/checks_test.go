// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package checks_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	inPlace     = pcinetv1alpha1.PolicyInPlace
	missing     = pcinetv1alpha1.PolicyMissing
	drifted     = pcinetv1alpha1.PolicyDrifted
	collision   = pcinetv1alpha1.PolicyCollision
	contested   = pcinetv1alpha1.PolicyContested
	superfluous = pcinetv1alpha1.PolicySuperfluous
)

// subject returns a namespace in which all is well, with the given policies.
func subject(policies ...pcinetv1alpha1.CoveragePolicy) checks.Subject {
	return checks.Subject{
		Baseline:   "pci",
		Namespace:  snapshot.Namespace{Name: "shop"},
		Directions: []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress},
		Policies:   policies,
	}
}

func deny(name string, state pcinetv1alpha1.PolicyState, message ...string) pcinetv1alpha1.CoveragePolicy {
	return pcinetv1alpha1.CoveragePolicy{Name: name, Resource: "networkpolicies.networking.k8s.io", Role: pcinetv1alpha1.RoleDeny, State: state, Message: strings.Join(message, "")}
}

func allowance(name string, state pcinetv1alpha1.PolicyState, message ...string) pcinetv1alpha1.CoveragePolicy {
	return pcinetv1alpha1.CoveragePolicy{Name: name, Resource: "networkpolicies.networking.k8s.io", Role: pcinetv1alpha1.RoleAllowance, State: state, Message: strings.Join(message, "")}
}

// judged is one case of one check.
type judged struct {
	subject checks.Subject
	want    checks.Finding
}

func runChecks(t *testing.T, check func(checks.Subject) checks.Finding, cases map[string]judged) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, check(tc.subject)); diff != "" {
				t.Errorf("finding (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDenyInPlace(t *testing.T) {
	pass := checks.Finding{Check: "DenyInPlace", Clause: "4.1", Result: checks.Pass, Reason: "NamespaceProtected"}
	fail := func(message string) checks.Finding {
		return checks.Finding{Check: "DenyInPlace", Clause: "4.1", Result: checks.Fail, Reason: "PoliciesMissing", Message: message}
	}
	collides := func(message string) checks.Finding {
		f := fail(message)
		f.Reason = pcinetv1alpha1.ReasonNameCollision
		return f
	}
	fought := fail("NetworkPolicy shop/d is contested: eve keeps changing it.")
	fought.Reason = pcinetv1alpha1.ReasonRepeatedChanges
	runChecks(t, checks.DenyInPlace, map[string]judged{
		"a fought deny":                       {subject(deny("d", contested, "eve keeps changing it")), fought},
		"a fought deny, and a second copy":    {subject(deny("d-2", inPlace), deny("d", contested)), pass},
		"a deny that is in place":             {subject(allowance("a", missing), deny("d", inPlace)), pass},
		"no policy at all":                    {subject(), fail("Namespace shop has no default deny of baseline pci.")},
		"allowances in place are no deny":     {subject(allowance("a", inPlace)), fail("Namespace shop has no default deny of baseline pci.")},
		"a missing deny":                      {subject(deny("d", missing, "it does not exist")), fail("NetworkPolicy shop/d is missing: it does not exist.")},
		"a drifted deny":                      {subject(deny("d", drifted, "spec.ingress changed by eve")), fail("NetworkPolicy shop/d is drifted: spec.ingress changed by eve.")},
		"a taken name, and none under it":     {subject(deny("d", collision)), collides("NetworkPolicy shop/d is collision.")},
		"a taken name, and a second in place": {subject(deny("d", collision), deny("d-2", inPlace)), pass},
		"a taken name, and a second missing":  {subject(deny("d", collision), deny("d-2", missing)), collides("NetworkPolicy shop/d-2 is missing.")},
		"a superfluous deny is not the deny":  {subject(deny("old", superfluous)), fail("Namespace shop has no default deny of baseline pci.")},
	})
}

// What is missing must be named, not what is too many: its message says what to do about the wrong object.
func TestDenyInPlaceNamesWhatIsMissing(t *testing.T) {
	got := checks.DenyInPlace(subject(deny("d", missing, "it does not exist"), deny("d-2", superfluous)))
	if want := "NetworkPolicy shop/d is missing: it does not exist."; got.Message != want {
		t.Errorf("message %q, want %q", got.Message, want)
	}
}

func TestAllowancesInPlace(t *testing.T) {
	pass := checks.Finding{Check: "AllowancesInPlace", Clause: "4.1", Result: checks.Pass, Reason: "NamespaceProtected"}
	fail := func(reason, message string) checks.Finding {
		return checks.Finding{Check: "AllowancesInPlace", Clause: "4.1", Result: checks.Fail, Reason: reason, Message: message}
	}
	runChecks(t, checks.AllowancesInPlace, map[string]judged{
		"no allowances":                     {subject(deny("d", inPlace)), pass},
		"all in place":                      {subject(allowance("a", inPlace), allowance("b", inPlace)), pass},
		"a missing deny is not their fault": {subject(deny("d", missing), allowance("a", inPlace)), pass},
		"one is missing":                    {subject(allowance("a", missing, "it does not exist"), allowance("b", inPlace)), fail("PoliciesMissing", "NetworkPolicy shop/a is missing: it does not exist.")},
		"one has drifted":                   {subject(allowance("a", inPlace), allowance("b", drifted)), fail("PoliciesMissing", "NetworkPolicy shop/b is drifted.")},
		"one is too many":                   {subject(allowance("old", superfluous)), fail("PoliciesMissing", "NetworkPolicy shop/old is superfluous.")},
		"one is fought over":                {subject(allowance("a", contested), allowance("b", inPlace)), fail("RepeatedChanges", "NetworkPolicy shop/a is contested.")},
		"a taken name of an allowance":      {subject(allowance("a", missing), allowance("b", collision, "theirs")), fail("NameCollision", "NetworkPolicy shop/b is collision: theirs.")},
		"a taken name of the deny":          {subject(deny("d", collision), deny("d-2", inPlace)), fail("NameCollision", "NetworkPolicy shop/d is collision.")},
	})
}

func TestAllowancesResolved(t *testing.T) {
	omitted := subject()
	omitted.Omitted = []policy.Omission{
		{Name: "allow-dns", Reason: "DNSNotFound", Message: "No DNS."},
		{Name: "allow-db", Reason: "InvalidSpec", Message: "Bad rule."},
	}
	runChecks(t, checks.AllowancesResolved, map[string]judged{
		"all resolved": {subject(), checks.Finding{Check: "AllowancesResolved", Clause: "4.1", Result: checks.Pass, Reason: "NamespaceProtected"}},
		"some omitted": {omitted, checks.Finding{Check: "AllowancesResolved", Clause: "4.1", Result: checks.Fail, Reason: "DNSNotFound", Message: "No DNS."}},
	})
}

func TestBothDirectionsDenied(t *testing.T) {
	ingressAlone, none := subject(), subject()
	ingressAlone.Directions = ingressAlone.Directions[:1]
	none.Directions = nil
	fail := func(message string) checks.Finding {
		return checks.Finding{Check: "BothDirectionsDenied", Clause: "4.1", Result: checks.Fail, Reason: "DirectionNotDenied", Message: message}
	}
	runChecks(t, checks.BothDirectionsDenied, map[string]judged{
		"both":          {subject(), checks.Finding{Check: "BothDirectionsDenied", Clause: "4.1", Result: checks.Pass, Reason: "NothingWidens"}},
		"ingress alone": {ingressAlone, fail("Baseline pci denies [Ingress] alone. Set spec.directions to [Ingress, Egress].")},
		"none":          {none, fail("Baseline pci denies [] alone. Set spec.directions to [Ingress, Egress].")},
	})
}

func TestNothingWidens(t *testing.T) {
	wide, narrow := subject(), subject()
	wide.Foreign = []*networkingv1.NetworkPolicy{
		{ObjectMeta: metav1.ObjectMeta{Name: "narrow"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "open"}, Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}}},
	}
	narrow.Foreign = wide.Foreign[:1]
	pass := checks.Finding{Check: "NothingWidens", Clause: "4.1", Result: checks.Pass, Reason: "NothingWidens"}
	runChecks(t, checks.NothingWidens, map[string]judged{
		"no other policies":     {subject(), pass},
		"narrow other policies": {narrow, pass},
		"an open one is named with the command to narrow it": {wide, checks.Finding{
			Check: "NothingWidens", Clause: "4.1", Result: checks.Fail, Reason: "PolicyWidens",
			Message: "NetworkPolicy shop/open allows ingress from everybody, which undoes the deny. Narrow it: kubectl edit networkpolicy -n shop open.",
		}},
	})
}

func TestPodsCoverable(t *testing.T) {
	host := subject()
	host.Namespace.HostNetworkPods = []string{"proxy-1", "proxy-2"}
	runChecks(t, checks.PodsCoverable, map[string]judged{
		"no host-network pods": {subject(), checks.Finding{Check: "PodsCoverable", Clause: "4.1", Result: checks.Pass, Reason: "NothingWidens"}},
		"host-network pods are a warning": {host, checks.Finding{
			Check: "PodsCoverable", Clause: "4.1", Result: checks.Warn, Reason: "NothingWidens",
			Message: "2 host-network pods in shop are outside every NetworkPolicy, such as proxy-1.",
		}},
	})
}

// The controllers look findings up by name: all of them run, in this order, even when the first fails.
func TestRunRunsEveryCheck(t *testing.T) {
	var got []string
	for _, f := range checks.Run(subject()) {
		got = append(got, f.Check+" "+string(f.Result))
	}
	want := []string{
		"DenyInPlace fail", "AllowancesInPlace pass", "AllowancesResolved pass", "BothDirectionsDenied pass",
		"NothingWidens pass", "PodsCoverable pass",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestFailed(t *testing.T) {
	for result, want := range map[checks.Result]checks.Finding{
		checks.Fail: {Check: "c", Result: checks.Fail},
		checks.Warn: {},
		checks.Pass: {},
	} {
		if got := (checks.Finding{Check: "c", Result: result}).Failed(); got != want {
			t.Errorf("Failed of %s is %v, want %v", result, got, want)
		}
	}
}
