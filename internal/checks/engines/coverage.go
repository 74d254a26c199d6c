// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"slices"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Excluded says why no agent can run on a node; "" when one can.
func Excluded(n *snapshot.Node) string {
	switch {
	case n.Labels[osLabel] == windows:
		return "Windows"
	case n.Labels[computeType] == "fargate":
		return "Fargate"
	case n.Labels[computeType] == "hybrid": // the VPC CNI does not run there
		return "EKS hybrid"
	case n.Labels["type"] == "virtual-kubelet":
		return "virtual-kubelet"
	}
	return ""
}

// covered returns the nodes on which an agent should be Ready, with what is left out. A node that is not Ready itself
// takes no new pods, and nothing true can be said about its agent, so it counts apart: a node that is joining is not Ready
// until its agent is.
func (v *view) covered() (nodes []*snapshot.Node, c snapshot.Coverage) {
	for i := range v.Nodes {
		n := &v.Nodes[i]
		switch why := Excluded(n); {
		case why != "":
			if c.Excluded == nil {
				c.Excluded = map[string]int{}
			}
			c.Excluded[why]++
		case !n.Ready:
			c.Down++
		default:
			nodes = append(nodes, n)
		}
	}
	c.Total = len(nodes)
	return nodes, c
}

// countsDiffer says whether the DaemonSet's own status leaves it open that a node lacks a Ready agent. Only then are its pods
// looked at.
func (f *Found) countsDiffer() bool {
	_, c := f.covered()
	d := f.DaemonSet
	return d.Ready != d.Desired || int(d.Ready) != c.Total+c.Down || c.Down > 0
}

func podsOf(d *snapshot.DaemonSet) snapshot.Source {
	return snapshot.Source{Kind: snapshot.KindPod, Namespace: d.Namespace, Name: d.Name, Selector: d.Selector}
}

// coverage counts the nodes with a Ready agent. Cost: the number of nodes, and of the agent's pods if its counts differ.
func (f *Found) coverage() snapshot.Coverage {
	nodes, c := f.covered()
	if f.DaemonSet == nil || !f.countsDiffer() {
		c.Ready = c.Total
		return c
	}
	pods, read := f.Readings[podsOf(f.DaemonSet)]
	if !read || pods.Pending || pods.Problem != "" {
		c.Ready = min(int(f.DaemonSet.Ready), c.Total)
		return c
	}
	ready := map[string]bool{}
	for _, o := range pods.Objects {
		if o.Data["ready"] == "true" {
			ready[o.Data["node"]] = true
		}
	}
	for _, n := range nodes {
		if ready[n.Name] {
			c.Ready++
			continue
		}
		c.Missing = append(c.Missing, n.Name)
	}
	slices.Sort(c.Missing)
	return c
}
