// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/test/clouds"
)

func node(name, providerID, kubelet string, labels ...string) snapshot.Node {
	n := snapshot.Node{Name: name, ProviderID: providerID, Kubelet: kubelet, Labels: map[string]string{}}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		n.Labels[key] = value
	}
	return n
}

func TestClustersAreIdentified(t *testing.T) {
	t.Parallel()
	const azure = "azure:///subscriptions/" + clouds.Subscription + "/resourceGroups/mc_shop_prod_westeurope/providers/Microsoft.Compute/virtualMachineScaleSets/aks/virtualMachines/0"
	for name, c := range map[string]struct {
		hints cloud.Hints
		want  snapshot.CloudCluster
	}{
		"EKS by eksctl's label, and the region of the issuer": {
			cloud.Hints{Nodes: []snapshot.Node{node("a", "aws:///eu-central-1a/i-1", "v1.34.1-eks-abc", "alpha.eksctl.io/cluster-name=prod")}, Issuer: clouds.IssuerEKS},
			snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "prod", Location: "eu-central-1", Issuer: clouds.IssuerEKS},
		},
		"EKS by a declared name, and the region of a zone": {
			cloud.Hints{
				Nodes:    []snapshot.Node{node("a", "aws:///us-gov-west-1b/i-1", "v1.34.1", "eks.amazonaws.com/nodegroup=x"), node("b", "", "v1.34.1")},
				Declared: snapshot.CloudCluster{Name: "prod"},
			},
			snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "prod", Location: "us-gov-west-1"},
		},
		"EKS with nodes in a local zone": {
			cloud.Hints{Nodes: []snapshot.Node{node("a", "aws:///us-west-2-lax-1a/i-1", "v1.34.1-eks-abc")}, Declared: snapshot.CloudCluster{Name: "prod"}},
			snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "prod", Location: "us-west-2"},
		},
		"EKS Fargate with the name of the API server": {
			cloud.Hints{
				Nodes:    []snapshot.Node{node("f", "", "", "eks.amazonaws.com/compute-type=fargate")},
				Hosts:    []string{"kubernetes.default.svc", "ABCD.gr7.ap-south-1.eks.amazonaws.com"},
				Declared: snapshot.CloudCluster{Name: "prod"},
			},
			snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "prod", Location: "ap-south-1"},
		},
		"GKE by its issuer": {
			cloud.Hints{Nodes: []snapshot.Node{node("a", "gce://shop-prod/europe-west3-a/gke-main-1", "v1.34.1-gke.100")}, Issuer: clouds.IssuerGKE},
			snapshot.CloudCluster{Cloud: snapshot.GKE, Name: "main", Location: "europe-west3", Project: "shop-prod", Issuer: clouds.IssuerGKE},
		},
		"GKE by what is declared, with the project of the nodes": {
			cloud.Hints{
				Nodes:    []snapshot.Node{node("a", "gce://shop-prod/europe-west3-a/gke-main-1", "v1.34.1", "cloud.google.com/gke-nodepool=x")},
				Declared: snapshot.CloudCluster{Name: "main", Location: "europe-west3"},
			},
			snapshot.CloudCluster{Cloud: snapshot.GKE, Name: "main", Location: "europe-west3", Project: "shop-prod"},
		},
		"AKS by the group of its nodes": {
			cloud.Hints{Nodes: []snapshot.Node{node("a", azure, "v1.34.1", "kubernetes.azure.com/cluster=MC_shop_prod_westeurope")}, Issuer: clouds.IssuerAKS},
			snapshot.CloudCluster{
				Cloud: snapshot.AKS, Name: "prod", Subscription: clouds.Subscription, ResourceGroup: "shop", NodeResourceGroup: "MC_shop_prod_westeurope", Issuer: clouds.IssuerAKS,
			},
		},
		"AKS with a group of another name": {
			cloud.Hints{
				Nodes:    []snapshot.Node{node("a", azure, "v1.34.1", "kubernetes.azure.com/cluster=shop_nodes_of_the_eu")},
				Declared: snapshot.CloudCluster{Name: "prod", ResourceGroup: "shop"},
			},
			snapshot.CloudCluster{Cloud: snapshot.AKS, Name: "prod", Subscription: clouds.Subscription, ResourceGroup: "shop", NodeResourceGroup: "shop_nodes_of_the_eu"},
		},
		"what is declared goes before what shows": {
			cloud.Hints{
				Nodes:    []snapshot.Node{node("a", "aws:///eu-central-1a/i-1", "v1.34.1-eks-abc", "alpha.eksctl.io/cluster-name=old")},
				Declared: snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "prod", Location: "eu-west-1"},
			},
			snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "prod", Location: "eu-west-1"},
		},
		"no node, and everything declared": {
			cloud.Hints{Declared: snapshot.CloudCluster{Cloud: snapshot.GKE, Name: "main", Location: "europe-west3", Project: "example.com:shop"}},
			snapshot.CloudCluster{Cloud: snapshot.GKE, Name: "main", Location: "europe-west3", Project: "example.com:shop"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := cloud.Identify(c.hints)
			got.Cluster.Signals = nil
			if diff := cmp.Diff(snapshot.ControlPlane{Cluster: c.want}, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWhatIsNotIdentifiedHasToBeDeclared(t *testing.T) {
	t.Parallel()
	eksNode := node("a", "aws:///eu-central-1a/i-1", "v1.34.1-eks-abc")
	for name, c := range map[string]struct {
		hints           cloud.Hints
		cloud           snapshot.Cloud
		problem, remedy string
	}{
		"a cluster that somebody runs on a cloud's machines is none of the cloud's": {
			cloud.Hints{Nodes: []snapshot.Node{node("a", "aws:///eu-central-1a/i-1", "v1.34.1"), node("b", "kind://docker/kind/kind", "v1.34.1")}},
			"", "nothing shows", "provider",
		},
		"nothing at all":     {cloud.Hints{}, "", "nothing shows", "provider"},
		"EKS without a name": {cloud.Hints{Nodes: []snapshot.Node{eksNode}}, snapshot.EKS, "shows nowhere", ": provider (EKS), name"},
		"EKS whose nodes name two clusters": {
			cloud.Hints{Nodes: []snapshot.Node{
				node("a", "aws:///eu-central-1a/i-1", "v1-eks-", "alpha.eksctl.io/cluster-name=x"), node("b", "aws:///eu-west-1a/i-1", "v1-eks-", "alpha.eksctl.io/cluster-name=y"),
			}},
			snapshot.EKS, "shows nowhere", ", name, location",
		},
		"GKE without its issuer":              {cloud.Hints{Nodes: []snapshot.Node{node("a", "gce://shop-prod/europe-west3-a/x", "v1-gke.1")}}, snapshot.GKE, "shows nowhere", ", name, location"},
		"AKS whose group reads in two ways":   {cloud.Hints{Nodes: []snapshot.Node{node("a", "", "v1", "kubernetes.azure.com/cluster=MC_a_b_c_westeurope")}}, snapshot.AKS, "shows nowhere", ": provider (AKS), name, subscriptionID, resourceGroup"},
		"nodes of two clouds":                 {cloud.Hints{Nodes: []snapshot.Node{eksNode, node("b", "", "v1-gke.1")}}, "", "Node a says EKS, and Node b says otherwise", "provider"},
		"a declared cloud that is another":    {cloud.Hints{Nodes: []snapshot.Node{eksNode}, Declared: snapshot.CloudCluster{Cloud: snapshot.GKE}}, snapshot.GKE, "spec.managementAccess.cloud.provider (GKE) says otherwise", "provider"},
		"a declared cloud without a name":     {cloud.Hints{Declared: snapshot.CloudCluster{Cloud: snapshot.EKS, Location: "eu-west-1"}}, snapshot.EKS, "shows nowhere", ": name"},
		"a cloud that nobody knows":           {cloud.Hints{Declared: snapshot.CloudCluster{Cloud: "OKE", Name: "x"}}, "OKE", "no cloud that can be asked", "provider"},
		"a region that would be another host": {cloud.Hints{Declared: snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "x", Location: "x.example.com/"}}, snapshot.EKS, "no such location", ": location"},
		"a name that would be another path":   {cloud.Hints{Declared: snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "../x", Location: "eu-west-1"}}, snapshot.EKS, "no such name", ": name"},
		"a group that a shell would run": {
			cloud.Hints{Declared: snapshot.CloudCluster{Cloud: snapshot.AKS, Name: "x", Subscription: clouds.Subscription, ResourceGroup: "x'$(id)"}}, snapshot.AKS, "no such resourceGroup", ": resourceGroup",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := cloud.Identify(c.hints)
			if got.Failure != snapshot.NotDeclared || got.Cluster.Cloud != c.cloud {
				t.Errorf("got %q of %q", got.Failure, got.Cluster.Cloud)
			}
			if !strings.Contains(got.Problem, c.problem) || !strings.Contains(got.Remedy, c.remedy) {
				t.Errorf("got %q, %q", got.Problem, got.Remedy)
			}
		})
	}
}

func TestTheIssuerIsReadFromAToken(t *testing.T) {
	t.Parallel()
	payload := func(text string) string { return "e30." + base64.RawURLEncoding.EncodeToString([]byte(text)) + ".c2ln" }
	for token, want := range map[string]string{
		payload(`{"aud":["x"],"iss":"` + clouds.IssuerEKS + `","sub":"system:serviceaccount:a:b"}`): clouds.IssuerEKS,
		payload(`{}`):        "",
		payload(`[]`):        "",
		payload(`{"iss":7}`): "",
		payload(`no`):        "",
		"e30.!.c2ln":         "",
		"a-static-token":     "",
		"":                   "",
	} {
		if got := cloud.Issuer(token); got != want {
			t.Errorf("%q: got %q, want %q", token, got, want)
		}
	}
}
