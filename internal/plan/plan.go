// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package plan decides: from a baseline and what was observed it derives what one namespace should have. It reads no
// clock and no cluster; the same arguments always give the same decision.
package plan

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// ExpiryNotice is how long before its end an exemption is reported as expiring.
const ExpiryNotice = 14 * 24 * time.Hour

// Verdict says how a namespace relates to a baseline.
type Verdict string

// The verdicts. Only InScope leads to policies; only OutOfScope and Exempt lead to their removal.
const (
	// OutOfScope: the selector does not match, or the namespace is excluded by name or as a system namespace.
	OutOfScope Verdict = "OutOfScope"
	// Exempt: an exemption takes the namespace out of scope for now.
	Exempt Verdict = "Exempt"
	// InScope: the namespace must have the policies of the set.
	InScope Verdict = "InScope"
)

// Decision is what one namespace should have for one baseline.
type Decision struct {
	Verdict Verdict
	// Set is what should exist when the verdict is InScope.
	Set policy.Set
	// Exemption is the one in force when the verdict is Exempt, or else the one that expired last, if any.
	Exemption *pcinetv1alpha1.Exemption
	// ChangesAt is the next moment at which time alone changes the decision; zero for never.
	ChangesAt time.Time
}

// Baseline is a baseline made ready for many decisions: selectors parsed, names indexed. It is immutable.
type Baseline struct {
	*pcinetv1alpha1.PCINetworkBaseline
	selector   labels.Selector
	excluded   sets.Set[string]
	exemptions map[string][]*pcinetv1alpha1.Exemption
	subjects   map[string]labels.Selector // allowance name -> namespaces it is for
}

// Compile prepares a baseline. An error names the field that cannot be understood; nothing may then be concluded about
// any namespace.
func Compile(b *pcinetv1alpha1.PCINetworkBaseline) (*Baseline, error) {
	out := &Baseline{PCINetworkBaseline: b, subjects: map[string]labels.Selector{}}
	var err error
	if out.selector, err = compile(b.Spec.Namespaces.Selector); err != nil {
		return nil, fmt.Errorf("spec.namespaces.selector: %w", err)
	}
	for _, a := range b.Spec.Allow.KubeAPIServer {
		if out.subjects[apiServerAllowance(a.Name)], err = compile(a.NamespaceSelector); err != nil {
			return nil, fmt.Errorf("spec.allow.kubeAPIServer %s: namespaceSelector: %w", a.Name, err)
		}
	}
	for _, r := range b.Spec.Allow.Rules {
		if r.Subject == nil {
			continue
		}
		if out.subjects[string(r.Name)], err = compile(r.Subject.NamespaceSelector); err != nil {
			return nil, fmt.Errorf("spec.allow.rules %s: subject.namespaceSelector: %w", r.Name, err)
		}
	}
	out.excluded = sets.New[string]()
	for _, n := range b.Spec.Namespaces.Exclude {
		out.excluded.Insert(string(n))
	}
	out.exemptions = map[string][]*pcinetv1alpha1.Exemption{}
	for i := range b.Spec.Exemptions {
		e := &b.Spec.Exemptions[i]
		for _, n := range e.Namespaces {
			out.exemptions[string(n)] = append(out.exemptions[string(n)], e)
		}
	}
	return out, nil
}

// For decides about one namespace at one moment. Cost: the number of exemptions of that namespace, allowances and DNS
// servers; not the size of the cluster.
func (b *Baseline) For(ns snapshot.Namespace, c snapshot.Cluster, now time.Time) Decision {
	if !b.covers(ns, c) {
		return Decision{Verdict: OutOfScope}
	}
	d := b.exemption(ns.Name, now)
	if d.Verdict == Exempt {
		return d
	}
	d.Verdict = InScope
	d.Set = b.set(ns, c)
	return d
}

func (b *Baseline) covers(ns snapshot.Namespace, c snapshot.Cluster) bool {
	if b.excluded.Has(ns.Name) {
		return false
	}
	if b.Spec.Namespaces.System != pcinetv1alpha1.SystemNamespacesInclude {
		if _, system := slices.BinarySearch(c.SystemNamespaces, ns.Name); system {
			return false
		}
	}
	return b.selector.Matches(ns.Labels)
}

// exemption finds the exemption that holds the namespace out longest. An exemption ends at expiresAt: from that instant
// on the namespace is in scope.
func (b *Baseline) exemption(namespace string, now time.Time) Decision {
	var d Decision
	for _, e := range b.exemptions[namespace] {
		if d.Exemption == nil || e.ExpiresAt.After(d.Exemption.ExpiresAt.Time) {
			d.Exemption = e
		}
	}
	if d.Exemption != nil && now.Before(d.Exemption.ExpiresAt.Time) {
		d.Verdict = Exempt
		d.ChangesAt = d.Exemption.ExpiresAt.Time
		if notice := d.ChangesAt.Add(-ExpiryNotice); now.Before(notice) {
			d.ChangesAt = notice
		}
	}
	return d
}

// Gate returns which namespaces have their pods held until they are denied, and the next moment at which time alone changes
// that: those that For takes to be in scope, less the system namespaces, in which a deadlock could not be undone.
func (b *Baseline) Gate(c snapshot.Cluster, now time.Time) (metav1.LabelSelector, time.Time) {
	g, changesAt := b.Guard(c, now)
	except := sets.New(g.Except...).Insert(c.SystemNamespaces...)
	out := *g.Namespaces.DeepCopy()
	if except.Len() > 0 { // of no values the API server makes no requirement
		out.MatchExpressions = append(out.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: sets.List(except),
		})
	}
	return out, changesAt
}

// Guard returns what the cluster-wide object of the guard layer should say, and the next moment at which time alone changes
// it. It selects no namespace that For takes to be out of scope or exempt.
func (b *Baseline) Guard(c snapshot.Cluster, now time.Time) (policy.Guard, time.Time) {
	g := policy.Guard{Baseline: b.Name, Directions: b.directions()}
	if s := b.Spec.Namespaces.Selector; s != nil {
		g.Namespaces = *selector(s)
	}
	except := b.excluded.Clone()
	if b.Spec.Namespaces.System != pcinetv1alpha1.SystemNamespacesInclude {
		except.Insert(c.SystemNamespaces...)
	}
	var changesAt time.Time
	for name := range b.exemptions {
		d := b.exemption(name, now)
		if d.Verdict != Exempt {
			continue
		}
		except.Insert(name)
		if end := d.Exemption.ExpiresAt.Time; changesAt.IsZero() || end.Before(changesAt) {
			changesAt = end
		}
	}
	g.Except = sets.List(except)
	return g, changesAt
}

func (b *Baseline) denies(d pcinetv1alpha1.Direction) bool {
	return slices.Contains(b.Spec.Directions, d)
}

// directions lists what is denied, in a fixed order.
func (b *Baseline) directions() []policy.Direction {
	var out []policy.Direction
	for _, d := range []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress} {
		if b.denies(d) {
			out = append(out, policy.Direction(d))
		}
	}
	return out
}

// set assembles what the namespace should have.
func (b *Baseline) set(ns snapshot.Namespace, c snapshot.Cluster) policy.Set {
	s := policy.Set{Baseline: b.Name, Namespace: ns.Name, Deny: policy.Policy{Name: "default-deny", Role: policy.Deny}}
	s.Deny.Directions = b.directions()
	if b.denies(pcinetv1alpha1.DirectionEgress) {
		b.addDNS(&s, c.DNS)
		b.addKubeAPIServer(&s, ns, c.APIServer)
	}
	b.addRules(&s, ns)
	return s
}

// selects says whether an allowance is for this namespace.
func (b *Baseline) selects(allowance string, ns snapshot.Namespace) bool {
	sel, limited := b.subjects[allowance]
	return !limited || sel.Matches(ns.Labels)
}

// compile parses a selector; nil selects everything.
func compile(s *pcinetv1alpha1.LabelSelector) (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	return metav1.LabelSelectorAsSelector(selector(s))
}

// selector converts a selector of the API; nil stays nil.
func selector(s *pcinetv1alpha1.LabelSelector) *metav1.LabelSelector {
	if s == nil {
		return nil
	}
	out := &metav1.LabelSelector{}
	for k, v := range s.MatchLabels {
		metav1.AddLabelToSelector(out, k, string(v))
	}
	for _, e := range s.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator)}
		for _, v := range e.Values {
			r.Values = append(r.Values, string(v))
		}
		out.MatchExpressions = append(out.MatchExpressions, r)
	}
	return out
}
