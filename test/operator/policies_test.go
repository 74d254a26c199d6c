// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const (
	ingress = networkingv1.PolicyTypeIngress
	egress  = networkingv1.PolicyTypeEgress
)

func denyName(baseline string) string { return "pcinb-" + baseline + "-default-deny" }

// secondName is the deny's when somebody else's object has the proper one, and that of its second copy.
func secondName(baseline string) string { return "pcinb2-" + baseline + "-default-deny" }

func allowName(baseline, rule string) string { return "pcinb-" + baseline + "-allow-" + rule }

// ours returns the metadata that every policy of ours has, and the given spec.
func ours(baseline, name string, spec networkingv1.NetworkPolicySpec) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{
			Name: name,
			Labels: map[string]string{
				"app.kubernetes.io/managed-by": "pci-network-baseline",
				"pcinetwork.dev/baseline":      baseline,
			},
			Annotations: map[string]string{
				"argocd.argoproj.io/compare-options": "IgnoreExtraneous",
				"argocd.argoproj.io/sync-options":    "Prune=false,Delete=false",
			},
		},
		Spec: spec,
	}
}

func wantDeny(baseline string, directions ...networkingv1.PolicyType) *networkingv1.NetworkPolicy {
	if len(directions) == 0 {
		directions = []networkingv1.PolicyType{ingress, egress}
	}
	return ours(baseline, denyName(baseline), networkingv1.NetworkPolicySpec{PolicyTypes: directions})
}

// wantSecond is the second copy of the deny.
func wantSecond(baseline string) *networkingv1.NetworkPolicy {
	p := wantDeny(baseline)
	p.Name = secondName(baseline)
	return p
}

// wantDNS is the allowance for the cluster's DNS of these tests, and further rules.
func wantDNS(baseline string, more ...networkingv1.NetworkPolicyEgressRule) *networkingv1.NetworkPolicy {
	rules := append([]networkingv1.NetworkPolicyEgressRule{podRule(metav1.NamespaceSystem, map[string]string{"k8s-app": "kube-dns"}, 53)}, more...)
	return ours(baseline, allowName(baseline, "dns"), networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{egress}, Egress: rules,
	})
}

// podRule allows a port of pods of one namespace, over TCP and UDP.
func podRule(namespace string, labels map[string]string, port int) networkingv1.NetworkPolicyEgressRule {
	return networkingv1.NetworkPolicyEgressRule{
		To: []networkingv1.NetworkPolicyPeer{{
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}},
			PodSelector:       &metav1.LabelSelector{MatchLabels: labels},
		}},
		Ports: []networkingv1.NetworkPolicyPort{networkPort(corev1.ProtocolTCP, port), networkPort(corev1.ProtocolUDP, port)},
	}
}

// addressRule allows a port of addresses.
func addressRule(ports []networkingv1.NetworkPolicyPort, cidrs ...string) networkingv1.NetworkPolicyEgressRule {
	rule := networkingv1.NetworkPolicyEgressRule{Ports: ports}
	for _, c := range cidrs {
		rule.To = append(rule.To, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: c}})
	}
	return rule
}

func networkPort(protocol corev1.Protocol, port int) networkingv1.NetworkPolicyPort {
	return networkingv1.NetworkPolicyPort{Protocol: &protocol, Port: new(intstr.FromInt(port))}
}

// difference tells how two policies differ in anything but what the API server sets.
func difference(want, got *networkingv1.NetworkPolicy) string {
	trim := func(p *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
		return &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{
				Name: p.Name, Labels: p.Labels, Annotations: p.Annotations, OwnerReferences: p.OwnerReferences, Finalizers: p.Finalizers,
			},
			Spec: p.Spec,
		}
	}
	return cmp.Diff(trim(want), trim(got), cmpopts.EquateEmpty())
}

// exactly says how the policies of a namespace differ from those wanted.
func exactly(t *testing.T, namespace string, want ...*networkingv1.NetworkPolicy) error {
	t.Helper()
	live := policiesIn(t, namespace)
	for _, w := range want {
		got, ok := live[w.Name]
		if !ok {
			return fmt.Errorf("namespace %s has no policy %s, but %v", namespace, w.Name, namesOf(live))
		}
		if diff := difference(w, got); diff != "" {
			return fmt.Errorf("policy %s/%s differs (-want +got):\n%s", namespace, w.Name, diff)
		}
	}
	if len(live) != len(want) {
		return fmt.Errorf("namespace %s has %v, want %d policies", namespace, namesOf(live), len(want))
	}
	return nil
}

// awaitExactly waits until a namespace has exactly the wanted policies.
func awaitExactly(t *testing.T, namespace string, want ...*networkingv1.NetworkPolicy) {
	t.Helper()
	eventually.That(t, "namespace "+namespace+" has its policies", func() error { return exactly(t, namespace, want...) })
}

// foreignPolicy returns somebody else's policy, which allows pods app=web to be reached on one port.
func foreignPolicy(namespace, name string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
			PolicyTypes: []networkingv1.PolicyType{ingress},
			Ingress:     []networkingv1.NetworkPolicyIngressRule{{Ports: []networkingv1.NetworkPolicyPort{networkPort(corev1.ProtocolTCP, 8080)}}},
		},
	}
}

// rule returns an egress rule for spec.allow.rules and wantRule the policy that it leads to.
func rule(name string) pcinetv1alpha1.AllowRule {
	return pcinetv1alpha1.AllowRule{
		Name: pcinetv1alpha1.AllowanceName(name), Justification: "Card network gateway, contract 4711", Direction: pcinetv1alpha1.DirectionEgress,
		Peers: []pcinetv1alpha1.Peer{{CIDR: "203.0.113.0/24"}},
		Ports: []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 443}},
	}
}

func wantRule(baseline, name string) *networkingv1.NetworkPolicy {
	p := ours(baseline, allowName(baseline, name), networkingv1.NetworkPolicySpec{
		PolicyTypes: []networkingv1.PolicyType{egress},
		Egress: []networkingv1.NetworkPolicyEgressRule{
			addressRule([]networkingv1.NetworkPolicyPort{networkPort(corev1.ProtocolTCP, 443)}, "203.0.113.0/24"),
		},
	})
	p.Annotations["pcinetwork.dev/justification"] = "Card network gateway, contract 4711"
	return p
}

// dnsObjects returns a DNS Service, whose target ports have names, and its endpoints, which listen on port.
func dnsObjects(namespace, name string, selector map[string]string, port int32) []client.Object {
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"k8s-app": "kube-dns"}},
		Spec:       corev1.ServiceSpec{Selector: selector},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: name + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.2"}}},
	}
	for portName, protocol := range map[string]corev1.Protocol{"dns": corev1.ProtocolUDP, "dns-tcp": corev1.ProtocolTCP} {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{
			Name: portName, Protocol: protocol, Port: 53, TargetPort: intstr.FromString(portName),
		})
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(portName), Protocol: new(protocol), Port: new(port)})
	}
	return []client.Object{service, slice}
}

func tcp(port int) []networkingv1.NetworkPolicyPort {
	return []networkingv1.NetworkPolicyPort{networkPort(corev1.ProtocolTCP, port)}
}

// endpointSlice returns a slice of a Service with one address and one TCP port.
func endpointSlice(namespace, service, address string, port int32) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: uniqueName(service), Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
		Ports:       []discoveryv1.EndpointPort{{Name: new("https"), Protocol: new(corev1.ProtocolTCP), Port: new(port)}},
	}
}

// apiServerPort returns the port in the slice that the API server keeps of itself.
func apiServerPort(t *testing.T) int {
	t.Helper()
	slice := &discoveryv1.EndpointSlice{}
	if err := env.client.Get(t.Context(), client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "kubernetes"}, slice); err != nil {
		t.Fatal(err)
	}
	return int(*slice.Ports[0].Port)
}
