// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
)

func TestHowLongAKindIsNotWatched(t *testing.T) {
	t.Parallel()
	forbidden, refused := apierrors.NewForbidden(pods, "", nil), errors.New("connection refused")
	unavailable := apierrors.NewServiceUnavailable("starting")
	tests := map[string]struct {
		// happens to the pods' watch, while the nodes' is open or not.
		happens func(s *sight)
		nodes   bool
		want    time.Duration
		cause   error
	}{
		"nobody has watched it yet":            {func(*sight) { time.Sleep(time.Minute) }, false, time.Minute, nil},
		"it is watched":                        {func(s *sight) { s.began(); time.Sleep(time.Minute) }, false, 0, nil},
		"it ended":                             {func(s *sight) { s.began(); time.Sleep(time.Hour); s.ended(); time.Sleep(time.Minute) }, false, time.Minute, nil},
		"it began again":                       {func(s *sight) { s.began(); s.ended(); time.Sleep(time.Minute); s.failed(unavailable); s.began() }, false, 0, nil},
		"the next began before it ended":       {func(s *sight) { s.began(); s.began(); s.ended(); time.Sleep(time.Minute) }, false, 0, nil},
		"the right is missing":                 {func(s *sight) { time.Sleep(time.Minute); s.failed(forbidden) }, false, time.Minute, forbidden},
		"it is refused":                        {func(s *sight) { time.Sleep(time.Minute); s.failed(unavailable) }, true, time.Minute, unavailable},
		"no answer, and nothing is watched":    {func(s *sight) { time.Sleep(time.Minute); s.failed(refused); time.Sleep(time.Second) }, false, time.Second, refused},
		"no answer, but others are watched":    {func(s *sight) { time.Sleep(time.Minute); s.failed(refused) }, true, time.Minute, refused},
		"no answer, then a right that is gone": {func(s *sight) { s.failed(refused); time.Sleep(time.Minute); s.failed(forbidden) }, false, time.Minute, forbidden},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				all := &watches{}
				s, other := all.sight(&corev1.Pod{}), all.sight(&corev1.Node{})
				if test.nodes {
					other.began()
				}
				test.happens(s)
				if got, cause := all.Unwatched(&corev1.Pod{}); got != test.want || !errors.Is(cause, test.cause) {
					t.Errorf("%s, %v, want %s, %v", got, cause, test.want, test.cause)
				}
			})
		})
	}
}

// Silence is not what a kind is unwatched: it begins when nothing is watched any more, and any answer ends it.
func TestHowLongNobodyAnswers(t *testing.T) {
	t.Parallel()
	refused, forbidden := errors.New("connection refused"), apierrors.NewForbidden(pods, "", nil)
	minute := func() { time.Sleep(time.Minute) }
	tests := map[string]struct {
		happens func(s, other *sight)
		want    time.Duration
	}{
		"nothing was asked yet": {func(_, _ *sight) { minute() }, time.Minute},
		"something is watched":  {func(s, _ *sight) { s.began(); minute() }, 0},
		"one of two is": {func(s, other *sight) {
			s.began()
			other.began()
			minute()
			s.ended()
			minute()
			s.failed(refused)
		}, 0},
		"the last one ended":     {func(s, _ *sight) { s.began(); time.Sleep(time.Hour); s.ended(); minute(); s.failed(refused) }, time.Minute},
		"a refusal is an answer": {func(s, _ *sight) { minute(); s.failed(forbidden); time.Sleep(time.Second) }, time.Second},
		"what is not one begins again": {func(s, other *sight) {
			s.failed(forbidden)
			minute()
			s.failed(refused)
			minute()
			other.failed(refused)
		}, 2 * time.Minute},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				all := &watches{}
				test.happens(all.sight(&corev1.Pod{}), all.sight(&corev1.Node{}))
				if got := all.Silence(); got != test.want {
					t.Errorf("%s, want %s", got, test.want)
				}
			})
		})
	}
}

func TestOfSeveralNamespacesTheWorstCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := &watches{}
		here, there := all.sight(&corev1.Pod{}), all.sight(&corev1.Pod{})
		time.Sleep(time.Minute)
		here.began()
		here.ended()
		time.Sleep(time.Minute)
		if got, _ := all.Unwatched(&corev1.Pod{}); got != 2*time.Minute {
			t.Errorf("%s where one has ended later", got)
		}
		here.began()
		if got, _ := all.Unwatched(&corev1.Pod{}); got != 2*time.Minute {
			t.Errorf("%s with one of two", got)
		}
		there.began()
		if got, _ := all.Unwatched(&corev1.Pod{}); got != 0 {
			t.Errorf("%s with both", got)
		}
		there.ended()
		time.Sleep(time.Minute)
		all.forget(&corev1.Pod{})
		if got, _ := all.Unwatched(&corev1.Pod{}); got != 0 {
			t.Errorf("%s of a kind that is not cached any more", got)
		}
	})
}

// What steadfast does is noted: an end in which the next watch begins counts for nothing, one after which it is refused does.
func TestSteadfastNotesWhatIsNotWatched(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := &watches{}
		var answer error
		from := watch.NewRaceFreeFake()
		lw := steadfast(&toolscache.ListWatch{WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
			return from, answer
		}}, all.sight(&corev1.Pod{})).(toolscache.WatcherWithContext)
		began := func() {
			t.Helper()
			if _, err := lw.WatchWithContext(t.Context(), metav1.ListOptions{}); !errors.Is(err, answer) {
				t.Fatal(err)
			}
		}
		expect := func(want time.Duration, cause error) {
			t.Helper()
			synctest.Wait()
			if got, err := all.Unwatched(&corev1.Pod{}); got != want || !errors.Is(err, cause) {
				t.Errorf("%s, %v, want %s, %v", got, err, want, cause)
			}
		}
		began()
		time.Sleep(time.Hour)
		expect(0, nil)
		from.Stop()
		expect(0, nil)
		from = watch.NewRaceFreeFake()
		began()
		time.Sleep(time.Hour)
		expect(0, nil)
		from.Stop()
		answer = apierrors.NewForbidden(pods, "", nil)
		time.Sleep(time.Minute)
		began()
		expect(time.Minute, answer)
	})
}
