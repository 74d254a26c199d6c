// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestGuard(t *testing.T) {
	exempt := func(end time.Time, namespaces ...pcinetv1alpha1.NamespaceName) pcinetv1alpha1.Exemption {
		return pcinetv1alpha1.Exemption{Namespaces: namespaces, ExpiresAt: metav1.NewTime(end)}
	}
	both := []policy.Direction{policy.Ingress, policy.Egress}
	hour := now.Add(time.Hour)
	cases := map[string]struct {
		change    func(*pcinetv1alpha1.PCINetworkBaselineSpec)
		want      policy.Guard
		changesAt time.Time
	}{
		"system namespaces are left out": {
			want: policy.Guard{Baseline: "cardholder-data", Directions: both, Except: system},
		},
		"unless they are included": {
			change: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.System = pcinetv1alpha1.SystemNamespacesInclude
			},
			want: policy.Guard{Baseline: "cardholder-data", Directions: both, Except: []string{}},
		},
		"so are excluded and exempt ones, each once": {
			change: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{"legacy", "kube-system"}
				s.Exemptions = []pcinetv1alpha1.Exemption{exempt(hour.Add(time.Hour), "billing", "legacy"), exempt(hour, "shop")}
			},
			want: policy.Guard{
				Baseline: "cardholder-data", Directions: both,
				Except: []string{"billing", "calico-system", "kube-system", "legacy", "pci-network-baseline-system", "shop"},
			},
			changesAt: hour,
		},
		"an exemption that ended does not count": {
			change: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Exemptions = []pcinetv1alpha1.Exemption{exempt(now, "shop")}
			},
			want: policy.Guard{Baseline: "cardholder-data", Directions: both, Except: system},
		},
		"selector and directions are the baseline's": {
			change: func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
				s.Directions = bothDirections[1:]
				s.Namespaces.Selector = matchLabels("pci=true")
			},
			want: policy.Guard{
				Baseline: "cardholder-data", Directions: []policy.Direction{policy.Egress}, Except: system,
				Namespaces: metav1.LabelSelector{MatchLabels: map[string]string{"pci": "true"}},
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			compiled, err := plan.Compile(baseline(tc.change))
			if err != nil {
				t.Fatal(err)
			}
			got, changesAt := compiled.Guard(snapshot.Cluster{SystemNamespaces: system}, now)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("guard (-want +got):\n%s", diff)
			}
			if !changesAt.Equal(tc.changesAt) {
				t.Errorf("changes at %s, want %s", changesAt, tc.changesAt)
			}
		})
	}
}

// Engines that know nodes by identity need to be told what is at an address.
func TestAddressesSayWhatIsThere(t *testing.T) {
	b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
		s.Allow.DNS = pcinetv1alpha1.DNSAllowanceClusterDNS
		s.Allow.KubeAPIServer = []pcinetv1alpha1.KubeAPIServerAllowance{{Name: "ci", PodSelector: matchLabels("app=ci")}}
	})
	set := decide(t, b, namespace("shop"), snapshot.Cluster{
		DNS:       snapshot.DNS{NodeLocal: addrs("169.254.20.10"), Servers: []snapshot.DNSServer{{Addresses: addrs("192.0.2.7"), Ports: port53}}},
		APIServer: []snapshot.Endpoint{{Address: addrs("10.0.0.10")[0], Port: 6443}},
	}).Set
	got := map[string]policy.Place{}
	for _, a := range set.Allowances {
		for _, r := range a.Rules {
			for _, p := range r.Peers {
				got[p.CIDR.String()] = p.Place
			}
		}
	}
	want := map[string]policy.Place{"169.254.20.10/32": policy.OwnNode, "192.0.2.7/32": "", "10.0.0.10/32": policy.KubeAPIServer}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
}

// A rule that matches nothing is no policy, and says so.
func TestARuleThatMatchesNothingIsOmitted(t *testing.T) {
	b := baseline(func(s *pcinetv1alpha1.PCINetworkBaselineSpec) {
		s.Allow.Rules = []pcinetv1alpha1.AllowRule{{
			Name: "mapped", Direction: pcinetv1alpha1.DirectionEgress, Justification: "Orders are stored there.",
			Peers: []pcinetv1alpha1.Peer{{CIDR: "::ffff:10.0.0.0/104"}}, Ports: []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 443}},
		}}
	})
	set := decide(t, b, namespace("shop"), snapshot.Cluster{}).Set
	want := []policy.Omission{{
		Name: "allow-mapped", Reason: pcinetv1alpha1.ReasonInvalidSpec,
		Message: "spec.allow.rules mapped: its peers or ports match nothing. Correct the rule.",
	}}
	if diff := cmp.Diff(want, set.Omitted); diff != "" || len(set.Allowances) > 0 {
		t.Errorf("%d allowances; omitted (-want +got):\n%s", len(set.Allowances), diff)
	}
}
