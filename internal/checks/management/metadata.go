// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
)

// metadataServices are the addresses at which clouds hand out metadata and credentials of their nodes, by the scheme of spec.providerID. Sources:
// the providers' documentation.
var metadataServices = map[string][]netip.Addr{
	"aws":          {imds, netip.MustParseAddr("fd00:ec2::254")},
	"azure":        {imds, netip.MustParseAddr("168.63.129.16")},
	"gce":          {imds, netip.MustParseAddr("fd20:ce::254")},
	"digitalocean": {imds},
	"hcloud":       {imds},
	"linode":       {imds},
	"openstack":    {imds},
}

const dns = 53

var imds = netip.MustParseAddr("169.254.169.254")

// metadataClosed (4.2; PCI DSS 1.3.2): pods do not reach the metadata service of the cloud that nodes are in, since it may give them the
// node's credentials. It is not dialled, so it is never a pass: what is judged is who is let through to it by this baseline.
func metadataClosed(s Subject, v *verdicts) {
	clouds := map[string]bool{}
	for i := range s.Hosts {
		clouds[s.Hosts[i].Provider] = true
	}
	for _, cloud := range slices.Sorted(maps.Keys(clouds)) {
		subject := "Metadata service of " + cloud
		var open []string
		for i := range s.Rules {
			for _, a := range metadataServices[cloud] {
				if reaches(&s.Rules[i], a) {
					open = append(open, fmt.Sprintf("%s (%s)", s.Rules[i].Name, a))
				}
			}
		}
		switch {
		case len(metadataServices[cloud]) == 0:
		case !s.EgressDenied:
			v.warn(pcinetv1alpha1.ReasonManagementNotObservable, subject, "pods may connect anywhere, and so to it: this baseline denies no egress", "Set spec.enforcement: Enforce, and Egress in spec.directions")
		case len(open) > 0:
			v.warn(pcinetv1alpha1.ReasonManagementNotObservable, subject, "spec.allow.rules lets pods reach it: "+some(open),
				"Add it to the rule's except; or see that whoever needs it is all that the rule is for, and what it gives to pods: docs/management.md")
		default:
			v.skip(subject, "it is not dialled; no entry of spec.allow.rules lets pods reach it ("+addresses(metadataServices[cloud])+")")
		}
	}
}

// reaches says whether a rule lets pods connect to an address by TCP, on whichever port but that of DNS, which some clouds have there, too.
func reaches(r *pcinetv1alpha1.AllowRule, a netip.Addr) bool {
	contains := func(text pcinetv1alpha1.CIDR) bool {
		p, err := netip.ParsePrefix(string(text))
		return err == nil && p.Contains(a) // what the API server's rule lets through, parses
	}
	return r.Direction == pcinetv1alpha1.DirectionEgress &&
		slices.ContainsFunc(r.Ports, func(p pcinetv1alpha1.Port) bool {
			return policy.Protocol(p.Protocol) == policy.TCP && (p.Port != dns || p.EndPort > dns)
		}) &&
		slices.ContainsFunc(r.Peers, func(p pcinetv1alpha1.Peer) bool { return contains(p.CIDR) && !slices.ContainsFunc(p.Except, contains) })
}

func addresses(list []netip.Addr) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}
