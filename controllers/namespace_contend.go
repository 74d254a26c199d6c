// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// coverages is the kind of our own records.
var coverages = kind{resource: "namespacecoverages." + pcinetv1alpha1.GroupVersion.Group}

// contend notes whether a policy has to be written because of somebody else, how long that has to wait, and who fights over it.
func (r *NamespaceReconciler) contend(s *scope, w *wantedPolicy) {
	if s.backend.paused || s.letGo(w) || s.auditing() && !w.api.staged {
		return // it is not written anyway
	}
	key, leads := w.key(), r.elected()
	p, _ := s.recorded(w)
	r.fights.told(key, s.hasSecond(w), p.State == pcinetv1alpha1.PolicyContested, leads)
	if w.state == pcinetv1alpha1.PolicyMissing || w.state == pcinetv1alpha1.PolicyDrifted {
		if w.again = r.again(s, w); w.again {
			w.left = r.fights.need(key, w.drift.Manager, leads)
		}
	}
	is := r.fights.standing(key)
	if !is.repeated || w.state == pcinetv1alpha1.PolicyCollision {
		return
	}
	w.repeated = true
	if is.fought {
		w.contested = opponent(is.manager)
	}
	s.requeueAfter = sooner(s.requeueAfter, is.over)
}

// hasSecond says whether the coverage lists the second copy of a policy, beside the first.
func (s *scope) hasSecond(w *wantedPolicy) bool {
	first, known := s.recorded(w)
	second, both := s.recordedAs(w.api, render.SecondName(w.intended.GetName()))
	return known && both && first.State != pcinetv1alpha1.PolicyCollision && second.State != pcinetv1alpha1.PolicySuperfluous
}

// again says whether this same generation of the baseline has had a policy in place before, and nothing that it is made of has
// changed since. One that could not be written until now never was.
func (r *NamespaceReconciler) again(s *scope, w *wantedPolicy) bool {
	p, known := s.recorded(w)
	known = known && (p.UID != "" || p.State == pcinetv1alpha1.PolicyContested || r.fights.know(w.key()))
	if by := r.author(w.key()); by.baseline == s.baseline.Name && by.generation == s.baseline.Generation {
		known = true
	}
	return known && (w.live == nil || !r.asked(s, w.drift))
}

// second returns a copy, under another name, of a deny that somebody else goes on changing, and nil for anything else. Denies add
// up, so the namespace stays denied whatever becomes of the first. It goes as everything superfluous goes, once that is over.
func (r *NamespaceReconciler) second(ctx context.Context, s *scope, w *wantedPolicy) (*wantedPolicy, error) {
	if !w.repeated || w.policy.Role != policy.Deny || w.api.staged || w.collides != "" {
		return nil, nil //nolint:nilnil // most policies have none
	}
	out := &wantedPolicy{policy: w.policy, api: w.api, intended: render.Render(w.api, s.decision.Set, w.policy)}
	out.intended.SetName(render.SecondName(w.intended.GetName()))
	live, err := r.get(ctx, s, out)
	if err != nil {
		return nil, err
	}
	if live != nil && !r.owns(s, livePolicy{live, w.api}) {
		return nil, nil //nolint:nilnil // the name is taken
	}
	out.see(live)
	r.contend(s, out)
	return out, nil
}

// contested says who fights over what; empty when nobody does.
func (r *NamespaceReconciler) contested(s *scope) string {
	resource, name, by := "", "", ""
	is := r.fights.standing(objectKey{coverages.resource, s.namespace.Name, s.baseline.Name})
	if is.fought && is.manager != "" { // otherwise it may be our own changes that are many
		resource, name, by = coverages.resource, s.baseline.Name, is.manager
		s.requeueAfter = sooner(s.requeueAfter, is.over)
	}
	for _, w := range s.wanted {
		if w.contested != "" {
			resource, name, by = w.api.resource, w.intended.GetName(), w.contested
		}
	}
	if by == "" {
		return ""
	}
	return fmt.Sprintf("%s %s/%s: %s keeps changing or deleting it. Stop that writer; the API server's audit log names it.",
		checks.Title(resource), s.namespace.Name, name, by)
}

// opponent names the other side of a fight.
func opponent(manager string) string { return or(manager, "somebody without a known field manager") }
