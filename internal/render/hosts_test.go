// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"testing"

	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
)

// An event of a policy for nodes wakes its baseline, in whichever API it is.
func TestHostsOf(t *testing.T) {
	for _, l := range []render.HostLayer{calico.Hosts{}, cilium.Hosts{}} {
		if name := render.HostsPolicy(l, "pci-hosts").GetName(); render.HostsOf(name) != "pci-hosts" {
			t.Errorf("%s is of %q", name, render.HostsOf(name))
		}
	}
	for _, name := range []string{"", "hosts", "pcinb-pci-guard", "pcinb-hosts.pcinb-pci-guard", "pcinb-hosts"} {
		if of := render.HostsOf(name); of != "" {
			t.Errorf("%q is of %q", name, of)
		}
	}
}
