// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// step shows one thing, and returns an error if it was not so.
type step struct {
	title string
	about string
	run   func(context.Context) error
}

func (s *site) steps() []step {
	return []step{
		{
			"a cluster with no default deny",
			"Twenty namespaces of a payment company. The teams have written narrow rules of their own, but a pod that no rule " +
				"selects talks to everybody. (There are no nodes: objects are real, pods stay Pending, and the endpoints of " +
				"kube-dns are made up.)",
			s.showOpenCluster,
		},
		{
			"the operator is no administrator",
			"It runs with the ServiceAccount and the roles of config/rbac and config/probe. It writes policies; it reads no Secrets, " +
				"and starts no pods but those that test the deny, in their own namespace.",
			s.showRights,
		},
		{
			"declare the baseline",
			"One object, as it would stand in Git, makes every namespace but the system ones deny both directions.",
			s.declare,
		},
		{
			"what a namespace got",
			"A deny for every pod and one hole, to the cluster's DNS servers. The team's own rule stays, and adds to them.",
			s.showNamespace,
		},
		{
			"am I covered?",
			"A baseline sums up; one NamespaceCoverage in each namespace has the detail. What this version cannot know it calls Unknown.",
			s.showCoverage,
		},
		{
			"who enforces it?",
			"A policy object denies nothing by itself: the network plugin does. The operator tells it from the API, and whether a " +
				"setting switches it off. This cluster has no nodes, so the honest answer is that it does not know. (With Flannel alone " +
				"Ready would be False.)",
			s.showPlatform,
		},
		{
			"a namespace is born",
			"A team creates a namespace and does nothing about policies. The time is from the namespace's event to the deny's, on a watch.",
			s.bear,
		},
		{
			"somebody deletes a deny",
			"An administrator deletes the deny of the card vault. The API server refuses. With the guard off it comes back at once, and an event says so.",
			s.deleteDeny,
		},
		{
			"somebody smuggles an allow-all into a deny",
			"The policy keeps its name and looks harmless in a list, but now lets everybody in. Re-applying a manifest without " +
				"rules would not even notice; the operator compares the whole spec.",
			s.smuggle,
		},
		{
			"an exemption, with an end",
			"The nightly batch cannot be denied yet. The exemption names who approved it and when it ends; at that moment the " +
				"namespace is denied again, and nobody has to remember.",
			s.exempt,
		},
		{
			"Audit: look, do not touch",
			"Under Audit the operator writes nothing. Policies stay, and what somebody breaks is reported instead of repaired.",
			s.audit,
		},
		{
			"back to Enforce",
			"What was broken under Audit is repaired as soon as enforcement is back.",
			s.enforce,
		},
		{
			"a wrong baseline is refused",
			"The API server checks the spec before anything acts on it, and says which field is wrong and what to do.",
			s.refuse,
		},
		{
			"the record",
			"What a pipeline waits for, and what happened here, from the API.",
			s.showRecord,
		},
	}
}

// tell runs the steps up to the first that does not show what it should.
func (s *site) tell(ctx context.Context) error {
	steps := s.steps()
	for i, step := range steps {
		began := time.Now()
		s.out.title(i+1, len(steps), step.title)
		s.out.prose(step.about)
		if err := step.run(ctx); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("step %d (%s) did not show what it should: %w\n%s", i+1, step.title, err, s.logs())
		}
		s.out.took(time.Since(began))
	}
	return nil
}

// inScope returns the namespaces that the baseline must cover, by our own count and not by the operator's.
func (s *site) inScope(ctx context.Context) ([]string, error) {
	var list corev1.NamespaceList
	if err := s.client.List(ctx, &list); err != nil {
		return nil, err
	}
	var names []string
	for i := range list.Items {
		if name := list.Items[i].Name; name != metav1.NamespaceSystem && name != operatorNamespace {
			names = append(names, name)
		}
	}
	return names, nil
}

// checkDenies checks on the API server that exactly these namespaces have a deny that denies.
func (s *site) checkDenies(ctx context.Context, namespaces []string) error {
	var list networkingv1.NetworkPolicyList
	if err := s.client.List(ctx, &list); err != nil {
		return err
	}
	var have []string
	for i := range list.Items {
		p := &list.Items[i]
		if p.Name != denyName {
			continue
		}
		if !denies(p) {
			return fmt.Errorf("%s/%s is no deny: %+v", p.Namespace, p.Name, p.Spec)
		}
		have = append(have, p.Namespace)
	}
	slices.Sort(have)
	if want := slices.Sorted(slices.Values(namespaces)); !slices.Equal(have, want) {
		return fmt.Errorf("denies are in %v, and should be in %v", have, want)
	}
	return nil
}

// denies says whether a policy selects every pod and allows nothing, in both directions.
func denies(p *networkingv1.NetworkPolicy) bool {
	return len(p.Spec.PodSelector.MatchLabels)+len(p.Spec.PodSelector.MatchExpressions) == 0 && !allowsSomething(p) &&
		slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) &&
		slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
}

func theBaseline() *pcinetv1alpha1.PCINetworkBaseline {
	return &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: baselineName}}
}

func coverageOf(namespace string) *pcinetv1alpha1.NamespaceCoverage {
	return &pcinetv1alpha1.NamespaceCoverage{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: baselineName}}
}

// become waits until an object, read again and again into obj, is as it should be; what says how that is.
func become[T client.Object](ctx context.Context, s *site, obj T, what string, match func(T) bool) error {
	key := client.ObjectKeyFromObject(obj)
	for deadline := time.Now().Add(eventLimit); ; {
		err := s.client.Get(ctx, key, obj)
		if err == nil && match(obj) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("this did not happen within %.0f s: %s (last read: %+v, error %w)", eventLimit.Seconds(), what, obj, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// has says whether a condition has this status and reason, as of this generation.
func has(b *pcinetv1alpha1.PCINetworkBaseline, condition string, status metav1.ConditionStatus, reason string) bool {
	c := apimeta.FindStatusCondition(b.Status.Conditions, condition)
	return c != nil && c.Status == status && c.Reason == reason && c.ObservedGeneration == b.Generation
}
