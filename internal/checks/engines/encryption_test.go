// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	calicoKey   = "projectcalico.org/WireguardPublicKey"
	flannelType = "flannel.alpha.coreos.com/backend-type"
)

// agents returns a cluster of two nodes, a and b, with annotations, and one DaemonSet.
func agents(d snapshot.DaemonSet, a, b map[string]string, r readings) *snapshot.Evidence {
	d.Namespace, d.Desired, d.Ready = "kube-system", 2, 2
	return &snapshot.Evidence{
		Nodes:      []snapshot.Node{{Name: "a", Ready: true, Annotations: a}, {Name: "b", Ready: true, Annotations: b}},
		DaemonSets: []snapshot.DaemonSet{d}, Readings: r,
	}
}

func container(name, image string) []snapshot.Container {
	return []snapshot.Container{{Name: name, Image: image, Flags: map[string]string{}, Env: map[string]string{}}}
}

// object returns an object whose spec is one path of names that ends in a value.
func object(kind, name string, value any, path ...string) snapshot.Object {
	for _, p := range slices.Backward(append([]string{"spec"}, path...)) {
		value = map[string]any{p: value}
	}
	fields, _ := value.(map[string]any)
	return snapshot.Object{Kind: kind, Name: name, Fields: fields}
}

func TestEncryptionBetweenNodes(t *testing.T) {
	t.Parallel()
	calico := func(felix snapshot.Reading, a, b map[string]string) *snapshot.Evidence {
		d := snapshot.DaemonSet{Name: "calico-node", Containers: container("calico-node", "calico/node:v3.31.0")}
		return agents(d, a, b, readings{{Kind: snapshot.KindFelixConfiguration}: felix})
	}
	wireguard := func(key string) snapshot.Reading {
		return read(object(snapshot.KindFelixConfiguration, "default", true, key))
	}
	dual := func(felix snapshot.Reading, a, b map[string]string) *snapshot.Evidence {
		e := calico(felix, a, b)
		e.Readings[snapshot.Source{Kind: snapshot.KindIPPool}] = read(
			object(snapshot.KindIPPool, "four", "10.4.0.0/16", "cidr"), object(snapshot.KindIPPool, "six", "fd00:10::/48", "cidr"),
		)
		return e
	}
	families := read(snapshot.Object{Kind: snapshot.KindFelixConfiguration, Name: "default", Fields: map[string]any{
		"spec": map[string]any{"wireguardEnabled": true, "wireguardEnabledV6": true},
	}})
	keys := map[string]string{calicoKey: "K", calicoKey + "V6": "L"}
	flannel := func(a, b string) *snapshot.Evidence {
		d := snapshot.DaemonSet{Name: "kube-flannel-ds", Containers: container("kube-flannel", "flannel/flannel:v0.27")}
		return agents(d, map[string]string{flannelType: a}, map[string]string{flannelType: b}, readings{})
	}
	below := flannel("wireguard", "wireguard")
	below.DaemonSets = append(below.DaemonSets, calico(read(), nil, nil).DaemonSets...)
	ciliumNode := func(name, key, spi string) snapshot.Object {
		return snapshot.Object{Kind: snapshot.KindCiliumNode, Name: name, Data: map[string]string{"wireguard": key, "ipsec": spi}}
	}
	withNodes := func(config, nodes snapshot.Reading, configs ...snapshot.Object) *snapshot.Evidence {
		return cilium(nil, readings{ciliumConfig: config, ciliumNodeConfigs: read(configs...), {Kind: snapshot.KindCiliumNode}: nodes})
	}
	both := read(ciliumNode("a", "K", ""), ciliumNode("b", "L", ""))
	antrea := func(conf string) *snapshot.Evidence {
		d := snapshot.DaemonSet{Name: "antrea-agent", Containers: container("antrea-agent", "antrea/antrea-agent-ubuntu:v2.4.0")}
		return agents(d, nil, nil, readings{{Kind: snapshot.KindConfigMap, Namespace: "kube-system", Name: "antrea-config"}: read(snapshot.Object{
			Kind: snapshot.KindConfigMap, Namespace: "kube-system", Name: "antrea-config", Data: map[string]string{"antrea-agent.conf": conf},
		})})
	}
	ovn := func(mode string, more ...snapshot.DaemonSet) *snapshot.Evidence {
		d := snapshot.DaemonSet{Name: "ovnkube-node", Containers: container("ovn-controller", "ovn-kubernetes:v1")}
		e := agents(d, nil, nil, readings{{Kind: snapshot.KindNetworkOperator, Name: "cluster"}: read(
			object(snapshot.KindNetworkOperator, "cluster", mode, "defaultNetwork", "ovnKubernetesConfig", "ipsecConfig", "mode"),
		)})
		e.DaemonSets = append(e.DaemonSets, more...)
		return e
	}
	kindnet := func(flag string) *snapshot.Evidence {
		d := snapshot.DaemonSet{Name: "kindnet", Containers: container("kindnet-cni", "networking/kindnet:v1.9")}
		d.Containers[0].Flags["ipsec-overlay"] = flag
		return agents(d, nil, nil, readings{})
	}
	weave := func(password string) *snapshot.Evidence {
		d := snapshot.DaemonSet{Name: "weave-net", Containers: slices.Concat(container("weave", "weaveworks/weave-kube:2.8.1"), container("weave-npc", "weaveworks/weave-npc:2.8.1"))}
		d.Containers[0].Env["WEAVE_PASSWORD"] = password
		return agents(d, nil, nil, readings{})
	}
	k3s := func(args, a, b string) *snapshot.Evidence {
		e := agents(snapshot.DaemonSet{Name: "other"}, map[string]string{flannelType: a, "k3s.io/node-args": args}, map[string]string{flannelType: b}, readings{})
		e.Nodes[0].Kubelet = "v1.37.2+k3s1"
		return e
	}
	const on, partly, off, unknown, unread = snapshot.Encrypted, snapshot.EncryptedPartly, snapshot.Unencrypted, snapshot.EncryptionUnknown, "unread"
	cases := map[string]struct {
		evidence *snapshot.Evidence
		want     snapshot.EncryptionState
		clear    []string
	}{
		"Calico, off":                               {calico(read(), nil, nil), off, nil},
		"Calico, on, and every node has a key":      {calico(wireguard("wireguardEnabled"), map[string]string{calicoKey: "K"}, map[string]string{calicoKey: "L"}), on, nil},
		"Calico, on, and a node has none":           {calico(wireguard("wireguardEnabled"), map[string]string{calicoKey: "K"}, nil), partly, []string{"b"}},
		"Calico, on, and a node's key is empty":     {calico(wireguard("wireguardEnabled"), map[string]string{calicoKey: ""}, map[string]string{calicoKey: "L"}), partly, []string{"a"}},
		"Calico, IPv6, and keys are IPv4's":         {calico(wireguard("wireguardEnabledV6"), map[string]string{calicoKey: "K"}, map[string]string{calicoKey + "V6": "L"}), partly, []string{"a"}},
		"Calico, both families":                     {dual(families, keys, keys), on, nil},
		"Calico, both families, a key of one":       {dual(families, keys, map[string]string{calicoKey: "K"}), partly, []string{"b"}},
		"Calico, one family of two":                 {dual(wireguard("wireguardEnabled"), keys, keys), partly, nil},
		"Calico, the other family of two":           {dual(wireguard("wireguardEnabledV6"), keys, keys), partly, nil},
		"Calico, keys of old, and off":              {calico(read(), map[string]string{calicoKey: "K"}, map[string]string{calicoKey: "L"}), off, nil},
		"Calico, whose settings cannot be read":     {calico(snapshot.Reading{Problem: "no right"}, map[string]string{calicoKey: "K"}, nil), unread, nil},
		"Flannel, VXLAN":                            {flannel("vxlan", "vxlan"), off, nil},
		"Flannel, WireGuard":                        {flannel("wireguard", "wireguard"), on, nil},
		"Flannel, one node still with VXLAN":        {flannel("wireguard", "vxlan"), partly, []string{"b"}},
		"Flannel, of which nodes say nothing":       {flannel("", ""), unknown, nil},
		"Calico, off, over Flannel with WireGuard":  {below, on, nil},
		"Cilium, off":                               {withNodes(settings(), both), off, nil},
		"Cilium, WireGuard on every node":           {withNodes(settings("enable-wireguard", "true"), both), on, nil},
		"Cilium, WireGuard, and a node has no key":  {withNodes(settings("enable-wireguard", "true"), read(ciliumNode("a", "K", ""))), partly, []string{"b"}},
		"Cilium, WireGuard, but not on some nodes":  {withNodes(settings("enable-wireguard", "true"), both, nodeConfig("c", "enable-wireguard", "false")), partly, []string{"a"}},
		"Cilium, IPsec on every node":               {withNodes(settings("enable-ipsec", "true"), read(ciliumNode("a", "", "3"), ciliumNode("b", "", "3"))), on, nil},
		"Cilium, IPsec with the key of none":        {withNodes(settings("enable-ipsec", "true"), read(ciliumNode("a", "", "3"), ciliumNode("b", "", "0"))), partly, []string{"b"}},
		"Cilium, ztunnel":                           {withNodes(settings("enable-ztunnel", "true"), both), partly, nil},
		"Cilium, whose nodes cannot be read":        {withNodes(settings("enable-wireguard", "true"), snapshot.Reading{Problem: "no right"}), unread, nil},
		"Cilium, whose nodes are being read":        {withNodes(settings("enable-wireguard", "true"), snapshot.Reading{Pending: true}), unknown, nil},
		"Antrea, off":                               {antrea("trafficEncapMode: encap"), off, nil},
		"Antrea, WireGuard":                         {antrea("trafficEncryptionMode: wireGuard"), on, nil},
		"Antrea, WireGuard without encapsulation":   {antrea("trafficEncryptionMode: wireGuard\ntrafficEncapMode: noEncap"), off, nil},
		"Antrea, a mode that is not known":          {antrea("trafficEncryptionMode: rot13"), unread, nil},
		"Antrea, a file that is no YAML":            {antrea("["), unread, nil},
		"OVN-Kubernetes, Full":                      {ovn("Full"), on, nil},
		"OVN-Kubernetes, for nodes alone":           {ovn("External"), off, nil},
		"OVN-Kubernetes, off":                       {ovn("Disabled"), off, nil},
		"OVN-Kubernetes with upstream's DaemonSet":  {ovn("", snapshot.DaemonSet{Namespace: "kube-system", Name: "ovn-ipsec"}), on, nil},
		"kindnet, off":                              {kindnet("false"), off, nil},
		"kindnet, on":                               {kindnet("true"), on, nil},
		"k3s, VXLAN":                                {k3s(`["server"]`, "vxlan", "vxlan"), off, nil},
		"k3s, WireGuard":                            {k3s(`["server","--flannel-backend","wireguard-native"]`, "wireguard", "wireguard"), on, nil},
		"k3s, WireGuard, not restarted on one node": {k3s(`["server","--flannel-backend","wireguard-native"]`, "wireguard", "vxlan"), partly, []string{"b"}},
		"k3s, of which nothing is known":            {k3s(`["agent"]`, "", ""), unknown, nil},
		"Weave Net, off":                            {weave(""), off, nil},
		"Weave Net, with a password":                {weave("(given)"), partly, nil},
		"a plugin that does not show it":            {agents(snapshot.DaemonSet{Name: "aws-node", Containers: container("aws-node", "amazon-k8s-cni:v1")}, nil, nil, readings{}), unknown, nil},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := engines.Assess(tc.evidence)
			if !a.Observed {
				t.Error("not observed")
			}
			got := a.NodeEncryption
			if got.Unread {
				got.State = unread
			}
			if diff := cmp.Diff(tc.clear, got.Clear); got.State != tc.want || diff != "" {
				t.Errorf("%q (%s), want %q; nodes in the clear (-want +got):\n%s", got.State, got.Says, tc.want, diff)
			}
			if known := got.State != unknown && got.State != unread; known && (got.Says == "" || (got.How == "") != (got.State == off)) {
				t.Errorf("does not say why: %+v", got)
			}
		})
	}
}

// CiliumNodes are as many as nodes and say nothing of policies: they are read where they tell something, and a right that is missing
// does not make an engine doubtful.
func TestNodesOfCiliumAreReadForEncryptionAlone(t *testing.T) {
	t.Parallel()
	source := snapshot.Source{Kind: snapshot.KindCiliumNode}
	for config, want := range map[string]bool{"enable-wireguard": true, "enable-ipsec": true, "enable-ztunnel": false, "x": false} {
		e := cilium(nil, readings{ciliumConfig: settings(config, "true"), ciliumNodeConfigs: read(), source: {Problem: "no right"}})
		if got := slices.Contains(engines.Wanted(e), source); got != want {
			t.Errorf("%s: asks for CiliumNodes: %t, want %t", config, got, want)
		}
		if a := engines.Assess(e); !a.Certain || a.Verdict(engines.Cilium).Reason != "PolicyEngineEnforces" {
			t.Errorf("%s: %+v", config, a.Verdict(engines.Cilium))
		}
	}
}
