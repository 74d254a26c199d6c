// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	loopback = "127.0.0.1"

	// unreachable is what the EndpointSlice default/kubernetes carries where
	// there are no nodes. The API server refuses a loopback address there and
	// publishes nothing; this one is from a range reserved for tests (RFC
	// 2544), and nobody dials it.
	unreachable = "198.18.0.1"

	// ServiceRange is where services have their addresses.
	ServiceRange = "198.19.0.0/16"
	serviceIP    = "198.19.0.1" // the first of ServiceRange: service default/kubernetes

	// auditPolicy logs a request when its response is complete, and a watch
	// also when it starts.
	auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`
)

// ports are the TCP ports of one cluster on loopback.
type ports struct {
	etcdClient, etcdPeer, apiServer int
}

// freePorts picks ports below the range from which Linux takes the source
// ports of outgoing connections. From within that range, a client that
// redials a stopped API server may be given the server's own port, connect to
// itself, and keep the server from starting again.
func freePorts(ctx context.Context) (ports, error) {
	var found []int
	var config net.ListenConfig
	for range 200 {
		port := 20000 + rand.IntN(12000) //nolint:gosec // G404: a port number is no secret
		listener, err := config.Listen(ctx, "tcp", address(port))
		if err != nil {
			continue
		}
		defer func() { _ = listener.Close() }() // held until all are found, so that they differ
		if found = append(found, port); len(found) == 3 {
			return ports{found[0], found[1], found[2]}, nil
		}
	}
	return ports{}, fmt.Errorf("no three free TCP ports between 20000 and 32000 on %s", loopback)
}

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

func (c *Cluster) etcdURL() string { return "http://" + address(c.ports.etcdClient) }

func (c *Cluster) pki(name string) string { return filepath.Join(c.opts.Dir, "pki", name) }

func (c *Cluster) etcdArgs() []string {
	peer := "http://" + address(c.ports.etcdPeer)
	return []string{
		"--name=test",
		"--data-dir=" + filepath.Join(c.opts.Dir, dataDir),
		"--listen-client-urls=" + c.etcdURL(),
		"--advertise-client-urls=" + c.etcdURL(),
		"--listen-peer-urls=" + peer,
		"--initial-advertise-peer-urls=" + peer,
		"--initial-cluster=test=" + peer,
		"--unsafe-no-fsync", // the data does not outlive the cluster
		"--quota-backend-bytes=" + strconv.Itoa(4<<30),
		"--log-level=warn",
	}
}

func (c *Cluster) apiServerArgs() []string {
	args := []string{
		"--etcd-servers=" + c.etcdURL(),
		"--bind-address=" + c.opts.host(),
		"--secure-port=" + strconv.Itoa(c.ports.apiServer),
		"--advertise-address=" + c.opts.advertised(),
		"--service-cluster-ip-range=" + ServiceRange,
		"--allow-privileged=true",
		"--authorization-mode=" + c.opts.authorizers(),
		"--client-ca-file=" + c.pki("ca.crt"),
		"--tls-cert-file=" + c.pki("apiserver.crt"),
		"--tls-private-key-file=" + c.pki("apiserver.key"),
		"--service-account-key-file=" + c.pki("sa.pub"),
		"--service-account-signing-key-file=" + c.pki("sa.key"),
		"--max-requests-inflight=4000",
		"--max-mutating-requests-inflight=2000",
		"--profiling=false",
	}
	if c.opts.Nodes != nil {
		args = append(args, c.nodeArgs()...)
	}
	if c.opts.AuditLog != "" {
		args = append(args,
			"--audit-policy-file="+filepath.Join(c.opts.Dir, "audit-policy.yaml"),
			"--audit-log-path="+c.opts.AuditLog,
			"--audit-log-format=json",
			"--audit-log-maxsize=4096", // MiB: a reader wants one file, and the default rotates early
		)
	}
	const issuer = "--service-account-issuer="
	if !slices.ContainsFunc(c.opts.ExtraAPIServerArgs, func(arg string) bool { return strings.HasPrefix(arg, issuer) }) {
		args = append(args, issuer+"https://kubernetes.default.svc") // of several the first issues, so that a later one would not win
	}
	return append(args, c.opts.ExtraAPIServerArgs...)
}

// controllerManagerArgs keep one service account per controller, as on a real
// cluster: the audit log and managed fields then tell them apart.
func (c *Cluster) controllerManagerArgs(kubeconfig string) []string {
	args := []string{
		"--kubeconfig=" + kubeconfig,
		"--controllers=*",
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--root-ca-file=" + c.pki("ca.crt"),
		"--service-account-private-key-file=" + c.pki("sa.key"),
		"--use-service-account-credentials=true",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	}
	if c.opts.Nodes != nil {
		args = append(args, "--allocate-node-cidrs=true", "--node-cidr-mask-size=24",
			"--cluster-cidr="+c.opts.Nodes.PodRange, "--service-cluster-ip-range="+ServiceRange)
	}
	return args
}

func (c *Cluster) schedulerArgs(kubeconfig string) []string {
	return []string{
		"--kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--kube-api-qps=500",
		"--kube-api-burst=1000",
	}
}

func (c *Cluster) writeAuditPolicy() error {
	if c.opts.AuditLog == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.opts.AuditLog), 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.opts.Dir, "audit-policy.yaml"), []byte(auditPolicy), 0o600)
}
