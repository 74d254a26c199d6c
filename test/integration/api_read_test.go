// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// TestSelectorsCanBeRead compares the CRD with Kubernetes' own judgement of labels: a selector that the API server
// accepts and the operator cannot read would leave a namespace without its deny.
func TestSelectorsCanBeRead(t *testing.T) {
	long := strings.Repeat("a", 63)
	keys := []string{
		"app", "App", "a", "a-b", "a.b", "a_b", "a--b", "a..b", "1", "-a", "a-", "_a", "a_", ".a", "a.", "ä", "a b", "a\n",
		long, long + "a", "x/" + long, "x/" + long + "a",
		"x/y", "x.y/z", "x..y/z", "x.-y/z", "x-.y/z", "x--y/z", ".x/z", "x./z", "-x/z", "x-/z", "X/z", "x_y/z", "/z", "x/", "x/y/z",
		long + "." + long + "." + long + "/z", long + long + "/z",
	}
	values := []string{"", "a", "A", "1", "a-b", "a_b", "a.b", "a..b", "-a", "a-", "_a", ".a", "ä", "a b", "a\n", "a/b", long, long + "a"}

	check := func(selector metav1.LabelSelector, ours *pcinetv1alpha1.LabelSelector) {
		t.Helper()
		_, readError := metav1.LabelSelectorAsSelector(&selector)
		if accepted := dryRun(t, scoped(ours)); accepted != (readError == nil) {
			t.Errorf("%+v: accepted by the API server: %v; Kubernetes says: %v", selector, accepted, readError)
		}
	}
	for _, key := range keys {
		check(metav1.LabelSelector{MatchLabels: map[string]string{key: "x"}},
			&pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{key: "x"}})
		check(metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: key, Operator: "Exists"}}},
			&pcinetv1alpha1.LabelSelector{MatchExpressions: []pcinetv1alpha1.LabelSelectorRequirement{{Key: key, Operator: "Exists"}}})
	}
	for _, value := range values {
		ours := pcinetv1alpha1.LabelValue(value)
		check(metav1.LabelSelector{MatchLabels: map[string]string{"app": value}},
			&pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{"app": ours}})
		check(metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "In", Values: []string{value}}}},
			&pcinetv1alpha1.LabelSelector{MatchExpressions: []pcinetv1alpha1.LabelSelectorRequirement{
				{Key: "app", Operator: "In", Values: []pcinetv1alpha1.LabelValue{ours}},
			}})
	}
}

func scoped(selector *pcinetv1alpha1.LabelSelector) client.Object {
	return &pcinetv1alpha1.PCINetworkBaseline{
		ObjectMeta: metav1.ObjectMeta{Name: "selectors"},
		Spec:       pcinetv1alpha1.PCINetworkBaselineSpec{Namespaces: pcinetv1alpha1.NamespaceScope{Selector: selector}},
	}
}

// dryRun says whether the API server accepts object.
func dryRun(t *testing.T, object client.Object) bool {
	t.Helper()
	err := env.client.Create(t.Context(), object, client.DryRunAll)
	if err != nil && !apierrors.IsInvalid(err) {
		t.Fatal(err)
	}
	return err == nil
}

// TestPeersMakeValidPolicies compares the CRD with the API server's judgement of NetworkPolicy: a peer that passes the
// one must pass the other, or a deny would be held up by its allowance.
func TestPeersMakeValidPolicies(t *testing.T) {
	tests := map[string]struct {
		cidr   string
		except []string
		want   bool
	}{
		"a range":                    {cidr: "10.0.0.0/8", want: true},
		"everybody":                  {cidr: "0.0.0.0/0", want: true},
		"one address":                {cidr: "10.0.0.1/32", want: true},
		"IPv6":                       {cidr: "2001:db8::/32", want: true},
		"IPv6 written out":           {cidr: "2001:0db8:0000:0000:0000:0000:0000:0000/128", want: true},
		"IPv6 in capitals":           {cidr: "2001:DB8::/32", want: true},
		"everybody in IPv6":          {cidr: "::/0", want: true},
		"an exception":               {cidr: "10.0.0.0/8", except: []string{"10.1.0.0/16"}, want: true},
		"an exception in IPv6":       {cidr: "2001:db8::/32", except: []string{"2001:db8:1::/48"}, want: true},
		"host bits":                  {cidr: "10.0.0.1/8"},
		"IPv4 inside IPv6":           {cidr: "::ffff:10.0.0.0/104"},
		"no length":                  {cidr: "10.0.0.0"},
		"an exception of everything": {cidr: "10.0.0.0/8", except: []string{"10.0.0.0/8"}},
		"an exception elsewhere":     {cidr: "10.0.0.0/8", except: []string{"192.168.0.0/16"}},
		"an exception too large":     {cidr: "10.0.0.0/16", except: []string{"10.0.0.0/8"}},
		"mixed families":             {cidr: "::/0", except: []string{"10.0.0.0/8"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			ours := pcinetv1alpha1.Peer{CIDR: pcinetv1alpha1.CIDR(test.cidr)}
			for _, except := range test.except {
				ours.Except = append(ours.Except, pcinetv1alpha1.CIDR(except))
			}
			if got := dryRun(t, allowing(ours)); got != test.want {
				t.Errorf("the baseline is accepted: %v, want %v", got, test.want)
			}
			block := &networkingv1.IPBlock{CIDR: test.cidr, Except: test.except}
			if test.want && !dryRun(t, policyTo(networkingv1.NetworkPolicyPeer{IPBlock: block})) {
				t.Error("the baseline is accepted, but a NetworkPolicy made of it is not")
			}
		})
	}
}

func allowing(peer pcinetv1alpha1.Peer) client.Object {
	return &pcinetv1alpha1.PCINetworkBaseline{
		ObjectMeta: metav1.ObjectMeta{Name: "peers"},
		Spec: pcinetv1alpha1.PCINetworkBaselineSpec{Allow: pcinetv1alpha1.Allow{Rules: []pcinetv1alpha1.AllowRule{{
			Name: "shop", Justification: "It is for an example.", Direction: pcinetv1alpha1.DirectionEgress,
			Peers: []pcinetv1alpha1.Peer{peer},
			Ports: []pcinetv1alpha1.Port{{Protocol: "SCTP", Port: 1, EndPort: 65535}},
		}}}},
	}
}

func policyTo(peer networkingv1.NetworkPolicyPeer) client.Object {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "peers"},
		Spec: networkingv1.NetworkPolicySpec{Egress: []networkingv1.NetworkPolicyEgressRule{{
			To:    []networkingv1.NetworkPolicyPeer{peer},
			Ports: []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolSCTP), Port: new(intstr.FromInt32(1)), EndPort: new(int32(65535))}},
		}}},
	}
}
