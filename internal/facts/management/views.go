// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// VantageNamespace is where config/management/vantage looks from nodes, and nothing else runs. Whoever may run pods there is believed.
const VantageNamespace = "pci-network-baseline-vantage"

// maxViews is how many nodes are heard.
const maxViews = 64

// Views adds to an inventory what pods on the network of nodes have left. Cost: a request for every 500 of them.
func Views(ctx context.Context, r client.Reader, m *snapshot.Management) {
	i := newInventory(r, nil)
	latest, waiting := map[string]snapshot.View{}, false
	pages(ctx, i, "pods in "+VantageNamespace, func(list *corev1.PodList) {
		for n := range list.Items {
			view, ended := viewOf(&list.Items[n])
			waiting = waiting || !ended
			if last, known := latest[view.Node]; ended && (!known || view.At.After(last.At)) {
				latest[view.Node] = view
			}
		}
	}, client.InNamespace(VantageNamespace))
	m.Gaps = append(m.Gaps, i.out.Gaps...)
	for _, v := range latest {
		m.Views = append(m.Views, v)
	}
	slices.SortFunc(m.Views, func(a, b snapshot.View) int { return cmp.Compare(a.Node, b.Node) })
	switch {
	case len(m.Views) > maxViews:
		m.Gaps = append(m.Gaps, snapshot.Gap{What: "The nodes from " + m.Views[maxViews].Node + " on that look", Why: fmt.Sprintf("there are more than %d", maxViews), Remedy: "Look from fewer", Minor: true})
		m.Views = m.Views[:maxViews]
	case len(m.Views) == 0 && waiting:
		m.Gaps = append(m.Gaps, snapshot.Gap{What: "What nodes reach", Why: "no pod in " + VantageNamespace + " has ended yet", Remedy: "kubectl get pods -n " + VantageNamespace, Minor: true})
	}
}

// viewOf reads what a pod has left. It has not ended, or is no view, if ended is false.
func viewOf(p *corev1.Pod) (v snapshot.View, ended bool) {
	var end *corev1.ContainerStateTerminated
	if len(p.Status.ContainerStatuses) == 1 {
		end = p.Status.ContainerStatuses[0].State.Terminated
	}
	if end == nil || !p.Spec.HostNetwork {
		return v, false
	}
	v.Node, v.At = p.Spec.NodeName, end.FinishedAt.UTC()
	v.From, _ = netip.ParseAddr(p.Status.HostIP)
	v.From = v.From.Unmap()
	switch {
	case end.ExitCode != 0:
		v.Problem = fmt.Sprintf("the program ended with %d", end.ExitCode)
	case !v.From.IsValid():
		v.Problem = "its address is not known"
	case json.Unmarshal([]byte(end.Message), &v.Seen) != nil || v.Seen.Answers == nil:
		v.Seen, v.Problem = snapshot.Seen{}, "what it left cannot be read"
	}
	return v, true
}
