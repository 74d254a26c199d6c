// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command pci-network-baseline is the operator: it makes the namespaces of a cluster default-deny and keeps them so.
package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/pcinetwork/pci-network-baseline/controllers"
	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/options"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/probe/reach"
	"github.com/pcinetwork/pci-network-baseline/internal/version"
)

// commands are what the binary does instead of operating, by its first argument.
var commands = map[string]func(context.Context, []string) error{
	probe.Command:   probe.Main,
	deadman.Command: func(ctx context.Context, args []string) error { return deadman.Main(ctx, args, restConfig) },
	reach.Command:   func(ctx context.Context, args []string) error { return reach.Main(ctx, args, os.Stdout, os.Stderr) },
}

func main() {
	if len(os.Args) > 1 {
		if command, is := commands[os.Args[1]]; is {
			end(command(ctrl.SetupSignalHandler(), os.Args[2:]))
			return
		}
	}
	opts := options.Options{Namespace: cmp.Or(os.Getenv("POD_NAMESPACE"), "pci-network-baseline-system"), Pod: os.Getenv("POD_NAME")}
	fs := flag.NewFlagSet("pci-network-baseline", flag.ExitOnError) // libraries add flags of their own to the default set
	opts.BindFlags(fs)
	fs.Usage = func() {
		_, _ = fmt.Fprintf(fs.Output(), "Usage: pci-network-baseline [flags]\n       pci-network-baseline %s [flags]\n\n",
			strings.Join(slices.Sorted(maps.Keys(commands)), "|"))
		fs.PrintDefaults()
	}
	_ = fs.Parse(os.Args[1:]) // ExitOnError: it prints the usage and exits itself
	if opts.Version {
		fmt.Println(version.Version)
		return
	}
	end(run(ctrl.SetupSignalHandler(), opts))
}

// end ends the program with an error, if there is one.
func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "pci-network-baseline:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, opts options.Options) error {
	if err := opts.Validate(); err != nil {
		return err
	}
	if err := setupLog(opts); err != nil {
		return err
	}
	config, err := restConfig(opts.Kubeconfig)
	if err != nil {
		return err
	}
	mgr, err := newManager(config, opts)
	if err != nil {
		return err
	}
	if err := controllers.Setup(mgr, controllers.Options{
		Namespace: opts.Namespace, Pod: opts.Pod, ProbeImage: opts.ProbeImage, Workers: opts.Workers,
		Clouds: &cloud.Reader{Identity: cloud.IdentityFrom(os.Getenv)},
	}); err != nil {
		return err
	}
	slog.Info("Starting", "version", version.Version, "namespace", opts.Namespace)
	return mgr.Start(ctx)
}

func setupLog(opts options.Options) error {
	level, err := opts.Level()
	if err != nil {
		return err
	}
	var handler slog.Handler = slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	if opts.LogFormat == "text" {
		handler = slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})
	}
	slog.SetDefault(slog.New(handler))
	ctrl.SetLogger(logr.FromSlogHandler(handler))
	klog.SetLogger(logr.FromSlogHandler(handler))
	return nil
}

// restConfig turns off the client's own limit of 20 requests a second, which makes 1,000 namespaces take 49 s: the API
// server's priority and fairness shapes the load, and the workers bound it.
func restConfig(kubeconfig string) (*rest.Config, error) {
	var config *rest.Config
	var err error
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
		if errors.Is(err, rest.ErrNotInCluster) {
			return nil, errors.New("not in a pod: give --kubeconfig")
		}
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("client configuration: %w", err)
	}
	config.QPS = -1
	config.UserAgent = "pci-network-baseline/" + version.Version
	return config, nil
}

func newManager(config *rest.Config, opts options.Options) (ctrl.Manager, error) {
	mgr, err := controllers.NewManager(config, ctrl.Options{
		Metrics:                       metricsOptions(opts),
		HealthProbeBindAddress:        opts.HealthAddress,
		LeaderElection:                opts.LeaderElect,
		LeaderElectionID:              controllers.Lease,
		LeaderElectionNamespace:       opts.Namespace,
		LeaderElectionReleaseOnCancel: true,
	})
	if err != nil {
		return nil, err
	}
	return mgr, errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("caches", controllers.Synced(mgr)))
}

// metricsOptions serves metrics over TLS 1.3, to callers with get on the non-resource URL /metrics.
func metricsOptions(opts options.Options) metricsserver.Options {
	out := metricsserver.Options{BindAddress: opts.MetricsAddress, SecureServing: opts.MetricsSecure, CertDir: opts.MetricsCertDir}
	if opts.MetricsSecure {
		out.FilterProvider = metrics.Access
		out.TLSOpts = []func(*tls.Config){func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }}
	}
	return out
}
