// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
)

// why says why it is taken back.
func (s *firewallScope) why() string {
	switch {
	case s.seen.Stage == trial.Strange:
		return ""
	case s.seen.Contact != "":
		return s.seen.Contact
	case !s.seen.Armed && !s.seen.Awaited:
		return s.unarmed
	case s.seen.Fit != trial.Misfits:
		return "nobody said that people still come in"
	default:
		return "it would be refused now, as other findings say"
	}
}

// record tells those who judge how far it is.
func (r *FirewallReconciler) record(ctx context.Context, s *firewallScope, err error) {
	r.tell(ctx, s, s.state(err))
}

// state says how far it is, once what was decided is done, or has failed.
func (s *firewallScope) state(err error) snapshot.Firewall {
	kept := s.seen.Stage == trial.AllNodes && s.seen.Kept
	switch {
	case err != nil && !kept:
		return pending("it could not be written: " + replied(err))
	case kept && s.invalid() != "":
		return pending(s.invalid())
	case kept:
		out := snapshot.Firewall{State: snapshot.FirewallKept, Why: cmp.Or(s.unarmed, s.seen.Contact)}
		if err != nil {
			out.Why = cmp.Or(out.Why, "it could not be written: "+replied(err))
		}
		return out
	case s.act == trial.Wait || s.act == trial.TakeBack:
		return s.waiting()
	case s.seen.Stage == trial.OneNode:
		return snapshot.Firewall{State: snapshot.FirewallTrying, Why: s.trying()}
	default:
		return snapshot.Firewall{State: snapshot.FirewallTrying, Why: "it is on all nodes, and watched" + s.held()}
	}
}

// held says why it goes no further, or "".
func (s *firewallScope) held() string {
	if s.seen.Fit == trial.Fits {
		return ""
	}
	return ", and goes no further for what other findings say"
}

// trying says what is tried, and what is asked of a person meanwhile: with the longest name it still fits into a condition.
func (s *firewallScope) trying() string {
	if s.seen.Confirmed || !s.seen.Tried { // of what nothing is remembered nobody is asked: it is taken back
		return "it is tried on the nodes that are labelled " + policy.LabelHostFirewall + "=" + policy.HostFirewallTrial + s.held()
	}
	return fmt.Sprintf("it is tried on the labelled nodes, and taken back at %s unless somebody comes in by them and says so: kubectl annotate pcinb %s %s=%s --overwrite",
		s.memory.Tried.Begun.Add(trial.Confirm).Format(time.RFC3339), s.name, pcinetv1alpha1.AnnotationHostFirewallConfirmed, s.memory.Token())
}

// invalid says why the engine's agents refuse the live policy, or "".
func (s *firewallScope) invalid() string {
	if s.live == nil {
		return ""
	}
	conditions, _, _ := unstructured.NestedSlice(s.live.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == cilium.ConditionValid && c["status"] == string(metav1.ConditionFalse) {
			return fmt.Sprintf("Cilium refuses it: %v", c["message"])
		}
	}
	return ""
}

// waiting says why it is not tried.
func (s *firewallScope) waiting() snapshot.Firewall {
	out := pending("what was there and is no firewall of this list was taken away")
	switch {
	case s.handsOff != "":
		out = pending(s.handsOff)
	case s.seen.Fit == trial.Misfits:
		out = pending("it is refused, as other findings say")
	case s.seen.Tried:
		out = snapshot.Firewall{State: snapshot.FirewallTakenBack, Why: cmp.Or(s.memory.Tried.Why, "the dead man did it, or somebody else, or the operator ended meanwhile")}
	case s.seen.Fit == trial.Unknown:
		out = pending("not everything is known that it depends on")
	case s.act == trial.Wait:
		out = pending(cmp.Or(s.unarmed, s.seen.Contact))
	}
	if s.seen.Stage == trial.Earlier || s.seen.Stage == trial.FewerPorts {
		out.Why += ". An earlier list, or fewer ports, are enforced meanwhile"
	}
	return out
}

// tell keeps what is said, and tells a person of a change. Of what is not known yet nothing is said, which is no pass.
func (r *FirewallReconciler) tell(ctx context.Context, s *firewallScope, now snapshot.Firewall) {
	if !s.known || !r.firewalls.tell(s.wanted.policy, now) {
		return
	}
	ctrl.LoggerFrom(ctx).Info("The firewall on nodes is in another state", "baseline", s.name, "state", now.State, "cause", now.Why)
	kind := eventWarning
	if now.State == snapshot.FirewallTrying || now.State == snapshot.FirewallKept {
		kind = eventNormal
	}
	r.Recorder.Eventf(s.baseline, nil, kind, "HostFirewall"+string(now.State), "Enforce", "%s", clipMessage(cmp.Or(now.Why, "It is enforced on all nodes")))
}

func pending(why string) snapshot.Firewall {
	return snapshot.Firewall{State: snapshot.FirewallPending, Why: strings.TrimSuffix(why, ".")}
}
