// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"strings"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

var (
	coreCapability = Capability{Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "no", Native: "none"}
	noCapability   = Capability{Ingress: "no", Egress: "no", EndPort: "no", ClusterNetworkPolicy: "no", Native: "none"}
	unknownMeans   = Capability{Ingress: "not known", Egress: "not known", EndPort: "not known", ClusterNetworkPolicy: "not known", Native: "not known"}
	knpCapability  = Capability{Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "only in -npa-v1alpha2 builds", Native: "none"}
)

var vpcControllerSwitch = Setting{
	Object: "ConfigMap kube-system/amazon-vpc-cni", Key: vpcController, Means: "anything but true: the controller hands out no policies",
	Reason: pcinetv1alpha1.ReasonVPCCNIControllerOff, Effect: Disables,
	Check: with(vpcControllerOff, "Nothing is enforced. Set it to \"true\"."),
}

var knpSettings = []Setting{
	{
		Object: "kube-network-policies", Key: "--fail-open", Means: "true, the default: everything passes while the agent is down", Effect: Weakens,
		Check: with(flagCheck("fail-open", true, true), "While the agent is down, everything passes. Set it to false."),
	},
	{
		Object: "kube-network-policies", Key: "--strict-mode", Means: "false leaves established connections alone", Effect: Weakens,
		Check: with(flagCheck("strict-mode", true, false), "Connections that are older than a policy go on."),
	},
}

var azureNPMSettings = []Setting{{
	Object: "azure-npm", Key: "(always)", Means: "windows without rules when its pod restarts; at most 250 nodes", Effect: Weakens, Check: azureNPMLarge,
}}

var cloudRows = []Engine{
	{
		Installed: "AKS with Azure NPM Lite", Policy: engineAzureNPM, Base: baseAzure, Encapsulation: azureEncapsulation,
		Marks:      Marks{Container: "azure-npm-lite", Name: "azure-npm-lite", Label: "k8s-app=azure-npm-lite", Images: []string{"containernetworking/azure-npm-lite", "azure-npm-lite"}},
		Capability: coreCapability, Settings: azureNPMSettings,
	},
	{
		Installed: "AKS with Azure NPM", Policy: engineAzureNPM, Base: baseAzure, Encapsulation: azureEncapsulation,
		Marks:      Marks{Container: "azure-npm", Name: "azure-npm", Label: "k8s-app=azure-npm", Images: []string{"containernetworking/azure-npm", "azure-npm"}},
		Capability: coreCapability, Settings: azureNPMSettings,
	},
	{
		Installed: "Amazon VPC CNI with its policy agent", Policy: engineVPC, Base: baseVPC, Encapsulation: always(snapshot.Direct),
		Marks: Marks{Container: "aws-eks-nodeagent", Name: "aws-node", Label: "k8s-app=aws-node", Images: []string{"amazon/aws-network-policy-agent", "aws-network-policy-agent"}},
		Reads: reads(vpcConfig),
		Capability: Capability{
			Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "a kind of its own, networking.k8s.aws (weak)", Native: "ApplicationNetworkPolicy (weak)",
		},
		Settings: []Setting{
			{
				Object: "DaemonSet aws-node, container aws-eks-nodeagent", Key: "--enable-network-policy", Means: "false, the default: nothing is enforced on nodes",
				Reason: pcinetv1alpha1.ReasonVPCCNIAgentOff, Effect: Disables,
				Check: with(flagCheck("enable-network-policy", false, false), "Nothing is enforced. Set enableNetworkPolicy to \"true\" in the configuration of the add-on vpc-cni."),
			},
			vpcControllerSwitch,
			{
				Object: "CustomResourceDefinition " + policyEndpointCRD, Key: "(existence)", Means: "the controller creates it when it starts",
				Reason: pcinetv1alpha1.ReasonVPCCNIControllerAbsent, Effect: Unsure, Check: vpcControllerAbsent,
			},
			{Object: "DaemonSet aws-node", Key: "NETWORK_POLICY_ENFORCING_MODE", Means: "standard, the default: new pods start open", Effect: Weakens, Check: vpcStandard},
			{
				Object: "DaemonSet aws-node", Key: "ENABLE_V4_EGRESS", Means: "true gives pods a second interface, without policies", Effect: Weakens,
				Check: vpcSwitch("ENABLE_V4_EGRESS", "pods have a second interface, which policies do not cover."),
			},
			{
				Object: "DaemonSet aws-node", Key: "ENABLE_BANDWIDTH_PLUGIN", Means: "true chains a plugin that collides with the policy agent", Effect: Weakens,
				Check: vpcSwitch("ENABLE_BANDWIDTH_PLUGIN", "it collides with the policy agent, and policies may not be enforced. Set it to false."),
			},
		},
	},
	{
		Installed: "Amazon VPC CNI without its policy agent", Base: baseVPC, Encapsulation: always(snapshot.Direct), Capability: noCapability,
		Marks:  Marks{Container: "aws-node", Name: "aws-node", Label: "k8s-app=aws-node", Images: []string{"amazon-k8s-cni"}},
		Remedy: "Set enableNetworkPolicy to \"true\" in the configuration of the add-on vpc-cni, which adds the agent.",
	},
	{
		Installed: "EKS Auto Mode", Policy: engineEKSAuto, Base: baseVPC, Encapsulation: always(snapshot.Direct),
		Also: "label `eks.amazonaws.com/compute-type=auto`",
		Is: func(v *view, _ *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
			for i := range v.Nodes {
				if v.Nodes[i].Labels[computeType] == "auto" {
					return []snapshot.Signal{{Object: "Node " + v.Nodes[i].Name, Says: "label " + computeType + "=auto"}}, true
				}
			}
			return nil, false
		},
		Reads:      reads(vpcConfig, eksNodeClasses),
		Capability: Capability{Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "no", Native: "none"},
		Settings: []Setting{
			vpcControllerSwitch,
			{Object: "NodeClass", Key: "spec.networkPolicy", Means: "DefaultAllow, the default: new pods start open", Effect: Weakens, Check: eksOpen},
		},
	},
	{
		Installed: "AKS without network policy (Azure CNI)", Base: baseAzure, Encapsulation: azureEncapsulation, Capability: noCapability, Weak: true,
		Marks:  Marks{Container: "cns-container", Name: "azure-cns", Label: "k8s-app=azure-cns", Images: []string{"containernetworking/azure-cns", "azure-cns"}},
		Remedy: azureRemedy,
	},
	{
		Installed: "AKS without network policy (kubenet)", Base: baseKubenet, Encapsulation: always(snapshot.Direct), Capability: noCapability, Weak: true,
		Marks: Marks{Container: "azure-ip-masq-agent", Name: "azure-ip-masq-agent", Label: "k8s-app=azure-ip-masq-agent", Images: []string{"ip-masq-agent-v2", "azure-ip-masq-agent"}},
		Also:  "the nodes are AKS",
		Is: func(v *view, _ *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
			return []snapshot.Signal{{Object: "Nodes", Says: "AKS"}}, v.provider == AKS
		},
		Remedy: azureRemedy,
	},
}

// azureRemedy is for clusters whose provider can add an engine.
const azureRemedy = "Give the cluster a network policy engine: az aks update --network-policy cilium (or azure, calico)."

var otherRows = []Engine{
	{
		Installed: "Flannel with kube-network-policies", Policy: engineKNP, Base: baseFlannel, Reads: readsConfigMaps("kube-flannel-cfg"), Encapsulation: flannelEncapsulation, NodeEncryption: flannelEncryption,
		Marks:      Marks{Container: "kube-network-policies", With: "kube-flannel", Name: "kube-flannel-ds", Label: "app=flannel", Images: []string{"networking/kube-network-policies", "kube-network-policies"}},
		Capability: knpCapability, Settings: knpSettings,
	},
	{
		Installed: "Flannel (also of RKE2 and Talos)", Base: baseFlannel, Reads: readsConfigMaps("kube-flannel-cfg"), Encapsulation: flannelEncapsulation, NodeEncryption: flannelEncryption, Capability: noCapability,
		Marks:  Marks{Container: "kube-flannel", Name: "kube-flannel-ds", Label: "app=flannel", Images: []string{"flannel/flannel", "flannel", "mirrored-flannel-flannel", "mirrored-flannelcni-flannel", "hardened-flannel"}},
		Remedy: "Add an engine that works beside Flannel, such as kube-network-policies (Flannel's chart value netpol.enabled) or Calico (Canal).",
	},
	{
		Installed: "kube-network-policies beside another plugin", Policy: engineKNP,
		Marks:      Marks{Container: "kube-network-policies", Name: "kube-network-policies", Label: "k8s-app=kube-network-policies", Images: []string{"networking/kube-network-policies", "kube-network-policies"}},
		Capability: knpCapability, Settings: knpSettings,
	},
	{
		Installed: "kube-router (also of k0s)", Policy: engineKubeRouter, Base: engineKubeRouter, Encapsulation: kubeRouterEncapsulation, NodeEncryption: never(engineKubeRouter), Capability: coreCapability,
		Marks: Marks{Container: "kube-router", Name: "kube-router", Label: "k8s-app=kube-router", Images: []string{"kube-router"}},
		Settings: []Setting{{
			Object: "kube-router", Key: "--run-firewall", Means: "false: policies are ignored", Reason: pcinetv1alpha1.ReasonKubeRouterFirewallOff, Effect: Disables,
			Check: with(flagCheck("run-firewall", true, false), "Policies are ignored. Set it to true."),
		}},
	},
	{
		Installed: "kind, with its kindnetd older than kind v0.24.0", Base: baseKindnet, Encapsulation: always(snapshot.Direct), Capability: noCapability,
		Marks: Marks{Container: "kindnet-cni", Name: "kindnet", Label: "k8s-app=kindnet", Images: []string{"kindest/kindnetd"}},
		Also:  "an image dated before 2024-08-13",
		Is: func(_ *view, d *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
			enforces, known := kindnetdEnforces(d)
			return []snapshot.Signal{{Object: d.String(), Says: "image older than v" + kindnetdWithPolicy}}, known && !enforces
		},
		Remedy: "Make the cluster anew with kind v0.24.0 or later.",
	},
	{
		Installed: "kindnet, and kind v0.24.0 or later", Policy: engineKindnet, Base: baseKindnet, Encapsulation: always(snapshot.Direct), NodeEncryption: kindnetEncryption, Capability: knpCapability,
		Marks: Marks{Container: "kindnet-cni", Name: "kindnet", Label: "k8s-app=kindnet", Images: []string{"networking/kindnet", "kindest/kindnetd"}},
		Is: func(_ *view, d *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
			if runs(d, "kindest/kindnetd") {
				if _, known := kindnetdEnforces(d); !known {
					return []snapshot.Signal{{Object: d.String(), Says: "image without a date", Weak: true}}, true
				}
			}
			return nil, true
		},
		Settings: []Setting{{
			Object: "kindnet", Key: "--network-policy", Means: "false: policies are ignored", Reason: pcinetv1alpha1.ReasonKindnetNetworkPolicyOff, Effect: Disables,
			Check: with(flagCheck("network-policy", true, false), "Policies are ignored. Set it to true."),
		}},
	},
	{
		Installed: "Antrea", Policy: engineAntrea, Base: engineAntrea, Reads: readsConfigMaps("antrea-config"), Encapsulation: antreaEncapsulation, NodeEncryption: antreaEncryption,
		Marks:      Marks{Container: "antrea-agent", Name: "antrea-agent", Label: "component=antrea-agent", Images: []string{"antrea/antrea-agent-ubuntu", "antrea/antrea-agent-ubi", "antrea/antrea-ubuntu", "antrea-agent"}},
		Capability: Capability{Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "2.7 and later, off by default", Native: "ClusterNetworkPolicy, NetworkPolicy, Tier of crd.antrea.io"},
		Settings: []Setting{{
			Object: "ConfigMap antrea-config", Key: "featureGates.AntreaPolicy", Means: "false: Antrea's own policies are ignored", Effect: Weakens, Check: antreaGates,
		}},
	},
	{
		Installed: "OVN-Kubernetes (also of OpenShift)", Policy: engineOVN, Base: engineOVN, Encapsulation: always(snapshot.Overlay), NodeEncryption: ovnEncryption,
		Marks:      Marks{Container: "ovn-controller", Name: "ovnkube-node", Label: "app=ovnkube-node", Images: []string{"ovn-kube-ubuntu", "ovn-kube-fedora", "ovn-kubernetes"}},
		Reads:      reads(openShiftConfig, openShiftSDN),
		Capability: Capability{Ingress: "yes", Egress: "yes", EndPort: "yes", ClusterNetworkPolicy: "no, v1alpha1 alone", Native: "EgressFirewall"},
	},
	{
		Installed: "OpenShift SDN", Policy: engineSDN, Base: engineSDN, Encapsulation: always(snapshot.Overlay), Reads: reads(openShiftConfig, openShiftSDN),
		Marks:      Marks{Container: "sdn", Name: "sdn", Label: "app=sdn", Images: []string{"openshift/origin-sdn", "origin-sdn"}},
		Capability: Capability{Ingress: "yes", Egress: "late 4.x (weak)", EndPort: "late 4.x (weak)", ClusterNetworkPolicy: "no", Native: "EgressNetworkPolicy"},
		Settings: []Setting{{
			Object: "network.operator.openshift.io cluster", Key: "spec.defaultNetwork.openshiftSDNConfig.mode", Means: "Subnet and Multitenant ignore NetworkPolicies",
			Reason: pcinetv1alpha1.ReasonOpenShiftSDNMode, Effect: Disables, Check: openShiftMode,
		}},
	},
	{
		Installed: "Weave Net", Policy: engineWeave, Base: engineWeave, Encapsulation: always(snapshot.Overlay), NodeEncryption: weaveEncryption,
		Marks:      Marks{Container: "weave-npc", Name: "weave-net", Label: "name=weave-net", Images: []string{"weaveworks/weave-npc", "weave-npc"}},
		Capability: Capability{Ingress: "yes", Egress: "2.6 and later, but not to the node itself", EndPort: "no", ClusterNetworkPolicy: "no", Native: "none"},
		Settings: []Setting{{
			Object: "DaemonSet weave-net, container weave", Key: "EXPECT_NPC", Means: "0: policies are ignored", Reason: pcinetv1alpha1.ReasonWeavePolicyOff, Effect: Disables, Check: weaveOff,
		}},
	},
	{
		Installed: "Weave Net without weave-npc", Base: engineWeave, Encapsulation: always(snapshot.Overlay), NodeEncryption: weaveEncryption, Capability: noCapability,
		Marks:  Marks{Container: "weave", Name: "weave-net", Label: "name=weave-net", Images: []string{"weaveworks/weave-kube", "weave-kube"}},
		Remedy: "Add the container weave-npc to the DaemonSet, as upstream's manifest has it.",
	},
	{
		Installed: "k3s, embedded", Policy: engineK3s, BaseOf: k3sBase, Encapsulation: k3sEncapsulation, NodeEncryption: k3sEncryption, Capability: coreCapability,
		Also: "kubelet `…+k3s…`",
		Is: func(v *view, _ *snapshot.DaemonSet) ([]snapshot.Signal, bool) {
			for i := range v.Nodes {
				if n := &v.Nodes[i]; strings.Contains(n.Kubelet, "+k3s") {
					return []snapshot.Signal{{Object: "Node " + n.Name, Says: "kubelet " + n.Kubelet}}, true
				}
			}
			return nil, false
		},
		Settings: []Setting{
			{
				Object: "servers' Node annotation " + k3sArgs, Key: "--disable-network-policy", Means: "the policy controller does not start",
				Reason: pcinetv1alpha1.ReasonK3sNetworkPolicyOff, Effect: Disables, Check: k3sPolicyOff,
			},
			{Object: "nodes", Key: "(not visible)", Means: "without ipset the policy controller does not start, and nothing shows it", Effect: Weakens, Check: k3sIpset},
		},
	},
	unjudged("Kube-OVN", Marks{Container: "cni-server", Name: "kube-ovn-cni", Label: "app=kube-ovn-cni", Images: []string{"kubeovn/kube-ovn"}}),
	unjudged("Terway", Marks{Container: "terway", Name: "terway-eniip", Label: "app=terway-eniip", Images: []string{"acs/terway"}}),
	unjudged("NSX NCP", Marks{Container: "nsx-node-agent", Name: "nsx-node-agent", Label: "component=nsx-node-agent", Images: []string{"nsx-ncp-ubuntu", "nsx-ncp"}}),
	unjudged("OCI VCN-native", Marks{Container: "vcn-native-ip-cni", Name: "vcn-native-ip-cni", Label: "app=vcn-native-ip-cni", Images: []string{"oci-native-vcn-cni"}}),
}

// unjudged is a plugin that is seen in the field, and whose enforcement nothing here can judge.
func unjudged(name string, marks Marks) Engine {
	return Engine{Installed: name, Base: name, Marks: marks, Unjudged: true, Weak: true, Capability: unknownMeans}
}
