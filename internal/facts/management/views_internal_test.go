// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// A pod's own word counts for what answers alone: who it is and when it ended its kubelet says.
func TestViewOf(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	const left = `{"answers":{"kubelet":{"looked":2,"answered":1,"some":["10.0.0.1:10250"]}},"missing":1}`
	seen := snapshot.Seen{
		Answers: map[snapshot.Role]snapshot.Answers{snapshot.RoleKubelet: {Looked: 2, Answered: 1, Some: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:10250")}}},
		Missing: 1,
	}
	view := snapshot.View{Node: "n1", From: netip.MustParseAddr("10.0.0.9"), At: at}
	with := func(change func(*snapshot.View)) *snapshot.View {
		v := view
		change(&v)
		return &v
	}
	for name, tc := range map[string]struct {
		change func(*corev1.Pod, *corev1.ContainerStateTerminated)
		want   *snapshot.View
	}{
		"one that has looked": {
			func(*corev1.Pod, *corev1.ContainerStateTerminated) {}, with(func(v *snapshot.View) { v.Seen = seen }),
		},
		"one on a network of its own": {func(p *corev1.Pod, _ *corev1.ContainerStateTerminated) { p.Spec.HostNetwork = false }, nil},
		"one that still looks": {func(p *corev1.Pod, _ *corev1.ContainerStateTerminated) {
			p.Status.ContainerStatuses[0].State = corev1.ContainerState{}
		}, nil},
		"one that does not start": {func(p *corev1.Pod, _ *corev1.ContainerStateTerminated) { p.Status.ContainerStatuses = nil }, nil},
		"one that failed": {
			func(_ *corev1.Pod, end *corev1.ContainerStateTerminated) { end.ExitCode = 1 },
			with(func(v *snapshot.View) { v.Problem = "the program ended with 1" }),
		},
		"one that left nothing": {
			func(_ *corev1.Pod, end *corev1.ContainerStateTerminated) { end.Message = "" },
			with(func(v *snapshot.View) { v.Problem = "what it left cannot be read" }),
		},
		"one that left half of it": {
			func(_ *corev1.Pod, end *corev1.ContainerStateTerminated) { end.Message = left[:len(left)-1] },
			with(func(v *snapshot.View) { v.Problem = "what it left cannot be read" }),
		},
		"one that left something else": {
			func(_ *corev1.Pod, end *corev1.ContainerStateTerminated) { end.Message = `{"outcomes":"AAA"}` },
			with(func(v *snapshot.View) { v.Problem = "what it left cannot be read" }),
		},
		"one that is nowhere": {
			func(p *corev1.Pod, _ *corev1.ContainerStateTerminated) { p.Status.HostIP = "" },
			with(func(v *snapshot.View) { v.From, v.Problem = netip.Addr{}, "its address is not known" }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			end := &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(at), Message: left}
			p := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"}, Spec: corev1.PodSpec{NodeName: "n1", HostNetwork: true},
				Status: corev1.PodStatus{HostIP: "10.0.0.9", ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: end}}}},
			}
			tc.change(p, end)
			got, ended := viewOf(p)
			if ended != (tc.want != nil) {
				t.Fatalf("ended: %t, %+v", ended, got)
			}
			if !ended {
				return
			}
			if diff := cmp.Diff(*tc.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("view (-want +got):\n%s", diff)
			}
		})
	}
}

// The last look of each node counts, of so many nodes; that nobody has ended, and that pods cannot be listed, is said.
func TestViews(t *testing.T) {
	t.Parallel()
	pod := func(node string, minute int, ended bool) corev1.Pod {
		p := corev1.Pod{Spec: corev1.PodSpec{NodeName: node, HostNetwork: true}, Status: corev1.PodStatus{HostIP: "10.0.0.9"}}
		state := corev1.ContainerState{}
		if ended {
			state.Terminated = &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(time.Date(2026, 7, 1, 12, minute, 0, 0, time.UTC)), Message: `{"answers":{}}`}
		}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: state}}
		return p
	}
	var crowd []corev1.Pod
	for n := range maxViews + 1 {
		crowd = append(crowd, pod(fmt.Sprintf("n%03d", n), 0, true))
	}
	for name, tc := range map[string]struct {
		pods  []corev1.Pod
		err   error
		views int
		last  int // minute of the first view
		gap   string
	}{
		"nobody looks":         {},
		"the last one counts":  {pods: []corev1.Pod{pod("n1", 5, true), pod("n1", 7, true), pod("n1", 6, true), pod("n2", 1, true), pod("n3", 0, false)}, views: 2, last: 7},
		"nobody has ended yet": {pods: []corev1.Pod{pod("n1", 0, false)}, gap: "What nodes reach"},
		"too many":             {pods: crowd, views: maxViews, gap: "The nodes from n064 on that look"},
		"no right":             {err: apierrors.NewForbidden(corev1.Resource("pods"), "", nil), gap: "The list of pods in " + VantageNamespace},
	} {
		m := &snapshot.Management{}
		Views(t.Context(), lists{pods: map[string][]corev1.Pod{VantageNamespace: tc.pods}, err: tc.err}, m)
		gap := ""
		for _, g := range m.Gaps {
			gap += g.What
		}
		if len(m.Views) != tc.views || gap != tc.gap || (tc.views > 0 && m.Views[0].At.Minute() != tc.last) {
			t.Errorf("%s: %d views, %+v; gaps %q, want %q", name, len(m.Views), m.Views, gap, tc.gap)
		}
	}
}
