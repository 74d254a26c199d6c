// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package rights_test

import (
	"errors"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// report has the operator write its reports and put them right. It looks at all of them at once when an API of reports comes or goes.
func (s *site) report(t *testing.T) {
	t.Helper()
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "rights-reports"}}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{groupLabel: "nobody"}}
	if err := s.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	open := kind("openreports.io", "v1alpha1", "ClusterReport")
	older := kind("wgpolicyk8s.io", "v1alpha2", "ClusterPolicyReport")
	first, second := object(open, "", "pcinb-"+b.Name), object(older, "", "pcinb-"+b.Name)

	removeOpen := s.place(t, []*unstructured.Unstructured{definition(open, "clusterreports", "Cluster")})
	s.blank(t, first)
	removeOlder := s.place(t, []*unstructured.Unstructured{definition(older, "clusterpolicyreports", "Cluster")})
	s.written(t, first)
	s.blank(t, second)
	removeOpen()
	s.written(t, second)
	removeOlder()
	if err := s.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// written waits until a report has results.
func (s *site) written(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	eventually.That(t, o.GetKind()+" has results", func() error {
		if err := s.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if _, has := o.Object["results"]; !has {
			return errors.New("it has none")
		}
		return nil
	})
}

// blank waits for a report, and takes its results away.
func (s *site) blank(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	s.written(t, o)
	delete(o.Object, "results")
	if err := s.Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}
