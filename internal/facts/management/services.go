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
	"prometheus-operated": "Prometheus", "alertmanager-operated": "Alertmanager", "lokistack": "Loki", // as their operators call them
	"weave-gitops": "Weave GitOps", "kiali": "Kiali", "headlamp": "Headlamp", "vault": "Vault",
}

// systemLabels are looked at in this order; ECK's marks what it makes, whatever the label app is.
var systemLabels = []string{"app.kubernetes.io/name", "common.k8s.elastic.co/type", "k8s-app", "app", "app.kubernetes.io/component"}

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
			if s.Spec.Type == corev1.ServiceTypeExternalName {
				continue
			}
			if system == "" {
				i.scraped(s)
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
	d := snapshot.Door{Object: object, System: system, Kind: string(s.Spec.Type), NodePorts: nodePorts(s)}
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		d.Ranges, d.Internal = rangesOf(s.Spec.LoadBalancerSourceRanges, s.Annotations), isInternal(s.Annotations)
		for _, in := range s.Status.LoadBalancer.Ingress {
			d.Addresses = append(d.Addresses, portsAt(s, in.IP)...)
		}
		i.out.Doors = append(i.out.Doors, d)
	case corev1.ServiceTypeNodePort:
		i.out.Doors = append(i.out.Doors, d)
	default:
	}
	if len(s.Spec.ExternalIPs) > 0 {
		outside := snapshot.Door{Object: object, System: system, Kind: "ExternalIP"}
		for _, ip := range s.Spec.ExternalIPs {
			outside.Addresses = append(outside.Addresses, portsAt(s, ip)...)
		}
		i.out.Doors = append(i.out.Doors, outside)
	}
}

// portsAt returns the TCP ports of a Service at an address; none where that is not one, but a name.
func portsAt(s *corev1.Service, address string) []netip.AddrPort {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return nil
	}
	var out []netip.AddrPort
	for _, p := range s.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP {
			out = append(out, netip.AddrPortFrom(a, uint16(p.Port)))
		}
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
