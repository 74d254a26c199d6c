// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// asked returns a sound cluster of which a cloud says something, and nobody attests anything.
func asked(entrances ...snapshot.Entrance) management.Subject {
	s := sound()
	s.Encryption, s.Interfaces, s.Doors, s.Access.Attestation = nil, nil, nil, pcinetv1alpha1.Attestation{}
	s.Cloud = &snapshot.ControlPlane{Cluster: eksCluster, Entrances: entrances}
	return s
}

// said returns every finding as "check result reason: message".
func said(s management.Subject) []string {
	var out []string
	for _, f := range management.Run(s) {
		out = append(out, fmt.Sprintf("%s %s %s: %s", f.Check, f.Result, f.Reason, f.Message()))
	}
	return out
}

// TestWhatACloudSaysIsJudged: a cloud's pass is as good as an attestation; an attestation is for what the cloud does not show, and for
// nothing else.
func TestWhatACloudSaysIsJudged(t *testing.T) {
	t.Parallel()
	private := snapshot.Entrance{Name: "private endpoint", Gate: snapshot.Open, Private: true, Unlimited: true, Says: "as set"}
	run := snapshot.Entrance{Name: "run command", Gate: snapshot.Open, Unlimited: true, Identity: "Azure RBAC", Indirect: true, Says: "as set"}
	attest := func(s *management.Subject) { s.Access.Attestation = sound().Access.Attestation }
	const (
		eks     = "EKS cluster prod in eu-central-1"
		in      = "ControlPlaneRestricted pass AccessRestricted: " + eks + ", public endpoint: lets in nobody but allowed addresses: 192.0.2.0/24."
		all     = "AccessDeclared pass AccessRestricted: Who can reach the API server from outside: " + eks + " says that it lets in nobody but spec.managementAccess.allowedCIDRs."
		unread  = eks + ", private endpoint: is open to the network that it is in and whatever is connected to that; who that is, is not read (as set). Look at it where it is configured, and set spec.managementAccess.attestation."
		surplus = "ControlPlaneRestricted fail AccessTooWide: " + eks + ", public endpoint: lets in 198.51.100.0/24, which spec.managementAccess.allowedCIDRs does not. " + eksCommand + `"192.0.2.0/24".`
		denied  = "ControlPlaneRestricted error CloudUnreadable: Who can reach the API server: the cloud answers 403. Allow it."
	)
	failure := func(f snapshot.Failure) func(*management.Subject) {
		return func(s *management.Subject) {
			s.Cloud = &snapshot.ControlPlane{Cluster: eksCluster, Failure: f, Problem: "the cloud answers 403", Remedy: "Allow it"}
		}
	}
	for name, c := range map[string]struct {
		entrances []snapshot.Entrance
		changes   []func(*management.Subject)
		want      []string
	}{
		"allowed addresses alone":                 {[]snapshot.Entrance{open("192.0.2.0/24")}, nil, []string{in, all}},
		"allowed addresses, and one that is shut": {[]snapshot.Entrance{open("192.0.2.0/24"), {Name: "private endpoint", Gate: snapshot.Shut, Says: "as set"}}, nil, []string{in, "ControlPlaneRestricted pass AccessRestricted: " + eks + ", private endpoint: is shut (as set).", all}},
		"a surplus":                                     {[]snapshot.Entrance{open("192.0.2.0/24", "198.51.100.0/24")}, nil, []string{surplus}},
		"no attestation excuses a surplus":              {[]snapshot.Entrance{open("192.0.2.0/24", "198.51.100.0/24")}, []func(*management.Subject){attest}, []string{surplus}},
		"a private network that nobody attests":         {[]snapshot.Entrance{private}, nil, []string{"ControlPlaneRestricted error ManagementNotObservable: " + unread}},
		"a private network that somebody attests":       {[]snapshot.Entrance{open("192.0.2.0/24"), private}, []func(*management.Subject){attest}, []string{in, "ControlPlaneRestricted pass AccessAttested: " + eks + ", private endpoint: attested by ciso, not verified: https://wiki.example.com/x."}},
		"a private network and an attestation of old":   {[]snapshot.Entrance{private}, []func(*management.Subject){attest, func(s *management.Subject) { s.Access.Attestation.Until = metav1.NewTime(today) }}, []string{"ControlPlaneRestricted error AttestationExpired: " + eks + ", private endpoint: the attestation of ciso has expired. Look again, and renew spec.managementAccess.attestation."}},
		"a way around it is warned of":                  {[]snapshot.Entrance{open("192.0.2.0/24"), run}, nil, []string{"ControlPlaneRestricted warn AccessTooWide: " + eks + ", run command: leads around every list of addresses, for whom Azure RBAC lets through (as set).", in, all}},
		"nothing at all":                                {nil, nil, []string{"ControlPlaneRestricted error ManagementNotObservable: " + eks + ": it says nothing about who can reach the API server. Look at it where it is configured, and set spec.managementAccess.attestation."}},
		"it could not be read":                          {nil, []func(*management.Subject){failure(snapshot.Denied)}, []string{denied}},
		"no attestation stands for a failed reading":    {nil, []func(*management.Subject){failure(snapshot.Denied), attest}, []string{denied}},
		"it has not answered yet, whatever is attested": {nil, []func(*management.Subject){failure(snapshot.NotAsked), attest}, []string{"ControlPlaneRestricted error NotObserved: Who can reach the API server: the cloud answers 403. Allow it."}},
		"it is silent, and what it said before stands": {
			[]snapshot.Entrance{open("192.0.2.0/24")},
			[]func(*management.Subject){func(s *management.Subject) {
				s.Since = &snapshot.ControlPlane{Failure: snapshot.Outage, Problem: "it does not answer", Remedy: "Let it"}
			}},
			[]string{"ControlPlaneRestricted warn CloudUnreadable: " + eks + ": it does not answer; until it answers, what it said before is judged, for a few hours. Let it.", in, all},
		},
		"there is no allow-list": {
			[]snapshot.Entrance{open("192.0.2.0/24")},
			[]func(*management.Subject){func(s *management.Subject) { s.Access.AllowedCIDRs = nil }},
			[]string{
				"ControlPlaneRestricted error AccessNotDeclared: " + eks + ", public endpoint: lets in 192.0.2.0/24, and there is no allow-list to compare with. Set spec.managementAccess.allowedCIDRs.",
				"AccessDeclared error AccessNotDeclared: spec.managementAccess: there is no allow-list. Set allowedCIDRs, each with a name and a justification.",
			},
		},
		"nobody asks it": {
			nil,
			[]func(*management.Subject){func(s *management.Subject) { s.Cloud = nil }},
			[]string{"AccessDeclared error ManagementNotObservable: Who can reach the API server from outside: no object of the cluster shows it. Compare the firewall or the cloud's authorised networks with allowedCIDRs, and set spec.managementAccess.attestation, or let the cloud be asked with spec.managementAccess.cloud: {}."},
		},
		"nobody is to ask it": {
			nil,
			[]func(*management.Subject){func(s *management.Subject) {
				s.Cloud, s.Access.Cloud = nil, &pcinetv1alpha1.ManagedCloud{Provider: pcinetv1alpha1.CloudNone}
			}},
			[]string{"AccessDeclared error ManagementNotObservable: Who can reach the API server from outside: no object of the cluster shows it. Compare the firewall or the cloud's authorised networks with allowedCIDRs, and set spec.managementAccess.attestation."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := asked(c.entrances...)
			for _, change := range c.changes {
				change(&s)
			}
			if diff := cmp.Diff(c.want, said(s)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestWhatObjectsSayWarns: they are about other clusters, unless they name this one's API server, and never vouch for anything.
func TestWhatObjectsSayWarns(t *testing.T) {
	t.Parallel()
	const (
		all     = "AccessDeclared pass AccessAttested: Who can reach the API server from outside: attested by ciso, not verified: https://wiki.example.com/x."
		surplus = "AccessTooWide: AWSCluster clusters/prod, public endpoint: lets in 198.51.100.0/24, which spec.managementAccess.allowedCIDRs does not. kubectl edit awscluster -n clusters prod, spec.x."
	)
	for name, c := range map[string]struct {
		host   string
		ranges string
		want   []string
	}{
		"another cluster that is open": {"api.other.example.com", "198.51.100.0/24", []string{"ClusterObjectsRestricted warn " + surplus, all}},
		"one that nobody names":        {"", "198.51.100.0/24", []string{"ClusterObjectsRestricted warn " + surplus, all}},
		"this cluster":                 {"api.example.com", "198.51.100.0/24", []string{"ClusterObjectsRestricted fail " + surplus, all}},
		"this cluster, and all is well": {"api.example.com", "192.0.2.0/24", []string{
			"ClusterObjectsRestricted skip ManagementNotObservable: AWSCluster clusters/prod, public endpoint: lets in nobody but allowed addresses: 192.0.2.0/24.", all,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := asked()
			s.Cloud, s.Access.Attestation, s.ServerNames = nil, sound().Access.Attestation, []string{"", "api.example.com"}
			e := open(c.ranges)
			e.Field = "spec.x"
			s.Objects = []snapshot.ControlPlane{{Object: "AWSCluster clusters/prod", Host: c.host, Entrances: []snapshot.Entrance{e}}}
			if diff := cmp.Diff(c.want, said(s)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	s := asked()
	s.Cloud, s.Access.Attestation = nil, sound().Access.Attestation
	s.ObjectGaps = []snapshot.Gap{{What: "The list of x", Why: "no right", Remedy: "Grant it"}}
	want := []string{"ClusterObjectsRestricted warn ManagementNotObservable: The list of x: no right. Grant it.", all}
	if diff := cmp.Diff(want, said(s)); diff != "" {
		t.Errorf("what may not be read, -want +got:\n%s", diff)
	}
}
