// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

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
	for n := range maxNamespaces {
		i.podMonitors[0].namespaces = append(i.podMonitors[0].namespaces, fmt.Sprint("d", n))
	}
	if got := i.namespaces(); !slices.Equal(got, []string{""}) {
		t.Errorf("%d, although all pods are as many requests", len(got))
	}
	i.podMonitors = append(i.podMonitors[:0], podMonitor{})
	if got := i.namespaces(); !slices.Equal(got, []string{""}) {
		t.Errorf("%q", got)
	}
}

// monitors answers with ServiceMonitors and PodMonitors.
type monitors struct {
	client.Reader

	of map[string][]map[string]any // specs by kind
}

func (m monitors) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	u, _ := list.(*unstructured.UnstructuredList)
	for n, spec := range m.of[strings.TrimSuffix(u.GetKind(), "List")] {
		o := unstructured.Unstructured{Object: map[string]any{"spec": spec}}
		o.SetNamespace("ns")
		o.SetName(fmt.Sprintf("m%04d", n))
		u.Items = append(u.Items, o)
	}
	return nil
}

// Whoever may write monitors names no more with them than there is time for, and has no port looked at twice.
func TestMonitorsAreBounded(t *testing.T) {
	t.Parallel()
	many := func(n int, of func(int) any) (out []any) {
		for k := range n {
			out = append(out, of(k))
		}
		return out
	}
	port := func(k int) any { return map[string]any{"port": fmt.Sprint("p", k)} }
	name := func(k int) any { return fmt.Sprint("n", k) }
	few := map[string]any{"endpoints": many(1, port)}
	for what, tc := range map[string]struct {
		of   monitors
		gaps []string
	}{
		"few":             {monitors{of: map[string][]map[string]any{"ServiceMonitor": {few, few}}}, nil},
		"many ports":      {monitors{of: map[string][]map[string]any{"ServiceMonitor": {{"endpoints": many(maxNamed+1, port)}}}}, []string{"ServiceMonitor ns/m0000"}},
		"many pods'":      {monitors{of: map[string][]map[string]any{"PodMonitor": {{"podMetricsEndpoints": many(maxNamed+1, port)}}}}, []string{"PodMonitor ns/m0000"}},
		"many namespaces": {monitors{of: map[string][]map[string]any{"PodMonitor": {{"namespaceSelector": map[string]any{"matchNames": many(maxNamed+1, name)}}}}}, []string{"PodMonitor ns/m0000"}},
		"many":            {monitors{of: map[string][]map[string]any{"PodMonitor": slices.Repeat([]map[string]any{few}, maxScraped+1)}}, []string{"The PodMonitors from PodMonitor ns/m1024 on"}},
	} {
		i := newInventory(tc.of, nil)
		i.monitoring(t.Context())
		var gaps []string
		for _, g := range i.out.Gaps {
			gaps = append(gaps, g.What)
		}
		if !slices.Equal(gaps, tc.gaps) || len(i.podMonitors) > maxScraped {
			t.Errorf("%s: gaps %q, want %q", what, gaps, tc.gaps)
		}
		for n := range i.monitors {
			if len(i.monitors[n].ports) > maxNamed {
				t.Errorf("%s: %d ports", what, len(i.monitors[n].ports))
			}
		}
		for n := range i.podMonitors {
			if m := &i.podMonitors[n]; len(m.ports) > maxNamed || len(m.namespaces) > maxNamed {
				t.Errorf("%s: %d ports, %d namespaces", what, len(m.ports), len(m.namespaces))
			}
		}
	}
	i := newInventory(nil, nil)
	i.monitors = slices.Repeat([]monitor{{selector: labels.Everything(), all: true}}, 3)
	s := &corev1.Service{}
	for n := range 1000 {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: int32(n + 1)})
	}
	if i.scraped(s); len(i.targets) != maxPorts+1 {
		t.Errorf("a Service of 1,000 ports has %d looked at", len(i.targets))
	}
	i.targets, s.Spec.Ports = nil, s.Spec.Ports[:3]
	if i.scraped(s); len(i.targets) != 3 {
		t.Errorf("three ports that three monitors select are %d", len(i.targets))
	}
}
