// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// protection describes what the engine does for nodes, a line for each part.
func protection(p snapshot.HostProtection) []string {
	out := []string{"backend " + p.Backend}
	for _, o := range p.Obstacles {
		out = append(out, "obstacle: "+o)
	}
	for _, d := range p.Doubts {
		out = append(out, "doubt: "+d)
	}
	for _, o := range p.Open {
		out = append(out, fmt.Sprintf("open: %d to %s by %s", o.Port, o.Net, o.Object))
	}
	if p.Unsaved != "" {
		out = append(out, "unsaved: "+p.Unsaved)
	}
	if p.IPv4Only != "" {
		out = append(out, "IPv4 only: "+p.IPv4Only)
	}
	return out
}

// matches says whether each line begins with the wanted one, and none is missing.
func matches(got, want []string) bool {
	return slices.EqualFunc(got, want, strings.HasPrefix)
}

func TestHostsOfCilium(t *testing.T) {
	t.Parallel()
	const firewall = "enable-host-firewall"
	on := settings(firewall, "true")
	const off = "obstacle: ConfigMap kube-system/cilium-config has enable-host-firewall: \"false\": Cilium accepts policies for nodes and ignores them."
	cases := map[string]struct {
		config  snapshot.Reading
		configs []snapshot.Object
		image   string
		flag    string // of the agent
		want    []string
	}{
		"the host firewall is on":               {config: on},
		"it is off":                             {config: settings(firewall, "false"), want: []string{off}},
		"unset, it is off":                      {config: settings(), want: []string{"obstacle: DaemonSet kube-system/cilium by default has enable-host-firewall"}},
		"it is off on one node":                 {config: on, configs: []snapshot.Object{nodeConfig("c", firewall, "false")}, want: []string{"obstacle: CiliumNodeConfig kube-system/c has enable-host-firewall: \"false\" on node a"}},
		"one node alone has it on":              {config: settings(firewall, "false"), configs: []snapshot.Object{nodeConfig("c", firewall, "true")}, want: []string{off}},
		"an argument has the last word":         {config: on, flag: "false", want: []string{"obstacle: argument --enable-host-firewall of DaemonSet kube-system/cilium"}},
		"neither true nor false":                {config: settings(firewall, "yes"), want: []string{"doubt: ConfigMap kube-system/cilium-config: enable-host-firewall: \"yes\""}},
		"enableDefaultDeny is ignored":          {config: settings(firewall, "true", "enable-non-default-deny-policies", "false"), want: []string{"obstacle: ConfigMap kube-system/cilium-config has enable-non-default-deny-policies"}},
		"cluster-wide policies are not read":    {config: settings(firewall, "true", "enable-cilium-clusterwide-network-policy", "false"), want: []string{"obstacle: ConfigMap kube-system/cilium-config has enable-cilium-clusterwide"}},
		"a version without enableDefaultDeny":   {config: on, image: "quay.io/cilium/cilium:v1.15.9", want: []string{"obstacle: DaemonSet kube-system/cilium is v1.15.9"}},
		"the first version with it":             {config: on, image: "quay.io/cilium/cilium:v1.16.0-rc.1"},
		"a version that cannot be told":         {config: on, image: "quay.io/cilium/cilium:latest", want: []string{"doubt: The version of DaemonSet kube-system/cilium"}},
		"the configuration cannot be read":      {config: snapshot.Reading{Problem: "no right"}, want: []string{"obstacle: DaemonSet kube-system/cilium by default", "doubt: Which policy engine"}},
		"policies are not enforced at all":      {config: settings(firewall, "true", "enable-policy", "never"), want: []string{"obstacle: The policy engine does not enforce policies"}},
		"a selector that cannot be read":        {config: on, configs: []snapshot.Object{{Kind: snapshot.KindCiliumNodeConfig, Name: "c", Fields: map[string]any{"spec": map[string]any{"nodeSelector": map[string]any{"matchLabels": "pool"}}}}}, want: []string{"doubt: CiliumNodeConfig c: spec.nodeSelector", "doubt: Which policy engine"}},
		"a CiliumNodeConfig of something else":  {config: on, configs: []snapshot.Object{nodeConfig("c", "x", "y")}},
		"a value with blanks is read as it was": {config: settings(firewall, " true ")},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := cilium(nil, readings{ciliumConfig: tc.config, ciliumNodeConfigs: read(tc.configs...)})
			for i := range e.DaemonSets[0].Containers {
				if c := &e.DaemonSets[0].Containers[i]; tc.image != "" {
					c.Image = tc.image
				}
			}
			if tc.flag != "" {
				e.DaemonSets[0].Containers[1].Flags[firewall] = tc.flag
			}
			got, want := protection(engines.Assess(e).Hosts), append([]string{"backend Cilium"}, tc.want...)
			if !matches(got, want) {
				t.Error(cmp.Diff(want, got))
			}
		})
	}
}

// calicoHosts returns a cluster of two nodes, a and b, with Calico and the environment given.
func calicoHosts(env map[string]string, felix, endpoints []snapshot.Object) *snapshot.Evidence {
	return &snapshot.Evidence{
		Nodes: []snapshot.Node{{Name: "a", Ready: true}, {Name: "b", Ready: true}},
		DaemonSets: []snapshot.DaemonSet{{
			Namespace: "kube-system", Name: "calico-node", Desired: 2, Ready: 2,
			Containers: []snapshot.Container{{Name: "calico-node", Image: "docker.io/calico/node:v3.32.1", Env: env}},
		}},
		Kinds: []string{"networkpolicies.projectcalico.org", "tiers.projectcalico.org"},
		Readings: readings{
			{Kind: snapshot.KindFelixConfiguration}: read(felix...),
			{Kind: snapshot.KindHostEndpoint}:       read(endpoints...),
			{Kind: snapshot.KindIPPool}: read(snapshot.Object{Kind: snapshot.KindIPPool, Name: "p", Fields: map[string]any{
				"spec": map[string]any{"cidr": "10.4.0.0/16"},
			}}),
		},
	}
}

// onTrial labels the first of some host endpoints.
func onTrial(endpoints []snapshot.Object) []snapshot.Object {
	endpoints[0].Data = map[string]string{policy.LabelHostFirewall: policy.HostFirewallTrial}
	return endpoints
}

func hostEndpoints(nodes ...string) []snapshot.Object {
	var out []snapshot.Object
	for _, n := range nodes {
		out = append(out, snapshot.Object{Kind: snapshot.KindHostEndpoint, Name: n + "-auto-hep", Fields: map[string]any{"spec": map[string]any{"node": n, "interfaceName": "*"}}})
	}
	return out
}

// ofInterface makes the last endpoint one of a single interface.
func ofInterface(name string, endpoints []snapshot.Object) []snapshot.Object {
	endpoints[len(endpoints)-1].Fields["spec"] = map[string]any{"node": "b", "interfaceName": name}
	return endpoints
}

// felixPorts returns a FelixConfiguration with failsafe ports; nil has none of the kind.
func felixPorts(name string, ports ...any) snapshot.Object {
	if ports == nil {
		ports = []any{}
	}
	return snapshot.Object{Kind: snapshot.KindFelixConfiguration, Name: name, Fields: map[string]any{"spec": map[string]any{"failsafeInboundHostPorts": ports}}}
}

func TestHostsOfCalico(t *testing.T) {
	t.Parallel()
	both := hostEndpoints("a", "b")
	port := func(number int64, pairs ...string) map[string]any {
		out := map[string]any{"port": number}
		for i := 0; i < len(pairs); i += 2 {
			out[pairs[i]] = pairs[i+1]
		}
		return out
	}
	const of, variable = " by FelixConfiguration default, failsafeInboundHostPorts", "FELIX_FAILSAFEINBOUNDHOSTPORTS"
	cases := map[string]struct {
		env       map[string]string
		felix     []snapshot.Object
		endpoints []snapshot.Object
		kinds     []string
		labels    map[string]string // of node a
		joins     bool              // node b, which is not Ready
		want      []string
	}{
		"the trial's node and its endpoint are labelled": {
			endpoints: onTrial(hostEndpoints("a", "b")), labels: policy.TrialNodes().MatchLabels, felix: []snapshot.Object{felixPorts("default")}, want: []string{"unsaved"},
		},
		"an endpoint that lacks the label of its node": {
			endpoints: both, labels: policy.TrialNodes().MatchLabels, felix: []snapshot.Object{felixPorts("default")},
			want: []string{`obstacle: HostEndpoint a-auto-hep has the label pcinetwork.dev/host-firewall="", and its node a has "trial"`, "unsaved"},
		},
		"an endpoint that has one that its node lacks": {
			endpoints: onTrial(hostEndpoints("a", "b")), felix: []snapshot.Object{felixPorts("default")},
			want: []string{`obstacle: HostEndpoint a-auto-hep has the label pcinetwork.dev/host-firewall="trial", and its node a has ""`, "unsaved"},
		},
		"no failsafe ports at all": {endpoints: both, felix: []snapshot.Object{felixPorts("default")}, want: []string{"unsaved: FelixConfiguration default"}},
		"a port for everybody": {
			endpoints: both, felix: []snapshot.Object{felixPorts("default", port(6443, "protocol", "tcp"))},
			want: []string{"open: 6443 to 0.0.0.0/0" + of, "open: 6443 to ::/0" + of},
		},
		"a port for a range": {
			endpoints: both, felix: []snapshot.Object{felixPorts("default", port(6443, "protocol", "TCP", "net", "10.0.0.0/8"))},
			want: []string{"open: 6443 to 10.0.0.0/8" + of},
		},
		"a port for a range of IPv6":           {endpoints: both, felix: []snapshot.Object{felixPorts("default", port(22, "net", "2001:db8::/32"))}, want: []string{"open: 22 to 2001:db8::/32"}},
		"a port without a protocol is TCP's":   {endpoints: both, felix: []snapshot.Object{felixPorts("default", port(22))}, want: []string{"open: 22 to 0.0.0.0/0", "open: 22 to ::/0"}},
		"a port of UDP":                        {endpoints: both, felix: []snapshot.Object{felixPorts("default", port(68, "protocol", "udp"))}},
		"what is none is not guessed":          {endpoints: both, felix: []snapshot.Object{felixPorts("default", map[string]any{"port": "x"})}, want: []string{"doubt: FelixConfiguration default, failsafeInboundHostPorts has \"tcp::x\""}},
		"a node of its own adds to the others": {endpoints: both, felix: []snapshot.Object{felixPorts("default", port(22, "net", "10.0.0.0/8")), felixPorts("node.a", port(6443, "net", "10.0.0.0/8"))}, want: []string{"open: 22", "open: 6443 to 10.0.0.0/8 by FelixConfiguration node.a"}},
		"another FelixConfiguration is none":   {endpoints: both, felix: []snapshot.Object{felixPorts("default"), felixPorts("mine", port(6443))}, want: []string{"unsaved: "}},
		"the environment has the last word": {
			env: map[string]string{variable: "tcp:10.0.0.0/8:6443,22, udp:68"}, endpoints: both, felix: []snapshot.Object{felixPorts("default", port(2379))},
			want: []string{"open: 6443 to 10.0.0.0/8 by env " + variable, "open: 22 to 0.0.0.0/0", "open: 22 to ::/0"},
		},
		"an empty variable, as RKE2 sets it": {env: map[string]string{variable: ""}, endpoints: both, want: []string{"unsaved: env " + variable + " of DaemonSet kube-system/calico-node"}},
		"none in the variable":               {env: map[string]string{variable: "none"}, endpoints: both, want: []string{"unsaved: env"}},
		"IPv6 in the variable":               {env: map[string]string{variable: "tcp:[2001:db8::/32]:22"}, endpoints: both, want: []string{"open: 22 to 2001:db8::/32"}},
		"a node without an endpoint":         {endpoints: hostEndpoints("a"), felix: []snapshot.Object{felixPorts("default")}, want: []string{"obstacle: There is no HostEndpoint for all interfaces of b", "unsaved"}},
		"IPv6 is left alone, as in Calico's own manifest": {
			env: map[string]string{"FELIX_IPV6SUPPORT": "false"}, endpoints: both, felix: []snapshot.Object{felixPorts("default")},
			want: []string{"unsaved", "IPv4 only: env FELIX_IPV6SUPPORT of DaemonSet kube-system/calico-node"},
		},
		"IPv6 is not":       {env: map[string]string{"FELIX_IPV6SUPPORT": "true"}, endpoints: both, felix: []snapshot.Object{felixPorts("default")}, want: []string{"unsaved"}},
		"a node that joins": {endpoints: hostEndpoints("a"), joins: true, felix: []snapshot.Object{felixPorts("default")}, want: []string{"doubt: There is no HostEndpoint for all interfaces of b yet", "unsaved"}},
		"a node with an endpoint of one interface": {
			endpoints: ofInterface("eth1", hostEndpoints("a", "b")), felix: []snapshot.Object{felixPorts("default")},
			want: []string{"obstacle: There is no HostEndpoint for all interfaces of b", "unsaved"},
		},
		"an API without tiers": {endpoints: both, felix: []snapshot.Object{felixPorts("default")}, kinds: []string{"networkpolicies.projectcalico.org"}, want: []string{"obstacle: The API server does not serve tiers", "unsaved"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := calicoHosts(tc.env, tc.felix, tc.endpoints)
			e.Nodes[0].Labels = tc.labels
			e.Nodes[1].Ready = !tc.joins
			if tc.kinds != nil {
				e.Kinds = tc.kinds
			}
			hosts := engines.Assess(e).Hosts
			got, want := protection(hosts), append([]string{"backend Calico"}, tc.want...)
			if !matches(got, want) {
				t.Error(cmp.Diff(want, got))
			}
			if len(hosts.PodRanges) != 1 || hosts.PodRanges[0].String() != "10.4.0.0/16" {
				t.Errorf("pod ranges %v", hosts.PodRanges)
			}
		})
	}
}

// Where nothing is said, Felix has a list of its own, which leaves the API server and etcd open.
func TestDefaultFailsafePorts(t *testing.T) {
	t.Parallel()
	hosts := engines.Assess(calicoHosts(nil, nil, hostEndpoints("a", "b"))).Hosts
	var ports []int32
	for _, o := range hosts.Open {
		if o.Net.Bits() == 0 && o.Net.Addr().Is4() && strings.HasPrefix(o.Object, "DaemonSet kube-system/calico-node by default") {
			ports = append(ports, o.Port)
		}
	}
	if diff := cmp.Diff([]int32{22, 179, 2379, 2380, 5473, 6443, 6666, 6667}, ports); diff != "" {
		t.Error(diff)
	}
}

func TestHostsOfNoEngine(t *testing.T) {
	t.Parallel()
	nodes := []snapshot.Node{{Name: "a", Ready: true}}
	flannel := &snapshot.Evidence{Nodes: nodes, DaemonSets: []snapshot.DaemonSet{{
		Namespace: "kube-flannel", Name: "kube-flannel-ds", Labels: map[string]string{"app": "flannel"}, Desired: 1, Ready: 1,
		Containers: []snapshot.Container{{Name: "kube-flannel", Image: "ghcr.io/flannel-io/flannel:v0.28.9"}},
	}}}
	cases := map[string]struct {
		evidence *snapshot.Evidence
		want     []string
	}{
		"nobody enforces":          {flannel, []string{"backend "}},
		"nobody knows who does":    {&snapshot.Evidence{Nodes: nodes}, []string{"backend ", "doubt: Which policy engine"}},
		"it has not been observed": {&snapshot.Evidence{Readings: readings{ciliumConfig: {Pending: true}}}, []string{"backend "}}, // which Observed says
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := protection(engines.Assess(tc.evidence).Hosts); !matches(got, tc.want) {
				t.Error(cmp.Diff(tc.want, got))
			}
		})
	}
}
