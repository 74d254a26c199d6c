// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

func TestAPolicyOfAnEarlierNamespaceIsNotThere(t *testing.T) {
	t.Parallel()
	born := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	policy := func(uid types.UID, created time.Time, labels map[string]string) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "deny", UID: uid, CreationTimestamp: metav1.NewTime(created), Labels: labels,
		}}
	}
	ours := map[string]string{render.LabelManagedBy: render.ManagedBy, render.LabelBaseline: "pci"}
	tests := map[string]struct {
		cached, live *networkingv1.NetworkPolicy
		want         []types.UID
	}{
		"made after the namespace: the cache is believed":            {policy("cached", born.Add(time.Second), ours), policy("live", born, ours), []types.UID{"cached"}},
		"made in the same second: the cache is believed":             {policy("cached", born, ours), policy("live", born, ours), []types.UID{"cached"}},
		"made before it, and gone":                                   {policy("cached", born.Add(-time.Minute), ours), nil, nil},
		"made before it, and another is there":                       {policy("cached", born.Add(-time.Minute), ours), policy("live", born, ours), []types.UID{"live"}},
		"made before it by a clock that is slow: it is there":        {policy("same", born.Add(-time.Second), ours), policy("same", born.Add(-time.Second), ours), []types.UID{"same"}},
		"made before it, but somebody else's: the cache is believed": {policy("cached", born.Add(-time.Minute), nil), nil, []types.UID{"cached"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reader := func(p *networkingv1.NetworkPolicy) client.Reader {
				scheme, err := newScheme()
				if err != nil {
					t.Fatal(err)
				}
				b := fake.NewClientBuilder().WithScheme(scheme)
				if p != nil {
					b = b.WithObjects(p)
				}
				return b.Build()
			}
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", CreationTimestamp: metav1.NewTime(born)}}
			var list networkingv1.NetworkPolicyList
			if err := (contemporary{reader(test.cached), reader(test.live), ns}).List(t.Context(), &list, client.InNamespace("shop")); err != nil {
				t.Fatal(err)
			}
			var got []types.UID
			for i := range list.Items {
				got = append(got, list.Items[i].UID)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("policies (-want +got):\n%s", diff)
			}
		})
	}
}

// A pod with our labels does not have all pods of its namespace taken for pods of the host network.
func TestPodsAreNotAskedFor(t *testing.T) {
	t.Parallel()
	born := metav1.NewTime(time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC))
	pod := func(name string) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(born.Add(-time.Minute)), Labels: render.Labels("pci"),
		}}
	}
	cached, live := fake.NewClientBuilder().WithObjects(pod("host")).Build(), fake.NewClientBuilder().WithObjects(pod("host"), pod("app")).Build()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", CreationTimestamp: born}}
	var list corev1.PodList
	if err := (contemporary{cached, live, ns}).List(t.Context(), &list, client.InNamespace("shop")); err != nil || len(list.Items) != 1 {
		t.Errorf("%d pods, %v", len(list.Items), err)
	}
}
