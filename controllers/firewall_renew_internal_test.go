// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"net/netip"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
)

func closing(allowed string) policy.HostFirewall {
	return policy.HostFirewall{Baseline: "b", Ports: []int32{6443}, Allowed: []netip.Prefix{netip.MustParsePrefix(allowed)}}
}

// A create that gets no answer once the policy is deleted for it does not forget what was kept: the next look puts it back.
func TestPutBackGoesOn(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	kept, tried, onTrial := closing("10.0.0.0/8"), closing("10.0.0.0/9"), closing("10.0.0.0/9")
	onTrial.Nodes = policy.TrialNodes()
	live, err := generic(render.HostFirewall(calico.Hosts{}, onTrial)[1])
	if err != nil {
		t.Fatal(err)
	}
	away := true
	c := fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).WithObjects(live,
		&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: deadman.Namespace, Name: deadman.OperatorLease}},
	).WithInterceptorFuncs(interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if len((&client.CreateOptions{}).ApplyOptions(opts).DryRun) > 0 {
				return nil
			}
			if away {
				return apierrors.NewTimeoutError("no answer", 1)
			}
			return c.Create(ctx, obj, opts...)
		},
	}).Build()
	r := &FirewallReconciler{Live: c, Clock: testclock.NewFakePassiveClock(now), Applier: &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}}
	look := func() *firewallScope {
		t.Helper()
		s := &firewallScope{
			name: "b", now: now, layer: calico.Hosts{}, known: true, limit: time.Minute, baseline: &pcinetv1alpha1.PCINetworkBaseline{},
			wanted: firewall{policy: tried, layer: calico.Hosts{}}, watched: &firewallWatched{knownAt: now},
		}
		found := live.DeepCopy()
		switch err := c.Get(t.Context(), client.ObjectKeyFromObject(live), found); {
		case err == nil:
			s.live = found
		case !apierrors.IsNotFound(err):
			t.Fatal(err)
		}
		lease, err := r.readLease(t.Context(), deadman.OperatorLease)
		if err != nil {
			t.Fatal(err)
		}
		if s.remember(lease); s.memory.Tried == nil {
			s.memory = trial.Memory{}.Succeeded(kept).Begin(tried, trial.Earlier, now)
		}
		s.intended = s.memory.Intended(tried, s.read())
		s.seen = s.memory.See(trial.Seen{Stage: s.stage(), Contact: "n1 does not answer"}, s.intended, "", now)
		r.decide(s)
		return s
	}

	s := look()
	if s.seen.Stage != trial.OneNode || s.act != trial.TakeBack {
		t.Fatalf("%+v, %s", s.seen, s.act)
	}
	for range 2 { // once as it is made anew, once as it is not there
		if err := r.take(t.Context(), s); !apierrors.IsTimeout(err) {
			t.Errorf("no answer: %v", err)
		}
		s = look()
		if s.live != nil || s.seen.Stage != trial.Strange || s.act != trial.TakeBack || s.memory.Kept == nil {
			t.Fatalf("once it is deleted: %+v, %s, %+v", s.seen, s.act, s.memory)
		}
	}
	away = false
	if err := r.take(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if s = look(); s.seen.Stage != trial.Earlier || s.act != trial.Wait {
		t.Errorf("in the end: %+v, %s", s.seen, s.act)
	}
	if err := r.take(t.Context(), s); err != nil || !look().memory.Stands() {
		t.Errorf("what is remembered then: %+v, %v", look().memory, err)
	}

	if err := r.forget(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	before := s.lease.ResourceVersion
	if err := r.forget(t.Context(), s); err != nil || s.lease.ResourceVersion != before {
		t.Errorf("who has forgotten goes on giving signs of life: %v", err)
	}
}
