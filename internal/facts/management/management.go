// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package management finds the interfaces by which the cluster is managed and watched, and asks those that describe themselves.
// It reads, and connects to nothing that the cluster's own objects do not name.
package management

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
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

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The bounds of an inventory. What is left out is a gap.
const (
	maxServices   = 256 // supporting systems, aggregated APIs and webhooks, together
	maxPerService = 4   // endpoints: they are one program with one configuration
	page          = 500 // objects a request
)

var apiServices = schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"}

// Mapper maps the kinds that are read, by a table: no inventory depends on discovery.
func Mapper() apimeta.RESTMapper {
	m := apimeta.NewDefaultRESTMapper(nil)
	for _, v := range []schema.GroupVersionKind{
		corev1.SchemeGroupVersion.WithKind("Node"), apiServices,
		admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"),
		admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"),
	} {
		m.Add(v, apimeta.RESTScopeRoot)
	}
	for _, v := range []schema.GroupVersionKind{
		corev1.SchemeGroupVersion.WithKind("Service"), corev1.SchemeGroupVersion.WithKind("Pod"),
		discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), networkingv1.SchemeGroupVersion.WithKind("Ingress"),
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
	// hosts are those of the control plane, set by nodes and controlPlane.
	hosts map[netip.Addr]string
}

// target is a Service with what its endpoints are.
type target struct {
	service types.NamespacedName
	like    snapshot.Interface
	// port limits to one port of the Service, whose name services sets; 0 is all.
	port     int32
	portName *string
}

// Take makes an inventory. declared are Services that belong to it whatever they look like. It never fails: what cannot be read is a
// gap. r is not a cache: one of every Service would be the largest of the operator's, for what is asked once in ten minutes.
//
// Cost: a request for every 500 Services, nodes, Ingresses, APIServices and webhook configurations, one for the pods of the control
// plane, and one for each Service of interest, of which there are at most 256. Memory: a page, and 300 bytes an interface.
func Take(ctx context.Context, r client.Reader, declared []types.NamespacedName) *snapshot.Management {
	i := &inventory{
		reader: r, declared: map[types.NamespacedName]bool{}, systems: map[types.NamespacedName]string{}, hosts: map[netip.Addr]string{},
	}
	for _, d := range declared {
		i.declared[d] = true
	}
	for _, part := range []func(context.Context){
		i.nodes, i.controlPlane, i.apiServer, i.aggregatedAPIs, i.webhooks, i.services, i.ingresses, i.endpoints,
	} {
		part(ctx)
	}
	slices.SortFunc(i.out.Interfaces, func(a, b snapshot.Interface) int {
		return cmp.Or(a.Address.Compare(b.Address), cmp.Compare(a.Role, b.Role), cmp.Compare(a.ServerName, b.ServerName),
			cmp.Compare(a.Roots, b.Roots), cmp.Compare(a.Object, b.Object))
	})
	i.out.Interfaces = slices.CompactFunc(i.out.Interfaces, func(a, b snapshot.Interface) bool {
		return a.Address == b.Address && a.Role == b.Role && a.ServerName == b.ServerName && a.Roots == b.Roots
	})
	return &i.out
}

// pages lists a kind in pages, and calls each with every one. resource names it for people.
func pages[T any, L interface {
	*T
	client.ObjectList
}](ctx context.Context, i *inventory, resource string, each func(L), opts ...client.ListOption) {
	for more := ""; ; {
		list := L(new(T)) // not the last one again: what JSON does not hold would stay in its items
		if u, untyped := any(list).(*unstructured.UnstructuredList); untyped {
			u.SetGroupVersionKind(apiServices.GroupVersion().WithKind(apiServices.Kind + "List"))
		}
		if err := i.reader.List(ctx, list, append(opts, client.Limit(page), client.Continue(more))...); err != nil {
			i.gap(resource, err)
			return
		}
		each(list)
		if more = list.GetContinue(); more == "" {
			return
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

func (i *inventory) add(like snapshot.Interface) { i.out.Interfaces = append(i.out.Interfaces, like) }

// endpoints finds the endpoints of every target.
func (i *inventory) endpoints(ctx context.Context) {
	slices.SortStableFunc(i.targets, func(a, b *target) int {
		return cmp.Or(cmp.Compare(a.service.Namespace, b.service.Namespace), cmp.Compare(a.service.Name, b.service.Name))
	})
	known := map[types.NamespacedName][]endpoint{}
	for _, t := range i.targets {
		if t.port != 0 && t.portName == nil {
			continue // the Service is not there, or has no such port
		}
		found, seen := known[t.service]
		if !seen {
			if len(known) == maxServices {
				i.out.Gaps = append(i.out.Gaps, snapshot.Gap{
					What: "A part of the Services", Why: fmt.Sprintf("there are more than %d of interest", maxServices), Remedy: "Look at the others by hand",
				})
				return
			}
			found = i.endpointsOf(ctx, t.service)
			known[t.service] = found
		}
		for _, e := range found {
			if t.port == 0 || e.name == *t.portName {
				like := t.like
				like.Address, like.UDP = e.address, e.udp
				i.add(like)
			}
		}
	}
}
