// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package deadman_test lets dead men take back policies on a real API server, with the rights of config/hostfirewall, or of enforce in it,
// and no others.
package deadman_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	repoRoot  = "../.."
	namespace = "pci-network-baseline-hosts"
	account   = "dead-man"
	trial     = "host-firewall-trial" // the policy that the role names
	patience  = time.Minute
)

// site is a control plane with the kind of a policy for nodes.
type site struct {
	client.Client

	cluster *cluster.Cluster
	server  netip.AddrPort
	man     *rest.Config // of a dead man's account
}

const definition = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ciliumclusterwidenetworkpolicies.cilium.io}
spec:
  group: cilium.io
  scope: Cluster
  names: {kind: CiliumClusterwideNetworkPolicy, plural: ciliumclusterwidenetworkpolicies, singular: ciliumclusterwidenetworkpolicy}
  versions:
    - {name: v2, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

// newSite applies a folder of config.
func newSite(t *testing.T, folder string) *site {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Options{Dir: t.TempDir(), Assets: cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS"))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	s := &site{cluster: c}
	if s.Client, err = client.New(c.Config(), client.Options{}); err != nil {
		t.Fatal(err)
	}
	crd := filepath.Join(t.TempDir(), "crd.yaml")
	if err := os.WriteFile(crd, []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"apply", "--server-side", "-f", crd},
		{"wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"},
		{"apply", "--server-side", "-f", filepath.Join(repoRoot, "config", "manager", "namespace.yaml")},
		{"apply", "--server-side", "-k", filepath.Join(repoRoot, "config", folder)},
	} {
		if _, err := c.Run(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	token := &authenticationv1.TokenRequest{}
	of := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	if err := s.SubResource("token").Create(t.Context(), of, token); err != nil {
		t.Fatal(err)
	}
	s.man = &rest.Config{
		Host: c.ServerURL(), BearerToken: token.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: c.CAData()},
		QPS: -1, // as main.go has it
	}
	u, err := url.Parse(c.ServerURL())
	if err != nil {
		t.Fatal(err)
	}
	s.server = netip.MustParseAddrPort(u.Host)
	return s
}

func policy(name string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": map[string]any{"name": name},
	}}
}

// place creates a policy, which goes with the test.
func (s *site) place(t *testing.T, name string) {
	t.Helper()
	p := policy(name)
	if err := s.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(s.Delete(context.WithoutCancel(t.Context()), p)); err != nil {
			t.Error(err)
		}
	})
}

func (s *site) exists(t *testing.T, name string) bool {
	t.Helper()
	return s.has(t, policy(name))
}

func (s *site) has(t *testing.T, p *unstructured.Unstructured) bool {
	t.Helper()
	err := s.Get(t.Context(), client.ObjectKeyFromObject(p), p)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

// arm returns a man who is armed.
func (s *site) arm(t *testing.T, config *rest.Config, after time.Duration, servers ...netip.AddrPort) *deadman.Man {
	t.Helper()
	m, err := deadman.New(config, deadman.Options{Engine: "cilium", Policy: trial, After: after, Servers: servers})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// gate carries connections to the API server while it is open.
type gate struct {
	netip.AddrPort

	mu   sync.Mutex
	open bool
}

func newGate(t *testing.T, to netip.AddrPort) *gate {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	g := &gate{AddrPort: netip.MustParseAddrPort(listener.Addr().String()), open: true}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go g.carry(conn, to)
		}
	}()
	return g
}

func (g *gate) set(open bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = open
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// carry stops carrying, and answers nothing, as soon as the gate is shut: as a firewall does.
func (g *gate) carry(conn net.Conn, to netip.AddrPort) {
	defer func() { _ = conn.Close() }()
	peer, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", to.String())
	if err != nil {
		return
	}
	defer func() { _ = peer.Close() }()
	done := make(chan struct{}, 2)
	for from, into := range map[net.Conn]net.Conn{conn: peer, peer: conn} {
		go func() {
			defer func() { done <- struct{}{} }()
			buffer := make([]byte, 1<<15)
			for {
				n, err := from.Read(buffer)
				if !g.isOpen() {
					_, _ = io.Copy(io.Discard, from)
					return
				}
				if _, werr := into.Write(buffer[:n]); err != nil || werr != nil {
					return
				}
			}
		}()
	}
	<-done
}

func TestDeadMan(t *testing.T) {
	s := newSite(t, "hostfirewall")

	t.Run("he takes the policy back, and no other", func(t *testing.T) {
		const after = 2 * time.Second
		m := s.arm(t, s.man, after, s.server)
		s.place(t, trial)
		s.place(t, "somebody-elses")
		began := time.Now()
		if err := m.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < after || took > after+patience {
			t.Errorf("after %s", took)
		}
		if s.exists(t, trial) || !s.exists(t, "somebody-elses") {
			t.Error("the wrong one is gone")
		}
	})
	t.Run("who can end him keeps the policy", func(t *testing.T) {
		m := s.arm(t, s.man, time.Second)
		s.place(t, trial)
		ctx, end := context.WithCancel(t.Context())
		end()
		if err := m.Wait(ctx); err == nil { // or the kubelet would not bring back one who was drained
			t.Error("he ended well")
		}
		if time.Sleep(2 * time.Second); !s.exists(t, trial) {
			t.Error("it is gone")
		}
	})
	t.Run("with the nearest API server cut off, he goes to another", func(t *testing.T) {
		near := newGate(t, s.server)
		m := s.arm(t, s.man, time.Second, near.AddrPort)
		s.place(t, trial)
		near.set(false)
		if err := m.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.exists(t, trial) {
			t.Error("it is still there")
		}
	})
	t.Run("with every API server cut off, he goes on until one is back", func(t *testing.T) {
		only := newGate(t, s.server)
		m := s.arm(t, deadman.Toward(s.man, only.AddrPort), time.Second)
		s.place(t, trial)
		only.set(false)
		done := make(chan error, 1)
		go func() { done <- m.Wait(t.Context()) }()
		select {
		case err := <-done:
			t.Fatalf("he gave up: %v", err)
		case <-time.After(6 * time.Second):
		}
		if !s.exists(t, trial) {
			t.Fatal("the gate let something through")
		}
		only.set(true)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if s.exists(t, trial) {
			t.Error("it is still there")
		}
	})
	t.Run("a second policy of the name is taken back too", func(t *testing.T) {
		m := s.arm(t, s.man, time.Second)
		s.place(t, trial)
		go func() { // a person who tries again meanwhile
			p := policy(trial)
			_ = s.Delete(t.Context(), p)
			_ = s.Create(t.Context(), policy(trial))
		}()
		if err := m.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.exists(t, trial) {
			t.Error("it is still there")
		}
	})
}

// He is armed only if he could do it.
func TestNotArmed(t *testing.T) {
	s := newSite(t, "hostfirewall")
	nobody := newGate(t, s.server)
	nobody.set(false)
	stranger := rest.CopyConfig(s.man)
	stranger.BearerToken = "x"
	cases := map[string]struct {
		config *rest.Config
		opts   deadman.Options
		want   func(error) bool
	}{
		"another policy": {s.man, deadman.Options{Engine: "cilium", Policy: "somebody-elses"}, apierrors.IsForbidden},
		"another engine": {s.man, deadman.Options{Engine: "calico", Policy: trial}, apierrors.IsForbidden},
		"a kind that the API server does not have, whoever asks": {
			s.cluster.Config(),
			deadman.Options{Engine: "calico", Policy: trial},
			func(err error) bool { return apierrors.IsNotFound(err) && strings.Contains(err.Error(), "not armed") },
		},
		"no right": {stranger, deadman.Options{Engine: "cilium", Policy: trial}, apierrors.IsUnauthorized},
		"the nearest API server does not answer": {
			s.man,
			deadman.Options{Engine: "cilium", Policy: trial, Servers: []netip.AddrPort{nobody.AddrPort}},
			func(err error) bool { return strings.Contains(fmt.Sprint(err), "not armed") },
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			m, err := deadman.New(tc.config, tc.opts)
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Check(t.Context()); !tc.want(err) {
				t.Errorf("%v", err)
			}
		})
	}
	for name, args := range map[string]string{
		"no engine":         "--policy=x",
		"no policy":         "--engine=cilium",
		"an engine of none": "--engine=x --policy=x",
		"too soon":          "--engine=cilium --policy=x --after=1s",
		"too late":          "--engine=cilium --policy=x --after=2h",
		"more than flags":   "--engine=cilium --policy=x y",
		"no address":        "--engine=cilium --policy=x --server=n1",
		"a node to wait on": "--engine=cilium --policy=x --node=n1",
		"a limit to wait":   "--engine=cilium --policy=x --limit=5m",

		"on guard without a node":        "--engine=cilium --policy=x --guard=ns",
		"on guard without a namespace":   "--engine=cilium --policy=x --guard= --node=n1",
		"on guard on a node of no name":  "--engine=cilium --policy=x --guard=ns --node=",
		"on guard, and waiting once":     "--engine=cilium --policy=x --guard=ns --node=n1 --after=5m",
		"on guard, and too soon silent":  "--engine=cilium --policy=x --guard=ns --node=n1 --limit=29s",
		"on guard, and too long patient": "--engine=cilium --policy=x --guard=ns --node=n1 --limit=61m",
	} {
		t.Run(name, func(t *testing.T) {
			err := deadman.Main(t.Context(), strings.Fields(args), func(string) (*rest.Config, error) { return s.man, nil })
			if err == nil || strings.Contains(err.Error(), "armed") {
				t.Errorf("%v", err)
			}
		})
	}
}

// The image is the operator's: a release that names one names both.
func TestImage(t *testing.T) {
	var tags []string
	for _, dir := range []string{"manager", "hostfirewall", "hostfirewall/enforce"} {
		text, err := os.ReadFile(filepath.Join(repoRoot, "config", dir, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		_, image, found := strings.Cut(string(text), "\nimages:\n")
		if !found {
			t.Fatalf("%s names no image", dir)
		}
		tags = append(tags, image)
	}
	if len(slices.Compact(tags)) > 1 {
		t.Errorf("%s", tags)
	}
}
