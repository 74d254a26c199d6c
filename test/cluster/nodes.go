// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"os"
)

// nodesPort is where nodes and pods reach the API server: the usual port,
// because policies name it.
const nodesPort = 6443

// kubeletClient is who the API server is to a kubelet.
const kubeletClient = "kube-apiserver-kubelet-client"

// frontProxy is who the API server is to the servers of other APIs.
const frontProxy = "front-proxy-client"

// Nodes describes a network on which nodes reach the API server.
type Nodes struct {
	// Address is an IP address of this host, on which the API server listens
	// at port 6443. Nothing else may.
	Address string

	// PodRange is cut into one /24 for each node.
	PodRange string

	// Addresses has the IP address of each node that may join, by its name.
	Addresses map[string]string
}

// host is where the API server listens.
func (o *Options) host() string {
	if o.Nodes != nil {
		return o.Nodes.Address
	}
	return loopback
}

// advertised is what EndpointSlice default/kubernetes says of the API server.
func (o *Options) advertised() string {
	if o.Nodes != nil {
		return o.Nodes.Address
	}
	return unreachable
}

// authorizers leave kubelets to RBAC, which gives them nothing, where there are none.
func (o *Options) authorizers() string {
	if o.Nodes != nil {
		return "Node,RBAC"
	}
	return "RBAC"
}

// nodeArgs let kube-apiserver tell nodes apart, and reach kubelets for logs and exec, and servers of other APIs.
func (c *Cluster) nodeArgs() []string {
	return []string{
		"--enable-admission-plugins=NodeRestriction",
		"--kubelet-certificate-authority=" + c.pki("ca.crt"),
		"--kubelet-client-certificate=" + c.pki(kubeletClient+".crt"),
		"--kubelet-client-key=" + c.pki(kubeletClient+".key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--requestheader-client-ca-file=" + c.pki("ca.crt"),
		"--requestheader-allowed-names=" + frontProxy,
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.pki(frontProxy+".crt"),
		"--proxy-client-key-file=" + c.pki(frontProxy+".key"),
	}
}

// writeNodeFiles writes the API server's certificate for kubelets, and for
// each node the kubelet's serving certificate and its kubeconfig.
func (c *Cluster) writeNodeFiles() error {
	if c.opts.Nodes == nil {
		return nil
	}
	for name, groups := range map[string][]string{kubeletClient: {"system:masters"}, frontProxy: nil} {
		pair, err := c.ca.client(name, groups...)
		if err != nil {
			return err
		}
		if err := c.writePair(name, pair); err != nil {
			return err
		}
	}
	for name, address := range c.opts.Nodes.Addresses {
		pair, err := c.ca.server("system:node:"+name, name, address)
		if err != nil {
			return err
		}
		if err := c.writePair("kubelet-"+name, pair); err != nil {
			return err
		}
		if _, _, err := c.ConfigFor("system:node:"+name, "system:nodes"); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) writePair(name string, pair keyPair) error {
	return errors.Join(
		os.WriteFile(c.pki(name+".crt"), pair.cert, 0o600),
		os.WriteFile(c.pki(name+".key"), pair.key, 0o600),
	)
}
