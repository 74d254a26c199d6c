// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/render/admission"
)

type spec = pcinetv1alpha1.PCINetworkBaselineSpec

// workload drives the operator from one quiet state to another.
type workload struct {
	// clock is the operator's; nil for the real one.
	clock func() clock.PassiveClock
	// setUp leads to the first state, change to the second.
	setUp, change func(p *play)
	// moves is what happens to the world while the operator does not see it; nil where a stale view is not tried.
	moves func(p *play)
}

// group is the baseline of these workloads, and the group of its namespaces.
const group = "pci"

// other is the group of namespaces that no baseline is for.
const other = "other"

// baseline creates a baseline for the group of its own; it writes core policies and refuses nothing unless change says otherwise.
func (p *play) baseline(change ...func(*spec)) {
	p.t.Helper()
	p.create(newBaseline(group, change...))
}

func newBaseline(name string, change ...func(*spec)) *pcinetv1alpha1.PCINetworkBaseline {
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.Spec.Backend = pcinetv1alpha1.BackendNetworkPolicy
	b.Spec.Admission = pcinetv1alpha1.Admission{PodGate: pcinetv1alpha1.AdmissionOff, TamperGuard: pcinetv1alpha1.AdmissionOff}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{groupLabel: group}}
	for _, f := range change {
		f(&b.Spec)
	}
	return b
}

// edit changes the baseline.
func (p *play) edit(change func(*spec)) {
	p.t.Helper()
	b := newBaseline(group)
	p.modify(b, func() { change(&b.Spec) })
}

func removal(s *spec)   { s.DeletionPolicy = pcinetv1alpha1.DeletionPolicyDelete }
func automatic(s *spec) { s.Backend = pcinetv1alpha1.BackendAuto }
func refusing(s *spec) {
	s.Admission = pcinetv1alpha1.Admission{PodGate: pcinetv1alpha1.AdmissionEnforce, TamperGuard: pcinetv1alpha1.AdmissionEnforce}
}
func ungated(s *spec)   { s.Admission.PodGate = pcinetv1alpha1.AdmissionOff }
func coreAgain(s *spec) { s.Backend = pcinetv1alpha1.BackendNetworkPolicy }
func oneRule(s *spec)   { s.Allow.Rules = []pcinetv1alpha1.AllowRule{rule("gateway", "203.0.113.0/24")} }

func otherRules(s *spec) { // and one direction less
	s.Directions = []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress}
	s.Allow.Rules = []pcinetv1alpha1.AllowRule{rule("acquirer", "198.51.100.0/24")}
}

func exempted(s *spec) {
	s.Exemptions = []pcinetv1alpha1.Exemption{{
		Namespaces: []pcinetv1alpha1.NamespaceName{prefix + "a"}, Reason: "The nightly batch uses dynamic ports",
		ApprovedBy: "ciso@example.com", ExpiresAt: metav1.NewTime(expiry),
	}}
}

func rule(name, cidr string) pcinetv1alpha1.AllowRule {
	return pcinetv1alpha1.AllowRule{
		Name: pcinetv1alpha1.AllowanceName(name), Justification: "Card network gateway, contract 4711", Direction: pcinetv1alpha1.DirectionIngress,
		Peers: []pcinetv1alpha1.Peer{{CIDR: pcinetv1alpha1.CIDR(cidr)}},
		Ports: []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 443}},
	}
}

// expiry is when the exemption ends. The clock stands half a second before it; it is looked at that often.
var expiry = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func beforeExpiry() clock.PassiveClock {
	return clocktesting.NewFakePassiveClock(expiry.Add(-500 * time.Millisecond))
}

// ahead is a clock that shortens the 5 s for which objects of another API stay.
type ahead struct{ clock.RealClock }

func (ahead) Now() time.Time                    { return time.Now().Add(4 * time.Second) }
func (a ahead) Since(t time.Time) time.Duration { return a.Now().Sub(t) }
func aheadOfTime() clock.PassiveClock           { return ahead{} }
func denyOf(namespace, baseline string) *networkingv1.NetworkPolicy {
	return policyOf(namespace, "pcinb-"+baseline+"-default-deny")
}

func policyOf(namespace, name string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: prefix + namespace, Name: name}}
}

func bindingOf(name string) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// twoNamespaces sets up two namespaces of the baseline and one of nobody.
func twoNamespaces(change ...func(*spec)) func(*play) {
	return func(p *play) {
		p.t.Helper()
		p.namespace("a", group)
		p.namespace("b", group)
		p.namespace("c", other)
		p.baseline(change...)
	}
}

var workloads = map[string]workload{
	"first convergence": {
		setUp:  func(*play) {},
		change: twoNamespaces(oneRule, removal, refusing), // so that there is a finalizer to be written
		moves: func(p *play) {
			p.recreate("a")
			p.label("b", other)
			p.label("c", group)
			p.edit(otherRules)
		},
	},
	"what refuses is repaired, and removed": {
		setUp: twoNamespaces(refusing),
		change: func(p *play) {
			for _, name := range []string{admission.OwnLimits, admission.PodGate, admission.TamperGuard} {
				p.remove(&admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}})
			}
			p.remove(bindingOf(admission.OwnLimits))
			weakened := bindingOf(admission.BindingName(group, admission.TamperGuard))
			p.modify(weakened, func() {
				weakened.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit}
			})
			p.edit(ungated)
		},
		moves: func(p *play) {
			p.edit(refusing)
			p.recreate("a")
		},
	},
	"namespaces join and leave": {
		setUp: twoNamespaces(),
		change: func(p *play) {
			p.label("a", other)
			p.label("c", group)
		},
		moves: func(p *play) {
			p.label("a", group)
			p.recreate("b")
			p.label("c", other)
			p.edit(oneRule)
		},
	},
	"rules and directions change": {
		setUp:  twoNamespaces(oneRule),
		change: func(p *play) { p.edit(otherRules) },
		moves: func(p *play) {
			p.recreate("a")
			p.edit(func(s *spec) { s.Directions, s.Allow.Rules = nil, nil })
		},
	},
	"core to Cilium": {
		clock: aheadOfTime,
		setUp: twoNamespaces(), change: func(p *play) { p.edit(automatic) },
		moves: func(p *play) {
			p.recreate("a")
			p.edit(coreAgain)
		},
	},
	"Cilium to core": {
		clock: aheadOfTime,
		setUp: twoNamespaces(automatic), change: func(p *play) { p.edit(coreAgain) },
	},
	"an exemption begins": {
		clock: beforeExpiry,
		setUp: twoNamespaces(), change: func(p *play) { p.edit(exempted) },
		moves: func(p *play) {
			p.recreate("b")
			p.edit(func(s *spec) { s.Exemptions = nil })
		},
	},
	"an exemption ends": {
		clock: beforeExpiry,
		setUp: twoNamespaces(exempted),
		change: func(p *play) {
			if c, ok := p.clock.(*clocktesting.FakePassiveClock); ok {
				c.SetTime(expiry.Add(time.Second))
			}
		},
	},
	"repairs": {
		setUp: func(p *play) {
			twoNamespaces(oneRule)(p)
			p.label("c", group)
		},
		change: func(p *play) {
			p.remove(denyOf("a", group))
			edited := denyOf("b", group)
			p.modify(edited, func() { edited.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}} })
			stripped := denyOf("c", group)
			p.modify(stripped, func() { stripped.Labels = nil })
			widened := policyOf("c", "pcinb-pci-allow-gateway")
			p.modify(widened, func() { widened.Spec.Ingress = nil })
		},
		moves: func(p *play) {
			p.recreate("a")
			p.label("b", other)
		},
	},
	"deleted, retaining": {
		setUp:  twoNamespaces(),
		change: func(p *play) { p.remove(newBaseline(group)) },
	},
	"deleted, removing": {
		setUp:  twoNamespaces(removal),
		change: func(p *play) { p.remove(newBaseline(group)) },
	},
	"renamed, retaining": {
		setUp: twoNamespaces(),
		change: func(p *play) {
			p.remove(newBaseline(group))
			p.create(newBaseline("next"))
		},
	},
	"handed over, then removed": {
		setUp: twoNamespaces(removal),
		change: func(p *play) {
			p.create(newBaseline("next"))
			for _, namespace := range []string{"a", "b"} {
				p.await("the next baseline denies", func() error {
					deny := denyOf(namespace, "next")
					return p.world.client.Get(p.t.Context(), client.ObjectKeyFromObject(deny), deny)
				})
			}
			p.remove(newBaseline(group))
		},
	},
	"a taken name is freed": {
		setUp: func(p *play) {
			p.namespace("a", other)
			foreign := denyOf("a", group)
			foreign.Spec.PodSelector.MatchLabels = map[string]string{"app": "theirs"}
			p.create(foreign)
			p.baseline()
			p.label("a", group)
		},
		change: func(p *play) { p.remove(denyOf("a", group)) },
	},
}
