// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// ciliumManifest holds the agent's configuration first, as a ConfigMap.
const ciliumManifest = "hack/cluster/cilium/cilium.yaml"

const ciliumConfig = `{"cniVersion": "0.3.1", "name": "cilium", "plugins": [{"type": "cilium-cni", "log-file": "/run/cilium/cni.log"}]}
`

// startCilium starts the agent. There is no cilium-operator: it does not build
// from modules, and is not needed where the controller manager assigns the
// ranges of pods and agents make identities.
func (n *node) startCilium(ctx context.Context) error {
	const lib, run = "/var/lib/cilium", "/run/cilium"
	for _, dir := range []string{lib, run} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.Symlink(n.binary(filepath.Join(ciliumDir, "bpf")), filepath.Join(lib, "bpf")); err != nil {
		return err
	}
	args, err := ciliumArgs(ciliumManifest)
	if err != nil {
		return err
	}
	agent, err := n.daemon("cilium-agent", n.binary("cilium-agent"), append(args, "--k8s-kubeconfig-path="+n.kubeconfig(userCilium),
		"--lib-dir="+lib, "--state-dir="+run, "--bpf-root=/sys/fs/bpf", "--cgroup-root="+cgroupRoot+"/unified", "--procfs=/proc")...)
	if err != nil {
		return err
	}
	if err := agent.Await(ctx, healthy("http://127.0.0.1:9879/healthz", http.Header{"Brief": {"true"}})); err != nil {
		return err
	}
	return n.writeNetworkConfig(ciliumConfig)
}

// ciliumArgs returns the data of the ConfigMap that comes first in a manifest as flags.
func ciliumArgs(manifest string) ([]string, error) {
	var config corev1.ConfigMap
	if err := readFirst(manifest, &config); err != nil {
		return nil, err
	}
	args := make([]string, 0, len(config.Data))
	for key, value := range config.Data {
		args = append(args, "--"+key+"="+value)
	}
	return args, nil
}

// readFirst reads the object that comes first in a manifest.
func readFirst(manifest string, object any) error {
	file, err := os.Open(manifest)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := yaml.NewYAMLOrJSONDecoder(file, 4096).Decode(object); err != nil {
		return fmt.Errorf("reading %s: %w", manifest, err)
	}
	return nil
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
