// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package contact_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/pcinetwork/pci-network-baseline/internal/probe/contact"
)

// server answers as an API server does, with a code for /readyz and one for each log, by its pod.
func server(t *testing.T, ready int, logs map[string]int) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" || !strings.HasPrefix(r.TLS.ServerName, "kubernetes.default") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		code := ready
		if r.URL.Path != "/readyz" {
			code = logs[strings.Split(r.URL.Path, "/")[6]]
		}
		if code == 0 { // silence
			<-r.Context().Done()
			return
		}
		w.WriteHeader(code)
	}))
	s.StartTLS()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

func TestLook(t *testing.T) {
	t.Parallel()
	pods := []contact.Pod{{"a", "p1", "c", "n1"}, {"a", "p2", "c", "n2"}}
	looker := &contact.Looker{Config: &rest.Config{Host: "https://nowhere.invalid", BearerToken: "token", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}}
	both := map[string]int{"p1": 200, "p2": 200}
	good := server(t, 200, both)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := netip.MustParseAddrPort(listener.Addr().String())
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		servers []netip.AddrPort
		pods    []contact.Pod
		want    string // an address is %s
	}{
		"everybody answers":              {[]netip.AddrPort{good, server(t, 200, both)}, pods, ""},
		"an API server is away":          {[]netip.AddrPort{good, closed}, pods, "the API server at %s does not answer the operator"},
		"an API server has lost etcd":    {[]netip.AddrPort{good, server(t, 500, both)}, pods, "the API server at %s is not ready: /readyz says 500"},
		"a kubelet is cut off":           {[]netip.AddrPort{good, server(t, 200, map[string]int{"p1": 200, "p2": 502})}, pods, "the API server at %s does not reach the kubelet of node n2"},
		"a kubelet is silent":            {[]netip.AddrPort{good, server(t, 200, map[string]int{"p1": 200})}, pods, "the API server at %s does not reach the kubelet of node n2"},
		"a right is missing":             {[]netip.AddrPort{good, server(t, 200, map[string]int{"p1": 403, "p2": 403})}, pods, "the operator may not get pods/log in a"},
		"no right at all":                {[]netip.AddrPort{good, server(t, 200, map[string]int{"p1": 401, "p2": 200})}, pods, "the API server at %s says 401 of a log in a"},
		"a pod has just gone":            {[]netip.AddrPort{server(t, 200, map[string]int{"p1": 404, "p2": 200})}, pods, ""},
		"every pod has just gone":        {[]netip.AddrPort{server(t, 200, map[string]int{"p1": 404, "p2": 400})}, pods, "no API server, or no pod of the operator's by which a kubelet could be seen, is known"},
		"nobody to ask":                  {nil, pods, "no API server, or no pod of the operator's by which a kubelet could be seen, is known"},
		"nobody by whom to see kubelets": {[]netip.AddrPort{good}, nil, "no API server, or no pod of the operator's by which a kubelet could be seen, is known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			_, err := looker.Look(t.Context(), tc.servers, tc.pods)
			want := tc.want
			if strings.Contains(want, "%s") {
				want = fmt.Sprintf(want, tc.servers[len(tc.servers)-1])
			}
			if got := fmt.Sprint(err); (err != nil || want != "") && got != want {
				t.Errorf("%s, want %s", got, want)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}
