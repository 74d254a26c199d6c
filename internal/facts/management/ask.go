// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// The bounds of asking. 1,000 kubelets of which none answers take 50 s, and one that does not delays nobody.
const (
	Workers = 100
	Budget  = 5 * time.Second
	maxBody = 512 << 10

	maxHeader = 64 << 10
)

// Asker asks the API server and kubelets for their settings.
type Asker struct {
	// Server is the API server's address, https://host:port. Authenticated sends requests to it with the operator's credentials.
	Server        string
	Authenticated http.RoundTripper
	// Token returns the operator's token for kubelets; "" if it has none.
	Token func() string
	// Roots are the cluster's authority. A kubelet that it did not sign gets no token.
	Roots *x509.CertPool
	// Authorities returns those of Roots that are the cluster's, as they are now. whole is false if a part of them could not be read.
	Authorities func() (list []snapshot.Certificate, whole bool)
	// Permits says why an address must not be connected to.
	Permits func(netip.AddrPort) error
}

// Ask completes an inventory. Cost: five requests to the API server and two connections to each kubelet, of up to 100 kubelets at a
// time; what there is of answers in memory.
func (a *Asker) Ask(ctx context.Context, m *snapshot.Management) {
	a.askAPIServer(ctx, m)
	m.Tokens = a.askTokens(ctx)
	if a.Authorities != nil {
		list, whole := a.Authorities()
		m.Authorities, m.AuthoritiesUnread = list, !whole
	}
	var kubelets []snapshot.Kubelet
	for i := range m.Interfaces {
		if in := &m.Interfaces[i]; in.Role == snapshot.RoleKubelet {
			kubelets = append(kubelets, snapshot.Kubelet{Node: in.Object, Address: in.Address})
		}
	}
	var group errgroup.Group
	group.SetLimit(Workers)
	for i := range kubelets {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, Budget)
			defer cancel()
			a.askKubelet(ctx, &kubelets[i])
			return nil
		})
	}
	_ = group.Wait() // what went wrong is in the answers
	m.Kubelets = kubelets
}

// The paths and types that are asked for.
const (
	flagzPath = "/flagz"
	flagzType = "application/json;as=Flagz;g=config.k8s.io;v=v1beta1"
	nodesPath = "/api/v1/nodes?limit=1"
	configz   = "/configz"
	// nobodysPath is none, so that no role has it: who may get it gets that it is not found, and may get anything.
	nobodysPath = "/pcinetwork.dev/nobodys"
	// infoPath is what kubeadm lets everybody read who is to join, and leaves there (k8s.io/kubernetes cmd/kubeadm/app/phases/bootstraptoken).
	infoPath = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
)

// askAPIServer reads the API server's flags, and sees what it answers to nobody.
func (a *Asker) askAPIServer(ctx context.Context, m *snapshot.Management) {
	ctx, cancel := context.WithTimeout(ctx, Budget)
	defer cancel()
	known := &m.APIServer
	known.Several = len(m.ServerAddresses()) > 1 || len(known.Settings) > 1 // an address may be a load balancer's
	body, status, err := get(ctx, &http.Client{Transport: a.Authenticated}, a.Server+flagzPath, "", flagzType)
	var answer struct {
		Kind  string            `json:"kind"`
		Flags map[string]string `json:"flags"`
	}
	switch {
	case err == nil && status == http.StatusOK && json.Unmarshal(body, &answer) == nil && answer.Kind == "Flagz":
		flags := map[string]string{}
		for _, name := range flagsOfInterest {
			if value, has := answer.Flags[name]; has {
				flags[name] = value
			}
		}
		if !known.Several { // what it says of itself counts more than what its node says of it
			known.Settings = nil
		}
		known.Settings = append([]snapshot.Settings{{Source: flagzPath, Flags: flags}}, known.Settings...)
	case len(known.Settings) > 0: // of static pods
	case err != nil:
		known.Problem = "the API server does not answer"
	case status == http.StatusForbidden:
		known.Problem = "the operator has no right to get " + flagzPath
	default:
		known.Problem = "the API server does not serve " + flagzPath + " as JSON, as it does since 1.36"
	}
	if _, status, err := get(ctx, &http.Client{Transport: a.Authenticated}, a.Server+nobodysPath, "", "application/json"); err == nil {
		known.Nobodys = status
	}
	a.askAsNobody(ctx, known)
}

// askAsNobody sees what the API server shows to whoever has no credentials.
func (a *Asker) askAsNobody(ctx context.Context, known *snapshot.APIServer) {
	strangers := a.transport(a.Roots)
	defer strangers.CloseIdleConnections()
	if _, status, err := get(ctx, &http.Client{Transport: strangers}, a.Server+nodesPath, "", "application/json"); err == nil {
		known.Anonymous = status
	}
	if body, status, err := get(ctx, &http.Client{Transport: strangers}, a.Server+infoPath, "", "application/json"); err == nil {
		if known.Told = status; status == http.StatusOK {
			known.Published = publishedIn(body)
		}
	}
}

// publishedIn returns the hosts that cluster-info names; none of them where it cannot be read.
func publishedIn(body []byte) []string {
	var out []string
	var info corev1.ConfigMap
	if json.Unmarshal(body, &info) != nil {
		return nil
	}
	config, err := clientcmd.Load([]byte(info.Data["kubeconfig"]))
	if err != nil {
		return nil
	}
	for _, c := range config.Clusters {
		if u, err := url.Parse(c.Server); err == nil && u.Hostname() != "" {
			out = append(out, u.Hostname())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// askKubelet asks a kubelet for its configuration twice: as nobody, of whoever answers, and with the operator's token, of one that
// proves who it is.
func (a *Asker) askKubelet(ctx context.Context, k *snapshot.Kubelet) {
	if err := a.Permits(k.Address); err != nil {
		k.Problem = "it is " + err.Error()
		return
	}
	url := "https://" + k.Address.String() + configz
	anybody := a.transport(nil)
	defer anybody.CloseIdleConnections()
	if _, status, err := get(ctx, &http.Client{Transport: anybody}, url, "", "application/json"); err == nil {
		k.Anonymous = status
	}
	token := a.Token()
	if token == "" {
		k.Problem = "the operator has no token"
		return
	}
	trusted := a.transport(a.Roots)
	defer trusted.CloseIdleConnections()
	body, status, err := get(ctx, &http.Client{Transport: trusted}, url, token, "application/json")
	k.Config, k.Problem = readConfigz(body, status, err)
}

// readConfigz reads what a kubelet answered. Its configuration may hold secrets, such as headers of a manifest URL, so that nothing
// but what is judged is kept, and no part of an answer is ever quoted.
func readConfigz(body []byte, status int, err error) (config *snapshot.KubeletConfig, problem string) {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid *tls.CertificateVerificationError
	switch {
	case errors.As(err, &unknown):
		return nil, "its certificate was not issued by the cluster's authority, so it was not given the operator's token"
	case errors.As(err, &name):
		return nil, "its certificate is not for its address, so it was not given the operator's token"
	case errors.As(err, &invalid):
		return nil, "its certificate does not verify, so it was not given the operator's token"
	case err != nil:
		return nil, "it does not answer"
	case status == http.StatusForbidden:
		return nil, "the operator has no right to get nodes/configz"
	case status == http.StatusUnauthorized:
		return nil, "it does not accept the operator's token"
	case status != http.StatusOK:
		return nil, "it does not serve its configuration"
	}
	var answer struct {
		Config *kubeletConfiguration `json:"kubeletconfig"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Config == nil {
		return nil, "its configuration cannot be read"
	}
	return answer.Config.plain(), ""
}

// kubeletConfiguration is what is read of kubelet.config.k8s.io/v1beta1 KubeletConfiguration. /configz shows effective values; what is
// left out there has the value of a file without it.
type kubeletConfiguration struct {
	ReadOnlyPort       int32  `json:"readOnlyPort"`
	TLSMinVersion      string `json:"tlsMinVersion"`
	RotateCertificates bool   `json:"rotateCertificates"`
	ServerTLSBootstrap bool   `json:"serverTLSBootstrap"`
	Authentication     struct {
		Anonymous struct {
			Enabled *bool `json:"enabled"`
		} `json:"anonymous"`
		Webhook struct {
			Enabled *bool `json:"enabled"`
		} `json:"webhook"`
	} `json:"authentication"`
	Authorization struct {
		Mode string `json:"mode"`
	} `json:"authorization"`
}

func (c *kubeletConfiguration) plain() *snapshot.KubeletConfig {
	return &snapshot.KubeletConfig{
		ReadOnlyPort: c.ReadOnlyPort, TLSMinVersion: c.TLSMinVersion,
		Anonymous:     c.Authentication.Anonymous.Enabled == nil || *c.Authentication.Anonymous.Enabled, // unset should not be: the worse is taken
		Webhook:       c.Authentication.Webhook.Enabled != nil && *c.Authentication.Webhook.Enabled,
		Authorization: c.Authorization.Mode, RotateCertificates: c.RotateCertificates, ServerTLSBootstrap: c.ServerTLSBootstrap,
	}
}

// transport returns one for a few requests. With no roots it takes every certificate, and must be given no token.
func (a *Asker) transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		DialContext: (&net.Dialer{Timeout: Budget / 2, KeepAlive: -1}).DialContext,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: roots,
			InsecureSkipVerify: roots == nil, //nolint:gosec // it is sent nothing, and its answer counts against it alone
		},
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// get makes one request. Redirects are not followed: they could lead anywhere.
func get(ctx context.Context, c *http.Client, url, token, accept string) (body []byte, status int, err error) {
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Accept", accept)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := c.Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(response.Body, maxBody))
	return body, response.StatusCode, err
}
