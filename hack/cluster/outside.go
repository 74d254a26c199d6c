// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	controlPlaneDir = "control-plane" // the control plane's files, in a cluster's directory
	servingFile     = "serving"       // exists once the control plane serves
	joinFile        = "join"          // exists once nodes may join
	kubeconfigFile  = "kubeconfig"

	userCilium = "system:cilium"
	userCalico = "system:calico"
	userProxy  = "system:kube-proxy"
)

// runOutside starts the control plane, if it is not a node's, and carries
// connections of the host to it.
func (s *supervisor) runOutside(ctx context.Context) error {
	if s.state.Server == outside {
		if err := s.runControlPlane(ctx, serverIP); err != nil {
			return err
		}
	}
	admin := s.kubeconfig(cluster.AdminUser)
	err := wait(ctx, "the control plane", func(context.Context) error {
		_, err := os.Stat(filepath.Join(s.dir, servingFile))
		return err
	})
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", admin)
	if err != nil {
		return err
	}
	server, err := url.Parse(config.Host)
	if err != nil {
		return err
	}
	listener, err := net.FileListener(os.NewFile(listenerFD, "listener"))
	if err != nil {
		return err
	}
	go forward(listener, server.Host)
	if err := writeKubeconfig(admin, filepath.Join(s.dir, kubeconfigFile), listener.Addr().String()); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	go keepRoutes(ctx, client)
	return os.WriteFile(filepath.Join(s.dir, joinFile), nil, 0o600)
}

// runControlPlane starts the control plane on an address of this machine.
func (s *supervisor) runControlPlane(ctx context.Context, address string) error {
	tell(report{Step: "starting etcd, kube-apiserver, kube-controller-manager and kube-scheduler"})
	c, err := cluster.Start(ctx, cluster.Options{
		Dir:               filepath.Join(s.dir, controlPlaneDir),
		Assets:            cluster.Assets(".", os.Getenv("KUBEBUILDER_ASSETS")),
		ControllerManager: true,
		Scheduler:         true,
		Nodes:             &cluster.Nodes{Address: address, PodRange: podRange, Addresses: addresses()},
	})
	if err != nil {
		return err
	}
	for _, user := range []struct {
		name   string
		groups []string
	}{{userCilium, []string{"system:masters"}}, {userCalico, []string{"system:masters"}}, {userProxy, nil}} {
		if _, _, err := c.ConfigFor(user.name, user.groups...); err != nil {
			return err
		}
	}
	if s.state.CNI == cniCalico {
		if err := s.startCalicoServer(); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(s.dir, servingFile), nil, 0o600)
}

// writeKubeconfig copies a kubeconfig for use by the host.
func writeKubeconfig(from, to, address string) error {
	config, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return err
	}
	for _, c := range config.Clusters {
		c.Server = "https://" + address
	}
	return clientcmd.WriteToFile(*config, to)
}

// forward carries connections from a listener of the host's network, where
// nothing else of the machine is, to the API server. They come from serverIP,
// so that the other address of this machine stays a stranger's.
func forward(listener net.Listener, to string) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "forwarding:", err)
			return
		}
		go carry(conn, to)
	}
}

func carry(conn net.Conn, to string) {
	defer func() { _ = conn.Close() }()
	dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(serverIP)}}
	peer, err := dialer.Dial("tcp", to)
	if err != nil {
		fmt.Fprintln(os.Stderr, "forwarding:", err)
		return
	}
	defer func() { _ = peer.Close() }()
	done := make(chan struct{}, 2)
	copyTo := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		done <- struct{}{}
	}
	go copyTo(peer, conn)
	go copyTo(conn, peer)
	<-done // when one side is done, so is the other: nobody half-closes TLS
}

// keepRoutes gives the bridge a route to the pods of each node, as the network
// that a cluster stands in does.
func keepRoutes(ctx context.Context, client kubernetes.Interface) {
	known := map[string]string{}
	for ctx.Err() == nil {
		watch, err := client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{})
		if err != nil {
			fmt.Fprintln(os.Stderr, "watching nodes:", err)
			time.Sleep(time.Second)
			continue
		}
		for event := range watch.ResultChan() {
			node, ok := event.Object.(*corev1.Node)
			if !ok || node.Spec.PodCIDR == "" || known[node.Spec.PodCIDR] == node.Name {
				continue
			}
			if err := ip(ctx, "route replace "+node.Spec.PodCIDR+" via "+addresses()[node.Name]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				continue
			}
			known[node.Spec.PodCIDR] = node.Name
		}
	}
}
