// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package site

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// Event is one change of an object. Version orders the events of all kinds as the API server stored them; it is 0 for what was
// there when the recording began.
type Event struct {
	At      time.Time
	Type    watch.EventType
	Object  client.Object
	Version int64
}

// Recorder keeps every version of all Namespaces, Pods, NetworkPolicies and NamespaceCoverages. What is there already comes first,
// in an order in which nothing lacks what it depends on. If its watch breaks it goes on
// where it was; if the API server has forgotten that, it makes up for the difference, and for an object that was made anew
// meanwhile for a deletion too.
type Recorder struct {
	client client.WithWatch
	cancel context.CancelFunc
	wait   sync.WaitGroup

	mu     sync.Mutex
	events []Event
	live   map[string]client.Object
	grown  chan struct{} // closed, and replaced, with each event
}

// recorded are the kinds that are recorded. A coverage tells of policies, a pod waits for its coverage.
func recorded() []client.ObjectList {
	return []client.ObjectList{&corev1.NamespaceList{}, &networkingv1.NetworkPolicyList{}, &pcinetv1alpha1.NamespaceCoverageList{}, &corev1.PodList{}}
}

// Record records from now on, until Stop.
func (s *Site) Record(ctx context.Context) (*Recorder, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Recorder{client: s.Client, cancel: cancel, live: map[string]client.Object{}, grown: make(chan struct{})}
	versions := make([]string, len(recorded()))
	for i, list := range recorded() {
		var err error
		if versions[i], err = r.relist(ctx, list); err != nil {
			r.Stop()
			return nil, err
		}
	}
	for i := range r.events {
		r.events[i].Version = 0
	}
	for i, list := range recorded() {
		r.wait.Go(func() { r.follow(ctx, list, versions[i]) })
	}
	return r, nil
}

// Stop ends the recording.
func (r *Recorder) Stop() {
	r.cancel()
	r.wait.Wait()
}

func key(obj client.Object) string {
	return fmt.Sprintf("%s %s/%s", reflect.TypeOf(obj).Elem().Name(), obj.GetNamespace(), obj.GetName())
}

// relist records the difference to what is there, and returns the version of that.
func (r *Recorder) relist(ctx context.Context, list client.ObjectList) (string, error) {
	list, ok := list.DeepCopyObject().(client.ObjectList)
	if !ok {
		return "", fmt.Errorf("%T is no list", list)
	}
	if err := r.client.List(ctx, list); err != nil {
		return "", err
	}
	there := map[string]client.Object{}
	if err := eachItem(list, func(obj client.Object) { there[key(obj)] = obj }); err != nil {
		return "", err
	}
	for _, old := range r.Live(list) {
		if now := there[key(old)]; now == nil || now.GetUID() != old.GetUID() {
			gone, ok := old.DeepCopyObject().(client.Object)
			if !ok {
				continue
			}
			gone.SetResourceVersion(list.GetResourceVersion())
			r.note(watch.Deleted, gone)
		}
	}
	for k, obj := range there {
		r.mu.Lock()
		old := r.live[k]
		r.mu.Unlock()
		switch {
		case old == nil:
			r.note(watch.Added, obj)
		case old.GetResourceVersion() != obj.GetResourceVersion():
			r.note(watch.Modified, obj)
		}
	}
	return list.GetResourceVersion(), nil
}

func eachItem(list client.ObjectList, f func(client.Object)) error {
	return apimeta.EachListItem(list, func(item runtime.Object) error {
		if obj, ok := item.(client.Object); ok {
			f(obj)
		}
		return nil
	})
}

func (r *Recorder) follow(ctx context.Context, list client.ObjectList, version string) {
	for ctx.Err() == nil {
		if next := r.watch(ctx, list, version); next != version {
			version = next
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
		if relisted, err := r.relist(ctx, list); err == nil {
			version = relisted
		}
	}
}

// watch records until the watch ends, and returns where to go on.
func (r *Recorder) watch(ctx context.Context, list client.ObjectList, version string) string {
	w, err := r.client.Watch(ctx, list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version, AllowWatchBookmarks: true}})
	if err != nil {
		return version
	}
	defer w.Stop()
	for e := range w.ResultChan() {
		obj, ok := e.Object.(client.Object)
		if !ok {
			return version // an error
		}
		version = obj.GetResourceVersion()
		if e.Type != watch.Bookmark {
			r.note(e.Type, obj)
		}
	}
	return version
}

func (r *Recorder) note(kind watch.EventType, obj client.Object) {
	version, err := strconv.ParseInt(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		panic(err) // it is a number on a real API server
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, Event{At: time.Now(), Type: kind, Object: obj, Version: version})
	if kind == watch.Deleted {
		delete(r.live, key(obj))
	} else {
		r.live[key(obj)] = obj
	}
	close(r.grown)
	r.grown = make(chan struct{})
}

// Live returns the objects of a list's kind that are there.
func (r *Recorder) Live(list client.ObjectList) []client.Object {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []client.Object
	for _, obj := range r.live {
		if reflect.TypeOf(obj).Elem().Name()+"List" == reflect.TypeOf(list).Elem().Name() {
			out = append(out, obj)
		}
	}
	return out
}

// Events returns all events up to now in the order of their versions. It waits until they lead to what the API server lists,
// and so needs a moment in which nothing changes.
func (r *Recorder) Events(ctx context.Context) ([]Event, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		r.mu.Lock()
		grown := r.grown
		r.mu.Unlock()
		err := r.complete(ctx)
		if err == nil {
			break
		}
		select {
		case <-grown:
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.events)
	slices.SortStableFunc(out, func(a, b Event) int { return cmp.Compare(a.Version, b.Version) })
	return out, nil
}

// complete returns an error if what the events lead to is not what is listed.
func (r *Recorder) complete(ctx context.Context) error {
	for _, kind := range recorded() {
		list, ok := kind.DeepCopyObject().(client.ObjectList)
		if !ok {
			return fmt.Errorf("%T is no list", kind)
		}
		if err := client.IgnoreNotFound(r.client.List(ctx, list)); err != nil { // not found: the kind itself is gone
			return err
		}
		want := map[string]string{}
		if err := eachItem(list, func(obj client.Object) { want[key(obj)] = obj.GetResourceVersion() }); err != nil {
			return err
		}
		got := r.Live(list)
		for _, obj := range got {
			if want[key(obj)] != obj.GetResourceVersion() {
				return fmt.Errorf("%s was recorded at %s and is listed at %q", key(obj), obj.GetResourceVersion(), want[key(obj)])
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("%d objects of %T were recorded, %d are listed", len(got), list, len(want))
		}
	}
	return nil
}
