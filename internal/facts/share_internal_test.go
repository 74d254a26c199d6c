// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"fmt"
	"maps"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func policyOf(namespace string, change func(*networkingv1.NetworkPolicy)) *networkingv1.NetworkPolicy {
	p := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: "deny", Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"c": "d"},
	}}
	p.Spec.PolicyTypes = []networkingv1.PolicyType{"Ingress", "Egress"}
	if change != nil {
		change(p)
	}
	return p
}

// Whatever is shared, every object says what it said before.
func TestSharingChangesNothing(t *testing.T) {
	t.Parallel()
	var s sharer
	for name, change := range map[string]func(*networkingv1.NetworkPolicy){
		"alike":             nil,
		"another label":     func(p *networkingv1.NetworkPolicy) { p.Labels["a"] = "x" },
		"no labels":         func(p *networkingv1.NetworkPolicy) { p.Labels = nil },
		"an annotation":     func(p *networkingv1.NetworkPolicy) { p.Annotations["e"] = "f" },
		"one direction":     func(p *networkingv1.NetworkPolicy) { p.Spec.PolicyTypes = p.Spec.PolicyTypes[:1] },
		"an empty rule":     func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}} },
		"a name of its own": func(p *networkingv1.NetworkPolicy) { p.Name = "other" },
	} {
		for i := range 3 { // before and after others
			got, want := policyOf(fmt.Sprint(name, i), change), policyOf(fmt.Sprint(name, i), change)
			s.share(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	}
}

func TestWhatIsAlikeIsShared(t *testing.T) {
	t.Parallel()
	var s sharer
	first, second := policyOf("a", nil), policyOf("b", nil)
	s.share(first)
	s.share(second)
	if unsafe.SliceData(first.Spec.PolicyTypes) != unsafe.SliceData(second.Spec.PolicyTypes) {
		t.Error("two equal specs have lists of their own")
	}
	second.Labels["probe"] = "x" // maps are the same if one sees the other's change
	if !maps.Equal(first.Labels, second.Labels) {
		t.Error("two equal sets of labels are not shared")
	}
	for i := range 2 * maxShared {
		s.share(policyOf("a", func(p *networkingv1.NetworkPolicy) { p.Name = fmt.Sprint(i) }))
	}
	if len(s.by) > maxShared {
		t.Errorf("%d names are remembered, want at most %d", len(s.by), maxShared)
	}
}
