// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// TestTokenKeys gives a real API server another key for tokens of service accounts, as administrators do: the new one signs, and the old
// one verifies until its tokens have expired. What was seen before a restart is read from the report.
func TestTokenKeys(t *testing.T) { //nolint:paralleltest // the ports of a control plane are fixed
	s := newSite(t, "10.6.0.1", func(string) []string { return nil })
	s.reports(t)
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "management"))
	s.convertedBy(t, s.cluster.CAData())
	old := s.tokenKey(t)
	stop := s.operate(t)
	s.published(t)
	s.declare(t, ask(true))
	s.reported(t, "pass: CustomResourceDefinition widgets.example.com: its caBundle holds CN=test-cluster-ca, of ")
	s.reported(t, "pass: The cluster's own authority: kube-root-ca.crt holds CN=test-cluster-ca, of ")
	s.reported(t, "warn: ConfigMap kube-public/cluster-info: it tells everybody, without credentials, where the API server is")
	s.reported(t, "warn: ConfigMap kube-public/cluster-info: it has clients reach the API server at 203.0.113.9, which is of the Internet")
	s.reported(t, "pass: "+old+": it is strong enough: ")
	since := s.reported(t, "skip: "+old+": it has been seen since ").Properties["firstSeen"]
	s.restartAPIServer(t) // with the same keys: nothing has changed
	s.hour(t)
	if again := s.reported(t, "skip: "+old+": it has been seen since ").Properties["firstSeen"]; again != since {
		t.Errorf("first seen at %s, and after a restart of the API server at %s", since, again)
	}

	public := s.replaceTokenKey(t)
	s.restartAPIServer(t)
	s.hour(t)
	current := s.tokenKey(t)
	s.reported(t, "skip: "+current+": it was added on ") // the operator's token is of before
	stop()
	s.operate(t)
	s.hour(t)
	s.reported(t, "pass: "+current+": it was seen to sign in place of another on ")
	if r := s.reported(t, "skip: "+old+": it has been seen since "); r.Properties["firstSeen"] != since {
		t.Errorf("after a restart it remembers %v, first seen was %s", r.Properties, since)
	}

	s.writePKI(t, "sa.pub", public)
	s.restartAPIServer(t)
	s.hour(t)
	s.unreported(t, old)
	s.clock.SetTime(s.clock.Now().AddDate(0, 0, 399))
	s.hour(t)
	s.reported(t, "fail: "+current+": it has been in use since ")
}

// published has everybody read where the API server is, as kubeadm does for who is to join.
func (s *site) published(t *testing.T) {
	t.Helper()
	s.place(t, `{apiVersion: v1, kind: ConfigMap, metadata: {namespace: kube-public, name: cluster-info}, data: {kubeconfig:
		"{apiVersion: v1, kind: Config, clusters: [{name: '', cluster: {server: 'https://203.0.113.9:6443'}}]}"}}`)
	s.place(t, `{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {namespace: kube-public, name: "kubeadm:bootstrap-signer-clusterinfo"},
		rules: [{apiGroups: [""], resources: [configmaps], resourceNames: [cluster-info], verbs: [get]}]}`)
	s.place(t, `{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {namespace: kube-public, name: "kubeadm:bootstrap-signer-clusterinfo"},
		roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: "kubeadm:bootstrap-signer-clusterinfo"},
		subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: "system:anonymous"}]}`)
}

// tokenKey names the newest key in the API server's file, by the ID that the API server gives it.
func (s *site) tokenKey(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(s.cluster.PKI("sa.pub"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	sum := sha256.Sum256(block.Bytes)
	return "service account key " + base64.RawURLEncoding.EncodeToString(sum[:])
}

// replaceTokenKey has the API server sign with a new key once it is restarted, and verify with the old one, too. It returns the new one.
func (s *site) replaceTokenKey(t *testing.T) (public []byte) {
	t.Helper()
	key := newKey(t)
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(s.cluster.PKI("sa.pub"))
	if err != nil {
		t.Fatal(err)
	}
	public = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	s.writePKI(t, "sa.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}))
	s.writePKI(t, "sa.pub", append(slices.Clone(public), old...))
	return public
}

func (s *site) writePKI(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(s.cluster.PKI(name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *site) restartAPIServer(t *testing.T) {
	t.Helper()
	if err := s.cluster.RestartAPIServer(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// unreported waits until the report says nothing of a subject.
func (s *site) unreported(t *testing.T, subject string) {
	t.Helper()
	eventually.That(t, "nothing is reported of "+subject, func() error {
		for _, r := range s.results(t) {
			if strings.Contains(r.Description, subject) {
				return errors.New(r.Description)
			}
		}
		return nil
	})
}

// convertedBy adds a kind that a webhook converts.
func (s *site) convertedBy(t *testing.T, bundle []byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "definition.yaml")
	version := func(name string, storage bool) string {
		return fmt.Sprintf("{name: %s, served: true, storage: %t, schema: {openAPIV3Schema: {type: object}}}", name, storage)
	}
	manifest := fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}
  scope: Namespaced
  versions: [%s, %s]
  conversion:
    strategy: Webhook
    webhook: {conversionReviewVersions: [v1], clientConfig: {service: {namespace: hooks, name: converter}, caBundle: %s}}
`, version("v1", true), version("v2", false), base64.StdEncoding.EncodeToString(bundle))
	if err := os.WriteFile(file, []byte(manifest), 0o600); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "apply", "--server-side", "-f", file)
}
