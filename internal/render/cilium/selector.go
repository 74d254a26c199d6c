// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cilium

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// Labels that Cilium gives to the endpoints of pods, beside the pod's own.
const (
	source          = "k8s:"
	namespaceName   = source + "io.kubernetes.pod.namespace"
	namespaceLabels = source + "io.cilium.k8s.namespace.labels."
)

func podKey(key string) string { return source + key }

// namespaceKey returns the label under which an endpoint carries a label of its namespace.
func namespaceKey(key string) string {
	if key == corev1.LabelMetadataName {
		return namespaceName
	}
	return namespaceLabels + key
}

// prefixed returns a selector that says the same of Cilium's labels.
func prefixed(s *metav1.LabelSelector, key func(string) string) metav1.LabelSelector {
	var out metav1.LabelSelector
	if s == nil {
		return out
	}
	for k, v := range s.MatchLabels {
		metav1.AddLabelToSelector(&out, key(k), v)
	}
	for _, e := range s.MatchExpressions {
		e.Key, e.Values = key(e.Key), append([]string(nil), e.Values...)
		out.MatchExpressions = append(out.MatchExpressions, e)
	}
	return out
}

// endpoints selects pods. The label of the namespace is always asked for: a negative selector alone would match everything
// that is no pod, the world included.
func endpoints(p *policy.PodPeer, namespace string) metav1.LabelSelector {
	out := prefixed(p.Pods, podKey)
	if p.Namespaces == nil {
		require(&out, namespaceName, namespace)
		return out
	}
	return inNamespaces(out, p.Namespaces)
}

// inNamespaces limits a selector of endpoints to pods of namespaces with the given labels.
func inNamespaces(s metav1.LabelSelector, namespaces *metav1.LabelSelector) metav1.LabelSelector {
	n := prefixed(namespaces, namespaceKey)
	for k, v := range n.MatchLabels {
		require(&s, k, v)
	}
	s.MatchExpressions = append(s.MatchExpressions, n.MatchExpressions...)
	s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{Key: namespaceName, Operator: metav1.LabelSelectorOpExists})
	return s
}

// require adds a label to a selector. If a pod selector asks for a label of the same name, both must hold.
func require(s *metav1.LabelSelector, key, value string) {
	if _, taken := s.MatchLabels[key]; taken {
		s.MatchExpressions = append(s.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: key, Operator: metav1.LabelSelectorOpIn, Values: []string{value},
		})
		return
	}
	metav1.AddLabelToSelector(s, key, value)
}
