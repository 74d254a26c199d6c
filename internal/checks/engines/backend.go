// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"cmp"
	"fmt"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// Auto asks for the best backend that the platform is certain to enforce.
const Auto Backend = "Auto"

// BackendChoice is the backend to write to. When the asked one cannot work, Reason and Message say why and what to do, and
// Backend is what protects meanwhile.
type BackendChoice struct {
	Backend         Backend
	Reason, Message string
}

// BackendFor chooses the backend. inUse is the last assessment that was certain, or a zero one; last is the backend that was
// written to before, or "". A choice changes only when the platform is certain: what is not known, not answering for a while
// or migrating changes nothing, because a switch without need risks what is in place.
func BackendFor(asked Backend, inUse *Assessment, last Backend) BackendChoice {
	keep := cmp.Or(last, NetworkPolicy)
	if asked == NetworkPolicy {
		return BackendChoice{Backend: NetworkPolicy}
	}
	if asked == Auto || asked == "" {
		return BackendChoice{Backend: inUse.best(keep)}
	}
	reason, message, passing := inUse.obstacle(asked)
	if reason == "" || passing && last == asked {
		return BackendChoice{Backend: asked}
	}
	return BackendChoice{keep, reason, fmt.Sprintf("spec.backend asks for %s, but %s Meanwhile %s is used.", asked, message, keep)}
}

// best is the engine's own API where it works, or worked until something that passes came in between; else the core one.
func (a *Assessment) best(keep Backend) Backend {
	switch {
	case !a.Certain:
		return keep
	case a.Native == "":
		return NetworkPolicy
	}
	if reason, _, passing := a.obstacle(a.Native); reason != "" && (!passing || keep != a.Native) {
		return NetworkPolicy
	}
	return a.Native
}

// obstacle says why a native backend cannot work, and whether that passes by itself.
func (a *Assessment) obstacle(b Backend) (reason, message string, passing bool) {
	served, kind := a.APIs.CiliumServed, "cilium.io/v2"
	if b == Calico {
		served, kind = a.APIs.CalicoServed, "projectcalico.org/v3"
	}
	switch {
	case !a.Certain:
		return pcinetv1alpha1.ReasonPolicyEngineUncertain, "it is not certain that the platform enforces it; see the condition PolicyEngineSupported.", true
	case a.Native != b:
		return pcinetv1alpha1.ReasonBackendNotEnforced, fmt.Sprintf(
			"%s is the policy engine, and does not enforce policies of %s written by users. Set spec.backend to Auto.", cmp.Or(a.Engine.Name, "nothing known"), kind), false
	case !served && b == Calico:
		return pcinetv1alpha1.ReasonBackendNotServed, kind + " is not served. Install Calico's API server or its native v3 CRDs, or set spec.backend to Auto.", false
	case !served:
		return pcinetv1alpha1.ReasonBackendNotServed, kind + " is not served: kubectl get crd " + ciliumPolicyCRD + ". Restore the CRDs of Cilium, or set spec.backend to Auto.", false
	case b == Calico && !a.APIs.CalicoAvailable:
		return pcinetv1alpha1.ReasonBackendNotServed, kind + " does not answer: kubectl get apiservice v3.projectcalico.org -o yaml.", true
	case b == Calico && a.APIs.CalicoMigrating:
		return pcinetv1alpha1.ReasonCalicoMigrating, "Calico's objects are being migrated: kubectl get datastoremigrations -o yaml.", true
	}
	for _, f := range a.Findings {
		if f.Backend == b && f.Effect == Disables {
			return f.Reason, f.Message, false
		}
	}
	return "", "", false
}
