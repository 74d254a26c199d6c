// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package admission renders what the API server itself refuses: ValidatingAdmissionPolicies and, per baseline, their bindings.
//
// One policy each holds pods back (gate.go), guards what is written (tamper.go), and limits the operator's own account
// (limits.go). Every field is written out as the API server would default it, so that a stored object equals the rendered one.
package admission

import (
	"fmt"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// Names of the policies. The own limits' binding has the name of its policy.
const (
	PodGate     = "pcinb-pod-gate"
	TamperGuard = "pcinb-tamper-guard"
	OwnLimits   = "pcinb-own-limits"
)

// Mode says what happens to a request that a policy objects to.
type Mode string

// The modes. Off means no binding.
const (
	Deny Mode = "Deny"
	Warn Mode = "Warn"
	Off  Mode = ""
)

// Config is what the policies need to know.
type Config struct {
	// Operator is the user name of the operator's account.
	Operator string
	// DeadMan is the user name of whoever takes back a policy for nodes that locks people out.
	DeadMan string
	// Never lists the system namespaces, whose pods are never held back.
	Never []string
	// Tracking lists the prefixes of labels and annotations by which other tools claim an object.
	Tracking []string
	Canaries Canaries
}

// Canaries are the pods that the operator makes to prove enforcement.
type Canaries struct {
	Namespace string
	// Policies lists the names of those between canaries.
	Policies []string
}

// Baseline is what one baseline asks for.
type Baseline struct {
	Name string
	// Gate holds back the pods of Namespaces.
	Gate       Mode
	Namespaces metav1.LabelSelector
	// Tamper guards what was written for the baseline.
	Tamper Mode
}

// Policies returns all policies. Without a binding a policy does nothing.
func Policies(c Config) []*admissionregistrationv1.ValidatingAdmissionPolicy {
	return []*admissionregistrationv1.ValidatingAdmissionPolicy{podGate(c), tamperGuard(c), ownLimits(c)}
}

// Limits returns the binding of the own limits, which hold whatever a baseline asks for.
func Limits() *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: OwnLimits, Labels: labels(), Annotations: render.Annotations()},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: OwnLimits, ValidationActions: Deny.actions(),
		},
	}
}

// Bindings returns the bindings of one baseline.
func Bindings(b Baseline) []*admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	var out []*admissionregistrationv1.ValidatingAdmissionPolicyBinding
	if b.Gate != Off {
		out = append(out, gateBinding(b))
	}
	if b.Tamper != Off {
		out = append(out, tamperBinding(b))
	}
	return out
}

func binding(baseline, policy string, mode Mode, match metav1.LabelSelector, objects metav1.LabelSelector) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{
			Name: BindingName(baseline, policy), Labels: render.Labels(baseline), Annotations: render.Annotations(),
		},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        policy,
			ValidationActions: mode.actions(),
			MatchResources: &admissionregistrationv1.MatchResources{
				NamespaceSelector: &match, ObjectSelector: &objects, MatchPolicy: new(admissionregistrationv1.Equivalent),
			},
		},
	}
}

// BindingName returns the name of a baseline's binding of a policy.
func BindingName(baseline, policy string) string {
	return render.Name(baseline, strings.TrimPrefix(policy, "pcinb-"))
}

func (m Mode) actions() []admissionregistrationv1.ValidationAction {
	if m == Warn {
		return []admissionregistrationv1.ValidationAction{admissionregistrationv1.Warn, admissionregistrationv1.Audit}
	}
	return []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
}

func policy(name string, spec admissionregistrationv1.ValidatingAdmissionPolicySpec) *admissionregistrationv1.ValidatingAdmissionPolicy {
	spec.FailurePolicy = new(admissionregistrationv1.Fail)
	return &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels(), Annotations: render.Annotations()},
		Spec:       spec,
	}
}

// labels marks what belongs to no baseline alone.
func labels() map[string]string { return map[string]string{render.LabelManagedBy: render.ManagedBy} }

// matching matches requests by resource and operation.
func matching(namespaces metav1.LabelSelector, rules ...admissionregistrationv1.NamedRuleWithOperations) *admissionregistrationv1.MatchResources {
	return &admissionregistrationv1.MatchResources{
		NamespaceSelector: &namespaces, ObjectSelector: &metav1.LabelSelector{},
		ResourceRules: rules, MatchPolicy: new(admissionregistrationv1.Equivalent),
	}
}

// rule matches resources of a group, in whatever version they are asked for.
func rule(group string, operations []admissionregistrationv1.OperationType, resources ...string) admissionregistrationv1.NamedRuleWithOperations {
	return admissionregistrationv1.NamedRuleWithOperations{RuleWithOperations: admissionregistrationv1.RuleWithOperations{
		Operations: operations,
		Rule: admissionregistrationv1.Rule{
			APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: resources, Scope: new(admissionregistrationv1.AllScopes),
		},
	}}
}

// changes are the operations that change what is stored.
func changes() []admissionregistrationv1.OperationType {
	return []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update, admissionregistrationv1.Delete}
}

// written matches everything that is written for baselines, and its changes.
func written() []admissionregistrationv1.NamedRuleWithOperations {
	every := changes()
	return []admissionregistrationv1.NamedRuleWithOperations{
		rule("networking.k8s.io", every, "networkpolicies"),
		rule("projectcalico.org", every, "networkpolicies", "stagednetworkpolicies", "globalnetworkpolicies", "tiers"),
		rule("cilium.io", every, "ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies"),
		rule("policy.networking.k8s.io", every, "clusternetworkpolicies"),
		rule("pcinetwork.dev", every, "namespacecoverages"),
	}
}

// list spells strings as a CEL list.
func list(values []string) string {
	quoted := make([]string, 0, len(values))
	for _, v := range values {
		quoted = append(quoted, quote(v))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote spells a string in CEL, whose escapes are Go's.
func quote(s string) string { return fmt.Sprintf("%q", s) }

// optional spells a field of an object that may be absent, or what it then counts as.
func optional(object, path, absent string) string {
	return object + "." + path + ".orValue(" + absent + ")"
}

// all joins conditions that must all hold.
func all(conditions ...string) string { return strings.Join(conditions, " &&\n") }

// same says that a field of the new object is that of the old one.
func same(path, absent string) string {
	return optional("object", path, absent) + " == " + optional("oldObject", path, absent)
}
