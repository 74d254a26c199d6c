// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

var (
	now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

	bothDirections = []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress, pcinetv1alpha1.DirectionEgress}

	// system is what facts.Cluster lists: sorted, the operator's own namespace included.
	system = []string{"calico-system", "kube-system", "pci-network-baseline-system"}
)

// baseline returns a baseline as the CRD defaults it, without DNS so that tables see only what they declare.
func baseline(change func(*pcinetv1alpha1.PCINetworkBaselineSpec)) *pcinetv1alpha1.PCINetworkBaseline {
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "cardholder-data", Generation: 1}}
	b.Spec.Directions = bothDirections
	b.Spec.Namespaces.System = pcinetv1alpha1.SystemNamespacesExclude
	b.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone
	if change != nil {
		change(&b.Spec)
	}
	return b
}

func namespace(name string, pairs ...string) snapshot.Namespace {
	set := labels.Set{corev1.LabelMetadataName: name}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		set[k] = v
	}
	return snapshot.Namespace{Name: name, Labels: set}
}

// decide compiles the baseline, which must be possible, and decides about one namespace.
func decide(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, ns snapshot.Namespace, c snapshot.Cluster) plan.Decision {
	t.Helper()
	compiled, err := plan.Compile(b)
	if err != nil {
		t.Fatalf("Compile: %v", err)
	}
	return compiled.For(ns, c, now)
}

func matchLabels(pairs ...string) *pcinetv1alpha1.LabelSelector {
	s := &pcinetv1alpha1.LabelSelector{}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		if s.MatchLabels == nil {
			s.MatchLabels = map[string]pcinetv1alpha1.LabelValue{}
		}
		s.MatchLabels[k] = pcinetv1alpha1.LabelValue(v)
	}
	return s
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range texts {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// lines writes a set down, one policy or rule a line, so that a table can show what it wants at a glance. Every field of
// a policy that a backend renders is in it.
func lines(s policy.Set) []string {
	out := []string{fmt.Sprintf("%s %v for %s", s.Deny.Name, s.Deny.Directions, selectorText(&s.Deny.Pods))}
	for _, p := range s.Allowances {
		line := fmt.Sprintf("%s for %s", p.Name, selectorText(&p.Pods))
		if p.Justification != "" {
			line += " because " + p.Justification
		}
		out = append(out, line)
		for _, r := range p.Rules {
			out = append(out, "  "+ruleText(r))
		}
	}
	for _, o := range s.Omitted {
		out = append(out, fmt.Sprintf("omitted %s: %s", o.Name, o.Reason))
	}
	return out
}

func ruleText(r policy.Rule) string {
	var peers, ports []string
	for _, p := range r.Peers {
		switch {
		case p.Pods != nil:
			peers = append(peers, fmt.Sprintf("pods %s in %s", selectorText(p.Pods.Pods), selectorText(p.Pods.Namespaces)))
		case len(p.Except) > 0:
			peers = append(peers, fmt.Sprintf("%s but %v", p.CIDR, p.Except))
		default:
			peers = append(peers, p.CIDR.String())
		}
	}
	for _, p := range r.Ports {
		text := fmt.Sprintf("%s %d", p.Protocol, p.First)
		if p.Last != p.First {
			text += fmt.Sprintf("-%d", p.Last)
		}
		ports = append(ports, text)
	}
	return fmt.Sprintf("%s: %s: %s", r.Direction, strings.Join(peers, ", "), strings.Join(ports, ", "))
}

// selectorText tells a selector that is absent ("unset") from one that selects everything ("all").
func selectorText(s *metav1.LabelSelector) string {
	switch {
	case s == nil:
		return "unset"
	case len(s.MatchLabels)+len(s.MatchExpressions) == 0:
		return "all"
	}
	return "{" + metav1.FormatLabelSelector(s) + "}"
}
