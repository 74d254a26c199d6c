// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// contemporary lists what is in a namespace, not what was in an earlier one of its name. Each kind has a watch of its own, and the
// namespaces' may be the first that goes on after an outage: the cache of policies then has the deny of the namespace that
// went, and a coverage made of it would have the gate admit pods without one. So if one of our policies is older than the
// namespace, the API server is asked. It may be there after all: the clocks of two API servers differ.
type contemporary struct {
	cache, live client.Reader
	namespace   *corev1.Namespace
}

// Get reads the cache.
func (r contemporary) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	return r.cache.Get(ctx, key, obj, opts...)
}

// List reads the cache, or the API server if the cache is behind. Pods are none of ours, whatever their labels say, and the cache
// has those of the host network alone.
func (r contemporary) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	if err := r.cache.List(ctx, list, opts...); err != nil {
		return err
	}
	if _, pods := list.(*corev1.PodList); pods {
		return nil
	}
	behind := false
	err := apimeta.EachListItem(list, func(item runtime.Object) error {
		obj, ok := item.(client.Object)
		if ok && render.Owner(obj.GetLabels()) != "" {
			created := obj.GetCreationTimestamp()
			behind = behind || created.Before(&r.namespace.CreationTimestamp)
		}
		return nil
	})
	if err != nil || !behind {
		return err
	}
	if err := apimeta.SetList(list, nil); err != nil {
		return err
	}
	return r.live.List(ctx, list, opts...)
}
