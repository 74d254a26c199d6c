// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// refusal returns the reason when the API server understood a write and will not have it: trying again soon is of no use,
// and somebody has to change something. It returns "" for everything else: a stale view, an outage, a timeout, a server that
// has just started.
func refusal(err error) string {
	switch {
	case err == nil || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || settling(err):
		return ""
	case apierrors.IsForbidden(err):
		// The quota plugin, RBAC and admission all answer 403; only their words differ
		// (k8s.io/apiserver pkg/admission/plugin/resourcequota/controller.go, .../authorization, .../admission/errors.go).
		switch text := err.Error(); {
		case strings.Contains(text, "exceeded quota"):
			return pcinetv1alpha1.ReasonQuotaExceeded
		case strings.Contains(text, "is forbidden: User \""):
			return pcinetv1alpha1.ReasonForbidden
		}
		return pcinetv1alpha1.ReasonAdmissionRefused
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err):
		return pcinetv1alpha1.ReasonAdmissionRefused
	}
	return ""
}

// settling says whether an API server refused because it is still learning of its admission policies, which takes seconds after
// its start or after a new kind. It answers Forbidden or Invalid then, and its words alone tell: "failed to configure policy:
// failed to find resource referenced by paramKind" (k8s.io/apiserver pkg/admission/plugin/policy/generic/policy_source.go) and
// "not yet ready to handle request" (.../generic/plugin.go and .../webhook/generic/webhook.go). A parameter whose kind never
// comes stays WriteFailed, with the policy's name in the message.
func settling(err error) bool {
	if !apierrors.IsForbidden(err) && !apierrors.IsInvalid(err) {
		return false
	}
	text := err.Error()
	return strings.Contains(text, "failed to find resource referenced by paramKind") || strings.HasSuffix(text, "not yet ready to handle request")
}

// errStale stands for a write that failed because what we had read was no longer true.
var errStale = errors.New("the view was stale")

// stale says whether a write failed because what we had read was no longer true. The cache will tell; it is no failure.
func stale(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// withoutStale returns an error without what another look will mend: a stale view of one object hides no refusal of another.
func withoutStale(err error) error {
	var many interface{ Unwrap() []error }
	if !errors.As(err, &many) {
		if stale(err) {
			return nil
		}
		return err
	}
	var errs []error
	for _, e := range many.Unwrap() {
		errs = append(errs, withoutStale(e))
	}
	return errors.Join(errs...)
}

// gone says whether a write failed because its object, or the namespace, is gone by now. A kind that is gone is another thing:
// then there is nowhere to write to.
func gone(err error) bool {
	status := apierrors.APIStatus(nil)
	if !apierrors.IsNotFound(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && details.Name != ""
}

// maxCause is how much of a cause is quoted, so that the remedy after it is never cut off.
const maxCause = 150

// cause returns what the API server said, without our own words around it, and without the object's name before it: the
// reason comes last, and must not be cut off.
func cause(err error) string {
	text := err.Error()
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		text = status.Status().Message
	}
	if _, why, found := strings.Cut(text, " is forbidden: "); found {
		return why
	}
	return text
}

// remedy says what to do about a refusal.
func remedy(reason, namespace string) string {
	switch reason {
	case pcinetv1alpha1.ReasonQuotaExceeded:
		return "Raise count/networkpolicies.networking.k8s.io there: kubectl describe resourcequota -n " + namespace + "."
	case pcinetv1alpha1.ReasonForbidden:
		return "Restore the operator's ClusterRole: kubectl apply --server-side -k config/rbac."
	case pcinetv1alpha1.ReasonAdmissionRefused:
		return "Find the admission policy or webhook that it names and let the operator's ServiceAccount pass."
	}
	return "The operator tries again; see its log."
}
