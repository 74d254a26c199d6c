// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package site

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// Group is the label by which a baseline of a test selects its namespaces.
const Group = "example.com/group"

// Deny and DNS name the policies of a baseline.
func Deny(baseline string) string { return "pcinb-" + baseline + "-default-deny" }

// DNS names the allowance.
func DNS(baseline string) string { return "pcinb-" + baseline + "-allow-dns" }

// NewBaseline returns a baseline for the namespaces of a group of its name.
func NewBaseline(name string) *pcinetv1alpha1.PCINetworkBaseline {
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{Group: pcinetv1alpha1.LabelValue(name)}}
	return b
}

// NewNamespace returns a namespace of a baseline's group.
func NewNamespace(name, baseline string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{Group: baseline}}}
}

// Protected returns an error unless every namespace has exactly the policies of the baseline, and a coverage that is about them
// and says so.
func (s *Site) Protected(ctx context.Context, baseline string, namespaces ...string) error {
	var policies networkingv1.NetworkPolicyList
	var coverages pcinetv1alpha1.NamespaceCoverageList
	if err := errors.Join(s.Client.List(ctx, &policies), s.Client.List(ctx, &coverages)); err != nil {
		return err
	}
	live := map[types.NamespacedName]*networkingv1.NetworkPolicy{}
	count := map[string]int{}
	for i := range policies.Items {
		p := &policies.Items[i]
		live[types.NamespacedName{Namespace: p.Namespace, Name: p.Name}] = p
		if p.Labels["pcinetwork.dev/baseline"] == baseline {
			count[p.Namespace]++
		}
	}
	covered := map[string]*pcinetv1alpha1.NamespaceCoverage{}
	for i := range coverages.Items {
		if coverages.Items[i].Name == baseline {
			covered[coverages.Items[i].Namespace] = &coverages.Items[i]
		}
	}
	for _, ns := range namespaces {
		if err := protected(ns, baseline, live, covered[ns], count[ns]); err != nil {
			return fmt.Errorf("namespace %s: %w", ns, err)
		}
	}
	return nil
}

// protected judges one namespace, with its coverage, by all policies that live and how many of them are the baseline's there.
func protected(ns, baseline string, live map[types.NamespacedName]*networkingv1.NetworkPolicy, coverage *pcinetv1alpha1.NamespaceCoverage, count int) error {
	deny := live[types.NamespacedName{Namespace: ns, Name: Deny(baseline)}]
	switch {
	case deny == nil || coverage == nil || count != 2:
		return fmt.Errorf("deny %v, coverage %v, %d policies", deny != nil, coverage != nil, count)
	case len(deny.Spec.Ingress)+len(deny.Spec.Egress) > 0 || len(deny.Spec.PolicyTypes) != 2:
		return errors.New("the deny is open")
	case coverage.Status.State != pcinetv1alpha1.CoverageProtected || len(coverage.Status.Policies) != 2:
		return fmt.Errorf("it is %s: %v", coverage.Status.State, coverage.Status.Policies)
	}
	for _, p := range coverage.Status.Policies {
		if l := live[types.NamespacedName{Namespace: ns, Name: p.Name}]; l == nil || string(l.UID) != p.UID {
			return fmt.Errorf("the coverage is about another %s", p.Name)
		}
	}
	return nil
}

// Rest waits until no operator has written anything for a while.
func (s *Site) Rest(ctx context.Context) error {
	_, err := eventually.Within(ctx, eventually.Patience, func() error {
		mark, err := s.Audit.Mark(ctx)
		if err != nil {
			return err
		}
		time.Sleep(time.Second)
		writes, err := s.Audit.Writes(ctx, mark)
		if err == nil && len(writes) > 0 {
			err = fmt.Errorf("operators write: %v", writes)
		}
		return err
	})
	return err
}
