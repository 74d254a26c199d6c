// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package semantic_test

import (
	"github.com/mattfenwick/cyclonus/pkg/matcher"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// loadCyclonus lets cyclonus read NetworkPolicies. It decides about types, rules, ranges, namespaces and ports. About labels
// Kubernetes' own library does: cyclonus (v0.5.6, and policy-assistant, which has its code) takes NotIn not to match where
// the label is absent, and an empty value to match there.
func loadCyclonus(w world, objects [][]byte) (func(packet) (bool, error), error) {
	var policies []*networkingv1.NetworkPolicy
	for _, text := range objects {
		np := &networkingv1.NetworkPolicy{}
		if err := decodeStrict(text, np); err != nil {
			return nil, err
		}
		policies = append(policies, np)
	}
	byPod := map[string]*matcher.Policy{}
	return func(p packet) (bool, error) {
		rules, ok := byPod[p.pod.String()]
		if !ok {
			rules = rulesFor(p.pod, policies)
			byPod[p.pod.String()] = rules
		}
		ingress := p.direction == pcinetv1alpha1.DirectionIngress
		return rules.IsIngressOrEgressAllowed(traffic(w, p, ingress), ingress).IsAllowed(), nil
	}, nil
}

func traffic(w world, p packet, ingress bool) *matcher.Traffic {
	local := &matcher.TrafficPeer{IP: "10.244.0.2", Internal: &matcher.InternalPeer{
		PodLabels: p.pod, NamespaceLabels: w.namespace.Labels, Namespace: w.namespace.Name,
	}}
	other := &matcher.TrafficPeer{IP: p.remote.addr.String()}
	if p.remote.place == inPod {
		other.Internal = &matcher.InternalPeer{
			PodLabels: p.remote.pod, NamespaceLabels: p.remote.namespace.Labels, Namespace: p.remote.namespace.Name,
		}
	}
	out := &matcher.Traffic{Source: other, Destination: local, ResolvedPort: int(p.port), Protocol: corev1.Protocol(p.protocol)}
	if !ingress {
		out.Source, out.Destination = local, other
	}
	return out
}

// rulesFor returns the policies that select a pod, for every pod.
func rulesFor(pod labels.Set, policies []*networkingv1.NetworkPolicy) *matcher.Policy {
	var mine []*networkingv1.NetworkPolicy
	for _, np := range policies {
		if matchesLabels(np.Spec.PodSelector, pod) {
			np = np.DeepCopy()
			np.Spec.PodSelector = metav1.LabelSelector{}
			mine = append(mine, np)
		}
	}
	out := matcher.BuildNetworkPolicies(false, mine)
	for _, targets := range []map[string]*matcher.Target{out.Ingress, out.Egress} {
		for _, t := range targets {
			for _, peer := range t.Peers {
				pods, ok := peer.(*matcher.PodPeerMatcher)
				if !ok {
					continue
				}
				if s, ok := pods.Pod.(*matcher.LabelSelectorPodMatcher); ok {
					pods.Pod = podLabels{s}
				}
				if s, ok := pods.Namespace.(*matcher.LabelSelectorNamespaceMatcher); ok {
					pods.Namespace = namespaceLabels{s}
				}
			}
		}
	}
	return out
}

// podLabels and namespaceLabels match as Kubernetes' library does.
type (
	podLabels struct {
		*matcher.LabelSelectorPodMatcher
	}
	namespaceLabels struct {
		*matcher.LabelSelectorNamespaceMatcher
	}
)

// Allows says whether a pod's labels match.
func (m podLabels) Allows(have map[string]string) bool { return matchesLabels(m.Selector, have) }

// Allows says whether a namespace's labels match.
func (m namespaceLabels) Allows(_ string, have map[string]string) bool {
	return matchesLabels(m.Selector, have)
}

func matchesLabels(s metav1.LabelSelector, have labels.Set) bool {
	selector, err := metav1.LabelSelectorAsSelector(&s)
	return err == nil && selector.Matches(have)
}
