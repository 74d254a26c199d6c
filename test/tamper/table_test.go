// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package tamper_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// attack is something to try.
type attack struct {
	// name is what the table says of it.
	name string
	// do tries it, and returns the API server's answer.
	do func(*cell) error
	// by says what comes of it.
	by map[role]outcome
	// opens is how long at worst the namespace is without a deny; forever where that is what was asked for.
	opens time.Duration
	// own: on a baseline of its own. alone: nothing else runs meanwhile, because all namespaces share what it is about.
	own, alone bool
}

const forever = time.Hour

// outcome is what comes of an attack.
type outcome struct {
	// says is what the table says.
	says string
	// refusal is in the API server's answer; "" when the request passes.
	refusal string
	// then looks at what came of it.
	then func(*cell)
}

func everybody(o outcome) map[role]outcome {
	return map[role]outcome{tenant: o, gitops: o, admin: o}
}

// clusterWide is for what a tenant's role does not allow.
func clusterWide(o outcome) map[role]outcome {
	return map[role]outcome{tenant: rbac, gitops: o, admin: o}
}

var (
	rbac  = outcome{says: "refused by RBAC", refusal: `User "tenant" cannot `}
	guard = refusedBy("pcinb-tamper-guard", "the guard")
	gate  = refusedBy("pcinb-pod-gate", "the gate")
	own   = refusedBy("pcinb-own-limits", "the operator's own limits")
)

// refusedBy wants the refusal of a policy, or of one whose name begins so.
func refusedBy(policy, name string) outcome {
	return outcome{says: "refused by " + name, refusal: "ValidatingAdmissionPolicy '" + policy}
}

func repaired(limit time.Duration, check func(*cell, context.Context) error) outcome {
	return outcome{says: fmt.Sprintf("repaired within %s", limit), then: func(c *cell) {
		c.Helper()
		if err := within(c.T, limit, func(ctx context.Context) error { return check(c, ctx) }); err != nil {
			c.Errorf("it is not repaired within %s: %v", limit, err)
		}
	}}
}

// reported wants a report of the baseline, of the coverage of the cell's namespace, or of one that begins so.
func reported(of, what string) outcome {
	return outcome{says: "reported: " + what, then: func(c *cell) {
		c.Helper()
		c.reports(strings.ReplaceAll(of, "*", c.namespace), what)
	}}
}

func harmless(why string, then func(*cell)) outcome {
	return outcome{says: "harmless: " + why, then: then}
}

// met returns an error unless the API server's answer is what the outcome says.
func (o outcome) met(err error) error {
	switch {
	case o.refusal == "":
		return err
	case err == nil:
		return fmt.Errorf("it passes; want a refusal with %q", o.refusal)
	case !strings.Contains(err.Error(), o.refusal):
		return fmt.Errorf("the refusal lacks %q: %w", o.refusal, err)
	}
	return nil
}

// also looks at more.
func (o outcome) also(then func(*cell)) outcome {
	first := o.then
	o.then = func(c *cell) {
		c.Helper()
		if first != nil {
			first(c)
		}
		then(c)
	}
	return o
}

// TestAttacks is the table.
func TestAttacks(t *testing.T) { //nolint:tparallel // what all namespaces share is attacked alone, after the rest
	t.Parallel()
	s := newSite(t)
	s.install(t)
	s.grant(t)
	shared := newBaseline("pci")
	s.create(t, shared)
	s.awaitAdmission(t, shared)
	attacks := slices.Concat(
		onPolicies(), onOwners(), onCoverages(), onNamespaces(), onSpecs(), onBaselines(), onPods(), onAdmission(), onTheAccount(), onCanaries(), onTheOperator())
	t.Run("each", func(t *testing.T) {
		for i, a := range attacks {
			for _, r := range roles {
				if a.alone {
					continue
				}
				t.Run(a.name+"/"+string(r), func(t *testing.T) {
					t.Parallel()
					s.try(t, fmt.Sprintf("%s-%d", r, i), r, a, shared)
				})
			}
		}
	})
	for i, a := range attacks {
		for _, r := range roles {
			if a.alone {
				t.Run(a.name+"/"+string(r), func(t *testing.T) { s.try(t, fmt.Sprintf("%s-%d", r, i), r, a, shared) })
			}
		}
	}
	compare(t, attacks)
}

// try runs one cell of the table.
func (s *site) try(t *testing.T, id string, r role, a attack, shared *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	want, ok := a.by[r]
	if !ok {
		t.Fatal("nothing says what comes of it")
	}
	if a.own {
		shared = nil
	}
	c := s.newCell(t, id, r, shared)
	if err := want.met(a.do(c)); err != nil {
		t.Fatal(err)
	}
	if want.then != nil {
		want.then(c)
	}
	opens := a.opens
	if want.refusal != "" {
		opens = 0
	}
	switch longest, gaps := c.openFor(); {
	case longest > opens || gaps > 0 && opens == 0:
		t.Errorf("nothing denied %d times, for up to %s; want at most %s", gaps, longest, opens)
	case gaps > 0 && opens < forever:
		t.Logf("nothing denied %d times, for up to %s", gaps, longest)
	}
}

// grant gives the roles what they may do.
func (s *site) grant(t *testing.T) {
	t.Helper()
	s.create(t, &rbacv1.ClusterRole{ObjectMeta: named("", "gitops"), Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"*"}, Resources: []string{"*"},
		Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
	}}})
	s.create(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: named("", "gitops"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "gitops"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: string(gitops)}},
	})
}

// mallory returns a client in a role.
func (s *site) mallory(t *testing.T, r role) client.WithWatch {
	t.Helper()
	if r == admin {
		return s.WithWatch
	}
	return s.as(t, string(r))
}

// awaitAdmission waits until the API server refuses what it should for a baseline: it learns of policies with a delay.
func (s *site) awaitAdmission(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	c := s.newCell(t, b.Name+"-probe", admin, b)
	open := c.unprotectable()
	for _, ready := range []struct {
		o  outcome
		do func(context.Context) error
	}{
		{guard, func(ctx context.Context) error { return c.Delete(ctx, c.deny(), client.DryRunAll) }},
		{gate, func(ctx context.Context) error { return c.Create(ctx, c.pod(open), client.DryRunAll) }},
	} {
		await(t, ready.o.says, func(ctx context.Context) error {
			return ready.o.met(ready.do(ctx))
		})
	}
}

// compare compares the table with the file from which docs/security.md has it.
func compare(t *testing.T, attacks []attack) {
	t.Helper()
	var out strings.Builder
	out.WriteString("| Attack | Tenant | GitOps controller | Cluster administrator |\n|---|---|---|---|\n")
	for _, a := range attacks {
		fmt.Fprintf(&out, "| %s |", a.name)
		for _, r := range roles {
			fmt.Fprintf(&out, " %s |", a.by[r].says)
		}
		out.WriteString("\n")
	}
	file := filepath.Join("testdata", "attacks.md")
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || string(want) != out.String() {
		t.Errorf("%s differs (%v): go test ./test/tamper -run TestAttacks -update, then make docs", file, err)
	}
	t.Logf("attacks: %d, in %d roles\n%s", len(attacks), len(roles), out.String())
}

// absent returns an error unless an object is not there.
func (c *cell) absent(ctx context.Context, object client.Object) error {
	err := c.Get(ctx, keyOf(object), object)
	if err == nil {
		return fmt.Errorf("%s is there", object.GetName())
	}
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
