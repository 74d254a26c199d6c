// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

const ciliumConfig = `{"cniVersion": "0.3.1", "name": "cilium", "plugins": [{"type": "cilium-cni", "log-file": "/run/cilium/cni.log"}]}
`

// startCilium starts the agent. There is no cilium-operator: it does not build
// from modules, and is not needed where the controller manager assigns the
// ranges of pods and agents make identities.
func (n *node) startCilium(ctx context.Context) error {
	const lib, run = "/var/lib/cilium", "/run/cilium"
	for _, dir := range []string{lib, run} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // G301: as on any system
			return err
		}
	}
	if err := os.Symlink(n.binary(filepath.Join(ciliumDir, "bpf")), filepath.Join(lib, "bpf")); err != nil {
		return err
	}
	agent, err := n.daemon("cilium-agent", n.binary("cilium-agent"),
		"--k8s-kubeconfig-path="+n.kubeconfig(userCilium),
		"--lib-dir="+lib, "--state-dir="+run, "--bpf-root=/sys/fs/bpf", "--cgroup-root="+cgroupRoot+"/unified", "--procfs=/proc",
		"--cluster-name=default", "--cluster-id=0", "--identity-allocation-mode=crd", "--ipam=kubernetes",
		"--enable-ipv4=true", "--enable-ipv6=false", "--enable-ipv4-masquerade=false",
		// Kernels may lack what tunnels need.
		"--datapath-mode=veth", "--devices=eth0", "--direct-routing-device=eth0",
		"--routing-mode=native", "--ipv4-native-routing-cidr="+podRange, "--auto-direct-node-routes=true",
		"--kube-proxy-replacement=true", "--enable-host-firewall=true", "--enable-bandwidth-manager=false",
		"--enable-l7-proxy=false", "--enable-envoy-config=false", // there is no Envoy
		"--enable-health-checking=false", "--enable-endpoint-health-checking=false", "--enable-hubble=false",
		"--agent-health-port=9879", "--write-cni-conf-when-ready=")
	if err != nil {
		return err
	}
	if err := agent.Await(ctx, healthy("http://127.0.0.1:9879/healthz", http.Header{"Brief": {"true"}})); err != nil {
		return err
	}
	return n.writeNetworkConfig(ciliumConfig)
}

// healthy returns a check that a GET of url answers 200.
func healthy(url string, header http.Header) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		if header != nil {
			request.Header = header
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, response.Status)
		}
		return nil
	}
}
