// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/probe/reach"
)

// reached runs the command as somebody at a place would, and returns what answers against the allow-list.
func (s *site) reached(t *testing.T, args ...string) (answers []string, r reach.Report, err error) {
	t.Helper()
	var out bytes.Buffer
	err = reach.Main(t.Context(), append([]string{"--kubeconfig", s.outside(t, s.cluster.Kubeconfig()), "--output", "json"}, args...), &out, io.Discard)
	if e := json.Unmarshal(out.Bytes(), &r); e != nil {
		t.Fatalf("%v: %v\n%s", err, e, out.String())
	}
	for _, i := range r.Interfaces {
		if i.Verdict == reach.Reached {
			answers = append(answers, fmt.Sprintf("%s %s (%s)", i.Role, i.Address, i.Object))
		}
	}
	return answers, r, err
}

// outside writes a kubeconfig again for somebody who has to take the API server's own address.
func (s *site) outside(t *testing.T, kubeconfig string) string {
	t.Helper()
	data, err := os.ReadFile(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	outside := strings.Replace(string(data), "https://127.0.0.1:", "https://10.0.0.1:", 1)
	outside = strings.Replace(outside, "server:", "tls-server-name: kubernetes.default.svc\n    server:", 1)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(outside), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// outsideIn asks from a place whose address is on no allow-list, and from one whose address is.
func outsideIn(t *testing.T, s *site) {
	t.Helper()
	node := &corev1.Node{}
	if err := s.Get(t.Context(), types.NamespacedName{Name: "n1"}, node); err != nil {
		t.Fatal(err)
	}
	node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "10.7.0.2"})
	if err := s.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	door := &corev1.Service{}
	if err := s.Get(t.Context(), types.NamespacedName{Namespace: "logs", Name: "loki"}, door); err != nil {
		t.Fatal(err)
	}
	before := door.DeepCopy()
	door.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "10.7.0.9"}}
	if err := s.Status().Patch(t.Context(), door, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	plain(t, fmt.Sprintf("10.7.0.9:%d", door.Spec.Ports[0].Port))
	plain(t, fmt.Sprintf("10.7.0.2:%d", 10255))
	want := []string{
		"API server 10.0.0.1:" + s.port(t) + " (Service default/kubernetes)", "API server 10.0.0.1:" + s.port(t) + " (the kubeconfig)",
		fmt.Sprintf("Loki 10.7.0.9:%d (Service logs/loki)", door.Spec.Ports[0].Port), "controller manager 10.0.0.1:10257 (Node cp)",
		"etcd 10.0.0.1:2379 (Node cp)", "etcd 10.0.0.1:2380 (Node cp)",
		"kube-proxy's health check 10.0.0.2:10256 (DaemonSet kube-system/kube-proxy)", "kube-proxy's metrics 10.0.0.2:10249 (DaemonSet kube-system/kube-proxy)",
		"kubelet 10.0.0.1:10250 (Node cp)", "kubelet 10.0.0.2:10250 (Node n1)",
		"read-only kubelet port 10.0.0.2:10255 (Node n1)", "read-only kubelet port 10.7.0.2:10255 (Node n1)",
		"scheduler 10.0.0.1:10259 (Node cp)",
	}
	pods := []string{"orders-log 10.0.0.3:9444 (Service shop/orders-log)", "Loki 10.0.0.3:9443 (Service logs/loki)", "webhook 10.0.0.3:9443 (ValidatingWebhookConfiguration sound, sound.example.com)"}
	answers, r, err := s.reached(t)
	slices.Sort(answers)
	if diff := cmp.Diff(want, answers); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if r.OnList || r.From.String() != "10.0.0.1" || err == nil || !strings.Contains(err.Error(), "13 interfaces answer 10.0.0.1, which is not on the allow-list") {
		t.Errorf("from %s, on the list: %t: %v", r.From, r.OnList, err)
	}
	if !slices.ContainsFunc(r.Interfaces, func(i reach.Interface) bool { return i.Verdict == reach.Shut && i.Address.String() == "10.0.0.1:8080" }) {
		t.Errorf("a port where nobody listens is not shut: %+v", r.Interfaces)
	}
	answers, _, _ = s.reached(t, "--pods")
	slices.Sort(answers)
	if diff := cmp.Diff(slices.Sorted(slices.Values(slices.Concat(want, pods))), answers); diff != "" {
		t.Errorf("answers with pods (-want +got):\n%s", diff)
	}
	if answers, r, err := s.reached(t, "--from", "192.0.2.7"); err != nil || len(answers) > 0 || !r.OnList {
		t.Errorf("from an allowed address: %v, %v", answers, err)
	}
	if answers, _, err := s.reached(t, "--target", "10.0.0.1:2381", "--target", "10.0.0.1:10250"); err == nil || len(answers) != 1 {
		t.Errorf("of two targets one answers: %v, %v", answers, err)
	}
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) { spec.ManagementAccess = nil })
	if answers, r, err := s.reached(t, "--from", "192.0.2.7"); err == nil || len(answers) != len(want) || r.OnList {
		t.Errorf("without an allow-list: %v, %v", answers, err)
	}
}
