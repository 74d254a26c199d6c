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

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Encryption between nodes. Settings say that it is asked for; keys that agents publish, that a node takes part. Sources: the engines'
// own code and documentation.

const (
	wireGuard = "WireGuard"
	ipsec     = "IPsec"

	// Felix and Flannel write these on Nodes, Cilium's agents on CiliumNodes.
	calicoKey     = "projectcalico.org/WireguardPublicKey"
	flannelType   = "flannel.alpha.coreos.com/backend-type"
	ciliumNodeKey = "wireguard" // of Object.Data
	ciliumNodeSPI = "ipsec"
)

var ciliumNodes = snapshot.Source{Kind: snapshot.KindCiliumNode}

// encryption is that of the engine, or of the plugin below it where the engine has none.
func (c *choice) encryption() snapshot.NodeEncryption {
	var out snapshot.NodeEncryption
	for _, f := range []*Found{c.engine, c.base} {
		if f == nil || f.NodeEncryption == nil {
			continue
		}
		if s, r := f.unread(); r.Pending || r.Problem != "" {
			return snapshot.NodeEncryption{Unread: !r.Pending, Says: s.String() + " cannot be read: " + cmp.Or(r.Problem, "not yet")}
		}
		if e := f.NodeEncryption(f); out.State == "" || (out.State == snapshot.Unencrypted && e.State != "") {
			out = e
		}
	}
	return out
}

// unread returns a source of the engine's settings that cannot be read, or not yet, if there is one.
func (f *Found) unread() (snapshot.Source, snapshot.Reading) {
	if f.Reads == nil {
		return snapshot.Source{}, snapshot.Reading{}
	}
	for _, s := range f.Reads(f) {
		if r := f.Readings[s]; r.Problem != "" || r.Pending {
			return s, r
		}
	}
	return snapshot.Source{}, snapshot.Reading{}
}

// keyed says that encryption is on, and looks which nodes show no key, for whatever cause.
func (v *view) keyed(how, says string, has func(*snapshot.Node) bool) snapshot.NodeEncryption {
	out := snapshot.NodeEncryption{State: snapshot.Encrypted, How: how, Says: says}
	for i := range v.Nodes {
		if n := &v.Nodes[i]; !has(n) {
			out.Clear = append(out.Clear, n.Name)
		}
	}
	if len(out.Clear) > 0 {
		out.State = snapshot.EncryptedPartly
	}
	return out
}

func unencrypted(says string) snapshot.NodeEncryption {
	return snapshot.NodeEncryption{State: snapshot.Unencrypted, Says: says}
}

// calicoEncryption: Felix publishes a node's key, of each address family, when its interface is up; nodes without one are sent to in the clear, and so
// are pods' addresses of a family for which it is off. Below Canal it is Flannel that may encrypt.
func calicoEncryption(f *Found) snapshot.NodeEncryption {
	var how, says, without, clear []string
	for _, family := range []struct {
		key, suffix, name string
		of                func(netip.Addr) bool
	}{{"wireguardEnabled", "", "IPv4", netip.Addr.Is4}, {"wireguardEnabledV6", "V6", "IPv6", netip.Addr.Is6}} {
		values := felix(f, family.key)
		at := slices.IndexFunc(values, func(v felixValue) bool { return strings.EqualFold(v.value, "true") })
		if at >= 0 {
			on := f.keyed(family.name, "", func(n *snapshot.Node) bool { return n.Annotations[calicoKey+family.suffix] != "" })
			how, says, clear = append(how, family.name), append(says, values[at].from+" sets "+family.key), append(clear, on.Clear...)
		} else if slices.ContainsFunc(calicoPools(f), func(p netip.Prefix) bool { return family.of(p.Addr()) }) {
			without = append(without, family.name)
		}
	}
	switch {
	case how == nil && f.Base == baseFlannel:
		return flannelEncryption(f)
	case how == nil:
		return unencrypted("FelixConfiguration does not set wireguardEnabled")
	}
	slices.Sort(clear)
	out := snapshot.NodeEncryption{
		State: snapshot.Encrypted, How: wireGuard + ", " + strings.Join(how, " and "), Says: strings.Join(says, ", "), Clear: slices.Compact(clear),
	}
	if without != nil {
		out.How += " alone, although pods have addresses of " + without[0]
	}
	if len(clear) > 0 || without != nil {
		out.State = snapshot.EncryptedPartly
	}
	return out
}

// flannelEncryption goes by the backend that flanneld writes on its node.
func flannelEncryption(f *Found) snapshot.NodeEncryption { return flannelKeyed(f, flannelBackend(f)) }

// k3sEncryption is Flannel's, which is a part of k3s.
func k3sEncryption(f *Found) snapshot.NodeEncryption { return flannelKeyed(f, k3sBackend(f)) }

func flannelKeyed(f *Found, backend string) snapshot.NodeEncryption {
	how := map[string]string{"wireguard": wireGuard, "wireguard-native": wireGuard, "ipsec": ipsec}[backend]
	switch {
	case backend == "", backend == "none":
		return snapshot.NodeEncryption{}
	case how == "":
		return unencrypted("Flannel's backend is " + backend)
	}
	return f.keyed(how, "Flannel's backend is "+backend, func(n *snapshot.Node) bool {
		on := n.Annotations[flannelType]
		return on == "wireguard" || on == "ipsec"
	})
}

// ciliumEncryption looks at every layer of settings, and at what agents publish of their nodes.
func ciliumEncryption(f *Found) snapshot.NodeEncryption {
	layers, err := ciliumLayers(f)
	if err != nil {
		return snapshot.NodeEncryption{Unread: true, Says: err.Error()}
	}
	how, from, without := "", "", map[string]bool{}
	for _, l := range layers {
		layer, by := ciliumEncrypts(l.values)
		how, from = cmp.Or(how, layer), cmp.Or(from, by)
		for _, n := range l.nodes {
			without[n] = layer == ""
		}
	}
	switch how {
	case "":
		return unencrypted("Cilium has neither enable-wireguard nor enable-ipsec")
	case zTunnel:
		return snapshot.NodeEncryption{State: snapshot.EncryptedPartly, How: how, Says: from + ", which is for the namespaces that ask for it alone"}
	}
	published := map[string]bool{}
	for _, o := range f.objects(ciliumNodes) {
		spi := o.Data[ciliumNodeSPI]
		published[o.Name] = (how == wireGuard && o.Data[ciliumNodeKey] != "") || (how == ipsec && spi != "" && spi != "0")
	}
	out := f.keyed(how, from, func(n *snapshot.Node) bool { return published[n.Name] && !without[n.Name] })
	if strict, _ := isBool(true)(layers[0].values["enable-encryption-strict-mode-egress"].value); !strict && how == wireGuard {
		out.How += " without strict mode, so that the first packets to a new pod may go in the clear"
	}
	return out
}

const zTunnel = "ztunnel"

// ciliumEncrypts says what a layer of settings turns on, and which object says so.
func ciliumEncrypts(values map[string]ciliumValue) (how, from string) {
	for _, s := range []struct{ key, how string }{{"enable-wireguard", wireGuard}, {"enable-ipsec", ipsec}, {"enable-ztunnel", zTunnel}} {
		if on, err := strconv.ParseBool(strings.TrimSpace(values[s.key].value)); err == nil && on {
			return s.how, values[s.key].from + " sets " + s.key
		}
	}
	return "", ""
}

// ciliumNodeReads asks for CiliumNodes, of which there is one a node, only where they tell something.
func ciliumNodeReads(f *Found) []snapshot.Source {
	layers, err := ciliumLayers(f)
	if err != nil {
		return nil
	}
	for _, l := range layers {
		if how, _ := ciliumEncrypts(l.values); how == wireGuard || how == ipsec {
			return []snapshot.Source{ciliumNodes}
		}
	}
	return nil
}

// antreaEncryption goes by the agents' file: it works with encapsulation alone.
func antreaEncryption(f *Found) snapshot.NodeEncryption {
	config, err := antreaConfig(f, "antrea-agent.conf")
	if err != nil {
		return snapshot.NodeEncryption{Unread: true, Says: err.Error()}
	}
	mode, where := text(config["trafficEncryptionMode"]), "ConfigMap "+f.DaemonSet.Namespace+"/antrea-config"
	how := map[string]string{"wireguard": wireGuard, "ipsec": ipsec}[strings.ToLower(mode)]
	switch encapsulation := strings.ToLower(text(config["trafficEncapMode"])); {
	case how == "" && (mode == "" || strings.EqualFold(mode, "none")):
		return unencrypted(where + " does not set trafficEncryptionMode")
	case how == "":
		return snapshot.NodeEncryption{Unread: true, Says: fmt.Sprintf("%s sets trafficEncryptionMode: %s, which is not known", where, mode)}
	case encapsulation != "" && encapsulation != "encap":
		return unencrypted(fmt.Sprintf("%s sets trafficEncryptionMode: %s, which has no effect with trafficEncapMode: %s", where, mode, encapsulation))
	}
	return snapshot.NodeEncryption{State: snapshot.Encrypted, How: how, Says: where + " sets trafficEncryptionMode; nodes show no keys"}
}

// weaveEncryption goes by the password that all of its peers share, which has them encrypt, but between subnets that its flags name as trusted
// (weave kube reference, WEAVE_PASSWORD; weave launch --trusted-subnets). Its flags come from several places, and are not read.
func weaveEncryption(f *Found) snapshot.NodeEncryption {
	for _, c := range f.DaemonSet.Containers {
		if c.Env[snapshot.EnvWeavePassword] == snapshot.EnvGiven {
			return snapshot.NodeEncryption{
				State: snapshot.EncryptedPartly, How: engineWeave + ", but within --trusted-subnets, which are not read",
				Says: f.DaemonSet.String() + " has the environment variable " + snapshot.EnvWeavePassword + "; nodes show no keys",
			}
		}
	}
	return unencrypted(f.DaemonSet.String() + " has no environment variable " + snapshot.EnvWeavePassword)
}

// ovnEncryption goes by OpenShift's operator, or by the DaemonSet that upstream runs for it.
func ovnEncryption(f *Found) snapshot.NodeEncryption {
	for i := range f.DaemonSets {
		if d := &f.DaemonSets[i]; d.Name == "ovn-ipsec" && d.Namespace == f.DaemonSet.Namespace {
			return snapshot.NodeEncryption{State: snapshot.Encrypted, How: ipsec, Says: d.String() + " runs; nodes show no keys"}
		}
	}
	objects := f.objects(openShiftSDN)
	for i := range objects {
		o := &objects[i]
		switch mode := text(field(o, "spec", "defaultNetwork", "ovnKubernetesConfig", "ipsecConfig", "mode")); mode {
		case "Full":
			return snapshot.NodeEncryption{State: snapshot.Encrypted, How: ipsec, Says: o.String() + " sets ipsecConfig.mode: Full; nodes show no keys"}
		case "External":
			return unencrypted(o.String() + " sets ipsecConfig.mode: External, which leaves out pods")
		}
	}
	return unencrypted("OVN-Kubernetes runs without IPsec")
}

func kindnetEncryption(f *Found) snapshot.NodeEncryption {
	if on, _ := isBool(true)(f.Agent.Flags["ipsec-overlay"]); on {
		return snapshot.NodeEncryption{State: snapshot.Encrypted, How: ipsec, Says: f.DaemonSet.String() + " runs with --ipsec-overlay; nodes show no keys"}
	}
	return unencrypted(f.DaemonSet.String() + " runs without --ipsec-overlay")
}

// never is for plugins that have nothing of the kind.
func never(name string) func(*Found) snapshot.NodeEncryption {
	return func(*Found) snapshot.NodeEncryption { return unencrypted(name + " cannot encrypt") }
}
