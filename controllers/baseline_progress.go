// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

// seeing says whether everything is watched that reports are made of.
func (s *baselineScope) seeing() bool { return s.blind == blindness{} }

// behind says whether namespaces are yet to be looked at. While something is not seen nobody can say when that will be.
func (s *baselineScope) behind() bool { return s.tally.Behind > 0 && s.seeing() }

// nothing says whether no namespace is in scope, of all there are.
func (s *baselineScope) nothing() bool { return s.tally.Behind == 0 && s.selected() == 0 }

// setProgress says whether the operator is at work, or a person has to act. A missing right to watch is for a person.
func (s *baselineScope) setProgress(c *status.Conditions, progress, stalled, stalledMessage string) {
	if stalled == "" && s.blind.forbidden && s.baseline.DeletionTimestamp.IsZero() {
		stalled, stalledMessage = pcinetv1alpha1.ReasonNotWatched, s.blind.message()
	}
	switch {
	case stalled != "" && !s.behind():
		c.Set(pcinetv1alpha1.ConditionStalled, metav1.ConditionTrue, stalled, stalledMessage)
	case progress != "":
		c.Set(pcinetv1alpha1.ConditionReconciling, metav1.ConditionTrue, pcinetv1alpha1.ReasonProgressing, progress)
	}
}
