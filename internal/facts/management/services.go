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
	networkingv1 "k8s.io/api/networking/v1"
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
	"hubble-relay": "Hubble Relay", "hubble-ui": "Hubble UI", "goldmane": "Goldmane", "argocd-server": "Argo CD", "argocd-repo-server": "Argo CD",
	"kubernetes-dashboard": "Kubernetes Dashboard", "kubernetes-dashboard-kong": "Kubernetes Dashboard", "rancher": "Rancher",
	"weave-gitops": "Weave GitOps", "kiali": "Kiali", "headlamp": "Headlamp", "vault": "Vault",
}

// systemLabels are looked at in this order; ECK's marks what it makes, whatever the label app is.
var systemLabels = []string{"app.kubernetes.io/name", "common.k8s.elastic.co/type", "k8s-app", "app"}

// recognise says what supporting system a Service belongs to; "" for none.
func recognise(s *corev1.Service) string {
	for _, label := range systemLabels {
		if system := supporting[s.Labels[label]]; system != "" {
			return system
		}
	}
	return supporting[s.Name]
}

// services finds supporting systems, the doors to them, and the ports of Services that others have asked for.
func (i *inventory) services(ctx context.Context) {
	wanted := map[types.NamespacedName][]*target{}
	for _, t := range i.targets {
		wanted[t.service] = append(wanted[t.service], t)
	}
	pages(ctx, i, "services", func(list *corev1.ServiceList) {
		for n := range list.Items {
			s := &list.Items[n]
			key := client.ObjectKeyFromObject(s)
			for _, t := range wanted[key] {
				for _, p := range s.Spec.Ports {
					if p.Port == t.port {
						t.portName = new(p.Name)
					}
				}
			}
			system := recognise(s)
			if system == "" && i.declared[key] {
				system = s.Name
			}
			if system == "" || s.Spec.Type == corev1.ServiceTypeExternalName {
				continue
			}
			object := "Service " + key.String()
			i.systems[key] = system
			i.targets = append(i.targets, &target{service: key, like: snapshot.Interface{Role: snapshot.RoleSupporting, Object: object, System: system}})
			i.serviceDoors(s, object, system)
		}
	})
}

// Annotations by which a load balancer or an ingress controller is told whom to let in, and that it is internal.
var (
	rangeAnnotations = []string{
		"service.beta.kubernetes.io/load-balancer-source-ranges", "nginx.ingress.kubernetes.io/whitelist-source-range",
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

// rangesOf reads address ranges. What is none is left out: with nothing left, the door is open to everybody.
func rangesOf(spec []string, annotations map[string]string) []netip.Prefix {
	for _, key := range rangeAnnotations {
		if value := annotations[key]; len(spec) == 0 && value != "" {
			spec = strings.Split(value, ",")
		}
	}
	var out []netip.Prefix
	for _, text := range spec {
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
	d := snapshot.Door{Object: object, System: system, Kind: string(s.Spec.Type)}
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		d.Ranges, d.Internal = rangesOf(s.Spec.LoadBalancerSourceRanges, s.Annotations), isInternal(s.Annotations)
		i.out.Doors = append(i.out.Doors, d)
	case corev1.ServiceTypeNodePort:
		i.out.Doors = append(i.out.Doors, d)
	default:
	}
	if len(s.Spec.ExternalIPs) > 0 {
		i.out.Doors = append(i.out.Doors, snapshot.Door{Object: object, System: system, Kind: "ExternalIP"})
	}
}

// ingresses finds the doors to supporting systems that are Ingresses.
func (i *inventory) ingresses(ctx context.Context) {
	if len(i.systems) == 0 {
		return
	}
	pages(ctx, i, "ingresses.networking.k8s.io", func(list *networkingv1.IngressList) {
		for n := range list.Items {
			in := &list.Items[n]
			if system := i.behind(in); system != "" {
				i.out.Doors = append(i.out.Doors, snapshot.Door{
					Object: "Ingress " + in.Namespace + "/" + in.Name, System: system, Kind: "Ingress",
					Ranges: rangesOf(nil, in.Annotations), Internal: isInternal(in.Annotations),
				})
			}
		}
	})
	slices.SortStableFunc(i.out.Doors, func(a, b snapshot.Door) int { return cmp.Compare(a.Object, b.Object) })
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

// endpoint is one port of one pod or host behind a Service. name is that of the port.
type endpoint struct {
	address netip.AddrPort
	name    string
	udp     bool
}

func (i *inventory) endpointsOf(ctx context.Context, service types.NamespacedName) []endpoint {
	var out []endpoint
	pages(ctx, i, "endpointslices", func(list *discoveryv1.EndpointSliceList) { out = append(out, endpointsIn(list.Items)...) },
		client.InNamespace(service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service.Name})
	return bounded(out)
}

// bounded keeps a few endpoints of each port, the same ones as long as they are there: they are one program.
func bounded(all []endpoint) []endpoint {
	slices.SortFunc(all, func(a, b endpoint) int { return a.address.Compare(b.address) })
	count := map[string]int{}
	return slices.DeleteFunc(all, func(e endpoint) bool {
		count[e.name]++
		return count[e.name] > maxPerService
	})
}

// endpointsIn returns the ready endpoints of slices.
func endpointsIn(list []discoveryv1.EndpointSlice) []endpoint {
	var out []endpoint
	for _, s := range list {
		for _, p := range s.Ports {
			if p.Port == nil {
				continue
			}
			e := endpoint{udp: p.Protocol != nil && *p.Protocol == corev1.ProtocolUDP}
			if p.Name != nil {
				e.name = *p.Name
			}
			for _, of := range s.Endpoints {
				if of.Conditions.Ready != nil && !*of.Conditions.Ready {
					continue
				}
				for _, text := range of.Addresses {
					if a, err := netip.ParseAddr(text); err == nil {
						e.address = netip.AddrPortFrom(a, uint16(*p.Port))
						out = append(out, e)
					}
				}
			}
		}
	}
	return out
}
