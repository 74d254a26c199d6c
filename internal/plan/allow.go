// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// nodeLocalPort is where node-local caches listen; their clients use the resolver's port, which cannot be configured.
const nodeLocalPort = 53

// addDNS lets every pod ask the cluster's DNS servers. Pods are selected rather than addressed, so that a rollout of the
// DNS servers changes nothing here.
func (b *Baseline) addDNS(s *policy.Set, dns snapshot.DNS) {
	if b.Spec.Allow.DNS == pcinetv1alpha1.DNSAllowanceNone {
		return
	}
	p := policy.Policy{Name: "allow-dns", Role: policy.Allowance}
	for _, server := range dns.Servers {
		p.Rules = appendRule(p.Rules, policy.Rule{
			Direction: policy.Egress,
			Peers:     dnsPeers(server),
			Ports:     dnsPorts(server.Ports),
		})
	}
	p.Rules = appendRule(p.Rules, policy.Rule{
		Direction: policy.Egress,
		Peers:     addressPeers(dns.NodeLocal, policy.OwnNode),
		Ports: []policy.Port{
			{Protocol: policy.UDP, First: nodeLocalPort, Last: nodeLocalPort},
			{Protocol: policy.TCP, First: nodeLocalPort, Last: nodeLocalPort},
		},
	})
	if len(p.Rules) > 0 {
		s.Allowances = append(s.Allowances, p)
		return
	}
	message := "No DNS Service with a known pod port was found in kube-system or openshift-dns: pods cannot resolve names. " +
		"Check the cluster's DNS, or set spec.allow.dns to None and allow your DNS servers with a rule."
	if len(dns.Unresolved) > 0 {
		message = fmt.Sprintf("The DNS Service %s has no endpoints, so the port of its pods is not known. Check its pods.", dns.Unresolved[0])
	}
	s.Omitted = append(s.Omitted, policy.Omission{Name: p.Name, Reason: pcinetv1alpha1.ReasonDNSNotFound, Message: message})
}

func dnsPeers(server snapshot.DNSServer) []policy.Peer {
	peers := addressPeers(server.Addresses, "")
	if len(server.Selector) > 0 {
		peers = append(peers, policy.Peer{Pods: &policy.PodPeer{
			Namespaces: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: server.Namespace}},
			Pods:       &metav1.LabelSelector{MatchLabels: server.Selector},
		}})
	}
	return peers
}

func dnsPorts(in []snapshot.Port) []policy.Port {
	out := make([]policy.Port, 0, len(in))
	for _, p := range in {
		out = append(out, policy.Port{Protocol: policy.Protocol(p.Protocol), First: p.Port, Last: p.Port})
	}
	return out
}

// addressPeers returns one peer for each address alone.
func addressPeers(addrs []netip.Addr, place policy.Place) []policy.Peer {
	out := make([]policy.Peer, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, policy.Peer{CIDR: netip.PrefixFrom(a, a.BitLen()), Place: place})
	}
	return out
}

// appendRule adds a rule unless it allows nothing.
func appendRule(rules []policy.Rule, r policy.Rule) []policy.Rule {
	r = r.Canonical()
	if len(r.Peers) == 0 || len(r.Ports) == 0 {
		return rules
	}
	return append(rules, r)
}

// apiServerAllowance is the allowance's name in subjects and in its policy.
func apiServerAllowance(name pcinetv1alpha1.AllowanceName) string {
	return "kube-apiserver-" + string(name)
}

// addKubeAPIServer lets the listed pods reach the API server's endpoints: policies see packets after the Service's
// address was translated, so its ClusterIP would match nothing.
func (b *Baseline) addKubeAPIServer(s *policy.Set, ns snapshot.Namespace, endpoints []snapshot.Endpoint) {
	for _, a := range b.Spec.Allow.KubeAPIServer {
		name := apiServerAllowance(a.Name)
		if !b.selects(name, ns) {
			continue
		}
		p := policy.Policy{Name: "allow-" + name, Role: policy.Allowance}
		if a.PodSelector == nil { // the CRD requires it; never read its absence as "every pod"
			s.Omitted = append(s.Omitted, policy.Omission{
				Name:    p.Name,
				Reason:  pcinetv1alpha1.ReasonInvalidSpec,
				Message: fmt.Sprintf("spec.allow.kubeAPIServer %s has no podSelector. Add one.", a.Name),
			})
			continue
		}
		p.Pods = *selector(a.PodSelector)
		for _, e := range endpoints {
			p.Rules = appendRule(p.Rules, policy.Rule{
				Direction: policy.Egress,
				Peers:     addressPeers([]netip.Addr{e.Address}, policy.KubeAPIServer),
				Ports:     []policy.Port{{Protocol: policy.TCP, First: e.Port, Last: e.Port}},
			})
		}
		if len(p.Rules) == 0 {
			s.Omitted = append(s.Omitted, policy.Omission{
				Name:    p.Name,
				Reason:  pcinetv1alpha1.ReasonAPIServerNotFound,
				Message: "The EndpointSlices of the Service default/kubernetes hold no address, so the API server cannot be allowed. Check kubectl get endpointslices -n default.",
			})
			continue
		}
		s.Allowances = append(s.Allowances, p)
	}
}

func (b *Baseline) addRules(s *policy.Set, ns snapshot.Namespace) {
	for _, r := range b.Spec.Allow.Rules {
		if !b.selects(string(r.Name), ns) {
			continue
		}
		p := policy.Policy{Name: "allow-" + string(r.Name), Role: policy.Allowance, Justification: r.Justification}
		if r.Subject != nil && r.Subject.PodSelector != nil {
			p.Pods = *selector(r.Subject.PodSelector)
		}
		rule, err := rule(r)
		if err == nil {
			rule = rule.Canonical()
			if len(rule.Peers) == 0 || len(rule.Ports) == 0 {
				err = errors.New("its peers or ports match nothing")
			}
		}
		if err != nil {
			s.Omitted = append(s.Omitted, policy.Omission{
				Name:    p.Name,
				Reason:  pcinetv1alpha1.ReasonInvalidSpec,
				Message: fmt.Sprintf("spec.allow.rules %s: %v. Correct the rule.", r.Name, err),
			})
			continue
		}
		p.Rules = []policy.Rule{rule}
		s.Allowances = append(s.Allowances, p)
	}
}

// rule converts a rule of the API. Errors are for specs that got past the CRD's validation, such as objects written
// under an older CRD.
func rule(r pcinetv1alpha1.AllowRule) (policy.Rule, error) {
	out := policy.Rule{Direction: policy.Direction(r.Direction)}
	for i, p := range r.Peers {
		peer, err := peer(p)
		if err != nil {
			return policy.Rule{}, fmt.Errorf("peers[%d]: %w", i, err)
		}
		out.Peers = append(out.Peers, peer)
	}
	for _, p := range r.Ports {
		port := policy.Port{Protocol: policy.Protocol(p.Protocol), First: p.Port, Last: p.Port}
		if p.EndPort != 0 {
			port.Last = p.EndPort
		}
		out.Ports = append(out.Ports, port)
	}
	if len(out.Peers) == 0 || len(out.Ports) == 0 {
		return policy.Rule{}, fmt.Errorf("peers and ports must both be given")
	}
	return out, nil
}

func peer(p pcinetv1alpha1.Peer) (policy.Peer, error) {
	selects := p.NamespaceSelector != nil || p.PodSelector != nil
	if selects && (p.CIDR != "" || len(p.Except) > 0) {
		return policy.Peer{}, fmt.Errorf("a peer is either a cidr or selectors, not both")
	}
	if p.CIDR == "" {
		if !selects {
			return policy.Peer{}, fmt.Errorf("neither cidr nor a selector is given")
		}
		return policy.Peer{Pods: &policy.PodPeer{Namespaces: selector(p.NamespaceSelector), Pods: selector(p.PodSelector)}}, nil
	}
	prefix, err := netip.ParsePrefix(string(p.CIDR))
	if err != nil {
		return policy.Peer{}, fmt.Errorf("cidr: %w", err)
	}
	out := policy.Peer{CIDR: prefix.Masked()}
	for _, e := range p.Except {
		except, err := netip.ParsePrefix(string(e))
		if err != nil {
			return policy.Peer{}, fmt.Errorf("except: %w", err)
		}
		out.Except = append(out.Except, except.Masked())
	}
	return out, nil
}
