// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"maps"
	"sync"

	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// maxShared bounds for how many names contents are shared; objects with further names just keep their own.
const maxShared = 1024

// sharer lets cached objects of one name share what is alike in all of them. What the operator writes has the same few names,
// labels, annotations and specs in every namespace, and would be most of the memory in use. Cached objects are not written to,
// so nobody notices.
type sharer struct {
	mu sync.Mutex
	by map[string]shared
}

type shared struct {
	labels, annotations map[string]string
	spec                *networkingv1.NetworkPolicySpec
}

// share replaces the contents of an object by those of the object of that name before it, where they are equal.
func (s *sharer) share(obj client.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last, known := s.by[obj.GetName()]
	if !known && len(s.by) >= maxShared {
		return
	}
	if maps.Equal(last.labels, obj.GetLabels()) {
		obj.SetLabels(last.labels)
	}
	if maps.Equal(last.annotations, obj.GetAnnotations()) {
		obj.SetAnnotations(last.annotations)
	}
	now := shared{labels: obj.GetLabels(), annotations: obj.GetAnnotations()}
	if policy, ok := obj.(*networkingv1.NetworkPolicy); ok {
		if last.spec != nil && apiequality.Semantic.DeepEqual(*last.spec, policy.Spec) {
			policy.Spec = *last.spec
		}
		now.spec = &policy.Spec
	}
	if s.by == nil {
		s.by = map[string]shared{}
	}
	s.by[obj.GetName()] = now
}
