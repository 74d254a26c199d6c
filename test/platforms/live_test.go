// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package platforms_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/controllers"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// noticed is how long the operator may take to notice a change of the platform; it takes well below a second on an idle machine.
const noticed = 10 * time.Second

// launch starts an operator under its own RBAC. stop ends it; the test does so at its end.
func launch(t *testing.T) (stop func()) {
	t.Helper()
	mgr, err := controllers.NewManager(asOperator(), ctrl.Options{
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
		Controller:             config.Controller{SkipNameValidation: new(true)}, // every name once in a process otherwise
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := controllers.Setup(mgr, controllers.Options{Namespace: operatorNamespace, Workers: 4, Registry: prometheus.NewRegistry()}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	var stopped atomic.Bool
	stop = func() {
		if stopped.Swap(true) {
			return
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

var names atomic.Int64

// protect creates a namespace and a baseline for it, without DNS, because there is none here, and without the tamper guard,
// because these tests are about repair.
func protect(t *testing.T) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	name := fmt.Sprintf("base-%d", names.Add(1))
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{"example.com/group": pcinetv1alpha1.LabelValue(name)}}
	b.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone
	b.Spec.Admission.TamperGuard = pcinetv1alpha1.AdmissionOff
	addTenant(t, name)
	if err := env.client.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(env.client.Delete(context.WithoutCancel(t.Context()), b)); err != nil {
			t.Error(err)
		}
	})
	return b
}

// addTenant creates a namespace for a baseline. It stays: without a controller manager no namespace goes away.
func addTenant(t *testing.T, group string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: fmt.Sprintf("tenant-%d", names.Add(1)), Labels: map[string]string{"example.com/group": group},
	}}
	if err := env.client.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

// await waits until conditions are as given, such as "Ready=False/NoPolicyEngine"; without "=" one must be absent. It
// returns how long that took.
func await(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, want ...string) time.Duration {
	t.Helper()
	began := time.Now()
	eventually.That(t, fmt.Sprintf("baseline %s is %v", b.Name, want), func() error {
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
			return err
		}
		for _, w := range want {
			kind, value, present := strings.Cut(w, "=")
			c := apimeta.FindStatusCondition(b.Status.Conditions, kind)
			switch {
			case c == nil && present:
				return fmt.Errorf("condition %s is absent", kind)
			case c == nil:
			case string(c.Status)+"/"+c.Reason != value:
				return fmt.Errorf("condition %s is %s/%s (%s), want %q", kind, c.Status, c.Reason, c.Message, value)
			}
		}
		return nil
	})
	return time.Since(began)
}

// soon is await within seconds.
func soon(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, what string, want ...string) {
	t.Helper()
	took := await(t, b, want...)
	t.Logf("%s: noticed after %d ms", what, took.Milliseconds())
	if took > noticed {
		t.Errorf("%s was noticed after %s, want at most %s", what, took, noticed)
	}
}

// find returns an object of a fixture by kind and name.
func find(t *testing.T, fixture, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range manifests(t, fixture) {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("fixture %s has no %s %s", fixture, kind, name)
	return nil
}

// change changes a live object of a fixture; fields lead to the value.
func change(t *testing.T, object *unstructured.Unstructured, value any, fields ...string) {
	t.Helper()
	eventually.That(t, "changed "+object.GetName(), func() error {
		live := like(object)
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(object), live); err != nil {
			return err
		}
		if err := unstructured.SetNestedField(live.Object, value, fields...); err != nil {
			return err
		}
		if fields[0] == "status" {
			return env.client.Status().Update(t.Context(), live)
		}
		return env.client.Update(t.Context(), live)
	})
}

// restored waits until the spec of an object is again what it was.
func restored(t *testing.T, was *unstructured.Unstructured) {
	t.Helper()
	eventually.That(t, was.GetName()+" is as it was", func() error {
		live := like(was)
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(was), live); err != nil {
			return err
		}
		if diff := cmp.Diff(was.Object["spec"], live.Object["spec"]); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

func TestFlannelIsNotReadyUntilAnEngineIsInstalled(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	load(t, "flannel")
	launch(t)
	b := protect(t)
	await(t, b, "Ready=False/NoPolicyEngine", "PolicyEngineSupported=False/NoPolicyEngine", "Stalled=True/NoPolicyEngine", "Reconciling",
		"DefaultDenyInPlace=True/AllNamespacesProtected", "Compliant=False/RequirementsNotMet")
	if p := b.Status.Platform; p == nil || p.Engine != "" || p.BaseCNI != "Flannel" || p.Provider != "kubeadm" || b.Status.Covered != "1/1" {
		t.Errorf("covered %s on platform %+v", b.Status.Covered, p)
	}

	agent := find(t, "flannel-with-kube-network-policies", "DaemonSet", "kube-network-policies")
	place(t, agent)
	soon(t, b, "an engine that was installed", "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces", "Stalled")
	p := b.Status.Platform
	if p.Engine != "kube-network-policies" || p.Version != "v1.1.1" || p.BaseCNI != "Flannel" || *p.Nodes.Ready != 2 || *p.Nodes.Total != 2 ||
		len(p.Signals) < 2 || len(p.Warnings) != 1 {
		t.Errorf("platform %+v", p)
	}

	change(t, agent, int64(1), "status", "numberReady")
	soon(t, b, "an agent that is not Ready", "Ready=False/PolicyAgentNotReady", "Reconciling=True/Progressing", "Stalled")
	change(t, agent, int64(2), "status", "numberReady")
	soon(t, b, "an agent that is Ready again", "Ready=True/AllNamespacesProtected")
	remove(t, agent)
	soon(t, b, "an engine that was removed", "Ready=False/NoPolicyEngine")
}

func TestCiliumSwitchedOffIsNoticed(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	load(t, "cilium")
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces", "Compliant=Unknown/RequirementsUnknown")
	settings := find(t, "cilium", "ConfigMap", "cilium-config")
	change(t, settings, "true", "data", "policy-audit-mode")
	soon(t, b, "policy-audit-mode", "Ready=False/CiliumAuditMode", "PolicyEngineSupported=False/CiliumAuditMode")
	change(t, settings, "maybe", "data", "policy-audit-mode")
	soon(t, b, "a malformed setting", "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=Unknown/SettingUnreadable", "Compliant=Unknown/RequirementsUnknown")
	change(t, settings, "false", "data", "policy-audit-mode")
	soon(t, b, "policy-audit-mode off", "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces")
}

// The definition comes after the agent and after the operator, as in an upgrade.
func TestKindsThatAreAddedLaterAreRead(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	var definitions []*unstructured.Unstructured
	for _, o := range manifests(t, "cilium-never-by-nodeconfig") {
		switch o.GetKind() {
		case "CustomResourceDefinition":
			definitions = append(definitions, o)
		case "CiliumNodeConfig":
		default:
			place(t, o)
		}
	}
	launch(t)
	b := protect(t)
	await(t, b, "PolicyEngineSupported=True/PolicyEngineEnforces")
	for _, o := range definitions {
		place(t, o)
	}
	override := find(t, "cilium-never-by-nodeconfig", "CiliumNodeConfig", "legacy")
	place(t, override)
	soon(t, b, "a kind that was added", "Ready=False/CiliumPolicyNever", "PolicyEngineSupported=False/CiliumPolicyNever")
	for _, o := range definitions {
		remove(t, o)
	}
	soon(t, b, "a kind that was removed", "PolicyEngineSupported=True/PolicyEngineEnforces")
	for _, o := range definitions {
		place(t, o.DeepCopy())
	}
	place(t, override.DeepCopy())
	soon(t, b, "a kind that came back", "PolicyEngineSupported=False/CiliumPolicyNever")
}

func TestWithoutNodesNothingIsKnown(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=Unknown/NoNodes", "Compliant=Unknown/RequirementsUnknown")
	load(t, "kube-ovn")
	soon(t, b, "an unknown plugin", "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=Unknown/PolicyEngineUnknown")
}

func TestARestartInSyncLeavesTheStatusAlone(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	load(t, "cilium")
	stop := launch(t)
	b := protect(t)
	await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=True/PolicyEngineEnforces")
	time.Sleep(time.Second) // what is debounced gets written
	stop()
	await(t, b)
	before := b.ResourceVersion
	launch(t)
	time.Sleep(3 * time.Second)
	await(t, b)
	if b.ResourceVersion != before {
		t.Errorf("the status was written: %+v", b.Status.Conditions)
	}
}

// withoutRight takes a resource out of the operator's role until the test ends.
func withoutRight(t *testing.T, resources ...string) {
	t.Helper()
	role := &rbacv1.ClusterRole{}
	if err := env.client.Get(t.Context(), client.ObjectKey{Name: "pci-network-baseline-manager"}, role); err != nil {
		t.Fatal(err)
	}
	before := role.DeepCopy().Rules
	for i := range role.Rules {
		role.Rules[i].Resources = slices.DeleteFunc(role.Rules[i].Resources, func(r string) bool { return slices.Contains(resources, r) })
	}
	role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return len(r.Resources) == 0 })
	if err := env.client.Update(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		role.Rules = before
		if err := env.client.Update(context.WithoutCancel(t.Context()), role); err != nil {
			t.Error(err)
		}
	})
	time.Sleep(500 * time.Millisecond) // the authorizer learns of it from a watch
}

func TestAMissingRightIsNamedAndStopsNoDeny(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	for resource, contains := range map[string]string{ //nolint:paralleltest // see above
		"configmaps":                "configmaps named cilium-config",
		"nodes":                     "list and watch nodes",
		"daemonsets":                "list and watch daemonsets.apps",
		"customresourcedefinitions": "customresourcedefinitions.apiextensions.k8s.io",
		"ciliumnodeconfigs":         "ciliumnodeconfigs.cilium.io",
	} {
		t.Run(resource, func(t *testing.T) {
			load(t, "cilium")
			withoutRight(t, resource)
			launch(t)
			b := protect(t)
			await(t, b, "Ready=True/AllNamespacesProtected", "PolicyEngineSupported=Unknown/PlatformUnreadable")
			message := apimeta.FindStatusCondition(b.Status.Conditions, pcinetv1alpha1.ConditionPolicyEngineSupported).Message
			if !strings.Contains(message, contains) || !strings.Contains(message, "config/rbac") {
				t.Errorf("message %q, want %q in it", message, contains)
			}
			tenant := addTenant(t, b.Name)
			eventually.That(t, "a deny in "+tenant, func() error {
				var policies networkingv1.NetworkPolicyList
				if err := env.client.List(t.Context(), &policies, client.InNamespace(tenant)); err != nil {
					return err
				}
				if len(policies.Items) == 0 {
					return errors.New("there is none")
				}
				return nil
			})
		})
	}
}
