// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// minNamespaces leaves enough of them for the drift while the operator is down.
const minNamespaces = 50

// bench is one run.
type bench struct {
	opts     options
	dir      string
	began    time.Time
	forks    chan<- func()
	meter    *meter
	sites    []*site // all that still run
	specimen *specimen
	results  results

	raw      *rawSite   // of the last round; nil if no phase needs it
	loop     *contender // likewise
	operator *contender // likewise
}

// contender is a program under test in a control plane of its own.
type contender struct {
	*site
	child *child
	user  string  // as the audit log names it
	peak  float64 // MiB, the largest of all its processes

	declared time.Time // the baseline was created

	launch func(context.Context) (*child, error)
}

// rawSite is a control plane for the raw client.
type rawSite struct {
	*site
	client rawClient
}

func newBench(opts options) (*bench, error) {
	dir, err := os.MkdirTemp("", "pcinb-bench-")
	if err != nil {
		return nil, err
	}
	meter, err := newMeter(runtime.NumCPU())
	if err != nil {
		return nil, err
	}
	b := &bench{opts: opts, dir: dir, began: now(), forks: newForks(), meter: meter}
	b.results.n = opts.n
	b.say("working in %s", dir)
	return b, nil
}

func (b *bench) run(ctx context.Context) error {
	if err := b.findSpecimen(ctx); err != nil {
		return fmt.Errorf("finding out what to write: %w", err)
	}
	if err := b.convergence(ctx); err != nil {
		return err
	}
	for _, phase := range []struct {
		letter string
		run    func(context.Context) error
	}{
		{"c", b.newNamespaces},
		{"d", b.repairs},
		{"e", b.change},
		{"f", b.downtime},
		{"g", b.restart},
		{"h", b.idle},
		{"i", b.admission},
	} {
		if !b.opts.runs(phase.letter) {
			continue
		}
		if err := phase.run(ctx); err != nil {
			return fmt.Errorf("phase %s: %w", phase.letter, err)
		}
	}
	b.results.others = b.meter.total()
	if b.operator == nil {
		return nil
	}
	if err := b.operator.notePeak(); err != nil {
		return err
	}
	b.results.footprint(b)
	return nil
}

// close stops what still runs.
func (b *bench) close() error {
	var errs []error
	for _, s := range b.sites {
		errs = append(errs, s.stop())
	}
	b.sites = nil
	return errors.Join(errs...)
}

// discard stops a site before its time.
func (b *bench) discard(s *site) error {
	b.sites = slices.DeleteFunc(b.sites, func(other *site) bool { return other == s })
	return s.stop()
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "[%6.1f s] %s\n", now().Sub(b.began).Seconds(), fmt.Sprintf(format, args...))
}

// result reports a measurement, and what else the machine did meanwhile.
func (b *bench) result(format string, args ...any) {
	b.say("%s%s", fmt.Sprintf(format, args...), b.meter.lap())
}

// limit is how long n namespaces may take before the bench gives up.
func (b *bench) limit() time.Duration {
	return time.Minute + time.Duration(b.opts.n)*50*time.Millisecond
}

// findSpecimen lets the operator protect a single namespace and copies the result.
func (b *bench) findSpecimen(ctx context.Context) error {
	var err error
	if b.opts.specimen != "" {
		b.specimen, err = readSpecimen(b.opts.specimen)
		return err
	}
	operator, err := b.newOperator(ctx, "specimen", 1)
	if err != nil {
		return err
	}
	if _, err := b.coverAll(ctx, operator); err != nil {
		return err
	}
	if b.specimen, err = takeSpecimen(ctx, operator.admin, operator.namespaces[0]); err != nil {
		return err
	}
	b.say("the operator writes %d policies and a coverage per namespace", len(b.specimen.Policies))
	return errors.Join(operator.child.stop(), b.discard(operator.site))
}

func (b *bench) newRaw(ctx context.Context, name string) (*rawSite, error) {
	s, err := b.newSite(ctx, name, b.opts.n)
	if err != nil {
		return nil, err
	}
	token, err := s.identity(ctx, systemNamespace, "raw", true)
	if err != nil {
		return nil, err
	}
	c, err := newClients(s.tokenConfig(token))
	return &rawSite{site: s, client: rawClient{clients: c, written: map[string]*versions{}}}, err
}

func (b *bench) newLoop(ctx context.Context, name string) (*contender, error) {
	s, err := b.newSite(ctx, name, b.opts.n)
	if err != nil {
		return nil, err
	}
	kubeconfig, err := s.kubeconfig(ctx, systemNamespace, "loop", true)
	if err != nil {
		return nil, err
	}
	specimen := filepath.Join(s.dir, "specimen.json")
	if err := b.specimen.write(specimen); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return &contender{site: s, user: userName(systemNamespace, "loop"), launch: func(ctx context.Context) (*child, error) {
		health, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		return s.startChild(ctx, "loop", health, self, loopCommand, "-kubeconfig", kubeconfig, "-specimen", specimen, "-health", health)
	}}, nil
}

// newOperator starts the operator, with the rights of its own service account
// and without leader election (a lone replica would take the lease at once),
// and returns when it is ready and at rest.
func (b *bench) newOperator(ctx context.Context, name string, namespaces int) (*contender, error) {
	s, err := b.newSite(ctx, name, namespaces)
	if err != nil {
		return nil, err
	}
	deployments, err := s.admin.core.AppsV1().Deployments(operatorNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	if len(deployments.Items) != 1 {
		return nil, fmt.Errorf("%s installs %d deployments in %s, want the operator's alone", b.opts.manifests, len(deployments.Items), operatorNamespace)
	}
	account := deployments.Items[0].Spec.Template.Spec.ServiceAccountName
	kubeconfig, err := s.kubeconfig(ctx, operatorNamespace, account, false)
	if err != nil {
		return nil, err
	}
	o := &contender{site: s, user: userName(operatorNamespace, account), launch: func(ctx context.Context) (*child, error) {
		health, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		metrics, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		return s.startChild(ctx, "operator", health, b.opts.operator,
			"--kubeconfig="+kubeconfig,
			"--namespace="+operatorNamespace,
			"--metrics-bind-address="+metrics,
			"--metrics-secure=false", // allowed on loopback
			"--health-probe-bind-address="+health,
			"--leader-elect=false")
	}}
	if _, err := o.start(ctx); err != nil {
		return nil, err
	}
	return o, o.child.settle(ctx)
}

// kubeconfig writes a kubeconfig file for a service account and returns its path.
func (s *site) kubeconfig(ctx context.Context, namespace, account string, admin bool) (string, error) {
	token, err := s.identity(ctx, namespace, account, admin)
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, account+".kubeconfig")
	return path, s.cluster.KubeconfigForToken(path, token)
}

func userName(namespace, account string) string {
	return "system:serviceaccount:" + namespace + ":" + account
}

// start starts the contender's process and returns when it was ready.
func (c *contender) start(ctx context.Context) (time.Time, error) {
	var err error
	if c.child, err = c.launch(ctx); err != nil {
		return time.Time{}, err
	}
	return c.child.ready(ctx)
}

// end stops the contender's process; its peak is kept.
func (c *contender) end() error {
	if err := c.notePeak(); err != nil {
		return err
	}
	return c.child.stop()
}

func (c *contender) notePeak() error {
	peak, err := c.child.peakMiB()
	c.peak = max(c.peak, peak)
	return err
}

// requests runs f and returns what the contender asked of the API server
// meanwhile and until it came to rest.
func (c *contender) requests(ctx context.Context, f func() error) (usage, error) {
	from, err := c.audit.mark(ctx)
	if err != nil {
		return usage{}, err
	}
	if err := f(); err != nil {
		return usage{}, err
	}
	if err := c.child.settle(ctx); err != nil {
		return usage{}, err
	}
	to, err := c.audit.mark(ctx)
	if err != nil {
		return usage{}, err
	}
	return c.audit.usage(c.user, from, to)
}
