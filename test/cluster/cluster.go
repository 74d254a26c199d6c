// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real control plane on loopback: etcd, kube-apiserver
// and, if asked for, kube-controller-manager and kube-scheduler. Unless asked
// for, no nodes can join. It runs on Linux only.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"github.com/pcinetwork/pci-network-baseline/test/process"
)

const (
	dataDir = "etcd-data"
	logDir  = "logs"
	pkiDir  = "pki"
)

// Cluster is a running control plane.
type Cluster struct {
	opts       Options
	ports      ports
	ca         *authority
	admin      *rest.Config
	kubeconfig string
	http       *http.Client // authenticates as admin
	spawner    *spawner

	mu        sync.Mutex // guards what follows, and the pids file
	processes []*process.Process
	recorded  []process.Entry
	stopped   bool
}

// Start starts an empty cluster and returns when it serves: /readyz succeeds
// and, with a controller manager, namespace default has its service account.
// ctx bounds the start, not the cluster's life. If Start fails, nothing of it
// runs on; the logs in Options.Dir stay.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	opts, err := options.complete()
	if err != nil {
		return nil, err
	}
	if err := prepareDir(opts.Dir); err != nil {
		return nil, err
	}
	c := &Cluster{opts: opts, spawner: newSpawner()}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	return c, nil
}

// prepareDir empties what an earlier cluster left in dir. Its data would be of
// no use: service account keys are new with every start.
func prepareDir(dir string) error {
	file, err := readPIDs(dir)
	if err != nil {
		return err
	}
	for _, e := range file.Processes {
		if e.Alive(file.Dir) {
			return fmt.Errorf("a control plane already runs in %s (%s is process %d): stop it first", dir, e.Name, e.PID)
		}
	}
	if err := removeState(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, logDir)); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(dir, logDir), 0o750)
}

func (c *Cluster) start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.prepare(ctx); err != nil {
		return fmt.Errorf("preparing a control plane in %s: %w", c.opts.Dir, err)
	}
	began := time.Now()
	if err := c.startServers(ctx); err != nil {
		return err
	}
	c.progress("API server ready at %s after %.1f s", c.ServerURL(), time.Since(began).Seconds())
	if err := c.startControllers(ctx); err != nil {
		return err
	}
	c.progress("control plane complete after %.1f s; kubeconfig %s", time.Since(began).Seconds(), c.kubeconfig)
	return nil
}

// prepare sets the fields that need no process and writes the files that the
// processes read.
func (c *Cluster) prepare(ctx context.Context) error {
	var err error
	if c.ports, err = freePorts(ctx); err != nil {
		return err
	}
	if c.opts.Nodes != nil {
		c.ports.apiServer = nodesPort
	}
	if c.ca, err = newAuthority(); err != nil {
		return err
	}
	if err := c.ca.writeServerFiles(filepath.Join(c.opts.Dir, pkiDir), c.opts.advertised()); err != nil {
		return err
	}
	if err := c.writeAuditPolicy(); err != nil {
		return err
	}
	if err := c.writeNodeFiles(); err != nil {
		return err
	}
	if c.admin, c.kubeconfig, err = c.ConfigFor(AdminUser, "system:masters"); err != nil {
		return err
	}
	c.http, err = rest.HTTPClientFor(c.admin)
	return err
}

func (c *Cluster) startServers(ctx context.Context) error {
	c.progress("starting %s and %s", etcd, apiServer)
	// kube-apiserver waits for etcd too, but in steps of seconds.
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	return c.startAPIServer(ctx)
}

func (c *Cluster) startEtcd(ctx context.Context) error {
	store, err := c.launch(ctx, etcd, c.etcdArgs())
	if err != nil {
		return err
	}
	return store.Await(ctx, c.probe(http.DefaultClient, c.etcdURL()+"/health"))
}

func (c *Cluster) startAPIServer(ctx context.Context) error {
	p, err := c.launch(ctx, apiServer, c.apiServerArgs())
	if err != nil {
		return err
	}
	return p.Await(ctx, c.probe(c.http, c.ServerURL()+"/readyz"))
}

func (c *Cluster) startControllers(ctx context.Context) error {
	if c.opts.Scheduler {
		_, kubeconfig, err := c.ConfigFor("system:" + scheduler)
		if err != nil {
			return err
		}
		if _, err := c.launch(ctx, scheduler, c.schedulerArgs(kubeconfig)); err != nil {
			return err
		}
	}
	if c.opts.ControllerManager {
		_, kubeconfig, err := c.ConfigFor("system:" + controllerManager)
		if err != nil {
			return err
		}
		p, err := c.launch(ctx, controllerManager, c.controllerManagerArgs(kubeconfig))
		if err != nil {
			return err
		}
		account := c.ServerURL() + "/api/v1/namespaces/default/serviceaccounts/default"
		if err := p.Await(ctx, c.probe(c.http, account)); err != nil {
			return err
		}
	}
	for _, p := range c.processes {
		if err := p.Running(); err != nil {
			return err
		}
	}
	return nil
}

// probe returns a check that a GET of url answers 200.
func (c *Cluster) probe(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, response.Status)
		}
		return nil
	}
}

// RestartAPIServer stops kube-apiserver and starts it again on the same port
// with the same data. Watches break; clients have to cope.
func (c *Cluster) RestartAPIServer(ctx context.Context) error {
	return c.restart(apiServer, syscall.SIGTERM, func() error { return c.startAPIServer(ctx) })
}

// RestartEtcd kills etcd as a crash does and starts it again with the same
// data. What it has answered is kept: the operating system does not crash.
func (c *Cluster) RestartEtcd(ctx context.Context) error {
	return c.restart(etcd, syscall.SIGKILL, func() error { return c.startEtcd(ctx) })
}

// restart ends one component and starts it again.
func (c *Cluster) restart(name string, sig os.Signal, start func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.processes, func(p *process.Process) bool { return p.Name == name })
	if c.stopped || i < 0 {
		return fmt.Errorf("restarting %s: the cluster is stopped", name)
	}
	old := c.processes[i]
	if err := old.Signal(c.opts.Dir, sig); err != nil {
		return err
	}
	if err := end([]process.Entry{old.Entry}, c.opts.Dir); err != nil {
		return err
	}
	<-old.Done()
	c.processes = slices.Delete(c.processes, i, i+1)
	return start()
}

// Spawn starts a process of the caller's, such as an operator, so that it dies
// with this process, however that ends, as the control plane itself does. The
// caller waits for cmd, and ends it before Stop.
func (c *Cluster) Spawn(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return c.spawner.start(cmd)
}

// Restart stops the whole control plane and starts it again with the same data
// and on the same ports. What Record brought in stays as it is.
func (c *Cluster) Restart(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return errors.New("restarting the control plane: the cluster is stopped")
	}
	var old []process.Entry
	for _, p := range c.processes {
		old = append(old, p.Entry)
	}
	if err := end(old, c.opts.Dir); err != nil {
		return err
	}
	for _, p := range c.processes {
		<-p.Done()
	}
	c.processes = nil
	if err := c.startServers(ctx); err != nil {
		return err
	}
	return c.startControllers(ctx)
}

// Stop ends what Start and Record brought in, waits until it is gone and
// removes the data. Logs, certificates and kubeconfigs stay. A second Stop
// does nothing.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	if err := end(c.entries(), c.opts.Dir); err != nil {
		return fmt.Errorf("stopping the control plane in %s: %w", c.opts.Dir, err)
	}
	for _, p := range c.processes {
		<-p.Done()
	}
	c.stopped = true
	c.spawner.close()
	return removeState(c.opts.Dir)
}

// Config returns a client configuration of a cluster administrator.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.admin) }

// Kubeconfig returns the path of a cluster administrator's kubeconfig file.
func (c *Cluster) Kubeconfig() string { return c.kubeconfig }

// Kubectl returns the path of kubectl.
func (c *Cluster) Kubectl() string { return filepath.Join(c.opts.Assets, "kubectl") }

// ServerURL returns the address of the API server.
func (c *Cluster) ServerURL() string {
	return "https://" + net.JoinHostPort(c.opts.host(), strconv.Itoa(c.ports.apiServer))
}

// EtcdURL returns the address at which etcd serves clients, in the clear.
func (c *Cluster) EtcdURL() string { return c.etcdURL() }

// ServingCertificate issues a certificate for names and addresses, with its
// key, in PEM, as a kubelet gets one that the cluster signs.
func (c *Cluster) ServingCertificate(subject string, addresses ...string) (cert, key []byte, err error) {
	pair, err := c.ca.server(subject, addresses...)
	return pair.cert, pair.key, err
}

// PKI returns the path of a file of the API server's, such as ca.crt.
func (c *Cluster) PKI(name string) string { return c.pki(name) }

// CAData returns the certificate of the cluster's authority in PEM.
func (c *Cluster) CAData() []byte { return slices.Clone(c.ca.pem) }

func (c *Cluster) progress(format string, args ...any) {
	_, _ = fmt.Fprintf(c.opts.Progress, format+"\n", args...)
}
