// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

var update = flag.Bool("update", false, "record the objects in config/argocd anew")

const (
	kindBaseline = "PCINetworkBaseline"
	kindCoverage = "NamespaceCoverage"

	// recordedAt stands for the times that the API server sets. Those in status are the operator's, whose clock stands still.
	recordedAt = "2026-11-23T09:30:00Z"

	recordedHead = "# Recorded from an API server by go test ./test/operator -update; do not edit.\n"
)

// recordingDir holds the objects of a kind that Argo CD's health checks are tested with.
func recordingDir(kind string) string {
	return filepath.Join(repoRoot, "config", "argocd", "resource_customizations", pcinetv1alpha1.GroupVersion.Group, kind, "testdata")
}

// stage is a baseline for two namespaces. No other stage has their names, which are as long as those that are recorded in
// their place, so that messages are cut off where they would be.
type stage struct {
	baseline         *pcinetv1alpha1.PCINetworkBaseline
	payments, ledger string
}

func newStage() *stage {
	n := fmt.Sprintf("%04d", names.Add(1))
	return &stage{baseline: newBaseline("cardholder-" + n), payments: "paym" + n, ledger: "le" + n}
}

// compare waits until the API server holds what is recorded, or records what it holds.
func (s *stage) compare(t *testing.T, kind, file string) {
	t.Helper()
	path := filepath.Join(recordingDir(kind), file+".yaml")
	if *update {
		if err := os.WriteFile(path, []byte(s.settled(t, kind)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	accept := fmt.Sprintf("To accept: go test ./test/operator -run '^%s$' -update", test)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v\n%s", err, accept)
	}
	eventually.That(t, "the API server holds what is recorded", func() error {
		got, err := s.held(t, kind)
		if err != nil {
			return err
		}
		if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
			return fmt.Errorf("%s (-recorded +held):\n%s\n%s", path, diff, accept)
		}
		return nil
	})
}

// settled returns what the API server holds once that has not changed for a while.
func (s *stage) settled(t *testing.T, kind string) string {
	t.Helper()
	var last string
	eventually.That(t, "the object rests", func() error {
		got, err := s.held(t, kind)
		if err == nil && got != last {
			err = errors.New("it changes")
			time.Sleep(time.Second)
		}
		last = got
		return err
	})
	return last
}

// uuids matches the UIDs of objects, and of policies in a status.
var uuids = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// held returns the baseline, or the coverage of payments, without what differs from run to run.
func (s *stage) held(t *testing.T, kind string) (string, error) {
	t.Helper()
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(pcinetv1alpha1.GroupVersion.WithKind(kind))
	key := client.ObjectKey{Name: s.baseline.Name}
	if kind == kindCoverage {
		key.Namespace = s.payments
	}
	if err := env.client.Get(t.Context(), key, object); err != nil {
		return "", err
	}
	object.SetManagedFields(nil)
	object.SetResourceVersion("1")
	if kind == kindCoverage {
		object.SetGeneration(1) // without a status subresource it counts the operator's writes
	}
	metadata := object.Object["metadata"].(map[string]any)
	for _, field := range []string{"creationTimestamp", "deletionTimestamp"} {
		if metadata[field] != nil {
			metadata[field] = recordedAt
		}
	}
	data, err := yaml.Marshal(object.Object)
	if err != nil {
		return "", err
	}
	seen := map[string]string{}
	text := uuids.ReplaceAllStringFunc(string(data), func(uid string) string {
		if seen[uid] == "" {
			seen[uid] = fmt.Sprintf("00000000-0000-4000-8000-%012d", len(seen)+1)
		}
		return seen[uid]
	})
	stable := strings.NewReplacer(s.baseline.Name, "cardholder-data", s.payments, "payments", s.ledger, "ledger")
	return recordedHead + stable.Replace(text), nil
}
