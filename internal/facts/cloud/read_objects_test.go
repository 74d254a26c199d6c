// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
)

// server is an API server with a few kinds: Cluster API for AKS in two versions, and Rancher.
type server struct {
	// groups and resources are why those cannot be read; lists is why objects of a resource cannot be.
	groups, resources error
	lists             map[string]error
	// clusters is how many Clusters Rancher has.
	clusters int
	// listed are the requests for lists.
	listed []string
}

func (s *server) ServerGroupsWithContext(context.Context) (*metav1.APIGroupList, error) {
	group := func(name, version string) metav1.APIGroup {
		return metav1.APIGroup{Name: name, PreferredVersion: metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + version, Version: version}}
	}
	return &metav1.APIGroupList{Groups: []metav1.APIGroup{
		group("apps", "v1"), group("infrastructure.cluster.x-k8s.io", "v1beta1"), group("management.cattle.io", "v3"),
	}}, s.groups
}

func (s *server) ServerResourcesForGroupVersionWithContext(_ context.Context, version string) (*metav1.APIResourceList, error) {
	served := map[string][]metav1.APIResource{
		"infrastructure.cluster.x-k8s.io/v1beta1": {
			{Name: "azuremanagedcontrolplanes/status", Kind: "AzureManagedControlPlane"},
			{Name: "azuremanagedcontrolplanes", Kind: "AzureManagedControlPlane"},
			{Name: "azuremanagedcontrolplanes/scale", Kind: "AzureManagedControlPlane"},
		},
		"management.cattle.io/v3": {{Name: "clusters", Kind: "Cluster"}, {Name: "users", Kind: "User"}},
	}
	if served[version] == nil {
		return nil, fmt.Errorf("nobody wants to know of %s", version)
	}
	return &metav1.APIResourceList{GroupVersion: version, APIResources: served[version]}, s.resources
}

func (s *server) list(_ context.Context, r schema.GroupVersionResource, opts metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	s.listed = append(s.listed, fmt.Sprintf("%s/%s from %q", r.Version, r.Resource, opts.Continue))
	out := &unstructured.UnstructuredList{}
	if r.Resource == "azuremanagedcontrolplanes" {
		out.Items = []unstructured.Unstructured{{Object: map[string]any{
			"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "AzureManagedControlPlane", "metadata": map[string]any{"namespace": "a", "name": "b"},
			"spec": map[string]any{"controlPlaneEndpoint": map[string]any{"host": "api.example.com"}},
		}}}
		return out, s.lists[r.Resource]
	}
	from, _ := strconv.Atoi(opts.Continue)
	for i := from; i < min(s.clusters, from+int(opts.Limit)); i++ {
		spec := map[string]any{"aksConfig": map[string]any{}}
		if i == 0 { // the cluster that Rancher is in
			spec = map[string]any{"displayName": "local"}
		}
		out.Items = append(out.Items, unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "management.cattle.io/v3", "kind": "Cluster", "metadata": map[string]any{"name": fmt.Sprint("c-", i)}, "spec": spec,
		}})
	}
	if next := from + len(out.Items); next < s.clusters {
		out.SetContinue(strconv.Itoa(next))
	}
	return out, s.lists[r.Resource]
}

func TestObjectsAreReadWhereTheyAreServed(t *testing.T) {
	t.Parallel()
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "x"}, "", errors.New("no"))
	const (
		azure = "AzureManagedControlPlane a/b api.example.com"
		right = `: the operator has no right to read it: kubectl apply --server-side -k config/management/objects`
	)
	for name, c := range map[string]struct {
		server        server
		objects, gaps []string
		listed        int
	}{
		"two kinds":                       {server{clusters: 3}, []string{azure, "Cluster c-1 ", "Cluster c-2 "}, nil, 2},
		"a kind without objects":          {server{}, []string{azure}, nil, 2},
		"one that is forbidden":           {server{clusters: 2, lists: map[string]error{"clusters": forbidden}}, []string{azure}, []string{"The list of clusters.management.cattle.io" + right}, 2},
		"none is hidden by a forbidden":   {server{clusters: 2, lists: map[string]error{"azuremanagedcontrolplanes": forbidden}}, []string{"Cluster c-1 "}, []string{"The list of azuremanagedcontrolplanes.infrastructure.cluster.x-k8s.io" + right}, 2},
		"kinds that cannot be told":       {server{resources: apierrors.NewServiceUnavailable("no")}, nil, []string{"The list of kinds of infrastructure.cluster.x-k8s.io: the API server answers ServiceUnavailable: Look at the operator's log and at the API server", "The list of kinds of management.cattle.io: the API server answers ServiceUnavailable: Look at the operator's log and at the API server"}, 0},
		"an API server that is not there": {server{groups: errors.New("connection refused to 10.0.0.1")}, nil, []string{"The list of kinds that clusters are made from: the API server does not answer: Look at the operator's log and at the API server"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := cloud.ObjectReader{Discovery: &c.server, List: c.server.list}
			got, gaps := r.Read(t.Context())
			var objects, why []string
			for _, o := range got {
				objects = append(objects, o.Object+" "+o.Host)
			}
			for _, g := range gaps {
				why = append(why, g.What+": "+g.Why+": "+g.Remedy)
			}
			if diff := cmp.Diff(c.objects, objects); diff != "" {
				t.Errorf("objects, -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(c.gaps, why); diff != "" {
				t.Errorf("gaps, -want +got:\n%s", diff)
			}
			if len(c.server.listed) != c.listed {
				t.Errorf("asked for %q", c.server.listed)
			}
		})
	}
}

// TestManyObjectsAreReadInPages and no more than are bearable, which is told.
func TestManyObjectsAreReadInPages(t *testing.T) {
	t.Parallel()
	s := server{clusters: 1000}
	r := cloud.ObjectReader{Discovery: &s, List: s.list}
	got, gaps := r.Read(t.Context())
	if len(got) != 256 || len(gaps) != 1 || gaps[0].Why != "only the first 256 objects that clusters are made from are read" {
		t.Errorf("%d objects, %v", len(got), gaps)
	}
	if want := `v3/clusters from "64"`; len(s.listed) != 6 || s.listed[2] != want {
		t.Errorf("asked for %q, want the third to be %s", s.listed, want)
	}
}
