// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// peersVerified (4.3; PCI DSS 4.2.1, 7.2.1): who calls an interface verifies whom it has reached, or somebody in between can take its place; and
// etcd, which asks nobody who may do what, verifies who calls.
func peersVerified(s Subject, v *verdicts) {
	for n := range s.Callees {
		judgeCallee(v, &s.Callees[n])
	}
	spoken(s, func(i *snapshot.Interface) {
		if i.Role == snapshot.RoleEtcd {
			judgeClients(v, i)
		}
		switch {
		case !i.ClusterRoots && i.Roots == "":
		case len(i.Sight.Chain) > 0 && !s.Now.Before(i.Sight.Chain[0].NotAfter): // certificatesFit says so
		case i.Sight.Untrusted == "":
			v.pass(name(i), "its certificate is one that its clients trust")
		case i.Role == snapshot.RoleKubelet: // the API server may have been told of another authority, or of none: see apiServerSettings
			v.warn(pcinetv1alpha1.ReasonPeerUnverified, name(i), "the cluster's authority does not vouch for its certificate: "+i.Sight.Untrusted,
				"Set serverTLSBootstrap: true in the kubelet's configuration, and approve its certificate requests")
		default:
			v.fail(pcinetv1alpha1.ReasonPeerUnverified, name(i), "its certificate is none that its clients trust: "+i.Sight.Untrusted, "Issue one for its name, by the authority that they trust")
		}
	})
}

// judgeClients judges by whom an etcd lets itself be called: every key of the cluster is in it.
func judgeClients(v *verdicts, i *snapshot.Interface) {
	switch i.Sight.ClientCertificate {
	case snapshot.ClientCertificateRequired:
		v.pass(name(i), "it requires a certificate of its clients")
	case snapshot.ClientCertificateIgnored, snapshot.ClientCertificateOptional:
		v.fail(pcinetv1alpha1.ReasonAnonymousAccess, name(i), "it requires no certificate of its clients",
			"Start etcd with --client-cert-auth and --trusted-ca-file, and with --peer-client-cert-auth and --peer-trusted-ca-file")
	default:
		v.unseen(name(i), "whether it requires a certificate of its clients could not be told", "Look at its --client-cert-auth and --peer-client-cert-auth")
	}
}

// judgeCallee judges by what one that is called is verified.
func judgeCallee(v *verdicts, c *snapshot.Callee) {
	switch {
	case c.Unverified && c.Caller != "":
		v.fail(pcinetv1alpha1.ReasonPeerUnverified, c.Object, "insecureSkipVerify is set, so "+c.Caller+" talks to whoever answers", "Set tlsConfig.ca and remove insecureSkipVerify")
	case c.Unverified:
		v.fail(pcinetv1alpha1.ReasonPeerUnverified, c.Object, "insecureSkipTLSVerify is set, so the API server talks to whoever answers", "Set caBundle and remove insecureSkipTLSVerify")
	case c.URL != "" && !strings.HasPrefix(c.URL, "https://"):
		v.fail(pcinetv1alpha1.ReasonPlaintext, c.Object, "its URL is not https", "Serve it over https")
	case len(c.Bundle) == 0 && !c.Unparsed:
		v.warn(pcinetv1alpha1.ReasonPeerUnverified, c.Object, "it has no caBundle, so any authority that the API server's host trusts can speak for it", "Set caBundle")
	default:
		v.pass(c.Object, "it is verified with its caBundle")
	}
}

// apiServerSettings (4.3; PCI DSS 2.2.7, 7.2.1, 4.2.1): the API server knows its clients, asks who may do what, and verifies whom it calls.
func apiServerSettings(s Subject, v *verdicts) {
	const subject = "API server"
	switch a := s.APIServer; a.Anonymous {
	case http.StatusOK:
		v.fail(pcinetv1alpha1.ReasonAnonymousAccess, subject, "it shows nodes to everybody, without credentials", "Take rights away from system:anonymous and system:unauthenticated: kubectl get clusterrolebindings -o wide")
	case http.StatusUnauthorized:
		v.pass(subject, "it refuses requests without credentials")
	case http.StatusForbidden:
		v.warn(pcinetv1alpha1.ReasonAnonymousAccess, subject, "it takes requests without credentials, and does not show nodes to them", "Limit them to health checks: AuthenticationConfiguration, anonymous.conditions")
	default:
		v.unseen(subject, "what it shows without credentials could not be seen", "Look at the network between the operator and the API server")
	}
	if len(s.APIServer.Settings) == 0 {
		v.unseen(subject, "its settings could not be read: "+s.APIServer.Problem, "Give the operator the right to: kubectl apply --server-side -k config/management")
		return
	}
	for _, one := range s.APIServer.Settings {
		understood := one.Flags["etcd-servers"] != "" // which no API server runs without
		if understood || one.Flags["authorization-mode"] != "" {
			judgeAuthorization(v, s.APIServer, one)
		}
		if !understood {
			v.unseen(serverName(one), "its settings are not understood: --etcd-servers is not among them", "Look at its command line")
			continue
		}
		judgeCalls(v, one)
	}
}

// serverName names an API server by where its settings are from: a static pod shows what a node says.
func serverName(s snapshot.Settings) string { return "API server (" + s.Source + ")" }

// judgeAuthorization judges by whom an API server lets be decided who may do what. Modes are asked one after the other, and AlwaysAllow is what
// there is without any (k8s.io/kubernetes pkg/kubeapiserver/options/authorization.go). It lets pass whatever no mode before it has denied, so an API
// server that refuses what nobody was given a right to, and nobody was denied, has none. Of several it may be another one that refused.
func judgeAuthorization(v *verdicts, a snapshot.APIServer, s snapshot.Settings) {
	const (
		remedy        = "Set --authorization-mode=Node,RBAC"
		noAlwaysAllow = "See that no authorizer is of type AlwaysAllow in "
	)
	mode, file := strings.Trim(s.Flags["authorization-mode"], "[]"), s.Flags["authorization-config"]
	switch {
	case strings.Contains(mode, "AlwaysAllow"):
		v.fail(pcinetv1alpha1.ReasonAnonymousAccess, serverName(s), "--authorization-mode holds AlwaysAllow", remedy)
	case mode == "" && file == "":
		v.fail(pcinetv1alpha1.ReasonAnonymousAccess, serverName(s), "--authorization-mode is not set, which means AlwaysAllow", remedy)
	case mode == "" && a.Anonymous != http.StatusForbidden && a.Nobodys != http.StatusForbidden:
		v.unseen(serverName(s), "who decides what anybody may do is in the file of --authorization-config, and nobody was seen to be refused", noAlwaysAllow+file)
	case mode == "" && a.Several:
		v.warn(pcinetv1alpha1.ReasonManagementNotObservable, serverName(s), "who decides what anybody may do is in the file of --authorization-config, and it may have been another API server that refuses", noAlwaysAllow+file)
	default:
		v.pass(serverName(s), "it asks who may do what")
	}
}

// judgeCalls judges whether an API server verifies whom it calls.
func judgeCalls(v *verdicts, s snapshot.Settings) {
	if s.Flags["kubelet-certificate-authority"] == "" {
		v.fail(pcinetv1alpha1.ReasonPeerUnverified, serverName(s), "--kubelet-certificate-authority is not set, so it sends logs and commands to whoever answers for a kubelet",
			"Set it to the authority of the kubelets' serving certificates")
	} else {
		v.pass(serverName(s), "it verifies kubelets")
	}
	for server := range strings.SplitSeq(strings.Trim(s.Flags["etcd-servers"], "[]"), ",") {
		judgeEtcd(v, s, strings.TrimSpace(server))
	}
}

// judgeEtcd judges the way from an API server to one etcd. What stays on the host crosses no network.
func judgeEtcd(v *verdicts, s snapshot.Settings, server string) {
	u, err := url.Parse(server)
	if err != nil || server == "" {
		v.unseen(serverName(s), "--etcd-servers could not be read", "Look at its command line")
		return
	}
	local := strings.HasPrefix(u.Scheme, "unix")
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.IsLoopback() {
		local = true
	}
	encrypted := strings.HasPrefix(u.Scheme, "https") || strings.HasPrefix(u.Scheme, "unixs")
	switch {
	case encrypted && s.Flags["etcd-cafile"] == "":
		v.warn(pcinetv1alpha1.ReasonPeerUnverified, serverName(s), "it talks to etcd over TLS, and --etcd-cafile is not set, so any authority that its host trusts can speak for etcd", "Set --etcd-cafile")
	case encrypted && s.Flags["etcd-certfile"] == "":
		v.warn(pcinetv1alpha1.ReasonAnonymousAccess, serverName(s), "it talks to etcd over TLS without a certificate of its own", "Set --etcd-certfile and --etcd-keyfile, and etcd's --client-cert-auth")
	case encrypted:
		v.pass(serverName(s), "it talks to etcd over TLS")
	case local:
		v.warn(pcinetv1alpha1.ReasonPlaintext, serverName(s), "it talks to etcd in the clear, on its own host", "Use https in --etcd-servers")
	default:
		v.fail(pcinetv1alpha1.ReasonPlaintext, serverName(s), "it talks to etcd in the clear: --etcd-servers has "+u.Scheme, "Use https in --etcd-servers, with --etcd-cafile, --etcd-certfile and --etcd-keyfile")
	}
}

// kubeletSettings (4.3; PCI DSS 2.2.7, 7.2.1, 3.7.4): kubelets know their clients, ask who may do what, have no read-only port, and renew
// their certificates.
func kubeletSettings(s Subject, v *verdicts) {
	for n := range s.Kubelets {
		k := &s.Kubelets[n]
		subject := "kubelet of " + k.Node
		anonymous(v, subject, k)
		if k.Config == nil {
			v.unseen(subject, "its configuration could not be read: "+k.Problem, kubeletRemedy(k.Problem))
			continue
		}
		judgeKubelet(v, subject, k.Config)
	}
}

func anonymous(v *verdicts, subject string, k *snapshot.Kubelet) {
	switch k.Anonymous {
	case http.StatusOK:
		v.fail(pcinetv1alpha1.ReasonAnonymousAccess, subject, "it shows its configuration to everybody, without credentials", "Set authentication.anonymous.enabled: false and authorization.mode: Webhook in the kubelet's configuration")
	case http.StatusForbidden:
		v.fail(pcinetv1alpha1.ReasonAnonymousAccess, subject, "it takes requests without credentials", "Set authentication.anonymous.enabled: false in the kubelet's configuration")
	case http.StatusUnauthorized:
		v.pass(subject, "it refuses requests without credentials")
	default:
		v.unseen(subject, "what it shows without credentials could not be seen", reach)
	}
}

func kubeletRemedy(problem string) string {
	if strings.Contains(problem, "certificate") {
		return "Set serverTLSBootstrap: true in the kubelet's configuration, and approve its certificate requests"
	}
	return "Give the operator the right and the way to: kubectl apply --server-side -k config/management"
}

func judgeKubelet(v *verdicts, subject string, c *snapshot.KubeletConfig) {
	const in = " in the kubelet's configuration"
	rules := []struct {
		wrong                    bool
		reason, evidence, remedy string
	}{
		{c.ReadOnlyPort != 0, pcinetv1alpha1.ReasonPlaintext, "readOnlyPort is set", "Set readOnlyPort: 0" + in},
		{c.Anonymous, pcinetv1alpha1.ReasonAnonymousAccess, "authentication.anonymous is enabled", "Set authentication.anonymous.enabled: false" + in},
		{!c.Webhook, pcinetv1alpha1.ReasonAnonymousAccess, "authentication.webhook is not enabled", "Set authentication.webhook.enabled: true" + in},
		{c.Authorization != "Webhook", pcinetv1alpha1.ReasonAnonymousAccess, "authorization.mode is not Webhook", "Set authorization.mode: Webhook" + in},
		{c.TLSMinVersion == "VersionTLS10" || c.TLSMinVersion == "VersionTLS11", pcinetv1alpha1.ReasonTLSTooOld, "tlsMinVersion is " + c.TLSMinVersion, "Set tlsMinVersion: VersionTLS12" + in},
		{!c.RotateCertificates, pcinetv1alpha1.ReasonCertificateUnfit, "rotateCertificates is off, so its client certificate is not renewed", "Set rotateCertificates: true" + in},
	}
	sound := true
	for _, r := range rules {
		if r.wrong {
			sound = false
			v.fail(r.reason, subject, r.evidence, r.remedy)
		}
	}
	if !c.ServerTLSBootstrap {
		v.warn(pcinetv1alpha1.ReasonCertificateUnfit, subject, "it does not renew its serving certificate, which is its own or that of a file", "Set serverTLSBootstrap: true"+in+", or have somebody renew the file of tlsCertFile")
	}
	if sound {
		v.pass(subject, "its settings are sound")
	}
}
