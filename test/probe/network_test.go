// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
)

// node is one node as it is played.
type node struct {
	index int
	room  int64 // for pods
	// down: its kubelet does nothing. noImage: nothing can be pulled. evicts: what runs there is evicted. deaf: nothing connects.
	down, noImage, evicts, deaf bool
	// keeps: connections outlive a deny there.
	keeps bool
	// leaks: what comes from outside of the cluster is let in there.
	leaks bool
	// opens are the directions that are not enforced there.
	opens []networkingv1.PolicyType
	// frozen are the policies that its agent has last seen; nil while it follows.
	frozen []networkingv1.NetworkPolicy
}

// network plays kubelets and a policy engine.
type network struct {
	client client.Client

	mu    sync.Mutex
	nodes map[string]*node
	next  int  // last byte of the next pod's address
	mute  bool // nothing is heard of the vantage
	// most is how many pods there were at a time, seen on which nodes there were canaries.
	most     int
	seen     map[string]bool
	policies []networkingv1.NetworkPolicy // as of the last round
}

func newNetwork(c client.Client) *network {
	return &network{client: c, nodes: map[string]*node{}, seen: map[string]bool{}}
}

// edit changes what is played.
func (n *network) edit(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// run plays until ctx ends.
func (n *network) run(ctx context.Context) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if i%10 == 0 {
			n.heartbeat(ctx)
		}
		n.play(ctx)
	}
}

// heartbeat keeps the nodes that are not down Ready, and makes room on them.
func (n *network) heartbeat(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, is := range n.nodes {
		status := corev1.ConditionTrue
		if is.down {
			status = corev1.ConditionFalse
		}
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name}}
		if n.client.Get(ctx, client.ObjectKeyFromObject(lease), lease) != nil {
			_ = n.client.Create(ctx, lease)
		}
		lease.Spec.RenewTime = new(metav1.NowMicro())
		_ = n.client.Update(ctx, lease) // the next one comes soon
		object := &corev1.Node{}
		if n.client.Get(ctx, client.ObjectKey{Name: name}, object) != nil {
			continue
		}
		object.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Reason: "Played", LastHeartbeatTime: metav1.Now()}}
		object.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: hostAddress(is)}}
		object.Status.Allocatable = corev1.ResourceList{
			corev1.ResourcePods: *resource.NewQuantity(is.room, resource.DecimalSI), corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi"),
		}
		object.Status.Capacity = object.Status.Allocatable
		_ = n.client.Status().Update(ctx, object)
	}
}

func hostAddress(n *node) string { return fmt.Sprintf("198.51.100.%d", n.index) }

// play takes every pod a step further.
func (n *network) play(ctx context.Context) {
	var pods corev1.PodList
	var policies networkingv1.NetworkPolicyList
	if n.client.List(ctx, &pods, client.InNamespace(probe.Namespace)) != nil || n.client.List(ctx, &policies, client.InNamespace(probe.Namespace)) != nil {
		return // while shutting down
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.policies = policies.Items
	n.most = max(n.most, len(pods.Items))
	for i := range pods.Items {
		pod := &pods.Items[i]
		on := n.nodes[pod.Spec.NodeName]
		if on == nil || on.down {
			continue
		}
		n.seen[pod.Spec.NodeName] = true
		if !pod.DeletionTimestamp.IsZero() {
			_ = n.client.Delete(ctx, pod, client.GracePeriodSeconds(0))
			continue
		}
		before := pod.DeepCopy()
		n.advance(pod, on, pods.Items)
		_ = n.client.Status().Patch(ctx, pod, client.MergeFrom(before)) // it may be gone
	}
}

// advance changes the status of a pod as a kubelet does.
func (n *network) advance(pod *corev1.Pod, on *node, all []corev1.Pod) {
	state := func(s corev1.ContainerState) {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "canary", State: s}}
	}
	switch {
	case pod.Status.Phase == corev1.PodFailed, pod.Status.Phase == corev1.PodSucceeded:
	case on.noImage && pod.Status.Phase == corev1.PodPending:
		state(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "not found"}})
	case pod.Status.Phase == corev1.PodPending:
		n.next++
		pod.Status.Phase = corev1.PodRunning
		pod.Status.PodIPs = []corev1.PodIP{{IP: fmt.Sprintf("10.1.%d.%d", n.next/250, 1+n.next%250)}, {IP: fmt.Sprintf("fd00::%x", n.next)}}
		pod.Status.PodIP = pod.Status.PodIPs[0].IP
		pod.Status.HostIP = hostAddress(on)
		pod.Status.HostIPs = []corev1.HostIP{{IP: hostAddress(on)}}
		state(corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
	case on.evicts:
		pod.Status.Phase, pod.Status.Reason, pod.Status.Message = corev1.PodFailed, "Evicted", "The node was low on resource: memory."
	case pod.Annotations[probe.AnnotationAsk] != "":
		report, err := json.Marshal(n.report(pod, on, all))
		if err != nil {
			report = []byte(err.Error())
		}
		pod.Status.Phase = corev1.PodSucceeded
		state(corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(report)}})
	}
}

// report is what a canary finds out.
func (n *network) report(pod *corev1.Pod, on *node, all []corev1.Pod) probe.Report {
	var out probe.Report
	for _, arg := range pod.Spec.Containers[0].Args {
		flag, text, _ := strings.Cut(arg, "=")
		d, err := probe.ParseDial(text)
		if err != nil {
			continue // another flag
		}
		outcome, last := probe.Silent, int64(4990)
		switch {
		case d.Via.IsValid() && n.mute:
			outcome = probe.Unheard
		case n.connects(pod, on, all, d):
			outcome = probe.Answered
		}
		switch flag {
		case "--dial":
			out.Outcomes += string(rune(outcome))
		case "--hold":
			if on.keeps {
				outcome = probe.Answered
			}
			out.Held += string(rune(outcome))
		case "--watch": // what is open now was denied when the pod was born
			if outcome == probe.Answered {
				last = 40
			}
			out.Watched = append(out.Watched, last)
		}
	}
	return out
}

// connects says whether a dial is answered.
func (n *network) connects(from *corev1.Pod, on *node, all []corev1.Pod, d probe.Dial) bool {
	i := slices.IndexFunc(all, func(p corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.PodIPs, func(ip corev1.PodIP) bool { return ip.IP == d.Address.Addr().String() })
	})
	if i < 0 {
		return !on.deaf && n.lets(on, networkingv1.PolicyTypeEgress, from, nil, d)
	}
	to := &all[i]
	at := n.nodes[to.Spec.NodeName]
	if d.Via.IsValid() { // of which the network lets questions through as it lets anything
		question := probe.Dial{Protocol: policy.TCP, Address: d.Via}
		return to.Name == d.Name && n.lets(on, networkingv1.PolicyTypeEgress, from, nil, question) && (at.leaks || n.lets(at, networkingv1.PolicyTypeIngress, to, nil, d))
	}
	return to.Name == d.Name && !on.deaf && !at.deaf &&
		n.lets(on, networkingv1.PolicyTypeEgress, from, to, d) && n.lets(at, networkingv1.PolicyTypeIngress, to, from, d)
}

// lets says whether a node lets a packet of a pod through in a direction. peer is nil for the API server and the vantage.
func (n *network) lets(on *node, d networkingv1.PolicyType, pod, peer *corev1.Pod, dial probe.Dial) bool {
	if slices.Contains(on.opens, d) {
		return true
	}
	policies := n.policies
	if on.frozen != nil {
		policies = on.frozen
	}
	denied := false
	for _, p := range policies {
		if !slices.Contains(p.Spec.PolicyTypes, d) || !selects(&p.Spec.PodSelector, pod) {
			continue
		}
		denied = true
		for _, r := range p.Spec.Ingress {
			if d == networkingv1.PolicyTypeIngress && opens(r.Ports, r.From, peer, dial) {
				return true
			}
		}
		for _, r := range p.Spec.Egress {
			if d == networkingv1.PolicyTypeEgress && opens(r.Ports, r.To, peer, dial) {
				return true
			}
		}
	}
	return !denied
}

func opens(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, peer *corev1.Pod, dial probe.Dial) bool {
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		last := p.Port.IntVal
		if p.EndPort != nil {
			last = *p.EndPort
		}
		port := int32(dial.Address.Port())
		return policy.Protocol(*p.Protocol) == dial.Protocol && p.Port.IntVal <= port && port <= last
	}) && slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			other := dial.Address.Addr()
			if dial.Via.IsValid() {
				other = dial.Via.Addr()
			}
			return peer == nil && netip.MustParsePrefix(p.IPBlock.CIDR).Contains(other)
		}
		return peer != nil && selects(p.PodSelector, peer)
	})
}

func selects(s *metav1.LabelSelector, pod *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(pod.Labels))
}
