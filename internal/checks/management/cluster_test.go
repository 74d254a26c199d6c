// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// What kubeadm tells everybody is told, and of what it names that alone which is of the Internet.
func TestPublished(t *testing.T) {
	t.Parallel()
	const skip = "skip: API server 10.0.0.1:6443 (Service default/kubernetes): its address is none of the Internet, which says nothing of forwarded ones"
	const subject = "ConfigMap kube-public/cluster-info: "
	const everybody = "warn: " + subject + "it tells everybody, without credentials, where the API server is and who speaks for it"
	for name, tc := range map[string]struct {
		told        int
		hosts, want []string
	}{
		"nobody is told":       {403, nil, []string{skip}},
		"nobody was asked":     {0, nil, []string{skip}},
		"what nobody can read": {200, nil, []string{everybody, skip}},
		"somewhere inside":     {200, []string{"10.0.0.1", "api.internal", "nobody.example.com"}, []string{everybody, skip}},
		"an address, and a name": {200, []string{"203.0.113.9", "api.example.com"}, []string{
			everybody,
			"warn: " + subject + "it has clients reach the API server at 203.0.113.9, which is of the Internet",
			"warn: " + subject + "it has clients reach the API server at api.example.com, which is of the Internet", skip,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound()
			s.Public = map[string]bool{"api.example.com": true, "api.internal": false}
			s.APIServer.Told, s.APIServer.Published = tc.told, tc.hosts
			if diff := cmp.Diff(tc.want, of("APIServerPrivate", s)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// The cluster's own authority is judged as those of webhooks are.
func TestTheClustersAuthority(t *testing.T) {
	t.Parallel()
	unread := sound()
	unread.AuthoritiesUnread = true
	if got, want := wrong(unread), "CertificatesFit error ManagementNotObservable: The cluster's own authority: a part of kube-root-ca.crt cannot be read, or is no certificate"; len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %s", got, want)
	}
	const subject = "The cluster's own authority: kube-root-ca.crt holds "
	for want, change := range map[string]func(*snapshot.Certificate){
		"pass: " + subject + "CN=ca, of 2021-01-08, RSA with 2048 bits, which is valid until 2026-07-31": func(*snapshot.Certificate) {},
		"fail: " + subject + "an authority that has expired: CN=ca":                                      func(c *snapshot.Certificate) { c.NotAfter = today },
		"fail: " + subject + "CN=ca, of 2021-01-08, RSA with 1024 bits, which is too small":              func(c *snapshot.Certificate) { c.KeyBits = 1024 },
		"warn: " + subject + "CN=ca, of 2021-01-08, RSA with 2048 bits, which expires on 2026-07-30":     func(c *snapshot.Certificate) { c.NotAfter = today.Add(29 * day) },
	} {
		s := sound()
		ca := soundCA()
		change(&ca)
		s.Authorities = []snapshot.Certificate{ca}
		if got := of("CertificatesFit", s); !slices.Contains(got, want) {
			t.Errorf("%s, want %s", strings.Join(got, "\n"), want)
		}
		for _, f := range management.Run(s) {
			if f.Subject == "The cluster's own authority" && f.Result == "fail" && !strings.Contains(f.Remedy, "kube-root-ca.crt") {
				t.Errorf("the remedy is %s", f.Remedy)
			}
		}
	}
}
