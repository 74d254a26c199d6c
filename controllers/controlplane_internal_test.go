// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	testclock "k8s.io/utils/clock/testing"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// What a cloud said stands while it is silent, for three hours, for this cluster, and for what is declared now. A refusal is no silence.
func TestWhatACloudSaidStandsWhileItIsSilent(t *testing.T) {
	eks := &pcinetv1alpha1.ManagedCloud{Provider: pcinetv1alpha1.CloudEKS}
	said := snapshot.ControlPlane{Cluster: snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "a", Signals: []snapshot.Signal{{Object: "Node a"}}}, Host: "good"}
	failed := func(f snapshot.Failure) snapshot.ControlPlane {
		return snapshot.ControlPlane{Cluster: snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "a", Signals: []snapshot.Signal{{Object: "Node b"}}}, Failure: f}
	}
	other := failed(snapshot.Outage)
	other.Cluster.Name = "b"
	cases := map[string]struct {
		declared *pcinetv1alpha1.ManagedCloud
		last     snapshot.ControlPlane
		age      time.Duration
		never    bool
		// want is what is judged: "good", a failure, or "" if nothing is; since is why it is not the last.
		want, since string
	}{
		"it answers":                      {eks, said, 0, false, "good", ""},
		"an outage":                       {eks, failed(snapshot.Outage), cloudHolds - time.Second, false, "good", "Outage"},
		"it is asked too often":           {eks, failed(snapshot.Throttled), cloudHolds - time.Second, false, "good", "Throttled"},
		"an outage of three hours":        {eks, failed(snapshot.Outage), cloudHolds, false, "Outage", ""},
		"an outage before any answer":     {eks, failed(snapshot.Outage), 0, true, "Outage", ""},
		"an outage of another cluster's":  {eks, other, time.Minute, false, "Outage", ""},
		"it refuses":                      {eks, failed(snapshot.Denied), time.Minute, false, "Denied", ""},
		"there are no credentials":        {eks, failed(snapshot.NoCredentials), time.Minute, false, "NoCredentials", ""},
		"it describes another cluster":    {eks, failed(snapshot.NoSuchCluster), time.Minute, false, "NoSuchCluster", ""},
		"it says what nobody understands": {eks, failed(snapshot.NotUnderstood), time.Minute, false, "NotUnderstood", ""},
		"the spec asks another one":       {&pcinetv1alpha1.ManagedCloud{Provider: pcinetv1alpha1.CloudGKE}, said, 0, false, "NotAsked", ""},
		"the spec asks none any more":     {&pcinetv1alpha1.ManagedCloud{Provider: pcinetv1alpha1.CloudNone}, said, 0, false, "", ""},
		"the spec does not say":           {nil, said, 0, false, "", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := &ControlPlaneReconciler{Clock: testclock.NewFakePassiveClock(today)}
			a := answer{declared: *eks, last: tc.last, good: said, goodAt: today.Add(-tc.age)}
			if tc.never {
				a.good, a.goodAt = snapshot.ControlPlane{}, time.Time{}
			}
			r.answers.Store("x", a)
			b := &pcinetv1alpha1.PCINetworkBaseline{}
			b.Name, b.Spec.ManagementAccess = "x", &pcinetv1alpha1.ManagementAccess{Cloud: tc.declared}
			out, complete := r.of(b)
			if waits := tc.want == "NotAsked"; complete == waits {
				t.Errorf("complete: %t", complete)
			}
			var got, since string
			if out.Cloud != nil {
				got = out.Cloud.Host + string(out.Cloud.Failure)
			}
			if out.Since != nil {
				since = string(out.Since.Failure)
			}
			if diff := cmp.Diff([2]string{tc.want, tc.since}, [2]string{got, since}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// While nodes are not known, as just after a start, that the cloud does not show is no answer. One that is declared in full is asked.
func TestACloudThatDoesNotShowYetWasNotAsked(t *testing.T) {
	full := pcinetv1alpha1.ManagedCloud{Provider: pcinetv1alpha1.CloudGKE, Name: "main", Location: "europe-west3", Project: "shop-prod"}
	nowhere := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") }}
	cases := map[string]struct {
		declared pcinetv1alpha1.ManagedCloud
		known    bool
		want     snapshot.Failure
		again    time.Duration
	}{
		"nodes are not known":         {pcinetv1alpha1.ManagedCloud{}, false, snapshot.NotAsked, nodesWait},
		"nodes do not show it":        {pcinetv1alpha1.ManagedCloud{}, true, snapshot.NotDeclared, 0},
		"nodes are not needed for it": {full, false, snapshot.Outage, 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := &ControlPlaneReconciler{
				Clock: testclock.NewFakePassiveClock(today), Token: func() string { return "" }, Clouds: &cloud.Reader{Transport: nowhere},
				Nodes: func() ([]snapshot.Node, bool) { return nil, tc.known },
			}
			next := answer{declared: tc.declared}
			again := r.ask(t.Context(), "x", &next)
			if next.last.Failure != tc.want || next.last.Problem == "" || (again == nodesWait) != (tc.again == nodesWait) {
				t.Errorf("%s, again after %s: %s", next.last.Failure, again, next.last.Problem)
			}
		})
	}
}

// Names are looked up that somebody may use outside of the cluster, and no others. One that nobody knows is none; of one of which nobody answers what was
// known stands.
func TestNamesAreLookedUp(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	r := &ControlPlaneReconciler{Resolve: func(_ context.Context, _, host string) ([]netip.Addr, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, host)
		switch host {
		case "gone.example.com.":
			return nil, &net.DNSError{IsNotFound: true}
		case "silent.example.com.", "new.example.com.":
			return nil, &net.DNSError{IsTimeout: true}
		case "inside.example.com.":
			return []netip.Addr{netip.MustParseAddr("10.0.0.1")}, nil
		}
		return []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("203.0.113.7")}, nil
	}}
	names := []string{
		"kubernetes", "kubernetes.default.svc.cluster.local", "10.96.0.1", "2001:db8::1", "*.example.com",
		"api.example.com", "inside.example.com", "gone.example.com", "silent.example.com", "new.example.com",
	}
	got := r.publicOf(t.Context(), names, map[string]bool{"gone.example.com": true, "silent.example.com": true})
	want := map[string]bool{"api.example.com": true, "inside.example.com": false, "silent.example.com": true}
	if !maps.Equal(got, want) || len(asked) != 5 {
		t.Errorf("asked for %v: %v, want %v", asked, got, want)
	}
	asked = nil
	r.publicOf(t.Context(), slices.Repeat([]string{"api.example.com"}, 2*maxNames), nil)
	if len(asked) != maxNames {
		t.Errorf("%d questions", len(asked))
	}
}
