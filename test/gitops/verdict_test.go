// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops_test

import (
	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

const (
	messagePendingDeletion = "Pending deletion"
	messageFirstReport     = "Waiting for the operator's first report"
	messageLatestSpec      = "Waiting for the operator to report on the latest spec"
)

// subject is what a verdict depends on, of both kinds.
type subject struct {
	metadata           metav1.ObjectMeta
	hasStatus          bool
	observedGeneration *int64 // nil for a NamespaceCoverage
	conditions         []metav1.Condition
}

// verdict is what every tool has to conclude.
type verdict struct {
	argo    health
	kstatus status.Status
}

// judge is our own reading of an object, independent of the scripts and of kstatus.
func judge(s subject) verdict {
	stalled := apimeta.FindStatusCondition(s.conditions, pcinetv1alpha1.ConditionStalled)
	reconciling := apimeta.FindStatusCondition(s.conditions, pcinetv1alpha1.ConditionReconciling)
	ready := apimeta.FindStatusCondition(s.conditions, pcinetv1alpha1.ConditionReady)
	inProgress := func(message string) verdict {
		return verdict{health{"Progressing", message}, status.InProgressStatus}
	}

	switch {
	case s.metadata.DeletionTimestamp != nil:
		return verdict{health{"Progressing", messagePendingDeletion}, status.TerminatingStatus}
	case !s.hasStatus:
		return inProgress(messageFirstReport)
	case s.observedGeneration != nil && *s.observedGeneration != s.metadata.Generation:
		return inProgress(messageLatestSpec)
	case stalled != nil && stalled.Status == metav1.ConditionTrue:
		return verdict{health{"Degraded", stalled.Message}, status.FailedStatus}
	case reconciling != nil && reconciling.Status == metav1.ConditionTrue:
		return inProgress(reconciling.Message)
	case ready == nil:
		return inProgress(messageFirstReport)
	case ready.Status == metav1.ConditionTrue:
		return verdict{health{"Healthy", ready.Message}, status.CurrentStatus}
	case ready.Status == metav1.ConditionFalse && ready.Reason == pcinetv1alpha1.ReasonAuditMode:
		// kstatus has no word for "waits for a human's decision".
		return verdict{health{"Suspended", ready.Message}, status.InProgressStatus}
	}
	return inProgress(ready.Message)
}
