// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// podGate admits a pod once the coverage of its namespace says that the deny exists. A missing allowance holds nothing back:
// closed with an outage is better than not at all. Only a coverage with our labels counts, because the guard lets nobody else
// create one of those; and only one of this namespace, because the API server may still have that of an earlier one of its name. The
// type of namespaceObject calls the UID otherwise than the object does (k8s.io/apiserver pkg/admission/plugin/cel/compile.go).
//
// If the kind of the parameter is gone, an API server that has noticed, at the latest one that starts, refuses everything that the
// policy itself matches, whatever its bindings say (k8s.io/apiserver pkg/admission/plugin/policy/generic/policy_dispatcher.go). So the policy, and not
// the bindings alone, leaves the system namespaces out.
func podGate(c Config) *admissionregistrationv1.ValidatingAdmissionPolicy {
	create := []admissionregistrationv1.OperationType{admissionregistrationv1.Create}
	pods := rule("", create, "pods")
	var selector metav1.LabelSelector
	if len(c.Never) > 0 {
		selector.MatchExpressions = []metav1.LabelSelectorRequirement{{
			Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: slices.Clone(c.Never),
		}}
	}
	return policy(PodGate, admissionregistrationv1.ValidatingAdmissionPolicySpec{
		ParamKind:        &admissionregistrationv1.ParamKind{APIVersion: "pcinetwork.dev/v1alpha1", Kind: "NamespaceCoverage"},
		MatchConstraints: matching(selector, pods),
		Validations: []admissionregistrationv1.Validation{{
			Expression: all(
				`params.metadata.?labels.orValue({})[?`+quote(render.LabelManagedBy)+`].orValue("") == `+quote(render.ManagedBy),
				`params.metadata.?labels.orValue({})[?`+quote(render.LabelBaseline)+`].orValue("") == params.metadata.name`,
				`params.?status.?namespaceUID.orValue("") == dyn(namespaceObject).metadata.uid`,
				`(params.?status.?state.orValue("") == "Exempt" ||
params.?status.?enforcement.orValue("") == "Audit" ||
params.?status.?policies.orValue([]).exists(p, p.role == "Deny" && p.state == "InPlace"))`,
			),
			Message: "The default deny of the namespace is not in place yet. See kubectl get nscov.",
			MessageExpression: `"Namespace " + request.namespace + " does not have the default deny of PCINetworkBaseline " + params.metadata.name +
" yet, so its pods wait for it. What it waits for: kubectl get nscov -n " + request.namespace + " " + params.metadata.name + " -o wide"`,
			Reason: new(metav1.StatusReasonForbidden),
		}},
	})
}

// gateBinding gives the gate its parameter: the coverage of the baseline in the pod's own namespace. The API server refuses for a
// missing parameter whatever the actions are, so a gate that only warns has to let those pods pass in silence.
func gateBinding(b Baseline) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	out := binding(b.Name, PodGate, b.Gate, *b.Namespaces.DeepCopy(), metav1.LabelSelector{})
	absent := admissionregistrationv1.DenyAction
	if b.Gate == Warn {
		absent = admissionregistrationv1.AllowAction
	}
	out.Spec.ParamRef = &admissionregistrationv1.ParamRef{Name: b.Name, ParameterNotFoundAction: &absent}
	return out
}
