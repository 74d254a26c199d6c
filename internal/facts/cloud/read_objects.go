// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The bounds of what is read of objects. What is left out is a gap.
const (
	maxObjects = 256
	objectPage = 64 // a Cluster of Rancher may have 100 KiB
)

// Discovery says what an API server serves.
type Discovery interface {
	ServerGroupsWithContext(ctx context.Context) (*metav1.APIGroupList, error)
	ServerResourcesForGroupVersionWithContext(ctx context.Context, groupVersion string) (*metav1.APIResourceList, error)
}

// ObjectReader reads the objects of Kinds.
type ObjectReader struct {
	Discovery Discovery
	List      func(context.Context, schema.GroupVersionResource, metav1.ListOptions) (*unstructured.UnstructuredList, error)
}

// Read returns what objects say, in the order of Kinds. A kind that is not served has no objects; one that could not be read is a gap.
//
// Cost: a request for the groups, one for each group of Kinds that is served, and one for every 64 objects. Memory: a page.
func (o *ObjectReader) Read(ctx context.Context) (out []snapshot.ControlPlane, gaps []snapshot.Gap) {
	served, gaps := o.served(ctx)
	for _, kind := range Kinds() {
		if resource, ok := served[kind]; ok {
			if gap := o.list(ctx, resource, &out); gap != nil {
				gaps = append(gaps, *gap)
			}
		}
	}
	return out, gaps
}

// served returns the resources of those Kinds that are served, in the version that the API server prefers.
func (o *ObjectReader) served(ctx context.Context) (map[schema.GroupKind]schema.GroupVersionResource, []snapshot.Gap) {
	groups, err := o.Discovery.ServerGroupsWithContext(ctx)
	if err != nil {
		return nil, []snapshot.Gap{objectGap("kinds that clusters are made from", err)}
	}
	wanted := map[string]bool{}
	for _, kind := range Kinds() {
		wanted[kind.Group] = true
	}
	var gaps []snapshot.Gap
	out := map[schema.GroupKind]schema.GroupVersionResource{}
	for i := range groups.Groups {
		g := &groups.Groups[i]
		if !wanted[g.Name] {
			continue
		}
		list, err := o.Discovery.ServerResourcesForGroupVersionWithContext(ctx, g.PreferredVersion.GroupVersion)
		if err != nil {
			gaps = append(gaps, objectGap("kinds of "+g.Name, err))
			continue
		}
		for j := range list.APIResources {
			if r := &list.APIResources[j]; !strings.Contains(r.Name, "/") { // a subresource may have the kind of its object
				out[schema.GroupKind{Group: g.Name, Kind: r.Kind}] = schema.GroupVersionResource{
					Group: g.Name, Version: g.PreferredVersion.Version, Resource: r.Name,
				}
			}
		}
	}
	return out, gaps
}

// list adds what the objects of one kind say.
func (o *ObjectReader) list(ctx context.Context, resource schema.GroupVersionResource, out *[]snapshot.ControlPlane) *snapshot.Gap {
	name := resource.GroupResource().String()
	for more := ""; ; {
		list, err := o.List(ctx, resource, metav1.ListOptions{Limit: objectPage, Continue: more})
		if err != nil {
			return new(objectGap(name, err))
		}
		for i := range list.Items {
			says, ok := FromObject(&list.Items[i])
			if ok && len(*out) == maxObjects {
				return &snapshot.Gap{
					What: "The list of " + name, Why: fmt.Sprintf("only the first %d objects that clusters are made from are read", maxObjects),
					Remedy: "See the others where they are made",
				}
			}
			if ok {
				*out = append(*out, says)
			}
		}
		if more = list.GetContinue(); more == "" {
			return nil
		}
	}
}

// objectGap says why something was not read, in words that are the same each time.
func objectGap(what string, err error) snapshot.Gap {
	g := snapshot.Gap{What: "The list of " + what, Why: "the API server does not answer", Remedy: "Look at the operator's log and at the API server"}
	switch reason := apierrors.ReasonForError(err); {
	case apierrors.IsForbidden(err):
		g.Why, g.Remedy = "the operator has no right to read it", "kubectl apply --server-side -k config/management/objects"
	case reason != metav1.StatusReasonUnknown:
		g.Why = "the API server answers " + string(reason)
	}
	return g
}
