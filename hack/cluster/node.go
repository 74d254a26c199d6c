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
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pcinetwork/pci-network-baseline/test/process"
)

const startLimit = 90 * time.Second // far above what a step takes, for machines under load

// containerd 1.6, whose support by the kubelet ends with 1.37.
const containerdConfig = `version = 2
root = '/var/lib/containerd'
state = '/run/containerd'
[grpc]
address = '` + containerdSocket + `'
[plugins.'io.containerd.grpc.v1.cri']
disable_apparmor = true
restrict_oom_score_adj = true # root may lack CAP_SYS_RESOURCE; runc then dies with "can't get final child's PID from pipe"
sandbox_image = '` + nodekitImage + `'
[plugins.'io.containerd.grpc.v1.cri'.cni]
bin_dir = '/opt/cni/bin'
conf_dir = '/etc/cni/net.d'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc.options]
SystemdCgroup = false
`

const containerdSocket = "/run/containerd/containerd.sock"

const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
containerRuntimeEndpoint: unix://` + containerdSocket + `
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: PKI/kubelet-NODE.crt
tlsPrivateKeyFile: PKI/kubelet-NODE.key
readOnlyPort: 0
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [` + dnsIP + `]
enforceNodeAllocatable: []
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 100Mi}
volumePluginDir: /var/lib/kubelet/plugins
resolvConf: "" # there is nothing to resolve outside
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
`

const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: ` + podRange + `
hostnameOverride: NODE
clientConnection: {kubeconfig: PROXY}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s} # these are the host's
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
`

// node is a machine on which pods run.
type node struct {
	*supervisor
	client kubernetes.Interface // with the rights of its kubelet
}

// runNode makes the machine a node, and returns when it is Ready.
func (s *supervisor) runNode(ctx context.Context) error {
	n := &node{supervisor: s}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"containerd and images", n.startContainerd},
		{"connecting to the bridge", n.connect},
		{"control plane, if it is to be here", n.serve},
		{"waiting for the API server", n.awaitServer},
		{"kubelet", n.startKubelet},
		{"network " + s.state.CNI, n.startNetwork},
		{"waiting until the node is Ready", n.awaitReady},
	} {
		tell(report{Step: step.what})
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *node) startContainerd(ctx context.Context) error {
	config := n.file("containerd.toml")
	if err := os.WriteFile(config, []byte(containerdConfig), 0o600); err != nil {
		return err
	}
	p, err := n.daemon("containerd", "/usr/bin/containerd", "--config", config)
	if err != nil {
		return err
	}
	err = p.Await(ctx, func(ctx context.Context) error {
		return command(ctx, "/usr/bin/ctr", "--address", containerdSocket, "version")
	})
	if err != nil {
		return err
	}
	archives, err := filepath.Glob(filepath.Join(n.dir, imagesDir, "*.tar"))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		if err := command(ctx, "/usr/bin/ctr", "--address", containerdSocket, "--namespace", "k8s.io", "images", "import", archive); err != nil {
			return err
		}
	}
	return nil
}

// connect waits until the machine has been plugged in; see plug.
func (n *node) connect(ctx context.Context) error {
	err := wait(ctx, "interface eth0", func(context.Context) error {
		_, err := net.InterfaceByName("eth0")
		return err
	})
	if err != nil {
		return err
	}
	return ip(ctx, "addr add "+addresses()[n.name]+"/24 dev eth0", "link set eth0 up", "route add default via "+outsideIP)
}

// serve starts the control plane on this node, if this is the one for it.
func (n *node) serve(ctx context.Context) error {
	if n.state.Server != n.name {
		return nil
	}
	return n.runControlPlane(ctx, addresses()[n.name])
}

func (n *node) awaitServer(ctx context.Context) error {
	err := wait(ctx, "the API server", func(context.Context) error {
		_, err := os.Stat(filepath.Join(n.dir, joinFile))
		return err
	})
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", n.kubeconfig("system:node:"+n.name))
	if err != nil {
		return err
	}
	n.client, err = kubernetes.NewForConfig(config)
	return err
}

// kubeconfig returns the path of a user's kubeconfig; the control plane wrote it.
func (s *supervisor) kubeconfig(user string) string {
	return filepath.Join(s.dir, controlPlaneDir, strings.ReplaceAll(user, ":", "-")+".kubeconfig")
}

// fill writes a configuration with this node's names in it.
func (n *node) fill(name, content string) (string, error) {
	filled := strings.NewReplacer(
		"NODE", n.name,
		"PKI", filepath.Join(n.dir, controlPlaneDir, "pki"),
		"PROXY", n.kubeconfig(userProxy),
	).Replace(content)
	path := n.file(name)
	return path, os.WriteFile(path, []byte(filled), 0o600)
}

func (n *node) startKubelet(ctx context.Context) error {
	config, err := n.fill("kubelet.yaml", kubeletConfig)
	if err != nil {
		return err
	}
	more := filepath.Join(n.dir, "kubelet.d", n.name) // where tests put what is to differ
	if err := os.MkdirAll(more, 0o750); err != nil {
		return err
	}
	p, err := n.daemon("kubelet", n.binary("kubelet"), "--config", config, "--config-dir", more,
		"--kubeconfig", n.kubeconfig("system:node:"+n.name), "--hostname-override", n.name, "--node-ip", addresses()[n.name], "--v", "2")
	if err != nil {
		return err
	}
	return p.Await(ctx, func(ctx context.Context) error {
		_, err := n.podRange(ctx)
		return err
	})
}

// podRange returns where the node's pods have their addresses: the controller
// manager assigns it soon after the kubelet has registered.
func (n *node) podRange(ctx context.Context) (string, error) {
	node, err := n.client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	if node.Spec.PodCIDR == "" {
		return "", errors.New("no podCIDR assigned")
	}
	return node.Spec.PodCIDR, nil
}

func (n *node) startNetwork(ctx context.Context) error {
	plugins := []string{"/usr/lib/cni/bridge", "/usr/lib/cni/host-local", "/usr/lib/cni/loopback", "/usr/lib/cni/portmap", n.binary("cilium-cni")}
	if err := os.MkdirAll("/opt/cni/bin", 0o755); err != nil {
		return err
	}
	for _, p := range plugins {
		if err := os.Symlink(p, filepath.Join("/opt/cni/bin", filepath.Base(p))); err != nil {
			return err
		}
	}
	switch n.state.CNI {
	case cniCilium:
		return n.startCilium(ctx)
	case cniCalico:
		return n.startCalico(ctx)
	}
	return n.startBridge(ctx)
}

// bridgeConfig is the reference network: packets flow, policies are not looked at.
const bridgeConfig = `{"cniVersion": "1.0.0", "name": "bridge", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "%s"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`

func (n *node) startBridge(ctx context.Context) error {
	proxy, err := n.startProxy()
	if err != nil {
		return err
	}
	pods, err := n.podRange(ctx)
	if err != nil {
		return err
	}
	if err := n.writeNetworkConfig(fmt.Sprintf(bridgeConfig, pods)); err != nil {
		return err
	}
	return proxy.Await(ctx, healthy("http://127.0.0.1:10256/healthz", nil))
}

func (n *node) startProxy() (*process.Process, error) {
	config, err := n.fill("kube-proxy.yaml", proxyConfig)
	if err != nil {
		return nil, err
	}
	return n.daemon("kube-proxy", n.binary("kube-proxy"), "--config", config)
}

// writeNetworkConfig tells containerd of the network; the node can then become Ready.
func (n *node) writeNetworkConfig(content string) error {
	const dir = "/etc/cni/net.d"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "05-pods.conflist"), []byte(content), 0o600)
}

func (n *node) awaitReady(ctx context.Context) error {
	err := wait(ctx, "the node to be Ready", func(ctx context.Context) error {
		node, err := n.client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				return fmt.Errorf("%s: %s", c.Reason, c.Message)
			}
			if c.Type == corev1.NodeReady {
				return nil
			}
		}
		return errors.New("no condition Ready")
	})
	if err != nil {
		return fmt.Errorf("%w; %s", err, process.Tail(filepath.Join(n.dir, "logs", n.name, "kubelet.log")))
	}
	return nil
}

// plug connects a machine to the bridge of the outside one. Neither can see the
// other, so it is done from the host, whose own network has no part in it.
func plug(ctx context.Context, hub, m *machine) error {
	in := func(args string) error {
		target := []string{"--target", fmt.Sprint(hub.PID), "--net", "--mount", "--"}
		return command(ctx, "nsenter", append(target, strings.Fields(args)...)...)
	}
	return errors.Join(
		in(fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d", m.Name, m.PID)),
		in(fmt.Sprintf("ip link set %s master %s up", m.Name, bridge)),
	)
}
