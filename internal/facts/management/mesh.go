// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// istioRoot is the namespace whose PeerAuthentication is for the whole mesh, unless Istio was told of another one; that is then not seen.
const istioRoot = "istio-system"

// mesh finds the namespaces whose PeerAuthentication, or that of the whole mesh, is STRICT, with no exception for some pods or ports. Istio
// takes nothing but mutual TLS there for pods that have its proxy, or whose traffic it redirects: labels of namespaces say what was asked
// for, and pods may be left out, so pods goes by those. Sources: Istio's PeerAuthentication (security.istio.io/v1), the container that its
// injector adds, and the annotation that istio-cni sets on what it redirects.
func (i *inventory) mesh(ctx context.Context) {
	optional(ctx, i, peerAuthentications, "peerauthentications.security.istio.io", func(o *unstructured.Unstructured) {
		spec, _ := o.Object["spec"].(map[string]any)
		mtls, _ := spec["mtls"].(map[string]any)
		selector, selects := spec["selector"].(map[string]any)
		_, ports := spec["portLevelMtls"]
		isStrict := mtls["mode"] == "STRICT" && !ports
		switch {
		case isStrict && (!selects || len(selector) == 0):
			i.strict[o.GetNamespace()] = "PeerAuthentication " + o.GetNamespace() + "/" + o.GetName() + " is STRICT"
		case !isStrict:
			i.loose[o.GetNamespace()] = true
		}
	})
}

// asksFor returns what asks for mutual TLS of every pod of a namespace; "" for nothing.
func (i *inventory) asksFor(namespace string) string {
	why := i.strict[namespace]
	if why == "" && !i.loose[istioRoot] {
		why = i.strict[istioRoot]
	}
	if i.loose[namespace] {
		return ""
	}
	return why
}

// Annotations by which ports of a pod are not its proxy's (istio.io, Resource Annotations). Its injector excludes the port of the proxy's own status
// itself. Which ports are included is not taken apart: unless it is all of them, nothing is known of the pod.
const (
	excludePorts = "traffic.sidecar.istio.io/excludeInboundPorts"
	includePorts = "traffic.sidecar.istio.io/includeInboundPorts"
	// interception is NONE where nothing is redirected to the proxy.
	interception = "sidecar.istio.io/interceptionMode"
)

// member notes the addresses of a pod that is a member of the mesh. One on the host's network never is.
func (i *inventory) member(p *corev1.Pod, why string) {
	proxy := slices.ContainsFunc(slices.Concat(p.Spec.InitContainers, p.Spec.Containers), func(c corev1.Container) bool { return c.Name == "istio-proxy" })
	excluded, understood := portsIn(p.Annotations[excludePorts])
	if included, set := p.Annotations[includePorts]; !understood || (set && included != "*") || p.Annotations[interception] == "NONE" {
		return
	}
	if p.Spec.HostNetwork || (!proxy && p.Annotations["ambient.istio.io/redirection"] != "enabled") {
		return
	}
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			i.meshed[a] = why
			for _, port := range excluded {
				i.excluded[netip.AddrPortFrom(a, port)] = true
			}
		}
	}
}

// portsIn reads a list of ports; false for what is none.
func portsIn(list string) (out []uint16, ok bool) {
	for text := range strings.SplitSeq(list, ",") {
		text = strings.TrimSpace(text)
		port, err := strconv.ParseUint(text, 10, 16)
		switch {
		case err == nil:
			out = append(out, uint16(port))
		case text != "":
			return nil, false
		}
	}
	return out, true
}
