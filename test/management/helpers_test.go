// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"errors"
	"log"
	"net"
	"net/url"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

const kubeletAlwaysAllow = kubeletv1beta1.KubeletAuthorizationModeAlwaysAllow

// weaknesses are what is wrong in TestWeaknesses, each once.
var weaknesses = []string{}

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

// may says whether the operator's account has a right, as the API server's authorizer sees it now.
func (s *site) may(t *testing.T, resource, subresource string) error {
	t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User:               "system:serviceaccount:" + namespace + ":" + account,
		ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Version: "v1", Resource: resource, Subresource: subresource},
	}}
	if err := s.Create(t.Context(), review); err != nil {
		return err
	}
	if !review.Status.Allowed {
		return errors.New("it is not")
	}
	return nil
}

func awaitListener(t *testing.T, address string) {
	t.Helper()
	eventually(t, address+" listens", func() error {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err
	})
}

// eventually waits until check succeeds.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %s until %s: %v", patience, what, err)
		}
	}
}
