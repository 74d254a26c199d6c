// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
)

// write makes the live policy say what a firewall says.
func (r *FirewallReconciler) write(ctx context.Context, s *firewallScope, f policy.HostFirewall) error {
	if s.layer == nil {
		return errors.New("it is not known which policy engine there is")
	}
	objects := render.HostFirewall(s.layer, f)
	if len(objects) == 0 {
		return errors.New("there is no port to close, or nobody to let in")
	}
	intended := objects[len(objects)-1]
	var live client.Object
	switch {
	case s.live == nil:
	case s.layer.Anew(s.live.Object, intended): // whoever ends in between has told of a try, and leaves none
		if err := r.Applier.Delete(ctx, s.live); err != nil {
			return err
		}
		s.live = nil
	default:
		live = s.live
	}
	change, err := r.writeObject(ctx, intended, live)
	if err == nil {
		s.watched.uid = change.Object.GetUID()
	}
	return err
}

// errForeign is of an object that the operator has not made.
var errForeign = errors.New("is somebody else's: delete or rename it")

// prepare writes what the policy stands on, as Calico's tier. That is of all baselines, and stays when the policy goes: empty, it does nothing.
func (r *FirewallReconciler) prepare(ctx context.Context, s *firewallScope) error {
	if s.layer == nil {
		return nil
	}
	objects := render.HostFirewall(s.layer, s.intended)
	for _, object := range objects[:max(0, len(objects)-1)] {
		if err := r.writeBase(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

func (r *FirewallReconciler) writeBase(ctx context.Context, object render.Object) error {
	found := &unstructured.Unstructured{}
	found.SetGroupVersionKind(object.GetObjectKind().GroupVersionKind())
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(object), found)
	if apierrors.IsNotFound(err) {
		_, err = r.writeObject(ctx, object, nil)
		return err
	}
	if err != nil {
		return err
	}
	if render.Owner(found.GetLabels()) == "" {
		return fmt.Errorf("%s %s %w", found.GetKind(), found.GetName(), errForeign)
	}
	_, err = r.writeObject(ctx, object, found)
	return err
}

func (r *FirewallReconciler) writeObject(ctx context.Context, object render.Object, live client.Object) (apply.Change, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return apply.Change{}, err
	}
	return r.Applier.Write(ctx, &unstructured.Unstructured{Object: content}, live)
}

// sign says in the Lease that somebody is there, and what is remembered.
func (r *FirewallReconciler) sign(ctx context.Context, s *firewallScope, memory trial.Memory) error {
	if s.lease == nil {
		return errors.New("nothing can be noted: " + s.unarmed)
	}
	lease := s.lease.DeepCopy()
	lease.Spec.HolderIdentity = new("pci-network-baseline")
	lease.Spec.RenewTime = new(metav1.NewMicroTime(r.Clock.Now()))
	kept, tried := memory.Texts()
	notes := map[string]string{annotationKept: kept, annotationTried: tried}
	if s.layer != nil {
		notes[annotationBackend] = s.layer.Name()
	}
	for key, value := range notes {
		if value == "" {
			delete(lease.Annotations, key)
		} else {
			metav1.SetMetaDataAnnotation(&lease.ObjectMeta, key, value)
		}
	}
	err := r.Applier.Replace(ctx, lease)
	if err == nil {
		s.lease, s.memory = lease, memory
	}
	return err
}

// forget forgets everything, lest what was kept is put back when a firewall is asked for again. Where the Lease cannot be written that is only
// logged: taking the policy away matters more.
func (r *FirewallReconciler) forget(ctx context.Context, s *firewallScope) error {
	var err error
	if s.lease, err = r.readLease(ctx, deadman.OperatorLease); err == nil {
		err = r.sign(ctx, s, trial.Memory{})
	}
	if stale(err) {
		return err
	}
	if err != nil {
		ctrl.LoggerFrom(ctx).Info("What is remembered of a firewall on nodes could not be forgotten", "baseline", s.name, "cause", err.Error())
	}
	return nil
}
