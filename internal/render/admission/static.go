// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// staticSuffix ends the names of all that an API server reads from files, and of nothing else
// (k8s.io/apiserver pkg/admission/plugin/manifest/validation.go).
const staticSuffix = ".static.k8s.io"

// Static returns the guard and the own limits, with their bindings, for files that API servers read themselves: no request can
// change those, and they are asked about the policies and bindings of admission as well. They know of no baseline and so hold
// for all, whatever one says. The gate is not among them, because a file may name no parameter; but it is guarded by them.
func Static(c Config) []render.Object {
	guard, limits := tamperGuard(c), ownLimits(c)
	guard.Spec.MatchConstraints.ResourceRules = append(guard.Spec.MatchConstraints.ResourceRules,
		rule("admissionregistration.k8s.io", changes(), "validatingadmissionpolicies", "validatingadmissionpolicybindings"))
	guard.Spec.Validations[0].MessageExpression = `request.resource.resource + " " + request.?namespace.orValue("") + "/" + request.?name.orValue("") + ` +
		`" belongs to pci-network-baseline: files of the API servers say that only ` + c.Operator + ` may change or delete it (docs/security.md)"`
	ours := metav1.LabelSelector{MatchLabels: labels()}
	return append(static(guard, ours), static(limits, metav1.LabelSelector{})...)
}

// static gives a policy the form of a file, and adds its binding.
func static(p *admissionregistrationv1.ValidatingAdmissionPolicy, objects metav1.LabelSelector) []render.Object {
	kind := func(kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: kind}
	}
	meta := metav1.ObjectMeta{Name: p.Name + staticSuffix}
	p.TypeMeta, p.ObjectMeta = kind("ValidatingAdmissionPolicy"), meta
	return []render.Object{p, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		TypeMeta: kind("ValidatingAdmissionPolicyBinding"), ObjectMeta: meta,
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: meta.Name, ValidationActions: Deny.actions(),
			MatchResources: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &objects, MatchPolicy: new(admissionregistrationv1.Equivalent),
			},
		},
	}}
}
