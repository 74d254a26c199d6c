// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	openreportsv1alpha1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// TestKeys has a server change its certificate: for one with another key, and then for one with the same. What was seen before a restart
// is read from the report.
func TestKeys(t *testing.T) { //nolint:paralleltest // the ports of a control plane are fixed
	s := newSite(t, "10.7.0.1", func(string) []string { return nil })
	s.reports(t)
	var serving atomic.Pointer[tls.Config]
	first, second := newKey(t), newKey(t)
	serving.Store(dated(t, first, -100))
	base := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return serving.Load(), nil }}
	https(t, "10.7.0.3:3000", s.issued(t, "never shown"), base, http.NotFoundHandler())
	s.service(t, "monitoring/grafana", corev1.ServiceTypeClusterIP, "10.7.0.3:3000")
	stop := s.operate(t)

	s.declare(t, ask(false))
	r := s.reported(t, "skip: Grafana 10.7.0.3:3000 (Service monitoring/grafana): no other certificate than this one of ")
	since := r.Properties["firstSeen"]

	serving.Store(dated(t, second, -2))
	s.hour(t)
	s.reported(t, "pass: Grafana 10.7.0.3:3000 (Service monitoring/grafana): its certificate and key were replaced on ")
	const counted = `# HELP pcinb_management_certificate_changes_total Certificates of interfaces that were seen to take another's place, by role and by what became of the key (replaced or kept).
# TYPE pcinb_management_certificate_changes_total counter
pcinb_management_certificate_changes_total{key="replaced",role="supporting system"} 1
`
	if err := testutil.GatherAndCompare(s.registry, strings.NewReader(counted), "pcinb_management_certificate_changes_total"); err != nil {
		t.Error(err)
	}

	stop()
	s.operate(t)
	serving.Store(dated(t, second, -1))
	s.hour(t)
	r = s.reported(t, "warn: Grafana 10.7.0.3:3000 (Service monitoring/grafana): its certificate was renewed on ")
	if r.Properties["changes"] != "2" || r.Properties["firstSeen"] != since {
		t.Errorf("after a restart it remembers %v, first seen was %s", r.Properties, since)
	}
}

// reports has the operator write reports.
func (s *site) reports(t *testing.T) {
	t.Helper()
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/openreports/reports-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "apply", "--server-side", "-f", filepath.Join(strings.TrimSpace(string(module)), "config", "install.yaml"))
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "reports"))
}

// reported waits until a result of the report begins with a text, as "result: message".
func (s *site) reported(t *testing.T, text string) openreportsv1alpha1.ReportResult {
	t.Helper()
	var found openreportsv1alpha1.ReportResult
	eventually.That(t, "the report says "+text, func() error {
		var all []string
		for _, r := range s.results(t) {
			said := fmt.Sprintf("%s: %s", r.Result, r.Description)
			if strings.HasPrefix(said, text) {
				found = r
				return nil
			}
			all = append(all, said)
		}
		return errors.New("it says " + strings.Join(all, "\n"))
	})
	return found
}

// results returns those of the report; none while there is no report.
func (s *site) results(t *testing.T) []openreportsv1alpha1.ReportResult {
	t.Helper()
	live := &unstructured.Unstructured{}
	live.SetGroupVersionKind(openreportsv1alpha1.SchemeGroupVersion.WithKind("ClusterReport"))
	if err := client.IgnoreNotFound(s.Get(t.Context(), client.ObjectKey{Name: "pcinb-" + s.baseline}, live)); err != nil {
		t.Fatal(err)
	}
	var typed openreportsv1alpha1.ClusterReport
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, &typed); err != nil {
		t.Fatal(err)
	}
	return typed.Results
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// dated serves a certificate of a key that is valid since some days from now.
func dated(t *testing.T, key *ecdsa.PrivateKey, days int) *tls.Config {
	t.Helper()
	from := time.Now().AddDate(0, 0, days)
	template := &x509.Certificate{SerialNumber: big.NewInt(from.Unix()), Subject: pkix.Name{CommonName: "grafana"}, NotBefore: from, NotAfter: from.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
