// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// wantedBetween is one of the policies between the canaries beside its live object; nil when there is none.
type wantedBetween struct {
	intended, live client.Object
}

func (w wantedBetween) inPlace() bool { return w.live != nil && apply.Diff(w.intended, w.live).None() }

// intended returns the policies between the canaries, rendered for the API that the deny is written to.
func (r *ProbeReconciler) intended(s *probeScope) []wantedBetween {
	var out []wantedBetween
	for _, p := range r.run.Policies(r.state) {
		annotations := render.Annotations()
		annotations[render.AnnotationJustification] = p.Justification
		w := wantedBetween{intended: s.api.Render(metav1.ObjectMeta{
			Namespace: probe.Namespace, Name: probe.Role(p.Name).PolicyName(), Annotations: annotations,
			Labels: map[string]string{render.LabelManagedBy: render.ManagedBy, probe.LabelRole: p.Name},
		}, p)}
		for _, live := range s.policies {
			if live.api == s.api && live.object.GetName() == w.intended.GetName() {
				w.live = live.object
			}
		}
		out = append(out, w)
	}
	return out
}

// writePolicies makes the policies between the canaries as the state asks, removes what is left of others, and says whether there
// was anything to do.
func (r *ProbeReconciler) writePolicies(ctx context.Context, s *probeScope) (changed bool, err error) {
	keep := map[types.UID]bool{}
	for _, w := range r.intended(s) {
		change, err := r.Applier.Write(ctx, w.intended, w.live)
		if err != nil {
			return changed, err
		}
		changed = changed || change.Operation != apply.None
		if w.live != nil {
			keep[w.live.GetUID()] = true
		}
	}
	for _, p := range s.policies {
		if ofProbe(p.object) && !keep[p.object.GetUID()] {
			if err := r.Applier.Delete(ctx, p.object); err != nil {
				return changed, err
			}
			changed = true
		}
	}
	return changed, nil
}

// terms describes the policies of the canaries' namespace, so that it shows whether one has changed; "" if the canaries' own are
// not as they should be.
func (r *ProbeReconciler) terms(s *probeScope) string {
	var out []string
	for _, w := range r.intended(s) {
		if !w.inPlace() {
			return ""
		}
	}
	for _, p := range s.policies {
		out = append(out, string(p.object.GetUID())+" "+p.object.GetResourceVersion())
	}
	for _, b := range s.covering {
		out = append(out, b.Name+" "+string(b.UID))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
