// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// sighting is one event of a watch, with the time of its arrival.
type sighting struct {
	at     time.Time
	event  watch.EventType
	object client.Object
}

// observer watches the cluster beside the operator and times what it sees:
// the times of the demo are between two events, free of kubectl's own.
type observer struct {
	mu      sync.Mutex
	seen    []sighting
	err     error
	changed chan struct{} // closed, and replaced, whenever there is something new
}

// observe watches until ctx is done.
func observe(ctx context.Context, c client.WithWatch) (*observer, error) {
	o := &observer{changed: make(chan struct{})}
	for _, list := range []client.ObjectList{
		&corev1.NamespaceList{}, &networkingv1.NetworkPolicyList{}, &pcinetv1alpha1.PCINetworkBaselineList{},
	} {
		w, err := c.Watch(ctx, list)
		if err != nil {
			return nil, fmt.Errorf("watching the cluster: %w", err)
		}
		go o.follow(ctx, w)
	}
	return o, nil
}

func (o *observer) follow(ctx context.Context, w watch.Interface) {
	defer w.Stop()
	for event := range w.ResultChan() {
		at := time.Now()
		object, ok := event.Object.(client.Object)
		if !ok || event.Type == watch.Error {
			break
		}
		o.tell(func() { o.seen = append(o.seen, sighting{at: at, event: event.Type, object: object}) })
	}
	if ctx.Err() == nil {
		o.tell(func() { o.err = errors.New("the API server ended the demo's watch") })
	}
}

func (o *observer) tell(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
	close(o.changed)
	o.changed = make(chan struct{})
}

// mark returns a position to look from: the end of what has been seen so far.
func (o *observer) mark() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.seen)
}

// since returns what has been seen from mark on, and a channel that is closed when there is more.
func (o *observer) since(mark int) (seen []sighting, more <-chan struct{}, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[mark:len(o.seen):len(o.seen)], o.changed, o.err
}

// await returns the first sighting from mark on that matches, or an error that says what did not happen.
func (o *observer) await(ctx context.Context, mark int, what string, match func(sighting) bool) (sighting, error) {
	limit := time.NewTimer(eventLimit)
	defer limit.Stop()
	for {
		seen, more, err := o.since(mark)
		for _, s := range seen {
			if match(s) {
				return s, nil
			}
		}
		if err != nil {
			return sighting{}, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return sighting{}, context.Cause(ctx)
		case <-limit.C:
			return sighting{}, fmt.Errorf("this did not happen within %.0f s: %s", eventLimit.Seconds(), what)
		}
	}
}

// event matches an event of the object with the type, namespace and name of like.
func event(kind watch.EventType, like client.Object) func(sighting) bool {
	return func(s sighting) bool {
		return s.event == kind && reflect.TypeOf(s.object) == reflect.TypeOf(like) &&
			client.ObjectKeyFromObject(s.object) == client.ObjectKeyFromObject(like)
	}
}

// where narrows match to network policies that allow something, or to those that allow nothing.
func where(match func(sighting) bool, allows bool) func(sighting) bool {
	return func(s sighting) bool {
		return match(s) && allowsSomething(s.object.(*networkingv1.NetworkPolicy)) == allows
	}
}

func allowsSomething(p *networkingv1.NetworkPolicy) bool {
	return len(p.Spec.Ingress)+len(p.Spec.Egress) > 0
}

// denyOf names the deny of a namespace.
func denyOf(namespace string) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: denyName}}
}
