// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

const (
	// olderPeriod is how often pods are compared with their denies at most.
	olderPeriod = 10 * time.Minute
	// olderPage is how many pods are listed at a time.
	olderPage = 500
	// maxOlder is how many of them a status names, and maxOlderName how long a name may be: as long as one of a Deployment's pods.
	maxOlder     = 3
	maxOlderName = 63 + len("/") + 63
)

// withConnections are the pods that a policy can cover and that may have connections.
var withConnections = client.MatchingFieldsSelector{Selector: fields.AndSelectors(
	fields.OneTermEqualSelector("spec.hostNetwork", "false"),
	fields.OneTermNotEqualSelector("status.phase", string(corev1.PodSucceeded)),
	fields.OneTermNotEqualSelector("status.phase", string(corev1.PodFailed)),
)}

// countOlder compares pods with their denies after a round that has shown that connections outlive one. What cannot be counted is
// unknown, and no reason to distrust the proof.
func (r *ProbeReconciler) countOlder(ctx context.Context, now time.Time) {
	if now.Before(r.countDue) || !r.Proofs.kept() {
		return
	}
	r.countDue = now.Add(olderPeriod)
	older, err := r.older(ctx)
	if err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot tell which pods are older than their deny")
	}
	r.Proofs.noteOlder(older)
}

// older returns the pods that are older than their deny, by baseline. Nothing is kept of pods between two looks: they are listed in
// pages, as metadata. Cost: all pods and policies.
func (r *ProbeReconciler) older(ctx context.Context) (map[string]*pcinetv1alpha1.OlderPods, error) {
	denies, err := r.denies(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]*pcinetv1alpha1.OlderPods{}
	for more := ""; ; {
		pods := &metav1.PartialObjectMetadataList{}
		pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
		if err := r.Live.List(ctx, pods, withConnections, client.Limit(olderPage), client.Continue(more)); err != nil {
			return nil, fmt.Errorf("listing pods: %w", err)
		}
		for i := range pods.Items {
			pod := &pods.Items[i]
			for baseline, at := range denies[pod.Namespace] {
				if pod.CreationTimestamp.Before(&at) {
					noteOlder(out, baseline, pod.Namespace+"/"+pod.Name)
				}
			}
		}
		if more = pods.Continue; more == "" {
			return out, nil
		}
	}
}

func noteOlder(out map[string]*pcinetv1alpha1.OlderPods, baseline, name string) {
	if out[baseline] == nil {
		out[baseline] = &pcinetv1alpha1.OlderPods{Count: new(int32)}
	}
	o := out[baseline]
	if *o.Count++; len(o.Names) < maxOlder {
		o.Names = append(o.Names, status.Clip(name, maxOlderName))
	}
}

// denies returns since when each namespace has the deny of each baseline. Of two copies the older one counts.
func (r *ProbeReconciler) denies(ctx context.Context) (map[string]map[string]metav1.Time, error) {
	var core networkingv1.NetworkPolicyList
	if err := r.Cache.List(ctx, &core); err != nil {
		return nil, fmt.Errorf("listing NetworkPolicies: %w", err)
	}
	all, err := r.Backends.list(ctx, r.Cache, metav1.NamespaceAll)
	if err != nil {
		return nil, err
	}
	for i := range core.Items {
		all = append(all, livePolicy{&core.Items[i], r.Backends.policies[0]})
	}
	out := map[string]map[string]metav1.Time{}
	for _, p := range all {
		baseline, namespace, at := render.Owner(p.object.GetLabels()), p.object.GetNamespace(), p.object.GetCreationTimestamp()
		if baseline == "" || p.api.staged || !p.denies() {
			continue
		}
		if out[namespace] == nil {
			out[namespace] = map[string]metav1.Time{}
		}
		if have, ok := out[namespace][baseline]; !ok || at.Before(&have) {
			out[namespace][baseline] = at
		}
	}
	return out, nil
}
