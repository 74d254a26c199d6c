// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package tamper_test

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// onCanaries attacks what proves, and uses what the operator may do for it. Mutations tried: own limits that let a canary have
// any volume, and in which the names of its policies count in every namespace.
func onCanaries() []attack {
	asOperator := func(object func(*cell) client.Object) func(*cell) error {
		return func(c *cell) error {
			as, err := c.withToken()
			if err != nil {
				return err
			}
			return as.Create(c.Context(), object(c), client.DryRunAll)
		}
	}
	return []attack{
		{
			name: "get a token of the operator, and make a pod that reads a Secret among the canaries", by: clusterWide(own),
			do: asOperator(func(*cell) client.Object { return spy() }),
		},
		{
			name: "get one, and write a policy of the canaries that allows everything", by: clusterWide(own),
			do: asOperator(func(*cell) client.Object { return betweenCanaries(probe.Namespace, true) }),
		},
		{
			name: "get one, and write a policy of the canaries into the namespace", by: clusterWide(own),
			do: asOperator(func(c *cell) client.Object { return betweenCanaries(c.namespace, false) }),
		},
		{
			name: "create a policy beside the canaries that allows everything", own: true, alone: true,
			by: clusterWide(reported("", "EnforcementProven=Unknown/CanaryOpened")),
			do: func(c *cell) error {
				ns := &corev1.Namespace{ObjectMeta: named("", probe.Namespace)}
				c.change(c.T, ns, func() { ns.Labels[groupLabel] = c.baseline.Name })
				wide := allowAll(probe.Namespace, "mine")
				c.Cleanup(func() { _ = c.Delete(context.WithoutCancel(c.Context()), wide) })
				return c.mallory.Create(c.Context(), wide)
			},
		},
	}
}

// spy is as harmless as a canary, but for what it reads.
func spy() *corev1.Pod {
	pod := (&probe.Sample{Run: "1", Nodes: []string{"n"}}).Pod(probe.Canary{Role: probe.Source, Node: "n"}, probe.Image{Name: "app"})
	pod.Labels[render.LabelManagedBy] = render.ManagedBy
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
		Name: "keys", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "keys"}},
	})
	return pod
}

// betweenCanaries is a policy as the operator writes it between canaries, or one that allows everything.
func betweenCanaries(namespace string, everything bool) *networkingv1.NetworkPolicy {
	p := allowAll(namespace, probe.Source.PolicyName())
	p.Labels = map[string]string{render.LabelManagedBy: render.ManagedBy, probe.LabelRole: string(probe.Source)}
	if !everything {
		p.Spec.Ingress, p.Spec.Egress = nil, nil
	}
	return p
}
