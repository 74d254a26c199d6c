// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"reflect"
	"sync"
	"sync/atomic"

	ctrl "sigs.k8s.io/controller-runtime"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	results "github.com/pcinetwork/pci-network-baseline/internal/checks"
	checks "github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
)

// hostLayers are the APIs of policies for nodes.
var hostLayers = []render.HostLayer{calico.Hosts{}, cilium.Hosts{}}

// observeHosts adds to the inventory what a firewall on nodes must know beside it.
func (r *ManagementReconciler) observeHosts(ctx context.Context) {
	engine := r.Platform.Engine()
	r.inventory.Protection = engine.Hosts
	if !engine.Observed {
		r.inventory.Protection.Doubts = []string{"The platform has not been looked at completely yet"}
	}
	var err error
	if r.inventory.Vantage, err = vantage(ctx, r.Asker.Server); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "The operator's own address is not known", "server", r.Asker.Server)
	}
}

// vantage returns the address from which a server is reached: a socket for datagrams has one as soon as it knows its peer, and nothing
// is sent.
func vantage(ctx context.Context, server string) (netip.Addr, error) {
	u, err := url.Parse(server)
	if err != nil {
		return netip.Addr{}, err
	}
	if u.Hostname() == "" { // would be this host
		return netip.Addr{}, fmt.Errorf("%q names no server", server)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "443")))
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = conn.Close() }()
	at, err := netip.ParseAddrPort(conn.LocalAddr().String())
	return at.Addr().Unmap(), err
}

// tellHostFirewall logs what a firewall on nodes would be.
func tellHostFirewall(ctx context.Context, b *pcinetv1alpha1.PCINetworkBaseline, s *checks.Subject) {
	if s.Access == nil || s.Access.HostFirewall != pcinetv1alpha1.HostFirewallAudit {
		return
	}
	for _, object := range hostObjects(s.Protection.Backend, checks.HostFirewall(b.Name, s.Access, &s.Management)) {
		text, err := json.Marshal(object) // an object would be logged by its name alone
		if err != nil {
			continue
		}
		ctrl.LoggerFrom(ctx).Info("A firewall on nodes would have this object, which is not written", "baseline", b.Name, "object", string(text))
	}
}

// hostObjects renders for a policy API; none for one that has no policies for nodes.
func hostObjects(backend string, f policy.HostFirewall) []render.Object {
	if l := hostLayer(backend); l != nil {
		return render.HostFirewall(l, f)
	}
	return nil
}

// hostLayer returns the policies for nodes of a backend; nil where it has none.
func hostLayer(backend string) render.HostLayer {
	for _, l := range hostLayers {
		if l.Name() == backend {
			return l
		}
	}
	return nil
}

// firewalls is what those who judge a firewall on nodes and who enforces it tell each other, by baseline.
type firewalls struct {
	wanted sync.Map // a firewall
	states sync.Map // a firewallState
	// again has everything judged again; changed tells when something else is wanted.
	again   atomic.Pointer[func()]
	changed topic
}

// firewall is what is wanted on nodes for a baseline, and whether it may be enforced.
type firewall struct {
	access *pcinetv1alpha1.ManagementAccess // as it was judged
	policy policy.HostFirewall
	// layer is the API in which it is written; nil while it is not known which engine there is.
	layer render.HostLayer
	fit   trial.Fit
	// servers are the API servers.
	servers []netip.AddrPort
}

// want says what is wanted for a baseline.
func (f *firewalls) want(b *pcinetv1alpha1.PCINetworkBaseline, s *checks.Subject) {
	if !enforcesHosts(b) {
		f.wanted.Delete(b.Name)
		return
	}
	now := firewall{access: s.Access.DeepCopy(), policy: checks.HostFirewall(b.Name, s.Access, &s.Management), layer: hostLayer(s.Protection.Backend), fit: trial.Unknown}
	switch checks.HostFirewallFit(*s) {
	case results.Pass:
		now.fit = trial.Fits
	case results.Fail:
		now.fit = trial.Misfits
	default: // not everything could be seen
	}
	for i := range s.Interfaces {
		if in := &s.Interfaces[i]; in.Role == snapshot.RoleAPIServer {
			now.servers = append(now.servers, in.Address)
		}
	}
	if before, had := f.wanted.Swap(b.Name, now); !had || !reflect.DeepEqual(before, now) {
		f.changed.tell()
	}
}

// of returns what is wanted for a baseline as it is now, if that has been judged.
func (f *firewalls) of(b *pcinetv1alpha1.PCINetworkBaseline) (firewall, bool) {
	value, _ := f.wanted.Load(b.Name)
	wanted, known := value.(firewall)
	return wanted, known && reflect.DeepEqual(wanted.access, b.Spec.ManagementAccess)
}

// firewallState is how far a firewall is.
type firewallState struct {
	of    policy.HostFirewall
	state snapshot.Firewall
}

// tell says how far a firewall is.
func (f *firewalls) tell(of policy.HostFirewall, state snapshot.Firewall) (changed bool) {
	now := firewallState{of, state}
	if before, had := f.states.Swap(of.Baseline, now); had && reflect.DeepEqual(before, now) {
		return false
	}
	if again := f.again.Load(); again != nil {
		(*again)()
	}
	return true
}

// stateOf returns how far a firewall is; nothing if what was said is of another one, as of the list before: that it is kept says nothing of this.
func (f *firewalls) stateOf(of policy.HostFirewall) snapshot.Firewall {
	value, _ := f.states.Load(of.Baseline)
	if now, _ := value.(firewallState); reflect.DeepEqual(now.of, of) {
		return now.state
	}
	return snapshot.Firewall{}
}

// enforcesHosts says whether a baseline asks for a firewall on nodes.
func enforcesHosts(b *pcinetv1alpha1.PCINetworkBaseline) bool {
	a := b.Spec.ManagementAccess
	return a != nil && a.HostFirewall == pcinetv1alpha1.HostFirewallEnforce && b.DeletionTimestamp.IsZero()
}
