// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package outages_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
	"github.com/pcinetwork/pci-network-baseline/test/site"
)

// A deny is deleted while policies cannot be watched: what is not seen must not be called in place, nor what an operator that has
// ended left in the status.
func TestWhatIsNotWatchedIsNotCalledInPlace(t *testing.T) { //nolint:paralleltest // one operator at a time
	p := startProxy(t)
	k := keepOperator(t, p)
	b := site.NewBaseline("unseen")
	b.Spec.Admission.TamperGuard = pcinetv1alpha1.AdmissionOff // or nothing could be deleted
	if err := env.Client.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forget(t, b) }) // its second copy goes once no more is deleted, which others would see
	if err := env.Client.Create(t.Context(), site.NewNamespace("unseen-0", b.Name)); err != nil {
		t.Fatal(err)
	}
	says := func(want string) {
		t.Helper()
		took, err := eventually.Within(t.Context(), eventually.Patience, func() error {
			if err := env.Client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
				return err
			}
			for _, kind := range []string{pcinetv1alpha1.ConditionReady, pcinetv1alpha1.ConditionDefaultDenyInPlace} {
				c := apimeta.FindStatusCondition(b.Status.Conditions, kind)
				if c == nil || string(c.Status)+"/"+c.Reason != want {
					return fmt.Errorf("it says %v, want %s", c, want)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatalf("%v; end of the operator's log:\n%s", err, k.now().Tail())
		}
		t.Logf("%s after %s", want, took)
	}
	unwatched := func() { p.set(p.blind("networkpolicies")) }
	watched := func() { p.set(nil) }
	tests := []struct {
		name          string
		blind, see    func()
		restart, asks bool
	}{
		{name: "it is not answered", blind: unwatched, see: watched},
		{name: "the right is missing", blind: func() { allow(t, false) }, see: func() { allow(t, true) }, asks: true},
		{name: "an operator begins", blind: unwatched, see: watched, restart: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			says("True/" + pcinetv1alpha1.ReasonAllNamespacesProtected)
			test.blind()
			defer test.see()
			p.cut()
			if test.restart {
				k.now().Kill()
			}
			deny := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "unseen-0", Name: site.Deny(b.Name)}}
			if err := env.Client.Delete(t.Context(), deny); err != nil {
				t.Fatal(err)
			}
			says("Unknown/" + pcinetv1alpha1.ReasonNotWatched)
			if test.restart { // another replica leads for a moment, which sees, and goes
				before := b.DeepCopy()
				for _, kind := range []string{pcinetv1alpha1.ConditionReady, pcinetv1alpha1.ConditionDefaultDenyInPlace} {
					c := *apimeta.FindStatusCondition(b.Status.Conditions, kind)
					c.Status, c.Reason = metav1.ConditionTrue, pcinetv1alpha1.ReasonAllNamespacesProtected
					apimeta.SetStatusCondition(&b.Status.Conditions, c)
				}
				apimeta.RemoveStatusCondition(&b.Status.Conditions, pcinetv1alpha1.ConditionReconciling)
				if err := env.Client.Status().Patch(t.Context(), b, client.MergeFrom(before)); err != nil {
					t.Fatal(err)
				}
				says("Unknown/" + pcinetv1alpha1.ReasonNotWatched)
			}
			if asks := apimeta.IsStatusConditionTrue(b.Status.Conditions, pcinetv1alpha1.ConditionStalled); asks != test.asks {
				t.Errorf("a person is asked: %v", asks)
			}
			test.see()
			says("True/" + pcinetv1alpha1.ReasonAllNamespacesProtected)
			if err := env.Client.Get(t.Context(), client.ObjectKeyFromObject(deny), deny); err != nil {
				t.Errorf("in place is what is not: %v", err)
			}
		})
	}
}

// A standby that is cut off stays up, says that it is not ready, and is ready again by itself. Who leads would end with its lease.
func TestAReplicaThatIsCutOffIsNotReady(t *testing.T) { //nolint:paralleltest // see above
	launch := func(server *site.Server) *site.Operator {
		t.Helper()
		o, err := env.Launch(t.Context(), server)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(o.Kill)
		return o
	}
	await := func(what string, check func() error) time.Duration {
		t.Helper()
		took, err := eventually.Within(t.Context(), eventually.Patience, check)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		t.Logf("%s after %s", what, took)
		return took
	}
	leader := launch(nil)
	await("leads", func() error { return leader.Leads(t.Context()) })
	p := startProxy(t)
	standby := launch(&p.server)
	ready := func() error { return standby.Ready(t.Context()) }
	await("ready", ready)
	p.refuse(t)
	took := await("not ready", func() error {
		if ready() == nil {
			return errors.New("it is ready")
		}
		return nil
	})
	if took < 25*time.Second {
		t.Errorf("not ready after %s: a restart of the API server must not do it", took)
	}
	p.listen(t)
	await("ready again", ready) // Ready also says whether the process has ended
	if err := leader.Ready(t.Context()); err != nil {
		t.Errorf("the one that is not cut off: %v", err)
	}
}

// forget deletes a baseline, whose policies stay.
func forget(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	_, err := eventually.Within(ctx, eventually.Patience, func() error {
		if err := env.Client.Delete(ctx, b); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the baseline is there: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// allow gives the operator the right to watch policies, or takes it away.
func allow(t *testing.T, watch bool) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	role := &rbacv1.ClusterRole{}
	if err := env.Client.Get(ctx, client.ObjectKey{Name: "pci-network-baseline-manager"}, role); err != nil {
		t.Fatal(err)
	}
	for i := range role.Rules {
		r := &role.Rules[i]
		if !slices.Contains(r.APIGroups, networkingv1.GroupName) || !slices.Contains(r.Resources, "networkpolicies") {
			continue
		}
		r.Verbs = slices.DeleteFunc(r.Verbs, func(verb string) bool { return verb == "watch" })
		if watch {
			r.Verbs = append(r.Verbs, "watch")
		}
	}
	if err := env.Client.Update(ctx, role); err != nil {
		t.Fatal(err)
	}
	_, err := eventually.Within(ctx, eventually.Patience, func() error {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               site.User,
			ResourceAttributes: &authorizationv1.ResourceAttributes{Group: networkingv1.GroupName, Resource: "networkpolicies", Verb: "watch"},
		}}
		if err := env.Client.Create(ctx, review); err != nil || review.Status.Allowed == watch {
			return err
		}
		return fmt.Errorf("watching is allowed: %v", review.Status.Allowed)
	})
	if err != nil {
		t.Fatal(err)
	}
}
