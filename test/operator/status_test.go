// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// It keeps the operator busy, so it runs while no other test does.
func TestThreeHundredFailingNamespacesMakeOneSmallStatus(t *testing.T) { //nolint:paralleltest // see above
	const (
		failing  = 300
		debounce = 250 * time.Millisecond // of the baseline reconciler
		refused  = "example.com/refused"
	)
	crowd := createCrowd(t, failing, map[string]string{refused: "yes"})
	refuseWhere(t, map[string]string{refused: "yes"}, crowd[0], admissionregistrationv1.Create, strings.Repeat("<br>", 100))
	b := createBaseline(t, nil)
	protected(t, b)
	awaitBaseline(t, b, "Ready=True/AllNamespacesProtected")
	env.audit.idle(t, env.operator)

	since, began := env.audit.mark(t), time.Now()
	eachOf(t, crowd, func(namespace *corev1.Namespace) error {
		patch := []byte(`{"metadata":{"labels":{"` + groupLabel + `":"` + b.Name + `"}}}`)
		return env.client.Patch(t.Context(), namespace, client.RawPatch(types.MergePatchType, patch))
	})
	protected(t, b) // others go on
	eventually.That(t, "every namespace is counted", func() error {
		awaitBaseline(t, b, "Ready=False/AdmissionRefused", "Stalled=True/AdmissionRefused")
		if n := *b.Status.Namespaces.Failing; n != failing || b.Status.Covered != fmt.Sprintf("2/%d", failing+2) {
			return fmt.Errorf("failing %d, covered %s", n, b.Status.Covered)
		}
		return nil
	})
	took := time.Since(began)
	env.audit.idle(t, env.operator)
	if data, err := json.Marshal(b.Status); err != nil || len(data) > 16<<10 || len(b.Status.Offenders) != 20 {
		t.Errorf("the status has %d bytes and %d offenders: %v", len(data), len(b.Status.Offenders), err)
	}
	var writes []request
	for _, w := range env.audit.writes(t, env.operator, since) {
		if w.ObjectRef.Resource == "pcinetworkbaselines" && w.ObjectRef.Name == b.Name {
			writes = append(writes, w)
		}
	}
	if limit := int(took/debounce) + 1; len(writes) == 0 || len(writes) > limit {
		t.Errorf("the status was written %d times in %s, want at most %d: %v", len(writes), took, limit, writes)
	}
}

// eachOf calls do for each of many namespaces, several at a time.
func eachOf(t *testing.T, names []string, do func(*corev1.Namespace) error) {
	t.Helper()
	var group errgroup.Group
	group.SetLimit(16)
	for _, name := range names {
		group.Go(func() error { return do(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}) })
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// createCrowd creates many namespaces with labels. They go with the test, at once: the namespace controller would be busy
// with them for a minute, and other tests wait for it.
func createCrowd(t *testing.T, n int, labels map[string]string) []string {
	t.Helper()
	crowd := make([]string, n)
	for i := range crowd {
		crowd[i] = uniqueName("crowd")
	}
	t.Cleanup(func() {
		eachOf(t, crowd, func(namespace *corev1.Namespace) error {
			if err := env.client.Delete(contextOf(t), namespace); err != nil {
				return err
			}
			return env.client.SubResource("finalize").Update(contextOf(t), namespace) // with no finalizers
		})
	})
	eachOf(t, crowd, func(namespace *corev1.Namespace) error {
		namespace.Labels = labels
		return env.client.Create(t.Context(), namespace)
	})
	return crowd
}
