// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Assessment is what was made of the evidence.
type Assessment struct {
	// Observed says that everything that matters was read or could not be read; before, nothing is known.
	Observed bool
	// APIsKnown says that what tells which policy APIs are served could be read.
	APIsKnown bool
	// Engine enforces policies; its name is empty when none was recognised. Base connects pods.
	Engine, Base snapshot.Component
	// Agents are those of the engine and of the base, and of all rivals, where they have one of their own.
	Agents        []Agent
	Provider      Provider
	Encapsulation snapshot.Encapsulation
	// NodeEncryption is whether traffic between nodes is encrypted.
	NodeEncryption snapshot.NodeEncryption
	Coverage       snapshot.Coverage
	APIs           snapshot.PolicyAPIs
	// Certain says that the engine was recognised by strong signals, alone, and from readings without a gap. Whether
	// its settings let it enforce is another question.
	Certain bool
	// Native is the engine's own policy API, if the operator can write it.
	Native Backend
	// Findings are sorted: what disables first.
	Findings []Finding
	// Hosts is what the engine does with policies for nodes.
	Hosts snapshot.HostProtection
}

// Agent is what runs on nodes for an engine or a base, and in which namespace.
type Agent struct{ Name, Namespace string }

// Steady returns the assessment without what changes node by node while an agent is rolled out.
func (a Assessment) Steady() Assessment {
	a.Coverage, a.NodeEncryption, a.Hosts = snapshot.Coverage{}, snapshot.NodeEncryption{}, snapshot.HostProtection{}
	a.Findings = slices.Clone(a.Findings)
	for i := range a.Findings {
		if a.Findings[i].counts() {
			a.Findings[i].Message = ""
		}
	}
	return a
}

// counts says whether a message is about numbers of nodes.
func (f *Finding) counts() bool {
	return f.Reason == pcinetv1alpha1.ReasonPolicyAgentNotReady || f.Reason == "" && f.Effect == Weakens && strings.Contains(f.Message, " nodes are ")
}

// choice is the engine among what was found.
type choice struct {
	engine *Found   // nil: nobody enforces, or it is not known who
	base   *Found   // the plugin below it, if another row told it
	rivals []*Found // engines that are all switched on, if there is more than one
}

// choose tells the engine from what connects pods. Of several engines those that are switched off do not count: the VPC CNI
// carries its agent along when Calico enforces, and k3s its controller.
func choose(all []*Found) choice {
	var c choice
	var policy, on []*Found
	for _, f := range all {
		if f.Policy == "" {
			if c.base == nil || c.base.Unjudged {
				c.base = f
			}
			continue
		}
		if slices.ContainsFunc(policy, func(other *Found) bool { return other.Policy == f.Policy }) {
			continue
		}
		policy = append(policy, f)
		if !f.switchedOff() {
			on = append(on, f)
		}
	}
	switch {
	case len(policy) == 1:
		c.engine = policy[0]
	case len(on) == 1:
		c.engine = on[0]
	case len(on) > 1:
		c.rivals = on
	case len(policy) > 1:
		c.engine = policy[0]
	}
	for _, f := range policy {
		if c.base == nil && c.engine != nil && f != c.engine {
			c.base = f
		}
	}
	return c
}

// agents are those of what was chosen, each namespace once.
func (c *choice) agents() []Agent {
	var out []Agent
	for _, f := range append([]*Found{c.engine, c.base}, c.rivals...) {
		if f == nil || f.DaemonSet == nil {
			continue
		}
		a := Agent{cmp.Or(f.Policy, f.Base), f.DaemonSet.Namespace}
		if !slices.ContainsFunc(out, func(known Agent) bool { return known.Namespace == a.Namespace }) {
			out = append(out, a)
		}
	}
	return out
}

func (f *Found) switchedOff() bool {
	return slices.ContainsFunc(f.findings(), func(x Finding) bool { return x.Effect == Disables && x.Backend == "" })
}

// findings judges every setting, once.
func (f *Found) findings() []Finding {
	if f.judged != nil {
		return *f.judged
	}
	var out []Finding
	for i := range f.Settings {
		s := &f.Settings[i]
		for _, x := range s.Check(f) {
			out = append(out, Finding{
				Effect: cmp.Or(x.Effect, s.Effect), Backend: cmp.Or(x.Backend, s.Backend), Reason: cmp.Or(x.Reason, s.Reason), Message: x.Message,
			})
		}
	}
	f.judged = &out
	return out
}

// Assess tells and judges the engine.
func Assess(e *snapshot.Evidence) Assessment {
	v := newView(e)
	a := Assessment{Observed: true, Provider: v.provider, Encapsulation: snapshot.UnknownEncapsulation, APIs: apis(v)}
	for s, r := range e.Readings {
		if r.Pending && s != ciliumNodes {
			return Assessment{Provider: v.provider, Encapsulation: snapshot.UnknownEncapsulation}
		}
	}
	_, a.Coverage = v.covered()
	unreadable := v.unreadable()
	a.Findings = append(a.Findings, unreadable...)
	c := choose(find(v))
	a.Agents = c.agents()
	a.NodeEncryption = c.encryption()
	switch {
	case c.engine != nil:
		a.judge(c.engine, c.base)
	case len(c.rivals) > 0:
		a.rivals(c)
	default:
		a.nobody(v, c.base)
	}
	a.Certain = a.Certain && len(unreadable) == 0
	a.APIsKnown = true
	for s, r := range e.Readings {
		if r.Problem != "" && (s.Kind == snapshot.KindCustomResourceDefinition || s.Kind == snapshot.KindAPIService) {
			a.APIsKnown = false
		}
	}
	a.Findings = append(a.Findings, v.surroundings(&a)...)
	slices.SortStableFunc(a.Findings, func(x, y Finding) int { return int(y.Effect - x.Effect) })
	a.protectHosts(c.engine)
	return a
}

// unreadable reports what could not be read: of that nothing is known, whatever the rest says.
func (v *view) unreadable() []Finding {
	var out []Finding
	for s, r := range v.Readings {
		if r.Problem != "" && s != ciliumNodes { // which say nothing of policies
			out = append(out, Finding{Effect: Unsure, Reason: pcinetv1alpha1.ReasonPlatformUnreadable, Message: fmt.Sprintf(
				"%s cannot be read: %s.", s, r.Problem)})
		}
	}
	slices.SortFunc(out, func(a, b Finding) int { return cmp.Compare(a.Message, b.Message) })
	return out
}

func component(name string, f *Found) snapshot.Component {
	return snapshot.Component{Name: name, Version: f.Version(), Signals: f.Signals}
}

// weak says whether there is no strong signal.
func (f *Found) weak() bool {
	return f.Weak || !slices.ContainsFunc(f.Signals, func(s snapshot.Signal) bool { return !s.Weak })
}

func (a *Assessment) judge(f, base *Found) {
	a.Engine = component(f.Policy, f)
	a.setBase(f, base)
	if f.Encapsulation != nil {
		a.Encapsulation = f.Encapsulation(f)
	} else if base != nil && base.Encapsulation != nil {
		a.Encapsulation = base.Encapsulation(base)
	}
	a.Native = f.Native
	a.Coverage = f.coverage()
	a.Certain = !f.weak()
	if f.weak() {
		a.Findings = append(a.Findings, Finding{Effect: Unsure, Reason: pcinetv1alpha1.ReasonPolicyEngineUncertain, Message: fmt.Sprintf(
			"Only weak signals say that the policy engine is %s: %s. Test with a pod that must not reach another.", f.Policy, describeSignals(f.Signals))})
	}
	a.Findings = append(a.Findings, f.findings()...)
	if f.DaemonSet != nil && a.Coverage.Ready < a.Coverage.Total {
		where := ""
		if len(a.Coverage.Missing) > 0 {
			where = ", not on " + some(a.Coverage.Missing)
		}
		a.Findings = append(a.Findings, Finding{Effect: Disables, Reason: pcinetv1alpha1.ReasonPolicyAgentNotReady, Message: fmt.Sprintf(
			"%s is Ready on %d of %d nodes%s, where policies are stale or not enforced: kubectl get pods -n %s -o wide.",
			f.DaemonSet, a.Coverage.Ready, a.Coverage.Total, where, f.DaemonSet.Namespace)})
	}
	if a.Coverage.Total == 0 {
		a.Findings = append(a.Findings, Finding{Effect: Unsure, Reason: pcinetv1alpha1.ReasonNoNodes, Message: fmt.Sprintf(
			"There is no Ready node on which %s could enforce anything: kubectl get nodes.", f.Policy)})
	}
}

func (a *Assessment) setBase(f, base *Found) {
	name := ""
	if f.BaseOf != nil {
		name = f.BaseOf(f)
	}
	if name = cmp.Or(name, f.Base); name != "" {
		a.Base = component(name, f)
		if base != nil && base.Base == name {
			a.Base = component(name, base)
		} else if name != f.Policy {
			a.Base.Version = ""
		}
		return
	}
	if base != nil {
		a.Base = component(cmp.Or(base.Base, base.Policy), base)
	}
}

// rivals reports several engines.
func (a *Assessment) rivals(c choice) {
	var names []string
	for _, f := range c.rivals {
		names = append(names, f.Policy)
		a.Engine.Signals = append(a.Engine.Signals, f.Signals...)
		a.Findings = append(a.Findings, f.findings()...)
	}
	if c.base != nil {
		a.Base = component(c.base.Base, c.base)
	}
	a.Findings = append(a.Findings, Finding{Effect: Unsure, Reason: pcinetv1alpha1.ReasonSeveralPolicyEngines, Message: fmt.Sprintf(
		"%s are all there and switched on, so which one enforces on which node is not known. Switch off all but one: kubectl get daemonsets -A.", strings.Join(names, " and "))})
}

// nobody reports that no engine was recognised: nobody enforces, or it is not known who.
func (a *Assessment) nobody(v *view, base *Found) {
	if base != nil {
		a.Base = component(base.Base, base)
		if base.Encapsulation != nil {
			a.Encapsulation = base.Encapsulation(base)
		}
	}
	weak := ""
	if base != nil && base.weak() {
		weak = " (weak signals: " + describeSignals(base.Signals) + ")"
	}
	switch {
	case base != nil && !base.Unjudged:
		// Engines come and go with upgrades: while their API is still served, nobody can be certain.
		a.Certain = !base.weak() && !a.APIs.CalicoServed && !a.APIs.CiliumServed
		a.Findings = append(a.Findings, Finding{Effect: Disables, Reason: pcinetv1alpha1.ReasonNoPolicyEngine, Message: fmt.Sprintf(
			"%s enforces no policies, and nothing else does%s: whatever is written, nothing is denied. %s", base.Installed, weak, base.Remedy)})
	case base != nil:
		a.Findings = append(a.Findings, Finding{Effect: Unsure, Reason: pcinetv1alpha1.ReasonPolicyEngineUnknown, Message: fmt.Sprintf(
			"The network plugin is %s%s, of which this version does not know whether it enforces policies. Test with a pod that must not reach another.", base.Base, weak)})
	case len(v.Nodes) == 0:
		a.Findings = append(a.Findings, Finding{
			Effect: Unsure, Reason: pcinetv1alpha1.ReasonNoNodes,
			Message: "The cluster has no nodes and no known network plugin, so nothing shows who would enforce policies: kubectl get nodes.",
		})
	default:
		a.Findings = append(a.Findings, Finding{Effect: Unsure, Reason: pcinetv1alpha1.ReasonPolicyEngineUnknown, Message: "No known network plugin was found" + v.networkReasons() +
			", so it is not known whether policies are enforced: kubectl get daemonsets -A. Test with a pod that must not reach another."})
	}
}

// networkReasons quotes what plugins say on nodes.
func (v *view) networkReasons() string {
	reasons := map[string]bool{}
	for i := range v.Nodes {
		if r := v.Nodes[i].NetworkReason; r != "" {
			reasons[r] = true
		}
	}
	if len(reasons) == 0 {
		return ""
	}
	return " (nodes say " + some(slices.Sorted(maps.Keys(reasons))) + ", a weak signal)"
}

// surroundings reports what no policy engine covers.
func (v *view) surroundings(a *Assessment) []Finding {
	var out []Finding
	warn := func(format string, args ...any) {
		out = append(out, Finding{Effect: Weakens, Message: fmt.Sprintf(format, args...)})
	}
	for _, why := range slices.Sorted(maps.Keys(a.Coverage.Excluded)) {
		warn("%d nodes are %s: their pods are outside the policy engine.", a.Coverage.Excluded[why], why)
	}
	if a.Coverage.Down > 0 {
		warn("%d nodes are not Ready: what their agents do is not known.", a.Coverage.Down)
	}
	for i := range v.DaemonSets {
		if d := &v.DaemonSets[i]; d.Name == "kube-multus-ds" || d.Container("kube-multus") != nil || runs(d, "multus-cni") || runs(d, "hardened-multus-cni") {
			warn("%s gives pods further interfaces, which policies do not cover.", d)
		}
	}
	return out
}

func describeSignals(signals []snapshot.Signal) string {
	var out []string
	for _, s := range signals {
		out = append(out, s.Object+": "+s.Says)
	}
	return strings.Join(out, "; ")
}

// some names the first of a sorted list.
func some(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// Verdict says whether the engine enforces what is written to a backend.
type Verdict struct {
	Status          metav1.ConditionStatus
	Reason, Message string
	// Stalled says that only a human can change it.
	Stalled bool
}

// Verdict judges for what is written to a backend. What disables counts before what is not known, and that before what is
// fine.
func (a *Assessment) Verdict(backend Backend) Verdict {
	if !a.Observed {
		return Verdict{Status: metav1.ConditionUnknown, Reason: pcinetv1alpha1.ReasonNotObserved, Message: "The platform has not been looked at completely yet."}
	}
	for _, f := range a.Findings {
		if f.Backend != "" && f.Backend != backend {
			continue
		}
		switch f.Effect {
		case Disables:
			passing := f.Reason == pcinetv1alpha1.ReasonPolicyAgentNotReady || f.Reason == pcinetv1alpha1.ReasonCalicoMigrating
			return Verdict{Status: metav1.ConditionFalse, Reason: f.Reason, Message: f.Message, Stalled: !passing}
		case Unsure:
			return Verdict{Status: metav1.ConditionUnknown, Reason: f.Reason, Message: f.Message}
		case Weakens:
		}
	}
	return Verdict{
		Status: metav1.ConditionTrue, Reason: pcinetv1alpha1.ReasonPolicyEngineEnforces,
		Message: fmt.Sprintf("%s enforces policies; its agent is Ready on %d of %d nodes.", strings.TrimSpace(a.Engine.Name+" "+a.Engine.Version), a.Coverage.Ready, a.Coverage.Total),
	}
}

// Warnings are what weakens enforcement without ending it.
func (a *Assessment) Warnings(backend Backend) []string {
	var out []string
	for _, f := range a.Findings {
		if f.Effect == Weakens && (f.Backend == "" || f.Backend == backend) {
			out = append(out, f.Message)
		}
	}
	return out
}
