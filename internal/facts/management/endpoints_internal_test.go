// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// lists answers with one page: slices of Services in namespace shop, and pods by namespace. What a real API server answers is in test/management.
type lists struct {
	client.Reader

	slices     []discoveryv1.EndpointSlice
	daemonSets []appsv1.DaemonSet
	pods       map[string][]corev1.Pod
	err        error
}

func (l lists) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	o := (&client.ListOptions{}).ApplyOptions(opts)
	switch list := list.(type) {
	case *discoveryv1.EndpointSliceList:
		if o.Namespace == "shop" {
			list.Items = l.slices
		}
	case *appsv1.DaemonSetList:
		list.Items = l.daemonSets
	case *corev1.PodList:
		for namespace, pods := range l.pods {
			if o.Namespace == "" || o.Namespace == namespace {
				list.Items = append(list.Items, pods...)
			}
		}
		return l.err
	}
	return nil
}

// Whoever may write EndpointSlices in a namespace can name any address, and any pod with it: nothing is dialled but a pod that has the
// address there, a node and the API server.
func TestOnlyPodsAndNodesAreEndpoints(t *testing.T) {
	t.Parallel()
	pod := func(namespace string, phase corev1.PodPhase, addresses ...string) corev1.Pod {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}, Status: corev1.PodStatus{Phase: phase}}
		for _, a := range addresses {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: a})
		}
		return p
	}
	pods := map[string][]corev1.Pod{
		"shop":  {pod("shop", corev1.PodRunning, "10.0.0.1", "2001:db8::1"), pod("shop", corev1.PodSucceeded, "10.0.0.2"), pod("shop", corev1.PodFailed, "10.0.0.3"), pod("shop", corev1.PodPending)},
		"other": {pod("other", corev1.PodRunning, "10.0.0.9")},
	}
	const foreign = "Service shop/grafana: it has endpoints that are neither pods of its namespace nor nodes, such as %s, which are not dialled"
	cases := map[string]struct {
		addresses []string
		asPod     bool // with a targetRef
		err       error
		want      []string // addresses that are dialled, and gaps
	}{
		"a pod":                                    {addresses: []string{"10.0.0.1"}, asPod: true, want: []string{"10.0.0.1:3000 pod"}},
		"a pod, by hand":                           {addresses: []string{"10.0.0.1"}, want: []string{"10.0.0.1:3000 pod"}},
		"a pod's second address":                   {addresses: []string{"2001:db8::1"}, asPod: true, want: []string{"[2001:db8::1]:3000 pod"}},
		"a node":                                   {addresses: []string{"192.0.2.1"}, want: []string{"192.0.2.1:3000"}},
		"the API server":                           {addresses: []string{"192.0.2.2"}, want: []string{"192.0.2.2:3000"}},
		"a database outside":                       {addresses: []string{"198.51.100.7"}, want: []string{fmt.Sprintf(foreign, "198.51.100.7:3000")}},
		"several outside":                          {addresses: []string{"198.51.100.9", "198.51.100.7"}, want: []string{fmt.Sprintf(foreign, "198.51.100.7:3000")}},
		"one outside beside a pod":                 {addresses: []string{"198.51.100.7", "10.0.0.1"}, want: []string{"10.0.0.1:3000 pod", fmt.Sprintf(foreign, "198.51.100.7:3000")}},
		"one outside that is said to be a pod":     {addresses: []string{"198.51.100.7"}, asPod: true, want: []string{fmt.Sprintf(foreign, "198.51.100.7:3000")}},
		"a pod of another namespace":               {addresses: []string{"10.0.0.9"}, asPod: true, want: []string{fmt.Sprintf(foreign, "10.0.0.9:3000")}},
		"a pod of another namespace, by hand":      {addresses: []string{"10.0.0.9"}, want: []string{fmt.Sprintf(foreign, "10.0.0.9:3000")}},
		"what a pod that is done has left":         {addresses: []string{"10.0.0.2"}, asPod: true, want: []string{fmt.Sprintf(foreign, "10.0.0.2:3000")}},
		"what a pod that failed has left":          {addresses: []string{"10.0.0.3"}, asPod: true, want: []string{fmt.Sprintf(foreign, "10.0.0.3:3000")}},
		"a cloud's metadata":                       {addresses: []string{"169.254.169.254", "fd00:ec2::254"}, asPod: true, want: []string{fmt.Sprintf(foreign, "169.254.169.254:3000")}},
		"the host itself":                          {addresses: []string{"127.0.0.1"}, asPod: true, want: []string{fmt.Sprintf(foreign, "127.0.0.1:3000")}},
		"a name":                                   {addresses: []string{"internal.example.com"}},
		"pods cannot be listed":                    {addresses: []string{"10.0.0.1"}, asPod: true, err: apierrors.NewForbidden(corev1.Resource("pods"), "", nil), want: []string{"The list of pods: the operator has no right to list pods", fmt.Sprintf(foreign, "10.0.0.1:3000")}},
		"a node, while pods cannot be listed":      {addresses: []string{"192.0.2.1"}, err: apierrors.NewForbidden(corev1.Resource("pods"), "", nil), want: []string{"192.0.2.1:3000", "The list of pods: the operator has no right to list pods"}},
		"five pods' addresses, four of them bogus": {addresses: []string{"10.0.0.0", "10.0.0.1", "9.9.9.9", "8.8.8.8", "1.1.1.1"}, asPod: true, want: []string{"10.0.0.1:3000 pod"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slice := discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(3000))}}}
			for _, a := range tc.addresses {
				e := discoveryv1.Endpoint{Addresses: []string{a}}
				if tc.asPod {
					e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "grafana-0"}
				}
				slice.Endpoints = append(slice.Endpoints, e)
			}
			i := newInventory(lists{slices: []discoveryv1.EndpointSlice{slice}, pods: pods, err: tc.err}, nil)
			i.own[netip.MustParseAddr("192.0.2.1")], i.own[netip.MustParseAddr("192.0.2.2")] = true, true
			i.targets = []*target{{service: types.NamespacedName{Namespace: "other", Name: "loki"}}, {service: types.NamespacedName{Namespace: "shop", Name: "grafana"}}}
			i.pods(t.Context())
			i.endpoints(t.Context())
			var got []string
			for _, in := range i.out.Interfaces {
				text := in.Address.String()
				if in.Pod {
					text += " pod"
				}
				got = append(got, text)
			}
			for _, g := range i.out.Gaps {
				got = append(got, g.What+": "+g.Why)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("dialled and said (-want +got):\n%s", diff)
			}
		})
	}
}

// What there is no time for is named by the first Service of which that is so.
func TestEndpointsThatThereIsNoTimeForAreNamed(t *testing.T) {
	t.Parallel()
	slice := discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(3000))}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.1"}}}}
	i := newInventory(lists{slices: []discoveryv1.EndpointSlice{slice}}, nil)
	i.own[netip.MustParseAddr("192.0.2.1")] = true
	i.endpointsFound = maxEndpoints - 1
	i.targets = []*target{{service: types.NamespacedName{Namespace: "shop", Name: "a"}}, {service: types.NamespacedName{Namespace: "shop", Name: "b"}}, {service: types.NamespacedName{Namespace: "shop", Name: "c"}}}
	i.endpoints(t.Context())
	if len(i.out.Interfaces) != 1 || len(i.out.Gaps) != 1 || i.out.Gaps[0].What != "Services from shop/b on, the known ones first" {
		t.Errorf("%+v, %+v", i.out.Interfaces, i.out.Gaps)
	}
}

// What is scraped never takes the place of what is declared or known, and what there is no room for is named.
func TestWhatThereIsNoRoomForIsNamed(t *testing.T) {
	t.Parallel()
	const known, scraped = "there are more than 1024 supporting systems, aggregated APIs and webhooks", "ServiceMonitors select more than 1024 beside those that are known"
	cases := map[string]struct {
		known, scraped int
		declared       []types.NamespacedName
		// kept are how many Services of each, want are the gaps, has one that must be kept.
		kept [2]int
		want []snapshot.Gap
		has  string
	}{
		"a few":                        {known: 10, scraped: 10, kept: [2]int{10, 10}},
		"as many as there is room for": {known: 1024, scraped: 1024, kept: [2]int{1024, 1024}},
		"one too many that is scraped": {
			known: 1024, scraped: 1025, kept: [2]int{1024, 1024},
			want: []snapshot.Gap{{What: "The Services from a/s1024 on, by name", Why: scraped, Remedy: "Look at them by hand", Traffic: true}},
		},
		"one too many that is known": {
			known: 1025, scraped: 1, kept: [2]int{1024, 1},
			want: []snapshot.Gap{{What: "The Services from z/s1024 on, by name", Why: known, Remedy: "Look at them by hand", Traffic: true}},
		},
		"many of both, and one is declared": {
			known: 3000, scraped: 3000, kept: [2]int{1024, 1024}, declared: []types.NamespacedName{{Namespace: "z", Name: "s2999"}}, has: "z/s2999",
			want: []snapshot.Gap{
				{What: "The Services from z/s1023 on, by name", Why: known, Remedy: "Look at them by hand", Traffic: true},
				{What: "The Services from a/s1024 on, by name", Why: scraped, Remedy: "Look at them by hand", Traffic: true},
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newInventory(nil, tc.declared)
			for n := range tc.scraped {
				key := types.NamespacedName{Namespace: "a", Name: fmt.Sprintf("s%04d", n)}
				i.targets = append(i.targets, &target{service: key, port: 80, portName: new("web"), scraped: true}, &target{service: key, port: 81, portName: new("more"), scraped: true})
			}
			for n := range tc.known {
				i.targets = append(i.targets, &target{service: types.NamespacedName{Namespace: "z", Name: fmt.Sprintf("s%04d", n)}})
			}
			i.targets = append(i.targets, &target{service: types.NamespacedName{Namespace: "b", Name: "gone"}, port: 443})
			i.choose(t.Context())
			kept := map[string]bool{}
			var got [2]int
			for _, t := range i.targets {
				if key := t.service.String(); !kept[key] {
					kept[key] = true
					got[slices.Index([]bool{false, true}, t.scraped)]++
				}
			}
			if diff := cmp.Diff(tc.kept, got); diff != "" {
				t.Errorf("known and scraped Services (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.want, i.out.Gaps); diff != "" {
				t.Errorf("gaps (-want +got):\n%s", diff)
			}
			if tc.has != "" && !kept[tc.has] {
				t.Errorf("%s was declared, and is left out", tc.has)
			}
		})
	}
}
