// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/internal/status"
)

// The bounds of what a status says about the platform: at most 2 KiB of it.
const (
	maxPlatformEntries = 5
	maxSignal          = 96
	maxWarning         = 168
	maxPlatformName    = 64
)

// verdict is the policy engine's, for what is written to the backend in use.
func (s *baselineScope) verdict() engines.Verdict {
	return s.engine.Verdict(engines.Backend(s.backend.api.Name()))
}

// setEngine says whether the policy engine enforces what is written (4.1).
func (s *baselineScope) setEngine(c *status.Conditions) {
	v := s.verdict()
	c.Set(pcinetv1alpha1.ConditionPolicyEngineSupported, v.Status, v.Reason, v.Message)
}

// platform is what a status says about the platform; nil before it was looked at.
func (s *baselineScope) platform() *pcinetv1alpha1.PlatformStatus {
	a := &s.engine
	if !a.Observed {
		return nil
	}
	return &pcinetv1alpha1.PlatformStatus{
		Engine: status.Clip(a.Engine.Name, maxPlatformName), Version: status.Clip(a.Engine.Version, maxPlatformName),
		BaseCNI: status.Clip(a.Base.Name, maxPlatformName), Provider: string(a.Provider),
		Encapsulation: pcinetv1alpha1.Encapsulation(a.Encapsulation),
		Nodes:         pcinetv1alpha1.PlatformNodes{Ready: new(int32(a.Coverage.Ready)), Total: new(int32(a.Coverage.Total))},
		Signals:       clipped(signals(a), maxSignal),
		Warnings:      clipped(append(s.exposed(), a.Warnings(engines.Backend(s.backend.api.Name()))...), maxWarning),
	}
}

// exposed warns of namespaces with an agent that the baseline covers: what runs there beside the agent is denied, too. They are
// not left out by themselves: whoever may create a DaemonSet that looks like an agent could take his namespace out of scope.
func (s *baselineScope) exposed() []string {
	scope := &s.baseline.Spec.Namespaces
	covers := "covers"
	if scope.Selector != nil {
		covers = "may cover"
	}
	var out []string
	for _, a := range s.engine.Agents {
		name := pcinetv1alpha1.NamespaceName(a.Namespace)
		system := scope.System != pcinetv1alpha1.SystemNamespacesInclude && slices.Contains(s.cluster.SystemNamespaces, a.Namespace)
		exempt := slices.ContainsFunc(s.baseline.Spec.Exemptions, func(e pcinetv1alpha1.Exemption) bool {
			return slices.Contains(e.Namespaces, name) && e.ExpiresAt.After(s.now)
		})
		if !system && !exempt && !slices.Contains(scope.Exclude, name) {
			out = append(out, fmt.Sprintf("%s runs in namespace %s, which this baseline %s: add it to spec.namespaces.exclude.", a.Name, a.Namespace, covers))
		}
	}
	return out
}

// signals are those of the engine, then those of the plugin below it.
func signals(a *engines.Assessment) []string {
	var out []string
	seen := map[snapshot.Signal]bool{}
	for _, component := range []snapshot.Component{a.Engine, a.Base} {
		for _, s := range component.Signals {
			if seen[s] {
				continue
			}
			seen[s] = true
			text := s.Object + ": " + s.Says
			if s.Weak {
				text = "weak: " + text
			}
			out = append(out, text)
		}
	}
	return out
}

func clipped(texts []string, length int) []string {
	var out []string
	for _, t := range texts[:min(len(texts), maxPlatformEntries)] {
		out = append(out, status.Clip(t, length))
	}
	return out
}

// hindrance says why policies that are in place are not guarded or enforced, or not those that were asked for; lasting when only a human
// can change that.
func (s *baselineScope) hindrance() (reason, message string, lasting bool) {
	if s.admission.State == pcinetv1alpha1.PolicyMissing {
		return pcinetv1alpha1.ReasonAdmissionNotInPlace, s.admission.Message, false
	}
	if s.backend.reason != "" {
		return s.backend.reason, s.backend.message, true
	}
	if v := s.verdict(); v.Status == metav1.ConditionFalse {
		return v.Reason, v.Message, v.Stalled
	}
	return "", "", false
}
