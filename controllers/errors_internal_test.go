// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestRefusal(t *testing.T) {
	t.Parallel()
	policies := schema.GroupResource{Group: "projectcalico.org", Resource: "networkpolicies"}
	forbidden := func(text string) *apierrors.StatusError {
		return apierrors.NewForbidden(policies, "x", errors.New(text))
	}
	// An admission policy answers with a reason of its own below the words of Forbidden.
	invalid := func(text string) error {
		err := forbidden(text)
		err.ErrStatus.Reason, err.ErrStatus.Code = metav1.StatusReasonInvalid, 422
		return err
	}
	terminating := forbidden("because it is being terminated")
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	const settles = "failed to configure policy: failed to find resource referenced by paramKind: 'projectcalico.org/v3, Kind=Tier'"
	cases := map[string]struct {
		err  error
		want string
	}{
		"no error":             {},
		"a quota":              {err: forbidden("exceeded quota: q, requested: 1"), want: "QuotaExceeded"},
		"a missing right":      {err: forbidden(`User "u" cannot create resource`), want: "Forbidden"},
		"an admission webhook": {err: forbidden("admission webhook denied the request"), want: "AdmissionRefused"},
		"an admission policy":  {err: invalid("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"), want: "AdmissionRefused"},
		"an admission policy that cannot be configured for good": {err: forbidden(`policy "p" denied request: failed to configure policy: no such field`), want: "AdmissionRefused"},
		"an object that is not valid":                            {err: apierrors.NewInvalid(schema.GroupKind{Kind: "NetworkPolicy"}, "x", nil), want: "AdmissionRefused"},
		"a request that is not understood":                       {err: apierrors.NewBadRequest("b"), want: "AdmissionRefused"},
		"a mutating policy whose parameters are not known yet":   {err: forbidden(`policy "p" denied request: ` + settles)},
		"a validating policy whose parameters are not known yet": {err: invalid("ValidatingAdmissionPolicy 'p' denied request: " + settles)},
		"admission that is not ready yet":                        {err: forbidden("not yet ready to handle request")},
		"a policy that quotes the same":                          {err: forbidden("denied: say \"not yet ready to handle request\" never"), want: "AdmissionRefused"},
		"a namespace that goes":                                  {err: terminating},
		"an outage":                                              {err: apierrors.NewServiceUnavailable("the server is currently unable to handle the request")},
		"a timeout":                                              {err: context.DeadlineExceeded},
		"a conflict":                                             {err: apierrors.NewConflict(policies, "x", errors.New("changed"))},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := tc.err
			if err != nil {
				err = fmt.Errorf("creating NetworkPolicy n/x: %w", err)
			}
			if got := refusal(err); got != tc.want {
				t.Errorf("reason %q of %v, want %q", got, err, tc.want)
			}
		})
	}
}
