// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// agent returns a DaemonSet of one container that runs on both nodes of a cluster.
func agent(namespace, name, container, image string, env ...string) snapshot.DaemonSet {
	c := snapshot.Container{Name: container, Image: image, Env: map[string]string{}}
	for i := 0; i < len(env); i += 2 {
		c.Env[env[i]] = env[i+1]
	}
	return snapshot.DaemonSet{Namespace: namespace, Name: name, Desired: 2, Ready: 2, Containers: []snapshot.Container{c}}
}

// with returns a cluster of two nodes with these DaemonSets.
func with(daemonSets ...snapshot.DaemonSet) *snapshot.Evidence {
	return &snapshot.Evidence{
		Nodes: []snapshot.Node{{Name: "a", Ready: true}, {Name: "b", Ready: true}}, DaemonSets: daemonSets, Readings: readings{},
	}
}

func TestAzureNPMLiteIsAzureNPM(t *testing.T) {
	t.Parallel()
	const image = "mcr.microsoft.com/containernetworking/azure-npm:v1.7.12"
	for name, tc := range map[string]struct {
		agent   snapshot.DaemonSet
		certain bool
	}{
		"by name and container":           {agent("kube-system", "azure-npm-lite", "azure-npm-lite", image), true},
		"with the container of the other": {agent("kube-system", "azure-npm-lite", "azure-npm", image), true},
		"by its image alone":              {agent("kube-system", "npm", "npm", "example.com/azure-npm-lite"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := engines.Assess(with(tc.agent))
			if a.Engine.Name != "Azure NPM" || a.Base.Name != "Azure CNI" || a.Certain != tc.certain {
				t.Errorf("engine %q on %q, certain %t", a.Engine.Name, a.Base.Name, a.Certain)
			}
		})
	}
}

// warned says whether a warning holds a text.
func warned(a *engines.Assessment, text string) bool {
	return strings.Contains(strings.Join(a.Warnings(engines.NetworkPolicy), "\n"), text)
}

func TestSwitchesOfTheVPCCNI(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		env  []string
		text string
		want bool
	}{
		"the bandwidth plugin on":    {[]string{"ENABLE_BANDWIDTH_PLUGIN", "true"}, "ENABLE_BANDWIDTH_PLUGIN", true},
		"the bandwidth plugin off":   {[]string{"ENABLE_BANDWIDTH_PLUGIN", "false"}, "ENABLE_BANDWIDTH_PLUGIN", false},
		"the bandwidth plugin unset": {nil, "ENABLE_BANDWIDTH_PLUGIN", false},
		"a second interface":         {[]string{"ENABLE_V4_EGRESS", "true"}, "second interface", true},
		"no second interface":        {[]string{"ENABLE_V4_EGRESS", "false"}, "second interface", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cni := agent("kube-system", "aws-node", "aws-node", "example.com/amazon-k8s-cni:v1", tc.env...)
			cni.Containers = append(cni.Containers, snapshot.Container{Name: "aws-eks-nodeagent", Image: "amazon/aws-network-policy-agent:v1"})
			a := engines.Assess(with(cni))
			if a.Engine.Name != "Amazon VPC CNI" || warned(&a, tc.text) != tc.want {
				t.Errorf("engine %q, warnings %q, want one of a %s: %t", a.Engine.Name, a.Warnings(engines.NetworkPolicy), tc.text, tc.want)
			}
		})
	}
}

func TestFurtherInterfacesAreNamedOnAnyEngine(t *testing.T) {
	t.Parallel()
	const image = "ghcr.io/k8snetworkplumbingwg/multus-cni:v4.2.2"
	networks := map[string]*snapshot.DaemonSet{
		"Cilium":        new(agent("kube-system", "cilium", "cilium-agent", "quay.io/cilium/cilium:v1.20.2")),
		"kube-router":   new(agent("kube-system", "kube-router", "kube-router", "docker.io/cloudnativelabs/kube-router:v2.5.0")),
		"nobody":        new(agent("kube-flannel", "kube-flannel-ds", "kube-flannel", "ghcr.io/flannel-io/flannel:v0.28.9")),
		"not known yet": nil,
	}
	for name, tc := range map[string]struct {
		multus snapshot.DaemonSet
		want   bool
	}{
		"by its name":           {agent("tools", "kube-multus-ds", "m", "example.com/m"), true},
		"by its container":      {agent("openshift-multus", "multus", "kube-multus", "example.com/m@sha256:0"), true},
		"by its image":          {agent("tools", "m", "m", image), true},
		"by RKE2's image":       {agent("kube-system", "rke2-multus", "m", "rancher/hardened-multus-cni:v4.2.2"), true},
		"something of its name": {agent("tools", "multus-dashboard", "dashboard", "example.com/multus-dashboard"), false},
	} {
		for network, below := range networks {
			t.Run(name+", "+network, func(t *testing.T) {
				t.Parallel()
				daemonSets := []snapshot.DaemonSet{tc.multus}
				if below != nil {
					daemonSets = append(daemonSets, *below)
				}
				a := engines.Assess(with(daemonSets...))
				if warned(&a, tc.multus.String()+" gives pods further interfaces") != tc.want {
					t.Errorf("warnings %q, want one: %t", a.Warnings(engines.NetworkPolicy), tc.want)
				}
			})
		}
	}
}

func TestAgentsAreLocated(t *testing.T) {
	t.Parallel()
	flannel := agent("kube-flannel", "kube-flannel-ds", "kube-flannel", "ghcr.io/flannel-io/flannel:v0.28.9")
	router := agent("net", "kube-router", "kube-router", "docker.io/cloudnativelabs/kube-router:v2.5.0")
	k3s := with()
	k3s.Nodes[0].Kubelet = "v1.37.2+k3s1"
	for name, tc := range map[string]struct {
		evidence *snapshot.Evidence
		want     []engines.Agent
	}{
		"an engine":       {with(router), []engines.Agent{{Name: "kube-router", Namespace: "net"}}},
		"nobody enforces": {with(flannel), []engines.Agent{{Name: "Flannel", Namespace: "kube-flannel"}}},
		"an engine over another's base": {with(flannel, agent("knp", "kube-network-policies", "kube-network-policies", "registry.k8s.io/networking/kube-network-policies:v1.1.1")), []engines.Agent{
			{Name: "kube-network-policies", Namespace: "knp"}, {Name: "Flannel", Namespace: "kube-flannel"},
		}},
		"two in one namespace": {with(agent("net", "kube-flannel-ds", "kube-flannel", "flannel"), agent("net", "knp", "kube-network-policies", "kube-network-policies")), []engines.Agent{
			{Name: "kube-network-policies", Namespace: "net"},
		}},
		"rivals": {with(agent("aa", "antrea-agent", "antrea-agent", "antrea/antrea-agent-ubuntu:v2"), router), []engines.Agent{
			{Name: "Antrea", Namespace: "aa"}, {Name: "kube-router", Namespace: "net"},
		}},
		"no agent of its own": {k3s, nil},
		"nothing known":       {with(), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, engines.Assess(tc.evidence).Agents); diff != "" {
				t.Errorf("agents (-want +got):\n%s", diff)
			}
		})
	}
}
