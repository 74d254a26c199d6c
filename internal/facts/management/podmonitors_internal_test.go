// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Of many pods the same few are looked at, whatever the order in which they are listed, on each port; and what is on the host is no pod.
func TestAFewPodsOfEachPort(t *testing.T) {
	t.Parallel()
	i := newInventory(nil, nil)
	i.own[netip.MustParseAddr("10.0.0.2")] = true
	i.podMonitors = []podMonitor{{
		selector: labels.Everything(), object: "PodMonitor ns/m", system: "metrics of m", found: map[string][]netip.AddrPort{},
		ports: []intstr.IntOrString{intstr.FromString("a"), intstr.FromInt32(2)},
	}}
	for n := 9; n > 0; n-- {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns", n)}}
		p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "a", ContainerPort: 1}, {ContainerPort: 2}, {Name: "c", ContainerPort: 3}}}}
		p.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprint("10.0.0.", n)}, {IP: "none"}}
		i.pod(p)
	}
	i.podEndpoints(t.Context())
	var got []string
	for _, in := range i.out.Interfaces {
		got = append(got, fmt.Sprint(in.Address, " ", in.Pod))
	}
	slices.Sort(got)
	want := []string{
		"10.0.0.1:1 true", "10.0.0.1:2 true", "10.0.0.2:1 false", "10.0.0.2:2 false", "10.0.0.3:1 true", "10.0.0.3:2 true", "10.0.0.4:1 true", "10.0.0.4:2 true",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Pods of the whole cluster are listed once where a PodMonitor is for all of them, and otherwise those of a namespace once.
func TestNamespacesWhosePodsMatter(t *testing.T) {
	t.Parallel()
	i := newInventory(nil, nil)
	i.targets = []*target{{}, {}}
	i.targets[0].service.Namespace, i.targets[1].service.Namespace = "b", "a"
	i.podMonitors = []podMonitor{{namespaces: []string{"b", "c"}}}
	if got := i.namespaces(); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("%q", got)
	}
	i.podMonitors = append(i.podMonitors, podMonitor{})
	if got := i.namespaces(); !slices.Equal(got, []string{""}) {
		t.Errorf("%q", got)
	}
}
