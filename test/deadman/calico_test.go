// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package deadman_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

// away is where Calico stores, and the API of its own server, which no pod answers.
const away = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: globalnetworkpolicies.crd.projectcalico.org}
spec:
  group: crd.projectcalico.org
  scope: Cluster
  names: {kind: GlobalNetworkPolicy, plural: globalnetworkpolicies, singular: globalnetworkpolicy}
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v3.projectcalico.org}
spec:
  group: projectcalico.org
  version: v3
  groupPriorityMinimum: 1500
  versionPriority: 200
  insecureSkipTLSVerify: true
  service: {namespace: default, name: calico-api}
`

// stored returns what Calico stores.
func stored(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "crd.projectcalico.org/v1", "kind": "GlobalNetworkPolicy", "metadata": map[string]any{"name": name},
	}}
}

// A list that cuts Calico's own API server off leaves nobody who could delete the policy by its kind.
//
// Mutations tried: no second kind; armed only by the first; an empty storage counts as gone; armed by an empty storage.
func TestGuardWithoutCalicosServer(t *testing.T) {
	s := newSite(t, "hostfirewall/enforce-calico")
	file := filepath.Join(t.TempDir(), "away.yaml")
	if err := os.WriteFile(file, []byte(away), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"apply", "--server-side", "-f", file}, {"wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"}} {
		if _, err := s.cluster.Run(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	ours := "pcinb-hosts." + render.Name("cardholder-data", "hosts")
	create := func(name string) {
		t.Helper()
		eventually(t, func() bool { return s.Create(t.Context(), stored(name)) == nil })
	}
	exists := func(name string) bool {
		t.Helper()
		return s.has(t, stored(name))
	}
	asCalico := func(o *deadman.Options) { o.Engine, o.Policy = "calico", ours }

	t.Run("he is armed, and takes it back by its storage", func(t *testing.T) {
		create("somebody-elses")
		create(ours)
		began := time.Now()
		guard(t, s.man, asCalico)
		eventually(t, func() bool {
			pulse, is := deadman.ReadPulse(s.lease(t, deadman.PulseLease))
			return is && pulse.Policy == ours
		})
		eventually(t, func() bool { return !exists(ours) })
		if lived := time.Since(began); lived < limit-round {
			t.Errorf("after %s", lived)
		}
		if !exists("somebody-elses") {
			t.Error("the wrong one is gone")
		}
	})
	t.Run("an empty storage does not say that there is nothing", func(t *testing.T) {
		s.reset(t)
		guard(t, s.man, asCalico)
		time.Sleep(limit + 2*time.Second)
		if _, is := deadman.ReadPulse(s.lease(t, deadman.PulseLease)); is {
			t.Error("he is armed, by what shows nothing of his rights")
		}
		create(ours)
		began := time.Now()
		eventually(t, func() bool { return !exists(ours) })
		if lived := time.Since(began); lived > limit-time.Second {
			t.Errorf("he began to wait anew, and took it back after %s", lived)
		}
	})
	t.Run("he may not delete another one there", func(t *testing.T) {
		man, err := client.New(s.man, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := man.Delete(context.WithoutCancel(t.Context()), stored("somebody-elses")); !apierrors.IsForbidden(err) {
			t.Errorf("%v", err)
		}
	})
}
