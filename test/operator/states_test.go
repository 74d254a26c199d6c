// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// today is what the operator's clock shows when the states are recorded.
var today = time.Date(2026, time.November, 23, 9, 30, 0, 0, time.UTC)

const day = 24 * time.Hour

// state is one that a baseline, or its coverage of payments, can be found in.
type state struct {
	// baseline and coverage name the files that hold the two; "" for an object that another state shows as well.
	baseline, coverage string
	// reach leads there, and to nothing that passes by itself.
	reach func(t *testing.T, s *stage)
}

// states are those that the operator reports while it runs, side by side.
var states = map[string]state{
	"every namespace is protected": {"healthy_ready", "healthy_protected", func(t *testing.T, s *stage) {
		t.Helper()
		s.protect(t, nil)
	}},
	"another policy undoes the deny": {"healthy_policy_widens", "healthy_policy_widens", func(t *testing.T, s *stage) {
		t.Helper()
		s.protect(t, nil)
		wide := foreignPolicy(s.payments, "let-me-in")
		wide.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
		create(t, wide)
		awaitBaseline(t, s.baseline, "DefaultDenyEffective=False/PolicyWidens")
	}},
	"an exemption is about to end": {"healthy_exemption_expiring", "progressing_exempt", func(t *testing.T, s *stage) {
		t.Helper()
		s.protect(t, s.exempt(13*day))
		awaitCoverage(t, s.payments, s.baseline, pcinetv1alpha1.CoverageExempt)
		awaitBaseline(t, s.baseline, "ExemptionsCurrent=True/ExemptionExpiring")
	}},
	"an exemption has ended": {"healthy_exemption_expired", "", func(t *testing.T, s *stage) {
		t.Helper()
		s.protect(t, s.exempt(-13*day))
		awaitBaseline(t, s.baseline, "ExemptionsCurrent=False/ExemptionExpired")
	}},
	"nothing is selected": {"progressing_no_namespace_selected", "", func(t *testing.T, s *stage) {
		t.Helper()
		create(t, s.baseline)
		awaitBaseline(t, s.baseline, "Ready=False/NoNamespaceSelected")
	}},
	"Audit would write": {"suspended_audit", "suspended_audit", func(t *testing.T, s *stage) {
		t.Helper()
		s.open(t, audit)
		s.enter(t)
		awaitBaseline(t, s.baseline, "Ready=False/AuditMode", "DefaultDenyInPlace=False/PoliciesMissing")
	}},
	"Audit finds everything in place": {"suspended_audit_in_place", "suspended_audit_in_place", func(t *testing.T, s *stage) {
		t.Helper()
		s.protect(t, nil)
		changeBaseline(t, s.baseline, audit)
		awaitBaseline(t, s.baseline, "Ready=False/AuditMode", "DefaultDenyInPlace=True/AllNamespacesProtected")
	}},
	"somebody keeps changing a policy": {"progressing_contested", "progressing_contested", func(t *testing.T, s *stage) {
		t.Helper()
		s.protect(t, nil)
		fight(t, s.payments, s.baseline)
		awaitBaseline(t, s.baseline, "Contested=True/RepeatedChanges")
	}},
	"an admission policy refuses": {"degraded_stalled", "degraded_admission_refused", func(t *testing.T, s *stage) {
		t.Helper()
		s.open(t, nil)
		refuse(t, s.payments, admissionregistrationv1.Create, "policies of this namespace are frozen")
		s.enter(t)
		awaitBaseline(t, s.baseline, "Stalled=True/AdmissionRefused")
	}},
	"a quota leaves no room": {"degraded_quota_exceeded", "degraded_failing", func(t *testing.T, s *stage) {
		t.Helper()
		s.open(t, nil)
		createQuota(t, s.payments, 0)
		s.enter(t)
		awaitBaseline(t, s.baseline, "Stalled=True/QuotaExceeded")
	}},
	"a name is taken": {"degraded_name_collision", "degraded_name_collision", func(t *testing.T, s *stage) {
		t.Helper()
		s.open(t, nil)
		create(t, foreignPolicy(s.payments, denyName(s.baseline.Name)))
		s.enter(t)
		awaitBaseline(t, s.baseline, "Stalled=True/NameCollision")
	}},
	"writing fails and is tried again": {"progressing_failing_namespace", "progressing_write_failed", func(t *testing.T, s *stage) {
		t.Helper()
		s.open(t, nil)
		const nobodyListens = "127.0.0.1:1"
		webhook(t, s.payments, nobodyListens, "connection refused", 10)
		s.enter(t)
		awaitBaseline(t, s.baseline, "Ready=False/WriteFailed", "Stalled")
	}},
	"deletion waits for a namespace that refuses": {"progressing_deleting", "", func(t *testing.T, s *stage) {
		t.Helper()
		s.protect(t, deletionPolicy(pcinetv1alpha1.DeletionPolicyDelete))
		refuse(t, s.payments, admissionregistrationv1.Delete, "policies of this namespace are frozen")
		if err := env.client.Delete(t.Context(), s.baseline); err != nil {
			t.Fatal(err)
		}
		awaitBaseline(t, s.baseline, "Ready=False/Deleting", "Stalled=True/AdmissionRefused")
		awaitNoCoverage(t, s.ledger, s.baseline.Name)
	}},
}

// statesOfAll are those in which other baselines would change with it.
var statesOfAll = map[string]state{
	"the cluster has no DNS": {"progressing_reconciling", "progressing_pending", func(t *testing.T, s *stage) {
		t.Helper()
		withoutDNS(t)
		s.open(t, nil)
		s.enter(t)
		awaitBaseline(t, s.baseline, "Ready=False/DNSNotFound", "Reconciling=True/Progressing")
	}},
	"a namespace was not looked at yet": {"progressing_unknown", "", func(t *testing.T, s *stage) {
		t.Helper()
		var config net.ListenConfig
		listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		createNamed(t, s.ledger, s.baseline.Name)
		createNamed(t, s.payments, s.baseline.Name)
		webhook(t, s.payments, listener.Addr().String(), context.DeadlineExceeded.Error(), 30) // the most: the state lasts as long
		create(t, s.baseline)
		awaitBaseline(t, s.baseline, "Ready=Unknown/Progressing", "Reconciling=True/Progressing")
	}},
}

// statesUnseen are those that no operator has seen yet. The stage was protected before the operator went.
var statesUnseen = map[string]state{
	// There is none without a status: the API server gives it one that says so.
	"a new baseline": {"progressing_not_observed", "", func(t *testing.T, s *stage) {
		t.Helper()
		*s = *newStage()
		create(t, s.baseline)
	}},
	"a changed baseline": {"progressing_generation_behind", "", func(t *testing.T, s *stage) {
		t.Helper()
		changeBaseline(t, s.baseline, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone })
	}},
	"a coverage that somebody deletes and somebody holds": {"", "progressing_deleting", func(t *testing.T, s *stage) {
		t.Helper()
		c, err := coverageOf(t, s.payments, s.baseline.Name)
		if err != nil {
			t.Fatal(err)
		}
		modify(t, c, func() { c.Finalizers = []string{"example.com/hold"} })
		t.Cleanup(func() {
			release := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
			if err := env.client.Patch(contextOf(t), c, release); err != nil {
				t.Error(err)
			}
		})
		if err := env.client.Delete(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}},
}

// TestToolsAreTestedWithWhatTheAPIServerHolds leads the operator into every state that it reports, and compares what the API
// server then holds with the objects that test/gitops shows to Argo CD's health checks and to kstatus. It stops the shared
// operator, so it is not parallel.
func TestToolsAreTestedWithWhatTheAPIServerHolds(t *testing.T) { //nolint:paralleltest // see above
	alone(t)
	clock := clocktesting.NewFakePassiveClock(today.Add(-time.Minute))
	o := launch(t, operatorOptions{clock: clock})
	awaitBaseline(t, createBaseline(t, nil)) // from here on it counts how long it has run
	clock.SetTime(today)                     // for its first seconds it leaves alone what its predecessor wrote

	t.Run("reported", func(t *testing.T) {
		for name, c := range states {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				c.check(t, newStage())
			})
		}
	})
	for name, c := range statesOfAll {
		t.Run(name, func(t *testing.T) { c.check(t, newStage()) })
	}
	last := newStage()
	last.protect(t, nil)
	crash(t, o)
	for name, c := range statesUnseen {
		t.Run(name, func(t *testing.T) { c.check(t, new(*last)) })
	}
}

// check leads a stage into a state and compares what is held then.
func (c state) check(t *testing.T, s *stage) {
	t.Helper()
	c.reach(t, s)
	if c.baseline != "" {
		s.compare(t, kindBaseline, c.baseline)
	}
	if c.coverage != "" {
		s.compare(t, kindCoverage, c.coverage)
	}
}

// TestEveryRecordedObjectHasAState finds the objects that are no longer compared with anything.
func TestEveryRecordedObjectHasAState(t *testing.T) {
	t.Parallel()
	want := map[string][]string{}
	for _, table := range []map[string]state{states, statesOfAll, statesUnseen} {
		for _, c := range table {
			want[kindBaseline] = append(want[kindBaseline], c.baseline)
			want[kindCoverage] = append(want[kindCoverage], c.coverage)
		}
	}
	for kind, files := range want {
		files = slices.DeleteFunc(files, func(file string) bool { return file == "" })
		slices.Sort(files)
		paths, err := filepath.Glob(filepath.Join(recordingDir(kind), "*"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, path := range paths {
			got = append(got, strings.TrimSuffix(filepath.Base(path), ".yaml"))
		}
		if diff := cmp.Diff(files, got); diff != "" {
			t.Errorf("%s (-reached +recorded):\n%s", kind, diff)
		}
	}
}

func audit(b *pcinetv1alpha1.PCINetworkBaseline) {
	b.Spec.Enforcement = pcinetv1alpha1.EnforcementAudit
}

// exempt returns what exempts payments until so long from today.
func (s *stage) exempt(left time.Duration) func(*pcinetv1alpha1.PCINetworkBaseline) {
	return func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Exemptions = []pcinetv1alpha1.Exemption{exemption(s.payments, today.Add(left))}
	}
}

// open creates the baseline, changed, for the namespace ledger, and payments beside it.
func (s *stage) open(t *testing.T, change func(*pcinetv1alpha1.PCINetworkBaseline)) {
	t.Helper()
	if change != nil {
		change(s.baseline)
	}
	createNamed(t, s.ledger, s.baseline.Name)
	createNamed(t, s.payments, "")
	create(t, s.baseline)
	awaitBaseline(t, s.baseline)
}

// enter takes payments into the scope.
func (s *stage) enter(t *testing.T) {
	t.Helper()
	setLabel(t, s.payments, groupLabel, s.baseline.Name)
}

// protect opens the stage and waits until all of it is protected.
func (s *stage) protect(t *testing.T, change func(*pcinetv1alpha1.PCINetworkBaseline)) {
	t.Helper()
	s.open(t, change)
	s.enter(t)
	eventually.That(t, "both namespaces count", func() error {
		awaitBaseline(t, s.baseline, "Ready=True/AllNamespacesProtected")
		if n := s.baseline.Status.Namespaces; *n.Protected+*n.Exempt != 2 {
			return fmt.Errorf("%d are protected and %d exempt", *n.Protected, *n.Exempt)
		}
		return nil
	})
}

// webhook has the API server ask an address about new NetworkPolicies of one namespace, for so many seconds at most, and waits until
// asking fails.
func webhook(t *testing.T, namespace, address, failure string, seconds int32) {
	t.Helper()
	const name = "policies.example.com"
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "ask-" + namespace},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name:                    name,
			ClientConfig:            admissionregistrationv1.WebhookClientConfig{URL: new("https://" + address)},
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          &seconds,
			AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector:       &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: namespace}},
			Rules:                   []admissionregistrationv1.RuleWithOperations{onPolicies(admissionregistrationv1.Create)},
		}},
	}
	create(t, config)
	eventually.That(t, "the webhook is asked", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := env.client.Create(ctx, foreignPolicy(namespace, "probe"), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), failure) {
			return fmt.Errorf("a creation says %w", err)
		}
		return nil
	})
}
