// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// Every test here stops the shared operator, so none is parallel.

func TestWhatChangedWhileTheOperatorWasDownIsRepaired(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	deleted, edited, untouched := protected(t, b), protected(t, b), protected(t, b)
	env.audit.idle(t, env.operator)
	alone(t)

	if err := env.client.Delete(t.Context(), policiesIn(t, deleted)[denyName(b.Name)]); err != nil {
		t.Fatal(err)
	}
	policy := policiesIn(t, edited)[denyName(b.Name)]
	modify(t, policy, func() { policy.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}} })
	born := createNamespace(t, b.Name)
	since := env.audit.mark(t)
	o := launch(t, operatorOptions{})
	for _, namespace := range []string{deleted, edited, born, untouched} {
		awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
		awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)
	}
	env.audit.idle(t, o)
	for _, w := range env.audit.writes(t, o, since) {
		if namespace := w.ObjectRef.Namespace; namespace != "" && w.ObjectRef.Resource != "events" && !slices.Contains([]string{deleted, edited, born}, namespace) {
			t.Errorf("the operator wrote where nothing had changed: %s", w)
		}
	}
}

func TestARestartInSyncWritesNothing(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	protected(t, b)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	env.audit.idle(t, env.operator)
	alone(t)
	since := env.audit.mark(t)
	o := launch(t, operatorOptions{})
	time.Sleep(3 * time.Second)
	if writes := env.audit.writes(t, o, since); len(writes) > 0 {
		t.Errorf("the operator wrote: %v", writes)
	}
}

func TestTheStandbyRestsAndTakesOverWithoutTheLease(t *testing.T) { //nolint:paralleltest // see above
	b := createBaseline(t, nil)
	protected(t, b)
	alone(t)
	active := launch(t, operatorOptions{elect: true})
	eventually.That(t, "the first is elected", func() error {
		if !active.leads() {
			return errors.New("it is not")
		}
		return nil
	})
	env.audit.idle(t, active)
	standby := launch(t, operatorOptions{elect: true})
	env.audit.idle(t, standby)

	since := env.audit.mark(t)
	for range 5 {
		protected(t, b)
	}
	time.Sleep(time.Second) // the standby has looked by now
	if writes := env.audit.writes(t, standby, since); len(writes) > 0 {
		t.Errorf("the standby wrote while the active replica works: %v", writes)
	}

	crash(t, active)
	began := time.Now()
	namespace := createNamespace(t, b.Name)
	awaitExactly(t, namespace, wantDeny(b.Name), wantDNS(b.Name))
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("the namespace was open for %s", took)
	}
	if standby.leads() {
		t.Error("the standby was elected before the lease ended: this test shows nothing")
	}
	awaitCoverage(t, namespace, b, pcinetv1alpha1.CoverageProtected)

	setLabel(t, namespace, groupLabel, "")
	time.Sleep(time.Second)
	if !standby.leads() {
		if live := policiesIn(t, namespace); len(live) != 2 {
			t.Errorf("a replica that was not elected removed policies: %v are left", namesOf(live))
		}
	}
	awaitExactly(t, namespace)
}
