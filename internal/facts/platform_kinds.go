// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// platformKind says how a kind of snapshot.Source is read.
type platformKind struct {
	plural     string
	namespaced bool
	// versions are tried in this order until one is served.
	versions []schema.GroupVersion
	// optional kinds are served only while their CustomResourceDefinition exists.
	optional bool
	// typed is an empty list of a built-in kind; nil reads as unstructured.
	typed client.ObjectList
	// name is the kind's own name where it is not the key of the table.
	name string
}

func gv(group string, versions ...string) []schema.GroupVersion {
	out := make([]schema.GroupVersion, 0, len(versions))
	for _, v := range versions {
		out = append(out, schema.GroupVersion{Group: group, Version: v})
	}
	return out
}

// Groups that serve Calico's kinds: the first is what every Calico stores in unless it runs on native v3 objects.
const (
	calicoStorage = "crd.projectcalico.org"
	calicoV3      = "projectcalico.org"
)

func calicoKind(plural string) platformKind {
	return platformKind{plural: plural, optional: true, versions: append(gv(calicoStorage, "v1"), gv(calicoV3, "v3")...)}
}

// platformKinds are all kinds that platform detection can read. The manager's role has a rule for each.
var platformKinds = map[string]platformKind{
	snapshot.KindNode:      {plural: "nodes", versions: gv("", "v1"), typed: &corev1.NodeList{}},
	snapshot.KindDaemonSet: {plural: "daemonsets", namespaced: true, versions: gv("apps", "v1"), typed: &appsv1.DaemonSetList{}},
	snapshot.KindPod:       {plural: "pods", namespaced: true, versions: gv("", "v1"), typed: &corev1.PodList{}},
	snapshot.KindConfigMap: {plural: "configmaps", namespaced: true, versions: gv("", "v1"), typed: &corev1.ConfigMapList{}},
	snapshot.KindCustomResourceDefinition: {
		plural: "customresourcedefinitions", versions: gv("apiextensions.k8s.io", "v1"), typed: &metav1.PartialObjectMetadataList{},
	},
	snapshot.KindAPIService:         {plural: "apiservices", versions: gv("apiregistration.k8s.io", "v1")},
	snapshot.KindFelixConfiguration: calicoKind("felixconfigurations"),
	snapshot.KindClusterInformation: calicoKind("clusterinformations"),
	snapshot.KindIPPool:             calicoKind("ippools"),
	snapshot.KindHostEndpoint:       calicoKind("hostendpoints"),
	snapshot.KindInstallation:       {plural: "installations", optional: true, versions: gv("operator.tigera.io", "v1")},
	snapshot.KindDatastoreMigration: {plural: "datastoremigrations", optional: true, versions: gv("migration.projectcalico.org", "v1", "v1beta1")},
	snapshot.KindCiliumNodeConfig: {
		plural: "ciliumnodeconfigs", namespaced: true, optional: true, versions: gv("cilium.io", "v2", "v2alpha1"),
	},
	snapshot.KindCiliumNode:      {plural: "ciliumnodes", optional: true, versions: gv("cilium.io", "v2")},
	snapshot.KindNodeClass:       {plural: "nodeclasses", optional: true, versions: gv("eks.amazonaws.com", "v1")},
	snapshot.KindNetworkConfig:   {plural: "networks", optional: true, versions: gv("config.openshift.io", "v1"), name: "Network"},
	snapshot.KindNetworkOperator: {plural: "networks", optional: true, versions: gv("operator.openshift.io", "v1"), name: "Network"},
}

func (k *platformKind) kind(key string) string {
	if k.name != "" {
		return k.name
	}
	return key
}

// served returns the versions to try: those of the source's group, whose CustomResourceDefinition exists as far as known.
func (k *platformKind) served(s snapshot.Source, e *snapshot.Evidence) []schema.GroupVersion {
	var out []schema.GroupVersion
	crds := e.Readings[snapshot.Source{Kind: snapshot.KindCustomResourceDefinition}]
	for _, v := range k.versions {
		switch {
		case s.Group != "" && s.Group != v.Group:
		case !k.optional, crds.Problem != "", e.Has(k.plural + "." + v.Group):
			out = append(out, v)
		}
	}
	return out
}

// newList returns an empty list of a version of the kind.
func (k *platformKind) newList(key string, v schema.GroupVersion) client.ObjectList {
	gvk := v.WithKind(k.kind(key) + "List")
	if k.typed == nil {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		return list
	}
	list, _ := k.typed.DeepCopyObject().(client.ObjectList) // every type in the table is a list
	if _, isMetadata := list.(*metav1.PartialObjectMetadataList); isMetadata {
		list.GetObjectKind().SetGroupVersionKind(gvk)
	}
	return list
}

// newObject returns an empty object such as the API server sends. It says nothing about the version, because several may
// be tried.
func (k *platformKind) newObject() runtime.Object {
	switch k.typed.(type) {
	case *corev1.NodeList:
		return &corev1.Node{}
	case *appsv1.DaemonSetList:
		return &appsv1.DaemonSet{}
	case *corev1.PodList:
		return &corev1.Pod{}
	case *corev1.ConfigMapList:
		return &corev1.ConfigMap{}
	case *metav1.PartialObjectMetadataList:
		return &metav1.PartialObjectMetadata{}
	}
	return &unstructured.Unstructured{}
}

// PlatformMapper maps the kinds of platform detection. It asks nothing of the API server, so kinds that are added or removed
// later find no stale mapping.
func PlatformMapper() apimeta.RESTMapper {
	m := apimeta.NewDefaultRESTMapper(nil)
	for key, k := range platformKinds {
		scope := apimeta.RESTScopeRoot
		if k.namespaced {
			scope = apimeta.RESTScopeNamespace
		}
		for _, v := range k.versions {
			m.AddSpecific(v.WithKind(k.kind(key)), v.WithResource(k.plural), v.WithResource(k.plural), scope)
		}
	}
	return m
}
