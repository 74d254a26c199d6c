// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	facts "github.com/pcinetwork/pci-network-baseline/internal/facts/management"
	"github.com/pcinetwork/pci-network-baseline/internal/probe/reach"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// views looks with the rights of config/management/vantage, and has a pod on a node leave what came of it.
func (s *site) views(t *testing.T) {
	t.Helper()
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "management", "vantage"))
	token := &authenticationv1.TokenRequest{}
	object := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: facts.VantageNamespace, Name: "vantage"}}
	if err := s.SubResource("token").Create(t.Context(), object, token); err != nil {
		t.Fatal(err)
	}
	kubeconfig, left := filepath.Join(t.TempDir(), "vantage"), filepath.Join(t.TempDir(), "termination-log")
	if err := s.cluster.KubeconfigForToken(kubeconfig, token.Status.Token); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := reach.Main(t.Context(), []string{"--kubeconfig", s.outside(t, kubeconfig), "--leave", left}, &out, io.Discard); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	message, err := os.ReadFile(left)
	if err != nil {
		t.Fatal(err)
	}
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: facts.VantageNamespace, Name: "vantage-1"}, Spec: corev1.PodSpec{
		NodeName: "n2", HostNetwork: true, ServiceAccountName: "vantage", Containers: []corev1.Container{{Name: "vantage", Image: "nobodys"}},
	}}
	if err := s.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	p.Status.HostIP = "10.0.0.4"
	p.Status.HostIPs = []corev1.HostIP{{IP: "10.0.0.4"}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "vantage", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{Message: string(message), FinishedAt: metav1.NewTime(s.clock.Now())},
	}}}
	if err := s.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	told := func(what string, want int) {
		t.Helper()
		s.hour(t)
		eventually.That(t, what, func() error {
			if got := s.findings(t, "ClosedToNodes", "warn"); got != want {
				return fmt.Errorf("%d warnings, want %d, by %s", got, want, message)
			}
			return nil
		})
	}
	told("a node reaches the kubelet of another", 1) // not that at this host's own address
	if err := s.Delete(t.Context(), p, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	told("nobody looks from a node", 0)
}
