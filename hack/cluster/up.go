// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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

// up starts a cluster, to stay or for a command. If it fails, nothing of it runs on, and the logs stay.
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
	hub, err := l.start(ctx)
	if err == nil && len(opts.command) == 0 {
		err = hub.detach()
	}
	if err == nil && len(opts.command) == 0 {
		l.farewell()
		return nil
	}
	if err == nil {
		err = l.command(ctx)
	}
	return errors.Join(err, down(l.dir, os.Stdout))
}

// command runs the command that the cluster is for. It must be called on the
// first thread: the command ends with the thread that started it.
func (l *launcher) command(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, l.opts.command[0], l.opts.command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(l.dir, kubeconfigFile))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && ctx.Err() == nil {
		return &statusError{exit.ExitCode()}
	}
	return err
}

// join adds a node to a cluster that runs.
func join(ctx context.Context, dir string) error {
	s, err := readState(dir)
	if err != nil {
		return err
	}
	if len(s.Machines) > maxNodes || !s.Machines[0].Alive(dir) {
		return fmt.Errorf("no node can join: %d machines are recorded, and at most %d nodes can be; see 'make cluster'", len(s.Machines), maxNodes)
	}
	l := &launcher{dir: dir, state: s, began: time.Now()}
	n, err := l.addNode(ctx, nodeName(len(s.Machines)))
	if err != nil {
		return err
	}
	return n.follow(ctx, l.say, isReady)
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
	l.state = &state{Dir: l.dir, CNI: l.opts.cni, Server: l.opts.server}
	return os.RemoveAll(filepath.Join(l.dir, "logs"))
}

// start starts all machines and returns the outside one, the first of them.
func (l *launcher) start(ctx context.Context) (*machine, error) {
	if err := l.state.write(); err != nil {
		return nil, err
	}
	if err := l.linkImages(); err != nil {
		return nil, err
	}
	hub, err := l.launchOutside(ctx)
	if err != nil {
		return nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return hub.follow(ctx, l.say, isReady) })
	for i := 1; i <= l.opts.nodes; i++ {
		n, err := l.addNode(ctx, nodeName(i))
		if err != nil {
			return nil, err
		}
		group.Go(func() error { return n.follow(ctx, l.say, isReady) })
	}
	group.Go(func() error { return l.applyAddons(ctx) })
	return hub, group.Wait()
}

func isReady(r report) bool { return r.Ready }

// linkImages collects the images that nodes import.
func (l *launcher) linkImages() error {
	built, err := filepath.Glob(filepath.Join(l.opts.root, buildDir, imagesDir, "*.tar"))
	if err != nil {
		return err
	}
	for _, path := range l.opts.images {
		built = append(built, filepath.Join(l.opts.root, path))
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
	m, err := launch(l.dir, outside, nil, file)
	if err != nil {
		return nil, err
	}
	return m, l.add(ctx, m)
}

// addNode starts a machine that is to become a node, and connects it.
func (l *launcher) addNode(ctx context.Context, name string) (*machine, error) {
	hub := l.state.Machines[0]
	m, err := launch(l.dir, name, hub, nil)
	if err != nil {
		return nil, err
	}
	if err := l.add(ctx, m); err != nil {
		return nil, err
	}
	return m, plug(ctx, hub, m)
}

// add records a machine, and waits until it has its namespaces.
func (l *launcher) add(ctx context.Context, m *machine) error {
	l.state.Machines = append(l.state.Machines, m)
	if err := l.state.write(); err != nil {
		return err
	}
	return m.follow(ctx, l.say, func(r report) bool { return r.Up })
}

// applyAddons makes the objects without which a cluster is of no use, and waits
// until its DNS answers: the last thing to come.
func (l *launcher) applyAddons(ctx context.Context) error {
	err := wait(ctx, "the API server", func(context.Context) error {
		_, err := os.Stat(filepath.Join(l.dir, joinFile))
		return err
	})
	if err != nil {
		return err
	}
	manifests := []string{filepath.Join(l.opts.root, corednsManifest)}
	switch l.opts.cni {
	case cniCalico:
		if err := l.applyCalico(ctx); err != nil {
			return err
		}
	case cniCilium:
		crds := filepath.Join(l.opts.root, buildDir, ciliumDir, "crds")
		manifests = append(manifests, filepath.Join(crds, "v2"), filepath.Join(crds, "v2alpha1"), filepath.Join(l.opts.root, ciliumManifest))
	}
	if err := l.kubectl(ctx, "apply", "--server-side", "--filename="+strings.Join(manifests, ",")); err != nil {
		return err
	}
	return l.kubectl(ctx, "--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout="+startLimit.String())
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
