// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestGuard(t *testing.T) {
	exempt := func(left time.Duration, names ...pcinetv1alpha1.NamespaceName) pcinetv1alpha1.Exemption {
		return pcinetv1alpha1.Exemption{Namespaces: names, Reason: "It is old.", ApprovedBy: "ciso", ExpiresAt: metav1.NewTime(now.Add(left))}
	}
	both := []policy.Direction{policy.Ingress, policy.Egress}
	for name, tc := range map[string]struct {
		spec        func(*pcinetv1alpha1.PCINetworkBaselineSpec)
		want        policy.Guard
		wantChanges time.Duration // after now; 0 for never
	}{
		"system namespaces are never selected": {want: policy.Guard{Directions: both, Except: system}},
		"unless they are to be included": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.System = pcinetv1alpha1.SystemNamespacesInclude
			},
			want: policy.Guard{Directions: both},
		},
		"excluded and exempt namespaces are not selected": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{"argocd", "kube-system"}
				s.Exemptions = []pcinetv1alpha1.Exemption{exempt(time.Hour, "shop", "lab"), exempt(2*time.Hour, "bank")}
			},
			want:        policy.Guard{Directions: both, Except: []string{"argocd", "bank", "calico-system", "kube-system", "lab", "pci-network-baseline-system", "shop"}},
			wantChanges: time.Hour,
		},
		"an exemption that has ended holds nothing out": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Exemptions = []pcinetv1alpha1.Exemption{exempt(0, "shop")}
			},
			want: policy.Guard{Directions: both, Except: system},
		},
		"the longer of two exemptions counts": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Exemptions = []pcinetv1alpha1.Exemption{exempt(0, "shop"), exempt(time.Hour, "shop")}
			},
			want:        policy.Guard{Directions: both, Except: append([]string{}, append(system, "shop")...)},
			wantChanges: time.Hour,
		},
		"selector and directions are the baseline's": {
			spec: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.Selector = matchLabels("pci=true")
				s.Directions = []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionEgress}
			},
			want: policy.Guard{
				Namespaces: metav1.LabelSelector{MatchLabels: map[string]string{"pci": "true"}},
				Directions: []policy.Direction{policy.Egress}, Except: system,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			compiled, err := plan.Compile(baseline(tc.spec))
			if err != nil {
				t.Fatal(err)
			}
			tc.want.Baseline = "cardholder-data"
			got, changesAt := compiled.Guard(snapshot.Cluster{SystemNamespaces: system}, now)
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("guard (-want +got):\n%s", diff)
			}
			wantAt := time.Time{}
			if tc.wantChanges > 0 {
				wantAt = now.Add(tc.wantChanges)
			}
			if !changesAt.Equal(wantAt) {
				t.Errorf("changes at %s, want %s", changesAt, wantAt)
			}
		})
	}
}
