// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

const (
	baselineName = "bench"
	ruleName     = "metrics"

	baselineLabel = "pcinetwork.dev/baseline=" + baselineName
	denyName      = "pcinb-" + baselineName + "-default-deny"
	rulePolicy    = "pcinb-" + baselineName + "-allow-" + ruleName
)

// specimen is what belongs into one namespace. It is taken from the operator's
// own work, so that all contenders write the same objects, byte for byte but
// for names of namespaces and UIDs.
type specimen struct {
	// Policies are in the order in which they are written: the deny comes last.
	Policies []networkingv1.NetworkPolicy     `json:"policies"`
	Coverage pcinetv1alpha1.NamespaceCoverage `json:"coverage"`
}

// takeSpecimen copies what a contender wrote into a namespace.
func takeSpecimen(ctx context.Context, from *clients, namespace string) (*specimen, error) {
	list, err := from.core.NetworkingV1().NetworkPolicies(namespace).List(ctx, metav1.ListOptions{LabelSelector: baselineLabel})
	if err != nil {
		return nil, err
	}
	coverage, err := from.coverage(ctx, namespace)
	if err != nil {
		return nil, err
	}
	s := &specimen{Coverage: *coverage}
	s.Coverage.ObjectMeta = bare(&coverage.ObjectMeta)
	s.Coverage.TypeMeta = metav1.TypeMeta{APIVersion: pcinetv1alpha1.GroupVersion.String(), Kind: "NamespaceCoverage"}
	for i := range list.Items {
		policy := list.Items[i]
		policy.ObjectMeta = bare(&policy.ObjectMeta)
		s.Policies = append(s.Policies, policy)
	}
	slices.SortFunc(s.Policies, func(a, b networkingv1.NetworkPolicy) int {
		if a.Name == denyName || b.Name == denyName {
			return compareBool(a.Name == denyName, b.Name == denyName)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return s, s.check()
}

func readSpecimen(path string) (*specimen, error) {
	data, err := os.ReadFile(path) //nolint:gosec // G304: the path is a flag
	if err != nil {
		return nil, err
	}
	s := &specimen{}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return s, s.check()
}

func (s *specimen) write(path string) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}

// check refuses what would make the contenders do something else than protect.
func (s *specimen) check() error {
	if len(s.Policies) == 0 || !denies(&s.Policies[len(s.Policies)-1]) {
		return fmt.Errorf("the specimen has no policy %s that denies everything", denyName)
	}
	if s.Coverage.Name != baselineName {
		return fmt.Errorf("the specimen's coverage is named %q, want %q", s.Coverage.Name, baselineName)
	}
	return nil
}

// writes is the number of requests that one namespace costs at least.
func (s *specimen) writes() int { return len(s.Policies) + 1 }

// rule returns the policy of the allow rule that the baseline change adds, or nil.
func (s *specimen) rule() *networkingv1.NetworkPolicy {
	for i := range s.Policies {
		if s.Policies[i].Name == rulePolicy {
			return &s.Policies[i]
		}
	}
	return nil
}

// denies says whether the policy is the deny and denies everything to every pod.
func denies(policy *networkingv1.NetworkPolicy) bool {
	spec := &policy.Spec
	return policy.Name == denyName && policy.DeletionTimestamp == nil &&
		len(spec.Ingress) == 0 && len(spec.Egress) == 0 &&
		equality.Semantic.DeepEqual(spec.PodSelector, metav1.LabelSelector{}) &&
		slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeIngress) &&
		slices.Contains(spec.PolicyTypes, networkingv1.PolicyTypeEgress)
}

// bare keeps the metadata that a client sends.
func bare(meta *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: meta.Name, Labels: meta.Labels, Annotations: meta.Annotations, Finalizers: meta.Finalizers}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}
