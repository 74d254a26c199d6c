// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// apiServerName is a name that every API server's certificate holds, and its clients in the cluster ask for.
const apiServerName = "kubernetes.default.svc"

// apiServerProgram is its name, which kubeadm and RKE2 give to its container and as label component to its pod.
const apiServerProgram = "kube-apiserver"

// apiServerService is the name of its Service and, in k8s.io/kubernetes pkg/controlplane/reconcilers, of the EndpointSlice of that.
const apiServerService = "kubernetes"

// The ports that nobody declares: those of kubernetes/pkg/cluster/ports, kubeadm and konnectivity. The insecure ports are closed in
// every supported version, so whoever answers there is something else, such as a proxy.
const (
	kubeletPort   = 10250
	readOnlyPort  = 10255
	insecureAPI   = 8080
	etcdClients   = 2379
	etcdPeers     = 2380
	etcdMetrics   = 2381
	schedulerPort = 10259
	managerPort   = 10257
	konnectivity  = 8132
)

// controlPlanePorts are looked at on every host of the control plane.
var controlPlanePorts = []struct {
	port uint16
	role snapshot.Role
}{
	{insecureAPI, snapshot.RoleInsecureAPI},
	{etcdClients, snapshot.RoleEtcd},
	{etcdPeers, snapshot.RoleEtcd},
	{etcdMetrics, snapshot.RoleEtcdMetrics},
	{schedulerPort, snapshot.RoleScheduler},
	{managerPort, snapshot.RoleControllerManager},
	{konnectivity, snapshot.RoleKonnectivity},
}

// nodes finds the kubelets, and the hosts of the control plane.
func (i *inventory) nodes(ctx context.Context) {
	pages(ctx, i, "nodes", func(list *corev1.NodeList) {
		for n := range list.Items {
			i.node(&list.Items[n])
		}
	})
}

// host returns what a firewall on nodes must know of a node.
func host(n *corev1.Node) snapshot.Host {
	out := snapshot.Host{Name: n.Name, Trial: n.Labels[policy.LabelHostFirewall] == policy.HostFirewallTrial}
	out.Provider, _, _ = strings.Cut(n.Spec.ProviderID, "://")
	for _, a := range n.Status.Addresses {
		if parsed, err := netip.ParseAddr(a.Address); err == nil {
			out.Addresses = append(out.Addresses, parsed.Unmap())
		}
	}
	for _, c := range n.Spec.PodCIDRs {
		if p, err := netip.ParsePrefix(c); err == nil {
			out.PodRanges = append(out.PodRanges, p.Masked())
		}
	}
	return out
}

// node takes the first internal address: a kubelet listens on every one.
func (i *inventory) node(n *corev1.Node) {
	h := host(n)
	i.out.Hosts = append(i.out.Hosts, h)
	for _, a := range h.Addresses {
		i.own[a] = true
	}
	var address netip.Addr
	for _, a := range n.Status.Addresses {
		if parsed, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			address = parsed
			break
		}
	}
	if !address.IsValid() {
		i.out.Gaps = append(i.out.Gaps, snapshot.Gap{What: "Node " + n.Name, Why: "it has no internal address", Remedy: "See kubectl get node -o wide"})
		return
	}
	object := "Node " + n.Name
	port := cmp.Or(uint16(n.Status.DaemonEndpoints.KubeletEndpoint.Port), kubeletPort)
	i.add(snapshot.Interface{Address: netip.AddrPortFrom(address, port), Role: snapshot.RoleKubelet, Object: object, ClusterRoots: true})
	i.add(snapshot.Interface{Address: netip.AddrPortFrom(address, readOnlyPort), Role: snapshot.RoleKubeletReadOnly, Object: object})
	for _, label := range []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master", "node-role.kubernetes.io/etcd"} {
		if _, has := n.Labels[label]; has {
			i.hosts[address] = object
		}
	}
}

// controlPlane finds hosts and flags by the static pods of kubeadm and RKE2. Whoever rules a node could fake them, so what an
// API server says of itself counts more.
func (i *inventory) controlPlane(ctx context.Context) {
	pages(ctx, i, "pods", func(list *corev1.PodList) {
		for p := range list.Items {
			pod := &list.Items[p]
			if address, err := netip.ParseAddr(pod.Status.HostIP); err == nil && i.hosts[address] == "" {
				i.hosts[address] = "Pod " + pod.Namespace + "/" + pod.Name
			}
			if pod.Labels["component"] == apiServerProgram {
				i.out.APIServer.Settings = append(i.out.APIServer.Settings, snapshot.Settings{Source: "Pod " + pod.Namespace + "/" + pod.Name, Flags: flagsOf(pod)})
			}
		}
	}, client.InNamespace(metav1.NamespaceSystem), client.MatchingLabels{"tier": "control-plane"})
	for address, object := range i.hosts {
		for _, p := range controlPlanePorts {
			i.add(snapshot.Interface{Address: netip.AddrPortFrom(address, p.port), Role: p.role, Object: object})
		}
	}
}

// flagsOfInterest are those of the API server that are judged. Others may be secret, and are not kept.
var flagsOfInterest = []string{"authorization-mode", "authorization-config", "etcd-servers", "etcd-cafile", "etcd-certfile", "kubelet-certificate-authority"}

// flagsOf reads the command line of an API server's pod, whose container has the name of the program, unless it has only one.
func flagsOf(pod *corev1.Pod) map[string]string {
	for _, c := range pod.Spec.Containers {
		if c.Name == apiServerProgram || len(pod.Spec.Containers) == 1 {
			return commandLine(slices.Concat(c.Command, c.Args))
		}
	}
	return nil
}

// commandLine reads the flags of interest, as --name=value or --name value.
func commandLine(args []string) map[string]string {
	out := map[string]string{}
	for n, arg := range args {
		name, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !inline && n+1 < len(args) && !strings.HasPrefix(args[n+1], "-") {
			value = args[n+1]
		}
		switch {
		case !slices.Contains(flagsOfInterest, name):
		case name == "authorization-mode" && out[name] != "": // a list, to which each adds
			out[name] += "," + value
		default:
			out[name] = value
		}
	}
	return out
}

// apiServer finds the endpoints of the API server, which it writes itself, under that name: any other slice may be anybody's.
func (i *inventory) apiServer(ctx context.Context) {
	pages(ctx, i, "endpointslices", func(list *discoveryv1.EndpointSliceList) {
		for _, e := range endpointsIn(list.Items) {
			i.own[e.address.Addr()] = true
			i.add(snapshot.Interface{
				Address: e.address, Role: snapshot.RoleAPIServer, Object: "Service default/kubernetes", ServerName: apiServerName, ClusterRoots: true,
			})
			i.add(snapshot.Interface{
				Address: netip.AddrPortFrom(e.address.Addr(), insecureAPI), Role: snapshot.RoleInsecureAPI, Object: "Service default/kubernetes",
			})
		}
	}, client.InNamespace(metav1.NamespaceDefault), client.MatchingLabels{discoveryv1.LabelServiceName: apiServerService},
		client.MatchingFields{metav1.ObjectNameField: apiServerService})
}
