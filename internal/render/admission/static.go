// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// staticSuffix ends the names of all that an API server reads from files, and of nothing else
// (k8s.io/apiserver pkg/admission/plugin/manifest/validation.go).
const staticSuffix = ".static.k8s.io"

// Static returns the guard and the own limits, of admission too, with their bindings, for files that API servers read themselves: no request can
// change those, and they are asked about the policies and bindings of admission as well. They know of no baseline and so hold
// for all, whatever one says. The gate is not among them, because a file may name no parameter; but it is guarded by them.
func Static(c Config) []render.Object {
	guard, limits := tamperGuard(c), ownLimits(c)
	guard.Spec.MatchConstraints.ResourceRules = append(guard.Spec.MatchConstraints.ResourceRules,
		rule("admissionregistration.k8s.io", changes(), "validatingadmissionpolicies", "validatingadmissionpolicybindings"))
	guard.Spec.Validations[0].MessageExpression = `request.resource.resource + " " + request.?namespace.orValue("") + "/" + request.?name.orValue("") + ` +
		`" belongs to pci-network-baseline: files of the API servers say that only ` + c.Operator + ` may change or delete it (docs/security.md)"`
	ours := metav1.LabelSelector{MatchLabels: labels()}
	return slices.Concat(static(guard, ours), static(limits, metav1.LabelSelector{}), static(ownAdmission(c), metav1.LabelSelector{}))
}

// ownAdmission refuses the operator's own account what of admission is not its own. RBAC cannot: the names of bindings are made of
// those of baselines.
func ownAdmission(c Config) *admissionregistrationv1.ValidatingAdmissionPolicy {
	names := list([]string{PodGate, TamperGuard, OwnLimits})
	return policy("pcinb-own-admission", admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: matching(metav1.LabelSelector{}, rule("admissionregistration.k8s.io", changes(), "validatingadmissionpolicies", "validatingadmissionpolicybindings")),
		MatchConditions: []admissionregistrationv1.MatchCondition{{
			Name: "the-operator", Expression: "request.userInfo.username == " + quote(c.Operator),
		}},
		Validations: []admissionregistrationv1.Validation{{
			Expression: `request.resource.resource == "validatingadmissionpolicies" ? request.operation != "DELETE" && object.metadata.name in ` + names + ` :
(request.operation == "DELETE" ? oldObject.metadata.name.startsWith("pcinb-") : object.metadata.name.startsWith("pcinb-") && object.spec.policyName in ` + names + `)`,
			Message: "The operator may change no admission policy or binding but its own.",
			Reason:  new(metav1.StatusReasonForbidden),
		}},
	})
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
