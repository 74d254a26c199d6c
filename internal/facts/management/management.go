// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package management finds the interfaces by which the cluster is managed and watched, and asks those that describe themselves.
// It reads, and connects to nothing that the cluster's own objects do not name.
package management

import (
	"cmp"
	"context"
	"net/netip"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The bounds of an inventory. What is left out is a gap.
const (
	maxServices   = 1024 // supporting systems, aggregated APIs and webhooks, together
	maxScraped    = 1024 // of which nothing but a ServiceMonitor says so
	maxPerService = 4    // endpoints: they are one program with one configuration
	maxPorts      = 32   // of a Service
	maxNamed      = 256  // namespaces, or ports, that a ServiceMonitor or PodMonitor names
	maxNamespaces = 200  // whose pods are listed one after the other: all pods of a large cluster are as many requests
	// maxEndpoints is for all that is behind Services and PodMonitors, which whoever may write those in a namespace can fill: if none answers, a look
	// takes ten minutes.
	maxEndpoints = 10_000
	page         = 500 // objects a request
	bigPage      = 20  // of those that may have a megabyte
)

var (
	apiServices = schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"}
	definitions = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
)

// untyped are the kinds of resources that are read without a type.
var untyped = map[string]schema.GroupVersionKind{
	"apiservices.apiregistration.k8s.io": apiServices, "customresourcedefinitions.apiextensions.k8s.io": definitions,
}

// Mapper maps the kinds that are read, by a table: no inventory depends on discovery.
func Mapper() apimeta.RESTMapper {
	m := apimeta.NewDefaultRESTMapper(nil)
	for _, v := range []schema.GroupVersionKind{
		corev1.SchemeGroupVersion.WithKind("Node"), apiServices, definitions,
		admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"),
		admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"),
	} {
		m.Add(v, apimeta.RESTScopeRoot)
	}
	for _, v := range []schema.GroupVersionKind{
		corev1.SchemeGroupVersion.WithKind("Service"), corev1.SchemeGroupVersion.WithKind("Pod"), appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
		discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), networkingv1.SchemeGroupVersion.WithKind("Ingress"),
		serviceMonitors, podMonitors, peerAuthentications,
	} {
		m.Add(v, apimeta.RESTScopeNamespace)
	}
	return m
}

// inventory is under construction.
type inventory struct {
	reader   client.Reader
	declared map[types.NamespacedName]bool

	out snapshot.Management
	// targets are Services whose endpoints are interfaces. Aggregated APIs and webhooks add them, then services.
	targets []*target
	// systems are the supporting ones by Service, set by services, for Ingresses.
	systems map[types.NamespacedName]string
	// monitors are the ServiceMonitors, set by monitoring for services, and podMonitors for pods; meshed are the pods that take mutual TLS alone, with what
	// says so, set by mesh for endpoints.
	monitors    []monitor
	podMonitors []podMonitor
	meshed      map[netip.Addr]string
	// excluded are ports of such pods that are not their proxy's.
	excluded map[netip.AddrPort]bool
	// endpointsFound counts what is behind Services and PodMonitors, and programs the ports that these select.
	endpointsFound, programs int
	// hosts are those of the control plane, set by nodes and controlPlane.
	hosts map[netip.Addr]string
	// own are the addresses of nodes, set by nodes, and of the API server, by apiServer; placed are those of pods, set by pods.
	own    map[netip.Addr]bool
	placed map[place]bool
	// strict are namespaces that ask for mutual TLS, with what says so, and loose those with an exception, set by mesh for pods.
	strict map[string]string
	loose  map[string]bool
}

// target is a Service with what its endpoints are.
type target struct {
	service types.NamespacedName
	like    snapshot.Interface
	// port limits to one port of the Service, whose name services sets; 0 is all.
	port     int32
	portName *string
	// scraped says that nothing but a ServiceMonitor selects it.
	scraped bool
}

// Declared returns the Services that baselines declare to be supporting systems.
func Declared(baselines []pcinetv1alpha1.PCINetworkBaseline) (out []types.NamespacedName) {
	for i := range baselines {
		if e := baselines[i].Spec.ManagementEncryption; e != nil {
			for _, s := range e.SupportingSystems {
				out = append(out, types.NamespacedName{Namespace: string(s.Namespace), Name: s.Service})
			}
		}
	}
	return out
}

// Take makes an inventory. declared are Services that belong to it whatever they look like. It never fails: what cannot be read is a
// gap. r is not a cache: one of every Service would be the largest of the operator's, for what is asked once in ten minutes.
//
// Cost: a request for every 20 CustomResourceDefinitions, and for every 500 Services, nodes, DaemonSets, Ingresses, APIServices, webhook configurations,
// ServiceMonitors, PodMonitors, PeerAuthentications, and pods of namespaces with Services of interest or that a PodMonitor is for, which may be all; one for the pods of the control plane, one for every 500 pods of a network agent, and one for
// each Service of interest, of which there are at most 2,048. Services × ServiceMonitors are compared, and pods × PodMonitors, of which 1,024 count. Memory: a page, 300 bytes an
// interface, and 100 a pod.
func Take(ctx context.Context, r client.Reader, declared []types.NamespacedName) *snapshot.Management {
	i := newInventory(r, declared)
	for _, part := range []func(context.Context){
		i.nodes, i.controlPlane, i.agents, i.apiServer, i.aggregatedAPIs, i.webhooks, i.conversions, i.monitoring, i.services, i.mesh, i.ingresses,
		i.choose, i.pods, i.endpoints, i.podEndpoints,
	} {
		part(ctx)
	}
	slices.SortFunc(i.out.Hosts, func(a, b snapshot.Host) int { return cmp.Compare(a.Name, b.Name) })
	i.out.Interfaces = distinct(i.out.Interfaces)
	return &i.out
}

// distinct sorts interfaces, and leaves out those that are found twice.
func distinct(list []snapshot.Interface) []snapshot.Interface {
	slices.SortFunc(list, func(a, b snapshot.Interface) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(protocol(a), protocol(b)), cmp.Compare(a.Role, b.Role), cmp.Compare(a.ServerName, b.ServerName),
			cmp.Compare(a.Roots, b.Roots), cmp.Compare(a.Object, b.Object))
	})
	return slices.CompactFunc(list, func(a, b snapshot.Interface) bool {
		return a.Address == b.Address && a.UDP == b.UDP && a.Role == b.Role && a.ServerName == b.ServerName && a.Roots == b.Roots
	})
}

func protocol(i snapshot.Interface) corev1.Protocol {
	if i.UDP {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

func newInventory(r client.Reader, declared []types.NamespacedName) *inventory {
	i := &inventory{
		reader: r, declared: map[types.NamespacedName]bool{}, systems: map[types.NamespacedName]string{}, hosts: map[netip.Addr]string{},
		meshed: map[netip.Addr]string{}, excluded: map[netip.AddrPort]bool{}, own: map[netip.Addr]bool{}, placed: map[place]bool{}, strict: map[string]string{}, loose: map[string]bool{},
	}
	for _, d := range declared {
		i.declared[d] = true
	}
	return i
}

// pages lists a kind in pages, and calls each with every one. resource names it for people. It returns false if not everything could be listed.
func pages[T any, L interface {
	*T
	client.ObjectList
}](ctx context.Context, i *inventory, resource string, each func(L), opts ...client.ListOption) bool {
	for more := ""; ; {
		list := L(new(T)) // not the last one again: what JSON does not hold would stay in its items
		if u, is := any(list).(*unstructured.UnstructuredList); is {
			u.SetGroupVersionKind(untyped[resource].GroupVersion().WithKind(untyped[resource].Kind + "List"))
		}
		if err := i.reader.List(ctx, list, append([]client.ListOption{client.Limit(page), client.Continue(more)}, opts...)...); err != nil {
			i.gap(resource, err)
			return false
		}
		each(list)
		if more = list.GetContinue(); more == "" {
			return true
		}
	}
}

// gap notes that something could not be read. Its words are the same each time.
func (i *inventory) gap(resource string, err error) {
	g := snapshot.Gap{What: "The list of " + resource, Why: "the API server does not answer", Remedy: "Look at the operator's log and at the API server"}
	switch {
	case apierrors.IsForbidden(err):
		g.Why, g.Remedy = "the operator has no right to list "+resource, "Apply the roles of its release: kubectl apply --server-side -k config/rbac"
	case apierrors.IsNotFound(err), apimeta.IsNoMatchError(err):
		g.Why, g.Remedy = "the API server does not serve "+resource, "See which API server the operator is connected to"
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		g.Why = "the API server answers " + string(apierrors.ReasonForError(err))
	}
	i.out.Gaps = append(i.out.Gaps, g)
}

const tooMany = "there are more endpoints than a look has time for"

// leftOut notes that something is not looked at.
func (i *inventory) leftOut(what, why string) {
	i.out.Gaps = append(i.out.Gaps, snapshot.Gap{What: what, Why: why, Remedy: "Look at them by hand", Traffic: true})
}

// room says whether there is room for one more endpoint, and takes it.
func (i *inventory) room() bool {
	i.endpointsFound++
	return i.endpointsFound <= maxEndpoints
}

func (i *inventory) add(like snapshot.Interface) { i.out.Interfaces = append(i.out.Interfaces, like) }
