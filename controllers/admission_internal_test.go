// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/render/admission"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// What to do about admission that is not in place depends on why it is not.
func TestAdmissionNotInPlaceSaysWhatToDo(t *testing.T) {
	t.Parallel()
	bindings := schema.GroupResource{Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicybindings"}
	const name = "pcinb-pci-pod-gate"
	for what, tc := range map[string]struct {
		err  error
		want string
	}{
		"a missing right": {
			apierrors.NewForbidden(bindings, name, errors.New(`User "u" cannot create resource`)),
			name + ` cannot be written: User "u" cannot create resource. Restore the operator's ClusterRole: kubectl apply --server-side -k config/rbac.`,
		},
		"a webhook that refuses": {
			apierrors.NewForbidden(bindings, name, errors.New("admission webhook says no")),
			name + " cannot be written: admission webhook says no. Find the admission policy or webhook that it names and let the operator's ServiceAccount pass.",
		},
		"an outage": {
			apierrors.NewServiceUnavailable("etcd is away"),
			name + " cannot be written: etcd is away. The operator tries again; see its log.",
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := &baselineScope{admission: admissionStatus(plan.BreakGlass{}, &unkept{name + " cannot be written", tc.err})}
			if reason, got, _ := s.hindrance(); reason != "AdmissionNotInPlace" || got != tc.want {
				t.Errorf("%s: %s\nwant %s", reason, got, tc.want)
			}
			if size := len([]rune(s.admission.Message)); size > 256 {
				t.Errorf("%d characters", size)
			}
		})
	}
	right := errors.New(`User "system:serviceaccount:pci-network-baseline-system:pci-network-baseline" cannot list resource "validatingadmissionpolicybindings"`)
	longest := admissionStatus(plan.BreakGlass{}, &unkept{"validatingadmissionpolicybindings cannot be read", apierrors.NewForbidden(bindings, "", right)})
	if !strings.Contains(longest.Message, "cannot list resource") {
		t.Errorf("the right is cut off: %s", longest.Message)
	}
	long := admissionStatus(plan.BreakGlass{}, apierrors.NewForbidden(bindings, name, errors.New(strings.Repeat("x", 2000))))
	if size := len([]rune(long.Message)); size > 256 || !strings.HasSuffix(long.Message, " pass.") {
		t.Errorf("%d characters: %s", size, long.Message)
	}
}

// Whatever fails is tried again within seconds: a guard, whose break-glass has ended, no less than a deny.
func TestEveryControllerTriesAgainSoon(t *testing.T) {
	t.Parallel()
	limiter := options(true).RateLimiter
	for range 100 {
		if after := limiter.When(ctrl.Request{}); after > retryLast {
			t.Fatalf("it waits for %s", after)
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		built := strings.Count(string(text), "ctrl.NewControllerManagedBy(")
		if !strings.HasSuffix(file, "_test.go") && built != strings.Count(string(text), ".\n\t\tWithOptions(opt") {
			t.Errorf("%s: a controller without the options of all", file)
		}
	}
}

// Whoever opens the guard leaves a trace; a change that a baseline asks for is none.
func TestARepairOfAdmissionIsTold(t *testing.T) {
	t.Parallel()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).Build()
	recorder := events.NewFakeRecorder(10)
	r := &AdmissionReconciler{
		Reader: c, Applier: &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}},
		Metrics: metrics.New(prometheus.NewRegistry()), Recorder: recorder,
	}
	guard := func(mode admission.Mode) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
		return admission.Bindings(admission.Baseline{Name: "pci", Tamper: mode})[0]
	}
	live := func() *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
		b := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: "pcinb-pci-tamper-guard"}, b); err != nil {
			t.Fatal(err)
		}
		return b
	}
	policy := admission.Policies(admission.Config{})[2] // whose binding has its name
	for i, obj := range []client.Object{policy, admission.Limits(), policy} {
		if i == 2 {
			if err := c.Delete(t.Context(), policy); err != nil {
				t.Fatal(err)
			}
		}
		live, ok := obj.DeepCopyObject().(client.Object)
		if !ok {
			t.Fatalf("%T", obj)
		}
		if err := r.write(t.Context(), obj, live); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-recorder.Events; !strings.Contains(got, "pcinb-own-limits: it had been deleted") {
		t.Errorf("event %q", got)
	}
	for _, step := range []struct {
		what string
		do   func() error
		mode admission.Mode
		want string
	}{
		{"the first write", nil, admission.Deny, ""},
		{"nothing", nil, admission.Deny, ""},
		{"the glass is broken", nil, admission.Warn, ""},
		{"it is deleted", func() error { return c.Delete(t.Context(), live()) }, admission.Warn, "pcinb-pci-tamper-guard: it had been deleted"},
		{"it only audits", func() error {
			b := live()
			b.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit}
			return c.Update(t.Context(), b)
		}, admission.Warn, "spec.validationActions changed"},
		{"the glass is whole", nil, admission.Deny, ""},
	} {
		if step.do != nil {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.write(t.Context(), guard(step.mode), &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}); err != nil {
			t.Fatal(err)
		}
		got := ""
		select {
		case got = <-recorder.Events:
		default:
		}
		if (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
			t.Errorf("%s: event %q, want %q", step.what, got, step.want)
		}
	}
}

// A conflict over one object, which another look mends, does not hide that another one is refused.
func TestAConflictHidesNoRefusal(t *testing.T) {
	t.Parallel()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	of := schema.GroupResource{Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicies"}
	conflict, forbidden := apierrors.NewConflict(of, "x", errors.New("changed")), apierrors.NewForbidden(of, "x", errors.New("no right"))
	tests := map[string]struct {
		answers map[string]error // to the creation of an object, by name
		wrong   bool
		again   time.Duration
		told    pcinetv1alpha1.PolicyState
	}{
		"all is well":                {nil, false, 0, pcinetv1alpha1.PolicyInPlace},
		"a conflict":                 {map[string]error{admission.PodGate: conflict}, false, retryStale, ""},
		"a conflict, then a refusal": {map[string]error{admission.PodGate: conflict, admission.OwnLimits: forbidden}, true, 0, pcinetv1alpha1.PolicyMissing},
		"a refusal, then a conflict": {map[string]error{admission.PodGate: forbidden, "pcinb-pci-tamper-guard": conflict}, true, 0, pcinetv1alpha1.PolicyMissing},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fake.NewClientBuilder().WithScheme(scheme).WithInterceptorFuncs(interceptor.Funcs{
				Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
					if err := test.answers[obj.GetName()]; err != nil {
						return err
					}
					return c.Create(ctx, obj, opts...)
				},
			}).Build()
			r := &AdmissionReconciler{
				Reader: c, Live: c, Applier: &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}},
				Store: NewStore(), Clock: clock.RealClock{},
			}
			b := pcinetv1alpha1.PCINetworkBaseline{}
			b.Name = "pci"
			result, err := r.keepAll(t.Context(), []pcinetv1alpha1.PCINetworkBaseline{b}, snapshot.Cluster{})
			if apierrors.IsForbidden(err) != test.wrong || err != nil != test.wrong || result.RequeueAfter != test.again {
				t.Errorf("%v, again after %s", err, result.RequeueAfter)
			}
			if told, _ := r.Of("pci"); told.State != test.told || strings.Contains(told.Message, "no right") != test.wrong {
				t.Errorf("told: %+v", told)
			}
		})
	}
}

func TestAStrangerSaysWhoItShouldBe(t *testing.T) {
	t.Parallel()
	account := Account(strings.Repeat("o", 63))
	got := admissionStatus(plan.BreakGlass{}, &stranger{strings.Repeat("x", 2000), account})
	if size := len([]rune(got.Message)); size > 256 || got.State != pcinetv1alpha1.PolicyMissing ||
		!strings.Contains(got.Message, "is xxx") || !strings.HasSuffix(got.Message, ". Run it as "+account+".") {
		t.Errorf("%d characters: %+v", size, got)
	}
}
