// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package contact sees whether API servers and kubelets answer while a firewall on nodes is tried.
package contact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
)

// The bounds of a look: requests at a time, for how long each is waited for, and how much of an answer is read.
const (
	workers  = 8
	patience = 3 * time.Second
	maxBody  = 4 << 10

	maxServers, maxPods = 8, 4
)

// ErrUnseen says that there is nobody by whom anything could be seen, which is no loss of contact yet: pods come and go.
var ErrUnseen = errors.New("no API server, or no pod of the operator's by which a kubelet could be seen, is known")

// Pod is a pod of the operator's, whose log is the API server's way to the kubelet of its node.
type Pod struct{ Namespace, Name, Container, Node string }

// Looker looks with the operator's account.
type Looker struct {
	Config *rest.Config
}

// Look asks each API server whether it is ready, its etcd included, and for the last line of each pod's log, which it gets from port 10250 of
// the pod's node. The error names one who does not answer, and what it says changes only with who that is. Every connection to an API server is
// a new one. It returns the nodes whose kubelets have answered. Cost: at most 40 requests, eight at a time.
func (l *Looker) Look(ctx context.Context, servers []netip.AddrPort, pods []Pod) ([]string, error) {
	if len(servers) == 0 || len(pods) == 0 {
		return nil, ErrUnseen
	}
	servers, pods = servers[:min(len(servers), maxServers)], pods[:min(len(pods), maxPods)]
	found := make([]error, len(servers)*(1+len(pods)))
	logs := make([]atomic.Bool, len(pods))
	var group errgroup.Group
	group.SetLimit(workers)
	for i, server := range servers {
		client, err := newClient(l.Config, server)
		if err != nil {
			return nil, err
		}
		of := found[i*(1+len(pods)):]
		group.Go(func() error {
			of[0] = client.ready(ctx)
			return nil
		})
		for j, p := range pods {
			group.Go(func() error {
				var read bool
				if read, of[1+j] = client.log(ctx, p); read {
					logs[j].Store(true)
				}
				return nil
			})
		}
	}
	_ = group.Wait() // what went wrong is in found
	var nodes []string
	for j := range pods {
		if logs[j].Load() {
			nodes = append(nodes, pods[j].Node)
		}
	}
	for _, err := range found {
		if err != nil {
			return nodes, err
		}
	}
	if len(nodes) == 0 {
		return nil, ErrUnseen
	}
	return nodes, nil
}

// asker asks one API server.
type asker struct {
	server netip.AddrPort
	client *http.Client
}

func newClient(config *rest.Config, server netip.AddrPort) (*asker, error) {
	config = deadman.Toward(config, server)
	secure, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	transport, err := rest.HTTPWrappersForConfig(config, &http.Transport{TLSClientConfig: secure, DisableKeepAlives: true})
	if err != nil {
		return nil, err
	}
	return &asker{server, &http.Client{Transport: transport, Timeout: patience}}, nil
}

func (a *asker) ready(ctx context.Context) error {
	code, err := a.get(ctx, "/readyz")
	switch {
	case err != nil:
		return fmt.Errorf("the API server at %s does not answer the operator", a.server)
	case code != http.StatusOK:
		return fmt.Errorf("the API server at %s is not ready: /readyz says %d", a.server, code)
	}
	return nil
}

// log says whether the kubelet answered. A pod that has just gone, or begun, has no log.
func (a *asker) log(ctx context.Context, p Pod) (read bool, err error) {
	path := "/api/v1/namespaces/" + url.PathEscape(p.Namespace) + "/pods/" + url.PathEscape(p.Name) + "/log?tailLines=1&limitBytes=1&container=" + url.QueryEscape(p.Container)
	code, err := a.get(ctx, path)
	switch {
	case err != nil, code >= http.StatusInternalServerError:
		return false, fmt.Errorf("the API server at %s does not reach the kubelet of node %s", a.server, p.Node)
	case code == http.StatusForbidden:
		return false, fmt.Errorf("the operator may not get pods/log in %s", p.Namespace)
	case code == http.StatusOK, code == http.StatusNotFound, code == http.StatusBadRequest:
		return code == http.StatusOK, nil
	}
	return false, fmt.Errorf("the API server at %s says %d of a log in %s", a.server, code, p.Namespace)
}

func (a *asker) get(ctx context.Context, path string) (code int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+a.server.String()+path, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxBody))
	return resp.StatusCode, err
}
