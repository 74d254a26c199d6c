// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"path/filepath"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// AdminUser is in system:masters: RBAC and priority and fairness do not apply.
const AdminUser = "admin"

// ConfigFor returns a client configuration that authenticates as user, a
// member of groups, by client certificate, and the path of a kubeconfig file
// with the same identity. The file of an earlier call for user is replaced.
func (c *Cluster) ConfigFor(user string, groups ...string) (*rest.Config, string, error) {
	pair, err := c.ca.client(user, groups...)
	if err != nil {
		return nil, "", fmt.Errorf("issuing a client certificate for %s: %w", user, err)
	}
	path := filepath.Join(c.opts.Dir, fileName(user)+".kubeconfig")
	err = c.writeKubeconfig(path, &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key})
	if err != nil {
		return nil, "", fmt.Errorf("writing the kubeconfig of %s: %w", user, err)
	}
	return &rest.Config{
		Host:            c.ServerURL(),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.CAData(), CertData: pair.cert, KeyData: pair.key},
		QPS:             -1, // tests and benches are not to be slowed down by their own client
	}, path, nil
}

// KubeconfigForToken writes a kubeconfig file to path that authenticates with
// a bearer token, such as one of a service account.
func (c *Cluster) KubeconfigForToken(path, token string) error {
	if err := c.writeKubeconfig(path, &clientcmdapi.AuthInfo{Token: token}); err != nil {
		return fmt.Errorf("writing a kubeconfig with a token: %w", err)
	}
	return nil
}

func (c *Cluster) writeKubeconfig(path string, user *clientcmdapi.AuthInfo) error {
	const name = "test"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: c.ServerURL(), CertificateAuthorityData: c.CAData()}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: user},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, path)
}

// fileName keeps what is safe in a file name: user names carry colons and slashes.
func fileName(user string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '.', r == '_':
			return r
		}
		return '-'
	}, user)
}
