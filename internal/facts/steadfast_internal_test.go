// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

var (
	pods        = schema.GroupResource{Resource: "pods"}
	errTooLarge = &apierrors.StatusError{ErrStatus: metav1.Status{
		Code: 504, Reason: metav1.StatusReasonTimeout,
		Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge}}},
	}}
)

func TestAWatchWaitsForAnAPIServerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err   error
		waits bool
	}{
		"nobody listens":               {errors.New("connection refused"), true},
		"an internal error":            {apierrors.NewInternalError(errors.New("etcd")), true},
		"too many requests":            {apierrors.NewTooManyRequests("later", 1), true},
		"it starts":                    {apierrors.NewServiceUnavailable("starting"), true},
		"it takes too long":            {apierrors.NewServerTimeout(pods, "watch", 1), true},
		"the kind is not there":        {apierrors.NewNotFound(pods, ""), true},
		"the version is too old":       {apierrors.NewResourceExpired("too old"), false},
		"the version is to come":       {errTooLarge, false},
		"there is no right":            {apierrors.NewForbidden(pods, "", nil), false},
		"it cannot stream lists":       {apierrors.NewInvalid(schema.GroupKind{Kind: "Pod"}, "", nil), false},
		"we are not who we say we are": {apierrors.NewUnauthorized("expired"), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began, tries := time.Now(), 0
				w, err := steadfast(&toolscache.ListWatch{WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
					if tries++; time.Since(began) < time.Hour {
						return nil, test.err
					}
					return watch.NewFake(), nil
				}}, new(watches).sight(&corev1.Pod{})).(toolscache.WatcherWithContext).WatchWithContext(t.Context(), metav1.ListOptions{})
				if !test.waits {
					if !errors.Is(err, test.err) || tries != 1 {
						t.Errorf("%v after %d tries", err, tries)
					}
					return
				}
				if took := time.Since(began); err != nil || took > time.Hour+3*time.Second || tries > 3000 {
					t.Fatalf("%v after %s and %d tries", err, took, tries)
				}
				w.Stop()
			})
		})
	}
}

func TestAWatchThatWaitsEndsWithItsReflector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		refused := errors.New("connection refused")
		_, err := steadfast(&toolscache.ListWatch{WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
			return nil, refused
		}}, new(watches).sight(&corev1.Pod{})).(toolscache.WatcherWithContext).WatchWithContext(ctx, metav1.ListOptions{})
		if !errors.Is(err, refused) || ctx.Err() == nil {
			t.Error(err)
		}
	})
}

func TestABrokenWatchLooksClosed(t *testing.T) {
	t.Parallel()
	event := func(err *apierrors.StatusError) watch.Event {
		return watch.Event{Type: watch.Error, Object: &err.ErrStatus}
	}
	pod := watch.Event{Type: watch.Added, Object: &corev1.Pod{}}
	tests := map[string]struct {
		after time.Duration
		ends  *watch.Event
		want  []watch.Event
	}{
		"closed at once":     {0, nil, []watch.Event{pod}},
		"closed after while": {time.Minute, nil, []watch.Event{pod}},
		"broken":             {0, new(event(apierrors.NewInternalError(errors.New("unable to decode")))), []watch.Event{pod}},
		"expired":            {time.Minute, new(event(apierrors.NewResourceExpired("too old"))), []watch.Event{pod, event(apierrors.NewResourceExpired("too old"))}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began, from := time.Now(), watch.NewFake()
				w := steady(from, new(watches).sight(&corev1.Pod{}))
				go func() {
					from.Add(&corev1.Pod{})
					time.Sleep(test.after)
					if test.ends != nil {
						from.Action(test.ends.Type, test.ends.Object)
					}
					from.Stop()
				}()
				var got []watch.Event
				for e := range w.ResultChan() {
					got = append(got, e)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("events (-want +got):\n%s", diff)
				}
				if took := time.Since(began); took < shortWatch || took > max(shortWatch, test.after) {
					t.Errorf("it ended after %s", took)
				}
			})
		})
	}
}

func TestAStoppedWatchLeavesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(*testing.T) { // fails when a goroutine is left
		from := watch.NewRaceFreeFake()
		w := steady(from, new(watches).sight(&corev1.Pod{}))
		from.Add(&corev1.Pod{})
		w.Stop()
		synctest.Wait()
		if !from.IsStopped() {
			panic("it watches on")
		}
	})
}
