// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
)

// sightless is a cache that was never in sync.
type sightless struct {
	cache.Cache
	unwatched atomic.Int64  // of policies, for so long
	silence   time.Duration // of everything
}

func (c *sightless) Unwatched(obj runtime.Object) (time.Duration, error) {
	if _, is := obj.(*networkingv1.NetworkPolicy); is {
		return time.Duration(c.unwatched.Load()), nil
	}
	return 0, nil
}

func (c *sightless) Silence() time.Duration { return c.silence }

func (*sightless) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return unsynced{}, nil
}

type unsynced struct{ toolscache.SharedIndexInformer }

func (unsynced) HasSynced() bool { return false }

func watchesOf(t *testing.T, c watchedCache) *Watches {
	t.Helper()
	scheme, err := newScheme()
	if err != nil {
		t.Fatal(err)
	}
	return &Watches{cache: c, scheme: scheme, backends: newBackends(), admissions: &AdmissionReconciler{}, metrics: metrics.New(prometheus.NewRegistry())}
}

// A replica that reaches no API server is as blind as one that may not watch: it must not be called ready for ever.
func TestWhoSeesNothingIsNotReady(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		unwatched, silence time.Duration
		ready              bool
	}{
		"everything is watched":             {ready: true},
		"a watch has just ended":            {unwatched: unreadyAfter - time.Second, ready: true},
		"policies are not watched":          {unwatched: unreadyAfter},
		"the API server restarts":           {silence: unreadyAfter - time.Second, ready: true},
		"no API server answers any more":    {silence: unreadyAfter},
		"nor did it let us watch before it": {unwatched: unreadyAfter, silence: unreadyAfter},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &sightless{silence: test.silence}
			c.unwatched.Store(int64(test.unwatched))
			if err := watchesOf(t, c).ready(nil); (err == nil) != test.ready {
				t.Errorf("ready says %v, want ready %t", err, test.ready)
			}
		})
	}
}

// What the last process called well is taken back again and again, since others may lead in between; but not every second.
func TestWhatWasCalledWellIsTakenBackAgain(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]error{"it is done": nil, "the API server refuses": errors.New("refused")} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &sightless{}
				w := watchesOf(t, c)
				c.unwatched.Store(int64(blindAfter))
				began := time.Now()
				var got []string
				w.disown = func(context.Context, blindness) error {
					got = append(got, fmt.Sprint(time.Since(began)))
					return fails
				}
				ctx, cancel := context.WithCancel(t.Context())
				go func() { _ = w.Start(ctx) }()
				time.Sleep(41*time.Second + time.Millisecond)
				c.unwatched.Store(0) // it sees again
				time.Sleep(20 * time.Second)
				c.unwatched.Store(int64(blindAfter)) // and is blind again
				time.Sleep(4 * time.Second)
				cancel()
				synctest.Wait()
				want := []string{"1s", "2s", "4s", "8s", "16s", "26s", "36s", "1m2s", "1m3s", "1m5s"}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("taken back (-want +got):\n%s", diff)
				}
			})
		})
	}
}
