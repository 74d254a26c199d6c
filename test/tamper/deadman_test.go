// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package tamper_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
)

// nodePolicies are what an engine has for nodes of a baseline, and its guard layer, of the same kind.
type nodePolicies struct{ hosts, guard *unstructured.Unstructured }

func renderNodePolicies(t *testing.T, baseline string, hosts render.HostLayer, guard render.GuardLayer) nodePolicies {
	t.Helper()
	objects := render.HostFirewall(hosts, policy.HostFirewall{
		Baseline: baseline, Ports: []int32{6443, 10250}, Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	})
	last := objects[len(objects)-1] // before it, Calico has a tier
	out := nodePolicies{
		hosts: generic(t, last),
		guard: generic(t, render.Guard(guard, policy.Guard{Baseline: baseline, Directions: []policy.Direction{policy.Ingress, policy.Egress}})),
	}
	out.guard.SetGroupVersionKind(last.GetObjectKind().GroupVersionKind())
	return out
}

func generic(t *testing.T, object render.Object) *unstructured.Unstructured {
	t.Helper()
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(text, &u.Object); err != nil {
		t.Fatal(err)
	}
	return u
}

// define has the API server know the kind, without a schema.
func (p nodePolicies) define(t *testing.T, s *site) {
	t.Helper()
	gvk := p.hosts.GroupVersionKind()
	one := strings.ToLower(gvk.Kind)
	crd := &unstructured.Unstructured{}
	err := json.Unmarshal(fmt.Appendf(nil, `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":%q},
"spec":{"group":%q,"scope":"Cluster","names":{"kind":%q,"singular":%q,"plural":%q},"versions":[{"name":%q,"served":true,"storage":true,
"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`,
		plural(one)+"."+gvk.Group, gvk.Group, gvk.Kind, one, plural(one), gvk.Version), &crd.Object)
	if err != nil {
		t.Fatal(err)
	}
	s.create(t, crd)
	s.kubectl(t, "wait", "--for=condition=Established", "crd", crd.GetName(), "--timeout=30s")
}

func plural(one string) string { return strings.TrimSuffix(one, "y") + "ies" }

// place creates one. The kind may not be served yet.
func place(t *testing.T, as client.Client, object *unstructured.Unstructured) {
	t.Helper()
	await(t, object.GetName()+" is there", func(ctx context.Context) error { return as.Create(ctx, object) })
}

// TestDeadMan lets the dead man's account, with the right to change everything, do what it may beside the guard.
//
// Mutation tried: a guard that lets him delete whatever it is.
func TestDeadMan(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.install(t)
	b := newBaseline("pci")
	s.create(t, b)
	c := s.newCell(t, "vault", admin, b)
	engines := []nodePolicies{
		renderNodePolicies(t, b.Name, cilium.Hosts{}, cilium.Guard{}),
		renderNodePolicies(t, b.Name, calico.Hosts{}, calico.Guard{}),
	}
	for _, p := range engines {
		p.define(t, s)
	}
	await(t, "the guard is up", func(ctx context.Context) error {
		return guard.met(s.Delete(ctx, c.deny(), client.DryRunAll))
	})
	c.testDeadMan(guard, engines...)
}

// testDeadMan tries what a guard is to refuse the dead man and an administrator, and then what it is to let pass. The operator is
// stopped meanwhile: it would remove guard layers and policies for nodes that nobody has asked for.
func (c *cell) testDeadMan(guarded outcome, engines ...nodePolicies) {
	c.Helper()
	ctx, man := c.Context(), c.deadMan()
	refuses := func(what string, err error) {
		c.Helper()
		if err := guarded.met(err); err != nil {
			c.Errorf("%s: %v", what, err)
		}
	}
	c.operator.stop(c.T)
	defer c.operator.start(c.T)
	for _, p := range engines {
		place(c.T, c.asOperator(), p.guard)
		place(c.T, c.asOperator(), p.hosts)
		kind := p.hosts.GetKind()
		for who, as := range map[string]client.Client{"the dead man": man, "an administrator": c.mallory} {
			for _, patch := range []string{
				`{"spec":null}`, `{"spec":{"nodeSelector":{"matchLabels":{"app":"none"}},"selector":"app == \"none\""}}`, `{"metadata":{"labels":null}}`,
				`{"metadata":{"finalizers":["example.com/hold"]}}`,
			} {
				refuses(fmt.Sprintf("%s patches a %s for nodes: %s", who, kind, patch),
					as.Patch(ctx, p.hosts.DeepCopy(), client.RawPatch("application/merge-patch+json", []byte(patch))))
			}
			refuses(who+" deletes the guard layer's "+kind, as.Delete(ctx, p.guard, client.DryRunAll))
		}
		refuses("an administrator deletes a "+kind+" for nodes", c.mallory.Delete(ctx, p.hosts, client.DryRunAll))
		forged := p.hosts.DeepCopy()
		forged.SetName("pcinb-forged-hosts")
		forged.SetResourceVersion("")
		refuses("the dead man creates a "+kind+" for nodes", man.Create(ctx, forged, client.DryRunAll))
	}
	refuses("the dead man deletes a deny", man.Delete(ctx, c.deny(), client.DryRunAll))
	refuses("the dead man deletes a coverage",
		man.Delete(ctx, &pcinetv1alpha1.NamespaceCoverage{ObjectMeta: named(c.namespace, c.baseline.Name)}, client.DryRunAll))
	for _, p := range engines {
		if err := c.asOperator().Delete(ctx, p.hosts, client.DryRunAll); err != nil {
			c.Errorf("the operator deletes a %s for nodes: %v", p.hosts.GetKind(), err)
		}
		if err := man.Delete(ctx, p.hosts); err != nil {
			c.Errorf("the dead man deletes a %s for nodes: %v", p.hosts.GetKind(), err)
		}
		if err := c.absent(ctx, p.hosts.DeepCopy()); err != nil {
			c.Error(err)
		}
	}
}

// deadMan returns a client with a token of the account that config/hostfirewall has, and more rights than that gives it.
func (c *cell) deadMan() client.Client {
	c.Helper()
	c.kubectl(c.T, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "hostfirewall"))
	account := &corev1.ServiceAccount{ObjectMeta: named("pci-network-baseline-hosts", "dead-man")}
	c.create(c.T, &rbacv1.ClusterRole{ObjectMeta: named("", "mighty"), Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"cilium.io", "projectcalico.org", "networking.k8s.io", "pcinetwork.dev"}, Resources: []string{"*"}, Verbs: []string{"*"},
	}}})
	c.create(c.T, &rbacv1.ClusterRoleBinding{
		ObjectMeta: named("", "mighty"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "mighty"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
	})
	token := &authenticationv1.TokenRequest{}
	if err := c.SubResource("token").Create(c.Context(), account, token); err != nil {
		c.Fatal(err)
	}
	config := rest.AnonymousClientConfig(c.cluster.Config())
	config.BearerToken = token.Status.Token
	man := c.clientOf(c.T, config)
	await(c.T, "the dead man has his rights", func(ctx context.Context) error { return man.Get(ctx, keyOf(c.deny()), c.deny()) })
	return man
}
