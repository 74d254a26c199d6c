// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// kinds are the objects that clusters are made from, where they say who can reach the API server. Only spec is read: it is what was
// asked for, of the cluster that the object is about, which is seldom the one that it is in.
var kinds = map[schema.GroupKind]func(*object) []snapshot.Entrance{
	{Group: "controlplane.cluster.x-k8s.io", Kind: "AWSManagedControlPlane"}: eksForm("endpointAccess.public", "endpointAccess.publicCIDRs", "endpointAccess.private"),
	{Group: "infrastructure.cluster.x-k8s.io", Kind: "AWSCluster"}:           awsLoadBalancers,
	{Group: "infrastructure.cluster.x-k8s.io", Kind: "AzureManagedControlPlane"}: aksForm("apiServerAccessProfile.enablePrivateCluster",
		"apiServerAccessProfile.authorizedIPRanges"),
	{Group: "infrastructure.cluster.x-k8s.io", Kind: "AzureCluster"}: azureLoadBalancer,
	{Group: "infrastructure.cluster.x-k8s.io", Kind: "GCPManagedControlPlane"}: gkeForm("clusterNetwork.privateCluster.enablePrivateEndpoint",
		"master_authorized_networks_config", "cidr_blocks", "cidr_block", "gcp_public_cidrs_access_enabled"),
	{Group: "infrastructure.cluster.x-k8s.io", Kind: "OpenStackCluster"}: openStack,
	{Group: "containerservice.azure.com", Kind: "ManagedCluster"}: aksForm("apiServerAccessProfile.enablePrivateCluster",
		"apiServerAccessProfile.authorizedIPRanges"),
	{Group: "eks.services.k8s.aws", Kind: "Cluster"}: eksForm("resourcesVPCConfig.endpointPublicAccess", "resourcesVPCConfig.publicAccessCIDRs",
		"resourcesVPCConfig.endpointPrivateAccess"),
	{Group: "container.cnrm.cloud.google.com", Kind: "ContainerCluster"}: gkeForm("privateClusterConfig.enablePrivateEndpoint",
		"masterAuthorizedNetworksConfig", "cidrBlocks", "cidrBlock", "gcpPublicCidrsAccessEnabled"),
	{Group: "management.cattle.io", Kind: "Cluster"}:          rancher,
	{Group: "hypershift.openshift.io", Kind: "HostedCluster"}: hyperShift,
}

// Kinds are those that FromObject understands, sorted.
func Kinds() []schema.GroupKind {
	return slices.SortedFunc(maps.Keys(kinds), func(a, b schema.GroupKind) int {
		return cmp.Or(strings.Compare(a.Group, b.Group), strings.Compare(a.Kind, b.Kind))
	})
}

// FromObject reads an object of one of the Kinds. It is not ok when the object says nothing of an API server, as Rancher's objects of
// clusters that it did not make.
func FromObject(u *unstructured.Unstructured) (out snapshot.ControlPlane, ok bool) {
	read := kinds[u.GroupVersionKind().GroupKind()]
	if read == nil {
		return out, false
	}
	out.Object = u.GetKind() + " " + strings.TrimPrefix(u.GetNamespace()+"/"+u.GetName(), "/")
	o := &object{fields: u.Object}
	out.Host = o.text("controlPlaneEndpoint.host")
	out.Entrances = read(o)
	if len(o.wrong) > 0 {
		out.Entrances, out.Failure = nil, snapshot.NotUnderstood
		out.Problem = fmt.Sprintf("%s is not as expected: %s", out.Object, strings.Join(o.wrong, ", "))
		out.Remedy = remedy(out.Failure, "")
		return out, true
	}
	return out, len(out.Entrances) > 0
}

// object reads fields of spec by their paths, and remembers which are of another type than they should be.
type object struct {
	fields map[string]any
	wrong  []string
}

func read[T any](o *object, path string) (T, bool) {
	names := strings.Split("spec."+path, ".")
	var zero T
	at, found, err := unstructured.NestedFieldNoCopy(o.fields, names...)
	if !found && err == nil {
		return zero, false
	}
	value, ok := at.(T)
	if !ok && (err != nil || at != nil) {
		o.wrong = append(o.wrong, "spec."+path)
	}
	return value, ok
}

func (o *object) text(path string) string {
	text, _ := read[string](o, path)
	return text
}

// flag returns what an unset field means where it is unset.
func (o *object) flag(path string, unset bool) bool {
	if value, ok := read[bool](o, path); ok {
		return value
	}
	return unset
}

func (o *object) has(path string) bool {
	_, ok := read[map[string]any](o, path)
	return ok
}

// texts reads a list of strings or, with a key, of objects that have one.
func (o *object) texts(path, key string) []string {
	items, _ := read[[]any](o, path)
	var out []string
	for _, item := range items {
		if fields, ok := item.(map[string]any); ok && key != "" {
			item = fields[key]
		}
		text, ok := item.(string)
		if !ok {
			o.wrong = append(o.wrong, "spec."+path)
			continue
		}
		out = append(out, text)
	}
	return out
}

func gateIf(open bool) snapshot.Gate {
	if open {
		return snapshot.Open
	}
	return snapshot.Shut
}

// at makes an entrance with the field that opens it, and what that says.
func at(name, path string, open bool, says any) snapshot.Entrance {
	return snapshot.Entrance{Name: name, Gate: gateIf(open), Says: fmt.Sprintf("%s=%v", path, says), Field: "spec." + path}
}

// eksForm: EKS opens the public endpoint, and only that one, unless it is told otherwise.
func eksForm(publicPath, ranges, privatePath string) func(*object) []snapshot.Entrance {
	return func(o *object) []snapshot.Entrance {
		open := o.flag(publicPath, true)
		public := at("public endpoint", publicPath, open, open)
		list(&public, ranges, o.texts(ranges, ""))
		public.Field = "spec." + ranges
		open = o.flag(privatePath, false)
		private := at("private endpoint", privatePath, open, open)
		private.Private, private.Unlimited = true, true
		return []snapshot.Entrance{public, private}
	}
}

func aksForm(privatePath, ranges string) func(*object) []snapshot.Entrance {
	return func(o *object) []snapshot.Entrance {
		enabled := o.flag(privatePath, false)
		public := at("public endpoint", privatePath, !enabled, enabled)
		aksRanges(&public, ranges, o.texts(ranges, ""))
		public.Field = "spec." + ranges
		private := at("private endpoint", privatePath, enabled, enabled)
		private.Private, private.Unlimited = true, true
		return []snapshot.Entrance{public, private}
	}
}

// gkeForm: these objects do not say whether the DNS endpoint is open.
func gkeForm(privatePath, networks, blocks, block, google string) func(*object) []snapshot.Entrance {
	return func(o *object) []snapshot.Entrance {
		private := o.flag(privatePath, false)
		e := at("public IP endpoint", privatePath, !private, private)
		limited := o.has(networks) && o.flag(networks+".enabled", google != "") // Rancher's object alone has it
		list(&e, networks, o.texts(networks+"."+blocks, block))
		e.Unlimited, e.Field = !limited, "spec."+networks
		if google != "" && limited {
			setting := networks + "." + google
			if allowed, said := read[bool](o, setting); !said {
				e.Unread = append(e.Unread, setting)
			} else if allowed {
				e.Others = []string{"every public address of Google Cloud, whoever has it"}
			}
		}
		return []snapshot.Entrance{e, {Name: "DNS endpoint", Says: "the object does not tell"}}
	}
}

// awsLoadBalancers: Cluster API for AWS lets in everybody to a load balancer without rules of its own.
func awsLoadBalancers(o *object) []snapshot.Entrance {
	var out []snapshot.Entrance
	for i, path := range []string{"controlPlaneLoadBalancer", "secondaryControlPlaneLoadBalancer"} {
		if i > 0 && !o.has(path) {
			continue
		}
		if o.text(path+".loadBalancerType") == "disabled" {
			continue
		}
		scheme := cmp.Or(o.text(path+".scheme"), "internet-facing")
		e := at("load balancer", path+".scheme", true, scheme)
		e.Private = scheme == "internal"
		rules, _ := read[[]any](o, path+".ingressRules")
		var texts []string
		for _, rule := range rules {
			fields, ok := rule.(map[string]any)
			if !ok {
				o.wrong = append(o.wrong, "spec."+path+".ingressRules")
			}
			inner := &object{fields: map[string]any{"spec": fields}}
			texts = append(texts, append(inner.texts("cidrBlocks", ""), inner.texts("ipv6CidrBlocks", "")...)...)
			o.wrong = append(o.wrong, inner.wrong...)
		}
		list(&e, path+".ingressRules", texts)
		e.Unlimited, e.Field = len(rules) == 0, "spec."+path+".ingressRules"
		out = append(out, e)
	}
	return out
}

// azureLoadBalancer: the rules of the subnets' security groups may be anything, and are not read.
func azureLoadBalancer(o *object) []snapshot.Entrance {
	const path = "networkSpec.apiServerLB.type"
	kind := cmp.Or(o.text(path), "Public")
	e := at("load balancer", path, true, kind)
	e.Private, e.Unlimited = kind == "Internal", kind == "Internal"
	if kind != "Internal" {
		e.Unread = []string{"spec.networkSpec.subnets[].securityGroup"}
	}
	return []snapshot.Entrance{e}
}

// openStack: without a load balancer the API server has an address whose security group is not in the object.
func openStack(o *object) []snapshot.Entrance {
	const path = "apiServerLoadBalancer"
	enabled := o.has(path) && o.flag(path+".enabled", true)
	e := at("load balancer", path+".enabled", enabled, enabled)
	if !enabled {
		e.Gate = ""
	}
	list(&e, path+".allowedCIDRs", o.texts(path+".allowedCIDRs", ""))
	e.Field = "spec." + path + ".allowedCIDRs"
	return []snapshot.Entrance{e}
}

// rancher has one of three forms, for clusters that Rancher made.
func rancher(o *object) []snapshot.Entrance {
	switch {
	case o.has("eksConfig"):
		return eksForm("eksConfig.publicAccess", "eksConfig.publicAccessSources", "eksConfig.privateAccess")(o)
	case o.has("gkeConfig"):
		return gkeForm("gkeConfig.privateClusterConfig.enablePrivateEndpoint", "gkeConfig.masterAuthorizedNetworks", "cidrBlocks", "cidrBlock", "")(o)
	case o.has("aksConfig"):
		return aksForm("aksConfig.privateCluster", "aksConfig.authorizedIpRanges")(o)
	}
	return nil
}

func hyperShift(o *object) []snapshot.Entrance {
	const path, ranges = "platform.aws.endpointAccess", "networking.apiServer.allowedCIDRBlocks"
	access := cmp.Or(o.text(path), "Public")
	public := at("public endpoint", path, access != "Private", access)
	list(&public, ranges, o.texts(ranges, ""))
	public.Field = "spec." + ranges
	private := at("private endpoint", path, access != "Public", access)
	private.Private, private.Unlimited = true, true
	return []snapshot.Entrance{public, private}
}
