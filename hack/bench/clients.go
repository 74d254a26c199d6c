// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// workers is the number of requests in flight of the raw client and the loop:
// the operator's own concurrency.
const workers = 32

const (
	protobuf = "application/vnd.kubernetes.protobuf"

	baselines = "pcinetworkbaselines"
	coverages = "namespacecoverages"
)

// clients are typed clients of one identity. Like controller-runtime's they
// speak protobuf for built-in kinds and JSON for our own.
type clients struct {
	core   kubernetes.Interface
	pci    *rest.RESTClient
	params runtime.ParameterCodec
}

func newClients(config *rest.Config) (*clients, error) {
	config = rest.CopyConfig(config)
	config.QPS = -1
	builtIn := rest.CopyConfig(config)
	builtIn.ContentType = protobuf
	builtIn.AcceptContentTypes = protobuf + "," + runtime.ContentTypeJSON
	core, err := kubernetes.NewForConfig(builtIn)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := pcinetv1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config.APIPath = "/apis"
	config.GroupVersion = &pcinetv1alpha1.GroupVersion
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	pci, err := rest.RESTClientFor(config)
	if err != nil {
		return nil, err
	}
	return &clients{core: core, pci: pci, params: runtime.NewParameterCodec(scheme)}, nil
}

func (c *clients) coverage(ctx context.Context, namespace string) (*pcinetv1alpha1.NamespaceCoverage, error) {
	coverage := &pcinetv1alpha1.NamespaceCoverage{}
	err := c.pci.Get().Namespace(namespace).Resource(coverages).Name(baselineName).Do(ctx).Into(coverage)
	return coverage, err
}

func (c *clients) createBaseline(ctx context.Context) error {
	baseline := &pcinetv1alpha1.PCINetworkBaseline{
		TypeMeta:   metav1.TypeMeta{APIVersion: pcinetv1alpha1.GroupVersion.String(), Kind: "PCINetworkBaseline"},
		ObjectMeta: metav1.ObjectMeta{Name: baselineName},
	}
	// Repairs are measured, so nobody may be refused who makes one necessary.
	baseline.Spec.Admission.TamperGuard = pcinetv1alpha1.AdmissionOff
	if err := c.pci.Post().Resource(baselines).Body(baseline).Do(ctx).Error(); err != nil {
		return fmt.Errorf("creating the baseline: %w", err)
	}
	return nil
}

// watch starts a watch of one resource of our group.
func (c *clients) watch(ctx context.Context, resource string, options metav1.ListOptions) (watch.Interface, error) {
	options.Watch = true
	return c.pci.Get().Resource(resource).VersionedParams(&options, c.params).Watch(ctx)
}

// patch sends a merge patch, which needs no read before it.
func (c *clients) patchBaseline(ctx context.Context, patch []byte) (*pcinetv1alpha1.PCINetworkBaseline, error) {
	baseline := &pcinetv1alpha1.PCINetworkBaseline{}
	err := c.pci.Patch(types.MergePatchType).Resource(baselines).Name(baselineName).Body(patch).Do(ctx).Into(baseline)
	return baseline, err
}
