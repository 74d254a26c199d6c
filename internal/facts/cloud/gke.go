// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
	"google.golang.org/api/container/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	gkeHostName = "container.googleapis.com"
	// metadataServer is on GKE a process of the node, which answers for the pod's own ServiceAccount. It is asked in the clear.
	metadataServer = "169.254.169.254"
	metadataToken  = "instance/service-accounts/default/token"
	// attempts and pause are for a call that the SDK does not repeat itself.
	attempts = 3
	pause    = 500 * time.Millisecond
)

var gkeResource = regexp.MustCompile(`projects/[^/]+/(?:locations|zones)/[^/]+/clusters/[^/]+$`)

func (r *Reader) askGKE(ctx context.Context, s *session, c snapshot.CloudCluster) (*description, *problem) {
	name := fmt.Sprintf("projects/%s/locations/%s/clusters/%s", c.Project, c.Location, c.Name)
	s.questions = []question{
		{method: http.MethodGet, host: metadataServer, path: "/computeMetadata/v1/" + metadataToken, credentials: true},
		{method: http.MethodGet, host: gkeHostName, path: "/v1/" + name},
	}
	token, p := googleToken(ctx, s)
	if p != nil {
		return nil, p
	}
	service, err := container.NewService(ctx, option.WithHTTPClient(s.client()), option.WithEndpoint("https://"+gkeHostName+"/"))
	if err != nil {
		return nil, &problem{snapshot.NotUnderstood, "the SDK does not start"}
	}
	call := service.Projects.Locations.Clusters.Get(name)
	call.Header().Set("Authorization", "Bearer "+token)
	cluster, err := patiently(ctx, func() (*container.Cluster, error) { return call.Context(ctx).Do() })
	if err != nil {
		return nil, s.failed(err, googleCode(err))
	}
	if cluster == nil || cluster.Name == "" { // the SDK makes nothing of null
		return nil, &problem{snapshot.NotUnderstood, gkeHostName + " answers without a cluster"}
	}
	return &description{host: cluster.Endpoint, entrances: gkeEntrances(s, cluster), encryption: gkeEncryption(cluster), path: cluster.SelfLink}, nil
}

// gkeEncryption is what GKE does to what pods send to other nodes, beside what Google's network does below (NetworkConfig of
// container/v1). Left out, nothing is said.
func gkeEncryption(c *container.Cluster) snapshot.NodeEncryption {
	const setting = "inTransitEncryptionConfig"
	if c.NetworkConfig == nil {
		return snapshot.NodeEncryption{}
	}
	says := setting + "=" + c.NetworkConfig.InTransitEncryptionConfig
	switch c.NetworkConfig.InTransitEncryptionConfig {
	case "", "IN_TRANSIT_ENCRYPTION_CONFIG_UNSPECIFIED":
		return snapshot.NodeEncryption{}
	case "IN_TRANSIT_ENCRYPTION_INTER_NODE_TRANSPARENT":
		return snapshot.NodeEncryption{State: snapshot.Encrypted, How: "GKE", Says: says}
	case "IN_TRANSIT_ENCRYPTION_DISABLED":
		return snapshot.NodeEncryption{State: snapshot.Unencrypted, Says: says}
	default:
		return snapshot.NodeEncryption{Unread: true, Says: fmt.Sprintf("%s=%.64q is not known", setting, c.NetworkConfig.InTransitEncryptionConfig)}
	}
}

// googleToken asks for a token of the pod's ServiceAccount, which the metadata server exchanges and renews.
func googleToken(ctx context.Context, s *session) (string, *problem) {
	body, err := metadata.NewClient(s.client()).GetWithContext(ctx, metadataToken)
	if err != nil {
		return "", s.failed(err, "")
	}
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &token); err != nil || token.AccessToken == "" {
		return "", &problem{snapshot.NotUnderstood, "the metadata server answers without a token"}
	}
	return token.AccessToken, nil
}

// patiently repeats a question that was asked too often, or met an error on the other side.
func patiently[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		out, err := ask()
		var answer *googleapi.Error
		if err == nil || try == attempts || !errors.As(err, &answer) || (answer.Code != http.StatusTooManyRequests && answer.Code < http.StatusInternalServerError) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(pause << (try - 1)):
		}
	}
}

func googleCode(err error) string {
	if answer, ok := errors.AsType[*googleapi.Error](err); ok && len(answer.Errors) > 0 {
		return answer.Errors[0].Reason
	}
	return ""
}

// gkeEntrances: a cluster has an endpoint with addresses, which a list of networks may limit, and one with a name, which everybody
// can reach whom Google Cloud IAM lets through. Older descriptions have no controlPlaneEndpointsConfig.
func gkeEntrances(s *session, c *container.Cluster) []snapshot.Entrance {
	endpoints := c.ControlPlaneEndpointsConfig
	if endpoints == nil {
		endpoints = &container.ControlPlaneEndpointsConfig{}
	}
	public := snapshot.Entrance{Name: "public IP endpoint"}
	private := snapshot.Entrance{Name: "private IP endpoint", Private: true}
	networks := []*container.MasterAuthorizedNetworksConfig{c.MasterAuthorizedNetworksConfig}
	if ip := endpoints.IpEndpointsConfig; ip != nil {
		const at, config = "controlPlaneEndpointsConfig", "ipEndpointsConfig"
		networks = append(networks, ip.AuthorizedNetworksConfig)
		private.Gate = s.gate(ip.Enabled, at, config, "enabled")
		public.Gate = private.Gate
		if public.Gate == snapshot.Open {
			public.Gate = s.gate(ip.EnablePublicEndpoint, at, config, "enablePublicEndpoint")
		}
		public.Says = fmt.Sprintf("ipEndpointsConfig: enabled=%t, enablePublicEndpoint=%t", ip.Enabled, ip.EnablePublicEndpoint)
		private.Says = fmt.Sprintf("ipEndpointsConfig: enabled=%t", ip.Enabled)
	} else {
		legacyGates(c.PrivateClusterConfig, &public, &private)
	}
	authorized(s, networks, &public, &private)
	dns := snapshot.Entrance{Name: "DNS endpoint", Unlimited: true, Identity: "Google Cloud IAM", Says: "dnsEndpointConfig is not there"}
	if config := endpoints.DnsEndpointConfig; config != nil {
		dns.Gate = s.gate(config.AllowExternalTraffic, "controlPlaneEndpointsConfig", "dnsEndpointConfig", "allowExternalTraffic")
		dns.Says = fmt.Sprintf("dnsEndpointConfig: allowExternalTraffic=%t", config.AllowExternalTraffic)
	}
	return []snapshot.Entrance{public, private, dns}
}

// legacyGates: enablePrivateEndpoint is inverted, and left out when it is false, which leaves the public endpoint open.
func legacyGates(config *container.PrivateClusterConfig, public, private *snapshot.Entrance) {
	public.Gate, public.Says, private.Says = snapshot.Open, "no privateClusterConfig", "no privateClusterConfig"
	private.Gate = snapshot.Shut
	if config == nil {
		return
	}
	private.Gate = snapshot.Open
	private.Says = "privateClusterConfig: privateEndpoint=" + config.PrivateEndpoint
	public.Says = fmt.Sprintf("privateClusterConfig: enablePrivateEndpoint=%t", config.EnablePrivateEndpoint)
	if config.EnablePrivateEndpoint {
		public.Gate = snapshot.Shut
	}
}

// authorized adds up what the two places of authorised networks let in; only one of them should be there.
func authorized(s *session, configs []*container.MasterAuthorizedNetworksConfig, public, private *snapshot.Entrance) {
	public.Unlimited, private.Unlimited = true, true
	var blocks []string
	enforced := false
	for i, config := range configs {
		if config == nil || !config.Enabled {
			continue
		}
		public.Unlimited = false
		for _, block := range config.CidrBlocks {
			if block != nil {
				blocks = append(blocks, block.CidrBlock)
			}
		}
		enforced = enforced || config.PrivateEndpointEnforcementEnabled
		path := [][]string{{"masterAuthorizedNetworksConfig"}, {"controlPlaneEndpointsConfig", "ipEndpointsConfig", "authorizedNetworksConfig"}}[i]
		const setting = "gcpPublicCidrsAccessEnabled"
		switch s.gate(config.GcpPublicCidrsAccessEnabled, append(path, setting)...) {
		case snapshot.Open:
			public.Others = []string{"every public address of Google Cloud, whoever has it"}
			public.Says += ", " + setting + "=true"
		case "":
			public.Unread = append(public.Unread, setting)
		case snapshot.Shut:
		}
	}
	says := ", authorizedNetworksConfig: enabled=false"
	if !public.Unlimited {
		says = ", cidrBlocks=" + strings.Join(blocks, ",")
		var unread []string
		public.Ranges, unread = ranges(blocks)
		public.Unread = append(unread, public.Unread...)
		if enforced {
			private.Unlimited, private.Ranges, private.Unread = false, public.Ranges, unread
			private.Says += ", privateEndpointEnforcementEnabled=true" + says
		}
	}
	public.Says += says
}
