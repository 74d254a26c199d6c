// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// triage lets the namespaces in which something changed while nobody looked overtake the others, right after the start. What
// it takes for unchanged is looked at all the same, in its turn; policies of other APIs than the core one, which cannot be read
// yet, are taken for unchanged. Cost: one decision and a few reads from the caches for each namespace, once.
func (r *NamespaceReconciler) triage(ctx context.Context) {
	var namespaces corev1.NamespaceList
	var baselines pcinetv1alpha1.PCINetworkBaselineList
	cluster, _, err := r.Platform.Current(ctx)
	if errors.Join(err, r.Cache.List(ctx, &namespaces), r.Cache.List(ctx, &baselines)) != nil {
		return // then all wait for their turn
	}
	first := 0
	for i := range namespaces.Items {
		ns := snapshot.Namespace{Name: namespaces.Items[i].Name, Labels: namespaces.Items[i].Labels}
		for j := range baselines.Items {
			compiled, invalid := r.compiled.get(&baselines.Items[j])
			if invalid != "" || compiled.For(ns, cluster, r.Clock.Now()).Verdict != plan.InScope || !r.changed(ctx, ns.Name, &baselines.Items[j]) {
				continue
			}
			r.add(r.queue, ns.Name, 0)
			first++
			break
		}
	}
	ctrl.LoggerFrom(ctx).Info("Looking at namespaces", "all", len(namespaces.Items), "first", first)
}

// changed says whether a namespace is not as its coverage says: it is missing or behind, a policy is gone or another one, or
// somebody else has written to it since.
func (r *NamespaceReconciler) changed(ctx context.Context, namespace string, b *pcinetv1alpha1.PCINetworkBaseline) bool {
	coverage := &pcinetv1alpha1.NamespaceCoverage{}
	err := r.Cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: b.Name}, coverage)
	if err != nil || coverage.Status.BaselineGeneration != b.Generation {
		return true
	}
	for _, p := range coverage.Status.Policies {
		if p.Resource != r.Backends.policies[0].resource {
			continue
		}
		live := &networkingv1.NetworkPolicy{}
		err := r.Cache.Get(ctx, client.ObjectKey{Namespace: namespace, Name: p.Name}, live)
		if err != nil || live.UID != types.UID(p.UID) || len(live.ManagedFields) > 0 { // those that are kept are foreign
			return true
		}
	}
	return false
}
