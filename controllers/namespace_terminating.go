// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
)

// stuckAfter is how long a namespace may take to go before it is reported: pods have 30 s to end unless they say more.
const stuckAfter = 5 * time.Minute

// leave neither writes to a terminating namespace nor deletes anything there: the server removes pods first and policies
// after them (ordered namespace deletion), and could only be hindered. One that does not go is told of.
func (r *NamespaceReconciler) leave(ctx context.Context, ns *corev1.Namespace) (ctrl.Result, error) {
	if left := ns.DeletionTimestamp.Add(stuckAfter).Sub(r.Clock.Now()); left > 0 {
		r.Store.ForgetNamespace(ns.Name)
		return ctrl.Result{RequeueAfter: left}, nil
	}
	scopes, err := r.load(ctx, ns)
	if err != nil {
		return ctrl.Result{}, err
	}
	for _, s := range scopes {
		if err := r.decide(ctx, s); err != nil {
			return ctrl.Result{}, err
		}
		record := Record{Generation: s.baseline.Generation, UID: s.baseline.UID, Sequence: s.sequence}
		if s.decision.Verdict == plan.InScope {
			record.State = pcinetv1alpha1.CoverageTerminating
			record.Worst = checks.Finding{Reason: pcinetv1alpha1.ReasonNamespaceTerminating, Message: fmt.Sprintf(
				"Namespace %s has been terminating for over 5 minutes and is left alone: kubectl get ns %s -o yaml.",
				ns.Name, ns.Name)}
		}
		r.Store.Set(ns.Name, s.baseline.Name, record)
	}
	return ctrl.Result{}, nil
}
