// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

// launcher brings up one cluster.
type launcher struct {
	opts  options
	dir   string
	state *state
	began time.Time
}

func (l *launcher) say(format string, args ...any) {
	fmt.Printf("%6.1f s  %s\n", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...))
}

// up starts a cluster. If it fails, nothing of it runs on, and the logs stay.
func up(ctx context.Context, opts options) error {
	if err := preflight(ctx); err != nil {
		return err
	}
	l := &launcher{opts: opts, dir: filepath.Join(opts.root, runDir)}
	if err := os.MkdirAll(l.dir, 0o750); err != nil {
		return err
	}
	held, err := lock(filepath.Join(opts.root, buildDir, "lock"))
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }()
	if err := l.prepare(); err != nil {
		return err
	}
	if err := newBuilder(opts, os.Stdout).build(ctx); err != nil {
		return err
	}
	l.began = time.Now()
	if err := l.start(ctx); err != nil {
		return errors.Join(err, l.state.end())
	}
	l.farewell()
	return nil
}

// prepare removes what an earlier cluster left that did not end by down.
func (l *launcher) prepare() error {
	old, err := readState(l.dir)
	switch {
	case errors.Is(err, errNoCluster):
	case err != nil:
		return err
	case old.alive():
		return errors.New("a cluster runs here already: end it with 'make cluster-down'")
	default:
		if err := old.end(); err != nil {
			return err
		}
	}
	l.state = &state{Dir: l.dir, CNI: l.opts.cni}
	return os.RemoveAll(filepath.Join(l.dir, "logs"))
}

func (l *launcher) start(ctx context.Context) error {
	if err := l.linkImages(); err != nil {
		return err
	}
	if err := l.state.write(); err != nil {
		return err
	}
	hub, err := l.launchOutside(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return hub.follow(ctx, l.say, func(r report) bool { return r.Ready }) })
	for i := 1; i <= l.opts.nodes; i++ {
		n, err := l.add(ctx, nodeName(i), nil)
		if err != nil {
			return err
		}
		if err := plug(ctx, hub, n); err != nil {
			return err
		}
		group.Go(func() error { return n.follow(ctx, l.say, func(r report) bool { return r.Ready }) })
	}
	group.Go(func() error { return l.applyAddons(ctx) })
	if err := group.Wait(); err != nil {
		return err
	}
	for _, m := range l.state.Machines {
		if err := m.detach(); err != nil {
			return err
		}
	}
	return nil
}

// linkImages collects the images that nodes import.
func (l *launcher) linkImages() error {
	built, err := filepath.Glob(filepath.Join(l.opts.root, buildDir, imagesDir, "*.tar"))
	if err != nil {
		return err
	}
	if l.opts.image != "" {
		built = append(built, filepath.Join(l.opts.root, l.opts.image))
	}
	images := filepath.Join(l.dir, imagesDir)
	if err := os.MkdirAll(images, 0o750); err != nil {
		return err
	}
	for _, archive := range built {
		if err := os.Symlink(archive, filepath.Join(images, filepath.Base(archive))); err != nil {
			return err
		}
	}
	return nil
}

// launchOutside starts the machine that is not a node, with a listener through
// which the host reaches the API server: nothing else leads in or out.
func (l *launcher) launchOutside(ctx context.Context) (*machine, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { _ = listener.Close() }()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return l.add(ctx, outside, file)
}

// add starts a machine, records it, and waits until it has its namespaces.
func (l *launcher) add(ctx context.Context, name string, listener *os.File) (*machine, error) {
	m, err := launch(l.dir, name, listener)
	if err != nil {
		return nil, err
	}
	l.state.Machines = append(l.state.Machines, m)
	if err := l.state.write(); err != nil {
		return nil, err
	}
	return m, m.follow(ctx, l.say, func(r report) bool { return r.Up })
}

// applyAddons makes the objects without which a cluster is of no use.
func (l *launcher) applyAddons(ctx context.Context) error {
	err := wait(ctx, "the API server", startLimit, func(context.Context) error {
		_, err := os.Stat(filepath.Join(l.dir, joinFile))
		return err
	})
	if err != nil {
		return err
	}
	if l.opts.cni == cniCilium {
		crds := filepath.Join(l.opts.root, buildDir, ciliumDir, "crds")
		return l.kubectl(ctx, "apply", "--server-side", "-f", filepath.Join(crds, "v2"), "-f", filepath.Join(crds, "v2alpha1"))
	}
	return nil
}

func (l *launcher) kubectl(ctx context.Context, args ...string) error {
	kubectl := filepath.Join(cluster.Assets(l.opts.root, os.Getenv("KUBEBUILDER_ASSETS")), "kubectl")
	return command(ctx, kubectl, append([]string{"--kubeconfig", filepath.Join(l.dir, kubeconfigFile)}, args...)...)
}

func (l *launcher) farewell() {
	l.say("ready: %d node(s), CNI %s", l.opts.nodes, l.opts.cni)
	fmt.Printf(`
  export KUBECONFIG=%s
  %s get nodes -o wide
  %s exec n1 -- ip addr       # on a node, or "outside"
  make cluster-down

Logs are in %s.
`, filepath.Join(l.dir, kubeconfigFile), filepath.Join(cluster.Assets("bin", "")[:0]+"bin/k8s", "kubectl"), filepath.Join(buildDir, "cluster"), filepath.Join(l.dir, "logs"))
}
