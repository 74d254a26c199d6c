// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"maps"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// namespaceController lists who empties namespaces that go: with an account per controller, and without.
var namespaceController = []string{"system:serviceaccount:kube-system:namespace-controller", "system:kube-controller-manager"}

// hostKinds lists the kinds of policies for nodes. In Calico the name begins with that of the tier, pcinb-hosts.
const hostKinds = `["projectcalico.org/globalnetworkpolicies", "cilium.io/ciliumclusterwidenetworkpolicies"]`

// tamperGuard refuses what a repair would have to undo. The binding's selector matches the old object or the new one
// (k8s.io/apiserver pkg/admission/plugin/webhook/predicates/object/matcher.go), so labels can be neither taken off nor forged.
// Changes that are no drift pass: annotations of others, and rewrites of an object as it is, as in a migration of storage.
//
// The dead man takes back a policy for nodes, which locks out who else could do it. He is known by his name and the policy by its own,
// without a look at labels that may be missing: whatever fails here leaves people locked out.
func tamperGuard(c Config) *admissionregistrationv1.ValidatingAdmissionPolicy {
	return policy(TamperGuard, admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: matching(metav1.LabelSelector{}, written()...),
		MatchConditions: []admissionregistrationv1.MatchCondition{{
			Name: "not-the-operator", Expression: "request.userInfo.username != " + quote(c.Operator),
		}},
		Variables: []admissionregistrationv1.Variable{
			{Name: "baseline", Expression: `[oldObject, object].filter(o, o != null).map(o, ` + optional("o", "metadata.?labels", "{}") + `).filter(l, ` +
				quote(render.LabelBaseline) + ` in l).map(l, l[` + quote(render.LabelBaseline) + `])[0]`},
			{Name: "emptied", Expression: "request.userInfo.username in " + list(namespaceController) +
				" && namespaceObject != null && has(namespaceObject.metadata.deletionTimestamp)"},
			{Name: "takenBack", Expression: "request.userInfo.username == " + quote(c.DeadMan) +
				` && request.resource.group + "/" + request.resource.resource in ` + hostKinds +
				` && oldObject.metadata.name.startsWith("pcinb-") && oldObject.metadata.name.endsWith("-hosts")`},
		},
		Validations: []admissionregistrationv1.Validation{{
			Expression: `request.operation == "DELETE" ? variables.emptied || variables.takenBack : request.operation == "UPDATE" &&` + "\n" + unchanged(c.Tracking),
			Message:    "It belongs to a PCINetworkBaseline: only the operator may change it.",
			MessageExpression: `request.resource.resource + " " + request.?namespace.orValue("") + "/" + request.?name.orValue("") + " belongs to PCINetworkBaseline " + variables.baseline +
": only ` + c.Operator + ` may change or delete it. Change the baseline instead; in an emergency: kubectl annotate pcinb " + variables.baseline +
" pcinetwork.dev/break-glass=\"TIME REASON\" (docs/security.md)"`,
			Reason: new(metav1.StatusReasonForbidden),
		}},
	})
}

// unchanged says that an update changes nothing that would be drift.
func unchanged(tracking []string) string {
	annotations := slices.Sorted(maps.Keys(render.Annotations()))
	annotations = append(annotations, render.AnnotationJustification)
	return all(
		same("?spec", "null"),
		same("?specs", "null"), // of Cilium
		`(request.resource.group != "pcinetwork.dev" || `+same("?status", "null")+")",
		addsNone("ownerReferences"),
		addsNone("finalizers"),
		keeps("labels", []string{render.LabelManagedBy, render.LabelBaseline}, tracking),
		keeps("annotations", annotations, tracking),
	)
}

// addsNone says that nothing was added to a list, of which all is somebody else's: what takes it away again only mends. While the
// namespace goes the operator does not, and it would never go.
func addsNone(field string) string {
	return optional("object", "metadata.?"+field, "[]") + ".all(x, x in " + optional("oldObject", "metadata.?"+field, "[]") + ")"
}

// keeps says that ours are as they were, and that nothing was added by which somebody else claims the object.
func keeps(field string, ours, tracking []string) string {
	now, old := optional("object", "metadata.?"+field, "{}"), optional("oldObject", "metadata.?"+field, "{}")
	return all(
		list(ours)+".all(k, "+now+"[?k] == "+old+"[?k])",
		now+".all(k, !"+list(tracking)+".exists(p, k.startsWith(p)) || "+old+"[?k] == "+now+"[?k])",
	)
}

func tamperBinding(b Baseline) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	ours := metav1.LabelSelector{MatchLabels: map[string]string{render.LabelBaseline: b.Name}}
	return binding(b.Name, TamperGuard, b.Tamper, metav1.LabelSelector{}, ours)
}
