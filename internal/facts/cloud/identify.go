// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Hints are what shows inside a cluster of who runs it.
type Hints struct {
	Nodes []snapshot.Node
	// Issuer is that of the operator's own token: see Issuer.
	Issuer string
	// Hosts are names by which the API server is known.
	Hosts []string
	// Declared is what the spec says. It goes before what shows, but for the cloud: two answers to that are none.
	Declared snapshot.CloudCluster
}

// Where a node belongs says its providerID: aws:///ZONE/…, gce://PROJECT/ZONE/NAME and
// azure:///subscriptions/ID/resourceGroups/GROUP/…; the region of a zone is what comes before the letter, and before the name
// of a city for local zones.
var (
	awsZone    = regexp.MustCompile(`^aws:///([a-z]{2}(?:-[a-z]+)+-\d)`)
	gceProject = regexp.MustCompile(`^gce://([^/]+)/`)
	azureNode  = regexp.MustCompile(`(?i)^azure:///subscriptions/([^/]+)/resourceGroups/([^/]+)/`)

	eksIssuer = regexp.MustCompile(`^https://oidc[.-]eks\.([a-z0-9-]+)\.[a-z.]+/id/`)
	gkeIssuer = regexp.MustCompile(`^https://container\.googleapis\.com/v1/projects/([^/]+)/locations/([^/]+)/clusters/([^/]+)$`)
	aksIssuer = regexp.MustCompile(`\.oic\.prod-aks\.azure\.[a-z]+/|\.azmk8s\.[a-z]+`)

	eksHost = regexp.MustCompile(`\.([a-z0-9-]+)\.eks\.amazonaws\.com(?:\.cn)?$`)
	gkeHost = regexp.MustCompile(`\.gke\.goog$`)
	aksHost = regexp.MustCompile(`\.azmk8s\.[a-z]+$`)
)

// The names that become part of requests and of commands for people. They hold nothing that a URL or a shell would take for
// more than a name.
var (
	anyName      = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,99}$`)
	place        = regexp.MustCompile(`^[a-z][a-z0-9-]{1,40}$`)
	project      = regexp.MustCompile(`^([a-z0-9.-]{1,63}:)?[a-z][a-z0-9-]{1,61}[a-z0-9]$`)
	subscription = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)
	group        = regexp.MustCompile(`^[\w().-]{1,90}$`)
)

const (
	regionLabel   = "topology.kubernetes.io/region"
	eksctlLabel   = "alpha.eksctl.io/cluster-name"
	aksGroupLabel = "kubernetes.azure.com/cluster"
)

// Identify says which cluster of which cloud this is, or, as a failure, what has to be declared. A cluster of no managed cloud has
// no Cloud.
func Identify(h Hints) snapshot.ControlPlane {
	out := snapshot.ControlPlane{Cluster: h.Declared}
	c := &out.Cluster
	c.Issuer = h.Issuer
	var seen []snapshot.Cloud
	c.Signals = signals(h)
	for _, s := range c.Signals {
		if cloud := snapshot.Cloud(s.Says); !slices.Contains(seen, cloud) {
			seen = append(seen, cloud)
		}
	}
	if declared := h.Declared.Cloud; declared != "" && !slices.Contains(seen, declared) {
		seen = append(seen, declared)
	}
	switch {
	case len(seen) == 0:
		return undeclared(out, "nothing shows that a cloud runs the API server", "provider, if one does")
	case len(seen) > 1:
		return undeclared(out, fmt.Sprintf("%s says %s, and %s says otherwise", c.Signals[0].Object, c.Signals[0].Says, contrary(h, c.Signals)), "provider as it is")
	}
	c.Cloud = seen[0]
	switch c.Cloud {
	case snapshot.EKS:
		ofEKS(h, c)
	case snapshot.GKE:
		ofGKE(h, c)
	case snapshot.AKS:
		ofAKS(h, c)
	}
	return checked(out, h.Declared.Cloud)
}

// Issuer returns the claim iss of a token, or "". The token is the operator's own, and not verified.
func Issuer(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return ""
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	_ = json.Unmarshal(payload, &claims) // no issuer, then
	return claims.Issuer
}

func undeclared(out snapshot.ControlPlane, problem, what string) snapshot.ControlPlane {
	out.Failure, out.Problem, out.Remedy = snapshot.NotDeclared, problem, "Set in spec.managementAccess.cloud: "+what
	return out
}

// contrary names what contradicts the first signal.
func contrary(h Hints, signals []snapshot.Signal) string {
	for _, s := range signals {
		if s.Says != signals[0].Says {
			return s.Object
		}
	}
	return "spec.managementAccess.cloud.provider (" + string(h.Declared.Cloud) + ")"
}

// signals are one a node at most, and only the first node of a cloud; then the issuer, then the hosts.
func signals(h Hints) []snapshot.Signal {
	var out []snapshot.Signal
	add := func(object string, c snapshot.Cloud) {
		if c != "" && !slices.ContainsFunc(out, func(s snapshot.Signal) bool { return s.Says == string(c) }) {
			out = append(out, snapshot.Signal{Object: object, Says: string(c)})
		}
	}
	for i := range h.Nodes {
		add("Node "+h.Nodes[i].Name, cloudOfNode(&h.Nodes[i]))
	}
	add("the issuer "+h.Issuer, match(h.Issuer, eksIssuer, gkeIssuer, aksIssuer))
	for _, host := range h.Hosts {
		add("the API server's name "+host, match(host, eksHost, gkeHost, aksHost))
	}
	return out
}

func match(text string, eks, gke, aks *regexp.Regexp) snapshot.Cloud {
	switch {
	case eks.MatchString(text):
		return snapshot.EKS
	case gke.MatchString(text):
		return snapshot.GKE
	case aks.MatchString(text):
		return snapshot.AKS
	}
	return ""
}

// cloudOfNode goes by what the managed service leaves on its nodes: a providerID alone is also that of a cluster which somebody
// runs on a cloud's machines.
func cloudOfNode(n *snapshot.Node) snapshot.Cloud {
	switch {
	case strings.Contains(n.Kubelet, "-eks-"), n.Labels["eks.amazonaws.com/nodegroup"] != "", n.Labels["eks.amazonaws.com/compute-type"] != "":
		return snapshot.EKS
	case strings.Contains(n.Kubelet, "-gke."), n.Labels["cloud.google.com/gke-nodepool"] != "":
		return snapshot.GKE
	case n.Labels[aksGroupLabel] != "":
		return snapshot.AKS
	}
	return ""
}

func ofEKS(h Hints, c *snapshot.CloudCluster) {
	c.Name = cmp.Or(c.Name, unanimous(h.Nodes, func(n *snapshot.Node) string { return n.Labels[eksctlLabel] }))
	c.Location = cmp.Or(c.Location, part(eksIssuer, h.Issuer, 1))
	for _, host := range h.Hosts {
		c.Location = cmp.Or(c.Location, part(eksHost, host, 1))
	}
	c.Location = cmp.Or(c.Location, unanimous(h.Nodes, func(n *snapshot.Node) string {
		return cmp.Or(n.Labels[regionLabel], part(awsZone, n.ProviderID, 1))
	}))
}

// ofGKE takes from nodes the project alone: they are in zones, and the cluster may be in a region.
func ofGKE(h Hints, c *snapshot.CloudCluster) {
	c.Project = cmp.Or(c.Project, part(gkeIssuer, h.Issuer, 1), unanimous(h.Nodes, func(n *snapshot.Node) string { return part(gceProject, n.ProviderID, 1) }))
	c.Location = cmp.Or(c.Location, part(gkeIssuer, h.Issuer, 2))
	c.Name = cmp.Or(c.Name, part(gkeIssuer, h.Issuer, 3))
}

// ofAKS reads MC_GROUP_NAME_REGION, the name of the nodes' group unless somebody chose another, where it can be read in one way.
// Whether it was read right says the description: it names that group.
func ofAKS(h Hints, c *snapshot.CloudCluster) {
	c.Subscription = cmp.Or(c.Subscription, unanimous(h.Nodes, func(n *snapshot.Node) string { return part(azureNode, n.ProviderID, 1) }))
	c.NodeResourceGroup = unanimous(h.Nodes, func(n *snapshot.Node) string {
		return cmp.Or(n.Labels[aksGroupLabel], part(azureNode, n.ProviderID, 2))
	})
	if parts := strings.Split(c.NodeResourceGroup, "_"); len(parts) == 4 && strings.EqualFold(parts[0], "MC") {
		c.ResourceGroup, c.Name = cmp.Or(c.ResourceGroup, parts[1]), cmp.Or(c.Name, parts[2])
	}
}

// part returns a group of the expression's match, or "".
func part(expression *regexp.Regexp, text string, group int) string {
	if found := expression.FindStringSubmatch(text); found != nil {
		return found[group]
	}
	return ""
}

// unanimous returns what every node with an answer says, but for upper and lower case; "" if two differ.
func unanimous(nodes []snapshot.Node, of func(*snapshot.Node) string) string {
	var out string
	for i := range nodes {
		says := of(&nodes[i])
		if out != "" && says != "" && !strings.EqualFold(out, says) {
			return ""
		}
		out = cmp.Or(out, says)
	}
	return out
}

// checked says which fields are missing, or cannot be what they should. The spec takes most of them together with the provider alone.
func checked(out snapshot.ControlPlane, declared snapshot.Cloud) snapshot.ControlPlane {
	c := out.Cluster
	type field struct {
		name, value string
		is          *regexp.Regexp
	}
	fields := []field{{"name", c.Name, anyName}}
	switch c.Cloud {
	case snapshot.EKS:
		fields = append(fields, field{"location", c.Location, place})
	case snapshot.GKE:
		fields = append(fields, field{"location", c.Location, place}, field{"project", c.Project, project})
	case snapshot.AKS:
		fields = append(fields, field{"subscriptionID", c.Subscription, subscription}, field{"resourceGroup", c.ResourceGroup, group})
	default:
		return undeclared(out, fmt.Sprintf("%q is no cloud that can be asked", c.Cloud), "provider")
	}
	var missing, wrong []string
	for _, f := range fields {
		switch {
		case f.value == "":
			missing = append(missing, f.name)
		case !f.is.MatchString(f.value):
			wrong = append(wrong, f.name)
		}
	}
	switch {
	case len(wrong) > 0:
		return undeclared(out, fmt.Sprintf("a cluster of %s has no such %s", c.Cloud, strings.Join(wrong, ", ")), strings.Join(wrong, ", "))
	case len(missing) > 0:
		if declared == "" {
			missing = append([]string{"provider (" + string(c.Cloud) + ")"}, missing...)
		}
		return undeclared(out, fmt.Sprintf("which cluster of %s this is shows nowhere in it", c.Cloud), strings.Join(missing, ", "))
	}
	return out
}
