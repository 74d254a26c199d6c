// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// roleSession names the operator in CloudTrail.
const roleSession = "pci-network-baseline"

// podIdentityAgents are the addresses of the agent that hands out credentials on every node; it is asked in the clear.
var podIdentityAgents = []string{"169.254.170.23", "[fd00:ec2::23]"}

// askEKS takes neither keys from the environment nor the node's role: an identity that is not the operator's own could do more than
// it should. The SDK's configuration package, which looks for all of them, is not used.
func (r *Reader) askEKS(ctx context.Context, s *session, c snapshot.CloudCluster) (*description, *problem) {
	host, p := awsHost(ctx, c.Location)
	if p != nil {
		return nil, p
	}
	retryer := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 3, 3*time.Second })
	provider, p := r.awsCredentials(s, c.Location, strings.Replace(host, "eks.", "sts.", 1), retryer)
	if p != nil {
		return nil, p
	}
	// The SDK's cache of credentials would go on waiting for them when the context has ended.
	credentials, err := provider.Retrieve(ctx)
	if err != nil {
		return nil, s.failed(err, awsCode(err))
	}
	s.questions = append(s.questions, question{method: http.MethodGet, host: host, path: "/clusters/" + c.Name})
	client := eks.New(eks.Options{
		Region: c.Location, HTTPClient: s.client(), Retryer: retryer,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil }),
	})
	out, err := client.DescribeCluster(ctx, &eks.DescribeClusterInput{Name: &c.Name})
	if err != nil {
		return nil, s.failed(err, awsCode(err))
	}
	if out.Cluster == nil || out.Cluster.ResourcesVpcConfig == nil {
		return nil, &problem{snapshot.NotUnderstood, host + " answers without resourcesVpcConfig"}
	}
	d := &description{host: hostname(aws.ToString(out.Cluster.Endpoint)), entrances: eksEntrances(s, out.Cluster.ResourcesVpcConfig)}
	if identity := out.Cluster.Identity; identity != nil && identity.Oidc != nil {
		d.issuer = aws.ToString(identity.Oidc.Issuer)
	}
	return d, nil
}

func awsHost(ctx context.Context, region string) (string, *problem) {
	endpoint, err := eks.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, eks.EndpointParameters{Region: &region})
	if err != nil {
		return "", &problem{snapshot.NotDeclared, "the SDK knows no endpoint in " + region}
	}
	return endpoint.URI.Host, nil
}

func (r *Reader) awsCredentials(s *session, region, stsHost string, retryer aws.Retryer) (aws.CredentialsProvider, *problem) {
	id := r.Identity
	switch {
	case id.RoleARN != "" && id.TokenFile != "":
		if p := readable(id.TokenFile); p != nil {
			return nil, p
		}
		s.questions = append(s.questions, question{method: http.MethodPost, host: stsHost, path: "/", credentials: true})
		client := sts.New(sts.Options{Region: region, HTTPClient: s.client(), Retryer: retryer})
		return stscreds.NewWebIdentityRoleProvider(client, id.RoleARN, stscreds.IdentityTokenFile(id.TokenFile),
			func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = roleSession }), nil
	case id.ContainerURI != "" && id.ContainerTokenFile != "":
		agent, err := url.Parse(id.ContainerURI)
		if err != nil || agent.Scheme != "http" || !slices.Contains(podIdentityAgents, agent.Host) {
			return nil, &problem{snapshot.NoCredentials, "AWS_CONTAINER_CREDENTIALS_FULL_URI is not that of EKS Pod Identity"}
		}
		if p := readable(id.ContainerTokenFile); p != nil {
			return nil, p
		}
		s.questions = append(s.questions, question{method: http.MethodGet, host: agent.Host, path: agent.Path, credentials: true})
		return endpointcreds.New(id.ContainerURI, func(o *endpointcreds.Options) {
			o.HTTPClient, o.Retryer = s.client(), retryer
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				token, err := os.ReadFile(id.ContainerTokenFile)
				return string(token), err
			})
		}), nil
	}
	return nil, &problem{snapshot.NoCredentials, "the operator's pod has no role: neither IRSA nor EKS Pod Identity set one"}
}

func awsCode(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// eksEntrances: one of the two is always open, so that an answer with both shut is none.
func eksEntrances(s *session, vpc *types.VpcConfigResponse) []snapshot.Entrance {
	const config = "resourcesVpcConfig"
	public := snapshot.Entrance{Name: "public endpoint", Says: fmt.Sprintf("endpointPublicAccess=%t", vpc.EndpointPublicAccess)}
	public.Gate = s.gate(vpc.EndpointPublicAccess, "cluster", config, "endpointPublicAccess")
	list(&public, "publicAccessCidrs", vpc.PublicAccessCidrs)
	private := snapshot.Entrance{
		Name: "private endpoint", Private: true, Unlimited: true,
		Says: fmt.Sprintf("endpointPrivateAccess=%t, securityGroupIds=%s", vpc.EndpointPrivateAccess, strings.Join(vpc.SecurityGroupIds, ",")),
	}
	private.Gate = s.gate(vpc.EndpointPrivateAccess, "cluster", config, "endpointPrivateAccess")
	if public.Gate != snapshot.Open && private.Gate != snapshot.Open {
		public.Gate, private.Gate = "", ""
	}
	return []snapshot.Entrance{public, private}
}

// hostname returns the host of a URL, or of what is a host already.
func hostname(text string) string {
	if parsed, err := url.Parse(text); err == nil && parsed.Host != "" {
		return parsed.Hostname()
	}
	return text
}
