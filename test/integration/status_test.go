// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package integration_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/controllers"
	internalapply "github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
)

// TestTheWorstStatusIsAccepted has the baseline reconciler write the status of a cluster in which 10,000 namespaces fail and
// everybody has had much to say. The API server takes it, within the limit that docs/spec.md promises.
func TestTheWorstStatusIsAccepted(t *testing.T) {
	for what, letter := range map[string]string{"Latin": "x", "Chinese": "漢", "brackets": "<", "quotes": `"`, "control characters": "\x01"} {
		t.Run("messages of "+what, func(t *testing.T) {
			b := verbose(letter)
			create(t, b)
			store := crowded(t, b, strings.Repeat(letter, 2000))
			writes := 0
			platform := controllers.NewPlatform(env.client, nil, clock.RealClock{}, strings.Repeat("o", 63))
			backends, err := controllers.NewBackends(nil, platform, nil) // of which only the core one can be read
			if err != nil {
				t.Fatal(err)
			}
			r := &controllers.BaselineReconciler{
				Reader: env.client, Cache: env.client, Store: store, Clock: clock.RealClock{}, Backends: backends,
				Applier:  &internalapply.Applier{Client: env.client, Observe: func(client.Object, internalapply.Operation, error) { writes++ }},
				Platform: platform, Guards: &controllers.GuardReconciler{}, Admissions: &controllers.AdmissionReconciler{}, Managements: &controllers.ManagementReconciler{},
				Proofs: controllers.NewProofs(), Watches: &controllers.Watches{},
				Metrics:  metrics.New(prometheus.NewRegistry()),
				Recorder: events.NewFakeRecorder(100),
			}
			reconcile := func() {
				if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(b)}); err != nil {
					t.Fatal(err)
				}
				if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
					t.Fatal(err)
				}
			}
			reconcile()
			data, err := json.Marshal(b.Status)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) > 16<<10 || len(b.Status.Offenders) != 20 || b.Status.Covered != "0/10000" || b.Status.ObservedGeneration != b.Generation {
				t.Errorf("%d bytes, %d offenders, covered %s, generation %d of %d", len(data), len(b.Status.Offenders), b.Status.Covered,
					b.Status.ObservedGeneration, b.Generation)
			}
			if reconcile(); writes != 1 {
				t.Errorf("%d writes: what was stored does not look like what was meant", writes)
			}
		})
	}
}

// verbose returns a baseline with as many exemptions as there may be, all expired, and as long names as there may be.
func verbose(letter string) *pcinetv1alpha1.PCINetworkBaseline {
	old := metav1.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	name := uniqueName("verbose")
	name += strings.Repeat("x", 48-len(name))
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.Spec.Backend = pcinetv1alpha1.BackendNetworkPolicy // nobody observes a platform here
	b.Spec.Review = pcinetv1alpha1.Review{ReviewedAt: old, ReviewedBy: "a" + strings.Repeat(letter, 127)}
	for i := range 32 {
		b.Spec.Exemptions = append(b.Spec.Exemptions, pcinetv1alpha1.Exemption{
			Namespaces: []pcinetv1alpha1.NamespaceName{pcinetv1alpha1.NamespaceName(fmt.Sprintf("e%062d", i)), "another"},
			Reason:     "It is old.", ApprovedBy: "a" + strings.Repeat(letter, 127), ExpiresAt: old,
		})
	}
	return b
}

// crowded returns a store in which 10,000 namespaces fail and those of the cluster are out of scope.
func crowded(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, message string) *controllers.Store {
	t.Helper()
	var live corev1.NamespaceList
	if err := env.client.List(t.Context(), &live); err != nil {
		t.Fatal(err)
	}
	store := controllers.NewStore()
	for i := range live.Items {
		store.Set(live.Items[i].Name, b.Name, controllers.Record{Generation: b.Generation, UID: b.UID})
	}
	for i := range 10_000 {
		state := pcinetv1alpha1.CoverageFailing
		if i%2 == 1 {
			state = pcinetv1alpha1.CoverageContested
		}
		store.Set(fmt.Sprintf("n%062d", i), b.Name, controllers.Record{
			Generation: b.Generation, UID: b.UID, State: state, Stalled: true, Widening: message,
			Worst: checks.Finding{Reason: pcinetv1alpha1.ReasonAdmissionRefused, Message: message},
		})
	}
	return store
}
