// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// guarded asks for both admission modes.
func guarded(gate, tamper pcinetv1alpha1.AdmissionMode) func(*pcinetv1alpha1.PCINetworkBaseline) {
	return func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Admission = pcinetv1alpha1.Admission{PodGate: gate, TamperGuard: tamper}
	}
}

// warnings is a client of mallory's that collects the API server's warnings.
type warnings struct {
	client.Client
	texts []string
}

// HandleWarningHeaderWithContext collects a warning.
func (w *warnings) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	w.texts = append(w.texts, text)
}

// as returns a client of a user; "" for the cluster's administrator.
func as(t *testing.T, user string) *warnings {
	t.Helper()
	w := &warnings{}
	c := rest.CopyConfig(env.config)
	c.WarningHandlerWithContext = w
	c.Impersonate = rest.ImpersonationConfig{UserName: user}
	var err error
	if w.Client, err = client.New(c, client.Options{Scheme: env.client.Scheme()}); err != nil {
		t.Fatal(err)
	}
	return w
}

// pod returns a pod that the operator's own namespace, which is restricted, admits.
func pod(namespace, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "pod-"},
		Spec: corev1.PodSpec{
			NodeName:        node,
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: "app", Image: "app", SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}}},
		},
	}
}

// refusedBy returns an error unless a request was refused by a policy, in words that contain all of these.
func refusedBy(err error, policy string, words ...string) error {
	if err == nil {
		return errors.New("it was not refused")
	}
	for _, w := range append(words, "'"+policy+"'") {
		if !strings.Contains(err.Error(), w) {
			return fmt.Errorf("the refusal lacks %q: %w", w, err)
		}
	}
	return nil
}

// tryPod asks the API server to admit a pod, without making one.
func tryPod(t *testing.T, namespace, node string) error {
	t.Helper()
	return env.client.Create(t.Context(), pod(namespace, node), client.DryRunAll)
}

// unprotectable creates a namespace of the baseline's group in which a quota leaves no room for a policy.
func unprotectable(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) string {
	t.Helper()
	namespace := createNamespace(t, "")
	awaitServiceAccount(t, namespace)
	createQuota(t, namespace, 0)
	setLabel(t, namespace, groupLabel, b.Name)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageFailing)
	return namespace
}

func awaitServiceAccount(t *testing.T, namespace string) {
	t.Helper()
	eventually.That(t, "pods may be created", func() error {
		return env.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "default"}, &corev1.ServiceAccount{})
	})
}

func TestAPodWaitsForTheDeny(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionOff))
	namespace := unprotectable(t, b)
	for what, node := range map[string]string{"to be scheduled": "", "on a node already": "node-1"} {
		eventually.That(t, "a pod "+what+" is refused", func() error {
			return refusedBy(tryPod(t, namespace, node), "pcinb-pod-gate", "Namespace "+namespace, "PCINetworkBaseline "+b.Name, "kubectl get nscov -n "+namespace)
		})
	}
	good := protected(t, b)
	awaitServiceAccount(t, good)
	eventually.That(t, "a pod of a protected namespace is admitted", func() error { return tryPod(t, good, "") })
	other := createNamespace(t, "")
	awaitServiceAccount(t, other)
	if err := tryPod(t, other, ""); err != nil {
		t.Errorf("a namespace out of scope: %v", err)
	}
}

func TestTheGuardRefusesAnAdministrator(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionOff, pcinetv1alpha1.AdmissionEnforce))
	namespace := protected(t, b)
	refuse := func(what string, f func() error) {
		t.Helper()
		eventually.That(t, what+" is refused", func() error {
			return refusedBy(f(), "pcinb-tamper-guard", "PCINetworkBaseline "+b.Name, "break-glass")
		})
	}
	for name, e := range edits {
		refuse(name, func() error {
			live := get(t, namespace, denyName(b.Name))
			e.edit(live)
			return env.client.Update(t.Context(), live, client.DryRunAll, mallory)
		})
	}
	refuse("an owner", func() error {
		live := get(t, namespace, denyName(b.Name))
		live.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "y"}}
		return env.client.Update(t.Context(), live, client.DryRunAll, mallory)
	})
	refuse("a deletion", func() error {
		return env.client.Delete(t.Context(), get(t, namespace, denyName(b.Name)), client.DryRunAll)
	})
	refuse("a deletion by the garbage collector", func() error {
		gc := as(t, "system:serviceaccount:kube-system:generic-garbage-collector")
		return gc.Delete(t.Context(), get(t, namespace, denyName(b.Name)), client.DryRunAll)
	})
	refuse("a deletion by the namespace controller in a namespace that stays", func() error {
		nc := as(t, "system:serviceaccount:kube-system:namespace-controller")
		return nc.Delete(t.Context(), get(t, namespace, denyName(b.Name)), client.DryRunAll)
	})
	refuse("a forged label", func() error {
		fake := wantDeny(b.Name)
		fake.Namespace, fake.Name = namespace, "mine"
		return env.client.Create(t.Context(), fake, client.DryRunAll)
	})
	refuse("a forged coverage", func() error {
		c, err := coverageOf(t, namespace, b.Name)
		if err != nil {
			return err
		}
		c.Status.State = pcinetv1alpha1.CoverageExempt
		return env.client.Update(t.Context(), c, client.DryRunAll)
	})
	live := get(t, namespace, denyName(b.Name))
	live.Annotations["example.com/looked-at"] = "yes"
	if err := env.client.Update(t.Context(), live, client.DryRunAll, mallory); err != nil {
		t.Errorf("a harmless annotation: %v", err)
	}
	object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := env.client.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "the namespace goes", func() error {
		if err := env.client.Get(t.Context(), keyOf(object), object); err != nil {
			return client.IgnoreNotFound(err)
		}
		return fmt.Errorf("it is %s: %v", object.Status.Phase, object.Status.Conditions)
	})
}

func TestTheOperatorCannotOpenANamespace(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, nil)
	namespace := protected(t, b)
	operator := as(t, operatorUser)
	tcp := []networkingv1.NetworkPolicyPort{networkPort(corev1.ProtocolTCP, 443)}
	world := []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "0.0.0.0/0"}}}
	allow := func(r networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
		return ours(b.Name, allowName(b.Name, "x"), networkingv1.NetworkPolicySpec{
			PolicyTypes: []networkingv1.PolicyType{ingress}, Ingress: []networkingv1.NetworkPolicyIngressRule{r},
		})
	}
	cases := map[string]struct {
		policy *networkingv1.NetworkPolicy
		words  string // of the refusal; "" when it passes
	}{
		"a rule of the plan passes":   {policy: allow(networkingv1.NetworkPolicyIngressRule{From: world, Ports: tcp})},
		"a rule for everybody":        {policy: allow(networkingv1.NetworkPolicyIngressRule{Ports: tcp}), words: "name their peers and ports"},
		"a rule for all ports":        {policy: allow(networkingv1.NetworkPolicyIngressRule{From: world}), words: "name their peers and ports"},
		"all ports of a protocol":     {policy: allow(networkingv1.NetworkPolicyIngressRule{From: world, Ports: []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolTCP)}}}), words: "name their peers and ports"},
		"a port by name":              {policy: allow(networkingv1.NetworkPolicyIngressRule{From: world, Ports: []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromString("http"))}}}), words: "name their peers and ports"},
		"an object without labels":    {policy: foreignPolicy("", "theirs"), words: "marked as its own"},
		"a name that is none of ours": {policy: ours(b.Name, "other", networkingv1.NetworkPolicySpec{}), words: "names of a deny or an allowance"},
		"a deny with a rule": {policy: func() *networkingv1.NetworkPolicy {
			p := allow(networkingv1.NetworkPolicyIngressRule{From: world, Ports: tcp})
			p.Name = "pcinb2-" + b.Name + "-default-deny"
			return p
		}(), words: "denies have no rule"},
	}
	for name, c := range cases {
		p := c.policy
		p.Namespace = namespace
		eventually.That(t, name, func() error {
			p.ResourceVersion = ""
			err := operator.Create(t.Context(), p, client.DryRunAll)
			if c.words == "" {
				return err
			}
			return refusedBy(err, "pcinb-own-limits", c.words)
		})
	}
	eventually.That(t, "a spec stays", func() error {
		if err := env.client.Get(t.Context(), keyOf(b), b); err != nil {
			return err
		}
		patch := client.MergeFrom(b.DeepCopy())
		b.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit
		return refusedBy(operator.Patch(t.Context(), b, patch, client.DryRunAll), "pcinb-own-limits", "finalizers")
	})
	theirs := foreignPolicy(namespace, "theirs")
	create(t, theirs)
	if err := refusedBy(operator.Delete(t.Context(), theirs, client.DryRunAll), "pcinb-own-limits", "marked as its own"); err != nil {
		t.Error(err)
	}
}

func TestAdmissionObjectsAreRepairedAndGoWithTheirBaseline(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionEnforce, pcinetv1alpha1.AdmissionWarn))
	protected(t, b)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	for _, name := range []string{"pcinb-" + b.Name + "-pod-gate", "pcinb-" + b.Name + "-tamper-guard"} {
		binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: name}}
		key := keyOf(binding)
		eventually.That(t, name+" is there", func() error { return env.client.Get(t.Context(), key, binding) })
		old := binding.UID
		if err := env.client.Delete(t.Context(), binding); err != nil {
			t.Fatal(err)
		}
		eventually.That(t, name+" is back", func() error {
			err := env.client.Get(t.Context(), key, binding)
			if err == nil && binding.UID == old {
				return errors.New("it is not gone yet")
			}
			return err
		})
		modify(t, binding, func() {
			binding.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit}
		})
		eventually.That(t, name+" is as it was", func() error {
			if err := env.client.Get(t.Context(), key, binding); err != nil {
				return err
			}
			if binding.Spec.ValidationActions[0] == admissionregistrationv1.Audit {
				return errors.New("it only audits")
			}
			return nil
		})
	}
	if err := env.client.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "its bindings are gone", func() error {
		var list admissionregistrationv1.ValidatingAdmissionPolicyBindingList
		if err := env.client.List(t.Context(), &list, client.MatchingLabels{"pcinetwork.dev/baseline": b.Name}); err != nil {
			return err
		}
		if len(list.Items) > 0 {
			return fmt.Errorf("%s is there", list.Items[0].Name)
		}
		return nil
	})
}

func TestABrokenGlassHoldsRepairsAndEnds(t *testing.T) {
	t.Parallel()
	b := createBaseline(t, guarded(pcinetv1alpha1.AdmissionOff, pcinetv1alpha1.AdmissionEnforce))
	namespace := protected(t, b)
	eventually.That(t, "the guard is up", func() error {
		return refusedBy(env.client.Delete(t.Context(), get(t, namespace, denyName(b.Name)), client.DryRunAll), "pcinb-tamper-guard")
	})
	breakGlass := func(text string) {
		t.Helper()
		changeBaseline(t, b, func(b *pcinetv1alpha1.PCINetworkBaseline) {
			b.Annotations = map[string]string{pcinetv1alpha1.AnnotationBreakGlass: text}
		})
	}
	breakGlass(time.Now().Add(2*time.Hour).UTC().Format(time.RFC3339) + " too long")
	awaitEvent(t, metav1.NamespaceDefault, b.Name, "BreakGlassIgnored", "more than an hour")
	until := time.Now().Add(15 * time.Second)
	breakGlass(until.UTC().Format(time.RFC3339) + " CHG-1 restore the ledger")
	awaitBaseline(t, b, "Ready=False/BreakGlass")
	awaitEvent(t, metav1.NamespaceDefault, b.Name, "BreakGlassOpened", "CHG-1 restore the ledger")
	eventually.That(t, "the deny can be deleted", func() error {
		return env.client.Delete(t.Context(), get(t, namespace, denyName(b.Name)))
	})
	touch(t, namespace)
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoveragePending)
	fresh := protected(t, b)
	touch(t, namespace)
	for range 5 {
		err := env.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: denyName(b.Name)}, &networkingv1.NetworkPolicy{})
		if !apierrors.IsNotFound(err) && time.Now().Before(until) {
			t.Errorf("the deny is repaired while the glass is broken: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	if time.Now().Before(until.Add(-time.Second)) {
		t.Error("it was repaired before the end")
	}
	awaitEvent(t, metav1.NamespaceDefault, b.Name, "BreakGlassClosed")
	eventually.That(t, "the guard is up again", func() error {
		return refusedBy(env.client.Delete(t.Context(), get(t, fresh, denyName(b.Name)), client.DryRunAll), "pcinb-tamper-guard")
	})
}
