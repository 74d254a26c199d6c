// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"go4.org/netipx"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// consolesRestricted (4.2; PCI DSS 1.3.1, 1.4.2): whatever leads from outside to a console lets in nobody who is not on the allow-list.
func consolesRestricted(s Subject, v *verdicts) {
	allowed := allowedSet(s.Access)
	for _, d := range s.Doors {
		subject := d.Object
		leads := fmt.Sprintf("it leads to %s by %s", d.System, d.Kind)
		switch {
		case len(d.Ranges) == 0 && d.Internal:
			v.unseen(subject, leads+" with an internal load balancer, and lets in everybody who can reach that", "Limit it: "+limit(d))
		case len(d.Ranges) == 0:
			v.fail(pcinetv1alpha1.ReasonConsoleExposed, subject, leads+" and lets in everybody who can reach it", "Limit it to spec.managementAccess.allowedCIDRs: "+limit(d))
		case len(s.Access.AllowedCIDRs) == 0:
			v.unseen(subject, leads+" for some addresses, and there is no allow-list to compare them with", "Set spec.managementAccess.allowedCIDRs")
		default:
			if surplus := surplus(d.Ranges, allowed); len(surplus) > 0 {
				v.fail(pcinetv1alpha1.ReasonConsoleExposed, subject,
					fmt.Sprintf("%s and lets in %s, which spec.managementAccess.allowedCIDRs does not", leads, join(surplus)), "Take them out, or declare them: "+limit(d))
				continue
			}
			within(v, d, leads)
		}
	}
}

// within judges a door that lets in allowed addresses alone, as far as what says so is heeded.
func within(v *verdicts, d snapshot.Door, leads string) {
	const reason = pcinetv1alpha1.ReasonManagementNotObservable
	switch {
	case d.By != "":
		v.warn(reason, d.Object, leads+" for allowed addresses alone, if its controller heeds "+d.By, "See that it does: kubectl get ingressclass")
	case d.Kind == "LoadBalancer" && len(d.NodePorts) > 0:
		v.warn(reason, d.Object, leads+" for allowed addresses alone, and by its node ports for everybody who reaches a node",
			"See that a firewall is in front of nodes, or set allocateLoadBalancerNodePorts: false, where its load balancer needs none")
	default:
		v.add(checks.Pass, pcinetv1alpha1.ReasonAccessRestricted, d.Object, leads+" for allowed addresses alone", "")
	}
}

// limit says how the door is narrowed.
func limit(d snapshot.Door) string {
	kind, object, _ := strings.Cut(d.Object, " ")
	namespace, name, _ := strings.Cut(object, "/")
	edit := fmt.Sprintf("kubectl edit %s -n %s %s", strings.ToLower(kind), namespace, name)
	switch d.Kind {
	case "LoadBalancer":
		return edit + ", spec.loadBalancerSourceRanges"
	case "Ingress":
		return edit + ", the annotation of its controller for source ranges"
	default:
		return edit + "; it cannot be limited, so make it a ClusterIP"
	}
}

func allowedSet(a *pcinetv1alpha1.ManagementAccess) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, c := range a.AllowedCIDRs {
		if p, err := netip.ParsePrefix(string(c.CIDR)); err == nil { // what the API server's rule lets through, does
			b.AddPrefix(p)
		}
	}
	set, _ := b.IPSet() // an error is of what was not added
	return set
}

// surplus returns what of ranges is not allowed, as few ranges as say it.
func surplus(ranges []netip.Prefix, allowed *netipx.IPSet) []netip.Prefix {
	var b netipx.IPSetBuilder
	for _, p := range ranges {
		b.AddPrefix(p)
	}
	b.RemoveSet(allowed)
	set, _ := b.IPSet()
	return set.Prefixes()
}

// join names the first few ranges.
func join(ranges []netip.Prefix) string {
	const some = 3
	var out []string
	for _, p := range ranges[:min(len(ranges), some)] {
		out = append(out, p.String())
	}
	text := strings.Join(out, ", ")
	if more := len(ranges) - some; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// apiServerPrivate (4.2; PCI DSS 1.4.2): an address of the Internet is reached from there, unless a firewall is in between. It is for an
// assessor to see, and no verdict: a private one may be forwarded to. What is in front of an API server, such as a load balancer, has a name or
// an address in its certificate.
func apiServerPrivate(s Subject, v *verdicts) {
	const firewall = "See that a firewall lets in spec.managementAccess.allowedCIDRs alone"
	reason := pcinetv1alpha1.ReasonManagementNotObservable
	for n := range s.Interfaces {
		i := &s.Interfaces[n]
		switch {
		case i.Role != snapshot.RoleAPIServer:
		case Public(i.Address.Addr()):
			v.warn(reason, name(i), "its address is one of the Internet", firewall)
		default:
			v.skip(name(i), "its address is none of the Internet, which says nothing of forwarded ones")
		}
	}
	published(s, v)
	for _, known := range s.ServerNames {
		a, err := netip.ParseAddr(known)
		switch {
		case err == nil && Public(a):
			v.warn(reason, "API server "+known, "its certificate is for this address, which is one of the Internet", firewall)
		case s.Public[known]:
			v.warn(reason, "API server "+known, "its certificate is for this name, which has an address of the Internet", firewall)
		}
	}
}

// published judges what kubeadm tells everybody of the API server, so that nodes can join.
func published(s Subject, v *verdicts) {
	const subject = "ConfigMap kube-public/cluster-info"
	if s.APIServer.Told != http.StatusOK {
		return
	}
	v.warn(pcinetv1alpha1.ReasonManagementNotObservable, subject, "it tells everybody, without credentials, where the API server is and who speaks for it",
		"Where no node joins by a token any more: kubectl delete rolebinding -n kube-public kubeadm:bootstrap-signer-clusterinfo. kubeadm upgrade makes it again")
	for _, host := range s.APIServer.Published {
		if a, err := netip.ParseAddr(host); (err == nil && Public(a)) || s.Public[host] {
			v.warn(pcinetv1alpha1.ReasonManagementNotObservable, subject, "it has clients reach the API server at "+host+", which is of the Internet",
				"See that a firewall lets in spec.managementAccess.allowedCIDRs alone")
		}
	}
}

// Public says whether an address is one of the Internet.
func Public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && !sharedSpace.Contains(a)
}

// behindTheList are the interfaces that pods need not reach. The API server is not among them: it is for whoever has an account there.
var behindTheList = []snapshot.Role{snapshot.RoleEtcd, snapshot.RoleKubelet, snapshot.RoleScheduler, snapshot.RoleControllerManager, snapshot.RoleKonnectivity, snapshot.RoleNetworkAgent}

// closedToPods (4.2; PCI DSS 1.3.1): interfaces that a pod reaches whose address is not on the allow-list. The pod is the operator's, which policies
// of its namespace may let through more than others, so it is for an assessor to see, and no verdict.
func closedToPods(s Subject, v *verdicts) {
	if s.Encryption == nil || !s.Vantage.IsValid() || len(s.Access.AllowedCIDRs) == 0 || allowedSet(s.Access).Contains(s.Vantage) {
		return // nobody has looked, or there is nothing to compare
	}
	from := "the operator's pod " + s.Vantage.String() + ", which spec.managementAccess.allowedCIDRs does not hold"
	for _, role := range behindTheList {
		answer, looked := answering(s, role)
		switch subject := "Every " + string(role); {
		case len(answer) > 0:
			v.warn(pcinetv1alpha1.ReasonManagementNotObservable, subject, some(answer)+": it answers "+from,
				"Close it with a firewall on nodes, spec.managementAccess.hostFirewall, or see that policies let no other pod through")
		case looked:
			v.skip(subject, "none answers "+from)
		}
	}
}

// answering returns where an interface answered the operator, and whether it was dialled anywhere.
func answering(s Subject, role snapshot.Role) (answer []string, looked bool) {
	for n := range s.Interfaces {
		i := &s.Interfaces[n]
		if i.Role != role || i.Sight.Speech == "" || i.Sight.Speech == snapshot.SpeechNotDialled {
			continue
		}
		looked = true
		if i.Sight.Speech != snapshot.SpeechClosed && i.Sight.Speech != snapshot.SpeechUnreachable {
			answer = append(answer, i.Address.String())
		}
	}
	return answer, looked
}

// sharedSpace is RFC 6598's, which providers give to control planes.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// accessDeclared (4.2): there is an allow-list, and the cloud that runs the API server says that it is in force. Where no cloud is asked
// somebody says so: the API server itself knows no list, and firewalls are not in the cluster.
func accessDeclared(s Subject, v *verdicts) {
	const subject = "Who can reach the API server from outside"
	switch {
	case len(s.Access.AllowedCIDRs) == 0:
		v.add(checks.Error, pcinetv1alpha1.ReasonAccessNotDeclared, "spec.managementAccess", "there is no allow-list", "Set allowedCIDRs, each with a name and a justification")
	case s.Cloud == nil:
		attested(s, v, Judgement{
			Subject: subject, Evidence: "no object of the cluster shows it",
			Remedy: "Compare the firewall or the cloud's authorised networks with allowedCIDRs, and set spec.managementAccess.attestation" + orAsk(s.Access),
		})
	case restrictedBy(s):
		v.add(checks.Pass, pcinetv1alpha1.ReasonAccessRestricted, subject, s.Cloud.Cluster.String()+" says that it lets in nobody but spec.managementAccess.allowedCIDRs", "")
	}
}

// orAsk is for who has not said that no cloud is to be asked.
func orAsk(a *pcinetv1alpha1.ManagementAccess) string {
	if a.Cloud != nil && a.Cloud.Provider == pcinetv1alpha1.CloudNone {
		return ""
	}
	return ", or let the cloud be asked with spec.managementAccess.cloud: {}"
}

// attested is what somebody's word makes of what cannot be seen.
func attested(s Subject, v *verdicts, unseen Judgement) {
	a := s.Access.Attestation
	const expired = pcinetv1alpha1.ReasonAttestationExpired
	switch {
	case a.By == "":
		v.unseen(unseen.Subject, unseen.Evidence, unseen.Remedy)
	case !a.Until.After(s.Now):
		v.add(checks.Error, expired, unseen.Subject, "the attestation of "+a.By+" has expired", "Look again, and renew spec.managementAccess.attestation")
	case a.At.After(s.Now):
		v.add(checks.Error, expired, unseen.Subject, "the attestation of "+a.By+" is dated in the future", "Correct spec.managementAccess.attestation.at")
	default:
		v.add(checks.Pass, pcinetv1alpha1.ReasonAccessAttested, unseen.Subject, "attested by "+a.By+", not verified: "+a.Evidence, "")
	}
}
