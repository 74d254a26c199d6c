// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"errors"
	"fmt"
	"log"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const kubeletAlwaysAllow = kubeletv1beta1.KubeletAuthorizationModeAlwaysAllow

// weaknesses are what is wrong in TestWeaknesses, each once.
var weaknesses = []string{
	"AnonymousAccess API server: it shows nodes to everybody, without credentials",
	"AnonymousAccess etcd 10.9.0.1:2379 (Node cp): it requires no certificate of its clients",
	"AnonymousAccess kubelet of Node legacy: authentication.anonymous is enabled",
	"AnonymousAccess kubelet of Node legacy: authorization.mode is not Webhook",
	"AnonymousAccess kubelet of Node legacy: it shows its configuration to everybody, without credentials",
	"CertificateUnfit API server 10.9.0.1:PORT (Service default/kubernetes): its certificate has expired",
	"CertificateUnfit kubelet of Node legacy: rotateCertificates is off, so its client certificate is not renewed",
	"ConsoleExposed Service monitoring/prometheus: it leads to Prometheus by NodePort and lets in everybody who can reach it",
	"PeerUnverified API server (/flagz): --kubelet-certificate-authority is not set, so it sends logs and commands to whoever answers for a kubelet",
	"PeerUnverified APIService v1.example.com: insecureSkipTLSVerify is set, so the API server talks to whoever answers",
	"PeerUnverified webhook 10.9.0.3:9443 (ValidatingWebhookConfiguration stranger, stranger.example.com): its certificate is none that its clients trust: it is not for hook.hooks.svc",
	"Plaintext Prometheus 10.9.0.3:9090 (Service monitoring/prometheus): it answers in the clear",
	"Plaintext etcd 10.9.0.1:2380 (Node cp): it answers in the clear",
	"Plaintext etcd metrics 10.9.0.1:2381 (Node cp): it answers in the clear",
	"Plaintext insecure API port 10.9.0.1:8080 (Node cp): it answers in the clear",
	"Plaintext kubelet of Node legacy: readOnlyPort is set",
	"Plaintext orders-log 10.9.0.3:8000 (Service shop/orders-log): it answers in the clear",
	"Plaintext read-only kubelet port 10.9.0.2:10255 (Node legacy): it answers in the clear",
	"TLSTooOld API server 10.9.0.1:PORT (Service default/kubernetes): it accepts versions below TLS 1.2",
	"TLSTooOld kubelet 10.9.0.1:10250 (Node cp): it accepts versions below TLS 1.2",
}

func discard() *log.Logger { return log.New(writer{}, "", 0) }

// port returns the API server's, which differs from run to run.
func (s *site) port(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(s.cluster.ServerURL())
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// may waits until the operator's account has a right, or has not, as the API server's authorizer sees it.
func (s *site) may(t *testing.T, want bool, right authorizationv1.ResourceAttributes) {
	t.Helper()
	eventually.That(t, fmt.Sprintf("%s %s is allowed: %t", right.Verb, right.Resource, want), func() error {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + namespace + ":" + account, ResourceAttributes: &right,
		}}
		if err := s.Create(t.Context(), review); err != nil {
			return err
		}
		if review.Status.Allowed != want {
			return errors.New("it is not so")
		}
		return nil
	})
}

// withoutIngresses takes the right to list Ingresses away while f runs.
func (s *site) withoutIngresses(t *testing.T, f func()) {
	t.Helper()
	right := authorizationv1.ResourceAttributes{Verb: "list", Group: "networking.k8s.io", Version: "v1", Resource: "ingresses"}
	role := &rbacv1.ClusterRole{}
	if err := s.Get(t.Context(), client.ObjectKey{Name: "pci-network-baseline-manager"}, role); err != nil {
		t.Fatal(err)
	}
	whole := role.DeepCopy()
	role.Rules = slices.DeleteFunc(role.Rules, func(r rbacv1.PolicyRule) bool { return slices.Contains(r.Resources, "ingresses") })
	if err := s.Update(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	s.may(t, false, right)
	f()
	role.Rules = whole.Rules
	if err := s.Update(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	s.may(t, true, right)
}

// failed returns how many findings the metrics say have failed.
func (s *site) failed(t *testing.T) int {
	t.Helper()
	return s.findings(t, "", "fail")
}

// findings returns how many the metrics count, of one check or of all.
func (s *site) findings(t *testing.T, check, result string) int {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "pcinb_management_findings" && labels["result"] == result && (check == "" || labels["check"] == check) {
				sum += int(m.GetGauge().GetValue())
			}
		}
	}
	return sum
}

// told waits for an event about the baseline, with a part of its note.
func (s *site) told(t *testing.T, reason, note string) {
	t.Helper()
	eventually.That(t, "an event says "+reason, func() error {
		var list eventsv1.EventList
		if err := s.List(t.Context(), &list); err != nil {
			return err
		}
		for i := range list.Items {
			if e := &list.Items[i]; e.Reason == reason && e.Regarding.Name == s.baseline {
				if !strings.Contains(e.Note, note) {
					return errors.New(e.Note)
				}
				return nil
			}
		}
		return errors.New("none does")
	})
}

func awaitListener(t *testing.T, address string) {
	t.Helper()
	eventually.That(t, address+" listens", func() error {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}
