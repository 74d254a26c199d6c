// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package fights_test

import (
	"context"
	"fmt"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// every is the pace of a hostile loop.
const every = 10 * time.Millisecond

// target is the policy that a writer is after, and the names that ours may have.
type target struct {
	namespace, name, second string
}

func (t target) policy(name string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: name}}
}

// writer is somebody who will not have our deny. It goes on until the context ends, whatever errors it meets.
type writer struct {
	run func(ctx context.Context, t target)
	// named is what the condition says of it: its field manager, where the API server keeps one. It keeps none of who only
	// removes or deletes, and forgets all of an object's when somebody resets them.
	named string
	// both: it is after the second copy as well, so that it may well win for moments.
	both bool
}

const nobody = "somebody without a known field manager"

var writers = map[string]writer{
	"a Kyverno-like generator": {named: "kyverno", run: func(ctx context.Context, t target) {
		onChange(ctx, t, func() { _ = env.client.Update(ctx, generated(t), client.FieldOwner("kyverno")) })
	}},
	"an Argo-like applier": {named: "argocd-controller", run: func(ctx context.Context, t target) {
		onChange(ctx, t, func() {
			git := client.ApplyConfigurationFromUnstructured(manifest(t))
			_ = env.client.Apply(ctx, git, client.FieldOwner("argocd-controller"), client.ForceOwnership)
		})
	}},
	"an updating loop": {named: "mallory", run: func(ctx context.Context, t target) {
		loop(ctx, func() {
			p := t.policy(t.name)
			if env.client.Get(ctx, client.ObjectKeyFromObject(p), p) == nil {
				allowAll(p)
				_ = env.client.Update(ctx, p, client.FieldOwner("mallory"))
			}
		})
	}},
	"an allow-all rule in a loop": {named: "mallory", run: patching(`{"spec": {"ingress": [{}]}}`)},
	"a forged owner":              {named: "mallory", run: patching(`{"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-4000-8000-000000000000"}]}}`)},
	"stripped labels":             {named: nobody, run: patching(`{"metadata": {"labels": null, "annotations": null}}`)},
	"reset managed fields":        {named: nobody, run: patching(`{"metadata": {"managedFields": [{}]}, "spec": {"egress": [{}]}}`)},
	"the operator's own field manager": {named: nobody, run: func(ctx context.Context, t target) {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"spec": {"egress": [{}]}}`))
		loop(ctx, func() { _ = env.client.Patch(ctx, t.policy(t.name), patch, client.FieldOwner("pci-network-baseline")) })
	}},
	"deletions in a loop": {named: nobody, run: func(ctx context.Context, t target) {
		loop(ctx, func() { _ = env.client.Delete(ctx, t.policy(t.name)) })
	}},
	"both copies deleted in a loop": {named: nobody, both: true, run: func(ctx context.Context, t target) {
		loop(ctx, func() {
			_ = env.client.Delete(ctx, t.policy(t.name))
			_ = env.client.Delete(ctx, t.policy(t.second))
		})
	}},
}

// loop calls f again and again.
func loop(ctx context.Context, f func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

func patching(body string) func(context.Context, target) {
	return func(ctx context.Context, t target) {
		loop(ctx, func() {
			_ = env.client.Patch(ctx, t.policy(t.name), client.RawPatch(types.MergePatchType, []byte(body)), client.FieldOwner("mallory"))
		})
	}
}

// onChange calls f now, and whenever the policy is not as f makes it.
func onChange(ctx context.Context, t target, f func()) {
	for ctx.Err() == nil {
		w, err := env.client.Watch(ctx, &networkingv1.NetworkPolicyList{}, client.InNamespace(t.namespace))
		if err != nil {
			continue
		}
		for e := range w.ResultChan() {
			if p, ok := e.Object.(*networkingv1.NetworkPolicy); ok && p.Name == t.name && e.Type != watch.Deleted && denies(p) {
				f()
			}
		}
		w.Stop()
	}
}

// generated is what a generator wants the policy to be: it overwrites whatever is there.
func generated(t target) *networkingv1.NetworkPolicy {
	p := t.policy(t.name)
	p.Labels = map[string]string{"app.kubernetes.io/managed-by": "kyverno", "generate.kyverno.io/rule-name": "default-policy"}
	allowAll(p)
	return p
}

func allowAll(p *networkingv1.NetworkPolicy) {
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
	p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}}
}

// manifest is what an applier has in Git under that name.
func manifest(t target) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
		"metadata": map[string]any{
			"namespace": t.namespace, "name": t.name,
			"annotations": map[string]any{"argocd.argoproj.io/tracking-id": fmt.Sprintf("shop:networking.k8s.io/NetworkPolicy:%s/%s", t.namespace, t.name)},
		},
		"spec": map[string]any{
			"podSelector": map[string]any{}, "policyTypes": []any{"Ingress", "Egress"},
			"ingress": []any{map[string]any{}}, "egress": []any{map[string]any{}},
		},
	}}
}
