// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Every address counts, and names and what is none does not.
func TestHost(t *testing.T) {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"pcinetwork.dev/host-firewall": "trial"}},
		Spec:       corev1.NodeSpec{ProviderID: "gce://project/zone/n1", PodCIDRs: []string{"10.4.1.0/24", "2001:db8:1::/64", "x"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: "10.0.0.2"},
			{Type: corev1.NodeInternalIP, Address: "::ffff:10.0.0.3"},
			{Type: corev1.NodeExternalIP, Address: "2001:db8::2"},
			{Type: corev1.NodeHostName, Address: "n1"},
		}},
	}
	const want = "{n1 [10.0.0.2 10.0.0.3 2001:db8::2] [10.4.1.0/24 2001:db8:1::/64] gce true}"
	if got := fmt.Sprint(host(n)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := fmt.Sprint(host(&corev1.Node{})); got != "{ [] []  false}" {
		t.Errorf("a node of nothing is %s", got)
	}
}
