// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package clouds

import (
	"fmt"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	eksBody = `{"cluster":{"name":"prod","arn":"arn:aws:eks:eu-central-1:123456789012:cluster/prod","createdAt":1732000000.5,"status":"ACTIVE",` +
		`"endpoint":"https://ABCDEF0123456789ABCDEF0123456789.gr7.eu-central-1.eks.amazonaws.com","version":"1.34",` +
		`"resourcesVpcConfig":{"subnetIds":["subnet-1"],"securityGroupIds":["sg-1"],"clusterSecurityGroupId":"sg-2","vpcId":"vpc-1",%s},` +
		`"kubernetesNetworkConfig":{"serviceIpv4Cidr":"10.100.0.0/16","ipFamily":"ipv4"},"identity":{"oidc":{"issuer":"` + IssuerEKS + `"}},` +
		`"platformVersion":"eks.4","tags":{}}}`
	gkeBody = `{"name":"main","location":"europe-west3","endpoint":"34.1.2.3","currentMasterVersion":"1.34.1-gke.100","status":"RUNNING",` +
		`"selfLink":"https://container.googleapis.com/v1/projects/shop-prod/locations/europe-west3/clusters/main"%s}`
	aksBody = `{"id":"/subscriptions/` + Subscription + `/resourcegroups/shop(eu)/providers/Microsoft.ContainerService/managedClusters/prod","location":"westeurope",` +
		`"name":"prod","type":"Microsoft.ContainerService/ManagedClusters","properties":{"provisioningState":"Succeeded","fqdn":"prod-abc.hcp.westeurope.azmk8s.io",` +
		`"nodeResourceGroup":"MC_shop(eu)_prod_westeurope","oidcIssuerProfile":{"enabled":true,"issuerURL":"` + IssuerAKS + `"}%s}}`
)

// Body is a description with a part of it as given.
func Body(of snapshot.Cloud, part string) string {
	return fmt.Sprintf(map[snapshot.Cloud]string{snapshot.EKS: eksBody, snapshot.GKE: gkeBody, snapshot.AKS: aksBody}[of], part)
}
