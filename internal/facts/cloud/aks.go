// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// onlyOutbound is what AKS takes for a list with nothing but the cluster's own outbound addresses.
const onlyOutbound = "0.0.0.0/32"

var azureClouds = []cloud.Configuration{cloud.AzurePublic, cloud.AzureGovernment, cloud.AzureChina}

func (r *Reader) askAKS(ctx context.Context, s *session, c snapshot.CloudCluster) (*description, *problem) {
	id := r.Identity
	if id.ClientID == "" || id.TenantID == "" || id.FederatedTokenFile == "" {
		return nil, &problem{snapshot.NoCredentials, "the operator's pod has no identity: Microsoft Entra Workload ID set none"}
	}
	if p := readable(id.FederatedTokenFile); p != nil {
		return nil, p
	}
	configuration, p := azureCloud(id.Authority)
	if p != nil {
		return nil, p
	}
	login, manager := hostname(configuration.ActiveDirectoryAuthorityHost), hostname(configuration.Services[cloud.ResourceManager].Endpoint)
	s.questions = []question{
		{method: http.MethodGet, host: login, path: "/" + id.TenantID + "/v2.0/.well-known/openid-configuration", credentials: true},
		{method: http.MethodPost, host: login, path: "/" + id.TenantID + "/oauth2/v2.0/token", credentials: true},
		{method: http.MethodGet, host: manager, path: fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerService/managedClusters/%s",
			c.Subscription, c.ResourceGroup, c.Name)},
	}
	options := azcore.ClientOptions{
		Cloud: configuration, Transport: s.client(), Telemetry: policy.TelemetryOptions{Disabled: true},
		Retry: policy.RetryOptions{MaxRetries: 2, RetryDelay: time.Second / 2, MaxRetryDelay: 5 * time.Second},
	}
	client, err := azureClient(id, c.Subscription, options)
	if err != nil {
		return nil, &problem{snapshot.NoCredentials, "the SDK does not take the pod's identity"}
	}
	out, err := client.Get(ctx, c.ResourceGroup, c.Name, nil)
	if err != nil {
		return nil, s.failed(err, azureCode(err))
	}
	if out.Properties == nil {
		return nil, &problem{snapshot.NotUnderstood, manager + " answers without properties"}
	}
	return aksDescription(out.Properties), nil
}

// azureClient authenticates without asking who knows the authority, which is one of three, and never registers the provider with the
// subscription, which would be a write.
func azureClient(id Identity, subscription string, options azcore.ClientOptions) (*armcontainerservice.ManagedClustersClient, error) {
	credential, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: options, ClientID: id.ClientID, TenantID: id.TenantID, TokenFilePath: id.FederatedTokenFile, DisableInstanceDiscovery: true,
	})
	if err != nil {
		return nil, err
	}
	return armcontainerservice.NewManagedClustersClient(subscription, credential, &arm.ClientOptions{ClientOptions: options, DisableRPRegistration: true})
}

func azureCloud(authority string) (cloud.Configuration, *problem) {
	if authority == "" {
		return cloud.AzurePublic, nil
	}
	for _, c := range azureClouds {
		if hostname(authority) == hostname(c.ActiveDirectoryAuthorityHost) {
			return c, nil
		}
	}
	return cloud.Configuration{}, &problem{snapshot.NoCredentials, "AZURE_AUTHORITY_HOST is none of Azure's three clouds"}
}

// azureCode takes the code of the Resource Manager, or the error of the token endpoint (RFC 6749, 5.2).
func azureCode(err error) string {
	if answer, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return answer.ErrorCode
	}
	login, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || login.RawResponse == nil {
		return ""
	}
	var body struct {
		Error string `json:"error"`
	}
	_ = json.NewDecoder(io.LimitReader(login.RawResponse.Body, maxBody)).Decode(&body) // no code, then
	return body.Error
}

// aksDescription: what is not there has its default, which is open to everybody.
func aksDescription(p *armcontainerservice.ManagedClusterProperties) *description {
	profile := p.APIServerAccessProfile
	if profile == nil {
		profile = &armcontainerservice.ManagedClusterAPIServerAccessProfile{}
	}
	d := &description{host: value(p.Fqdn), group: value(p.NodeResourceGroup)}
	if issuer := p.OidcIssuerProfile; issuer != nil && value(issuer.Enabled) {
		d.issuer = value(issuer.IssuerURL)
	}
	enabled := value(profile.EnablePrivateCluster)
	public := snapshot.Entrance{Name: "public endpoint", Gate: snapshot.Open, Says: fmt.Sprintf("enablePrivateCluster=%t", enabled)}
	private := snapshot.Entrance{Name: "private endpoint", Gate: snapshot.Shut, Private: true, Unlimited: true, Says: public.Says}
	if enabled {
		public.Gate, private.Gate, d.host = snapshot.Shut, snapshot.Open, value(p.PrivateFQDN)
	}
	var texts []string
	for _, text := range profile.AuthorizedIPRanges {
		texts = append(texts, value(text))
	}
	aksRanges(&public, "authorizedIPRanges", texts)
	command := snapshot.Entrance{
		Name: "run command", Gate: snapshot.Open, Unlimited: true, Identity: "Azure RBAC", Indirect: true,
		Says: fmt.Sprintf("disableRunCommand=%t", value(profile.DisableRunCommand)),
	}
	if value(profile.DisableRunCommand) {
		command.Gate = snapshot.Shut
	}
	d.entrances = []snapshot.Entrance{public, private, command}
	return d
}

// aksRanges: a list always lets in the cluster's own outbound addresses too, and may hold nothing else.
func aksRanges(e *snapshot.Entrance, setting string, texts []string) {
	list(e, setting, texts)
	e.Ranges = slices.DeleteFunc(e.Ranges, func(p netip.Prefix) bool { return p.String() == onlyOutbound })
}

func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
