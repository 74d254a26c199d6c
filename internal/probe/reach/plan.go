// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/facts/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// httpsPort is that of an API server whose URL names none.
const httpsPort = "443"

// PlanOf finds what there is to look at by the cluster's own objects, as the operator does, and beside it what only counts from outside: the
// API server as a kubeconfig names it, external addresses of nodes, and what leads to consoles. Addresses of pods are somebody else's
// where no route leads to them, so they are left out unless pods says that one does. Cost: as [management.Take], and the list of nodes.
func PlanOf(ctx context.Context, r client.Reader, server string, pods bool) (Plan, error) {
	var p Plan
	var baselines pcinetv1alpha1.PCINetworkBaselineList
	if err := r.List(ctx, &baselines); err != nil {
		return p, fmt.Errorf("listing baselines: %w", err)
	}
	for i := range baselines.Items {
		if a := baselines.Items[i].Spec.ManagementAccess; a != nil && len(a.AllowedCIDRs) > 0 {
			p.Lists = append(p.Lists, prefixes(a))
		}
	}
	nodes, err := addressesOfNodes(ctx, r)
	if err != nil {
		return p, fmt.Errorf("listing nodes: %w", err)
	}
	m := management.Take(ctx, r, management.Declared(baselines.Items))
	p.missing(m)
	external := externals(nodes)
	for _, i := range m.Interfaces {
		if i.UDP || (i.Pod && !pods) {
			continue
		}
		role := string(i.Role)
		if i.System != "" {
			role = i.System
		}
		p.add(Interface{Address: i.Address, Role: role, Object: i.Object, kind: i.Role})
		for _, a := range external[i.Address.Addr()] {
			p.add(Interface{Address: netip.AddrPortFrom(a, i.Address.Port()), Role: role, Object: i.Object})
		}
	}
	for _, d := range m.Doors {
		if d.Kind == "Ingress" { // whose controller answers everybody, and decides by request
			continue
		}
		p.door(ctx, d, nodes)
	}
	return p, p.server(ctx, server)
}

// addressesOfNodes lists nodes in pages, and keeps nothing of them but their addresses: the rest is much.
func addressesOfNodes(ctx context.Context, r client.Reader) ([]corev1.Node, error) {
	const page = 500
	var out []corev1.Node
	for more := ""; ; {
		var list corev1.NodeList
		if err := r.List(ctx, &list, client.Limit(page), client.Continue(more)); err != nil {
			return nil, err
		}
		for i := range list.Items {
			out = append(out, corev1.Node{Status: corev1.NodeStatus{Addresses: list.Items[i].Status.Addresses}})
		}
		if more = list.Continue; more == "" {
			return out, nil
		}
	}
}

// missing notes what could not be found.
func (p *Plan) missing(m *snapshot.Management) {
	for _, g := range m.Gaps {
		p.Missing = append(p.Missing, g.What+": "+g.Why)
		if !g.Minor {
			p.gaps++
		}
	}
	for _, a := range m.Absent {
		p.Missing = append(p.Missing, "Service "+a+": a baseline's spec.managementEncryption.supportingSystems has it, and the list of Services does not")
	}
}

// door adds where a door is. One that has no address yet, or whose name nobody knows, is missing.
func (p *Plan) door(ctx context.Context, d snapshot.Door, nodes []corev1.Node) {
	for _, a := range doorsOf(d, nodes) {
		p.add(Interface{Address: a, Role: d.System, Object: d.Object})
	}
	for _, name := range d.Names {
		if err := p.Target(ctx, name, d.System, d.Object); err != nil {
			p.Missing = append(p.Missing, d.Object+": "+err.Error())
		}
	}
	if d.Awaited {
		p.Missing = append(p.Missing, d.Object+": it has no address yet")
	}
}

func (p *Plan) add(t Interface) {
	if !slices.Contains(p.Targets, t) {
		p.Targets = append(p.Targets, t)
	}
}

// server adds the API server as its clients outside of the cluster know it.
func (p *Plan) server(ctx context.Context, server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" {
		return fmt.Errorf("the API server's URL %q: %w", server, errors.Join(err, errors.New("it has no host")))
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.IsLoopback() {
		p.Missing = append(p.Missing, "The API server as its clients outside know it: the kubeconfig names a tunnel on this host")
		return nil
	}
	port := u.Port()
	if port == "" {
		port = httpsPort
	}
	return p.Target(ctx, net.JoinHostPort(u.Hostname(), port), string(snapshot.RoleAPIServer), "the kubeconfig")
}

// Target adds a host and port, which may be a name: every address of it.
func (p *Plan) Target(ctx context.Context, target, role, object string) error {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		p.add(Interface{Address: netip.AddrPortFrom(a.Unmap(), uint16(number)), Role: role, Object: object})
	}
	return nil
}

func prefixes(a *pcinetv1alpha1.ManagementAccess) []netip.Prefix {
	out := []netip.Prefix{} // not nil: a list of which nothing parses allows nobody
	for _, c := range a.AllowedCIDRs {
		if p, err := netip.ParsePrefix(string(c.CIDR)); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// externals returns the addresses of nodes in front of the cluster, by each of their internal ones.
func externals(nodes []corev1.Node) map[netip.Addr][]netip.Addr {
	out := map[netip.Addr][]netip.Addr{}
	for i := range nodes {
		for _, in := range addressesOf(&nodes[i], corev1.NodeInternalIP) {
			out[in] = addressesOf(&nodes[i], corev1.NodeExternalIP)
		}
	}
	return out
}

func addressesOf(n *corev1.Node, kind corev1.NodeAddressType) []netip.Addr {
	var out []netip.Addr
	for _, a := range n.Status.Addresses {
		if parsed, err := netip.ParseAddr(a.Address); err == nil && a.Type == kind {
			out = append(out, parsed)
		}
	}
	return out
}

// doorsOf returns where a door is: what a load balancer was given, and its node ports, at all addresses of one node: kube-proxy opens
// them on every one.
func doorsOf(d snapshot.Door, nodes []corev1.Node) []netip.AddrPort {
	out := slices.Clone(d.Addresses)
	if len(nodes) == 0 {
		return out
	}
	for _, a := range slices.Concat(addressesOf(&nodes[0], corev1.NodeInternalIP), addressesOf(&nodes[0], corev1.NodeExternalIP)) {
		for _, port := range d.NodePorts {
			out = append(out, netip.AddrPortFrom(a, port))
		}
	}
	return out
}
