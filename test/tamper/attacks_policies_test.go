// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package tamper_test

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// onDeny is an edit of the deny that the guard refuses everybody.
func onDeny(name string, f func(*networkingv1.NetworkPolicy)) attack {
	return attack{name: name, by: everybody(guard), do: func(c *cell) error {
		live := c.deny()
		return c.edit(live, func() { f(live) })
	}}
}

// onPolicies attacks what denies. Mutation tried: a guard that lets every update pass, or every deletion.
func onPolicies() []attack {
	return []attack{
		{name: "delete the deny", by: everybody(guard), do: func(c *cell) error {
			return c.mallory.Delete(c.Context(), c.deny())
		}},
		{name: "delete the deny, orphaning or in the foreground", by: everybody(guard), do: func(c *cell) error {
			return c.mallory.Delete(c.Context(), c.deny(), client.PropagationPolicy(metav1.DeletePropagationForeground))
		}},
		{name: "delete all policies of the namespace", by: everybody(guard), do: func(c *cell) error {
			return c.mallory.DeleteAllOf(c.Context(), &networkingv1.NetworkPolicy{}, client.InNamespace(c.namespace))
		}},
		{name: "delete an allowance", by: everybody(guard), do: func(c *cell) error {
			return c.mallory.Delete(c.Context(), &networkingv1.NetworkPolicy{ObjectMeta: named(c.namespace, "pcinb-"+c.baseline.Name+"-allow-gateway")})
		}},
		onDeny("narrow the deny's pod selector", func(p *networkingv1.NetworkPolicy) {
			p.Spec.PodSelector.MatchLabels = map[string]string{"app": "nobody"}
		}),
		onDeny("add a rule to the deny", func(p *networkingv1.NetworkPolicy) {
			p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
		}),
		{name: "add a rule with a JSON patch", by: everybody(guard), do: func(c *cell) error {
			return c.mallory.Patch(c.Context(), c.deny(), client.RawPatch("application/json-patch+json",
				[]byte(`[{"op":"add","path":"/spec/egress","value":[{}]}]`)))
		}},
		onDeny("take a direction from the deny", func(p *networkingv1.NetworkPolicy) {
			p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
		}),
		{name: "empty the deny's directions", by: everybody(guard), do: func(c *cell) error {
			return c.patch(c.deny(), `{"spec":{"policyTypes":null}}`)
		}},
		{name: "strip our labels", by: everybody(guard), do: func(c *cell) error {
			return c.patch(c.deny(), `{"metadata":{"labels":null}}`)
		}},
		{name: "strip the label of the manager alone", by: everybody(guard), do: func(c *cell) error {
			return c.patch(c.deny(), `{"metadata":{"labels":{"app.kubernetes.io/managed-by":null}}}`)
		}},
		onDeny("relabel the deny for another baseline", func(p *networkingv1.NetworkPolicy) {
			p.Labels["pcinetwork.dev/baseline"] = "another"
		}),
		onDeny("claim the deny for an application, to have it pruned", func(p *networkingv1.NetworkPolicy) {
			p.Labels["app.kubernetes.io/instance"] = "shop"
		}),
		{name: "give the deny an owner and delete that", by: everybody(guard), do: func(c *cell) error {
			owner := &corev1.ConfigMap{ObjectMeta: named(c.namespace, "owner")}
			c.create(c.T, owner)
			live := c.deny()
			err := c.edit(live, func() {
				live.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
			})
			if err := c.mallory.Delete(c.Context(), owner); err != nil {
				c.Error(err)
			}
			return err
		}},
	}
}

// onOwners attacks who owns the deny, and what stands beside it.
func onOwners() []attack {
	return []attack{
		onDeny("put a finalizer on the deny", func(p *networkingv1.NetworkPolicy) {
			p.Finalizers = []string{"example.com/hold"}
		}),
		{
			name: "empty the deny's managed fields, then apply a rule with force", by: everybody(guard),
			do: func(c *cell) error {
				if err := c.patch(c.deny(), `{"metadata":{"managedFields":[{}]}}`); err != nil {
					return err
				}
				live := &networkingv1.NetworkPolicy{ObjectMeta: named(c.namespace, c.denyName())}
				live.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
				return c.apply(c.Context(), live)
			},
		},
		{name: "create a policy with our labels", by: everybody(guard), do: func(c *cell) error {
			forged := c.deny()
			forged.ObjectMeta = metav1.ObjectMeta{Namespace: c.namespace, Name: "pcinb-" + c.baseline.Name + "-allow-all", Labels: forged.Labels}
			forged.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
			return c.mallory.Create(c.Context(), forged)
		}},
		{
			name: "create a policy beside it that allows everything", by: everybody(reported("*", "DefaultDenyEffective=False/PolicyWidens").also(func(c *cell) {
				if got, err := c.coverage(c.Context(), c.namespace); err != nil || len(got.Status.Widening) == 0 {
					c.Errorf("the coverage does not name it: %v %v", got.Status, err)
				}
			})),
			do: func(c *cell) error { return c.mallory.Create(c.Context(), allowAll(c.namespace, "mine")) },
		},
		{
			name: "take the deny's name before the namespace is in scope",
			by: everybody(reported("*-squat", "Ready=False/NameCollision").also(func(c *cell) {
				p := &networkingv1.NetworkPolicy{ObjectMeta: named(c.namespace+"-squat", "pcinb2-"+c.baseline.Name+"-default-deny")}
				await(c.T, "the deny has its second name", func(ctx context.Context) error { return c.Get(ctx, keyOf(p), p) })
			})),
			do: func(c *cell) error {
				c.createNamespace(c.namespace+"-squat", "")
				err := c.mallory.Create(c.Context(), allowAll(c.namespace+"-squat", c.denyName()))
				c.enter(c.namespace + "-squat")
				return err
			},
		},
	}
}

func allowAll(namespace, name string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: named(namespace, name), Spec: networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress},
		Ingress:     []networkingv1.NetworkPolicyIngressRule{{}}, Egress: []networkingv1.NetworkPolicyEgressRule{{}},
	}}
}

// forgery is a coverage that says what opens the gate.
func (c *cell) forgery(namespace, name string) *pcinetv1alpha1.NamespaceCoverage {
	return &pcinetv1alpha1.NamespaceCoverage{ObjectMeta: named(namespace, name), Status: pcinetv1alpha1.NamespaceCoverageStatus{
		BaselineGeneration: 1, State: pcinetv1alpha1.CoverageProtected, Enforcement: pcinetv1alpha1.EnforcementEnforce, Backend: pcinetv1alpha1.BackendNetworkPolicy,
		Policies: []pcinetv1alpha1.CoveragePolicy{{
			Name: c.denyName(), Resource: "networkpolicies.networking.k8s.io", Role: pcinetv1alpha1.RoleDeny, State: pcinetv1alpha1.PolicyInPlace,
		}},
	}}
}

// onCoverages attacks what the gate reads.
func onCoverages() []attack {
	return []attack{
		{name: "delete a coverage", by: clusterWide(guard), do: func(c *cell) error {
			return c.mallory.Delete(c.Context(), &pcinetv1alpha1.NamespaceCoverage{ObjectMeta: named(c.namespace, c.baseline.Name)})
		}},
		{name: "write into a coverage that its namespace is protected", by: clusterWide(guard), do: func(c *cell) error {
			open := c.unprotectable()
			live := c.forgery(open, c.baseline.Name)
			return c.edit(live, func() { live.Status = c.forgery(open, "").Status })
		}},
		{name: "write it into the status subresource of a coverage", by: clusterWide(outcome{says: "refused: there is none", refusal: "not found"}), do: func(c *cell) error {
			open := c.unprotectable()
			live := c.forgery(open, c.baseline.Name)
			return c.mallory.Status().Patch(c.Context(), live, client.RawPatch("application/merge-patch+json", []byte(`{"status":{"state":"Protected"}}`)))
		}},
		{name: "create a coverage with our labels, before the namespace is in scope", by: clusterWide(guard), do: func(c *cell) error {
			c.createNamespace(c.namespace+"-new", "")
			forged := c.forgery(c.namespace+"-new", c.baseline.Name)
			forged.Labels = c.deny().Labels
			return c.mallory.Create(c.Context(), forged)
		}},
		{
			// Mutation tried: a gate that reads coverages without our labels.
			name: "create one without our labels, and a pod before the operator looks", by: clusterWide(gate), alone: true,
			do: func(c *cell) error {
				open := c.namespace + "-new"
				c.createNamespace(open, "")
				if err := c.mallory.Create(c.Context(), c.forgery(open, c.baseline.Name)); err != nil {
					return err
				}
				c.operator.stop(c.T)
				defer c.operator.start(c.T)
				c.enter(open)
				time.Sleep(time.Second) // for the API server's view of the namespace
				return c.mallory.Create(c.Context(), c.pod(open))
			},
		},
		{
			// Mutation tried: own limits that forbid to delete what has no labels. The namespace was then never looked at to the end.
			name: "create a coverage of a baseline that there is not", by: clusterWide(repaired(5*time.Second, func(c *cell, ctx context.Context) error {
				return c.absent(ctx, &pcinetv1alpha1.NamespaceCoverage{ObjectMeta: named(c.namespace, "ghost")})
			})),
			do: func(c *cell) error {
				err := c.mallory.Create(c.Context(), c.forgery(c.namespace, "ghost"))
				if apierrors.IsForbidden(err) {
					return err
				}
				ns := &corev1.Namespace{ObjectMeta: named("", c.namespace)}
				c.change(c.T, ns, func() { metav1.SetMetaDataLabel(&ns.ObjectMeta, "example.com/touched", "yes") })
				return err
			},
		},
	}
}
