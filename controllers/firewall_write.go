// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
	content, err := generic(intended)
	if err != nil {
		return err
	}
	var change apply.Change
	switch {
	case s.live == nil:
		change, err = r.Applier.Write(ctx, content, nil)
	case s.anew(f):
		change, err = r.Applier.Renew(ctx, content, s.live)
	default:
		change, err = r.Applier.Write(ctx, content, s.live)
	}
	if err == nil {
		s.watched.uid = change.Object.GetUID()
	}
	return err
}

// anew says whether the live policy is deleted and made anew when it is to say what f says.
func (s *firewallScope) anew(f policy.HostFirewall) bool {
	if s.layer == nil || s.live == nil {
		return false
	}
	objects := render.HostFirewall(s.layer, f)
	return len(objects) > 0 && s.layer.Anew(s.live.Object, objects[len(objects)-1])
}

// renewing returns what is to be remembered before f is written: that the live policy is deleted for it, which stays remembered until there is one again.
func (s *firewallScope) renewing(memory trial.Memory, f policy.HostFirewall) trial.Memory {
	switch {
	case s.live == nil:
	case s.anew(f):
		return memory.Renew(s.seen.Stage, s.now)
	default:
		memory.Renewed = nil
	}
	return memory
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
	content, err := generic(object)
	if err != nil {
		return err
	}
	found := &unstructured.Unstructured{}
	found.SetGroupVersionKind(content.GroupVersionKind())
	var live client.Object
	switch err := r.Live.Get(ctx, client.ObjectKeyFromObject(content), found); {
	case err == nil && render.Owner(found.GetLabels()) == "":
		return fmt.Errorf("%s %s %w", found.GetKind(), found.GetName(), errForeign)
	case err == nil:
		live = found
	case !apierrors.IsNotFound(err):
		return err
	}
	_, err = r.Applier.Write(ctx, content, live)
	return err
}

// generic returns an object as it is read from the API server: 10 is an integer there, whatever the type of its field is.
func generic(object render.Object) (*unstructured.Unstructured, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	out := &unstructured.Unstructured{}
	return out, out.UnmarshalJSON(text)
}

// sign says in the Lease that somebody is there, and what is remembered.
func (r *FirewallReconciler) sign(ctx context.Context, s *firewallScope, memory trial.Memory) error {
	if s.lease == nil {
		return errors.New("nothing can be noted: " + s.unarmed)
	}
	lease := s.lease.DeepCopy()
	lease.Spec.HolderIdentity = new("pci-network-baseline")
	lease.Spec.RenewTime = new(metav1.NewMicroTime(r.Clock.Now()))
	kept, tried, renewed := memory.Texts()
	notes := map[string]string{annotationKept: kept, annotationTried: tried, annotationRenewed: renewed}
	if s.wanted.layer != nil {
		notes[annotationBackend] = s.wanted.layer.Name()
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

// standBy gives signs of life for a firewall that is kept and cannot be looked at, because its API alone does not answer, as an API server of Calico's own:
// it is in effect, and nodes are not opened for want of a look. That goes by what is remembered, and not by what is wanted: where another list is tried in
// its place nobody can restore it.
func (r *FirewallReconciler) standBy(ctx context.Context, s *firewallScope) error {
	if !s.known || s.wanted.layer == nil {
		return nil
	}
	lease, err := r.readLease(ctx, deadman.OperatorLease)
	if err != nil {
		return err
	}
	s.remember(lease)
	if !s.memory.Stands() {
		return nil
	}
	return r.sign(ctx, s, s.memory)
}

// forget forgets everything, lest what was kept is put back when a firewall is asked for again. Where the Lease cannot be written that is only
// logged: taking the policy away matters more.
func (r *FirewallReconciler) forget(ctx context.Context, s *firewallScope) error {
	var err error
	if s.lease, err = r.readLease(ctx, deadman.OperatorLease); err == nil {
		kept, tried, renewed := s.lease.Annotations[annotationKept], s.lease.Annotations[annotationTried], s.lease.Annotations[annotationRenewed]
		if kept == "" && tried == "" && renewed == "" {
			return nil // a note is a sign of life, and if the policy cannot be deleted here the dead man is to do it
		}
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
