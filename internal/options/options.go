// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package options holds the operator's flags.
package options

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Options are the operator's settings.
type Options struct {
	// Kubeconfig is the path of a kubeconfig; empty for the pod's own ServiceAccount.
	Kubeconfig string
	// Namespace is the operator's own: its lease is there, and it is never denied.
	Namespace string
	// ProbeImage is what canaries run; empty for the image of the operator's own pod.
	ProbeImage string
	// Pod is the name of the operator's own pod; empty outside of a cluster.
	Pod string
	// LeaderElect lets several replicas agree on one that aggregates and removes.
	LeaderElect bool
	// Workers is how many namespaces are worked on at a time.
	Workers int
	// MetricsAddress serves metrics; "0" turns them off. HealthAddress serves /healthz and /readyz.
	MetricsAddress, HealthAddress string
	// MetricsSecure serves metrics over HTTPS to callers that the API server authenticates and authorizes.
	MetricsSecure bool
	// MetricsCertDir holds tls.crt and tls.key for metrics; empty for a self-signed certificate.
	MetricsCertDir string
	// LogLevel is debug, info, warn or error; LogFormat is json or text.
	LogLevel, LogFormat string
	// Version asks for the version alone.
	Version bool
}

// BindFlags defines the flags.
func (o *Options) BindFlags(fs *flag.FlagSet) {
	fs.StringVar(&o.Kubeconfig, "kubeconfig", "", "`path` of a kubeconfig; unset uses the pod's ServiceAccount")
	fs.StringVar(&o.Namespace, "namespace", o.Namespace, "the operator's own `namespace`, which holds its lease and is never denied")
	fs.StringVar(&o.ProbeImage, "probe-image", "", "`image` of the canaries that prove enforcement; unset uses that of the operator's own pod, named in POD_NAME")
	fs.BoolVar(&o.LeaderElect, "leader-elect", true, "let several replicas agree on one that aggregates and removes; every replica denies")
	fs.IntVar(&o.Workers, "workers", 32, "how many namespaces are worked on at a time")
	fs.StringVar(&o.MetricsAddress, "metrics-bind-address", ":8443", "`address` that serves /metrics; 0 turns it off")
	fs.BoolVar(&o.MetricsSecure, "metrics-secure", true, "serve metrics over HTTPS with authentication and authorization; false is allowed on loopback alone")
	fs.StringVar(&o.MetricsCertDir, "metrics-cert-dir", "", "`directory` with tls.crt and tls.key for metrics; unset makes a self-signed certificate")
	fs.StringVar(&o.HealthAddress, "health-probe-bind-address", ":8081", "`address` that serves /healthz and /readyz")
	fs.StringVar(&o.LogLevel, "log-level", "info", "`level` of the log: debug, info, warn or error")
	fs.StringVar(&o.LogFormat, "log-format", "json", "`format` of the log: json or text")
	fs.BoolVar(&o.Version, "version", false, "print the version and exit")
}

// Validate says what cannot be, all of it at once.
func (o *Options) Validate() error {
	var errs []error
	if msgs := validation.IsDNS1123Label(o.Namespace); len(msgs) > 0 {
		errs = append(errs, fmt.Errorf("--namespace %q: %s", o.Namespace, msgs[0]))
	}
	if o.Workers < 1 || o.Workers > 1024 {
		errs = append(errs, fmt.Errorf("--workers %d: must be 1 to 1024", o.Workers))
	}
	if !o.MetricsSecure && o.MetricsAddress != "0" && !loopback(o.MetricsAddress) {
		errs = append(errs, fmt.Errorf("--metrics-secure=false: %q is not a loopback address such as 127.0.0.1:8080; metrics leave the pod encrypted or not at all", o.MetricsAddress))
	}
	if _, err := o.Level(); err != nil {
		errs = append(errs, err)
	}
	if o.LogFormat != "json" && o.LogFormat != "text" {
		errs = append(errs, fmt.Errorf("--log-format %q: must be json or text", o.LogFormat))
	}
	return errors.Join(errs...)
}

// Level parses LogLevel.
func (o *Options) Level() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.LogLevel)); err != nil {
		return level, fmt.Errorf("--log-level %q: must be debug, info, warn or error", o.LogLevel)
	}
	return level, nil
}

// loopback says whether an address is a literal loopback one. A name is not: what it resolves to may change.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
