// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package facts observes: it reads the cluster into snapshots, and never writes.
package facts

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// DNSNamespaces are where clusters keep their DNS: kube-system, and openshift-dns on OpenShift.
var DNSNamespaces = []string{metav1.NamespaceSystem, "openshift-dns"}

// CacheOptions limits the caches to what snapshots are made of, and trims what is kept: managed fields by trim, and of
// every other field what nobody reads. Cached objects are shared and must be copied before they are changed.
//
// Memory grows with namespaces, NetworkPolicies, coverages and host-network pods; other pods are never listed.
func CacheOptions(trim func(client.Object)) cache.Options {
	inNamespaces := func(names ...string) map[string]cache.Config {
		out := map[string]cache.Config{}
		for _, n := range names {
			out[n] = cache.Config{}
		}
		return out
	}
	return cache.Options{
		ReaderFailOnMissingInformer:  false,
		DefaultUnsafeDisableDeepCopy: new(true),
		DefaultTransform:             transform(trim, func(client.Object) {}),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Namespace{}:                  {Transform: transform(trim, trimNamespace)},
			&networkingv1.NetworkPolicy{}:        {Transform: transform(trim, new(sharer).share)},
			&pcinetv1alpha1.PCINetworkBaseline{}: {},
			&pcinetv1alpha1.NamespaceCoverage{}:  {Transform: transform(trim, new(sharer).share)},
			&corev1.Service{}:                    {Namespaces: inNamespaces(DNSNamespaces...)},
			&discoveryv1.EndpointSlice{}:         {Namespaces: inNamespaces(append([]string{metav1.NamespaceDefault}, DNSNamespaces...)...)},
			&corev1.Pod{}: {
				Field:     fields.OneTermEqualSelector("spec.hostNetwork", "true"),
				Transform: transform(trim, trimPod),
			},
		},
	}
}

// NewCache returns a cache that says of itself that it is in sync once Cached is. That of controller-runtime waits for whatever
// anybody has asked for, and every source of every controller waits for that: a policy API that does not answer, or the right to
// list admission policies that is missing, would keep every deny from being written.
//
// Its watches are steadfast, and it says of a kind for how long it has not been watched.
func NewCache(config *rest.Config, opts cache.Options) (cache.Cache, error) {
	seen := &watches{}
	opts.NewInformer = seen.newInformer
	all, err := cache.New(config, opts)
	return planned{all, seen}, err
}

type planned struct {
	cache.Cache
	*watches
}

// RemoveInformer also forgets what became of the kind's watches.
func (c planned) RemoveInformer(ctx context.Context, obj client.Object) error {
	err := c.Cache.RemoveInformer(ctx, obj)
	c.forget(obj)
	return err
}

// WaitForCacheSync waits for the start, and for the first lists of what plans are made of. Who asks for another kind waits for
// that in GetInformer.
func (c planned) WaitForCacheSync(ctx context.Context) bool {
	var synced []toolscache.InformerSynced
	for _, obj := range Cached() {
		informer, err := c.GetInformer(ctx, obj, cache.BlockUntilSynced(false))
		if err != nil {
			return false
		}
		synced = append(synced, informer.HasSynced)
	}
	return toolscache.WaitForCacheSync(ctx.Done(), synced...)
}

func transform(trim, more func(client.Object)) toolscache.TransformFunc {
	return func(in any) (any, error) {
		if obj, ok := in.(client.Object); ok {
			trim(obj)
			more(obj)
		}
		return in, nil
	}
}

func trimNamespace(obj client.Object) {
	if ns, ok := obj.(*corev1.Namespace); ok {
		ns.Annotations, ns.ManagedFields = nil, nil
		ns.Spec = corev1.NamespaceSpec{}
		ns.Status.Conditions = nil
	}
}

// trimPod keeps the labels, the phase, and the arguments of containers, in which node-local caches have their addresses.
func trimPod(obj client.Object) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	containers := make([]corev1.Container, 0, len(pod.Spec.Containers))
	if isNodeLocalDNS(pod) {
		for _, c := range pod.Spec.Containers {
			containers = append(containers, corev1.Container{Name: c.Name, Command: c.Command, Args: c.Args})
		}
	}
	pod.Annotations, pod.OwnerReferences = nil, nil
	pod.Spec = corev1.PodSpec{HostNetwork: pod.Spec.HostNetwork, Containers: containers}
	pod.Status = corev1.PodStatus{Phase: pod.Status.Phase}
}

// Cached returns an empty object of each kind that is always cached.
func Cached() []client.Object {
	return []client.Object{
		&corev1.Namespace{}, &networkingv1.NetworkPolicy{}, &pcinetv1alpha1.PCINetworkBaseline{}, &pcinetv1alpha1.NamespaceCoverage{},
		&corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Pod{},
	}
}
