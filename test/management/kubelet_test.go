// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// kubelet is a small server that answers for a kubelet.
type kubelet struct {
	config kubeletv1beta1.KubeletConfiguration
	// selfSigned gives it a certificate of its own instead of one by the cluster.
	selfSigned bool
	tls        tls.Config
	// tokens counts requests with a token.
	tokens atomic.Int64
	// cutOff makes it answer the API server as one that does not reach it would.
	cutOff atomic.Bool
}

// safe is the configuration that kubeadm writes, with serving certificates by the cluster.
func safe() kubeletv1beta1.KubeletConfiguration {
	return kubeletv1beta1.KubeletConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: kubeletv1beta1.SchemeGroupVersion.String(), Kind: "KubeletConfiguration"},
		Authentication: kubeletv1beta1.KubeletAuthentication{
			Anonymous: kubeletv1beta1.KubeletAnonymousAuthentication{Enabled: new(false)},
			Webhook:   kubeletv1beta1.KubeletWebhookAuthentication{Enabled: new(true)},
		},
		Authorization:      kubeletv1beta1.KubeletAuthorization{Mode: kubeletv1beta1.KubeletAuthorizationModeWebhook},
		RotateCertificates: true, ServerTLSBootstrap: true,
		StaticPodURLHeader: map[string][]string{"Authorization": {"secret"}},
	}
}

// node creates a node, and runs what answers for its kubelet until the test ends.
func (s *site) node(t *testing.T, name, address string, labels map[string]string, k *kubelet) {
	t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if err := s.Create(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address}}
	n.Status.DaemonEndpoints.KubeletEndpoint.Port = 10250
	if err := s.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	identity := s.issued(t, "system:node:"+name, address)
	if k.selfSigned {
		identity = signedBySelf(t, time.Now().Add(24*time.Hour), address)
	}
	https(t, address+":10250", identity, &k.tls, s.authorize(k))
}

// authorize does what a kubelet does: it has the API server say who asks and whether they may, if it is configured to.
func (s *site) authorize(k *kubelet) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/containerLogs/") { // of the API server, which has no certificate here
			if k.cutOff.Load() {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, "a line")
			return
		}
		user := authenticationv1.UserInfo{Username: "system:anonymous", Groups: []string{"system:unauthenticated"}}
		token, has := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if has {
			k.tokens.Add(1)
			review := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
			if err := s.Create(r.Context(), review); err != nil || !review.Status.Authenticated {
				http.Error(w, "Unauthorized", http.StatusUnauthorized)
				return
			}
			user = review.Status.User
		} else if !*k.config.Authentication.Anonymous.Enabled {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		if k.config.Authorization.Mode == kubeletv1beta1.KubeletAuthorizationModeWebhook {
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
				User: user.Username, Groups: user.Groups,
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Version: "v1", Resource: "nodes", Subresource: "configz"},
			}}
			if err := s.Create(r.Context(), review); err != nil || !review.Status.Allowed {
				http.Error(w, "Forbidden", http.StatusForbidden)
				return
			}
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"kubeletconfig": k.config})
	})
}

// identity is a certificate with its key, in PEM.
type identity struct{ cert, key []byte }

// issued returns a certificate by the cluster's authority.
func (s *site) issued(t *testing.T, subject string, addresses ...string) identity {
	t.Helper()
	cert, key, err := s.cluster.ServingCertificate(subject, addresses...)
	if err != nil {
		t.Fatal(err)
	}
	return identity{cert, key}
}

// https serves HTTPS at an address until the test ends.
func https(t *testing.T, address string, as identity, base *tls.Config, handler http.Handler) {
	t.Helper()
	pair, err := tls.X509KeyPair(as.cert, as.key)
	if err != nil {
		t.Fatal(err)
	}
	config := base.Clone()
	config.Certificates = []tls.Certificate{pair}
	serve(t, address, func(l net.Listener) net.Listener { return tls.NewListener(l, config) }, handler)
}

// plain serves HTTP at an address until the test ends.
func plain(t *testing.T, address string) {
	t.Helper()
	serve(t, address, func(l net.Listener) net.Listener { return l }, http.NotFoundHandler())
}

func serve(t *testing.T, address string, over func(net.Listener) net.Listener, handler http.Handler) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: eventually.Patience, ErrorLog: discard()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(over(l))
	}()
	t.Cleanup(func() {
		_ = server.Shutdown(context.WithoutCancel(t.Context()))
		_ = server.Close()
		<-done
	})
}

// signedBySelf makes a certificate that nobody vouches for.
func signedBySelf(t *testing.T, until time.Time, addresses ...string) identity {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "itself"}, DNSNames: []string{"kubernetes.default.svc"},
		NotBefore: until.Add(-48 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true,
	}
	for _, a := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(a))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return identity{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})}
}

// writer takes what servers log of clients that hang up.
type writer struct{}

func (writer) Write(p []byte) (int, error) { return io.Discard.Write(p) }
