// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/plan"
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
