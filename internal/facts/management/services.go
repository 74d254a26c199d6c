// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// supporting are the systems that log, watch, trace or deploy, by the value of the labels that their charts give a Service.
var supporting = map[string]string{
	"prometheus": "Prometheus", "prometheus-server": "Prometheus", "kube-prometheus-stack-prometheus": "Prometheus", "alertmanager": "Alertmanager",
	"kube-prometheus-stack-alertmanager": "Alertmanager", "prometheus-pushgateway": "Pushgateway", "thanos": "Thanos", "thanos-query": "Thanos",
	"grafana": "Grafana", "kube-state-metrics": "kube-state-metrics", "node-exporter": "node-exporter", "prometheus-node-exporter": "node-exporter",
	"metrics-server": "metrics-server", "elasticsearch": "Elasticsearch", "kibana": "Kibana", "opensearch": "OpenSearch",
	"opensearch-dashboards": "OpenSearch Dashboards", "loki": "Loki", "tempo": "Tempo", "jaeger": "Jaeger", "mimir": "Mimir",
	"opentelemetry-collector": "OpenTelemetry Collector", "fluent-bit": "Fluent Bit", "fluentd": "Fluentd", "vector": "Vector",
	"hubble-relay": "Hubble Relay", "hubble-ui": "Hubble UI", "goldmane": "Goldmane", "calico-typha": "Typha", "argocd-server": "Argo CD", "argocd-repo-server": "Argo CD",
	"kubernetes-dashboard": "Kubernetes Dashboard", "kubernetes-dashboard-kong": "Kubernetes Dashboard", "rancher": "Rancher",
	"prometheus-operated": "Prometheus", "alertmanager-operated": "Alertmanager", "lokistack": "Loki", // as their operators call them
	"weave-gitops": "Weave GitOps", "kiali": "Kiali", "headlamp": "Headlamp", "vault": "Vault",
}

// systemLabels are looked at in this order; ECK's marks what it makes, whatever the label app is.
var systemLabels = []string{"app.kubernetes.io/name", "common.k8s.elastic.co/type", "k8s-app", "app", "app.kubernetes.io/component"}

// owners are the systems whose operators make Services for objects of these kinds, whatever labels they give them. The groups are those of the
// operators' own definitions.
var owners = map[schema.GroupKind]string{
	{Group: "monitoring.coreos.com", Kind: "Prometheus"}: "Prometheus", {Group: "monitoring.coreos.com", Kind: "PrometheusAgent"}: "Prometheus",
	{Group: "monitoring.coreos.com", Kind: "Alertmanager"}: "Alertmanager", {Group: "monitoring.coreos.com", Kind: "ThanosRuler"}: "Thanos",
	{Group: "grafana.integreatly.org", Kind: "Grafana"}: "Grafana", {Group: "elasticsearch.k8s.elastic.co", Kind: "Elasticsearch"}: "Elasticsearch",
	{Group: "kibana.k8s.elastic.co", Kind: "Kibana"}: "Kibana", {Group: "opensearch.opster.io", Kind: "OpenSearchCluster"}: "OpenSearch",
	{Group: "loki.grafana.com", Kind: "LokiStack"}: "Loki", {Group: "tempo.grafana.com", Kind: "TempoStack"}: "Tempo",
	{Group: "jaegertracing.io", Kind: "Jaeger"}: "Jaeger", {Group: "opentelemetry.io", Kind: "OpenTelemetryCollector"}: "OpenTelemetry Collector",
	{Group: "argoproj.io", Kind: "ArgoCD"}: "Argo CD",
}

// recognise says what supporting system a Service belongs to; "" for none.
func recognise(s *corev1.Service) string {
	for _, o := range s.OwnerReferences {
		if system := owners[schema.FromAPIVersionAndKind(o.APIVersion, o.Kind).GroupKind()]; system != "" {
			return system
		}
	}
	for _, label := range systemLabels {
		if system := supporting[s.Labels[label]]; system != "" {
			return system
		}
	}
	return supporting[s.Name]
}

// services finds supporting systems, the doors to them, and the ports of Services that others have asked for.
func (i *inventory) services(ctx context.Context) {
	wanted, missing := map[types.NamespacedName][]*target{}, maps.Clone(i.declared)
	for _, t := range i.targets {
		wanted[t.service] = append(wanted[t.service], t)
	}
	listed := pages(ctx, i, "services", func(list *corev1.ServiceList) {
		for n := range list.Items {
			s := &list.Items[n]
			key := client.ObjectKeyFromObject(s)
			delete(missing, key)
			named(wanted[key], s)
			i.service(s, key, wanted[key] != nil)
		}
	})
	if listed {
		for key := range missing {
			i.out.Absent = append(i.out.Absent, key.String())
		}
		slices.Sort(i.out.Absent)
	}
}

// named gives targets the names of the ports of their Service.
func named(wanted []*target, s *corev1.Service) {
	for _, t := range wanted {
		for _, p := range s.Spec.Ports {
			if p.Port == t.port {
				t.portName = new(p.Name)
			}
		}
	}
}

// service finds what one Service is; wanted says that others have asked for it.
func (i *inventory) service(s *corev1.Service, key types.NamespacedName, wanted bool) {
	system, object := recognise(s), "Service "+key.String()
	if system == "" && i.declared[key] {
		system = s.Name
	}
	leads := system
	if key == apiService || (s.Namespace == metav1.NamespaceSystem && s.Spec.Selector["component"] == apiServerProgram) {
		leads = apiSystem
	}
	if leads != "" && s.Spec.Type != corev1.ServiceTypeExternalName {
		i.systems[key] = leads
		i.serviceDoors(s, object, leads)
	}
	switch asked := wanted || i.declared[key]; {
	case s.Spec.Type == corev1.ServiceTypeExternalName && (asked || system != ""):
		i.out.Gaps = append(i.out.Gaps, snapshot.Gap{
			What: object, Why: "it is a name for a host outside of the cluster, which is not dialled", Remedy: "Look at it by hand", Traffic: asked, Minor: !asked,
		})
	case s.Spec.Type == corev1.ServiceTypeExternalName:
	case system == "":
		i.scraped(s)
	default:
		i.targets = append(i.targets, &target{service: key, like: snapshot.Interface{Role: snapshot.RoleSupporting, Object: object, System: system}})
	}
}

// Annotations by which a load balancer or an ingress controller is told whom to let in, and that it is internal.
var (
	serviceRanges = []string{corev1.AnnotationLoadBalancerSourceRangesKey}
	ingressRanges = []string{
		"nginx.ingress.kubernetes.io/whitelist-source-range",
		"nginx.ingress.kubernetes.io/allowlist-source-range", "nginx.org/allow-list", "haproxy.org/allow-list", "haproxy.org/whitelist",
		"haproxy-ingress.github.io/allowlist-source-range", "alb.ingress.kubernetes.io/inbound-cidrs",
	}
	internalAnnotations = map[string]string{
		"service.beta.kubernetes.io/aws-load-balancer-internal":   "true",
		"service.beta.kubernetes.io/aws-load-balancer-scheme":     "internal",
		"service.beta.kubernetes.io/azure-load-balancer-internal": "true",
		"networking.gke.io/load-balancer-type":                    "Internal",
		"alb.ingress.kubernetes.io/scheme":                        "internal",
	}
)

func isInternal(annotations map[string]string) bool {
	for key, value := range internalAnnotations {
		if annotations[key] == value {
			return true
		}
	}
	return false
}

// annotated returns what annotations say of ranges, all of them, for nobody knows which one is heeded, and which they are.
func annotated(annotations map[string]string, keys []string) (ranges, by []string) {
	for _, key := range keys {
		if value := annotations[key]; value != "" {
			ranges, by = append(ranges, strings.Split(value, ",")...), append(by, key)
		}
	}
	return ranges, by
}

// rangesOf reads address ranges. What is none is left out: with nothing left, the door is open to everybody.
func rangesOf(texts []string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if a, err := netip.ParseAddr(text); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		} else if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

func (i *inventory) serviceDoors(s *corev1.Service, object, system string) {
	d := snapshot.Door{Object: object, System: system, Kind: string(s.Spec.Type), NodePorts: nodePorts(s)}
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		ranges := s.Spec.LoadBalancerSourceRanges
		if len(ranges) == 0 {
			ranges, _ = annotated(s.Annotations, serviceRanges)
		}
		d.Ranges, d.Internal, d.Awaited = rangesOf(ranges), isInternal(s.Annotations), len(s.Status.LoadBalancer.Ingress) == 0
		for _, in := range s.Status.LoadBalancer.Ingress {
			d.Addresses = append(d.Addresses, portsAt(in.IP, tcpPorts(s))...)
			d.Names = append(d.Names, hostPorts(in.Hostname, tcpPorts(s))...)
		}
		i.out.Doors = append(i.out.Doors, d)
	case corev1.ServiceTypeNodePort:
		i.out.Doors = append(i.out.Doors, d)
	default:
	}
	if len(s.Spec.ExternalIPs) > 0 {
		outside := snapshot.Door{Object: object, System: system, Kind: "ExternalIP"}
		for _, ip := range s.Spec.ExternalIPs {
			outside.Addresses = append(outside.Addresses, portsAt(ip, tcpPorts(s))...)
		}
		i.out.Doors = append(i.out.Doors, outside)
	}
}

func tcpPorts(s *corev1.Service) []uint16 {
	var out []uint16
	for _, p := range s.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP {
			out = append(out, uint16(p.Port))
		}
	}
	return out
}

// portsAt returns ports at an address; none where that is not one.
func portsAt(address string, ports []uint16) []netip.AddrPort {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return nil
	}
	var out []netip.AddrPort
	for _, p := range ports {
		out = append(out, netip.AddrPortFrom(a, p))
	}
	return out
}

// hostPorts returns ports at a host, as host:port; none where it has no name.
func hostPorts(host string, ports []uint16) []string {
	if host == "" {
		return nil
	}
	var out []string
	for _, p := range ports {
		out = append(out, net.JoinHostPort(host, strconv.Itoa(int(p))))
	}
	return out
}

func nodePorts(s *corev1.Service) []uint16 {
	var out []uint16
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 && p.Protocol == corev1.ProtocolTCP {
			out = append(out, uint16(p.NodePort))
		}
	}
	return out
}

// ingresses finds the doors to supporting systems that are Ingresses.
func (i *inventory) ingresses(ctx context.Context) {
	pages(ctx, i, "ingresses.networking.k8s.io", func(list *networkingv1.IngressList) {
		for n := range list.Items {
			in := &list.Items[n]
			if system := i.behind(in); system != "" {
				i.out.Doors = append(i.out.Doors, ingressDoor(in, system))
			}
		}
	})
	slices.SortStableFunc(i.out.Doors, func(a, b snapshot.Door) int { return cmp.Compare(a.Object, b.Object) })
}

// apiService is the Service of the API server, and apiSystem what doors lead to that are doors to it.
var apiService = types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: apiServerService}

const apiSystem = "the API server"

func ingressDoor(in *networkingv1.Ingress, system string) snapshot.Door {
	ranges, by := annotated(in.Annotations, ingressRanges)
	return snapshot.Door{
		Object: "Ingress " + in.Namespace + "/" + in.Name, System: system, Kind: "Ingress",
		Ranges: rangesOf(ranges), By: strings.Join(by, ", "), Internal: isInternal(in.Annotations),
	}
}

// behind says which supporting system an Ingress leads to.
func (i *inventory) behind(in *networkingv1.Ingress) string {
	var backends []networkingv1.IngressBackend
	if in.Spec.DefaultBackend != nil {
		backends = append(backends, *in.Spec.DefaultBackend)
	}
	for _, rule := range in.Spec.Rules {
		if rule.HTTP != nil {
			for _, path := range rule.HTTP.Paths {
				backends = append(backends, path.Backend)
			}
		}
	}
	for _, b := range backends {
		if b.Service == nil {
			continue
		}
		if system := i.systems[types.NamespacedName{Namespace: in.Namespace, Name: b.Service.Name}]; system != "" {
			return system
		}
	}
	return ""
}
