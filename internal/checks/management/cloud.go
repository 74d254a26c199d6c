// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Judgement is what one entrance of a control plane, or the lack of an answer about it, means for 4.2.
type Judgement struct {
	Result checks.Result
	// Subject, Evidence and Remedy have no full stop, and change only with what they are about.
	Subject, Evidence, Remedy string
	// Unshown says that the provider does not tell, so that somebody's word may stand for it.
	Unshown bool
	// Surplus is let in and not allowed, in as few ranges as say it.
	Surplus []netip.Prefix
}

var everybody = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}

// attest is for what the provider does not show.
const attest = "Look at it where it is configured, and set spec.managementAccess.attestation"

// ControlPlaneRestricted (4.2; PCI DSS 1.3.1, 1.4.2): whoever runs the API server lets in nobody whom the allow-list does not. Letting
// in less is no fault.
func ControlPlaneRestricted(p *snapshot.ControlPlane, allowed []netip.Prefix) []Judgement {
	of := p.Object
	if of == "" {
		of = p.Cluster.String()
	}
	if p.Failure != "" {
		return []Judgement{{Result: checks.Error, Subject: "Who can reach the API server", Evidence: p.Problem, Remedy: p.Remedy}}
	}
	if len(p.Entrances) == 0 {
		return []Judgement{{Result: checks.Error, Subject: of, Evidence: "it says nothing about who can reach the API server", Remedy: attest, Unshown: true}}
	}
	var out []Judgement
	for i := range p.Entrances {
		e := &p.Entrances[i]
		j := judgeEntrance(p, e, prefixSet(allowed))
		if e.Gate == snapshot.Open && len(e.Unread) > 0 {
			out = append(out, Judgement{
				Result: checks.Error, Evidence: "is not told in full: " + strings.Join(e.Unread, ", "), Remedy: attest, Unshown: true,
				Subject: of + ", " + e.Name,
			})
			if j.Result == checks.Pass {
				continue
			}
		}
		j.Subject = of + ", " + e.Name
		out = append(out, j)
	}
	return out
}

func judgeEntrance(p *snapshot.ControlPlane, e *snapshot.Entrance, allowed *netipx.IPSet) Judgement {
	says := " (" + e.Says + ")"
	switch {
	case e.Gate == "":
		return Judgement{Result: checks.Error, Evidence: "is not said to be open or shut" + says, Remedy: attest, Unshown: true}
	case e.Gate == snapshot.Shut:
		return Judgement{Result: checks.Pass, Evidence: "is shut" + says}
	case e.Indirect:
		return Judgement{
			Result: checks.Warn, Remedy: shut(p, e),
			Evidence: "leads around every list of addresses, for whom " + e.Identity + " lets through" + says,
		}
	case e.Identity != "":
		return Judgement{
			Result: checks.Fail, Remedy: shut(p, e), Surplus: everybody,
			Evidence: "is open to every address: " + e.Identity + " goes by who somebody is, not by where they are" + says,
		}
	case e.Unlimited && e.Private:
		return Judgement{
			Result: checks.Error, Remedy: attest, Unshown: true,
			Evidence: "is open to the network that it is in and whatever is connected to that; who that is, is not read" + says,
		}
	case e.Unlimited:
		return Judgement{Result: checks.Fail, Surplus: everybody, Evidence: "is open to every address" + says, Remedy: narrow(p, e, allowed)}
	case len(allowed.Prefixes()) == 0:
		return Judgement{Result: checks.Error, Evidence: "lets in " + listed(e.Ranges) + ", and there is no allow-list to compare with", Remedy: "Set spec.managementAccess.allowedCIDRs"}
	}
	over := surplus(e.Ranges, allowed)
	switch {
	case len(over) > 0:
		return Judgement{
			Result: checks.Fail, Surplus: over, Remedy: narrow(p, e, allowed),
			Evidence: "lets in " + strings.Join(append([]string{surplusText(e.Ranges, over)}, e.Others...), ", and ") + ", which spec.managementAccess.allowedCIDRs does not",
		}
	case len(e.Others) > 0:
		return Judgement{Result: checks.Fail, Evidence: "lets in " + strings.Join(e.Others, ", and ") + says, Remedy: narrow(p, e, allowed)}
	}
	return Judgement{Result: checks.Pass, Evidence: "lets in nobody but allowed addresses: " + listed(e.Ranges)}
}

func prefixSet(prefixes []netip.Prefix) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, p := range prefixes {
		b.AddPrefix(p)
	}
	set, _ := b.IPSet() // an error is of a prefix that is none, and was not added
	return set
}

// surplusText names what is over. A whole address family, less those who are allowed, would be dozens of ranges.
func surplusText(ranges, over []netip.Prefix) string {
	set := prefixSet(ranges)
	var out []string
	for i, family := range []string{"every IPv4 address", "every IPv6 address"} {
		if set.ContainsPrefix(everybody[i]) {
			out = append(out, family)
			over = slices.DeleteFunc(slices.Clone(over), func(p netip.Prefix) bool { return p.Addr().Is4() == (i == 0) })
		}
	}
	if len(over) > 0 {
		out = append(out, listed(over))
	}
	return strings.Join(out, ", ")
}

// listed names ranges, up to a number that can be read. A Judgement has them all.
func listed(ranges []netip.Prefix) string {
	const some = 16
	if len(ranges) == 0 {
		return "nobody"
	}
	var out []string
	for _, p := range ranges[:min(some, len(ranges))] {
		out = append(out, p.String())
	}
	text := strings.Join(out, ", ")
	if more := len(ranges) - some; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// narrow is the command that takes the surplus out, and adds nobody. Where nothing would be left it is the whole allow-list.
func narrow(p *snapshot.ControlPlane, e *snapshot.Entrance, allowed *netipx.IPSet) string {
	if p.Object != "" {
		return edit(p.Object) + ", " + e.Field
	}
	let := e.Ranges
	if e.Unlimited {
		let = everybody
	}
	var b netipx.IPSetBuilder
	b.AddSet(prefixSet(let))
	b.Intersect(allowed)
	set, _ := b.IPSet()
	keep := set.Prefixes()
	if len(keep) == 0 {
		keep = allowed.Prefixes()
	}
	var texts []string
	for _, k := range keep {
		texts = append(texts, k.String())
	}
	list, before := strings.Join(texts, ","), ""
	if list == "" {
		list, before = "ALLOWED_CIDRS", "Set spec.managementAccess.allowedCIDRs, then: "
	}
	c := p.Cluster
	switch c.Cloud {
	case snapshot.EKS: // without the private endpoint, nodes would be locked out that come by the public one
		return before + fmt.Sprintf("aws eks update-cluster-config --region %s --name %s --resources-vpc-config endpointPublicAccess=true,endpointPrivateAccess=true,publicAccessCidrs=%q",
			c.Location, c.Name, list)
	case snapshot.GKE:
		command := gcloud(c) + " --enable-master-authorized-networks --master-authorized-networks=" + list
		if len(e.Others) > 0 {
			command += " --no-enable-google-cloud-access"
		}
		return before + command
	case snapshot.AKS:
		return before + az(c) + " --api-server-authorized-ip-ranges " + list
	}
	return ""
}

// shut is the command that closes an entrance which no list of addresses can limit.
func shut(p *snapshot.ControlPlane, e *snapshot.Entrance) string {
	switch {
	case p.Object != "":
		return edit(p.Object) + ", " + e.Field
	case p.Cluster.Cloud == snapshot.GKE:
		return gcloud(p.Cluster) + " --no-enable-dns-access; or limit it with VPC Service Controls, which are not read, and set spec.managementAccess.attestation"
	case p.Cluster.Cloud == snapshot.AKS:
		return az(p.Cluster) + " --disable-run-command"
	}
	return ""
}

func gcloud(c snapshot.CloudCluster) string {
	return fmt.Sprintf("gcloud container clusters update %s --project=%s --location=%s", c.Name, c.Project, c.Location)
}

func az(c snapshot.CloudCluster) string {
	return fmt.Sprintf("az aks update --subscription %s --resource-group '%s' --name %s", c.Subscription, c.ResourceGroup, c.Name)
}

// edit is for an object by its kind and name.
func edit(object string) string {
	kind, name, _ := strings.Cut(object, " ")
	if namespace, rest, found := strings.Cut(name, "/"); found {
		return fmt.Sprintf("kubectl edit %s -n %s %s", strings.ToLower(kind), namespace, rest)
	}
	return fmt.Sprintf("kubectl edit %s %s", strings.ToLower(kind), name)
}
