// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
)

// Run runs kubectl as a cluster administrator, and returns what it printed.
func (c *Cluster) Run(ctx context.Context, args ...string) (string, error) {
	all := append([]string{"--kubeconfig", c.Kubeconfig(), "--cache-dir", filepath.Join(c.opts.Dir, "kubectl")}, args...)
	output, err := exec.CommandContext(ctx, c.Kubectl(), all...).CombinedOutput() //nolint:gosec // G204: the cluster's own kubectl
	if err != nil {
		return "", fmt.Errorf("kubectl %v: %w\n%s", args, err, output)
	}
	return string(output), nil
}

// Install installs the operator but for its Deployment: its kinds, namespace and role, and further folders of config/ below root,
// the project's folder. It returns when its kinds are served.
func (c *Cluster) Install(ctx context.Context, root string, further ...string) error {
	config := filepath.Join(root, "config")
	steps := [][]string{
		{"apply", "--server-side", "-k", filepath.Join(config, "crd")},
		{"apply", "--server-side", "-f", filepath.Join(config, "manager", "namespace.yaml")},
	}
	for _, folder := range append([]string{"rbac"}, further...) {
		steps = append(steps, []string{"apply", "--server-side", "-k", filepath.Join(config, folder)})
	}
	for _, step := range append(steps, []string{"wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"}) {
		if _, err := c.Run(ctx, step...); err != nil {
			return err
		}
	}
	return nil
}
