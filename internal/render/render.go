// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package render turns intent into policy objects. The packages below it know one policy API each; this one knows the
// names and labels that they share.
package render

import (
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Labels and annotations of everything the operator writes.
const (
	// LabelManagedBy and ManagedBy mark an object as the operator's.
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "pci-network-baseline"
	// LabelBaseline names the baseline that wants the object.
	LabelBaseline = "pcinetwork.dev/baseline"
	// AnnotationJustification carries the business reason of an allowance.
	AnnotationJustification = "pcinetwork.dev/justification"
)

// gitops keeps Argo CD from pruning or flagging objects that it finds beside those it manages.
// https://argo-cd.readthedocs.io/en/stable/user-guide/compare-options/
var gitops = map[string]string{
	"argocd.argoproj.io/compare-options": "IgnoreExtraneous",
	"argocd.argoproj.io/sync-options":    "Prune=false,Delete=false",
}

// Object is any API object.
type Object = policy.Object

// Backend renders one policy API.
type Backend interface {
	// Name is the backend's name in the API, such as NetworkPolicy.
	Name() string
	// Render returns the object that says p, with the given metadata.
	Render(meta metav1.ObjectMeta, p policy.Policy) Object
	// New returns an empty object of the kind that Render returns, and an empty list of them, to read into.
	New() (Object, runtime.Object)
	// Denies says whether a live object of the kind lets nothing through. No list of rules has the same meaning in all
	// APIs: [{}] allows everything in one and nothing in another.
	Denies(live runtime.Object) bool
}

// GuardLayer renders one cluster-wide policy API.
type GuardLayer interface {
	// Name is the kind of the object, such as GlobalNetworkPolicy.
	Name() string
	// Render returns the object that says g, with the given metadata.
	Render(meta metav1.ObjectMeta, g policy.Guard) Object
	// New returns an empty object of the kind, and an empty list of them, to read into.
	New() (Object, runtime.Object)
}

// HostLayer renders one policy API for nodes.
type HostLayer interface {
	// Name is the API's name, as a Backend's.
	Name() string
	// Render returns the objects that say f, with their kinds, in the order in which they are written: the policy, and before it
	// what it stands on.
	Render(meta metav1.ObjectMeta, f policy.HostFirewall) []Object
	// Read returns what a live policy says, and whether it says that and nothing else.
	Read(live map[string]any) (policy.HostFirewall, bool)
	// Anew says whether a live policy has to be deleted and made anew to say what is intended, because the engine does not take it as an update.
	Anew(live map[string]any, intended Object) bool
}

// HostFirewall returns the objects for the nodes of a baseline; none where they would close everything.
func HostFirewall(l HostLayer, f policy.HostFirewall) []Object {
	if len(f.Ports) == 0 || len(f.Allowed) == 0 {
		return nil
	}
	return l.Render(meta(f.Baseline, hostsPolicy), f)
}

// hostsPolicy is the name of the policy that the object for nodes is for.
const hostsPolicy = "hosts"

// HostsPolicy returns the policy for the nodes of a baseline as far as its kind and name go.
func HostsPolicy(l HostLayer, baseline string) Object {
	objects := l.Render(meta(baseline, hostsPolicy), policy.HostFirewall{})
	return objects[len(objects)-1]
}

// HostsOf returns the baseline whose policy for nodes has a name, or "". In Calico the name of the tier comes before it, and a dot, which no
// baseline's name has.
func HostsOf(name string) string {
	_, after, dotted := strings.Cut(name, ".")
	if dotted {
		name = after
	}
	return ownerOf(name, hostsPolicy)
}

// Render returns the object for one policy of a set.
func Render(b Backend, s policy.Set, p policy.Policy) Object {
	m := meta(s.Baseline, p.Name)
	m.Namespace = s.Namespace
	if p.Justification != "" {
		m.Annotations[AnnotationJustification] = p.Justification
	}
	return b.Render(m, p)
}

// Guard returns the cluster-wide object of a baseline.
func Guard(l GuardLayer, g policy.Guard) Object {
	return l.Render(meta(g.Baseline, guardPolicy), g)
}

// guardPolicy is the name of the policy that the cluster-wide object is for.
const guardPolicy = "guard"

// GuardOf returns the baseline whose cluster-wide object has a name, or "".
func GuardOf(name string) string { return ownerOf(name, guardPolicy) }

// ownerOf returns the baseline whose object for a policy has a name, or "".
func ownerOf(name, policyName string) string {
	baseline, _ := strings.CutPrefix(name, "pcinb-")
	baseline, found := strings.CutSuffix(baseline, "-"+policyName)
	if !found || Name(baseline, policyName) != name {
		return ""
	}
	return baseline
}

// GuardName returns the name of the cluster-wide object of a baseline.
func GuardName(baseline string) string { return Name(baseline, guardPolicy) }

func meta(baseline, policyName string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: Name(baseline, policyName), Labels: Labels(baseline), Annotations: Annotations()}
}

// Name returns the name of the object for a baseline's policy.
func Name(baseline, policyName string) string { return "pcinb-" + baseline + "-" + policyName }

// SecondName returns the name to use when somebody else's object has the given one. It begins as no first name does, so it
// is never that of another policy.
func SecondName(name string) string { return "pcinb2-" + strings.TrimPrefix(name, "pcinb-") }

// Labels returns the labels of everything written for a baseline.
func Labels(baseline string) map[string]string {
	return map[string]string{LabelManagedBy: ManagedBy, LabelBaseline: baseline}
}

// Annotations returns the annotations of everything written.
func Annotations() map[string]string { return maps.Clone(gitops) }

// Owner returns the baseline that labels say an object belongs to, or "" when it is not the operator's.
func Owner(labels map[string]string) string {
	if labels[LabelManagedBy] != ManagedBy {
		return ""
	}
	return labels[LabelBaseline]
}
