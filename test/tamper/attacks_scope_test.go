// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package tamper_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// onNamespaces attacks what says that a namespace is in scope.
func onNamespaces() []attack {
	label := func(c *cell, labels string) error {
		return c.patch(&corev1.Namespace{ObjectMeta: named("", c.namespace)}, `{"metadata":{"labels":`+labels+`}}`)
	}
	return []attack{
		{
			name: "change the label by which the baseline selects the namespace", opens: forever,
			by: clusterWide(reported("*", "event PoliciesRemoved")),
			do: func(c *cell) error { return label(c, `{"`+groupLabel+`":"other"}`) },
		},
		{
			name: "label the namespace as exempt, or with the name of a system namespace",
			by:   clusterWide(harmless("names decide, and the API server keeps the label of the name", (*cell).stays)),
			do: func(c *cell) error {
				return label(c, `{"pcinetwork.dev/exempt":"true","pcinetwork.dev/system":"true","kubernetes.io/metadata.name":"kube-system"}`)
			},
		},
		{
			name: "leave no room for policies with a quota", by: clusterWide(reported("*-full", "Ready=False/QuotaExceeded").also(func(c *cell) {
				if err := c.Create(c.Context(), c.pod(c.namespace+"-full")); err == nil {
					c.Error("a pod gets in meanwhile")
				}
			})),
			do: func(c *cell) error {
				c.createNamespace(c.namespace+"-full", "")
				if err := c.mallory.Create(c.Context(), c.quota(c.namespace+"-full")); err != nil {
					return err
				}
				c.awaitQuota(c.namespace + "-full")
				c.enter(c.namespace + "-full")
				return nil
			},
		},
		{
			name: "delete the namespace, hold a pod in it, and delete the deny", by: clusterWide(guard.also((*cell).release)),
			do: func(c *cell) error {
				held := c.pod(c.namespace)
				held.Name, held.Finalizers = "held", []string{"example.com/hold"}
				ns := &corev1.Namespace{ObjectMeta: named("", c.namespace)}
				if c.role == tenant { // only the deletion is of interest
					return c.mallory.Delete(c.Context(), ns)
				}
				c.create(c.T, held)
				if err := c.mallory.Delete(c.Context(), ns); err != nil {
					return err
				}
				await(c.T, "the namespace controller has been there", func(ctx context.Context) error {
					err := c.Get(ctx, keyOf(held), held)
					if err == nil && held.DeletionTimestamp.IsZero() {
						err = errors.New("the pod is not being deleted")
					}
					return err
				})
				return c.mallory.Delete(c.Context(), c.deny())
			},
		},
	}
}

// stays looks for a second whether the namespace stays protected.
func (c *cell) stays() {
	c.Helper()
	time.Sleep(time.Second)
	c.awaitState(c.namespace, pcinetv1alpha1.CoverageProtected)
}

// release lets the held pod go, after the deny has outlived it, and waits for the end of the namespace.
func (c *cell) release() {
	c.Helper()
	if longest, gaps := c.openFor(); gaps > 0 {
		c.Errorf("nothing denied for %s while a pod was there", longest)
	}
	held := &corev1.Pod{ObjectMeta: named(c.namespace, "held")}
	c.change(c.T, held, func() { held.Finalizers = nil })
	c.gone(c.T, &corev1.Namespace{ObjectMeta: named("", c.namespace)})
	c.watched = nil
}

// spec changes the spec of the baseline.
func (c *cell) spec(patch string) error { return c.patch(c.baseline, `{"spec":`+patch+`}`) }

// onSpecs attacks what says what is to be. Whoever may change a baseline decides that; here it has to be seen.
func onSpecs() []attack {
	return []attack{
		{
			name: "set the baseline to Audit", own: true, by: clusterWide(reported("", "Ready=False/AuditMode")),
			do: func(c *cell) error { return c.spec(`{"enforcement":"Audit"}`) },
		},
		{
			name: "exclude the namespace", own: true, opens: forever, by: clusterWide(reported("*", "event PoliciesRemoved")),
			do: func(c *cell) error { return c.spec(`{"namespaces":{"exclude":["` + c.namespace + `"]}}`) },
		},
		{
			name: "exempt the namespace", own: true, opens: forever, by: clusterWide(reported("*", "Ready=False/Exempt")),
			do: func(c *cell) error {
				return c.spec(`{"exemptions":[{"namespaces":["` + c.namespace + `"],"reason":"none","approvedBy":"mallory","expiresAt":"` + in(time.Hour) + `"}]}`)
			},
		},
		{
			name: "deny one direction only", own: true, opens: forever, by: clusterWide(reported("*", "DefaultDenyEffective=False/DirectionNotDenied")),
			do: func(c *cell) error { return c.spec(`{"directions":["Ingress"],"allow":{"rules":null}}`) },
		},
		{
			name: "turn guard and gate off, and delete the deny", own: true, opens: 5 * time.Second, by: clusterWide(repaired(5*time.Second, (*cell).restored)),
			do: func(c *cell) error {
				if err := c.spec(`{"admission":{"podGate":"Off","tamperGuard":"Off"}}`); err != nil {
					return err
				}
				return c.knockOut()
			},
		},
	}
}

// onBaselines attacks baselines as a whole, and what else there is to them.
func onBaselines() []attack {
	return []attack{
		{
			name: "delete the baseline", own: true, by: clusterWide(harmless("every deny stays, unless the baseline says deletionPolicy: Delete", func(c *cell) {
				c.gone(c.T, c.baseline)
				time.Sleep(time.Second)
				c.deny()
			})),
			do: func(c *cell) error { return c.mallory.Delete(c.Context(), c.baseline) },
		},
		{
			name: "delete the baseline with its policies", own: true, opens: forever, by: clusterWide(reported("*", "event PoliciesRemoved")),
			do: func(c *cell) error {
				if err := c.spec(`{"deletionPolicy":"Delete"}`); err != nil {
					return err
				}
				await(c.T, "the operator has noticed", func(ctx context.Context) error {
					if err := c.Get(ctx, keyOf(c.baseline), c.baseline); err != nil {
						return err
					}
					if len(c.baseline.Finalizers) == 0 {
						return errors.New("it has not")
					}
					return nil
				})
				return c.mallory.Delete(c.Context(), c.baseline)
			},
		},
		{
			name: "create a second baseline that only audits", by: clusterWide(harmless("baselines add up", (*cell).stays)),
			do: func(c *cell) error {
				second := newBaseline(c.namespace + "-second")
				second.Spec.Namespaces.Selector = c.baseline.Spec.Namespaces.Selector.DeepCopy()
				second.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit
				c.Cleanup(func() { _ = c.Delete(context.WithoutCancel(c.Context()), second) })
				return c.mallory.Create(c.Context(), second)
			},
		},
		{
			name: "write Ready into the status of the baseline", own: true,
			by: clusterWide(repaired(10*time.Second, func(c *cell, ctx context.Context) error {
				b := &pcinetv1alpha1.PCINetworkBaseline{}
				if err := c.Get(ctx, keyOf(c.baseline), b); err != nil {
					return err
				}
				return hasCondition(b.Status.Conditions, "Ready=False/AuditMode")
			})),
			do: func(c *cell) error {
				c.change(c.T, c.baseline, func() { c.baseline.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit })
				c.reports("", "Ready=False/AuditMode")
				return within(c.T, time.Second, func(ctx context.Context) error {
					b := &pcinetv1alpha1.PCINetworkBaseline{}
					if err := c.Get(ctx, keyOf(c.baseline), b); err != nil {
						return err
					}
					for i := range b.Status.Conditions {
						b.Status.Conditions[i].Status = metav1.ConditionTrue
					}
					return c.mallory.Status().Update(ctx, b)
				})
			},
		},
		{
			name: "break the glass", own: true, by: clusterWide(reported("", "Ready=False/BreakGlass").also(func(c *cell) { c.reports("default", "event BreakGlassOpened") })),
			do: func(c *cell) error {
				return c.patch(c.baseline, `{"metadata":{"annotations":{"pcinetwork.dev/break-glass":"`+in(time.Minute)+` none"}}}`)
			},
		},
		{
			name: "break the glass for a day", own: true, by: clusterWide(reported("default", "event BreakGlassIgnored")),
			do: func(c *cell) error {
				return c.patch(c.baseline, `{"metadata":{"annotations":{"pcinetwork.dev/break-glass":"`+in(24*time.Hour)+` none"}}}`)
			},
		},
	}
}

// in is a time from now, as an object has it.
func in(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }

// knockOut deletes the deny as soon as nothing refuses it.
func (c *cell) knockOut() error {
	c.Helper()
	return within(c.T, 10*time.Second, func(ctx context.Context) error { return c.mallory.Delete(ctx, c.deny()) })
}

// restored says whether the deny is there and denies.
func (c *cell) restored(ctx context.Context) error {
	p := c.deny()
	if !denies(p) {
		return fmt.Errorf("it is %v", p.Spec)
	}
	return ctx.Err()
}

// onPods tries to run pods that no deny holds.
func onPods() []attack {
	create := func(change func(*corev1.Pod)) func(*cell) error {
		return func(c *cell) error {
			p := c.pod(c.unprotectable())
			change(p)
			return c.mallory.Create(c.Context(), p)
		}
	}
	return []attack{
		{name: "create a pod before its namespace is denied", by: everybody(gate), do: create(func(*corev1.Pod) {})},
		{name: "create it on a node, past the scheduler", by: everybody(gate), do: create(func(p *corev1.Pod) { p.Spec.NodeName = "node-1" })},
		{name: "create it as a kubelet's mirror pod", by: everybody(gate), do: create(func(p *corev1.Pod) {
			p.Spec.NodeName, p.Annotations = "node-1", map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			p.Spec.AutomountServiceAccountToken = new(false)
		})},
		{name: "create it in the host's network", by: everybody(gate), do: create(func(p *corev1.Pod) { p.Spec.HostNetwork = true })},
		{
			name: "create a pod of the host's network in a protected namespace",
			by: everybody(outcome{says: "reported: status.uncoveredPods", then: func(c *cell) {
				await(c.T, "the coverage lists it", func(ctx context.Context) error {
					got, err := c.coverage(ctx, c.namespace)
					if err == nil && got.Status.UncoveredPods.Count != 1 {
						err = errors.New("it does not")
					}
					return err
				})
			}}),
			do: func(c *cell) error {
				p := c.pod(c.namespace)
				p.Spec.HostNetwork = true
				return c.mallory.Create(c.Context(), p)
			},
		},
		{
			name: "bind a pod to a node oneself", by: clusterWide(harmless("a pod that is there has passed the gate", (*cell).stays)),
			do: func(c *cell) error {
				p := c.running()
				return c.mallory.SubResource("binding").Create(c.Context(), p, &corev1.Binding{
					ObjectMeta: named(c.namespace, p.Name), Target: corev1.ObjectReference{Kind: "Node", Name: "node-1"},
				})
			},
		},
		{
			name: "put an ephemeral container into a pod", by: clusterWide(harmless("it is in the pod's network, and the deny holds for that", (*cell).stays)),
			do: func(c *cell) error {
				p := c.running()
				p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
					Name: "debug", Image: "debug", ImagePullPolicy: corev1.PullAlways, TerminationMessagePolicy: corev1.TerminationMessageReadFile,
				}}}
				return c.mallory.SubResource("ephemeralcontainers").Update(c.Context(), p)
			},
		},
		{
			name: "relabel a pod", by: everybody(harmless("the deny selects every pod; whoever labels pods chooses among the allowances", (*cell).stays)),
			do: func(c *cell) error {
				return c.patch(c.running(), `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"pci-network-baseline","app":"nobody"}}}`)
			},
		},
	}
}

// running creates a pod in the protected namespace.
func (c *cell) running() *corev1.Pod {
	c.Helper()
	p := c.pod(c.namespace)
	if err := c.Create(c.Context(), p, client.FieldOwner("test")); err != nil {
		c.Fatal(err)
	}
	return p
}
