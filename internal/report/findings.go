// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
)

// The properties of a result. Never rename subject and reason: what an older version wrote would look new.
const (
	propertySubject  = "subject"
	propertyReason   = "reason"
	propertyRemedy   = "remedy"
	propertySupports = "supports"
	propertySince    = "since"
)

// clause is what a result says of the clause that it is about.
type clause struct{ policy, category, requirements string }

// clauses are sections of the PCI SSC guidance, and requirements of PCI DSS that conditions are about.
var clauses = map[string]clause{
	"4.1":                 {"pci-ssc-container-guidance-4.1", "Segmentation of the cluster's network", "1.3.1, 1.3.2"},
	management.Access:     {"pci-ssc-container-guidance-4.2", "Access to management interfaces", ""},
	management.Encryption: {"pci-ssc-container-guidance-4.3", "Encryption of management traffic", ""},
	"1.2.5":               {"pci-dss-1.2.5", "Approval of what is open", "1.2.5"},
	"1.2.7":               {"pci-dss-1.2.7", "Review of what is open", "1.2.7"},
}

// judged are the conditions that are results, with the clause of each, and what it means that one without a message is True. Those of
// management are summed up from results that are in the report anyway; what they say is needed only where there are none.
var judged = []struct{ kind, clause, good string }{
	{pcinetv1alpha1.ConditionPolicyEngineSupported, "4.1", "The cluster's policy engine enforces what the operator writes."},
	{pcinetv1alpha1.ConditionDefaultDenyInPlace, "4.1", "Every namespace in scope has its deny and allowances."},
	{pcinetv1alpha1.ConditionDefaultDenyEffective, "4.1", "No other NetworkPolicy undoes the deny."},
	{pcinetv1alpha1.ConditionEnforcementProven, "4.1", "Packets have shown that nodes drop what is denied."},
	{pcinetv1alpha1.ConditionManagementAccessRestricted, management.Access, ""},
	{pcinetv1alpha1.ConditionManagementTrafficEncrypted, management.Encryption, ""},
	{pcinetv1alpha1.ConditionExemptionsCurrent, "1.2.5", "No exemption has expired."},
	{pcinetv1alpha1.ConditionReviewCurrent, "1.2.7", "The baseline was reviewed in the last 180 days."},
}

// conditions returns what a baseline's status says, as findings without a subject: they are about all of it.
func conditions(b *pcinetv1alpha1.PCINetworkBaseline) []management.Finding {
	var out []management.Finding
	for _, j := range judged {
		for _, c := range b.Status.Conditions {
			summed := (j.clause == management.Access && b.Spec.ManagementAccess != nil) || (j.clause == management.Encryption && b.Spec.ManagementEncryption != nil)
			if c.Type != j.kind || summed {
				continue
			}
			f := management.Finding{Check: c.Type, Clause: j.clause, Reason: c.Reason, Evidence: cmp.Or(c.Message, c.Reason+".")}
			switch {
			case c.Status == metav1.ConditionTrue:
				f.Result, f.Evidence = checks.Pass, cmp.Or(c.Message, j.good)
			case c.Status == metav1.ConditionFalse:
				f.Result = checks.Fail
			case c.Reason == pcinetv1alpha1.ReasonNotAssessed:
				f.Result = checks.Skip
			default:
				f.Result = checks.Error
			}
			out = append(out, f)
		}
	}
	return out
}

// Namespace returns the finding about a namespace that is not as it should be. f is the worst that was found there; what is only
// contested or terminating is denied all the same.
func Namespace(name string, state pcinetv1alpha1.CoverageState, f checks.Finding) management.Finding {
	out := management.Finding{
		Check: cmp.Or(f.Check, "NamespaceProtected"), Clause: "4.1", Result: checks.Fail, Reason: f.Reason,
		Subject: "Namespace " + name, Evidence: f.Message,
	}
	if f.Result == "" && (state == pcinetv1alpha1.CoverageContested || state == pcinetv1alpha1.CoverageTerminating) {
		out.Result = checks.Warn
	}
	return out
}

// severities are what a result says of how bad it is.
var severities = map[checks.Result]string{checks.Fail: "high", checks.Error: "medium", checks.Warn: "low"}

// resultOf returns a result without its time.
func resultOf(f *management.Finding) result {
	c := clauses[f.Clause]
	out := result{
		Policy: c.policy, Rule: f.Check, Category: c.category, Severity: severities[f.Result], Result: f.Result,
		Scored: f.Result == checks.Pass || f.Result == checks.Fail, Message: messageOf(f), Properties: map[string]string{},
	}
	maps.Copy(out.Properties, f.Properties)
	for key, value := range map[string]string{
		propertySubject: f.Subject, propertyReason: f.Reason, propertyRemedy: f.Remedy,
		propertySupports: prefixed("PCI DSS v4.0.1 ", cmp.Or(management.Requirements(f.Check), c.requirements)),
	} {
		if value != "" && (key != propertyReason || f.Result != checks.Pass) {
			out.Properties[key] = value
		}
	}
	if o := objectOf(f.Subject); o != nil {
		out.Resources = []corev1.ObjectReference{*o}
	}
	return out
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}

// messageOf names the subject and the evidence. Evidence that is a sentence names it itself.
func messageOf(f *management.Finding) string {
	if strings.HasSuffix(f.Evidence, ".") || f.Subject == "" {
		return f.Evidence
	}
	return f.Subject + ": " + f.Evidence + "."
}

// versions of the kinds that subjects name.
var versions = map[string]string{
	"Node": "v1", "Namespace": "v1", "Service": "v1", "Ingress": "networking.k8s.io/v1", "APIService": "apiregistration.k8s.io/v1",
	"ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
	"ServiceMonitor": "monitoring.coreos.com/v1", "CustomResourceDefinition": "apiextensions.k8s.io/v1",
}

// named finds the object in a subject: Ingress shop/web, kubelet of Node n1, or Grafana 10.0.0.3:3000 (Service monitoring/grafana).
var named = regexp.MustCompile("(?:^|[( ])(" + strings.Join(slices.Sorted(maps.Keys(versions)), "|") + ") (?:([a-z0-9-]+)/)?([a-z0-9][a-z0-9.-]*)")

// objectOf returns the object that a subject names, nil if it names none.
func objectOf(subject string) *corev1.ObjectReference {
	m := named.FindStringSubmatch(subject)
	if m == nil {
		return nil
	}
	return &corev1.ObjectReference{APIVersion: versions[m[1]], Kind: m[1], Namespace: m[2], Name: m[3]}
}
