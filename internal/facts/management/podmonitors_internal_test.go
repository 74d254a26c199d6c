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

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// scrapedPod is a pod of a StatefulSet that has three ports.
func scrapedPod(owner, address string, change func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: owner + "-" + address}}
	p.OwnerReferences = []metav1.OwnerReference{{Kind: "StatefulSet", Name: owner, Controller: new(true)}}
	p.Spec.InitContainers = []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 2}}}}
	p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "a", ContainerPort: 1}, {Name: "c", ContainerPort: 3}}}}
	p.Status.PodIP, p.Status.PodIPs = address, []corev1.PodIP{{IP: address}, {IP: "2001:db8::1"}}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	change(p)
	return p
}

func monitorOf(object string, ports ...intstr.IntOrString) podMonitor {
	return podMonitor{selector: labels.Everything(), object: object, ports: ports, all: len(ports) == 0, found: map[programPort][]netip.AddrPort{}}
}

func unchanged(*corev1.Pod) {}

// Of many pods of a program the same few are looked at, whatever the order in which they are listed, on each port, and by the address that
// Prometheus goes by; other programs have places of their own. What is not there to stay, or is known by a Service, is not looked at.
func TestAFewPodsOfEachProgram(t *testing.T) {
	t.Parallel()
	i := newInventory(nil, nil)
	i.own[netip.MustParseAddr("10.0.0.2")] = true
	i.add(snapshot.Interface{Address: netip.MustParseAddrPort("10.0.0.3:1"), Role: snapshot.RoleSupporting, Object: "Service ns/known"})
	i.podMonitors = []podMonitor{monitorOf("PodMonitor ns/m", intstr.FromString("a"), intstr.FromInt32(2))}
	for n := 9; n > 0; n-- {
		i.pod(scrapedPod("x", fmt.Sprint("10.0.0.", n), unchanged))
	}
	i.pod(scrapedPod("y", "10.0.0.10", unchanged))
	i.pod(scrapedPod("alone", "10.0.0.11", func(p *corev1.Pod) { p.OwnerReferences = nil }))
	i.pod(scrapedPod("z", "10.0.0.20", func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }))
	i.pod(scrapedPod("z", "10.0.0.21", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{}; *p.DeletionTimestamp = metav1.Now() }))
	i.pod(scrapedPod("z", "none", unchanged))
	i.podEndpoints(t.Context())
	var got []string
	for _, in := range i.out.Interfaces {
		got = append(got, fmt.Sprint(in.Object, " ", in.Address, " ", in.Pod))
	}
	var want []string
	for _, text := range []string{
		"10.0.0.1:1 true", "10.0.0.2:1 false", "10.0.0.4:1 true", "10.0.0.1:2 true", "10.0.0.2:2 false", "10.0.0.3:2 true", "10.0.0.4:2 true",
		"10.0.0.10:1 true", "10.0.0.10:2 true", "10.0.0.11:1 true", "10.0.0.11:2 true",
	} {
		want = append(want, "PodMonitor ns/m "+text)
	}
	want = append(want, "Service ns/known 10.0.0.3:1 false")
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(i.out.Gaps) > 0 {
		t.Errorf("gaps: %+v", i.out.Gaps)
	}
}

// Whoever may write pods and a PodMonitor has no more looked at than there is time for, and what is left out is said.
func TestPodsAreBounded(t *testing.T) {
	t.Parallel()
	crowd := func(n int) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			for port := range n {
				p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{ContainerPort: int32(port + 10)})
			}
		}
	}
	for name, tc := range map[string]struct {
		pods, ports, taken, want int
		gaps                     []string
	}{
		"a pod of many ports": {1, 100, 0, maxPodPorts, []string{"PodMonitor ns/m"}},
		"many programs":       {maxPrograms, 0, 0, maxPrograms, []string{"PodMonitor ns/m"}}, // of three ports each
		"little room":         {2, 0, maxEndpoints - 4, 4, []string{"Pods from PodMonitor ns/m on"}},
		"room enough":         {2, 0, maxEndpoints - 6, 6, nil},
	} {
		i := newInventory(nil, nil)
		i.endpointsFound, i.podMonitors = tc.taken, []podMonitor{monitorOf("PodMonitor ns/m")}
		for n := range tc.pods {
			i.pod(scrapedPod(fmt.Sprint(n), fmt.Sprintf("10.0.%d.%d", n/250, n%250), crowd(tc.ports)))
		}
		i.podEndpoints(t.Context())
		var gaps []string
		for _, g := range i.out.Gaps {
			gaps = append(gaps, g.What)
		}
		if len(i.out.Interfaces) != tc.want || !slices.Equal(gaps, tc.gaps) {
			t.Errorf("%s: %d interfaces, want %d; gaps %q, want %q", name, len(i.out.Interfaces), tc.want, gaps, tc.gaps)
		}
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
