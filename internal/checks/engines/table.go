// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"slices"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The policy engines, and what connects pods where no engine does.
const (
	engineCalico     = "Calico"
	engineCilium     = "Cilium"
	engineDPv2       = "GKE Dataplane V2"
	engineAzureNPM   = "Azure NPM"
	engineVPC        = "Amazon VPC CNI"
	engineEKSAuto    = "EKS Auto Mode"
	engineKNP        = "kube-network-policies"
	engineKubeRouter = "kube-router"
	engineK3s        = "k3s"
	engineKindnet    = "kindnet"
	engineAntrea     = "Antrea"
	engineOVN        = "OVN-Kubernetes"
	engineSDN        = "OpenShift SDN"
	engineWeave      = "Weave Net"

	baseCalico  = "Calico"
	baseFlannel = "Flannel"
	baseVPC     = "Amazon VPC CNI"
	baseAzure   = "Azure CNI"
	baseGKE     = "GKE"
	baseKindnet = "kindnet"
	baseKubenet = "kubenet"
)

const reasonUnreadable = pcinetv1alpha1.ReasonSettingUnreadable

// Table holds every known way to install an engine. For one DaemonSet the first row that matches counts, so special ways
// come before general ones.
//
// Sources: the upstreams' manifests and code; where a row is Weak, documentation or hearsay.
var Table = slices.Concat(calicoRows, ciliumRows, cloudRows, otherRows)

var (
	calicoMarks = Marks{
		Container: "calico-node", Name: "calico-node", Label: "k8s-app=calico-node",
		Images: []string{"calico/node", "calico-node", "mirrored-calico-node", "hardened-calico"},
	}
	canalMarks = Marks{
		Container: "calico-node", With: "kube-flannel", Name: "canal", Label: "k8s-app=canal", Images: calicoMarks.Images,
	}
	rke2CanalMarks = Marks{
		Container: "calico-node", With: "kube-flannel", Name: "rke2-canal", Label: "k8s-app=canal", Images: []string{"hardened-calico"},
	}
	calicoCapability = Capability{
		Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "3.32 and later",
		Native: "NetworkPolicy, GlobalNetworkPolicy, Staged…, Tier, HostEndpoint",
	}
	canalCapability = Capability{
		Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "as its Calico",
		Native: "where an API server or native CRDs are installed (weak)",
	}
)

var calicoSettings = []Setting{
	{
		Object: "ClusterInformation default", Key: "spec.datastoreReady", Means: "false locks the datastore: agents go on with what they saw last",
		Reason: pcinetv1alpha1.ReasonCalicoDatastoreNotReady, Effect: Disables, Check: calicoDatastore,
	},
	{
		Object: "DatastoreMigration", Key: "status.phase", Means: "while it is Pending, Migrating or WaitingForConflictResolution, new policies have no effect",
		Reason: pcinetv1alpha1.ReasonCalicoMigrating, Effect: Disables, Check: calicoMigration,
	},
	{
		Object: "calico-node, FelixConfiguration", Key: "FELIX_INTERFACEPREFIX, interfacePrefix", Means: "another prefix than the plugin's interfaces have hides pods from Calico (weak)",
		Reason: pcinetv1alpha1.ReasonCalicoInterfacePrefix, Effect: Unsure, Check: calicoPrefix,
	},
	{
		Object: "calico-node, FelixConfiguration", Key: "chainInsertMode", Means: "Append lets earlier rules of the host accept first (weak)",
		Effect: Weakens, Check: with(felixCheck("chainInsertMode", "Append"), "Rules of the host that accept come first (a weak signal). Set it to Insert."),
	},
	{
		Object: "calico-node, FelixConfiguration", Key: "workloadSourceSpoofing", Means: "Any lets pods send from addresses that are not theirs (weak)",
		Effect: Weakens, Check: with(felixCheck("workloadSourceSpoofing", "Any"), "Pods may send from addresses that are not theirs (a weak signal). Set it to Disabled."),
	},
	{
		Object: "calico-node, FelixConfiguration", Key: "allowVXLANPacketsFromWorkloads", Means: "true lets pods tunnel around policies (weak)",
		Effect: Weakens, Check: with(felixCheck("allowVXLANPacketsFromWorkloads", "true"), "Pods may tunnel around policies (a weak signal). Set it to false."),
	},
	{
		Object: "calico-node, FelixConfiguration", Key: "allowIPIPPacketsFromWorkloads", Means: "true lets pods tunnel around policies (weak)",
		Effect: Weakens, Check: with(felixCheck("allowIPIPPacketsFromWorkloads", "true"), "Pods may tunnel around policies (a weak signal). Set it to false."),
	},
	{
		Object: "calico-node, FelixConfiguration; ConfigMap kube-system/kube-proxy", Key: "nftablesMode; mode", Means: "rules in a table that packets do not pass have no effect (weak)",
		Effect: Weakens, Check: calicoDataplane,
	},
	{
		Object: "calico-node", Key: "DATASTORE_TYPE", Means: "etcdv3 keeps Calico's policies and settings out of the Kubernetes API",
		Effect: Weakens, Check: calicoEtcd,
	},
}

// also is what must hold beside the marks of a row.
type also struct {
	text string
	is   func(*view, *snapshot.DaemonSet) ([]snapshot.Signal, bool)
}

// calicoRow is what the rows of Calico have in common.
func calicoRow(installed string, marks *Marks, a also) Engine {
	return Engine{
		Installed: installed, Policy: engineCalico, Marks: *marks, Also: a.text, Is: a.is, Reads: calicoReads, BaseOf: calicoBase,
		Encapsulation: calicoEncapsulation, NodeEncryption: calicoEncryption, Native: Calico, Capability: calicoCapability, Settings: calicoSettings,
	}
}

// canalRow is Calico for policies and Flannel for the network in one DaemonSet.
func canalRow(installed string, marks *Marks, config string, a also) Engine {
	row := calicoRow(installed, marks, a)
	row.Base, row.BaseOf, row.Capability = baseFlannel, nil, canalCapability
	row.Reads = func(f *Found) []snapshot.Source { return append(calicoReads(f), readsConfigMaps(config)(f)...) }
	return row
}

func calicoEnv(d *snapshot.DaemonSet, name string) string {
	for _, c := range d.Containers {
		if value := c.Env[name]; value != "" {
			return value
		}
	}
	return ""
}

var calicoRows = []Engine{
	canalRow("RKE2 Canal", &rke2CanalMarks, "rke2-canal-config", also{"the name, or the nodes are RKE2", func(v *view, d *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
		return nil, v.provider == RKE2 || d.Name == rke2CanalMarks.Name
	}}),
	canalRow("Canal", &canalMarks, "canal-config", also{}),
	calicoRow("AKS with Calico", &calicoMarks, also{"the nodes are AKS (weak)", func(v *view, _ *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
		return []snapshot.Signal{{Object: "Nodes", Says: "AKS", Weak: true}}, v.provider == AKS
	}}),
	calicoRow("GKE with Calico (legacy data plane)", &calicoMarks, also{"the nodes are GKE (weak)", func(v *view, d *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
		signals := []snapshot.Signal{{Object: "Nodes", Says: "GKE", Weak: true}}
		if d.NodeSelector["projectcalico.org/ds-ready"] != "" {
			signals = append(signals, snapshot.Signal{Object: d.String(), Says: "node selector projectcalico.org/ds-ready", Weak: true})
		}
		return signals, v.provider == GKE
	}}),
	calicoRow("Calico for policies only", &calicoMarks, also{"`CALICO_NETWORKING_BACKEND=none`", func(_ *view, d *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
		agent, _ := calicoMarks.match(d)
		return []snapshot.Signal{{Object: d.String(), Says: "env CALICO_NETWORKING_BACKEND=none"}}, policyOnly(agent)
	}}),
	calicoRow("Calico by its operator", &calicoMarks, also{"`CLUSTER_TYPE=k8s,operator…`, or namespace calico-system", func(_ *view, d *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
		if kind := calicoEnv(d, "CLUSTER_TYPE"); len(kind) >= len("k8s,operator") && kind[:len("k8s,operator")] == "k8s,operator" {
			return []snapshot.Signal{{Object: d.String(), Says: "env CLUSTER_TYPE=" + kind}}, true
		}
		return []snapshot.Signal{{Object: d.String(), Says: "namespace calico-system"}}, d.Namespace == "calico-system"
	}}),
	calicoRow("Calico by manifest", &calicoMarks, also{}),
}

var (
	ciliumMarks = Marks{
		Container: "cilium-agent", Name: "cilium", Label: "k8s-app=cilium",
		Images: []string{"cilium/cilium", "cilium/cilium-ci", "mirrored-cilium-cilium", "hardened-cilium"},
	}
	anetdMarks       = Marks{Container: "cilium-agent", Name: "anetd", Label: "k8s-app=cilium", Images: ciliumMarks.Images}
	ciliumCapability = Capability{
		Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "1.20 and later, off by default",
		Native: "CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, CiliumCIDRGroup",
	}
)

// ciliumPlace is where Cilium's settings are, the later over the earlier.
const ciliumPlace = "Cilium's configuration, all layers"

var ciliumSettings = []Setting{
	{
		Object: "ConfigMap cilium-config", Key: "(all)", Means: "without it nothing is known",
		Reason: reasonUnreadable, Effect: Unsure, Check: ciliumExists,
	},
	{
		Object: ciliumPlace, Key: "enable-policy", Means: "never ignores every policy", Reason: pcinetv1alpha1.ReasonCiliumPolicyNever, Effect: Disables,
		Check: with(ciliumCheck("enable-policy", isPolicyMode), "Cilium ignores every policy there. Set it to default and restart the agents."),
	},
	{
		Object: ciliumPlace, Key: "policy-audit-mode", Means: "true logs what a policy denies, and lets it through", Reason: pcinetv1alpha1.ReasonCiliumAuditMode, Effect: Disables,
		Check: with(ciliumCheck("policy-audit-mode", isBool(true)), "Cilium logs there what is denied, and lets it through. Set it to \"false\" and restart the agents."),
	},
	{
		Object: ciliumPlace, Key: "enable-k8s-networkpolicy", Means: "false ignores core NetworkPolicies", Reason: pcinetv1alpha1.ReasonCiliumIgnoresNetworkPolicy,
		Effect: Disables, Backend: NetworkPolicy,
		Check: with(ciliumCheck("enable-k8s-networkpolicy", isBool(false)), "Cilium ignores NetworkPolicies there. Set it to \"true\" and restart the agents."),
	},
	{
		Object: ciliumPlace, Key: "enable-cilium-network-policy", Means: "false ignores CiliumNetworkPolicies", Reason: pcinetv1alpha1.ReasonCiliumIgnoresCiliumPolicy,
		Effect: Disables, Backend: Cilium,
		Check: with(ciliumCheck("enable-cilium-network-policy", isBool(false)), "Cilium ignores CiliumNetworkPolicies there. Set it to \"true\" and restart the agents."),
	},
	{
		Object: ciliumPlace, Key: "enable-non-default-deny-policies", Means: "false makes every CiliumNetworkPolicy a deny for its direction", Effect: Weakens, Backend: Cilium,
		Check: with(ciliumCheck("enable-non-default-deny-policies", isBool(false)), "enableDefaultDeny of CiliumNetworkPolicies is ignored."),
	},
	{
		Object: ciliumPlace, Key: "allow-localhost", Means: "policy subjects probes of the node's kubelet to policies", Effect: Weakens,
		Check: with(ciliumCheck("allow-localhost", isText("policy")), "Probes of the kubelet are subject to policies, and a deny breaks them. Set it to auto."),
	},
	{
		Object: ciliumPlace, Key: "bpf-policy-map-max", Means: "a map that is too small leaves policies incomplete (weak)", Effect: Weakens,
		Check: with(ciliumOverflow, "Raise it, or set enable-endpoint-lockdown-on-policy-overflow to \"true\"."),
	},
	{
		Object: ciliumPlace, Key: "disable-endpoint-crd", Means: "true hides which pods Cilium manages", Effect: Weakens,
		Check: with(ciliumCheck("disable-endpoint-crd", isBool(true)), "The API does not show which pods Cilium manages."),
	},
}

func ciliumRow(installed string, marks *Marks, a also) Engine {
	return Engine{
		Installed: installed, Policy: engineCilium, Base: engineCilium, Marks: *marks, Also: a.text, Is: a.is, Reads: ciliumReads,
		Encapsulation: ciliumEncapsulation, NodeEncryption: ciliumEncryption, Native: Cilium, Capability: ciliumCapability, Settings: ciliumSettings,
	}
}

// asFound lets a row's Is read settings of the DaemonSet before the row is chosen.
func asFound(v *view, d *snapshot.DaemonSet, marks *Marks) *Found {
	agent, _ := marks.match(d)
	return &Found{view: v, Engine: &Engine{}, DaemonSet: d, Agent: agent}
}

var ciliumRows = []Engine{
	func() Engine {
		row := ciliumRow("GKE Dataplane V2", &anetdMarks, also{"the nodes are GKE, or the name in kube-system", func(v *view, d *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
			return nil, v.provider == GKE || d.Name == anetdMarks.Name && d.Namespace == "kube-system"
		}})
		row.Policy, row.Base, row.Native = engineDPv2, baseGKE, ""
		row.Encapsulation = always(snapshot.Direct)
		row.Capability = Capability{
			Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "no",
			Native: "CiliumNetworkPolicy is no supported API there; clusterwide policies on request, layers 3 and 4 (weak)",
		}
		return row
	}(),
	func() Engine {
		row := ciliumRow("AKS, Azure CNI powered by Cilium", &ciliumMarks, also{"the nodes are AKS, and `ipam: delegated-plugin`", func(v *view, d *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
			f := asFound(v, d, &ciliumMarks)
			delegated := ciliumSetting(f, "ipam") == "delegated-plugin"
			return []snapshot.Signal{{Object: "ConfigMap " + d.Namespace + "/" + ciliumConfig, Says: "ipam: delegated-plugin"}}, v.provider == AKS && delegated
		}})
		row.Base = baseAzure
		row.Capability.Native = "CiliumNetworkPolicy and clusterwide ones; layer 7 and names need ACNS"
		return row
	}(),
	func() Engine {
		row := ciliumRow("Cilium chained to another plugin", &ciliumMarks, also{"`cni-chaining-mode` other than none and portmap", func(v *view, d *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
			f := asFound(v, d, &ciliumMarks)
			return []snapshot.Signal{{
				Object: "ConfigMap " + d.Namespace + "/" + ciliumConfig, Says: "cni-chaining-mode: " + ciliumSetting(f, "cni-chaining-mode"),
			}}, ciliumChained(f)
		}})
		row.Base = ""
		row.Settings = append(slices.Clone(ciliumSettings), Setting{
			Object: "ConfigMap cilium-config", Key: "cni-chaining-mode", Means: "pods made before Cilium was chained are not managed by it", Effect: Weakens,
			Check: func(*Found) []Finding {
				return []Finding{{Message: "Pods that were made before Cilium was chained to the network plugin are outside its policies until they are made anew."}}
			},
		})
		return row
	}(),
	ciliumRow("Cilium", &ciliumMarks, also{}),
}
