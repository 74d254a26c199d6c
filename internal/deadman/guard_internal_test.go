// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package deadman

import (
	"context"
	"errors"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/pcinetwork/pci-network-baseline/internal/apply"
)

// scene is a man on guard, whose time and API server are played. What a real API server says is in test/deadman.
type scene struct {
	*guard

	client client.Client
	time   *clocktesting.FakePassiveClock
	// there says whether the policy is; the rest, what the API server answers instead.
	there                         bool
	unreadable, forbidden, unsaid error
	deleted, rehearsed            int
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{there: true, time: clocktesting.NewFakePassiveClock(time.Now())}
	absent := apierrors.NewNotFound(schema.GroupResource{Resource: "policies"}, "x")
	s.client = interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme.Scheme).WithObjects(
		&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: OperatorLease}},
		&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: PulseLease}},
	).Build(), interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			switch {
			case key.Namespace != "":
				return c.Get(ctx, key, obj, opts...)
			case s.unreadable != nil && s.deleted == 0: // afterwards another API server would say that it is gone
				err := s.unreadable
				if s.time.Since(s.since) >= time.Minute {
					s.unreadable = nil
				}
				return err
			case !s.there:
				return absent
			}
			return nil
		},
		Delete: func(_ context.Context, _ client.WithWatch, _ client.Object, opts ...client.DeleteOption) error {
			if (&client.DeleteOptions{}).ApplyOptions(opts).DryRun != nil {
				s.rehearsed++
				return s.forbidden
			}
			s.deleted++
			s.there = false
			return nil
		},
		Update: func(ctx context.Context, c client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			if obj.GetName() == PulseLease && s.unsaid != nil {
				return s.unsaid
			}
			return c.Update(ctx, obj, opts...)
		},
	})
	writer := &apply.Applier{Client: s.client, Observe: func(client.Object, apply.Operation, error) {}}
	s.guard = &guard{
		man: &Man{
			kinds: kinds["cilium"], name: "x", writers: []*apply.Applier{writer},
			post: post{namespace: Namespace, node: "n1", limit: time.Minute, round: defaultRound},
		},
		clock: s.time, since: s.time.Now(),
	}
	return s
}

// goes plays a round, some time after the last one.
func (s *scene) goes(t *testing.T, after time.Duration) error {
	t.Helper()
	s.time.SetTime(s.time.Now().Add(after))
	return s.round(t.Context())
}

func (s *scene) renew(t *testing.T) {
	t.Helper()
	lease, err := s.man.lease(t.Context(), OperatorLease)
	if err != nil {
		t.Fatal(err)
	}
	lease.Spec.HolderIdentity = new("operator")
	if err := s.client.Update(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
}

// said returns the resourceVersion of the pulse, which every pulse changes.
func (s *scene) said(t *testing.T) string {
	t.Helper()
	lease, err := s.man.lease(t.Context(), PulseLease)
	if err != nil {
		t.Fatal(err)
	}
	return lease.ResourceVersion
}

func TestRounds(t *testing.T) {
	const almost = time.Minute - time.Second
	cases := map[string]struct {
		before func(s *scene)
		// after are the times between rounds. In each round before the last one the operator has been heard, if renewed.
		after   []time.Duration
		renewed bool
		want    int
	}{
		"the first sight of the Lease is no sign":                  {after: []time.Duration{almost, time.Second}, want: 1},
		"nothing is taken back before the limit":                   {after: []time.Duration{0, almost}},
		"a sign begins the silence anew":                           {after: []time.Duration{0, almost, almost}, renewed: true},
		"the silence after a sign is the whole limit, and no more": {after: []time.Duration{0, almost, time.Minute}, renewed: true, want: 1},
		"a policy that cannot be read may be there": {
			before: func(s *scene) { s.unreadable = errors.New("no answer") }, after: []time.Duration{almost, time.Second}, want: 1,
		},
		"nor is it gone because nobody serves its kind": {
			before: func(s *scene) {
				s.unreadable = &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonNotFound, Details: &metav1.StatusDetails{
					Causes: []metav1.StatusCause{{Type: metav1.CauseTypeUnexpectedServerResponse}},
				}}}
			},
			after: []time.Duration{almost, time.Second}, want: 1,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			if tc.before != nil {
				tc.before(s)
			}
			for i, after := range tc.after {
				_ = s.goes(t, after)
				if tc.renewed && i == 0 {
					s.renew(t)
				}
			}
			if s.deleted != tc.want {
				t.Errorf("deleted %d times, want %d", s.deleted, tc.want)
			}
		})
	}
}

// A policy that comes after a long silence lives for the limit.
func TestNothingToUndo(t *testing.T) {
	s := newScene(t)
	for _, silence := range []time.Duration{time.Minute - time.Second, time.Hour} {
		s.there = false
		if err := s.goes(t, silence); err != nil {
			t.Fatal(err)
		}
		s.there = true
		if err := s.goes(t, time.Minute-time.Second); err != nil || s.deleted > 0 {
			t.Errorf("deleted %d times, %v", s.deleted, err)
		}
	}
}

// He goes on after he has taken one back, and gives the next one its whole time, however soon it comes.
func TestGuardGoesOn(t *testing.T) {
	s := newScene(t)
	for want := 1; want <= 3; want++ {
		s.there = true
		if err := s.goes(t, time.Minute-time.Second); err != nil || !s.there {
			t.Fatalf("too soon: %v", err)
		}
		if err := s.goes(t, time.Second); err != nil {
			t.Fatal(err)
		}
		if s.there || s.deleted != want {
			t.Errorf("deleted %d times, want %d", s.deleted, want)
		}
	}
}

func TestRoundsThatSayNothing(t *testing.T) {
	forbidden := errors.New("forbidden")
	s := newScene(t)
	rounds := func(n int, want error) {
		t.Helper()
		for i := range n {
			before := s.said(t)
			err := s.goes(t, time.Second)
			if !errors.Is(err, want) || (s.said(t) == before) != (want != nil) {
				t.Errorf("round %d: %v, said something: %t", i, err, s.said(t) != before)
			}
		}
	}
	rounds(1, nil)
	s.forbidden = forbidden
	rounds(trust-1, nil) // the last rehearsal still counts
	rounds(3, forbidden)
	s.forbidden = nil
	rounds(trust+1, nil)
	if want := 1 + 3 + 2; s.rehearsed != want {
		t.Errorf("%d rehearsals, want %d", s.rehearsed, want)
	}
	s.unsaid = apierrors.NewConflict(schema.GroupResource{Resource: "leases"}, PulseLease, errors.New("changed"))
	rounds(1, s.unsaid)
	s.unsaid = nil
	rounds(1, nil)
	s.unreadable = forbidden
	rounds(1, forbidden)
}

func TestReadPulse(t *testing.T) {
	for name, tc := range map[string]struct {
		lease coordinationv1.Lease
		want  Pulse
		is    bool
	}{
		"as it is applied":    {},
		"a holder of no name": {lease: coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: new("")}}},
		"a holder alone":      {coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: new("n1")}}, Pulse{Node: "n1"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got, is := ReadPulse(&tc.lease); got != tc.want || is != tc.is {
				t.Errorf("%+v, %t", got, is)
			}
		})
	}
	want, lease := Pulse{Node: "n1", Policy: "x", Limit: time.Minute}, &coordinationv1.Lease{}
	want.write(lease, time.Now())
	if got, is := ReadPulse(lease); got != want || !is {
		t.Errorf("%+v, %t", got, is)
	}
}
