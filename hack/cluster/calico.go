// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	// calicoManifest holds first the DaemonSet with Felix's environment.
	calicoManifest = "hack/cluster/calico/calico.yaml"
	// calicoServerPort is where the server of projectcalico.org/v3 listens, beside the API server.
	calicoServerPort = "5443"
	// calicoVersion is the release that the module's commit is of.
	calicoVersion = "v3.31.0"
)

const calicoConfig = `{"cniVersion": "0.3.1", "name": "calico", "plugins": [
  {"type": "calico", "datastore_type": "kubernetes", "nodename": %q, "mtu": 1500, "policy": {"type": "k8s"},
   "ipam": {"type": "host-local", "subnet": "usePodCidr"}, "kubernetes": {"kubeconfig": %q}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

// startCalico starts Felix and kube-proxy. There is no BIRD and no calico-node around it: the bridge has a route to the pods of each node, and the
// node's address, which calico-node finds out by itself, is noted here.
func (n *node) startCalico(ctx context.Context) error {
	if err := os.Symlink(n.binary("calico-cni"), "/opt/cni/bin/calico"); err != nil {
		return err
	}
	proxy, err := n.startProxy()
	if err != nil {
		return err
	}
	if err := n.noteAddress(ctx); err != nil {
		return err
	}
	env, err := felixEnvironment(calicoManifest)
	if err != nil {
		return err
	}
	for _, dir := range []string{"/var/lib/calico", "/var/run/calico"} { // where Felix writes the MTU for the plugin, and what it has done
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile("/var/lib/calico/nodename", []byte(n.name), 0o600); err != nil { // by which the plugin knows that there is an agent
		return err
	}
	// Without cgo Felix cannot look for what an earlier one in eBPF's mode has left.
	env = append(env, "FELIX_FELIXHOSTNAME="+n.name, "KUBECONFIG="+n.kubeconfig(userCalico), "FELIX_DebugSkipCTLBCleanup=true")
	felix, err := n.daemon("calico-felix", "/usr/bin/env", append(env, again(n.binary("calico-felix"))...)...)
	if err != nil {
		return err
	}
	if err := felix.Await(ctx, healthy("http://127.0.0.1:9099/readiness", http.Header{})); err != nil {
		return err
	}
	if err := n.writeNetworkConfig(fmt.Sprintf(calicoConfig, n.name, n.kubeconfig(userCalico))); err != nil {
		return err
	}
	return proxy.Await(ctx, healthy("http://127.0.0.1:10256/healthz", nil))
}

// again is a command that starts a program whenever it has ended: Felix ends when its configuration changes, and Calico's server while its kinds are not
// there.
func again(command ...string) []string {
	return append([]string{"/bin/sh", "-c", `while :; do "$0" "$@"; sleep 0.5; done`}, command...)
}

// noteAddress tells Felix of the node's address.
func (n *node) noteAddress(ctx context.Context) error {
	patch := fmt.Sprintf(`{"metadata": {"annotations": {"projectcalico.org/IPv4Address": "%s/24"}}}`, addresses()[n.name])
	_, err := n.client.CoreV1().Nodes().Patch(ctx, n.name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// felixEnvironment returns the environment of the DaemonSet that comes first in a manifest.
func felixEnvironment(manifest string) ([]string, error) {
	var set appsv1.DaemonSet
	if err := readFirst(manifest, &set); err != nil {
		return nil, err
	}
	var env []string
	for _, e := range set.Spec.Template.Spec.Containers[0].Env {
		env = append(env, e.Name+"="+e.Value)
	}
	return env, nil
}

// startCalicoServer starts the server of projectcalico.org/v3. It keeps its objects as those of crd.projectcalico.org, which Felix watches.
func (s *supervisor) startCalicoServer() error {
	admin := s.kubeconfig(cluster.AdminUser)
	command := again(s.binary("calico-apiserver"), "--secure-port="+calicoServerPort, "--bind-address=127.0.0.1", "--cert-dir="+s.file("calico-apiserver"),
		"--kubeconfig="+admin, "--authentication-kubeconfig="+admin, "--authorization-kubeconfig="+admin)
	_, err := s.daemon("calico-apiserver", "/usr/bin/env", append([]string{"DATASTORE_TYPE=kubernetes", "KUBECONFIG=" + admin}, command...)...)
	return err
}

// applyCalico makes the kinds of Calico, then its objects.
func (l *launcher) applyCalico(ctx context.Context) error {
	crds := filepath.Join(l.opts.root, buildDir, calicoDir, "crds")
	if err := l.kubectl(ctx, "apply", "--server-side", "--filename="+crds); err != nil {
		return err
	}
	if err := l.kubectl(ctx, "wait", "--for=condition=Established", "--timeout="+startLimit.String(), "--filename="+crds); err != nil {
		return err
	}
	// Calico's server makes some of it, too, once its kinds are there.
	return l.kubectl(ctx, "apply", "--server-side", "--force-conflicts", "--filename="+filepath.Join(l.opts.root, calicoManifest))
}
