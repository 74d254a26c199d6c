// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"crypto/tls"
	"errors"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

func (p *program) testAccess(t *testing.T) {
	namespace := createNamespace(t, "")
	stranger, scraper := createAccount(t, namespace), createAccount(t, namespace)
	bindMetricsReader(t, scraper)
	tests := map[string]struct {
		token string
		want  int
	}{
		"no token":                   {"", http.StatusUnauthorized},
		"a token without the right":  {tokenOf(t, stranger), http.StatusForbidden},
		"the operator's own token":   {p.token, http.StatusForbidden},
		"a token with the right":     {tokenOf(t, scraper), http.StatusOK},
		"a token that nobody issued": {"eyJhbGciOiJub25lIn0.e30.", http.StatusUnauthorized},
		"a token meant for others":   {tokenOf(t, scraper, "https://vault.example.com"), http.StatusUnauthorized},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := p.scrape(t, test.token)
			if got.status != test.want || strings.Contains(got.body, "pcinb_") != (test.want == http.StatusOK) {
				t.Errorf("the answer is %d, want %d: %.200s", got.status, test.want, got.body)
			}
		})
	}
}

// bindMetricsReader binds config/rbac/metrics_reader_role.yaml to a ServiceAccount, and waits until that is in force.
func bindMetricsReader(t *testing.T, account client.ObjectKey) {
	t.Helper()
	create(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: uniqueName("scraper")},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "pci-network-baseline-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: account.Namespace, Name: account.Name}},
	})
	eventually.That(t, "the role is in force", func() error {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:                  "system:serviceaccount:" + account.Namespace + ":" + account.Name,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/metrics"},
		}}
		if err := env.client.Create(t.Context(), review); err != nil {
			return err
		}
		if !review.Status.Allowed {
			return errors.New("it is not")
		}
		return nil
	})
}

func (p *program) testEncryption(t *testing.T) {
	scraper := createAccount(t, createNamespace(t, ""))
	bindMetricsReader(t, scraper)
	token := tokenOf(t, scraper)
	if got := p.scrape(t, token); got.status != http.StatusOK || got.tls != tls.VersionTLS13 {
		t.Errorf("the answer is %d over %s, want TLS 1.3", got.status, tls.VersionName(got.tls))
	}
	_, err := fetch(t, over(t, tls.VersionTLS12), "https://"+p.metrics+"/metrics", token)
	if err == nil || !strings.Contains(err.Error(), "protocol version not supported") {
		t.Errorf("over TLS 1.2: %v, want a refusal of the version", err)
	}
	got, err := fetch(t, http.DefaultClient, "http://"+p.metrics+"/metrics", token)
	if err == nil && (got.status != http.StatusBadRequest || strings.Contains(got.body, "pcinb_")) {
		t.Errorf("in the clear the answer is %d: %.200s", got.status, got.body)
	}
}

// sample is one line of the exposition.
type sample struct {
	name   string
	labels map[string]string
	value  string
}

var (
	sampleLine = regexp.MustCompile(`(?m)^(\w+)(?:\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

func samples(t *testing.T, exposition string) []sample {
	t.Helper()
	var out []sample
	for _, line := range sampleLine.FindAllStringSubmatch(exposition, -1) {
		s := sample{name: line[1], labels: map[string]string{}, value: line[3]}
		for _, pair := range labelPair.FindAllStringSubmatch(line[2], -1) {
			s.labels[pair[1]] = pair[2]
		}
		out = append(out, s)
	}
	if lines := strings.Count("\n"+exposition, "\n") - strings.Count("\n"+exposition, "\n#") - 1; lines != len(out) {
		t.Errorf("%d samples were read from %d lines", len(out), lines)
	}
	return out
}

// testSeries looks for what docs/spec.md promises, after one repair for one baseline.
func (p *program) testSeries(t *testing.T, baseline string) {
	t.Helper()
	scraper := createAccount(t, createNamespace(t, ""))
	bindMetricsReader(t, scraper)
	exposition := p.scrape(t, tokenOf(t, scraper)).body
	got := samples(t, exposition)
	type labels = map[string]string
	for _, want := range []sample{
		{"pcinb_namespaces", labels{"baseline": baseline, "state": "Protected"}, "1"},
		{"pcinb_namespaces", labels{"baseline": baseline, "state": "Pending"}, "0"},
		{"pcinb_namespaces", labels{"baseline": baseline, "state": "Contested"}, "0"},
		{"pcinb_namespaces", labels{"baseline": baseline, "state": "Failing"}, "0"},
		{"pcinb_namespaces", labels{"baseline": baseline, "state": "Exempt"}, "0"},
		{"pcinb_baseline_condition", labels{"baseline": baseline, "type": "Ready", "status": "True"}, "1"},
		{"pcinb_baseline_condition", labels{"baseline": baseline, "type": "Compliant", "status": "Unknown"}, "1"},
		{"pcinb_repairs_total", labels{"cause": "deleted"}, "1"},
		{"pcinb_repairs_total", labels{"cause": "edited"}, "0"},
		{"pcinb_repairs_total", labels{"cause": "replaced"}, "0"},
		{"pcinb_namespace_protection_seconds_bucket", labels{"le": "+Inf"}, "1"},
		{"pcinb_namespace_protection_seconds_count", labels{}, "1"},
		{"pcinb_writes_total", labels{"kind": "NetworkPolicy", "operation": "create", "outcome": "success"}, "3"},
		{"workqueue_depth", labels{"controller": "namespace"}, ""},
		{"workqueue_queue_duration_seconds_count", labels{"controller": "namespace"}, ""},
		{"controller_runtime_reconcile_errors_total", labels{"controller": "namespace"}, ""},
		{"controller_runtime_reconcile_errors_total", labels{"controller": "baseline"}, ""},
		{"rest_client_requests_total", labels{"code": "201", "method": "POST"}, ""},
		{"leader_election_master_status", labels{"name": "pci-network-baseline"}, "1"},
	} {
		if !slices.ContainsFunc(got, want.matches) {
			t.Errorf("there is no %s %v with the value %q", want.name, want.labels, want.value)
		}
	}
	checkLint(t, exposition)
	checkNoNamespace(t, got)
}

// matches says whether a sample has at least these labels, and the value if there is one.
func (want sample) matches(got sample) bool {
	for key, value := range want.labels {
		if got.labels[key] != value {
			return false
		}
	}
	return got.name == want.name && (want.value == "" || got.value == want.value)
}

// checkLint lints the metrics that are ours.
func checkLint(t *testing.T, exposition string) {
	t.Helper()
	ours := regexp.MustCompile(`(?m)^(# (HELP|TYPE) )?pcinb_.*\n`).FindAllString(exposition, -1)
	problems, err := promlint.New(strings.NewReader(strings.Join(ours, ""))).Lint()
	if err != nil || len(ours) == 0 || len(problems) > 0 {
		t.Errorf("lint of %d lines: %v, %v", len(ours), problems, err)
	}
}

// checkNoNamespace wants no series per namespace, neither ours nor those of libraries.
func checkNoNamespace(t *testing.T, got []sample) {
	t.Helper()
	var list corev1.NamespaceList
	if err := env.client.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	for i := range list.Items {
		name := list.Items[i].Name
		for _, s := range got {
			if slices.Contains(slices.Collect(maps.Values(s.labels)), name) {
				t.Errorf("%s%v names namespace %s", s.name, s.labels, name)
			}
		}
	}
}
