// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// recorder keeps every version of a namespace's NetworkPolicies, in the order in which the API server stored them.
type recorder struct {
	namespace string
	// initial is what was there when the recording began.
	initial map[string]*networkingv1.NetworkPolicy

	mu     sync.Mutex
	events []recorded
	err    error
}

type recorded struct {
	kind   watch.EventType
	policy *networkingv1.NetworkPolicy
	at     time.Time
}

func (e recorded) String() string { return string(e.kind) + " " + e.policy.Name }

// record records until the test ends.
func record(t *testing.T, namespace string) *recorder {
	t.Helper()
	r := &recorder{namespace: namespace, initial: map[string]*networkingv1.NetworkPolicy{}}
	var list networkingv1.NetworkPolicyList
	if err := env.client.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		r.initial[list.Items[i].Name] = &list.Items[i]
	}
	w, err := env.client.Watch(t.Context(), &networkingv1.NetworkPolicyList{}, client.InNamespace(namespace),
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	go r.follow(w)
	return r
}

func (r *recorder) follow(w watch.Interface) {
	for e := range w.ResultChan() {
		r.mu.Lock()
		if policy, ok := e.Object.(*networkingv1.NetworkPolicy); ok {
			r.events = append(r.events, recorded{e.Type, policy, time.Now()})
		} else {
			r.err = fmt.Errorf("the watch broke: %s %v", e.Type, e.Object)
		}
		r.mu.Unlock()
	}
}

// all returns the events up to now: it waits until they lead to what the API server lists.
func (r *recorder) all(t *testing.T) []recorded {
	t.Helper()
	var out []recorded
	eventually.That(t, "the watch of namespace "+r.namespace+" is complete", func() error {
		want := map[string]string{}
		for name, p := range policiesIn(t, r.namespace) {
			want[name] = p.ResourceVersion
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		got := map[string]string{}
		replay(r.initial, r.events, func(_ string, live map[string]*networkingv1.NetworkPolicy) {
			clear(got)
			for name, p := range live {
				got[name] = p.ResourceVersion
			}
		})
		out = slices.Clone(r.events)
		if r.err == nil && !maps.Equal(want, got) {
			return fmt.Errorf("listed %v, watched %v", want, got)
		}
		return r.err
	})
	return out
}

// replay calls f with every state there was.
func replay(initial map[string]*networkingv1.NetworkPolicy, events []recorded, f func(after string, live map[string]*networkingv1.NetworkPolicy)) {
	live := maps.Clone(initial)
	f("at first", live)
	for _, e := range events {
		if e.kind == watch.Deleted {
			delete(live, e.policy.Name)
		} else {
			live[e.policy.Name] = e.policy
		}
		f("after "+e.String(), live)
	}
}

// noGap fails the test if there was an instant without a deny in one of the directions; without any, in both.
func (r *recorder) noGap(t *testing.T, directions ...networkingv1.PolicyType) []recorded {
	t.Helper()
	if len(directions) == 0 {
		directions = []networkingv1.PolicyType{ingress, egress}
	}
	events := r.all(t)
	replay(r.initial, events, func(after string, live map[string]*networkingv1.NetworkPolicy) {
		for _, d := range directions {
			if !denied(live, d) {
				t.Errorf("namespace %s: nothing denies %s %s", r.namespace, d, after)
			}
		}
	})
	return events
}

// denied says whether one of the policies selects every pod and allows nothing in a direction.
func denied(live map[string]*networkingv1.NetworkPolicy, direction networkingv1.PolicyType) bool {
	for _, p := range live {
		rules := len(p.Spec.Ingress)
		if direction == networkingv1.PolicyTypeEgress {
			rules = len(p.Spec.Egress)
		}
		everyPod := len(p.Spec.PodSelector.MatchLabels)+len(p.Spec.PodSelector.MatchExpressions) == 0
		if rules == 0 && everyPod && slices.Contains(p.Spec.PolicyTypes, direction) {
			return true
		}
	}
	return false
}

// order returns the names of the policies with events of one kind, in order.
func order(events []recorded, kind watch.EventType) []string {
	var out []string
	for _, e := range events {
		if e.kind == kind {
			out = append(out, e.policy.Name)
		}
	}
	return out
}

// byVersion returns the names of policies in the order in which they were last written.
func byVersion(policies map[string]*networkingv1.NetworkPolicy) []string {
	return slices.SortedFunc(maps.Keys(policies), func(a, b string) int {
		return cmp.Compare(version(policies[a]), version(policies[b]))
	})
}
