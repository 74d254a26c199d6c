// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package report makes reports of findings, for the people and tools that read OpenReports or PolicyReports. A report is its own
// memory: since when something is so comes from the one that it replaces.
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

const (
	// source names the operator in reports.
	source = render.ManagedBy
	// maxBytes bounds the results of one report, as JSON: etcd takes 1.5 MiB, and metadata comes on top.
	maxBytes = 900 << 10
	// MaxResults bounds them, too: more than these do not fit, so nobody needs to keep more.
	MaxResults = 2500
)

// API is an API of reports. Both have one form; what the older one does not know, it would drop, and the report would differ from what
// was meant for ever.
type API struct {
	schema.GroupVersionKind

	// Plural is the resource's name.
	Plural string
	// signed: results say who made them; otherwise the report does.
	signed bool
}

// Definition is the name of the CustomResourceDefinition.
func (a API) Definition() string { return a.Plural + "." + a.Group }

// APIs are those in which reports are written, wherever they are served.
// https://github.com/openreports/reports-api, v0.2.1, and https://github.com/kubernetes-sigs/wg-policy-prototypes.
var APIs = []API{
	{GroupVersionKind: schema.GroupVersionKind{Group: "openreports.io", Version: "v1alpha1", Kind: "ClusterReport"}, Plural: "clusterreports"},
	{GroupVersionKind: schema.GroupVersionKind{Group: "wgpolicyk8s.io", Version: "v1alpha2", Kind: "ClusterPolicyReport"}, Plural: "clusterpolicyreports", signed: true},
}

// Name returns the name of a baseline's report.
func Name(baseline string) string { return "pcinb-" + baseline }

// Ours says whether a live report is the one of a baseline: by its labels, or by its owner, should somebody have removed those.
func Ours(live metav1.Object, b *pcinetv1alpha1.PCINetworkBaseline) bool {
	return render.Owner(live.GetLabels()) == b.Name ||
		slices.ContainsFunc(live.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.UID == b.UID })
}

// Counts counts findings by result.
type Counts map[checks.Result]int

// Report is everything that there is to say about one baseline.
type Report struct {
	Baseline *pcinetv1alpha1.PCINetworkBaseline
	// Findings come in the order of reporting. What does not fit is left out from the end.
	Findings []management.Finding
	// Unlisted are counted and not in Findings.
	Unlisted Counts
}

// New joins what is known of a baseline: its conditions first, then the worst of everything, that of management before namespaces.
// more are findings that are left out already.
func New(b *pcinetv1alpha1.PCINetworkBaseline, found, namespaces []management.Finding, more Counts) *Report {
	list := slices.Concat(found, namespaces)
	slices.SortStableFunc(list, func(x, y management.Finding) int { return cmp.Compare(rank(x.Result), rank(y.Result)) })
	return &Report{Baseline: b, Findings: append(conditions(b), list...), Unlisted: more}
}

// order has the worst first.
var order = []checks.Result{checks.Fail, checks.Error, checks.Warn, checks.Skip, checks.Pass}

func rank(r checks.Result) int { return slices.Index(order, r) }

// content is what a report holds beside its metadata.
type content struct {
	Source  string                 `json:"source,omitempty"`
	Scope   corev1.ObjectReference `json:"scope"`
	Summary map[string]int64       `json:"summary"`
	Results []result               `json:"results,omitempty"`
}

// result is one result. Severities are those that both APIs know.
type result struct {
	Source     string                   `json:"source,omitempty"`
	Policy     string                   `json:"policy"`
	Rule       string                   `json:"rule"`
	Category   string                   `json:"category,omitempty"`
	Severity   string                   `json:"severity,omitempty"`
	Result     checks.Result            `json:"result"`
	Scored     bool                     `json:"scored,omitempty"`
	Message    string                   `json:"message"`
	Resources  []corev1.ObjectReference `json:"resources,omitempty"`
	Timestamp  *metav1.Timestamp        `json:"timestamp,omitempty"`
	Properties map[string]string        `json:"properties,omitempty"`
}

// Object returns the report as it should be in an API. previous is the live one, nil when there is none: a finding that stands in it has
// been so since then, every other one since now. Unchanged findings make an unchanged object, whatever the time. Cost: the size of both.
func (r *Report) Object(api API, previous *unstructured.Unstructured, now time.Time) (*unstructured.Unstructured, error) {
	since := sinceOf(previous)
	out := content{Scope: scopeOf(r.Baseline), Summary: map[string]int64{}}
	if !api.signed {
		out.Source = source
	}
	for _, kind := range order {
		out.Summary[string(kind)] = int64(r.Unlisted[kind])
	}
	left, size := Counts{}, 0
	for kind, n := range r.Unlisted {
		left[kind] += n
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		out.Summary[string(f.Result)]++
		next := resultOf(f)
		if api.signed {
			next.Source = source
		}
		at, known := since[next.key()]
		if !known {
			at = now.Unix()
		}
		next.Timestamp = &metav1.Timestamp{Seconds: at}
		next.Properties[propertySince] = time.Unix(at, 0).UTC().Format(time.RFC3339)
		text, err := json.Marshal(next)
		if err != nil {
			return nil, fmt.Errorf("a result of %s: %w", next.Rule, err)
		}
		if size += len(text) + 1; size > maxBytes || len(out.Results) == MaxResults {
			left[f.Result]++
			continue
		}
		out.Results = append(out.Results, next)
	}
	if note := leftOut(left); note != nil {
		out.Results = append(out.Results, *note)
	}
	body, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&out)
	if err != nil {
		return nil, fmt.Errorf("the report of %s: %w", r.Baseline.Name, err)
	}
	u := &unstructured.Unstructured{Object: body}
	u.SetGroupVersionKind(api.GroupVersionKind)
	u.SetName(Name(r.Baseline.Name))
	u.SetLabels(render.Labels(r.Baseline.Name))
	u.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: out.Scope.APIVersion, Kind: out.Scope.Kind, Name: r.Baseline.Name, UID: r.Baseline.UID,
	}})
	return u, nil
}

func scopeOf(b *pcinetv1alpha1.PCINetworkBaseline) corev1.ObjectReference {
	return corev1.ObjectReference{APIVersion: pcinetv1alpha1.GroupVersion.String(), Kind: "PCINetworkBaseline", Name: b.Name, UID: b.UID}
}

// leftOut says what is not in the report, and where it is; nil when everything is.
func leftOut(left Counts) *result {
	var parts []string
	sum := 0
	for _, kind := range order {
		if n := left[kind]; n > 0 {
			sum += n
			parts = append(parts, fmt.Sprintf("%d %s", n, kind))
		}
	}
	if sum == 0 {
		return nil
	}
	out := &result{Policy: source, Rule: "EverythingListed", Result: checks.Skip}
	if left[checks.Fail]+left[checks.Error] > 0 {
		out.Result, out.Severity = checks.Error, severities[checks.Error]
	}
	out.Message = fmt.Sprintf("%d results are counted in the summary and not listed, because a report is limited in size: %s. "+
		"Every namespace has a coverage: kubectl get namespacecoverages -A. Those of management are counted by the metric pcinb_management_findings, "+
		"and the operator logs each that fails: --log-level=debug.", sum, strings.Join(parts, ", "))
	return out
}

// key is what makes two results the same one. The words of a condition hold counts that change all day.
func (r *result) key() string {
	subject := r.Properties[propertySubject]
	key := []string{r.Rule, string(r.Result), r.Properties[propertyReason], subject}
	if subject != "" {
		key = append(key, r.Message)
	}
	return strings.Join(key, "\x00")
}

// sinceOf returns when each result of a report was first so, in seconds since 1970. What cannot be read is not remembered.
func sinceOf(previous *unstructured.Unstructured) map[string]int64 {
	out := map[string]int64{}
	for _, r := range resultsOf(previous) {
		if r.Timestamp == nil {
			continue
		}
		if at, known := out[r.key()]; !known || r.Timestamp.Seconds < at {
			out[r.key()] = r.Timestamp.Seconds
		}
	}
	return out
}

func resultsOf(live *unstructured.Unstructured) []result {
	var c content
	if live == nil || runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &c) != nil {
		return nil
	}
	return c.Results
}
