// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package reports_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	openreportsv1alpha1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/report"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// exposed is what a report says of a console that everybody can reach.
const exposed = "Service default/grafana: it leads to Grafana by NodePort and lets in everybody who can reach it."

// declare creates a baseline that compares consoles with an allow-list.
func (s *site) declare(t *testing.T) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: baseline}}
	b.Spec.ManagementAccess = &pcinetv1alpha1.ManagementAccess{}
	if err := s.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *site) console(t *testing.T) *corev1.Service {
	t.Helper()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "grafana"}}
	service.Spec.Type, service.Spec.Ports = corev1.ServiceTypeNodePort, []corev1.ServicePort{{Port: 443}}
	if err := s.Create(t.Context(), service); err != nil {
		t.Fatal(err)
	}
	return service
}

// requests returns how many of a verb the operator has sent for an API of reports, allowed or not.
func (s *site) requests(t *testing.T, api report.API, verb string) int {
	t.Helper()
	text, err := os.ReadFile(s.audit)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for line := range bytes.Lines(text) {
		var e struct {
			Verb      string
			User      struct{ Username string }
			ObjectRef struct{ APIGroup, Resource string }
		}
		if json.Unmarshal(line, &e) == nil && e.Verb == verb && strings.HasSuffix(e.User.Username, account) && e.ObjectRef.APIGroup == api.Group {
			count++
		}
	}
	return count
}

// TestReportsComeAndGoWithTheirAPIs goes through what happens to the APIs of reports while the operator runs.
func TestReportsComeAndGoWithTheirAPIs(t *testing.T) { //nolint:paralleltest // its steps build on each other
	whole, s := t, newSite(t) // operators end with the whole of it
	service := s.console(t)
	b := s.declare(t)
	stop := s.operate(t)
	eventually.That(t, "the baseline is judged", func() error {
		if err := s.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil || b.Status.ObservedGeneration != 1 {
			return fmt.Errorf("not yet: %w", err)
		}
		return nil
	})
	if n := s.requests(t, openReports, "get") + s.requests(t, policyReports, "get"); n != 0 {
		t.Errorf("%d requests for reports where there are none", n)
	}

	s.define(t, openReports)
	eventually.That(t, "the operator asks, without the right to", func() error {
		if s.requests(t, openReports, "get") == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "reports"))
	live := s.await(t, openReports, exposed)
	typed := strict(t, live)
	if got := typed.Summary; got.Fail == 0 || got.Skip == 0 || typed.Source != "pci-network-baseline" || typed.Scope.UID != b.UID {
		t.Errorf("the report is %+v", typed)
	}

	s.define(t, policyReports)
	s.await(t, policyReports, exposed)
	if n := s.requests(t, policyReports, "create"); n != 1 {
		t.Errorf("the older report was sent %d times", n)
	}

	t.Run("nothing is written while nothing changes", func(t *testing.T) { //nolint:paralleltest // it continues the above
		s.unchanged(t, func() {
			for range 5 {
				s.stir(t)
				time.Sleep(2 * period)
			}
		})
	})
	t.Run("nothing is written after a restart", func(t *testing.T) { //nolint:paralleltest // it continues the above
		s.unchanged(t, func() {
			looks := s.requests(t, openReports, "get")
			stop()
			s.operate(whole)
			eventually.That(t, "the report is looked at", func() error {
				if s.requests(t, openReports, "get") == looks {
					return errors.New("it is not")
				}
				return nil
			})
			time.Sleep(5 * period)
		})
	})
	t.Run("what somebody edits is put right, and what is not changed is as old as it was", func(t *testing.T) { //nolint:paralleltest // it continues the above
		since := sinceOf(t, live, "ReviewCurrent")
		s.kubectl(t, "patch", "clusterreport", "pcinb-pci", "--type=merge", "-p", `{"summary":{"fail":0},"source":"nobody"}`)
		s.stir(t)
		s.await(t, openReports, `"source":"pci-network-baseline"`)
		if err := s.Delete(t.Context(), service); err != nil {
			t.Fatal(err)
		}
		s.change(t, b)
		eventually.That(t, "what was fixed is not in the report", func() error {
			o, err := s.read(t, openReports)
			if text, _ := o.MarshalJSON(); err == nil && bytes.Contains(text, []byte(exposed)) {
				err = errors.New("it is")
			}
			live = o
			return err
		})
		if now := sinceOf(t, live, "ReviewCurrent"); now != since {
			t.Errorf("since %q became %q", since, now)
		}
	})
	t.Run("a definition that goes is missed by nobody, and the report comes with it again", func(t *testing.T) { //nolint:paralleltest // it continues the above
		crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: openReports.Definition()}}
		if err := s.Delete(t.Context(), crd); err != nil {
			t.Fatal(err)
		}
		eventually.That(t, "it is gone", func() error {
			if err := s.Get(t.Context(), client.ObjectKeyFromObject(crd), crd); !apierrors.IsNotFound(err) {
				return fmt.Errorf("it is there: %w", err)
			}
			return nil
		})
		s.define(t, openReports)
		s.stir(t) // a definition that is away for a moment alone may go unnoticed, until the report is looked at anyway
		s.await(t, openReports, `"rule":"ReviewCurrent"`)
	})
	t.Run("a report goes with its baseline", func(t *testing.T) { //nolint:paralleltest // it continues the above
		if err := s.Delete(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		for _, api := range report.APIs {
			eventually.That(t, api.Kind+" is gone", func() error {
				if _, err := s.read(t, api); !apierrors.IsNotFound(err) {
					return fmt.Errorf("it is there: %w", err)
				}
				return nil
			})
		}
	})
}

// unchanged sees that no report is written while f runs.
func (s *site) unchanged(t *testing.T, f func()) {
	t.Helper()
	before := map[report.API]string{}
	for _, api := range report.APIs {
		o, err := s.read(t, api)
		if err != nil {
			t.Fatal(err)
		}
		before[api] = o.GetResourceVersion()
	}
	f()
	for _, api := range report.APIs {
		if o, err := s.read(t, api); err != nil || o.GetResourceVersion() != before[api] {
			t.Errorf("%s was written: %v", api.Kind, err)
		}
	}
}

// change has management looked at again.
func (s *site) change(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	if err := s.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
		t.Fatal(err)
	}
	b.Spec.ManagementAccess.AllowedCIDRs = append(b.Spec.ManagementAccess.AllowedCIDRs, pcinetv1alpha1.AllowedCIDR{
		CIDR: "192.0.2.0/24", Name: "office", Justification: "Administrators work there.",
	})
	if err := s.Update(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// strict reads a report with the types of its own module, which know every field of it.
func strict(t *testing.T, live *unstructured.Unstructured) *openreportsv1alpha1.ClusterReport {
	t.Helper()
	text, err := live.MarshalJSON()
	typed := &openreportsv1alpha1.ClusterReport{}
	if err == nil {
		err = yaml.UnmarshalStrict(text, typed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return typed
}

func sinceOf(t *testing.T, live *unstructured.Unstructured, rule string) string {
	t.Helper()
	for _, r := range strict(t, live).Results {
		if r.Rule == rule {
			return r.Properties["since"]
		}
	}
	t.Fatalf("no result of %s", rule)
	return ""
}

// TestForeignReportsAreLeftAlone has a report under the name of a baseline's, of somebody else.
func TestForeignReportsAreLeftAlone(t *testing.T) { //nolint:paralleltest // two control planes at a time are one too many
	s := newSite(t)
	s.define(t, openReports)
	s.kubectl(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "reports"))
	theirs := &unstructured.Unstructured{Object: map[string]any{"source": "kyverno"}}
	theirs.SetGroupVersionKind(openReports.GroupVersionKind)
	theirs.SetName(report.Name(baseline))
	eventually.That(t, "somebody else's report is there", func() error { return s.Create(t.Context(), theirs.DeepCopy()) })
	before, err := s.read(t, openReports)
	if err != nil {
		t.Fatal(err)
	}
	s.declare(t)
	s.operate(t)
	eventually.That(t, "an event tells of it", func() error {
		var list eventsv1.EventList
		if err := s.List(t.Context(), &list); err != nil {
			return err
		}
		for i := range list.Items {
			if e := &list.Items[i]; e.Reason == "ReportNotWritten" && e.Regarding.Name == baseline && strings.Contains(e.Note, "somebody else's") {
				return nil
			}
		}
		return errors.New("none does")
	})
	s.stir(t)
	time.Sleep(5 * period)
	after, err := s.read(t, openReports)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("somebody else's report (-before +after):\n%s", diff)
	}

	t.Run("a large one is taken", func(t *testing.T) { //nolint:paralleltest // it needs the same API
		s.large(t)
	})
	t.Run("it is written once that is out of the way", func(t *testing.T) { //nolint:paralleltest // it continues the above
		if err := s.Delete(t.Context(), after); err != nil {
			t.Fatal(err)
		}
		s.await(t, openReports, `"rule":"DefaultDenyInPlace"`)
	})
}

// large writes the largest report that there can be.
func (s *site) large(t *testing.T) {
	t.Helper()
	var findings []management.Finding
	for i := range 10_000 {
		findings = append(findings, management.Finding{
			Check: "TrafficEncrypted", Clause: management.Encryption, Result: checks.Fail, Reason: "Plaintext",
			Subject: fmt.Sprintf("kubelet 10.0.0.1:10250 (Node node-%d)", i), Evidence: "it answers in the clear", Remedy: strings.Repeat("<", 20+i%500),
		})
	}
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "large", UID: "1"}}
	o, err := report.New(b, findings, nil, nil).Object(openReports, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	o.SetOwnerReferences(nil) // there is no such baseline
	if err := s.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	typed := strict(t, o)
	text, _ := o.MarshalJSON()
	t.Logf("%d results of 10000, %d KiB", len(typed.Results)-1, len(text)>>10)
	if typed.Summary.Fail != 10_000 || len(text) > 1<<20 {
		t.Errorf("the summary is %+v of %d bytes", typed.Summary, len(text))
	}
}
