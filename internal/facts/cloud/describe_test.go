// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/test/clouds"
)

// summary is an entrance in a line: its gate, whom it lets in, and what is not known.
func summary(e *snapshot.Entrance) string {
	out := []string{e.Name + ":", string(e.Gate)}
	if e.Gate == "" {
		out[1] = "?"
	}
	if e.Gate == snapshot.Open {
		if e.Unlimited {
			out = append(out, "everybody")
		}
		for _, p := range e.Ranges {
			out = append(out, p.String())
		}
		for range e.Others {
			out = append(out, "others")
		}
		for _, unread := range e.Unread {
			out = append(out, "not "+unread)
		}
	}
	return strings.Join(out, " ")
}

func summaries(p *snapshot.ControlPlane) (out []string) {
	for i := range p.Entrances {
		out = append(out, summary(&p.Entrances[i]))
	}
	return out
}

func TestDescriptionsAreReadInEveryDocumentedForm(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		cloud snapshot.Cloud
		part  string
		want  []string
	}{
		"EKS as it is made by default": {
			snapshot.EKS, `"endpointPublicAccess":true,"endpointPrivateAccess":false,"publicAccessCidrs":["0.0.0.0/0"]`,
			[]string{"public endpoint: Open 0.0.0.0/0", "private endpoint: Shut"},
		},
		"EKS with ranges, sorted and without host bits": {
			snapshot.EKS, `"endpointPublicAccess":true,"endpointPrivateAccess":true,"publicAccessCidrs":["203.0.113.9/24","198.51.100.7/32","203.0.113.0/24"]`,
			[]string{"public endpoint: Open 198.51.100.7/32 203.0.113.0/24", "private endpoint: Open everybody"},
		},
		"EKS with the private endpoint alone, which still lists ranges": {
			snapshot.EKS, `"endpointPublicAccess":false,"endpointPrivateAccess":true,"publicAccessCidrs":["0.0.0.0/0"]`,
			[]string{"public endpoint: Shut", "private endpoint: Open everybody"},
		},
		"EKS with a dual-stack endpoint": {
			snapshot.EKS, `"endpointPublicAccess":true,"endpointPrivateAccess":true,"publicAccessCidrs":["2001:db8::/32","0.0.0.0/0","::/0"]`,
			[]string{"public endpoint: Open 0.0.0.0/0 ::/0 2001:db8::/32", "private endpoint: Open everybody"},
		},
		"EKS without a list": {
			snapshot.EKS, `"endpointPublicAccess":true,"endpointPrivateAccess":true`,
			[]string{"public endpoint: Open everybody", "private endpoint: Open everybody"},
		},
		"EKS that does not say whether the public endpoint is open": {
			snapshot.EKS, `"endpointPrivateAccess":true,"publicAccessCidrs":[]`,
			[]string{"public endpoint: ?", "private endpoint: Open everybody"},
		},
		"EKS that says null": {
			snapshot.EKS, `"endpointPublicAccess":null,"endpointPrivateAccess":true,"publicAccessCidrs":[]`,
			[]string{"public endpoint: ?", "private endpoint: Open everybody"},
		},
		"EKS with both shut, which EKS does not let happen": {
			snapshot.EKS, `"endpointPublicAccess":false,"endpointPrivateAccess":false,"publicAccessCidrs":[]`,
			[]string{"public endpoint: ?", "private endpoint: ?"},
		},
		"EKS with a range that is none": {
			snapshot.EKS, `"endpointPublicAccess":true,"endpointPrivateAccess":false,"publicAccessCidrs":["203.0.113.0/24","office"]`,
			[]string{`public endpoint: Open 203.0.113.0/24 not "office"`, "private endpoint: Shut"},
		},
		"GKE as it is made by default": {
			snapshot.GKE, `,"masterAuthorizedNetworksConfig":{"gcpPublicCidrsAccessEnabled":true},"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{"endpoint":"gke-1.europe-west3.gke.goog",` +
				`"allowExternalTraffic":false},"ipEndpointsConfig":{"enabled":true,"enablePublicEndpoint":true,"authorizedNetworksConfig":{"gcpPublicCidrsAccessEnabled":true},` +
				`"publicEndpoint":"34.1.2.3","privateEndpoint":"10.1.0.2"}}`,
			[]string{"public IP endpoint: Open everybody", "private IP endpoint: Open everybody", "DNS endpoint: Shut"},
		},
		"GKE with authorised networks, without the addresses of Google Cloud, and with the DNS endpoint": {
			snapshot.GKE, `,"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{"allowExternalTraffic":true},"ipEndpointsConfig":{"enabled":true,"enablePublicEndpoint":true,` +
				`"authorizedNetworksConfig":{"enabled":true,"gcpPublicCidrsAccessEnabled":false,"cidrBlocks":[{"displayName":"office","cidrBlock":"203.0.113.0/24"}]}}}`,
			[]string{"public IP endpoint: Open 203.0.113.0/24", "private IP endpoint: Open everybody", "DNS endpoint: Open everybody"},
		},
		"GKE with networks for the private endpoint too, and the addresses of Google Cloud": {
			snapshot.GKE, `,"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{"allowExternalTraffic":false},"ipEndpointsConfig":{"enabled":true,"enablePublicEndpoint":true,` +
				`"authorizedNetworksConfig":{"enabled":true,"gcpPublicCidrsAccessEnabled":true,"privateEndpointEnforcementEnabled":true,"cidrBlocks":[{"cidrBlock":"10.9.0.0/16"}]}}}`,
			[]string{"public IP endpoint: Open 10.9.0.0/16 others", "private IP endpoint: Open 10.9.0.0/16", "DNS endpoint: Shut"},
		},
		"GKE with a list of nobody": {
			snapshot.GKE, `,"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{"allowExternalTraffic":false},"ipEndpointsConfig":{"enabled":true,"enablePublicEndpoint":true,` +
				`"authorizedNetworksConfig":{"enabled":true,"gcpPublicCidrsAccessEnabled":false}}}`,
			[]string{"public IP endpoint: Open", "private IP endpoint: Open everybody", "DNS endpoint: Shut"},
		},
		"GKE with the DNS endpoint alone": {
			snapshot.GKE, `,"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{"allowExternalTraffic":true},"ipEndpointsConfig":{"enabled":false}}`,
			[]string{"public IP endpoint: Shut", "private IP endpoint: Shut", "DNS endpoint: Open everybody"},
		},
		"GKE without a public address": {
			snapshot.GKE, `,"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{"allowExternalTraffic":false},"ipEndpointsConfig":{"enabled":true,"enablePublicEndpoint":false}}`,
			[]string{"public IP endpoint: Shut", "private IP endpoint: Open everybody", "DNS endpoint: Shut"},
		},
		"GKE that leaves out what opens": {
			snapshot.GKE, `,"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{},"ipEndpointsConfig":{"enabled":true,"authorizedNetworksConfig":{"enabled":true,"cidrBlocks":[]}}}`,
			[]string{"public IP endpoint: ?", "private IP endpoint: Open everybody", "DNS endpoint: ?"},
		},
		"GKE that does not say whether addresses of Google Cloud are let in": {
			snapshot.GKE, `,"controlPlaneEndpointsConfig":{"ipEndpointsConfig":{"enabled":true,"enablePublicEndpoint":true,"authorizedNetworksConfig":{"enabled":true,"cidrBlocks":[{"cidrBlock":"203.0.113.0/24"}]}}}`,
			[]string{"public IP endpoint: Open 203.0.113.0/24 not gcpPublicCidrsAccessEnabled", "private IP endpoint: Open everybody", "DNS endpoint: ?"},
		},
		"GKE of old, public": {
			snapshot.GKE, ``,
			[]string{"public IP endpoint: Open everybody", "private IP endpoint: Shut", "DNS endpoint: ?"},
		},
		"GKE of old, private with a public endpoint and networks": {
			snapshot.GKE, `,"privateClusterConfig":{"enablePrivateNodes":true,"privateEndpoint":"10.1.0.2"},"masterAuthorizedNetworksConfig":{"enabled":true,"gcpPublicCidrsAccessEnabled":false,"cidrBlocks":[{"cidrBlock":"203.0.113.0/24"}]}`,
			[]string{"public IP endpoint: Open 203.0.113.0/24", "private IP endpoint: Open everybody", "DNS endpoint: ?"},
		},
		"GKE of old, private alone": {
			snapshot.GKE, `,"privateClusterConfig":{"enablePrivateNodes":true,"enablePrivateEndpoint":true,"privateEndpoint":"10.1.0.2"}`,
			[]string{"public IP endpoint: Shut", "private IP endpoint: Open everybody", "DNS endpoint: ?"},
		},
		"GKE with networks in both places": {
			snapshot.GKE, `,"masterAuthorizedNetworksConfig":{"enabled":true,"gcpPublicCidrsAccessEnabled":false,"cidrBlocks":[{"cidrBlock":"198.51.100.0/24"}]},` +
				`"controlPlaneEndpointsConfig":{"dnsEndpointConfig":{"allowExternalTraffic":false},"ipEndpointsConfig":{"enabled":true,"enablePublicEndpoint":true,` +
				`"authorizedNetworksConfig":{"enabled":true,"gcpPublicCidrsAccessEnabled":false,"cidrBlocks":[{"cidrBlock":"203.0.113.0/24"}]}}}`,
			[]string{"public IP endpoint: Open 198.51.100.0/24 203.0.113.0/24", "private IP endpoint: Open everybody", "DNS endpoint: Shut"},
		},
		"AKS as it is made by default": {
			snapshot.AKS, ``,
			[]string{"public endpoint: Open everybody", "private endpoint: Shut", "run command: Open everybody"},
		},
		"AKS with ranges and single addresses, and without the run command": {
			snapshot.AKS, `,"apiServerAccessProfile":{"authorizedIPRanges":["203.0.113.0/24","198.51.100.7"],"disableRunCommand":true}`,
			[]string{"public endpoint: Open 198.51.100.7/32 203.0.113.0/24", "private endpoint: Shut", "run command: Shut"},
		},
		"AKS with nobody but its own outbound addresses": {
			snapshot.AKS, `,"apiServerAccessProfile":{"authorizedIPRanges":["0.0.0.0/32"],"disableRunCommand":true}`,
			[]string{"public endpoint: Open", "private endpoint: Shut", "run command: Shut"},
		},
		"AKS with an empty list": {
			snapshot.AKS, `,"apiServerAccessProfile":{"authorizedIPRanges":[],"enablePrivateCluster":false}`,
			[]string{"public endpoint: Open everybody", "private endpoint: Shut", "run command: Open everybody"},
		},
		"AKS that is private, with a public name": {
			snapshot.AKS, `,"privateFQDN":"prod-abc.privatelink.westeurope.azmk8s.io","apiServerAccessProfile":{"enablePrivateCluster":true,"enablePrivateClusterPublicFQDN":true}`,
			[]string{"public endpoint: Shut", "private endpoint: Open everybody", "run command: Open everybody"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := clouds.New(t, c.cloud, clouds.Says(clouds.Body(c.cloud, c.part)))
			got := f.Describe(t.Context(), clouds.Clusters[c.cloud])
			if got.Failure != "" {
				t.Fatalf("%s: %s", got.Failure, got.Problem)
			}
			if diff := cmp.Diff(c.want, summaries(&got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			f.Only(t, clouds.Credentials[c.cloud], clouds.Describing[c.cloud])
		})
	}
}

func TestDescriptionsKeepTheProvidersWords(t *testing.T) {
	t.Parallel()
	f := clouds.New(t, snapshot.EKS, clouds.Says(clouds.Body(snapshot.EKS, `"endpointPublicAccess":true,"endpointPrivateAccess":true,"publicAccessCidrs":["203.0.113.0/24"]`)))
	got := f.Describe(t.Context(), clouds.Clusters[snapshot.EKS])
	want := snapshot.ControlPlane{
		Cluster: clouds.Clusters[snapshot.EKS].Cluster,
		Host:    "ABCDEF0123456789ABCDEF0123456789.gr7.eu-central-1.eks.amazonaws.com",
		Entrances: []snapshot.Entrance{
			{
				Name: "public endpoint", Gate: snapshot.Open, Ranges: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
				Says: "endpointPublicAccess=true, publicAccessCidrs=203.0.113.0/24",
			},
			{
				Name: "private endpoint", Gate: snapshot.Open, Private: true, Unlimited: true,
				Says: "endpointPrivateAccess=true, securityGroupIds=sg-1",
			},
		},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Only what GKE says of itself counts; a word that nobody knows is no answer.
func TestEncryptionBetweenNodesOfGKE(t *testing.T) {
	t.Parallel()
	for part, want := range map[string]snapshot.NodeEncryption{
		``: {},
		`,"networkConfig":{"datapathProvider":"ADVANCED_DATAPATH"}`:                                        {},
		`,"networkConfig":{"inTransitEncryptionConfig":"IN_TRANSIT_ENCRYPTION_CONFIG_UNSPECIFIED"}`:        {},
		`,"networkConfig":{"inTransitEncryptionConfig":"IN_TRANSIT_ENCRYPTION_DISABLED"}`:                  {State: snapshot.Unencrypted, Says: "inTransitEncryptionConfig=IN_TRANSIT_ENCRYPTION_DISABLED"},
		`,"networkConfig":{"inTransitEncryptionConfig":"IN_TRANSIT_ENCRYPTION_INTER_NODE_TRANSPARENT"}`:    {State: snapshot.Encrypted, How: "GKE", Says: "inTransitEncryptionConfig=IN_TRANSIT_ENCRYPTION_INTER_NODE_TRANSPARENT"},
		`,"networkConfig":{"inTransitEncryptionConfig":"IN_TRANSIT_ENCRYPTION_WITH_CARRIER_PIGEONS_2031"}`: {Unread: true, Says: `inTransitEncryptionConfig="IN_TRANSIT_ENCRYPTION_WITH_CARRIER_PIGEONS_2031" is not known`},
	} {
		f := clouds.New(t, snapshot.GKE, clouds.Says(clouds.Body(snapshot.GKE, part)))
		got := f.Describe(t.Context(), clouds.Clusters[snapshot.GKE])
		if diff := cmp.Diff(want, got.Encryption); diff != "" || got.Failure != "" {
			t.Errorf("%s: %s (-want +got):\n%s", part, got.Problem, diff)
		}
	}
}

func TestPodIdentityIsAnotherWayToTheSameDescription(t *testing.T) {
	t.Parallel()
	f := clouds.New(t, snapshot.EKS, clouds.Says(clouds.Body(snapshot.EKS, `"endpointPublicAccess":true,"endpointPrivateAccess":true,"publicAccessCidrs":["203.0.113.0/24"]`)))
	f.Identity = cloud.Identity{ContainerURI: "http://" + clouds.HostAgent + "/v1/credentials", ContainerTokenFile: f.TokenFile}
	if got := f.Describe(t.Context(), clouds.Clusters[snapshot.EKS]); got.Failure != "" {
		t.Fatalf("%s: %s", got.Failure, got.Problem)
	}
	f.Only(t, clouds.HostAgent, clouds.HostEKS)
	f.Rotate(t, "token-2")
	if got := f.Describe(t.Context(), clouds.Clusters[snapshot.EKS]); got.Failure != "" {
		t.Fatalf("after the token was rotated: %s: %s", got.Failure, got.Problem)
	}
}

// TestCredentialsAreRenewed: between two readings the projected token is rotated and the credentials of the first expire.
func TestCredentialsAreRenewed(t *testing.T) {
	t.Parallel()
	for of, part := range map[snapshot.Cloud]string{
		snapshot.EKS: `"endpointPublicAccess":true,"endpointPrivateAccess":true,"publicAccessCidrs":["203.0.113.0/24"]`, snapshot.GKE: "", snapshot.AKS: "",
	} {
		t.Run(string(of), func(t *testing.T) {
			t.Parallel()
			f := clouds.New(t, of, clouds.Says(clouds.Body(of, part)))
			for i := range 3 {
				f.Rotate(t, fmt.Sprintf("token-%d", i+7))
				f.Issue() // what the last reading had is good no more
				if got := f.Describe(t.Context(), clouds.Clusters[of]); got.Failure != "" {
					t.Fatalf("reading %d: %s: %s", i, got.Failure, got.Problem)
				}
			}
			if n := f.Count(clouds.Describing[of]); n != 3 {
				t.Errorf("asked %d times for three readings", n)
			}
			f.Only(t, clouds.Credentials[of], clouds.Describing[of])
		})
	}
}

func TestAnotherClustersDescriptionIsNoAnswer(t *testing.T) {
	t.Parallel()
	for of, change := range map[snapshot.Cloud]func(c *snapshot.CloudCluster){
		snapshot.EKS: func(c *snapshot.CloudCluster) { c.Issuer = strings.Replace(c.Issuer, "ABC", "123", 1) },
		snapshot.GKE: func(c *snapshot.CloudCluster) {
			c.Issuer = strings.Replace(c.Issuer, "clusters/main", "clusters/test", 1)
		},
		snapshot.AKS: func(c *snapshot.CloudCluster) { c.Issuer, c.NodeResourceGroup = "", "MC_shop_test_westeurope" },
	} {
		t.Run(string(of), func(t *testing.T) {
			t.Parallel()
			part := map[snapshot.Cloud]string{snapshot.EKS: `"endpointPublicAccess":false,"endpointPrivateAccess":true`}[of]
			f := clouds.New(t, of, clouds.Says(clouds.Body(of, part)))
			asked := clouds.Clusters[of]
			change(&asked.Cluster)
			got := f.Describe(t.Context(), asked)
			if got.Failure != snapshot.NoSuchCluster || len(got.Entrances) > 0 || !strings.Contains(got.Problem, "another cluster") {
				t.Errorf("got %s: %s, %v", got.Failure, got.Problem, summaries(&got))
			}
		})
	}
}

func TestWhatCouldNotBeIdentifiedIsNotAskedFor(t *testing.T) {
	t.Parallel()
	f := clouds.New(t, snapshot.EKS, func(http.ResponseWriter, *http.Request) {})
	of := clouds.Clusters[snapshot.EKS]
	of.Failure, of.Problem = snapshot.NotDeclared, "which cluster of EKS this is shows nowhere in it"
	if diff := cmp.Diff(of, f.Describe(t.Context(), of)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	f.Only(t)
}
