// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cloud asks the cloud that runs the API server who can reach it (4.2), and reads the same from objects that clusters are
// made from. It only reads. What cannot be read is a failure, and says nothing about who can reach what.
package cloud

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// reading bounds everything that one description needs, retries and all.
const reading = 30 * time.Second

// Reader reads descriptions. Each reading gets credentials of its own: none are kept, so none go stale, and the next reading sees
// what became of a token's file. It may be used by several goroutines.
type Reader struct {
	// Identity is the operator's.
	Identity Identity
	// Transport connects; nil for one that uses the system's roots and proxy.
	Transport *http.Transport
	// Timeout bounds a reading; 0 means 30 s.
	Timeout time.Duration
}

// Identity is what the clouds' webhooks and admission put into a pod's environment, so that it can prove who it is. On GKE nothing
// is put there: the metadata server knows.
type Identity struct {
	// RoleARN and TokenFile are for AWS's IRSA.
	RoleARN, TokenFile string
	// ContainerURI and ContainerTokenFile are for EKS Pod Identity.
	ContainerURI, ContainerTokenFile string
	// ClientID, TenantID, FederatedTokenFile and Authority are for Microsoft Entra Workload ID.
	ClientID, TenantID, FederatedTokenFile, Authority string
}

// IdentityFrom reads an environment, which has a value for some names.
func IdentityFrom(env func(name string) string) Identity {
	return Identity{
		RoleARN: env("AWS_ROLE_ARN"), TokenFile: env("AWS_WEB_IDENTITY_TOKEN_FILE"),
		ContainerURI: env("AWS_CONTAINER_CREDENTIALS_FULL_URI"), ContainerTokenFile: env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
		ClientID: env("AZURE_CLIENT_ID"), TenantID: env("AZURE_TENANT_ID"),
		FederatedTokenFile: env("AZURE_FEDERATED_TOKEN_FILE"), Authority: env("AZURE_AUTHORITY_HOST"),
	}
}

// description is what a cloud says.
type description struct {
	host      string
	entrances []snapshot.Entrance
	// encryption is what it says of traffic between nodes.
	encryption snapshot.NodeEncryption
	// issuer, group and path tell clusters apart: whoever signs the tokens, the nodes' group on AKS, the resource on GKE.
	issuer, group, path string
}

// problem is why there is no description.
type problem struct {
	failure snapshot.Failure
	text    string
}

// Describe asks the cloud. What Identify could not tell is not asked for.
func (r *Reader) Describe(ctx context.Context, of snapshot.ControlPlane) snapshot.ControlPlane {
	if of.Failure != "" || of.Cluster.Cloud == "" {
		return of
	}
	timeout := cmp.Or(r.Timeout, reading)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	transport := r.Transport
	if transport == nil {
		transport = newTransport()
	}
	defer transport.CloseIdleConnections()
	s := &session{base: transport}
	d, p := r.ask(ctx, s, of.Cluster)
	if p == nil {
		p = sameCluster(of.Cluster, d)
	}
	if p != nil {
		of.Failure, of.Problem, of.Remedy = p.failure, p.text, remedy(p.failure, of.Cluster.Cloud)
		return of
	}
	of.Host, of.Entrances, of.Encryption = d.host, d.entrances, d.encryption
	return of
}

func (r *Reader) ask(ctx context.Context, s *session, c snapshot.CloudCluster) (*description, *problem) {
	switch c.Cloud {
	case snapshot.EKS:
		return r.askEKS(ctx, s, c)
	case snapshot.GKE:
		return r.askGKE(ctx, s, c)
	case snapshot.AKS:
		return r.askAKS(ctx, s, c)
	}
	return nil, &problem{snapshot.NotDeclared, fmt.Sprintf("%q is no cloud that can be asked", c.Cloud)}
}

// sameCluster guards against a name that was declared or guessed wrong: another cluster's allow-list is not this one's.
func sameCluster(c snapshot.CloudCluster, d *description) *problem {
	differ := func(a, b string) bool {
		return a != "" && b != "" && !strings.EqualFold(strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/"))
	}
	switch {
	case differ(c.Issuer, d.issuer):
		return &problem{snapshot.NoSuchCluster, "the description is of another cluster, whose tokens are signed by " + d.issuer}
	case differ(c.NodeResourceGroup, d.group):
		return &problem{snapshot.NoSuchCluster, "the description is of another cluster, whose nodes are in " + d.group}
	case differ(part(gkeResource, c.Issuer, 0), part(gkeResource, d.path, 0)):
		return &problem{snapshot.NoSuchCluster, "the description is of another cluster, " + part(gkeResource, d.path, 0)}
	}
	return nil
}

func remedy(f snapshot.Failure, c snapshot.Cloud) string {
	switch f {
	case snapshot.NotAsked:
	case snapshot.NoCredentials:
		return "Give the operator's ServiceAccount an identity: docs/management-clouds.md"
	case snapshot.Denied:
		return "Allow " + rights[c] + " for this cluster: docs/management-clouds.md"
	case snapshot.NoSuchCluster, snapshot.NotDeclared:
		return "Correct spec.managementAccess.cloud"
	case snapshot.Throttled:
		return "Wait: the operator asks again. Others use up the account's requests"
	case snapshot.Outage:
		return "Let the operator's pods reach it: docs/management-clouds.md"
	case snapshot.NotUnderstood:
		return "Set spec.managementAccess.cloud.provider to None, attest it in spec.managementAccess.attestation, and tell the project"
	}
	return ""
}

// rights are what a reading needs, and all that it needs.
var rights = map[snapshot.Cloud]string{
	snapshot.EKS: "eks:DescribeCluster", snapshot.GKE: "container.clusters.get", snapshot.AKS: "Microsoft.ContainerService/managedClusters/read",
}

// readable says whether a projected token is there. The SDKs read it themselves, and do not always tell why they could not.
func readable(file string) *problem {
	info, err := os.Stat(file)
	if err != nil || info.Size() == 0 {
		return &problem{snapshot.NoCredentials, "there is no token in " + file}
	}
	return nil
}

// ranges reads address ranges, sorted. Azure also takes single addresses.
func ranges(texts []string) (out []netip.Prefix, unread []string) {
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			var address netip.Addr
			if address, err = netip.ParseAddr(text); err == nil {
				prefix, err = address.WithZone("").Prefix(address.BitLen())
			}
		}
		if err != nil {
			unread = append(unread, fmt.Sprintf("%.64q", text))
			continue
		}
		out = append(out, prefix.Masked())
	}
	slices.SortFunc(out, comparePrefixes)
	slices.Sort(unread)
	return slices.Compact(out), slices.Compact(unread)
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// list gives an entrance the ranges that a setting lists, under the setting's name. Without a list everybody is let in.
func list(e *snapshot.Entrance, setting string, texts []string) {
	e.Unlimited = len(texts) == 0
	e.Ranges, e.Unread = ranges(texts)
	e.Says = strings.TrimPrefix(e.Says+fmt.Sprintf(", %s=%s", setting, strings.Join(texts, ",")), ", ")
}
