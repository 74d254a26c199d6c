// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// edits are what mallory may do to a policy. The API server knows who added something, but not who removed it.
var edits = map[string]struct {
	edit func(*networkingv1.NetworkPolicy)
	// field is what the event names; known says whether it also names mallory.
	field string
	known bool
}{
	"allow all ingress": {
		edit:  func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}} },
		field: "spec.ingress", known: true,
	},
	"allow all egress": {
		edit: func(p *networkingv1.NetworkPolicy) {
			p.Spec.Egress = append(p.Spec.Egress, networkingv1.NetworkPolicyEgressRule{})
		},
		field: "spec.egress", known: true,
	},
	"narrow the pod selector": {
		edit: func(p *networkingv1.NetworkPolicy) {
			metav1.AddLabelToSelector(&p.Spec.PodSelector, "app", "nobody")
		},
		field: "spec.podSelector", known: true,
	},
	"change the policy types": {
		edit: func(p *networkingv1.NetworkPolicy) {
			p.Spec.PolicyTypes = []networkingv1.PolicyType{ingress}
		},
		field: "spec.policyTypes", known: true,
	},
	"strip the labels": {
		edit:  func(p *networkingv1.NetworkPolicy) { p.Labels = nil },
		field: "metadata.labels",
	},
	"claim another baseline": {
		edit:  func(p *networkingv1.NetworkPolicy) { p.Labels["pcinetwork.dev/baseline"] = "other" },
		field: "metadata.labels", known: true,
	},
	"claim another manager": {
		edit:  func(p *networkingv1.NetworkPolicy) { p.Labels["app.kubernetes.io/managed-by"] = "Helm" },
		field: "metadata.labels", known: true,
	},
	"strip the annotations": {
		edit:  func(p *networkingv1.NetworkPolicy) { p.Annotations = nil },
		field: "metadata.annotations",
	},
	"add a tracking label": {
		edit:  func(p *networkingv1.NetworkPolicy) { p.Labels["app.kubernetes.io/instance"] = "tenant-app" },
		field: "metadata.labels", known: true,
	},
	"add a tracking annotation": {
		edit: func(p *networkingv1.NetworkPolicy) {
			p.Annotations["argocd.argoproj.io/tracking-id"] = "tenant-app:networking.k8s.io/NetworkPolicy:x/y"
		},
		field: "metadata.annotations", known: true,
	},
	"add a finalizer": {
		edit:  func(p *networkingv1.NetworkPolicy) { p.Finalizers = []string{"example.com/hold"} },
		field: "metadata.finalizers", known: true,
	},
	"strip and open": {
		edit: func(p *networkingv1.NetworkPolicy) {
			p.Labels, p.Annotations = nil, nil
			p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
		},
		field: "spec.ingress", known: true,
	},
}

// Mutations tried: a Diff without metadata.labels, .ownerReferences or .finalizers, an owns without the UID, a nil-blind
// comparison of spec.ingress; each fails here.
func TestAnEditedPolicyIsRestoredExactly(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	for role, want := range policiesOf(b) {
		for name, c := range edits {
			t.Run(role+"/"+name, func(t *testing.T) {
				t.Parallel()
				namespace := protected(t, b)
				live := get(t, namespace, want.Name)
				modify(t, live, func() { c.edit(live) })
				awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
				if now := get(t, namespace, want.Name); now.UID != live.UID {
					t.Error("it was made anew instead of repaired")
				}
				contains := []string{namespace + "/" + want.Name, c.field}
				if c.known {
					contains = append(contains, "by "+string(mallory))
				}
				awaitEvent(t, namespace, b.Name, "PolicyRepaired", contains...)
				awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
			})
		}
	}
}

func TestADeletedPolicyIsRestoredExactly(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	for role, want := range policiesOf(b) {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			namespace := protected(t, b)
			for range 2 {
				knockOut(t, namespace, want.Name)
			}
			all := []*networkingv1.NetworkPolicy{wantDeny(b.Name), wantDNS(b.Name)}
			if role == "deny" {
				all = append(all, wantSecond(b.Name))
			}
			awaitExactly(t, namespace, all...)
			awaitEvent(t, namespace, b.Name, "PolicyRepaired", namespace+"/"+want.Name, "deleted")
			awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
		})
	}
}

// From the sixth on within a minute a repair waits, and the second copy denies; it waits no longer for the tenth.
func TestTheTenthDeletionIsRepairedAsSoonAsTheSixth(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	for i := range 10 {
		if absent := knockOut(t, namespace, denyName(b.Name)); absent > 4*time.Second {
			t.Errorf("deletion %d was repaired after %s", i+1, absent)
		}
	}
	awaitExactly(t, namespace, wantDeny(b.Name), wantSecond(b.Name), wantDNS(b.Name))
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageContested, holds("Contested=True/RepeatedChanges"))
}

// knockOut deletes a policy, waits until it is back and returns how long that took.
func knockOut(t *testing.T, namespace, name string) time.Duration {
	t.Helper()
	live := get(t, namespace, name)
	if err := env.client.Delete(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	eventually.That(t, name+" is back", func() error {
		now := &networkingv1.NetworkPolicy{}
		now.Namespace, now.Name = namespace, name
		if err := env.client.Get(t.Context(), keyOf(now), now); err != nil {
			return err
		}
		if now.UID == live.UID {
			return fmt.Errorf("it is not deleted yet")
		}
		return nil
	})
	return time.Since(began)
}

func TestAReplacedPolicyIsRestoredExactly(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	for role, want := range policiesOf(b) {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			namespace := protected(t, b)
			eventually.That(t, "mallory is faster than the operator", func() error {
				if err := env.client.Delete(t.Context(), get(t, namespace, want.Name)); err != nil {
					return err
				}
				fake := want.DeepCopy()
				fake.Namespace = namespace
				fake.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
				fake.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}}
				err := env.client.Create(t.Context(), fake, mallory)
				if apierrors.IsAlreadyExists(err) {
					eventually.That(t, "the policy can be read", func() error {
						return env.client.Get(t.Context(), keyOf(fake), fake)
					})
				}
				return err
			})
			all := []*networkingv1.NetworkPolicy{wantDeny(b.Name), wantDNS(b.Name)}
			eventually.That(t, "namespace "+namespace+" has its policies", func() error {
				err := exactly(t, namespace, all...)
				if err != nil && role == "deny" && exactly(t, namespace, append(all, wantSecond(b.Name))...) == nil {
					return nil // its creation and then its spec had to be repaired
				}
				return err
			})
			awaitEvent(t, namespace, b.Name, "PolicyRepaired", namespace+"/"+want.Name, "spec.ingress", "by "+string(mallory))
		})
	}
}

// The garbage collector deletes what a live owner owned once the owner goes.
func TestAForgedOwnerDoesNotTakeThePolicyAlong(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	for role, want := range policiesOf(b) {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			namespace := protected(t, b)
			recorder := record(t, namespace)
			owner := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "owner"}}
			create(t, owner)
			live := get(t, namespace, want.Name)
			modify(t, live, func() {
				live.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: owner.Name, UID: owner.UID}}
			})
			awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
			awaitEvent(t, namespace, b.Name, "PolicyRepaired", "metadata.ownerReferences", "by "+string(mallory))
			if err := env.client.Delete(t.Context(), owner); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second) // for the garbage collector
			if deleted := order(recorder.noGap(t), watch.Deleted); len(deleted) > 0 {
				t.Errorf("deleted: %v", deleted)
			}
		})
	}
}

func TestACoverageIsRestored(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	before, err := coverageOf(t, namespace, b.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := env.client.Delete(t.Context(), before); err != nil {
		t.Fatal(err)
	}
	same := func(c *pcinetv1alpha1.NamespaceCoverage) error {
		if len(c.Status.Policies) != len(before.Status.Policies) || c.Status.Policies[1].UID != before.Status.Policies[1].UID {
			return fmt.Errorf("policies are %v", c.Status.Policies)
		}
		return nil
	}
	forged := awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, same)
	modify(t, forged, func() {
		forged.Status.State = pcinetv1alpha1.CoverageExempt
		forged.Status.Policies[1].UID = "00000000-0000-0000-0000-000000000000"
	})
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected, same)
}

func TestAFightIsReportedAndNeverLost(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace, quiet := protected(t, b), protected(t, b)
	fight(t, namespace, b)
	awaitExactly(t, namespace, wantDeny(b.Name), wantSecond(b.Name), wantDNS(b.Name))
	c := awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageContested, holds(
		"Ready=False/RepeatedChanges", "Contested=True/RepeatedChanges", "DefaultDenyInPlace=True/NamespaceProtected", "Stalled"))
	if text := message(c.Status.Conditions, "Contested"); !strings.Contains(text, string(mallory)) || !strings.Contains(text, denyName(b.Name)) {
		t.Errorf("the message names neither the manager nor the policy: %s", text)
	}
	awaitEvent(t, namespace, b.Name, "RepeatedChanges", string(mallory))
	awaitBaseline(t, b, "Ready=False/RepeatedChanges", "Contested=True/RepeatedChanges", "DefaultDenyInPlace=True/AllNamespacesProtected")
	if got := *b.Status.Namespaces; *got.Contested != 1 || *got.Protected != 1 || *got.Selected != 2 {
		t.Errorf("counters: %d contested, %d protected of %d", *got.Contested, *got.Protected, *got.Selected)
	}
	awaitCoverage(t, quiet, b, pcinetv1alpha1.CoverageProtected)
	strike(t, namespace, b)
}

// fight changes a deny as often as makes a fight.
func fight(t *testing.T, namespace string, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	for range 6 {
		strike(t, namespace, b)
	}
}

// strike opens a deny and waits until it is restored.
func strike(t *testing.T, namespace string, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	live := get(t, namespace, denyName(b.Name))
	modify(t, live, func() { live.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}} })
	eventually.That(t, "the deny is restored", func() error {
		if diff := difference(wantDeny(b.Name), get(t, namespace, denyName(b.Name))); diff != "" {
			return fmt.Errorf("it differs (-want +got):\n%s", diff)
		}
		return nil
	})
}

// policiesOf returns the policies of a baseline without rules by their role.
func policiesOf(b *pcinetv1alpha1.PCINetworkBaseline) map[string]*networkingv1.NetworkPolicy {
	return map[string]*networkingv1.NetworkPolicy{"deny": wantDeny(b.Name), "allowance": wantDNS(b.Name)}
}

func get(t *testing.T, namespace, name string) *networkingv1.NetworkPolicy {
	t.Helper()
	p := &networkingv1.NetworkPolicy{}
	p.Namespace, p.Name = namespace, name
	eventually.That(t, "policy "+name+" can be read", func() error {
		return env.client.Get(t.Context(), keyOf(p), p)
	})
	return p
}
