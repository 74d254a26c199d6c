// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"io"
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/options"
)

// collectors is a registry that remembers what is registered: a vector without series cannot be gathered.
type collectors []prometheus.Collector

func (c *collectors) Register(m prometheus.Collector) error { *c = append(*c, m); return nil }

func (c *collectors) MustRegister(m ...prometheus.Collector) { *c = append(*c, m...) }

func (c *collectors) Unregister(prometheus.Collector) bool { return false }

// desc reads the one text form that a description has.
var desc = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "(.*?)"(?:, unit: "[^"]*")?, constLabels: .*, variableLabels: \{(.*)\}\}$`)

func metricsTable() string {
	var registered collectors
	metrics.New(&registered)
	var rows [][]string
	for _, c := range registered {
		described := make(chan *prometheus.Desc, 8)
		c.Describe(described)
		close(described)
		for d := range described {
			match := desc.FindStringSubmatch(d.String())
			if match == nil {
				panic("the text form of a metric's description has changed: " + d.String())
			}
			rows = append(rows, []string{code(match[1]), typeOf(c), labels(match[3]), prose(match[2])})
		}
	}
	return table([]string{"Metric", "Type", "Labels", "Meaning"}, rows)
}

func typeOf(c prometheus.Collector) string {
	switch c.(type) {
	case *prometheus.GaugeVec, prometheus.Gauge:
		return "gauge"
	case *prometheus.CounterVec, prometheus.Counter:
		return "counter"
	case *prometheus.HistogramVec, prometheus.Histogram:
		return "histogram"
	}
	return "untyped"
}

func labels(list string) string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name != "" {
			names = append(names, code(name))
		}
	}
	return strings.Join(names, ", ")
}

func flagsTable() string {
	opts := options.Options{Namespace: "$POD_NAMESPACE, or pci-network-baseline-system"}
	flags := flag.NewFlagSet("pci-network-baseline", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	opts.BindFlags(flags)
	var rows [][]string
	flags.VisitAll(func(f *flag.Flag) {
		_, usage := flag.UnquoteUsage(f)
		value := "unset"
		if f.DefValue != "" {
			value = code(f.DefValue)
		}
		rows = append(rows, []string{code("--" + f.Name), value, prose(usage)})
	})
	return table([]string{"Flag", "Default", "Meaning"}, rows)
}
