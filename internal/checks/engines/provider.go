// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"strings"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Provider is who runs the cluster, or the distribution it is made with.
type Provider string

// The providers. Clouds are named where nothing shows a managed cluster.
const (
	EKS             Provider = "EKS"
	GKE             Provider = "GKE"
	AKS             Provider = "AKS"
	OpenShift       Provider = "OpenShift"
	K3s             Provider = "k3s"
	RKE2            Provider = "RKE2"
	Kind            Provider = "kind"
	Kubeadm         Provider = "kubeadm"
	UnknownProvider Provider = "Unknown"
)

const (
	osLabel      = "kubernetes.io/os"
	windows      = "windows"
	computeType  = "eks.amazonaws.com/compute-type"
	openShiftCRD = "clusterversions.config.openshift.io"
)

var kubeadmConfig = snapshot.Source{Kind: snapshot.KindConfigMap, Namespace: "kube-system", Name: "kubeadm-config"}

// providers are tried in this order on one node after another: what runs on a cloud is named before the cloud.
var providers = []struct {
	is       func(*snapshot.Node) bool
	provider Provider
}{
	{func(n *snapshot.Node) bool { return strings.Contains(n.Kubelet, "+k3s") }, K3s},
	{func(n *snapshot.Node) bool { return strings.Contains(n.Kubelet, "+rke2") }, RKE2},
	{func(n *snapshot.Node) bool { return strings.HasPrefix(n.ProviderID, "kind://") }, Kind},
	{func(n *snapshot.Node) bool {
		return strings.Contains(n.Kubelet, "-eks-") || n.Labels[computeType] != ""
	}, EKS},
	{func(n *snapshot.Node) bool { return n.Labels["eks.amazonaws.com/nodegroup"] != "" }, EKS},
	{func(n *snapshot.Node) bool { return strings.Contains(n.Kubelet, "-gke.") }, GKE},
	{func(n *snapshot.Node) bool { return n.Labels["cloud.google.com/gke-nodepool"] != "" }, GKE},
	{func(n *snapshot.Node) bool { return n.Labels["kubernetes.azure.com/cluster"] != "" }, AKS},
	{func(n *snapshot.Node) bool { return n.Annotations["kubeadm.alpha.kubernetes.io/cri-socket"] != "" }, Kubeadm},
}

func provider(v *view) Provider {
	if v.Has(openShiftCRD) {
		return OpenShift
	}
	if p := providerOfNodes(v); p != UnknownProvider {
		return p
	}
	if v.configMap(kubeadmConfig.Namespace, kubeadmConfig.Name) != nil {
		return Kubeadm
	}
	return UnknownProvider
}

func providerOfNodes(v *view) Provider {
	for _, p := range providers {
		for i := range v.Nodes {
			if p.is(&v.Nodes[i]) {
				return p.provider
			}
		}
	}
	return UnknownProvider
}

// providerReads asks for what kubeadm leaves behind, if no node tells; newer versions annotate none.
func providerReads(v *view) []snapshot.Source {
	if len(v.Nodes) > 0 && !v.Has(openShiftCRD) && providerOfNodes(v) == UnknownProvider {
		return []snapshot.Source{kubeadmConfig}
	}
	return nil
}
