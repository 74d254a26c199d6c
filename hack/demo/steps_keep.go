// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

const (
	// exemptFor leaves time to look at the exemption before it ends.
	exemptFor = 15 * time.Second
	// stillness is how long nothing must happen under Audit: hundreds of times a repair.
	stillness = 3 * time.Second

	audited = "fraud-scoring"
)

func (s *site) deleteDeny(ctx context.Context) error {
	const namespace = "card-vault"
	said, err := s.kubectl.refused(ctx, "-n", namespace, "delete", "networkpolicy", denyName)
	if err != nil {
		return err
	}
	if !strings.Contains(said, "belongs to PCINetworkBaseline "+baselineName) {
		return fmt.Errorf("the refusal should name the baseline: %s", strings.TrimSpace(said))
	}
	s.out.fact("nobody but the operator may")
	if err := s.dropGuard(ctx, namespace); err != nil {
		return err
	}
	mark := s.observer.mark()
	if err := s.kubectl.showAll(ctx, "-n "+namespace+" delete networkpolicy "+denyName); err != nil {
		return err
	}
	gone, err := s.observer.await(ctx, mark, "the deny deleted", event(watch.Deleted, denyOf(namespace)))
	if err != nil {
		return err
	}
	back, err := s.observer.await(ctx, mark, "the deny of "+namespace+" back", event(watch.Added, denyOf(namespace)))
	if err != nil {
		return err
	}
	if err := s.kubectl.showAll(ctx, "-n "+namespace+" get networkpolicy "+denyName); err != nil {
		return err
	}
	if err := s.showEvents(ctx, namespace, "PolicyRepaired"); err != nil {
		return err
	}
	s.out.fact("gone for %s", ms(back.at.Sub(gone.at)))
	return s.allDenied(ctx)
}

// dropGuard switches the guard off, and returns when the API server knows.
func (s *site) dropGuard(ctx context.Context, namespace string) error {
	if err := s.patchBaseline(ctx, `{"spec":{"admission":{"tamperGuard":"Off"}}}`); err != nil {
		return err
	}
	return s.unguarded(ctx, namespace)
}

// unguarded waits until the operator has followed the baseline, and the API server no longer refuses that its policies be changed.
func (s *site) unguarded(ctx context.Context, namespace string) error {
	b := theBaseline()
	if err := s.client.Get(ctx, client.ObjectKeyFromObject(b), b); err != nil {
		return err
	}
	return become(ctx, s, coverageOf(namespace), "the guard is off", func(c *pcinetv1alpha1.NamespaceCoverage) bool {
		deny := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: denyName}}
		return c.Status.BaselineGeneration == b.Generation && s.client.Delete(ctx, deny, client.DryRunAll) == nil
	})
}

// allDenied checks on the API server that every namespace in scope has its deny.
func (s *site) allDenied(ctx context.Context) error {
	namespaces, err := s.inScope(ctx)
	if err != nil {
		return err
	}
	return s.checkDenies(ctx, namespaces)
}

func (s *site) smuggle(ctx context.Context) error {
	const namespace = "payments-api"
	mark := s.observer.mark()
	if _, err := s.kubectl.show(ctx, "-n", namespace, "patch", "networkpolicy", denyName, "--type=merge", "-p", `{"spec":{"ingress":[{}]}}`); err != nil {
		return err
	}
	change := event(watch.Modified, denyOf(namespace))
	opened, err := s.observer.await(ctx, mark, "the allow-all in the deny", where(change, true))
	if err != nil {
		return err
	}
	closed, err := s.observer.await(ctx, mark, "the deny of "+namespace+" denying again", func(seen sighting) bool {
		return where(change, false)(seen) && seen.at.After(opened.at)
	})
	if err != nil {
		return err
	}
	spec, err := s.kubectl.show(ctx, "-n", namespace, "get", "networkpolicy", denyName, "-o", `jsonpath={.spec}{"\n"}`)
	if err != nil {
		return err
	}
	if strings.Contains(spec, `"ingress"`) {
		return fmt.Errorf("the allow-all is still there: %s", spec)
	}
	if err := s.showEvents(ctx, namespace, "PolicyRepaired"); err != nil {
		return err
	}
	s.out.fact("open for %s; the event names the field and who changed it", ms(closed.at.Sub(opened.at)))
	if err := s.patchBaseline(ctx, `{"spec":{"admission":{"tamperGuard":"Enforce"}}}`); err != nil {
		return err
	}
	return s.allDenied(ctx)
}

func (s *site) exempt(ctx context.Context) error {
	const namespace = "legacy-batch"
	mark := s.observer.mark()
	expires := time.Now().Add(exemptFor).Truncate(time.Second)
	exemption := fmt.Sprintf(`{"namespaces":["%s"],"reason":"Dynamic ports until it is replaced","approvedBy":"ciso@example.com","expiresAt":"%s","ticket":"RISK-311"}`,
		namespace, expires.UTC().Format(time.RFC3339))
	if err := s.patchBaseline(ctx, `{"spec":{"exemptions":[`+exemption+`]}}`); err != nil {
		return err
	}
	removed, err := s.observer.await(ctx, mark, "the deny of "+namespace+" removed", event(watch.Deleted, denyOf(namespace)))
	if err != nil {
		return err
	}
	if !removed.at.Before(expires) {
		return fmt.Errorf("the deny was removed at %s, after the exemption had expired", removed.at)
	}
	if err := become(ctx, s, coverageOf(namespace), "its coverage is Exempt", func(c *pcinetv1alpha1.NamespaceCoverage) bool {
		return c.Status.State == pcinetv1alpha1.CoverageExempt
	}); err != nil {
		return err
	}
	if err := s.kubectl.showAll(ctx, "-n "+namespace+" get networkpolicies", "-n "+namespace+" get nscov -o wide", "get pcinb"); err != nil {
		return err
	}
	s.out.line("\n  waiting for %s, when the exemption ends; nobody touches anything", expires.UTC().Format(time.RFC3339))
	back, err := s.observer.await(ctx, mark, "the deny of "+namespace+" back when the exemption expired", event(watch.Added, denyOf(namespace)))
	if err != nil {
		return err
	}
	if back.at.Before(expires) {
		return fmt.Errorf("the deny came back at %s, before the exemption expired", back.at)
	}
	if err := become(ctx, s, theBaseline(), "ExemptionsCurrent is False, ExemptionExpired", func(b *pcinetv1alpha1.PCINetworkBaseline) bool {
		return has(b, pcinetv1alpha1.ConditionExemptionsCurrent, metav1.ConditionFalse, pcinetv1alpha1.ReasonExemptionExpired)
	}); err != nil {
		return err
	}
	if err := s.kubectl.showAll(ctx, "-n "+namespace+" get networkpolicies"); err != nil {
		return err
	}
	if _, err := s.kubectl.show(ctx, "get", "pcinb", baselineName, "-o",
		`jsonpath={.status.conditions[?(@.type=="ExemptionsCurrent")].message}{"\n"}`); err != nil {
		return err
	}
	s.out.fact("denied again %s after the exemption expired", ms(back.at.Sub(expires)))
	s.out.line("\n  The expired entry is reported until somebody removes it:")
	if err := s.patchBaseline(ctx, `{"spec":{"exemptions":null}}`); err != nil {
		return err
	}
	if err := s.kubectl.showAll(ctx, "wait --for=condition=ExemptionsCurrent pcinb/"+baselineName+" --timeout=30s"); err != nil {
		return err
	}
	return s.allDenied(ctx)
}

func (s *site) patchBaseline(ctx context.Context, patch string) error {
	_, err := s.kubectl.show(ctx, "patch", "pcinb", baselineName, "--type=merge", "-p", patch)
	return err
}

func (s *site) audit(ctx context.Context) error {
	namespaces, err := s.inScope(ctx)
	if err != nil {
		return err
	}
	mark := s.observer.mark()
	if err := s.beginAudit(ctx, namespaces); err != nil {
		return err
	}
	if err := s.kubectl.showAll(ctx, "-n "+audited+" delete networkpolicy "+denyName); err != nil {
		return err
	}
	if err := become(ctx, s, coverageOf(audited), "its coverage is Pending", func(c *pcinetv1alpha1.NamespaceCoverage) bool {
		return c.Status.State == pcinetv1alpha1.CoveragePending
	}); err != nil {
		return err
	}
	if err := s.coveredIs(ctx, len(namespaces)-1, len(namespaces)); err != nil {
		return err
	}
	if err := s.kubectl.showAll(ctx, "-n "+audited+" get networkpolicies", "-n "+audited+" get nscov -o wide", "get pcinb -o wide"); err != nil {
		return err
	}
	select {
	case <-time.After(stillness):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	seen, _, err := s.observer.since(mark)
	for _, e := range seen {
		if p, ok := e.object.(*networkingv1.NetworkPolicy); ok && e.event != watch.Deleted {
			return fmt.Errorf("under Audit, NetworkPolicy %s/%s was written", p.Namespace, p.Name)
		}
	}
	s.out.fact("the deletion is reported, and for %.0f s nothing was written", stillness.Seconds())
	return err
}

// beginAudit switches to Audit, and returns when the operator and the API server have followed.
func (s *site) beginAudit(ctx context.Context, namespaces []string) error {
	if err := s.patchBaseline(ctx, `{"spec":{"enforcement":"Audit"}}`); err != nil {
		return err
	}
	if err := s.kubectl.showAll(ctx, "wait --for=condition=Ready=false pcinb/"+baselineName+" --timeout=30s"); err != nil {
		return err
	}
	if err := s.coveredIs(ctx, len(namespaces), len(namespaces)); err != nil {
		return err
	}
	if err := s.checkDenies(ctx, namespaces); err != nil {
		return err
	}
	s.out.fact("every policy is still there")
	return s.unguarded(ctx, audited)
}

func (s *site) enforce(ctx context.Context) error {
	mark := s.observer.mark()
	if err := s.patchBaseline(ctx, `{"spec":{"enforcement":"Enforce"}}`); err != nil {
		return err
	}
	asked, err := s.observer.await(ctx, mark, "the baseline changed", func(e sighting) bool {
		b, ok := e.object.(*pcinetv1alpha1.PCINetworkBaseline)
		return ok && b.Spec.Enforcement == pcinetv1alpha1.EnforcementEnforce
	})
	if err != nil {
		return err
	}
	back, err := s.observer.await(ctx, mark, "the deny of "+audited+" back", event(watch.Added, denyOf(audited)))
	if err != nil {
		return err
	}
	if err := s.kubectl.showAll(ctx, "wait --for=condition=Ready pcinb/"+baselineName+" --timeout=60s", "get pcinb"); err != nil {
		return err
	}
	s.out.fact("repaired %s after enforcement was back", ms(max(back.at.Sub(asked.at), 0)))
	return s.allDenied(ctx)
}

func (s *site) refuse(ctx context.Context) error {
	before := theBaseline()
	if err := s.client.Get(ctx, client.ObjectKeyFromObject(before), before); err != nil {
		return err
	}
	said, err := s.kubectl.refused(ctx, "apply", "--server-side", "-f", "hack/demo/manifests/refused.yaml")
	if err != nil {
		return err
	}
	for _, want := range []string{"is invalid", "spec.allow.rules[0].justification", "cidr: ", "expiresAt must lie between"} {
		if !strings.Contains(said, want) {
			return fmt.Errorf("the refusal should speak of %q: %s", want, strings.TrimSpace(said))
		}
	}
	after := theBaseline()
	if err := s.client.Get(ctx, client.ObjectKeyFromObject(after), after); err != nil {
		return err
	}
	if after.Generation != before.Generation {
		return fmt.Errorf("the spec changed from generation %d to %d", before.Generation, after.Generation)
	}
	s.out.fact("nothing changed")
	return s.allDenied(ctx)
}

func (s *site) showRecord(ctx context.Context) error {
	if err := s.kubectl.showAll(ctx, "wait --for=condition=Ready pcinb/"+baselineName+" --timeout=60s",
		"-n default events --for pcinb/"+baselineName); err != nil {
		return err
	}
	events, err := s.kubectl.show(ctx, "get", "events", "-A", "--field-selector", "involvedObject.kind=NamespaceCoverage",
		"-o", "custom-columns=NAMESPACE:.metadata.namespace,REASON:.reason,NOTE:.message")
	if err != nil {
		return err
	}
	for _, want := range []string{"PolicyRepaired", "Exempt", "ExemptionExpired"} {
		if !strings.Contains(events, want) {
			return fmt.Errorf("there should be an event %s", want)
		}
	}
	seen, _, err := s.observer.since(0)
	if err != nil {
		return err
	}
	for _, e := range seen {
		if p, ok := e.object.(*networkingv1.NetworkPolicy); ok && e.event != watch.Added && strings.HasPrefix(p.Name, "allow-from-") {
			return fmt.Errorf("the team's own NetworkPolicy %s/%s was touched", p.Namespace, p.Name)
		}
	}
	s.out.fact("all of it is on record, and no team's own rule was ever touched")
	return s.allDenied(ctx)
}
