// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	baselineName      = "cardholder-data" // of config/samples/minimal.yaml
	denyName          = "pcinb-" + baselineName + "-default-deny"
	dnsName           = "pcinb-" + baselineName + "-allow-dns"
	operatorName      = "pci-network-baseline"
	operatorNamespace = operatorName + "-system"

	// eventLimit is how long the demo waits for something that takes
	// milliseconds, so that a busy machine does not fail it.
	eventLimit = 20 * time.Second
)

// site is the control plane with the operator, and the demo's own eyes on it.
type site struct {
	opts     options
	out      *printer
	began    time.Time
	cluster  *cluster.Cluster
	kubectl  *kubectl
	client   client.WithWatch
	observer *observer
	operator *operator
}

// bringUp starts the control plane, installs the product and the tenants, and
// starts the operator. If it fails, nothing of it runs on.
func bringUp(ctx context.Context, opts options, out *printer) (*site, error) {
	s := &site{opts: opts, out: out, began: time.Now()}
	out.line("%s", out.paint(bold, "Starting a Kubernetes control plane on loopback: no nodes, no containers, everything in "+dir))
	var err error
	s.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: dir, Assets: opts.assets, ControllerManager: true, Detach: !opts.once, Progress: indented{out},
	})
	if err != nil {
		if _, left := os.Stat(filepath.Join(dir, cluster.PIDFile)); !errors.Is(left, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w\nOne demo at a time; end the one that is up with: make demo-down", err)
		}
		return nil, err
	}
	if err := s.install(ctx); err != nil {
		return nil, s.end(fmt.Errorf("bringing the demo up: %w", err))
	}
	out.line("  ready after %.1f s", time.Since(s.began).Seconds())
	return s, nil
}

// indented sets the control plane's progress apart from our own lines.
type indented struct{ out *printer }

func (i indented) Write(text []byte) (int, error) {
	i.out.output(string(text))
	return len(text), nil
}

func (s *site) install(ctx context.Context) error {
	s.kubectl = &kubectl{
		path: s.cluster.Kubectl(), kubeconfig: s.cluster.Kubeconfig(),
		cache: filepath.Join(filepath.Dir(s.cluster.Kubeconfig()), "kubectl-cache"), out: s.out,
	}
	scheme := runtime.NewScheme()
	err := errors.Join(clientgoscheme.AddToScheme(scheme), pcinetv1alpha1.AddToScheme(scheme))
	if err != nil {
		return err
	}
	if s.client, err = client.NewWithWatch(s.cluster.Config(), client.Options{Scheme: scheme}); err != nil {
		return err
	}
	s.out.line("  installing config/crd, config/rbac, config/probe and the operator's namespace")
	for _, args := range [][]string{
		{"apply", "--server-side", "-k", "config/crd"},
		{"wait", "--for=condition=Established", "--timeout=30s", "crd/pcinetworkbaselines.pcinetwork.dev", "crd/namespacecoverages.pcinetwork.dev"},
		{"apply", "--server-side", "-f", "config/manager/namespace.yaml"},
		{"apply", "--server-side", "-k", "config/rbac"},
		{"apply", "--server-side", "-k", "config/probe"},
		{"apply", "--server-side", "-f", "hack/demo/manifests/dns.yaml"},
	} {
		if _, err := s.kubectl.run(ctx, args...); err != nil {
			return err
		}
	}
	s.out.line("  creating %d tenant namespaces, each with a Deployment, a Service and a NetworkPolicy of its team", len(tenants))
	manifests, err := renderTenants()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "tenants.yaml")
	if err := os.WriteFile(path, manifests, 0o600); err != nil {
		return err
	}
	if _, err := s.kubectl.run(ctx, "apply", "--server-side", "-f", path); err != nil {
		return err
	}
	if s.observer, err = observe(ctx, s.client); err != nil {
		return err
	}
	return s.startOperator(ctx)
}

// end stops everything, removes everything but logs, and returns err with where they are.
func (s *site) end(err error) error {
	s.out.line("\nStopping the operator and the control plane")
	stopErr := s.cluster.Stop()
	if stopErr == nil {
		stopErr = removeAllButLogs()
	}
	if err := errors.Join(err, stopErr); err != nil {
		return err
	}
	s.out.line("Every step showed what it should, in %.0f s. Nothing is left running.", time.Since(s.began).Seconds())
	return nil
}

// logs says where to look.
func (s *site) logs() string {
	text := fmt.Sprintf("Logs: %s (operator), %s (control plane)", operatorLogPath, filepath.Join(dir, "logs"))
	if err := s.operator.ended(); err != nil {
		text = err.Error() + "\n" + text
	}
	return text
}

// farewell says what can be done with a demo that stays up.
func (s *site) farewell() error {
	s.out.line("\n%s", s.out.paint(bold, fmt.Sprintf("Every step showed what it should, in %.0f s. The cluster stays up for you:", time.Since(s.began).Seconds())))
	s.out.line(`
  export KUBECONFIG=%s
  alias kubectl=%s`, s.kubectl.kubeconfig, s.kubectl.path)
	s.out.line(`
Try:
  kubectl get pcinb,nscov -A
  kubectl delete networkpolicy -A -l pcinetwork.dev/baseline=%[1]s && kubectl get networkpolicy -A
  kubectl label namespace reporting pci-scope=cde --overwrite && kubectl edit pcinb %[1]s   # set namespaces.selector.matchLabels
  kubectl -n loyalty create -f hack/demo/manifests/allow-all.yaml && kubectl -n loyalty get nscov -o wide   # reported, not removed: it is not ours
  curl -s http://%[2]s/metrics | grep '^pcinb_'

The operator's log is %[3]s. Its token lasts until %[4]s.
There are no nodes, so pods stay Pending and no packet is sent: this shows policies, not their enforcement.
End it with:
  make demo-down`, baselineName, s.operator.metrics, operatorLogPath, s.operator.tokenEnd.Local().Format("Jan 2 15:04"))
	return nil
}
