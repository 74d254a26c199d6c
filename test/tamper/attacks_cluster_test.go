// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package tamper_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// binding returns the binding of a policy of admission for the cell's baseline.
func (c *cell) binding(policy string) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: named("", "pcinb-"+c.baseline.Name+"-"+policy)}
}

// onAdmission attacks what refuses. No ValidatingAdmissionPolicy of the API can guard another.
func onAdmission() []attack {
	bound := func(policy string) outcome {
		return repaired(5*time.Second, func(c *cell, ctx context.Context) error {
			return c.Get(ctx, keyOf(c.binding(policy)), c.binding(policy))
		})
	}
	return []attack{
		{
			name: "delete the guard's binding, then the deny", own: true, opens: 5 * time.Second,
			by: clusterWide(bound("tamper-guard").also(repaired(5*time.Second, (*cell).restored).then)),
			do: func(c *cell) error {
				stop := c.keepDeleting(c.binding("tamper-guard"))
				defer stop()
				if c.role == tenant {
					return c.mallory.Delete(c.Context(), c.binding("tamper-guard"))
				}
				return c.knockOut()
			},
		},
		{
			name: "delete the gate's binding", own: true, by: clusterWide(bound("pod-gate")),
			do: func(c *cell) error { return c.mallory.Delete(c.Context(), c.binding("pod-gate")) },
		},
		{
			name: "make the gate's binding only audit", own: true, by: clusterWide(repaired(5*time.Second, func(c *cell, ctx context.Context) error {
				b := c.binding("pod-gate")
				if err := c.Get(ctx, keyOf(b), b); err != nil {
					return err
				}
				if b.Spec.ValidationActions[0] != admissionregistrationv1.Deny {
					return fmt.Errorf("it is %v", b.Spec.ValidationActions)
				}
				return nil
			})),
			do: func(c *cell) error { return c.patch(c.binding("pod-gate"), `{"spec":{"validationActions":["Audit"]}}`) },
		},
		{
			name: "empty the guard's policy", alone: true, by: clusterWide(repaired(5*time.Second, func(c *cell, ctx context.Context) error {
				p := guardPolicy()
				if err := c.Get(ctx, keyOf(p), p); err != nil {
					return err
				}
				if p.Spec.Validations[0].Expression == "true" {
					return errors.New("it refuses nothing")
				}
				return nil
			})),
			do: func(c *cell) error { return c.patch(guardPolicy(), `{"spec":{"validations":[{"expression":"true"}]}}`) },
		},
		{
			name: "delete the guard's policy", alone: true, by: clusterWide(repaired(5*time.Second, func(c *cell, ctx context.Context) error {
				return c.Get(ctx, keyOf(guardPolicy()), guardPolicy())
			})),
			do: func(c *cell) error { return c.mallory.Delete(c.Context(), guardPolicy()) },
		},
		{
			name: "create an admission policy that refuses the operator", by: clusterWide(reported("*-late", "Ready=False/AdmissionRefused").also((*cell).heldBack)),
			do: func(c *cell) error { return c.refuseTheOperator() },
		},
		{
			name: "create a mutating admission policy that puts a rule into the deny", by: clusterWide(reported("*-late", "Ready=False/AdmissionRefused").also((*cell).heldBack)),
			do: func(c *cell) error { return c.mutate(`[JSONPatch{op: "add", path: "/spec/ingress", value: [{}]}]`) },
		},
		{
			name: "create one that narrows the deny's pod selector", by: clusterWide(reported("*-late", "Ready=False/AdmissionRefused").also((*cell).heldBack)),
			do: func(c *cell) error {
				return c.mutate(`[JSONPatch{op: "add", path: "/spec/podSelector/matchLabels", value: {"app": "nobody"}}]`)
			},
		},
		{
			// Mutation tried: a coverage that is not compared after it was written. Nothing told of this.
			name: "create one that writes into coverages that the namespace is exempt", own: true, by: clusterWide(reported("", "Ready=False/AdmissionRefused")),
			do: func(c *cell) error {
				return c.mutateKind("pcinetwork.dev", "namespacecoverages", "true", `[JSONPatch{op: "replace", path: "/status/state", value: "Exempt"}]`)
			},
		},
	}
}

func guardPolicy() *admissionregistrationv1.ValidatingAdmissionPolicy {
	return &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: named("", "pcinb-tamper-guard")}
}

// keepDeleting deletes an object again and again, until the returned function is called.
func (c *cell) keepDeleting(object client.Object) (stop func()) {
	ctx, cancel := context.WithCancel(c.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			_ = c.mallory.Delete(ctx, object)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	return func() { cancel(); <-done }
}

// late is a namespace that comes into the scope after an admission policy.
func (c *cell) late() string { return c.namespace + "-late" }

// heldBack says that a namespace whose deny cannot be written as it should has no pod either.
func (c *cell) heldBack() {
	c.Helper()
	err := c.Create(c.Context(), c.pod(c.late()))
	if err == nil {
		c.Error("a pod gets in where nothing denies")
	}
}

// policyAndBinding creates a policy of admission with its binding, waits until it is in force, and brings the late namespace into
// the scope.
func (c *cell) policyAndBinding(kind, spec, actions string) error {
	c.Helper()
	c.createNamespace(c.late(), "")
	const object = `{"apiVersion":"admissionregistration.k8s.io/v1","kind":%q,"metadata":{"name":%q},"spec":%s}`
	for _, text := range []string{
		fmt.Sprintf(object, kind, c.late(), spec),
		fmt.Sprintf(object, kind+"Binding", c.late(), fmt.Sprintf(`{"policyName":%q%s}`, c.late(), actions)),
	} {
		u := &unstructured.Unstructured{}
		if err := u.UnmarshalJSON([]byte(text)); err != nil {
			c.Fatal(err)
		}
		if err := c.mallory.Create(c.Context(), u); err != nil {
			return err
		}
		c.Cleanup(func() { _ = c.Delete(context.WithoutCancel(c.Context()), u) })
	}
	time.Sleep(2 * time.Second) // the API server learns of it once a second
	c.enter(c.late())
	return nil
}

// on matches what is written of a kind in the late namespace.
func (c *cell) on(group, resource string) string {
	return fmt.Sprintf(`{"resourceRules":[{"apiGroups":[%q],"apiVersions":["*"],"operations":["CREATE","UPDATE"],"resources":[%q]}],
"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":%q}}}`, group, resource, c.late())
}

func (c *cell) refuseTheOperator() error {
	c.Helper()
	return c.policyAndBinding("ValidatingAdmissionPolicy",
		`{"matchConstraints":`+c.on("networking.k8s.io", "networkpolicies")+`,"validations":[{"expression":"false","message":"not here"}]}`, `,"validationActions":["Deny"]`)
}

// mutate changes every deny of the late namespace.
func (c *cell) mutate(patch string) error {
	c.Helper()
	return c.mutateKind("networking.k8s.io", "networkpolicies", `object.metadata.name.endsWith("-default-deny")`, patch)
}

func (c *cell) mutateKind(group, resource, condition, patch string) error {
	c.Helper()
	return c.policyAndBinding("MutatingAdmissionPolicy", fmt.Sprintf(`{"matchConstraints":%s,"reinvocationPolicy":"IfNeeded","failurePolicy":"Fail",
"matchConditions":[{"name":"mine","expression":%q}],"mutations":[{"patchType":"JSONPatch","jsonPatch":{"expression":%q}}]}`,
		c.on(group, resource), condition, patch), "")
}

// asOperator returns a client that impersonates the operator.
func (c *cell) asOperator() client.Client {
	c.Helper()
	config := c.cluster.Config()
	if c.role != admin {
		var err error
		if config, _, err = c.cluster.ConfigFor(string(c.role)); err != nil {
			c.Fatal(err)
		}
	}
	config.Impersonate = rest.ImpersonationConfig{UserName: operatorUser, Groups: []string{"system:authenticated"}}
	return c.clientOf(c.T, config)
}

// withToken returns a client with a token of the operator's account.
func (c *cell) withToken() (client.Client, error) {
	c.Helper()
	token := &authenticationv1.TokenRequest{}
	account := &corev1.ServiceAccount{ObjectMeta: named(operatorNamespace, "pci-network-baseline")}
	if err := c.mallory.SubResource("token").Create(c.Context(), account, token); err != nil {
		return nil, err
	}
	config := rest.AnonymousClientConfig(c.cluster.Config())
	config.BearerToken = token.Status.Token
	return c.clientOf(c.T, config), nil
}

// onTheAccount acts as the operator, or takes its rights.
func onTheAccount() []attack {
	open := func(c *cell, as client.Client) error {
		live := c.deny()
		live.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
		return as.Update(c.Context(), live)
	}
	impersonation := outcome{says: rbac.says, refusal: "cannot impersonate"}
	escalation := outcome{says: "refused by RBAC", refusal: "attempting to grant RBAC permissions not currently held"}
	return []attack{
		{
			name: "impersonate the operator, and add a rule to the deny", by: map[role]outcome{tenant: impersonation, gitops: impersonation, admin: own},
			do: func(c *cell) error { return open(c, c.asOperator()) },
		},
		{
			name: "impersonate the operator, and delete the deny", opens: 5 * time.Second,
			by: map[role]outcome{tenant: impersonation, gitops: impersonation, admin: repaired(5*time.Second, (*cell).restored)},
			do: func(c *cell) error { return c.asOperator().Delete(c.Context(), c.deny()) },
		},
		{
			name: "get a token of the operator, and add a rule to the deny", by: clusterWide(own),
			do: func(c *cell) error {
				as, err := c.withToken()
				if err != nil {
					return err
				}
				return open(c, as)
			},
		},
		{
			name: "get one, and set the baseline to Audit", own: true, by: clusterWide(outcome{says: own.says, refusal: own.refusal}),
			do: func(c *cell) error {
				as, err := c.withToken()
				if err != nil {
					return err
				}
				return as.Patch(c.Context(), c.baseline, client.RawPatch("application/merge-patch+json", []byte(`{"spec":{"enforcement":"Audit"}}`)))
			},
		},
		{
			name: "bind oneself to more rights", by: map[role]outcome{
				tenant: escalation, gitops: escalation, admin: harmless("it has them already", (*cell).stays),
			},
			do: func(c *cell) error {
				return c.mallory.Create(c.Context(), &rbacv1.RoleBinding{
					ObjectMeta: named(c.namespace, "more"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
					Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: string(c.role)}},
				})
			},
		},
		{
			name: "take away the operator's rights", alone: true, by: clusterWide(reported("*-late", "Ready=False/Forbidden").also((*cell).heldBack)),
			do: func(c *cell) error { return c.takeRights() },
		},
	}
}

// onTheOperator attacks what the operator runs with.
func onTheOperator() []attack {
	return []attack{
		{
			name: "delete the leader's lease", alone: true, by: clusterWide(harmless("no deny waits for it", (*cell).coversMore)),
			do: func(c *cell) error {
				await(c.T, "there is a lease", func(ctx context.Context) error { return c.Get(ctx, keyOf(lease()), lease()) })
				return c.mallory.Delete(c.Context(), lease())
			},
		},
		{
			name: "take the leader's lease for good", alone: true, by: clusterWide(harmless("no deny waits for it", (*cell).coversMore)),
			do: func(c *cell) error { return c.takeLease() },
		},
		{
			name: "stop the operator, then delete the deny", alone: true, by: clusterWide(guard),
			do: func(c *cell) error {
				if c.role == tenant {
					return c.mallory.Delete(c.Context(), &corev1.Pod{ObjectMeta: named(operatorNamespace, "pci-network-baseline")})
				}
				c.operator.stop(c.T)
				defer c.operator.start(c.T)
				return c.mallory.Delete(c.Context(), c.deny())
			},
		},
		{
			name: "stop the operator, delete the guard's binding, then the deny", alone: true, opens: forever,
			by: clusterWide(outcome{says: "**opens** until the operator runs; refused with [static manifests](#static-admission-manifests)", then: func(c *cell) {
				c.Helper()
				c.operator.start(c.T)
				await(c.T, "the deny is back", c.restored)
			}}),
			do: func(c *cell) error {
				if c.role == tenant {
					return c.mallory.Delete(c.Context(), c.binding("tamper-guard"))
				}
				c.operator.stop(c.T)
				if err := c.mallory.Delete(c.Context(), c.binding("tamper-guard")); err != nil {
					return err
				}
				return c.knockOut()
			},
		},
		{
			name: "delete the CRD of the coverages", alone: true, by: clusterWide(harmless("every deny stays, and no pod gets in", func(c *cell) {
				c.Helper()
				c.gone(c.T, crd())
				time.Sleep(time.Second)
				c.deny()
				if err := c.Create(c.Context(), c.pod(c.namespace)); err == nil {
					c.Error("a pod gets in")
				}
				c.installCRDs(c.T)
				c.operator.stop(c.T)
				c.operator.start(c.T)
				c.awaitState(c.namespace, pcinetv1alpha1.CoverageProtected)
			})),
			do: func(c *cell) error { return c.mallory.Delete(c.Context(), crd()) },
		},
	}
}

func lease() *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: named(operatorNamespace, "pci-network-baseline")}
}

func crd() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("apiextensions.k8s.io/v1")
	u.SetKind("CustomResourceDefinition")
	u.SetName("namespacecoverages.pcinetwork.dev")
	return u
}

// coversMore says that a namespace that comes now is denied.
func (c *cell) coversMore() {
	c.Helper()
	c.createNamespace(c.late(), c.baseline.Name)
	c.awaitState(c.late(), pcinetv1alpha1.CoverageProtected)
}

// takeLease takes the lease for an hour, and gives it back when the test ends; meanwhile the operator ends and starts again.
func (c *cell) takeLease() error {
	c.Helper()
	before := c.operator.starts.Load()
	err := within(c.T, time.Second, func(ctx context.Context) error {
		l := lease()
		if err := c.Get(ctx, keyOf(l), l); err != nil {
			return err
		}
		l.Spec.HolderIdentity, l.Spec.LeaseDurationSeconds = new("mallory"), new(int32(3600))
		return c.mallory.Update(ctx, l)
	})
	if err != nil {
		return err
	}
	c.Cleanup(func() { _ = c.Delete(context.WithoutCancel(c.Context()), lease()) })
	await(c.T, "the operator has started again, without the lease", func(context.Context) error {
		if c.operator.starts.Load() == before {
			return errors.New("it has not")
		}
		return nil
	})
	return nil
}

// takeRights lets the operator write no policies, until the test ends.
func (c *cell) takeRights() error {
	c.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: named("", "pci-network-baseline-manager")}
	if err := c.Get(c.Context(), keyOf(role), role); err != nil {
		return err
	}
	whole := role.DeepCopy()
	for i, r := range role.Rules {
		if r.APIGroups[0] == "networking.k8s.io" {
			role.Rules[i].Verbs = []string{"list", "watch"}
		}
	}
	if err := c.mallory.Update(c.Context(), role); err != nil {
		return err
	}
	c.Cleanup(func() {
		whole.ResourceVersion = ""
		if err := c.Update(context.WithoutCancel(c.Context()), whole); err != nil {
			c.Error(err)
		}
	})
	time.Sleep(time.Second) // for the API server's view of the role
	c.createNamespace(c.late(), c.baseline.Name)
	return nil
}
