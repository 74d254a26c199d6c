// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const uncertain = "Which policy engine there is, or how it is set up, is not certain: see the condition PolicyEngineSupported"

// protectHosts says what the engine, if there is one, does with policies for nodes. It judges what is in effect, not what asks for it.
func (a *Assessment) protectHosts(f *Found) {
	switch {
	case f != nil && f.Native == Cilium:
		a.Hosts = ciliumHosts(f)
	case f != nil && f.Native == Calico:
		a.Hosts = calicoHosts(f)
	}
	if a.Hosts.Backend == "" {
		if !a.Certain {
			a.Hosts.Doubts = append(a.Hosts.Doubts, uncertain)
		}
		return
	}
	switch v := a.Verdict(f.Native); {
	case !a.Certain, v.Status == metav1.ConditionUnknown:
		a.Hosts.Doubts = append(a.Hosts.Doubts, uncertain)
	case v.Status == metav1.ConditionFalse:
		a.Hosts.Obstacles = append(a.Hosts.Obstacles, "The policy engine does not enforce policies: see the condition PolicyEngineSupported")
	}
}

// ciliumHosts: a policy for nodes is accepted, and does nothing, unless the host firewall is on, on every node; and it
// would close every port that it does not name if the agent did not heed enableDefaultDeny.
func ciliumHosts(f *Found) snapshot.HostProtection {
	out := snapshot.HostProtection{Backend: string(Cilium), ByIdentity: true}
	layers, err := ciliumLayers(f)
	if err != nil {
		out.Doubts = append(out.Doubts, err.Error())
		return out
	}
	for _, s := range []struct{ key, unset, remedy string }{
		{"enable-host-firewall", "false", "Cilium accepts policies for nodes and ignores them. Set it to \"true\" and restart the agents"},
		{"enable-non-default-deny-policies", "true", "a policy for nodes would close every port that it does not name. Set it to \"true\""},
		{"enable-cilium-clusterwide-network-policy", "true", "Cilium reads no policies for nodes. Set it to \"true\""},
	} {
		for _, l := range layers {
			v, set := l.values[s.key]
			if !set {
				v = ciliumValue{s.unset, f.DaemonSet.String() + " by default"}
			}
			on, err := strconv.ParseBool(strings.TrimSpace(v.value))
			switch {
			case err != nil:
				out.Doubts = append(out.Doubts, fmt.Sprintf("%s: %s: %q is neither true nor false", v.from, s.key, v.value))
			case !on:
				out.Obstacles = append(out.Obstacles, fmt.Sprintf("%s has %s: %q%s: %s", v.from, s.key, v.value, onNodes(l.nodes), s.remedy))
			}
		}
	}
	// enableDefaultDeny is of Cilium 1.16.
	if at, known := minor(f.Version()); !known {
		out.Doubts = append(out.Doubts, fmt.Sprintf("The version of %s cannot be told from its image: before 1.16 a policy for nodes would close every port that it does not name", f.DaemonSet))
	} else if at < 16 {
		out.Obstacles = append(out.Obstacles, fmt.Sprintf("%s is %s: before 1.16 a policy for nodes would close every port that it does not name. Upgrade Cilium", f.DaemonSet, f.Version()))
	}
	return out
}

// minor returns the minor version of version 1 of Cilium.
func minor(tag string) (int, bool) {
	rest, isFirst := strings.CutPrefix(strings.TrimPrefix(tag, "v"), "1.")
	number, _, _ := strings.Cut(rest, ".")
	at, err := strconv.Atoi(number)
	return at, isFirst && err == nil
}

// calicoHosts: policies for nodes are for host endpoints, and what failsafe ports let in never meets them.
func calicoHosts(f *Found) snapshot.HostProtection {
	out := snapshot.HostProtection{Backend: string(Calico)}
	hostEndpoints(f, &out)
	if !f.calicoTiers() {
		out.Obstacles = append(out.Obstacles, "The API server does not serve tiers.projectcalico.org: a policy for nodes needs a tier of its own, or it closes every port that it does not name. Upgrade Calico")
	}
	out.PodRanges = calicoPools(f)
	calicoFailsafe(f, &out)
	for _, v := range felix(f, "ipv6Support") {
		if slices.Contains([]string{"false", "0", "no", "n", "f"}, strings.ToLower(v.value)) { // felix/config/param_types.go, BoolParam
			out.IPv4Only = v.from
		}
	}
	return out
}

// calicoPools returns the ranges that pods get their addresses from.
func calicoPools(f *Found) (out []netip.Prefix) {
	for _, o := range f.objects(calicoSource(f, snapshot.KindIPPool, "")) {
		if p, err := netip.ParsePrefix(text(field(&o, "spec", "cidr"))); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// hostEndpoints tells which nodes policies reach, and whether those of the trial are the labelled ones.
func hostEndpoints(f *Found, out *snapshot.HostProtection) {
	endpoints := calicoSource(f, snapshot.KindHostEndpoint, "")
	has, tried := map[string]bool{}, map[string]string{}
	for i := range f.Nodes {
		tried[f.Nodes[i].Name] = f.Nodes[i].Labels[policy.LabelHostFirewall]
	}
	for _, o := range f.objects(endpoints) {
		node := text(field(&o, "spec", "node"))
		has[node] = has[node] || text(field(&o, "spec", "interfaceName")) == "*" // one of an interface leaves the others open
		if o.Data[policy.LabelHostFirewall] != tried[node] {                     // one that Calico makes has the labels of its node
			out.Obstacles = append(out.Obstacles, fmt.Sprintf("%s has the label %s=%q, and its node %s has %q: what is tried on labelled nodes goes by the labels of host endpoints. Make them the same",
				o.String(), policy.LabelHostFirewall, o.Data[policy.LabelHostFirewall], node, tried[node]))
		}
	}
	var without, joining []string
	for i := range f.Nodes {
		switch n := &f.Nodes[i]; {
		case Excluded(n) != "" || has[n.Name]:
		case n.Ready:
			without = append(without, n.Name)
		default: // Calico makes one once it runs there
			joining = append(joining, n.Name)
		}
	}
	if len(joining) > 0 {
		out.Doubts = append(out.Doubts, fmt.Sprintf("There is no HostEndpoint for all interfaces of %s yet, and it is not Ready: policies for nodes do not reach it", some(joining)))
	}
	if len(without) > 0 {
		out.Obstacles = append(out.Obstacles, fmt.Sprintf("There is no HostEndpoint for all interfaces of %s, so policies for nodes do not reach it: "+
			"kubectl patch kubecontrollersconfiguration default --type=merge -p '{\"spec\":{\"controllers\":{\"node\":{\"hostEndpoint\":{\"autoCreate\":\"Enabled\"}}}}}'", some(without)))
	}
}

// calicoTiers says whether tiers are served. An API server of Calico's own has no definitions for what it serves, so there the
// storage tells.
func (f *Found) calicoTiers() bool {
	return f.Has("tiers."+calicoV3Group) || f.Has("tiers.crd.projectcalico.org")
}

// failsafe is Felix's own list of TCP ports (felix/config/config_params.go, FailsafeInboundHostPorts).
var failsafe = []string{"22", "179", "2379", "2380", "5473", "6443", "6666", "6667"}

// calicoFailsafe tells which ports are open before any policy: as the environment of calico-node says, or each
// FelixConfiguration, or else Felix itself. An empty variable is a list of none, unlike for other settings: RKE2's Canal has that.
func calicoFailsafe(f *Found, out *snapshot.HostProtection) {
	const key, variable = "failsafeInboundHostPorts", "FELIX_FAILSAFEINBOUNDHOSTPORTS"
	for name, value := range f.Agent.Env {
		if strings.EqualFold(name, variable) {
			list := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
			keepOpen(out, "env "+name+" of "+f.DaemonSet.String(), list)
			return
		}
	}
	global := false
	for _, o := range f.objects(calicoSource(f, snapshot.KindFelixConfiguration, "")) {
		value, given := field(&o, "spec", key).([]any)
		if !given || (o.Name != "default" && !strings.HasPrefix(o.Name, "node.")) {
			continue
		}
		global = global || o.Name == "default"
		var list []string
		for _, entry := range value {
			m, _ := entry.(map[string]any)
			list = append(list, fmt.Sprintf("%s:%s:%v", cmp.Or(text(m["protocol"]), "tcp"), text(m["net"]), m["port"]))
		}
		keepOpen(out, o.String()+", "+key, list)
	}
	if !global {
		keepOpen(out, f.DaemonSet.String()+" by default, as FelixConfiguration default has no "+key, failsafe)
	}
}

// keepOpen notes the TCP ports of a list of failsafe ports in the form of Felix's variable: port, protocol:port or
// protocol:range:port, the last with an empty range for everybody.
func keepOpen(out *snapshot.HostProtection, object string, list []string) {
	if len(list) == 0 || (len(list) == 1 && strings.EqualFold(list[0], "none")) {
		out.Unsaved = object
		return
	}
	for _, entry := range list {
		protocol, rest, both := strings.Cut(entry, ":")
		if !both {
			protocol, rest = "tcp", entry
		}
		at := strings.LastIndexByte(rest, ':')
		port, err := strconv.ParseUint(rest[at+1:], 10, 16)
		var nets []netip.Prefix
		if of := strings.Trim(rest[:max(0, at)], "[]"); of != "" && err == nil {
			var net netip.Prefix
			net, err = netip.ParsePrefix(of)
			nets = []netip.Prefix{net}
		} else {
			nets = []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
		}
		if err != nil {
			out.Doubts = append(out.Doubts, fmt.Sprintf("%s has %q, which is no failsafe port", object, entry))
			continue
		}
		for _, n := range nets {
			if strings.EqualFold(protocol, "tcp") {
				out.Open = append(out.Open, snapshot.OpenPort{Port: int32(port), Net: n, Object: object})
			}
		}
	}
}
