// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestCertificatesAreShownByRole(t *testing.T) {
	shows := func(role snapshot.Role, from, to int64) snapshot.Interface {
		return snapshot.Interface{Role: role, Sight: snapshot.Sight{
			Speech: snapshot.SpeechTLS, Chain: []snapshot.Certificate{{NotBefore: time.Unix(from, 0), NotAfter: time.Unix(to, 0)}, {NotBefore: time.Unix(1, 0)}},
		}}
	}
	reg := prometheus.NewPedanticRegistry()
	m := metrics.New(reg)
	m.ObserveInterfaces([]snapshot.Interface{shows(snapshot.RoleEtcd, 100, 200)}) // gone the next time
	m.ObserveInterfaces([]snapshot.Interface{
		shows(snapshot.RoleKubelet, 300, 900), shows(snapshot.RoleKubelet, 400, 800), {Role: snapshot.RoleWebhook, Sight: snapshot.Sight{Speech: snapshot.SpeechPlain}},
	})
	m.ObserveKeyChange(snapshot.RoleKubelet, false)
	m.ObserveKeyChange(snapshot.RoleKubelet, true)
	m.ObserveKeyChange(snapshot.RoleKubelet, true)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			name := f.GetName()
			for _, l := range s.GetLabel() {
				name += " " + l.GetValue()
			}
			if strings.HasPrefix(name, "pcinb_management_certificate") {
				got[name] = s.GetGauge().GetValue() + s.GetCounter().GetValue()
			}
		}
	}
	want := map[string]float64{
		"pcinb_management_certificate_start_timestamp_seconds kubelet":  300,
		"pcinb_management_certificate_expiry_timestamp_seconds kubelet": 800,
		"pcinb_management_certificate_changes_total replaced kubelet":   1,
		"pcinb_management_certificate_changes_total kept kubelet":       2,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
