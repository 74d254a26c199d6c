// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	watchtools "k8s.io/client-go/tools/watch"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// observed is what the recorder knows of one namespace.
type observed struct {
	born      time.Time // its own event came
	denied    bool
	denials   int                          // times that it came to be denied
	exposures int                          // times that it ceased to be
	rulePort  int32                        // first port of the rule's policy, 0 without it
	state     pcinetv1alpha1.CoverageState // "" without a coverage
	// generation of the baseline that the coverage is about
	generation int64
}

// expectation waits for something to be true of each of several namespaces.
type expectation struct {
	holds   func(*observed) bool
	waiting map[string]struct{}
	at      map[string]time.Time // when it came true
	last    time.Time
	done    chan struct{}
}

// recorder watches a cluster and notes when namespaces are denied. The watches
// start before there is anything to see and resume where they broke off, so no
// event is missed.
type recorder struct {
	cancel context.CancelFunc

	mu          sync.Mutex
	spaces      map[string]*observed
	expected    map[string][]*expectation // by namespace
	statusBytes int                       // largest status of a baseline
	readySince  time.Time                 // the baseline's Ready turned True
	broken      error
}

type starter func(context.Context, metav1.ListOptions) (watch.Interface, error)

func (s starter) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return s(ctx, options)
}

func startRecorder(ctx context.Context, c *clients) (*recorder, error) {
	var present metav1.PartialObjectMetadataList
	raw, err := c.pci.Get().Resource(coverages).Do(ctx).Raw()
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &present); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &recorder{cancel: cancel, spaces: map[string]*observed{}, expected: map[string][]*expectation{}}
	for _, start := range []starter{
		func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return c.core.CoreV1().Namespaces().Watch(ctx, options)
		},
		func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return c.core.NetworkingV1().NetworkPolicies("").Watch(ctx, options)
		},
		func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return c.watch(ctx, coverages, options)
		},
		func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			return c.watch(ctx, baselines, options)
		},
	} {
		// One resource version does for all resources: a single etcd holds them.
		watcher, err := watchtools.NewRetryWatcherWithContext(ctx, present.ResourceVersion, start)
		if err != nil {
			cancel()
			return nil, err
		}
		go r.consume(watcher)
	}
	return r, nil
}

func (r *recorder) stop() { r.cancel() }

func (r *recorder) consume(watcher *watchtools.RetryWatcher) {
	for event := range watcher.ResultChan() {
		r.record(event, now())
	}
}

func (r *recorder) record(event watch.Event, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := event.Type == watch.Deleted
	switch object := event.Object.(type) {
	case *corev1.Namespace:
		if space := r.space(object.Name); space.born.IsZero() {
			space.born = at
		}
	case *networkingv1.NetworkPolicy:
		r.space(object.Namespace).policy(object, gone)
		r.judge(object.Namespace, at)
	case *pcinetv1alpha1.NamespaceCoverage:
		space := r.space(object.Namespace)
		space.state, space.generation = object.Status.State, object.Status.BaselineGeneration
		if gone {
			space.state, space.generation = "", 0
		}
		r.judge(object.Namespace, at)
	case *pcinetv1alpha1.PCINetworkBaseline:
		r.baseline(object, at)
	case *metav1.Status:
		r.broken = fmt.Errorf("a watch of the recorder broke: %s", object.Message)
	}
}

func (o *observed) policy(policy *networkingv1.NetworkPolicy, gone bool) {
	switch policy.Name {
	case denyName:
		denied := !gone && denies(policy)
		switch {
		case denied && !o.denied:
			o.denials++
		case !denied && o.denied:
			o.exposures++
		}
		o.denied = denied
	case rulePolicy:
		o.rulePort = 0
		if egress := policy.Spec.Egress; !gone && len(egress) > 0 && len(egress[0].Ports) > 0 && egress[0].Ports[0].Port != nil {
			o.rulePort = egress[0].Ports[0].Port.IntVal
		}
	}
}

func (r *recorder) baseline(baseline *pcinetv1alpha1.PCINetworkBaseline, at time.Time) {
	if status, err := json.Marshal(baseline.Status); err == nil {
		r.statusBytes = max(r.statusBytes, len(status))
	}
	ready := slices.ContainsFunc(baseline.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == pcinetv1alpha1.ConditionReady && c.Status == metav1.ConditionTrue
	})
	switch {
	case !ready || baseline.Status.ObservedGeneration != baseline.Generation:
		r.readySince = time.Time{}
	case r.readySince.IsZero():
		r.readySince = at
	}
}

func (r *recorder) space(name string) *observed {
	if r.spaces[name] == nil {
		r.spaces[name] = &observed{}
	}
	return r.spaces[name]
}

// judge looks whether what is expected of a namespace has come true.
func (r *recorder) judge(name string, at time.Time) {
	space := r.space(name)
	r.expected[name] = slices.DeleteFunc(r.expected[name], func(e *expectation) bool {
		if !e.holds(space) {
			return false
		}
		e.met(name, at)
		return true
	})
}

func (e *expectation) met(name string, at time.Time) {
	delete(e.waiting, name)
	e.at[name], e.last = at, at
	if len(e.waiting) == 0 {
		close(e.done)
	}
}

// expect starts to wait; it has to be called before the cause.
func (r *recorder) expect(holds func(*observed) bool, names ...string) *expectation {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := &expectation{holds: holds, waiting: map[string]struct{}{}, at: map[string]time.Time{}, done: make(chan struct{})}
	for _, name := range names {
		e.waiting[name] = struct{}{}
		r.expected[name] = append(r.expected[name], e)
	}
	if len(names) == 0 {
		close(e.done)
	}
	return e
}

// wait returns the namespaces for which the expectation did not come true in time.
func (r *recorder) wait(ctx context.Context, e *expectation, limit time.Duration) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-e.done:
	case <-ctx.Done():
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	missing := slices.Sorted(maps.Keys(e.waiting))
	for _, name := range missing {
		r.expected[name] = slices.DeleteFunc(r.expected[name], func(other *expectation) bool { return other == e })
	}
	return missing, r.broken
}

// waitAll fails when a namespace is missing.
func (r *recorder) waitAll(ctx context.Context, e *expectation, limit time.Duration) error {
	missing, err := r.wait(ctx, e, limit)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%d namespaces did not get there within %s: %s …", len(missing), limit, strings.Join(missing[:min(5, len(missing))], ", "))
	}
	return err
}

// look returns a copy of what is known of a namespace.
func (r *recorder) look(name string) observed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *r.space(name)
}

// exposures counts the times that any namespace lost its deny.
func (r *recorder) exposures() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := 0
	for _, space := range r.spaces {
		sum += space.exposures
	}
	return sum
}

// status returns the largest status that a baseline has had, and since when it is Ready.
func (r *recorder) status() (size int, readySince time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.statusBytes, r.readySince
}
