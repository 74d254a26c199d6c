// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"fmt"
	"slices"
	"testing"
)

// podMonitors looks at what Prometheus scrapes of pods without a Service, beside what there is before.
func (s *site) podMonitors(t *testing.T, expect func(what string, want ...string), before ...string) {
	t.Helper()
	s.place(t, fmt.Sprintf(others, "podmonitors", "PodMonitor", "monitoring.coreos.com"))
	// Both are members of the mesh of namespace shop by their proxy, which leaves one port out.
	const ports = "containers: [{name: istio-proxy, image: x}, {name: app, image: x, ports: [{name: metrics, containerPort: 9400}, {containerPort: 9500}, {name: gossip, containerPort: 9600, protocol: UDP}]}]"
	s.pod(t, "shop/broker-0", "10.3.0.7", "{traffic.sidecar.istio.io/excludeInboundPorts: '9500'}", ports)
	s.pod(t, "shop2/broker-0", "10.3.0.8", "{}", ports)
	s.kubectl(t, "label", "pod", "-n", "shop", "broker-0", "app=broker")
	s.kubectl(t, "label", "pod", "-n", "shop2", "broker-0", "app=broker")
	const strict = ", PeerAuthentication shop/own is STRICT"
	for spec, want := range map[string][]string{
		`podMetricsEndpoints: [{port: metrics}]`:       {"metrics of brokers 10.3.0.7:9400" + strict},
		`podMetricsEndpoints: [{portNumber: 9500}]`:    {"metrics of brokers 10.3.0.7:9500"},
		`podMetricsEndpoints: [{targetPort: metrics}]`: {"metrics of brokers 10.3.0.7:9400" + strict},
		`podMetricsEndpoints: [{targetPort: 9500}]`:    {"metrics of brokers 10.3.0.7:9500"},
		`podMetricsEndpoints: [{path: /all}]`:          {"metrics of brokers 10.3.0.7:9400" + strict, "metrics of brokers 10.3.0.7:9500"},
		`podMetricsEndpoints: [{port: other}]`:         nil,
		`podMetricsEndpoints: [{port: gossip}]`:        nil,
		`podMetricsEndpoints: [{relabelings: [{action: keep, sourceLabels: [x]}]}]`: {
			"PodMonitor shop/brokers: an endpoint of it names no port, and chooses by its relabelings, so it was not looked at",
		},
		`podMetricsEndpoints: []`: nil,
		`namespaceSelector: {matchNames: [shop2]}, podMetricsEndpoints: [{port: metrics}]`: {"metrics of brokers 10.3.0.8:9400"},
		`namespaceSelector: {any: true}, podMetricsEndpoints: [{port: metrics, tlsConfig: {insecureSkipVerify: true}}]`: {
			"PodMonitor shop/brokers has Prometheus verify nobody", "metrics of brokers 10.3.0.7:9400" + strict, "metrics of brokers 10.3.0.8:9400",
		},
	} {
		s.place(t, "{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {namespace: shop, name: brokers}, spec: {selector: {matchLabels: {app: broker}}, "+spec+"}}")
		expect("a PodMonitor has "+spec, slices.Sorted(slices.Values(slices.Concat(before, want)))...)
		s.kubectl(t, "delete", "podmonitor", "-n", "shop", "brokers")
	}
	s.place(t, "{apiVersion: monitoring.coreos.com/v1, kind: PodMonitor, metadata: {namespace: shop, name: odd}, spec: {selector: {matchExpressions: [{key: a, operator: Perhaps}]}}}")
	expect("one is not understood", slices.Sorted(slices.Values(append([]string{"PodMonitor shop/odd: its spec is not understood, by Prometheus neither"}, before...)))...)
	s.kubectl(t, "delete", "podmonitor", "-n", "shop", "odd")
}
