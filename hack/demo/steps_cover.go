// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

const newborn = "gift-cards"

func (s *site) showOpenCluster(ctx context.Context) error {
	if _, err := s.kubectl.show(ctx, "get", "namespaces", "-L", "team,pci-scope", "-l", "team"); err != nil {
		return err
	}
	policies, err := s.kubectl.show(ctx, "get", "networkpolicies", "-A", "--no-headers", "-o", "custom-columns=:.metadata.namespace,:.metadata.name")
	if err != nil {
		return err
	}
	if got := strings.Count(policies, "allow-from-"); got != len(tenants) || strings.Count(policies, "\n") != got {
		return fmt.Errorf("%d policies of the teams were expected and nothing else", len(tenants))
	}
	s.out.fact("%d namespaces, %d rules of the teams, not one default deny", len(tenants), len(tenants))
	return nil
}

func (s *site) showRights(ctx context.Context) error {
	if _, err := s.kubectl.show(ctx, "auth", "whoami", "--kubeconfig", dir+"/"+operatorKubeconfig); err != nil {
		return err
	}
	as := "--as=system:serviceaccount:" + operatorNamespace + ":" + operatorName
	if _, err := s.kubectl.show(ctx, "auth", "can-i", "create", "networkpolicies.networking.k8s.io", "-A", as); err != nil {
		return err
	}
	for _, right := range []string{"get secrets", "create pods", "get nodes/proxy", "* *"} {
		answer, err := s.kubectl.refused(ctx, append([]string{"auth", "can-i"}, append(strings.Fields(right), "-A", as)...)...)
		if err != nil {
			return err
		}
		if !strings.Contains(answer, "no") {
			return fmt.Errorf("no clear answer whether the operator may %s: %s", right, answer)
		}
	}
	s.out.fact("it may write policies, and not read Secrets, start pods of teams or reach through nodes")
	return nil
}

func (s *site) declare(ctx context.Context) error {
	namespaces, err := s.inScope(ctx)
	if err != nil {
		return err
	}
	mark := s.observer.mark()
	if err := s.kubectl.showAll(ctx, "apply --server-side -f config/samples/minimal.yaml"); err != nil {
		return err
	}
	began, err := s.observer.await(ctx, mark, "baseline created", event(watch.Added, theBaseline()))
	if err != nil {
		return err
	}
	last := began.at
	for _, namespace := range namespaces {
		deny, err := s.observer.await(ctx, mark, "a deny in namespace "+namespace, event(watch.Added, denyOf(namespace)))
		if err != nil {
			return err
		}
		if deny.at.After(last) {
			last = deny.at
		}
	}
	if err := s.kubectl.showAll(ctx,
		"wait --for=condition=Ready pcinb/"+baselineName+" --timeout=60s",
		"get pcinb"); err != nil {
		return err
	}
	if err := s.checkDenies(ctx, namespaces); err != nil {
		return err
	}
	s.out.fact("all %d namespaces in scope denied %s after the baseline was created (%d tenants, and default, kube-public, kube-node-lease)",
		len(namespaces), ms(last.Sub(began.at)), len(tenants))
	return s.coveredIs(ctx, len(namespaces), len(namespaces))
}

// coveredIs checks the baseline's own count.
func (s *site) coveredIs(ctx context.Context, protected, selected int) error {
	want := fmt.Sprintf("%d/%d", protected, selected)
	return become(ctx, s, theBaseline(), "covered is "+want, func(b *pcinetv1alpha1.PCINetworkBaseline) bool {
		return b.Status.Covered == want && b.Status.ObservedGeneration == b.Generation
	})
}

func (s *site) showNamespace(ctx context.Context) error {
	names, err := s.kubectl.show(ctx, "-n", "card-vault", "get", "networkpolicies")
	if err != nil {
		return err
	}
	for _, name := range []string{denyName, dnsName, "allow-from-tokenization"} {
		if !strings.Contains(names, name+" ") {
			return fmt.Errorf("namespace card-vault has no NetworkPolicy %s", name)
		}
	}
	deny, err := s.kubectl.show(ctx, "-n", "card-vault", "get", "networkpolicy", denyName, "-o", "jsonpath={.spec}{\"\\n\"}")
	if err != nil {
		return err
	}
	dns, err := s.kubectl.show(ctx, "-n", "card-vault", "get", "networkpolicy", dnsName, "-o", "jsonpath={.spec}{\"\\n\"}")
	if err != nil {
		return err
	}
	if !strings.Contains(dns, "UDP") || !strings.Contains(dns, "TCP") || !strings.Contains(dns, "kube-dns") {
		return fmt.Errorf("the DNS allowance should lead to kube-dns over UDP and TCP: %s", dns)
	}
	if !strings.Contains(deny, `"podSelector":{}`) {
		return fmt.Errorf("the deny should select every pod: %s", deny)
	}
	s.out.fact("every pod is selected, nothing is allowed but DNS over UDP and TCP to kube-dns")
	return nil
}

func (s *site) showCoverage(ctx context.Context) error {
	namespaces, err := s.inScope(ctx)
	if err != nil {
		return err
	}
	table, err := s.kubectl.show(ctx, "get", "pcinb,nscov", "-A")
	if err != nil {
		return err
	}
	if got := strings.Count(table, " Protected "); got != len(namespaces) {
		return fmt.Errorf("%d namespaces are reported as Protected, and should be %d", got, len(namespaces))
	}
	if err := s.kubectl.showAll(ctx, "get pcinb -o wide"); err != nil {
		return err
	}
	b := theBaseline()
	if err := become(ctx, s, b, "compliance is Unknown, because there is no node to send packets", func(b *pcinetv1alpha1.PCINetworkBaseline) bool {
		return has(b, pcinetv1alpha1.ConditionEnforcementProven, metav1.ConditionUnknown, pcinetv1alpha1.ReasonNoNodes) &&
			has(b, pcinetv1alpha1.ConditionCompliant, metav1.ConditionUnknown, pcinetv1alpha1.ReasonRequirementsUnknown)
	}); err != nil {
		return err
	}
	s.out.fact("%d of %d Protected; Compliant is Unknown, because policy objects alone prove nothing", len(namespaces), len(namespaces))
	return nil
}

func (s *site) showPlatform(ctx context.Context) error {
	if _, err := s.kubectl.show(ctx, "get", "pcinb", baselineName, "-o",
		`jsonpath={.status.platform}{"\n"}{.status.conditions[?(@.type=="PolicyEngineSupported")].message}{"\n"}`); err != nil {
		return err
	}
	b := theBaseline()
	if err := become(ctx, s, b, "without nodes the policy engine is not known", func(b *pcinetv1alpha1.PCINetworkBaseline) bool {
		return b.Status.Platform != nil && has(b, pcinetv1alpha1.ConditionPolicyEngineSupported, metav1.ConditionUnknown, pcinetv1alpha1.ReasonNoNodes)
	}); err != nil {
		return err
	}
	p := b.Status.Platform
	if p.Engine != "" || p.BaseCNI != "" {
		return fmt.Errorf("there is no network plugin here, and %q on %q was found", p.Engine, p.BaseCNI)
	}
	s.out.fact("platform %s: PolicyEngineSupported is Unknown, so Compliant cannot be True", p.Provider)
	return nil
}

func (s *site) bear(ctx context.Context) error {
	namespaces, err := s.inScope(ctx)
	if err != nil {
		return err
	}
	mark := s.observer.mark()
	if err := s.kubectl.showAll(ctx, "create namespace "+newborn); err != nil {
		return err
	}
	born, err := s.observer.await(ctx, mark, "namespace created", event(watch.Added, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: newborn}}))
	if err != nil {
		return err
	}
	deny, err := s.observer.await(ctx, mark, "a deny in namespace "+newborn, event(watch.Added, denyOf(newborn)))
	if err != nil {
		return err
	}
	total := len(namespaces) + 1
	if err := s.kubectl.showAll(ctx,
		"-n "+newborn+" get networkpolicies",
		fmt.Sprintf("wait --for=jsonpath={.status.covered}=%d/%d pcinb/%s --timeout=30s", total, total, baselineName),
		"-n "+newborn+" get nscov"); err != nil {
		return err
	}
	if err := s.checkDenies(ctx, append(namespaces, newborn)); err != nil {
		return err
	}
	s.out.fact("denied %s after it was born", ms(max(deny.at.Sub(born.at), 0)))
	return nil
}

// showEvents prints the events of a namespace's coverage, once one has this reason.
func (s *site) showEvents(ctx context.Context, namespace, reason string) error {
	args := []string{"-n", namespace, "events", "--for", "nscov/" + baselineName}
	for deadline := time.Now().Add(eventLimit); ; {
		text, err := s.kubectl.run(ctx, args...)
		if err != nil {
			return err
		}
		if strings.Contains(text, reason) {
			_, err := s.kubectl.show(ctx, args...)
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no event %s in namespace %s: %s", reason, namespace, text)
		}
	}
}
