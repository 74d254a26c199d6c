// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// of returns what one check says, as "result: subject: evidence".
func of(check string, s management.Subject) []string {
	var out []string
	for _, f := range management.Run(s) {
		if f.Check == check {
			out = append(out, string(f.Result)+": "+f.Subject+": "+f.Evidence)
		}
	}
	return out
}

// What an agent shows is encrypted, as what any supporting system shows, and whether it is alive everybody may know.
func TestAgents(t *testing.T) {
	t.Parallel()
	const where = " 10.0.0.2:9962 (DaemonSet kube-system/cilium): "
	for name, tc := range map[string]struct {
		role   snapshot.Role
		speech snapshot.Speech
		want   string
	}{
		"metrics in the clear":           {snapshot.RoleNetworkAgent, snapshot.SpeechPlain, "fail: X" + where + "it answers in the clear"},
		"flows over TLS":                 {snapshot.RoleNetworkAgent, snapshot.SpeechTLS, "pass: X" + where + "it speaks TLS"},
		"metrics that are not there":     {snapshot.RoleNetworkAgent, snapshot.SpeechClosed, "skip: X" + where + "nobody listens there"},
		"metrics behind a firewall":      {snapshot.RoleNetworkAgent, snapshot.SpeechUnreachable, "skip: X" + where + "it does not answer from here: a firewall is in front, or nobody is there"},
		"an API that says nothing":       {snapshot.RoleNetworkAgent, snapshot.SpeechSilent, "error: X" + where + "it takes connections and answers nothing that could be told"},
		"an agent that is alive":         {snapshot.RoleAgentHealth, snapshot.SpeechPlain, "skip: X" + where + "it answers in the clear, and says no more than whether its agent is alive"},
		"one that does not say":          {snapshot.RoleAgentHealth, snapshot.SpeechSilent, "error: X" + where + "it takes connections and answers nothing that could be told"},
		"a supporting system, unchanged": {snapshot.RoleSupporting, snapshot.SpeechUnreachable, "error: X" + where + "it does not answer the operator"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound()
			sight := good("10.0.0.2:9962")
			sight.Speech = tc.speech
			s.Interfaces = append(s.Interfaces, snapshot.Interface{
				Address: sight.Address, Role: tc.role, System: "X", Object: "DaemonSet kube-system/cilium", Sight: sight,
			})
			if got := of("TrafficEncrypted", s); !slices.Contains(got, tc.want) {
				t.Errorf("%s, want %s", strings.Join(got, "\n"), tc.want)
			}
		})
	}
}

// Whether an agent is alive a pod may know; what else it shows is behind the list.
func TestAgentsAreBehindTheList(t *testing.T) {
	t.Parallel()
	s := sound()
	s.Vantage = netip.MustParseAddr("10.1.0.9")
	for address, role := range map[string]snapshot.Role{
		"10.0.0.2:4240": snapshot.RoleAgentHealth, "10.0.0.2:9962": snapshot.RoleNetworkAgent,
	} {
		s.Interfaces = append(s.Interfaces, snapshot.Interface{Address: netip.MustParseAddrPort(address), Role: role, Sight: snapshot.Sight{Speech: snapshot.SpeechPlain}})
	}
	const from = ": it answers the operator's pod 10.1.0.9, which spec.managementAccess.allowedCIDRs does not hold"
	want := []string{
		"warn: Every etcd: 10.0.0.1:2379" + from, "warn: Every kubelet: 10.0.0.2:10250" + from,
		"warn: Every network agent: 10.0.0.2:9962" + from,
	}
	if diff := cmp.Diff(want, of("ClosedToPods", s)); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	const aws = "Metadata service of aws: "
	const shut = "skip: " + aws + "it is not dialled; no entry of spec.allow.rules lets pods reach it (169.254.169.254, fd00:ec2::254)"
	rule := func(change func(*pcinetv1alpha1.AllowRule)) []pcinetv1alpha1.AllowRule {
		r := pcinetv1alpha1.AllowRule{
			Name: "out", Direction: "Egress", Ports: []pcinetv1alpha1.Port{{Protocol: "UDP", Port: 53}, {Protocol: "TCP", Port: 80}},
			Peers: []pcinetv1alpha1.Peer{{PodSelector: &pcinetv1alpha1.LabelSelector{}}, {CIDR: "0.0.0.0/0"}},
		}
		change(&r)
		return []pcinetv1alpha1.AllowRule{r}
	}
	for name, tc := range map[string]struct {
		providers []string
		rules     []pcinetv1alpha1.AllowRule
		want      []string
	}{
		"in no cloud":        {[]string{"", "kind"}, rule(func(*pcinetv1alpha1.AllowRule) {}), nil},
		"nobody is let in":   {[]string{"aws", "aws", ""}, nil, []string{shut}},
		"everywhere is also": {[]string{"aws"}, rule(func(*pcinetv1alpha1.AllowRule) {}), []string{"warn: " + aws + "spec.allow.rules lets pods reach it: out (169.254.169.254)"}},
		"by IPv6": {
			[]string{"aws"},
			rule(func(r *pcinetv1alpha1.AllowRule) { r.Peers[1].CIDR = "fd00::/8" }),
			[]string{"warn: " + aws + "spec.allow.rules lets pods reach it: out (fd00:ec2::254)"},
		},
		"it is left out": {[]string{"aws"}, rule(func(r *pcinetv1alpha1.AllowRule) {
			r.Peers[1].Except = []pcinetv1alpha1.CIDR{"10.0.0.0/8", "169.254.0.0/16"}
		}), []string{shut}},
		"others may come": {[]string{"aws"}, rule(func(r *pcinetv1alpha1.AllowRule) { r.Direction = "Ingress" }), []string{shut}},
		"not by TCP":      {[]string{"aws"}, rule(func(r *pcinetv1alpha1.AllowRule) { r.Ports = r.Ports[:1] }), []string{shut}},
		"DNS alone":       {[]string{"aws"}, rule(func(r *pcinetv1alpha1.AllowRule) { r.Ports[1].Port = 53 }), []string{shut}},
		"more than DNS":   {[]string{"aws"}, rule(func(r *pcinetv1alpha1.AllowRule) { r.Ports[1].Port, r.Ports[1].EndPort = 53, 80 }), []string{"warn: " + aws + "spec.allow.rules lets pods reach it: out (169.254.169.254)"}},
		"somewhere else":  {[]string{"aws"}, rule(func(r *pcinetv1alpha1.AllowRule) { r.Peers[1].CIDR = "10.0.0.0/8" }), []string{shut}},
		"two clouds, one by": {
			[]string{"hcloud", "azure"},
			rule(func(r *pcinetv1alpha1.AllowRule) { r.Peers[1].CIDR = "168.63.129.16/32" }),
			[]string{
				"warn: Metadata service of azure: spec.allow.rules lets pods reach it: out (168.63.129.16)",
				"skip: Metadata service of hcloud: it is not dialled; no entry of spec.allow.rules lets pods reach it (169.254.169.254)",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound()
			s.Rules, s.EgressDenied = tc.rules, true
			for _, p := range tc.providers {
				s.Hosts = append(s.Hosts, snapshot.Host{Provider: p})
			}
			if diff := cmp.Diff(tc.want, of("MetadataClosed", s)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			s.EgressDenied = false
			for _, got := range of("MetadataClosed", s) {
				if !strings.HasSuffix(got, ": pods may connect anywhere, and so to it: this baseline denies no egress") || !strings.HasPrefix(got, "warn") {
					t.Errorf("where nothing is denied: %s", got)
				}
			}
		})
	}
}

// A cloud's word counts where the plugin shows nothing, and not over nodes without keys.
func TestTheCloudsEncryption(t *testing.T) {
	t.Parallel()
	gke := snapshot.CloudCluster{Cloud: snapshot.GKE, Project: "p", Location: "l", Name: "n"}
	partly := snapshot.NodeEncryption{State: snapshot.EncryptedPartly, How: "WireGuard", Says: "k", Clear: []string{"n1"}}
	off := snapshot.NodeEncryption{State: snapshot.Unencrypted, Says: "off"}
	const subject = "Pod traffic between nodes: "
	says := gke.String() + " says "
	on := snapshot.NodeEncryption{State: snapshot.Encrypted, How: "GKE", Says: "on"}
	for name, tc := range map[string]struct {
		plugin, cloud snapshot.NodeEncryption
		want          string
	}{
		"nobody says":        {want: "skip: " + subject + "nothing in the API shows whether it is encrypted"},
		"the cloud alone":    {cloud: on, want: "pass: " + subject + "it is encrypted by GKE (" + says + "on)"},
		"the cloud says off": {cloud: off, want: "warn: " + subject + "it is not encrypted: " + says + "off"},
		"both say off":       {plugin: off, cloud: off, want: "warn: " + subject + "it is not encrypted: off"},
		"the cloud says off, and the plugin shows keys": {plugin: snapshot.NodeEncryption{State: snapshot.Encrypted, How: "WireGuard", Says: "k"}, cloud: off, want: "pass: " + subject + "it is encrypted by WireGuard (k)"},
		"the plugin says off":                           {plugin: off, cloud: on, want: "warn: " + subject + "it is encrypted by GKE (" + says + "on; but off)"},
		"the plugin cannot be read":                     {plugin: snapshot.NodeEncryption{Unread: true, Says: "no right"}, cloud: on, want: "warn: " + subject + "whether it is encrypted is not known: no right"},
		"the plugin has no key there":                   {plugin: partly, cloud: on, want: "warn: " + subject + "it is encrypted by WireGuard (k), but not from and to n1"},
		"another word":                                  {cloud: snapshot.NodeEncryption{Unread: true, Says: "X is not known"}, want: "warn: " + subject + "whether it is encrypted is not known: " + says + "X is not known"},
		"another word, and the plugin off":              {plugin: off, cloud: snapshot.NodeEncryption{Unread: true, Says: "X is not known"}, want: "warn: " + subject + "it is not encrypted: off"},
		"the cloud says nothing":                        {plugin: off, want: "warn: " + subject + "it is not encrypted: off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound()
			s.Network, s.Cloud = tc.plugin, &snapshot.ControlPlane{Cluster: gke, Encryption: tc.cloud}
			if diff := cmp.Diff([]string{tc.want}, of("NodeTrafficEncrypted", s)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
