// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pcinetwork/pci-network-baseline/internal/facts/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// server answers HTTPS on loopback until the test ends, and counts what it should not get.
func server(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func addressOf(s *httptest.Server) netip.AddrPort {
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// trusting returns an asker that trusts a server, and takes it for the API server too.
func trusting(s *httptest.Server) *management.Asker {
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &management.Asker{
		Server: s.URL, Authenticated: s.Client().Transport, Token: func() string { return "token" }, Roots: roots,
		Permits: func(netip.AddrPort) error { return nil },
	}
}

// inventory has a number of kubelets at one address.
func inventory(n int, at netip.AddrPort) *snapshot.Management {
	m := &snapshot.Management{}
	for i := range n {
		m.Interfaces = append(m.Interfaces, snapshot.Interface{Role: snapshot.RoleKubelet, Address: at, Object: fmt.Sprintf("Node n%04d", i)})
	}
	return m
}

const sound = `{"kubeletconfig": {"authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}},
  "authorization": {"mode": "Webhook"}, "rotateCertificates": true, "staticPodURLHeader": {"Authorization": ["secret"]}}}`

// kubelet answers as one that knows its clients, with a text for those that have the token.
func kubelet(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func TestKubeletsAreAsked(t *testing.T) {
	t.Parallel()
	config := &snapshot.KubeletConfig{Webhook: true, Authorization: "Webhook", RotateCertificates: true}
	cases := map[string]struct {
		handler http.HandlerFunc
		change  func(*management.Asker)
		want    snapshot.Kubelet
	}{
		"a sound one": {handler: kubelet(200, sound), want: snapshot.Kubelet{Anonymous: 401, Config: config}},
		"one that leaves out whether it knows nobody": {
			handler: kubelet(200, `{"kubeletconfig": {"authorization": {"mode": "AlwaysAllow"}, "readOnlyPort": 10255}}`),
			want:    snapshot.Kubelet{Anonymous: 401, Config: &snapshot.KubeletConfig{Anonymous: true, Authorization: "AlwaysAllow", ReadOnlyPort: 10255}},
		},
		"one without the right":         {handler: kubelet(403, "Forbidden secret"), want: snapshot.Kubelet{Anonymous: 401, Problem: "the operator has no right to get nodes/configz"}},
		"one that refuses the token":    {handler: kubelet(401, ""), want: snapshot.Kubelet{Anonymous: 401, Problem: "it does not accept the operator's token"}},
		"one that breaks":               {handler: kubelet(500, ""), want: snapshot.Kubelet{Anonymous: 401, Problem: "it does not serve its configuration"}},
		"one that leads elsewhere":      {handler: redirect, want: snapshot.Kubelet{Anonymous: 302, Problem: "it does not serve its configuration"}},
		"one that answers nonsense":     {handler: kubelet(200, "<html>secret"), want: snapshot.Kubelet{Anonymous: 401, Problem: "its configuration cannot be read"}},
		"one that answers another kind": {handler: kubelet(200, `{"componentconfig": {}}`), want: snapshot.Kubelet{Anonymous: 401, Problem: "its configuration cannot be read"}},
		"one that answers more than is read": {
			handler: kubelet(200, `{"padding": "`+strings.Repeat("x", 1<<20)+`", `+sound[1:]), want: snapshot.Kubelet{Anonymous: 401, Problem: "its configuration cannot be read"},
		},
		"an operator without a token": {
			handler: kubelet(200, sound), change: func(a *management.Asker) { a.Token = func() string { return "" } },
			want: snapshot.Kubelet{Anonymous: 401, Problem: "the operator has no token"},
		},
		"one that must not be connected to": {
			handler: kubelet(200, sound), change: func(a *management.Asker) {
				a.Permits = func(netip.AddrPort) error { return errors.New("a link-local address") }
			},
			want: snapshot.Kubelet{Problem: "it is a link-local address"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := server(t, tc.handler)
			a := trusting(s)
			if tc.change != nil {
				tc.change(a)
			}
			m := inventory(1, addressOf(s))
			a.Ask(t.Context(), m)
			tc.want.Node, tc.want.Address = "Node n0000", addressOf(s)
			if diff := cmp.Diff([]snapshot.Kubelet{tc.want}, m.Kubelets, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

// redirect leads to a page that says all is well.
func redirect(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/elsewhere" {
		_, _ = io.WriteString(w, sound)
		return
	}
	http.Redirect(w, r, "/elsewhere", http.StatusFound)
}

// A kubelet that nobody vouches for gets no token, whatever it says.
func TestNoTokenForStrangers(t *testing.T) {
	t.Parallel()
	var tokens atomic.Int64
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			tokens.Add(1)
		}
		_, _ = io.WriteString(w, sound)
	})
	a := trusting(s)
	a.Roots = x509.NewCertPool()
	a.Authenticated = http.DefaultTransport
	m := inventory(1, addressOf(s))
	a.Ask(t.Context(), m)
	if n := tokens.Load(); n > 0 {
		t.Errorf("it was given a token %d times", n)
	}
	k := m.Kubelets[0]
	if k.Config != nil || !strings.Contains(k.Problem, "was not issued by the cluster's authority") {
		t.Errorf("its problem is %q", k.Problem)
	}
	if k.Anonymous != http.StatusOK {
		t.Errorf("the answer without credentials is %d", k.Anonymous)
	}
}

// A thousand kubelets are asked a hundred at a time, twice each, and one that does not answer keeps nobody waiting. If none did, they
// would take as long as the budget of each and their number allow: less than a minute.
func TestOneSlowKubeletDelaysNobody(t *testing.T) {
	t.Parallel()
	const nodes = 1000
	if longest := (nodes + management.Workers - 1) / management.Workers * management.Budget; longest > time.Minute {
		t.Errorf("%d kubelets that do not answer take %s", nodes, longest)
	}
	var requests, together, most atomic.Int64
	var waited atomic.Bool
	others := make(chan struct{})
	answer := kubelet(200, sound)
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/configz" {
			http.NotFound(w, r)
			return
		}
		now := together.Add(1)
		defer together.Add(-1)
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
			continue
		}
		switch n := requests.Add(1); n {
		case 1: // waits until others were asked meanwhile
			select {
			case <-others:
				waited.Store(true)
			case <-r.Context().Done():
				return
			}
		case 2: // hangs for as long as it is waited for
			<-r.Context().Done()
			return
		case 20:
			close(others)
		}
		answer(w, r)
	})
	m := inventory(nodes, addressOf(s))
	trusting(s).Ask(t.Context(), m)
	silent := 0
	for _, k := range m.Kubelets {
		if k.Config == nil {
			silent++
		}
	}
	if !waited.Load() {
		t.Error("nobody was asked while the first one waited")
	}
	if silent < 1 || silent > nodes/4 { // on a loaded machine handshakes take longer than they are given
		t.Errorf("%d of %d kubelets were not read, want the one that hangs", silent, nodes)
	}
	if n := requests.Load(); n > 2*nodes {
		t.Errorf("%d requests to %d kubelets", n, nodes)
	}
	if n := most.Load(); n > management.Workers {
		t.Errorf("%d were asked at a time", n)
	}
}

func TestTheAPIServerIsAsked(t *testing.T) {
	t.Parallel()
	flagz := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path != "/flagz":
				w.WriteHeader(http.StatusForbidden)
			case !strings.Contains(r.Header.Get("Accept"), "as=Flagz"):
				_, _ = io.WriteString(w, "a page for people")
			default:
				w.WriteHeader(status)
				_, _ = io.WriteString(w, text)
			}
		}
	}
	of := func(source, flag, value string) []snapshot.Settings {
		return []snapshot.Settings{{Source: source, Flags: map[string]string{flag: value}}}
	}
	pod := snapshot.APIServer{Settings: of("Pod kube-system/kube-apiserver-cp", "authorization-mode", "RBAC")}
	cases := map[string]struct {
		handler http.HandlerFunc
		before  snapshot.APIServer
		servers int
		want    snapshot.APIServer
	}{
		"flags of interest are kept, and no others": {
			handler: flagz(200, `{"kind": "Flagz", "flags": {"etcd-servers": "[https://10.0.0.1:2379]", "token-auth-file": "secret"}}`),
			want:    snapshot.APIServer{Settings: of("/flagz", "etcd-servers", "[https://10.0.0.1:2379]"), Anonymous: 403, Nobodys: 403, Told: 403},
		},
		"what it says of itself counts more than a pod": {
			handler: flagz(200, `{"kind": "Flagz", "flags": {"authorization-mode": "[Node,RBAC]"}}`), before: pod,
			want: snapshot.APIServer{Settings: of("/flagz", "authorization-mode", "[Node,RBAC]"), Anonymous: 403, Nobodys: 403, Told: 403},
		},
		"with two there are others than the one that answers": {
			handler: flagz(200, `{"kind": "Flagz", "flags": {"authorization-mode": "[Node,RBAC]"}}`), before: pod, servers: 2,
			want: snapshot.APIServer{Settings: append(of("/flagz", "authorization-mode", "[Node,RBAC]"), pod.Settings...), Anonymous: 403, Nobodys: 403, Told: 403, Several: true},
		},
		"two pods behind one address are two": {
			handler: flagz(404, ""), before: snapshot.APIServer{Settings: slices.Repeat(pod.Settings, 2)}, servers: 1,
			want: snapshot.APIServer{Settings: slices.Repeat(pod.Settings, 2), Anonymous: 403, Nobodys: 403, Told: 403, Several: true},
		},
		"a pod is better than nothing": {
			handler: flagz(404, ""), before: pod,
			want: snapshot.APIServer{Settings: pod.Settings, Anonymous: 403, Nobodys: 403, Told: 403},
		},
		"whoever may do anything is refused nothing": {
			handler: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/pcinetwork.dev/nobodys" {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				flagz(404, "")(w, r)
			}, before: pod,
			want: snapshot.APIServer{Settings: pod.Settings, Anonymous: 403, Nobodys: 404, Told: 403},
		},
		"what kubeadm tells everybody": {
			handler: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v1/namespaces/kube-public/configmaps/cluster-info" || r.Header.Get("Authorization") != "" {
					flagz(404, "")(w, r)
					return
				}
				_, _ = io.WriteString(w, `{"data": {"kubeconfig": "{apiVersion: v1, kind: Config, clusters: [{name: b, cluster: {server: \"https://203.0.113.9:6443\"}},`+
					` {name: a, cluster: {server: \"https://api.example.com\"}}, {name: c, cluster: {}}]}"}}`)
			}, before: pod,
			want: snapshot.APIServer{Settings: pod.Settings, Anonymous: 403, Nobodys: 403, Told: 200, Published: []string{"203.0.113.9", "api.example.com"}},
		},
		"what everybody is told and nobody can read": {
			handler: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/api/v1/namespaces/kube-public/configmaps/cluster-info" {
					flagz(404, "")(w, r)
				}
			}, before: pod,
			want: snapshot.APIServer{Settings: pod.Settings, Anonymous: 403, Nobodys: 403, Told: 200},
		},
		"no right":     {handler: flagz(403, ""), want: snapshot.APIServer{Problem: "the operator has no right to get /flagz", Anonymous: 403, Nobodys: 403, Told: 403}},
		"an older one": {handler: flagz(404, ""), want: snapshot.APIServer{Problem: "the API server does not serve /flagz as JSON, as it does since 1.36", Anonymous: 403, Nobodys: 403, Told: 403}},
		"another kind": {handler: flagz(200, `{"kind": "Status"}`), want: snapshot.APIServer{Problem: "the API server does not serve /flagz as JSON, as it does since 1.36", Anonymous: 403, Nobodys: 403, Told: 403}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := server(t, tc.handler)
			m := &snapshot.Management{APIServer: tc.before}
			for n := range tc.servers {
				m.Interfaces = append(m.Interfaces, snapshot.Interface{Role: snapshot.RoleAPIServer, Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), 6443)})
			}
			trusting(s).Ask(t.Context(), m)
			if diff := cmp.Diff(tc.want, m.APIServer); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeysOfTokensAreRead(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		status        int
		text, problem string
		want          int
	}{
		"a key":    {200, `{"keys": [{"kty": "RSA", "kid": "a", "n": "AQ", "e": "AQAB"}]}`, "", 1},
		"no right": {403, "secret", "the operator has no right to get /openid/v1/jwks", 0},
		"breaks":   {500, "secret", "the API server does not serve /openid/v1/jwks", 0},
		"nonsense": {200, "<html>secret", "what the API server answers at /openid/v1/jwks holds no keys that can be read", 0},
		"no keys":  {200, `{"keys": []}`, "what the API server answers at /openid/v1/jwks holds no keys that can be read", 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := trusting(server(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/openid/v1/jwks" {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.text)
			}))
			a.Token = func() string { return base64.RawURLEncoding.EncodeToString([]byte(`{"kid": "a"}`)) + ".e30.c2ln" }
			m := &snapshot.Management{}
			a.Ask(t.Context(), m)
			if m.Tokens.Problem != tc.problem || len(m.Tokens.Keys) != tc.want || (tc.want > 0 && !m.Tokens.Keys[0].Signs) {
				t.Errorf("it is %+v", m.Tokens)
			}
		})
	}
}
