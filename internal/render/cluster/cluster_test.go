// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cluster"
	"github.com/pcinetwork/pci-network-baseline/test/intent"
)

// FuzzGuard looks for a guard that selects a namespace that it must not, or that does anything but deny in the directions
// asked for.
func FuzzGuard(f *testing.F) {
	intent.Seed(f)
	f.Fuzz(func(t *testing.T, text string) {
		v := intent.Parse(text)
		guard := v.Guard()
		cnp, ok := render.Guard(cluster.Guard{}, guard).(*policyv1alpha2.ClusterNetworkPolicy)
		if !ok {
			t.Fatal("no ClusterNetworkPolicy")
		}
		if cnp.Spec.Tier != policyv1alpha2.BaselineTier || cnp.Spec.Subject.Pods != nil {
			t.Errorf("tier %s, subject %v", cnp.Spec.Tier, cnp.Spec.Subject)
		}
		if (len(cnp.Spec.Ingress) > 0) != slices.Contains(guard.Directions, policy.Ingress) ||
			(len(cnp.Spec.Egress) > 0) != slices.Contains(guard.Directions, policy.Egress) {
			t.Errorf("directions %v, want %v", cnp.Spec, guard.Directions)
		}
		for _, r := range cnp.Spec.Ingress {
			if r.Action != policyv1alpha2.ClusterNetworkPolicyRuleActionDeny {
				t.Errorf("ingress rule %s", r.Action)
			}
		}
		for _, r := range cnp.Spec.Egress {
			if r.Action != policyv1alpha2.ClusterNetworkPolicyRuleActionDeny {
				t.Errorf("egress rule %s", r.Action)
			}
		}
		subject, err := metav1.LabelSelectorAsSelector(cnp.Spec.Subject.Namespaces)
		if err != nil {
			return // the API would not store it
		}
		if subject.Matches(labels.Set{"kubernetes.io/metadata.name": "kube-system", v.Key: v.Value}) && v.Key != "kubernetes.io/metadata.name" {
			t.Errorf("%v selects kube-system", subject)
		}
	})
}

// Writing to a rendered object must not reach the guard, which is shared.
func TestRenderedObjectsShareNothingWithTheGuard(t *testing.T) {
	guard := intent.Seeds()[0].Guard()
	cnp, ok := render.Guard(cluster.Guard{}, guard).(*policyv1alpha2.ClusterNetworkPolicy)
	if !ok {
		t.Fatal("no ClusterNetworkPolicy")
	}
	for i := range cnp.Spec.Subject.Namespaces.MatchExpressions {
		cnp.Spec.Subject.Namespaces.MatchExpressions[i].Values[0] = "changed"
	}
	if guard.Except[0] != "kube-system" || guard.Namespaces.MatchExpressions[0].Values[0] != "a" {
		t.Errorf("the guard changed: %+v", guard)
	}
}
