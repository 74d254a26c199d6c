// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

// Lease names the lease of the replica that leads, in the operator's namespace.
const Lease = "pci-network-baseline"

// disown takes back what the last process called well, while this one cannot begin because it does not see. A replica that leads says
// itself what it sees. Cost: one request while another leads, else two, and a write for each baseline that says something else.
func (r *BaselineReconciler) disown(ctx context.Context, blind blindness) error {
	led, err := r.led(ctx)
	if led || err != nil {
		return err
	}
	var baselines pcinetv1alpha1.PCINetworkBaselineList
	if err := r.Live.List(ctx, &baselines); err != nil {
		return fmt.Errorf("listing baselines: %w", err)
	}
	var errs []error
	for i := range baselines.Items {
		s := &baselineScope{baseline: &baselines.Items[i], blind: blind, now: r.Clock.Now()}
		if want := s.disowned(); !apiequality.Semantic.DeepEqual(want, s.baseline.Status) {
			errs = append(errs, r.put(ctx, r.Natives, s.baseline, want))
		}
	}
	return errors.Join(errs...)
}

// led says whether a replica holds the lease.
func (r *BaselineReconciler) led(ctx context.Context) (bool, error) {
	lease := &coordinationv1.Lease{}
	if err := r.Live.Get(ctx, r.Lease, lease); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return held(lease.Spec, r.Clock.Now()), nil
}

func held(l coordinationv1.LeaseSpec, now time.Time) bool {
	return l.HolderIdentity != nil && *l.HolderIdentity != "" && l.RenewTime != nil && l.LeaseDurationSeconds != nil &&
		now.Sub(l.RenewTime.Time) < time.Duration(*l.LeaseDurationSeconds)*time.Second
}

// disowned is the status that stands, in which nothing is True that is judged from what is watched.
func (s *baselineScope) disowned() pcinetv1alpha1.PCINetworkBaselineStatus {
	out := *s.baseline.Status.DeepCopy()
	c := &status.Conditions{Generation: out.ObservedGeneration, Now: metav1.NewTime(s.now), Previous: out.Conditions}
	watched := []string{pcinetv1alpha1.ConditionReady, pcinetv1alpha1.ConditionDefaultDenyInPlace, pcinetv1alpha1.ConditionDefaultDenyEffective}
	var retold []string // with Ready, by setProgress
	if apimeta.IsStatusConditionTrue(out.Conditions, pcinetv1alpha1.ConditionReady) {
		retold = []string{pcinetv1alpha1.ConditionReconciling, pcinetv1alpha1.ConditionStalled}
	}
	for _, old := range out.Conditions {
		switch {
		case slices.Contains(retold, old.Type):
			continue
		case old.Type == pcinetv1alpha1.ConditionCompliant:
			setCompliant(c)
			continue
		case old.Status != metav1.ConditionTrue || !slices.Contains(watched, old.Type):
			c.Set(old.Type, old.Status, old.Reason, old.Message)
			continue
		}
		c.Set(old.Type, metav1.ConditionUnknown, pcinetv1alpha1.ReasonNotWatched, s.blind.message())
		if old.Type == pcinetv1alpha1.ConditionReady {
			s.setProgress(c, s.blind.message(), "", "")
		}
	}
	out.Conditions = c.List()
	return out
}
