// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package burst_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const denyOfSite = "pcinb-site-default-deny"

// wayOut is the command of docs/security.md that ends all refusals when there is no operator.
var wayOut = []string{"delete", "validatingadmissionpolicybindings", "-l", "app.kubernetes.io/managed-by=pci-network-baseline"}

// TestColdStart stops operator and control plane and starts the control plane alone: what the cluster and the operator need gets
// in, as does what is protected, and the rest waits until the operator is back.
func TestColdStart(t *testing.T) {
	s := protectedSite(t, "calico-system")
	s.stop(t)
	s.restart(t)
	for _, namespace := range []string{metav1.NamespaceSystem, "calico-system", operatorNamespace, "protected"} {
		s.awaitAnswer(t, namespace, "")
	}
	if err := s.deploy(t.Context(), "fresh", "site"); err != nil {
		t.Fatal(err)
	}
	s.awaitAnswer(t, "fresh", "no params found for policy binding")
	if pods := s.podsOf(t, "fresh"); pods > 0 {
		t.Errorf("%d pods came in before their namespace's deny", pods)
	}
	s.operate(t)
	eventually.That(t, "the pods that waited are there", func() error {
		if pods := s.podsOf(t, "fresh"); pods < replicas {
			return fmt.Errorf("%d are", pods)
		}
		return s.Get(t.Context(), client.ObjectKey{Namespace: "fresh", Name: denyOfSite}, &networkingv1.NetworkPolicy{})
	})
}

// TestWaysOut takes away what was installed, in the ways of several tools. Every deny stays, what the cluster needs gets in, and
// the documented command lets pods in again: also after a restart of the control plane.
func TestWaysOut(t *testing.T) {
	config := filepath.Join(repoRoot, "config")
	cases := map[string]struct {
		remove [][]string
		gone   bool // the operator, before that
		// fresh and protected are how pods of a new and of a protected namespace are refused then; "" when they get in.
		fresh, protected string
	}{
		"the baseline is deleted": {
			remove: [][]string{{"delete", "pcinb", "site"}},
		},
		"Helm removes all but the CRDs, the operator first": {
			remove: [][]string{
				{"delete", "-k", filepath.Join(config, "rbac")},
				{"delete", "-f", filepath.Join(config, "manager", "namespace.yaml"), "--wait=false"},
			},
			gone: true, fresh: "no params found for policy binding",
		},
		"Argo CD cascades in the foreground over everything, the operator first": {
			remove: [][]string{
				{"delete", "pcinb", "site", "--cascade=foreground", "--wait=false"},
				{"delete", "-k", filepath.Join(config, "rbac"), "--cascade=foreground"},
				{"delete", "-f", filepath.Join(config, "manager", "namespace.yaml"), "--cascade=foreground", "--wait=false"},
				{"delete", "-k", filepath.Join(config, "crd"), "--cascade=foreground", "--wait=false"},
			},
			gone: true, fresh: "pcinb-pod-gate", protected: "pcinb-pod-gate",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := protectedSite(t)
			if c.gone {
				s.stop(t)
			}
			for _, args := range c.remove {
				s.kubectl(t, args...)
			}
			s.createNamespace(t, "fresh")
			if c.fresh != "" {
				for range 2 { // an API server that starts does not know a kind that is gone
					s.awaitAnswer(t, "fresh", c.fresh)
					s.awaitAnswer(t, "protected", c.protected)
					s.awaitAnswer(t, metav1.NamespaceSystem, "")
					s.restart(t)
				}
				s.kubectl(t, wayOut...)
			}
			s.awaitAnswer(t, "fresh", "")
			s.stop(t)
			s.restart(t)
			s.awaitAnswer(t, metav1.NamespaceSystem, "")
			s.awaitAnswer(t, "fresh", "")
			if err := s.Get(t.Context(), client.ObjectKey{Namespace: "protected", Name: denyOfSite}, &networkingv1.NetworkPolicy{}); err != nil {
				t.Errorf("the deny: %v", err)
			}
		})
	}
}

// protectedSite returns a site with the operator, a baseline for every namespace, the namespace "protected", and others.
func protectedSite(t *testing.T, others ...string) *site {
	t.Helper()
	s := newSite(t)
	s.operator = s.operate(t)
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "site"}}
	if err := s.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(others, "protected") {
		s.createNamespace(t, name)
	}
	s.awaitBinding(t, "pcinb-site-pod-gate")
	eventually.That(t, "the namespace is protected", func() error {
		c := &pcinetv1alpha1.NamespaceCoverage{}
		if err := s.Get(t.Context(), client.ObjectKey{Namespace: "protected", Name: "site"}, c); err != nil {
			return err
		}
		for _, p := range c.Status.Policies {
			if p.Name == denyOfSite && p.State == pcinetv1alpha1.PolicyInPlace {
				return nil
			}
		}
		return errors.New("its deny is not in place")
	})
	return s
}

func (s *site) createNamespace(t *testing.T, name string) {
	t.Helper()
	if err := s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		t.Fatal(err)
	}
}

// stop kills the operator.
func (s *site) stop(t *testing.T) {
	t.Helper()
	if err := s.operator.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// restart stops the control plane and starts it again.
func (s *site) restart(t *testing.T) {
	t.Helper()
	if err := s.cluster.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// awaitAnswer waits until the API server admits a pod, or refuses it with these words.
func (s *site) awaitAnswer(t *testing.T, namespace, refusal string) {
	t.Helper()
	eventually.That(t, fmt.Sprintf("a pod in %s is answered with %q", namespace, refusal), func() error {
		err := s.Create(t.Context(), pod(namespace), client.DryRunAll)
		if refusal != "" && err != nil && strings.Contains(err.Error(), refusal) {
			return nil
		}
		if refusal != "" && err == nil {
			return errors.New("it is admitted")
		}
		return err
	})
}

func (s *site) podsOf(t *testing.T, namespace string) int {
	t.Helper()
	var pods corev1.PodList
	if err := s.List(t.Context(), &pods, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	return len(pods.Items)
}

// pod returns one that the operator's own namespace, which is restricted, admits.
func pod(namespace string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "probe"},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{Name: "web", Image: "web", SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}}},
		},
	}
}
