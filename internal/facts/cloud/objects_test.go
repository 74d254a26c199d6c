// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// objectOf makes an object of a kind, written as GROUP/VERSION KIND, with a spec in YAML.
func objectOf(t *testing.T, kind, spec string) *unstructured.Unstructured {
	t.Helper()
	apiVersion, kind, _ := strings.Cut(kind, " ")
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"namespace": "clusters", "name": "prod"}}}
	var fields map[string]any
	if err := yaml.Unmarshal([]byte(spec), &fields); err != nil {
		t.Fatal(err)
	}
	u.Object["spec"] = fields
	return u
}

const (
	capaEKS = "controlplane.cluster.x-k8s.io/v1beta2 AWSManagedControlPlane"
	capa    = "infrastructure.cluster.x-k8s.io/v1beta2 AWSCluster"
	capzAKS = "infrastructure.cluster.x-k8s.io/v1beta1 AzureManagedControlPlane"
	capz    = "infrastructure.cluster.x-k8s.io/v1beta1 AzureCluster"
	capg    = "infrastructure.cluster.x-k8s.io/v1beta1 GCPManagedControlPlane"
	capo    = "infrastructure.cluster.x-k8s.io/v1beta1 OpenStackCluster"
	aso     = "containerservice.azure.com/v1api20231001 ManagedCluster"
	ack     = "eks.services.k8s.aws/v1alpha1 Cluster"
	kcc     = "container.cnrm.cloud.google.com/v1beta1 ContainerCluster"
	cattle  = "management.cattle.io/v3 Cluster"
	hosted  = "hypershift.openshift.io/v1beta1 HostedCluster"
)

func TestObjectsThatClustersAreMadeFromAreRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind, spec string
		want       []string
	}{
		"Cluster API for EKS": {
			capaEKS, `{endpointAccess: {public: true, publicCIDRs: [203.0.113.0/24], private: true}, controlPlaneEndpoint: {host: api.example.com, port: 443}}`,
			[]string{"public endpoint: Open 203.0.113.0/24", "private endpoint: Open everybody"},
		},
		"Cluster API for EKS, with the defaults of EKS": {capaEKS, `{}`, []string{"public endpoint: Open everybody", "private endpoint: Shut"}},
		"Cluster API for EKS, private":                  {capaEKS, `{endpointAccess: {public: false, private: true}}`, []string{"public endpoint: Shut", "private endpoint: Open everybody"}},
		"Cluster API for AWS, as it is made by default": {capa, `{}`, []string{"load balancer: Open everybody"}},
		"Cluster API for AWS, with rules and a second load balancer": {
			capa, `{controlPlaneLoadBalancer: {scheme: internet-facing, ingressRules: [{cidrBlocks: [203.0.113.0/24], ipv6CidrBlocks: ["2001:db8::/32"]}, {sourceSecurityGroupIds: [sg-1]}]},
				secondaryControlPlaneLoadBalancer: {scheme: internal}}`,
			[]string{"load balancer: Open 203.0.113.0/24 2001:db8::/32", "load balancer: Open everybody"},
		},
		"Cluster API for AWS, with rules for security groups alone": {capa, `{controlPlaneLoadBalancer: {ingressRules: [{sourceSecurityGroupIds: [sg-1]}]}}`, []string{"load balancer: Open"}},
		"Cluster API for AKS": {
			capzAKS, `{apiServerAccessProfile: {authorizedIPRanges: [203.0.113.0/24, 198.51.100.7, 0.0.0.0/32]}}`,
			[]string{"public endpoint: Open 198.51.100.7/32 203.0.113.0/24", "private endpoint: Shut"},
		},
		"Cluster API for AKS, private":    {capzAKS, `{apiServerAccessProfile: {enablePrivateCluster: true}}`, []string{"public endpoint: Shut", "private endpoint: Open everybody"}},
		"Azure Service Operator":          {aso, `{apiServerAccessProfile: {authorizedIPRanges: []}}`, []string{"public endpoint: Open everybody", "private endpoint: Shut"}},
		"Cluster API for Azure, public":   {capz, `{networkSpec: {}}`, []string{"load balancer: Open not spec.networkSpec.subnets[].securityGroup"}},
		"Cluster API for Azure, internal": {capz, `{networkSpec: {apiServerLB: {type: Internal}}}`, []string{"load balancer: Open everybody"}},
		"Cluster API for GKE, in its own case": {
			capg, `{master_authorized_networks_config: {cidr_blocks: [{display_name: office, cidr_block: 203.0.113.0/24}], gcp_public_cidrs_access_enabled: false}}`,
			[]string{"public IP endpoint: Open 203.0.113.0/24", "DNS endpoint: ?"},
		},
		"Cluster API for GKE, with the addresses of Google Cloud": {
			capg, `{master_authorized_networks_config: {cidr_blocks: [], gcp_public_cidrs_access_enabled: true}}`, []string{"public IP endpoint: Open others", "DNS endpoint: ?"},
		},
		"Cluster API for GKE, without networks": {capg, `{clusterNetwork: {privateCluster: {enablePrivateNodes: true}}}`, []string{"public IP endpoint: Open everybody", "DNS endpoint: ?"}},
		"Cluster API for GKE, private":          {capg, `{clusterNetwork: {privateCluster: {enablePrivateEndpoint: true}}}`, []string{"public IP endpoint: Shut", "DNS endpoint: ?"}},
		"Config Connector": {
			kcc, `{masterAuthorizedNetworksConfig: {cidrBlocks: [{cidrBlock: 203.0.113.0/24}]}}`,
			[]string{"public IP endpoint: Open 203.0.113.0/24 not masterAuthorizedNetworksConfig.gcpPublicCidrsAccessEnabled", "DNS endpoint: ?"},
		},
		"Cluster API for OpenStack":                          {capo, `{apiServerLoadBalancer: {enabled: true, allowedCIDRs: [203.0.113.0/24]}}`, []string{"load balancer: Open 203.0.113.0/24"}},
		"Cluster API for OpenStack, without a list":          {capo, `{apiServerLoadBalancer: {}}`, []string{"load balancer: Open everybody"}},
		"Cluster API for OpenStack, without a load balancer": {capo, `{}`, []string{"load balancer: ?"}},
		"ACK": {ack, `{resourcesVPCConfig: {endpointPublicAccess: true, publicAccessCIDRs: [203.0.113.0/24]}}`, []string{"public endpoint: Open 203.0.113.0/24", "private endpoint: Shut"}},
		"Rancher on EKS": {
			cattle, `{eksConfig: {publicAccess: true, privateAccess: true, publicAccessSources: [203.0.113.0/24]}}`, []string{"public endpoint: Open 203.0.113.0/24", "private endpoint: Open everybody"},
		},
		"Rancher on GKE": {
			cattle, `{gkeConfig: {masterAuthorizedNetworks: {enabled: true, cidrBlocks: [{cidrBlock: 203.0.113.0/24}]}}}`, []string{"public IP endpoint: Open 203.0.113.0/24", "DNS endpoint: ?"},
		},
		"Rancher on GKE, with networks that are off": {
			cattle, `{gkeConfig: {masterAuthorizedNetworks: {cidrBlocks: [{cidrBlock: 203.0.113.0/24}]}}}`, []string{"public IP endpoint: Open everybody 203.0.113.0/24", "DNS endpoint: ?"},
		},
		"Rancher on AKS": {cattle, `{aksConfig: {authorizedIpRanges: [203.0.113.0/24]}}`, []string{"public endpoint: Open 203.0.113.0/24", "private endpoint: Shut"}},
		"HyperShift":     {hosted, `{networking: {apiServer: {allowedCIDRBlocks: [203.0.113.0/24]}}}`, []string{"public endpoint: Open 203.0.113.0/24", "private endpoint: Shut"}},
		"HyperShift, both, without a list": {
			hosted, `{platform: {aws: {endpointAccess: PublicAndPrivate}}}`, []string{"public endpoint: Open everybody", "private endpoint: Open everybody"},
		},
		"HyperShift, private": {hosted, `{platform: {aws: {endpointAccess: Private}}}`, []string{"public endpoint: Shut", "private endpoint: Open everybody"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := cloud.FromObject(objectOf(t, c.kind, c.spec))
			if !ok || got.Failure != "" {
				t.Fatalf("ok is %t, %s: %s", ok, got.Failure, got.Problem)
			}
			if diff := cmp.Diff(c.want, summaries(&got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if _, kind, _ := strings.Cut(c.kind, " "); got.Object != kind+" clusters/prod" {
				t.Errorf("Object is %q", got.Object)
			}
			for _, e := range got.Entrances {
				if e.Gate != "" && !strings.HasPrefix(e.Field, "spec.") {
					t.Errorf("%s has no field: %q", e.Name, e.Field)
				}
			}
		})
	}
}

func TestObjectsOfAnotherFormAreNotUnderstood(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ kind, spec, field string }{
		"a word for a flag":          {capaEKS, `{endpointAccess: {public: "no", publicCIDRs: []}}`, "spec.endpointAccess.public"},
		"a word for a list":          {capaEKS, `{endpointAccess: {publicCIDRs: 203.0.113.0/24}}`, "spec.endpointAccess.publicCIDRs"},
		"numbers for ranges":         {capzAKS, `{apiServerAccessProfile: {authorizedIPRanges: [7]}}`, "spec.apiServerAccessProfile.authorizedIPRanges"},
		"a list for an object":       {capzAKS, `{apiServerAccessProfile: [x]}`, "spec.apiServerAccessProfile"},
		"words for rules":            {capa, `{controlPlaneLoadBalancer: {ingressRules: [x]}}`, "spec.controlPlaneLoadBalancer.ingressRules"},
		"blocks with no range in it": {capg, `{master_authorized_networks_config: {cidr_blocks: [{display_name: x}]}}`, "spec.master_authorized_networks_config.cidr_blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := cloud.FromObject(objectOf(t, c.kind, c.spec))
			if !ok || got.Failure != snapshot.NotUnderstood || len(got.Entrances) > 0 || !strings.Contains(got.Problem, c.field) {
				t.Errorf("ok is %t, %s: %s, %v", ok, got.Failure, got.Problem, summaries(&got))
			}
		})
	}
}

func TestObjectsThatSayNothingAreNoAnswer(t *testing.T) {
	t.Parallel()
	for name, u := range map[string]*unstructured.Unstructured{
		"a cluster that Rancher did not make": objectOf(t, cattle, `{displayName: local}`),
		"another kind":                        objectOf(t, "v1 ConfigMap", `{}`),
	} {
		if got, ok := cloud.FromObject(u); ok {
			t.Errorf("%s: %v", name, summaries(&got))
		}
	}
	if n := len(cloud.Kinds()); n != 11 {
		t.Errorf("%d kinds are understood", n)
	}
}
