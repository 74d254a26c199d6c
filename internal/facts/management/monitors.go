// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Kinds of others, which a cluster may have.
var (
	podMonitors         = schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: "PodMonitor"}
	serviceMonitors     = schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: "ServiceMonitor"}
	peerAuthentications = schema.GroupVersionKind{Group: "security.istio.io", Version: "v1", Kind: "PeerAuthentication"}
)

// optional lists a kind that may not be served; then there is nothing of it.
func optional(ctx context.Context, i *inventory, kind schema.GroupVersionKind, resource string, each func(*unstructured.Unstructured)) {
	for more := ""; ; {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
		switch err := i.reader.List(ctx, list, client.Limit(page), client.Continue(more)); {
		case apierrors.IsNotFound(err), apimeta.IsNoMatchError(err):
			return
		case err != nil:
			i.gap(resource, err)
			return
		}
		for n := range list.Items {
			each(&list.Items[n])
		}
		if more = list.GetContinue(); more == "" {
			return
		}
	}
}

// monitor is what a ServiceMonitor selects: what Prometheus scrapes, whatever it is called.
type monitor struct {
	// namespaces are those of the Services; nil for all.
	namespaces []string
	selector   labels.Selector
	// ports are names of ports of the Services, behind ports of their pods, by number or name; all says that no port is named, so that
	// every one is scraped (prometheus-operator pkg/prometheus/promcfg.go).
	ports  []string
	behind []intstr.IntOrString
	all    bool
	// object names it; missed says that a gap tells of a port behind that was not found.
	object string
	missed bool
}

// scraping is the part of the spec of a ServiceMonitor or PodMonitor that is read (monitoring.coreos.com/v1).
type scraping struct {
	Selector          metav1.LabelSelector `json:"selector"`
	NamespaceSelector struct {
		Any        bool     `json:"any"`
		MatchNames []string `json:"matchNames"`
	} `json:"namespaceSelector"`
	Endpoints           []scrapedPort `json:"endpoints"`
	PodMetricsEndpoints []scrapedPort `json:"podMetricsEndpoints"`
}

type scrapedPort struct {
	Port       string              `json:"port"`
	PortNumber int32               `json:"portNumber"`
	TargetPort *intstr.IntOrString `json:"targetPort"`
	// Relabelings choose among what is found otherwise, and may name another address. They are not followed.
	Relabelings []map[string]any `json:"relabelings"`
	TLSConfig   struct {
		InsecureSkipVerify bool `json:"insecureSkipVerify"`
	} `json:"tlsConfig"`
}

// behind returns the port of a pod that is named by its number or name; nil for none.
func (p *scrapedPort) behind() *intstr.IntOrString {
	if t := p.TargetPort; t != nil && *t != (intstr.IntOrString{}) && *t != intstr.FromString("") {
		return t
	}
	return nil
}

// monitoring finds what is scraped, and who is told not to verify whom.
func (i *inventory) monitoring(ctx context.Context) {
	i.monitored(ctx, serviceMonitors, "servicemonitors", func(object string, spec *scraping, namespaces []string, selector labels.Selector) {
		m := monitor{namespaces: namespaces, selector: selector, object: object}
		for _, e := range spec.Endpoints {
			switch behind := e.behind(); {
			case e.Port != "":
				m.ports = append(m.ports, e.Port)
			case behind != nil:
				m.behind = append(m.behind, *behind)
			default:
				m.all = true
			}
		}
		i.monitors = append(i.monitors, m)
	})
	i.monitored(ctx, podMonitors, "podmonitors", func(object string, spec *scraping, namespaces []string, selector labels.Selector) {
		_, name, _ := strings.Cut(object, "/")
		m := podMonitor{namespaces: namespaces, selector: selector, object: object, system: "metrics of " + name, found: map[programPort][]netip.AddrPort{}}
		for _, e := range spec.PodMetricsEndpoints {
			switch behind := e.behind(); {
			case e.Port != "":
				m.ports = append(m.ports, intstr.FromString(e.Port))
			case e.PortNumber != 0:
				m.ports = append(m.ports, intstr.FromInt32(e.PortNumber))
			case behind != nil:
				m.ports = append(m.ports, *behind)
			case len(e.Relabelings) > 0: // as of Istio and Linkerd, for all pods: they are not what is scraped
				i.out.Gaps = append(i.out.Gaps, snapshot.Gap{
					What: object, Why: "an endpoint of it names no port, and chooses by its relabelings, so it was not looked at", Remedy: "Look by hand at what it has scraped", Minor: true,
				})
			default:
				m.all = true
			}
		}
		i.podMonitors = append(i.podMonitors, m)
	})
	if more := len(i.podMonitors) - maxScraped; more > 0 {
		i.out.Gaps = append(i.out.Gaps, snapshot.Gap{
			What: "The PodMonitors from " + i.podMonitors[maxScraped].object + " on", Why: fmt.Sprintf("there are more than %d", maxScraped), Remedy: "Look at their pods by hand", Traffic: true,
		})
		i.podMonitors = i.podMonitors[:maxScraped]
	}
}

// monitored lists one kind of monitor, and calls each with what every one of them selects: namespaces are nil for all.
func (i *inventory) monitored(ctx context.Context, kind schema.GroupVersionKind, resource string,
	each func(object string, spec *scraping, namespaces []string, selector labels.Selector),
) {
	optional(ctx, i, kind, resource+"."+kind.Group, func(o *unstructured.Unstructured) {
		var spec scraping
		object := kind.Kind + " " + o.GetNamespace() + "/" + o.GetName()
		raw, _ := o.Object["spec"].(map[string]any)
		err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &spec)
		selector, selectorErr := metav1.LabelSelectorAsSelector(&spec.Selector)
		if err != nil || selectorErr != nil {
			i.out.Gaps = append(i.out.Gaps, snapshot.Gap{
				What: object, Why: "its spec is not understood, by Prometheus neither", Remedy: "Correct it: kubectl get " + resource + " -o yaml", Minor: true,
			})
			return
		}
		namespaces := spec.NamespaceSelector.MatchNames
		if spec.NamespaceSelector.Any {
			namespaces = nil
		} else if len(namespaces) == 0 {
			namespaces = []string{o.GetNamespace()}
		}
		if max(len(namespaces), len(spec.Endpoints), len(spec.PodMetricsEndpoints)) > maxNamed {
			i.leftOut(object, fmt.Sprintf("it names more than %d namespaces or ports", maxNamed))
			namespaces = namespaces[:min(len(namespaces), maxNamed)]
			spec.Endpoints = spec.Endpoints[:min(len(spec.Endpoints), maxNamed)]
			spec.PodMetricsEndpoints = spec.PodMetricsEndpoints[:min(len(spec.PodMetricsEndpoints), maxNamed)]
		}
		for _, e := range slices.Concat(spec.Endpoints, spec.PodMetricsEndpoints) {
			if e.TLSConfig.InsecureSkipVerify {
				i.out.Callees = append(i.out.Callees, snapshot.Callee{Object: object, Caller: "Prometheus", Unverified: true})
			}
		}
		each(object, &spec, namespaces, selector)
	})
}

// scraped adds the ports of a Service that Prometheus scrapes. A port of its pods that the Service spells otherwise, or does not have, is a
// gap: one for each ServiceMonitor. Cost: the number of ServiceMonitors.
func (i *inventory) scraped(s *corev1.Service) {
	taken := map[int32]bool{}
	for n := range i.monitors {
		m := &i.monitors[n]
		if (m.namespaces != nil && !slices.Contains(m.namespaces, s.Namespace)) || !m.selector.Matches(labels.Set(s.Labels)) {
			continue
		}
		for _, p := range s.Spec.Ports {
			if p.Protocol == corev1.ProtocolUDP || taken[p.Port] || len(taken) > maxPorts { // nobody scrapes UDP; endpointsOf tells of too many
				continue
			}
			if m.all || slices.Contains(m.ports, p.Name) || slices.Contains(m.behind, p.TargetPort) {
				taken[p.Port] = true
				key := types.NamespacedName{Namespace: s.Namespace, Name: s.Name}
				i.targets = append(i.targets, &target{service: key, port: p.Port, portName: new(p.Name), scraped: true, like: snapshot.Interface{
					Role: snapshot.RoleSupporting, Object: "Service " + key.String(), System: "metrics of " + s.Name,
				}})
			}
		}
		i.missed(m, s)
	}
}

// missed notes that a ServiceMonitor has ports of a Service's pods scraped to which no port of the Service leads.
func (i *inventory) missed(m *monitor, s *corev1.Service) {
	at := slices.IndexFunc(m.behind, func(b intstr.IntOrString) bool {
		return !slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.TargetPort == b })
	})
	if m.missed || at < 0 {
		return
	}
	m.missed = true
	i.out.Gaps = append(i.out.Gaps, snapshot.Gap{
		What: m.object + ", targetPort " + m.behind[at].String(), Why: "no port of Service " + s.Namespace + "/" + s.Name + " has it as its targetPort, so it was not looked at",
		Remedy: "Name a port of the Service in its port", Traffic: true,
	})
}
