// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package admission

import (
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	intent "github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// ownLimits refuses the operator's own account what no plan ever asks for, so that whoever steals its token cannot write a policy
// that opens everything. It cannot guard admission policies themselves, which no ValidatingAdmissionPolicy can match.
func ownLimits(c Config) *admissionregistrationv1.ValidatingAdmissionPolicy {
	rules := append(written(), rule("pcinetwork.dev", changes(), "pcinetworkbaselines"), rule("", changes()[:1], "pods"))
	return policy(OwnLimits, admissionregistrationv1.ValidatingAdmissionPolicySpec{
		MatchConstraints: matching(metav1.LabelSelector{}, rules...),
		MatchConditions: []admissionregistrationv1.MatchCondition{{
			Name: "the-operator", Expression: "request.userInfo.username == " + quote(c.Operator),
		}},
		Variables: []admissionregistrationv1.Variable{
			{Name: "it", Expression: `request.operation == "DELETE" ? oldObject : object`},
			{Name: "name", Expression: `variables.it.metadata.?name.orValue("")`},
			{Name: "labels", Expression: `variables.it.metadata.?labels.orValue({})`},
			{Name: "kind", Expression: `request.resource.group + "/" + request.resource.resource`},
			{Name: "canaries", Expression: `request.?namespace.orValue("") == ` + quote(c.Canaries.Namespace) +
				` && (variables.kind == ` + pods + ` || variables.name in ` + list(c.Canaries.Policies) + `)`},
			{Name: "ours", Expression: `variables.labels[?` + quote(render.LabelManagedBy) + `].orValue("") == ` + quote(render.ManagedBy) +
				` && (variables.canaries || variables.labels[?` + quote(render.LabelBaseline) + `].orValue("") != "")`},
			{Name: "names", Expression: `["pcinb-", "pcinb2-"].map(p, p + variables.labels[?` + quote(render.LabelBaseline) + `].orValue(""))`},
			{Name: "denies", Expression: `variables.names.exists(n, variables.name == n + "-default-deny")`},
			{Name: "allows", Expression: `variables.canaries || variables.names.exists(n, variables.name.startsWith(n + "-allow-"))`},
			{Name: "guards", Expression: `variables.name == variables.names[0] + "-guard"`},
			{Name: "hosts", Expression: `variables.kind == ` + ciliumNodes + ` && variables.name == variables.names[0] + "-hosts" || ` +
				`variables.kind == ` + calicoNodes + ` && variables.name == "pcinb-hosts." + variables.names[0] + "-hosts"`},
		},
		Validations: limits(),
	})
}

func limits() []admissionregistrationv1.Validation {
	limit := func(expression, message string) admissionregistrationv1.Validation {
		return admissionregistrationv1.Validation{Expression: expression, Message: message, Reason: new(metav1.StatusReasonForbidden)}
	}
	// written limits what is stored of some kinds.
	written := func(kinds, expression, message string) admissionregistrationv1.Validation {
		return limit(`request.operation == "DELETE" || !(variables.kind in `+kinds+") || (\n"+expression+")", message)
	}
	const (
		baselines = `variables.kind == "pcinetwork.dev/pcinetworkbaselines"`
		coverages = `variables.kind == "pcinetwork.dev/namespacecoverages"` // a forged one of no baseline has to go too
	)
	return []admissionregistrationv1.Validation{
		limit("!("+baselines+`) || request.operation == "UPDATE" && `+"\n"+all(
			same("?spec", "null"), same("metadata.?labels", "{}"), same("metadata.?annotations", "{}"), same("metadata.?ownerReferences", "[]"),
		), "The operator may change nothing of a PCINetworkBaseline but its finalizers and status."),
		limit(baselines+` || variables.ours || request.operation == "DELETE" && (`+coverages+` || variables.name.startsWith("pcinb-") || variables.name.startsWith("pcinb2-"))`,
			"The operator may write and delete only what it has marked as its own."),
		limit("variables.kind != "+pods+" || variables.canaries &&\n"+all(
			`!object.spec.?automountServiceAccountToken.orValue(true)`,
			`object.spec.?volumes.orValue([]).all(v, has(v.downwardAPI))`,
			`(object.spec.containers + object.spec.?initContainers.orValue([])).all(c, !has(c.env) && !has(c.envFrom))`,
		), "The operator's pods are canaries, which hold no token and read nothing."),
		written(namespacedKinds, "variables.denies || variables.allows", "The operator's policies have the names of a deny or an allowance of the baseline that they are labelled with."),
		written(clusterKinds, "variables.guards || variables.hosts", "The operator's cluster-wide policies have the name of the guard, or of the policy for nodes, of the baseline that they are labelled with."),
		written(plainKinds, "variables.allows || variables.hosts || "+all(`object.spec.?ingress.orValue([]).size() == 0`, `object.spec.?egress.orValue([]).size() == 0`),
			"The operator's denies have no rule."),
		written(namespacedKinds, `variables.allows || object.spec.?podSelector.orValue({}).size() == 0 &&
object.spec.?selector.orValue("all()") == "all()" && object.spec.?serviceAccountSelector.orValue("") == "" &&
object.spec.?endpointSelector.orValue({}).size() == 0`,
			"The operator's denies select every pod."),
		written(`["networking.k8s.io/networkpolicies"]`, all(
			`object.spec.?ingress.orValue([]).all(r, r.?from.orValue([]).size() > 0 && `+corePorts+")",
			`object.spec.?egress.orValue([]).all(r, r.?to.orValue([]).size() > 0 && `+corePorts+")",
		), "The operator's rules name their peers and ports."),
		written(`["projectcalico.org/networkpolicies", "projectcalico.org/stagednetworkpolicies"]`, all(
			`object.spec.?ingress.orValue([]).all(r, `+calicoRule("source", "destination")+")",
			`object.spec.?egress.orValue([]).all(r, `+calicoRule("destination", "source")+")",
		), "The operator's rules allow, and name their peers, protocol and ports."),
		written(ciliumKinds, "variables.hosts || "+all(
			`!has(object.specs) && object.spec.all(k, k in ["endpointSelector", "ingress", "egress"])`,
			`object.spec.?ingress.orValue([]).size() + object.spec.?egress.orValue([]).size() > 0`, // or it says nothing
			`object.spec.?ingress.orValue([]).all(r, `+ciliumRule("from")+")",
			`object.spec.?egress.orValue([]).all(r, `+ciliumRule("to")+")",
		), "The operator's rules name their peers and ports, and its denies allow nothing."),
		written("["+ciliumNodes+"]", "!variables.hosts || "+ciliumHosts(), closesNodes),
		written("["+calicoNodes+"]", "!variables.hosts || "+calicoHosts(), closesNodes),
		written("["+calicoNodes+"]", "!variables.guards || "+all(
			`object.spec.all(k, k in ["tier", "selector", "namespaceSelector", "types"])`, `object.spec.?tier.orValue("default") == "default"`,
			`object.spec.?selector.orValue("") == "projectcalico.org/orchestrator == \"k8s\""`,
		), "The operator's guard layer is for pods."),
		written(`["projectcalico.org/tiers"]`, all(
			`variables.name == "pcinb-hosts"`, `object.spec.?defaultAction.orValue("") == "Pass"`, `object.spec.all(k, k in ["order", "defaultAction"])`,
		), "The operator's tier is pcinb-hosts, which passes on what it does not deny."),
		written(`["policy.networking.k8s.io/clusternetworkpolicies"]`, all(
			`object.spec.tier == "Baseline"`,
			`object.spec.?ingress.orValue([]).all(r, r.action == "Deny")`,
			`object.spec.?egress.orValue([]).all(r, r.action == "Deny")`,
		), "The operator's cluster-wide policies deny."),
	}
}

// Kinds that share a limit. In those of plainKinds a deny has no rule; in Cilium's it has an empty one, and the cluster-wide
// one of policy.networking.k8s.io has rules that deny.
const (
	pods            = `"/pods"`
	namespacedKinds = `["networking.k8s.io/networkpolicies", "projectcalico.org/networkpolicies", "projectcalico.org/stagednetworkpolicies", "cilium.io/ciliumnetworkpolicies"]`
	clusterKinds    = `["projectcalico.org/globalnetworkpolicies", "cilium.io/ciliumclusterwidenetworkpolicies", "policy.networking.k8s.io/clusternetworkpolicies"]`
	plainKinds      = `["networking.k8s.io/networkpolicies", "projectcalico.org/networkpolicies", "projectcalico.org/stagednetworkpolicies", "projectcalico.org/globalnetworkpolicies"]`
	ciliumKinds     = `["cilium.io/ciliumnetworkpolicies", "cilium.io/ciliumclusterwidenetworkpolicies"]`
	ciliumNodes     = `"cilium.io/ciliumclusterwidenetworkpolicies"`
	calicoNodes     = `"projectcalico.org/globalnetworkpolicies"`
)

// closesNodes is what every policy for nodes has to be.
const closesNodes = "The operator's policies for nodes deny ranges of addresses TCP ports, and isolate nothing."

// corePorts says that a rule has ports, each with a number: no port means all of them.
const corePorts = `r.?ports.orValue([]).size() > 0 && r.ports.all(p, has(p.protocol) && type(p.?port.orValue("")) == int)`

// calicoRule says that a rule allows ports of a protocol, from or to ranges of addresses, or pods alone: the expressions that are
// rendered begin with what tells pods from everything else, and have no disjunction.
func calicoRule(peer, other string) string {
	return all(
		`r.action == "Allow" && has(r.protocol) && r.all(k, k in ["action", "protocol", "source", "destination"])`,
		`r.?destination.?ports.orValue([]).size() > 0`,
		`r.?`+peer+`.orValue({}).all(k, k in ["nets", "notNets", "selector", "namespaceSelector", "ports"])`,
		`r.?`+other+`.orValue({}).all(k, k == "ports")`,
		`r.?source.?ports.orValue([]).size() == 0`,
		`(r.?`+peer+`.?nets.orValue([]).size() > 0 || r.?`+peer+`.?selector.orValue("").startsWith("projectcalico.org/orchestrator == \"k8s\"") && !r.`+peer+`.selector.contains("||"))`,
	)
}

// ciliumRule says that a rule is empty, which denies, or has peers and ports. Endpoints must be pods: a selector that does not ask
// for a namespace, or asks for another one, may match the world.
func ciliumRule(side string) string {
	const namespace = `"k8s:io.kubernetes.pod.namespace"`
	return "r.size() == 0 || variables.allows && " + all(
		`r.all(k, k in ["`+side+`Endpoints", "`+side+`CIDRSet", "`+side+`Entities", "toPorts"]) && r.size() == 2`,
		`r.?toPorts.orValue([]).size() > 0`,
		`r.toPorts.all(t, t.size() == 1 && t.?ports.orValue([]).size() > 0 && t.ports.all(p, has(p.protocol) && p.protocol != "ANY" && p.?port.orValue("0") != "0"))`,
		`(r.?`+side+`Endpoints.orValue([]).size() + r.?`+side+`CIDRSet.orValue([]).size() + r.?`+side+`Entities.orValue([]).size()) > 0`,
		`r.?`+side+`Entities.orValue([]).all(e, e in ["kube-apiserver", "host"])`,
		`r.?`+side+`Endpoints.orValue([]).all(e, `+namespace+` in e.?matchLabels.orValue({}) || e.?matchExpressions.orValue([]).exists(x, x.key == `+namespace+` && x.operator in ["In", "Exists"]))`,
	)
}

// ciliumHosts says that a policy for nodes does nothing but deny ranges of addresses some ports, on all nodes or those of the trial: as
// rendered it isolates no node, so it closes nothing that it does not name, and a deny opens nothing. A port that begins with 0 may
// be 0, which is every port.
func ciliumHosts() string {
	return all(
		`!has(object.specs) && object.spec.size() == 3 && object.spec.all(k, k in ["nodeSelector", "enableDefaultDeny", "ingressDeny"])`,
		`object.spec.nodeSelector in [{}, {"matchLabels": {`+quote(intent.LabelHostFirewall)+`: `+quote(intent.HostFirewallTrial)+`}}]`,
		`object.spec.enableDefaultDeny == {"ingress": false, "egress": false}`,
		`object.spec.ingressDeny.size() > 0`, // or it is none
		`object.spec.ingressDeny.all(r, r.size() == 2 && r.?fromCIDRSet.orValue([]).size() > 0 && r.?toPorts.orValue([]).size() > 0 &&
r.fromCIDRSet.all(c, has(c.cidr) && c.all(k, k in ["cidr", "except"])) &&
r.toPorts.all(t, t.size() == 1 && t.?ports.orValue([]).size() > 0 &&
t.ports.all(p, p.size() == 2 && p.?protocol.orValue("") == "TCP" && p.?port.orValue("").matches("^[1-9][0-9]*$"))))`,
	)
}

// calicoHosts says the same of Calico: rules that deny, and a last one that passes everything else on, without which the tier would close it.
// What a rule does not say is there as an empty object.
func calicoHosts() string {
	const isHost = `"!has(projectcalico.org/orchestrator) && !has(projectcalico.org/namespace)`
	trial := ` && ` + intent.LabelHostFirewall + ` == \"` + intent.HostFirewallTrial + `\"`
	return all(
		`object.spec.size() == 4 && object.spec.all(k, k in ["tier", "selector", "types", "ingress"])`,
		`object.spec.tier == "pcinb-hosts" && object.spec.types == ["Ingress"]`,
		`object.spec.selector in [`+isHost+`", `+isHost+trial+`"]`,
		`object.spec.ingress.size() > 1 && object.spec.ingress.map(r, r.action).indexOf("Pass") == object.spec.ingress.size() - 1`,
		`object.spec.ingress.filter(r, r.action == "Pass").all(r, r.all(k, k == "action" || r[k].size() == 0))`,
		`object.spec.ingress.filter(r, r.action != "Pass").all(r, r.action == "Deny" && r.?protocol.orValue("") == "TCP" &&
r.all(k, k in ["action", "ipVersion", "protocol", "source", "destination"]) &&
r.?source.orValue({}).all(k, k == "notNets") && r.?source.?notNets.orValue([]).size() > 0 &&
r.?destination.orValue({}).all(k, k == "ports") && r.?destination.?ports.orValue([]).size() > 0 &&
r.destination.ports.all(p, type(p) == int && p > 0))`,
	)
}
