// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/rest"

	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

const (
	operatorNamespace = "pci-network-baseline-system"
	systemNamespace   = metav1.NamespaceSystem

	tokenSeconds = 24 * 60 * 60
)

// site is one fresh control plane for one contender: no kube-controller-manager
// (its service accounts and config maps in every new namespace would compete
// with what is measured), cluster DNS put there by hand, the product installed,
// and n namespaces.
type site struct {
	name       string
	dir        string
	forks      chan<- func()
	cluster    *cluster.Cluster
	admin      *clients
	audit      auditLog
	recorder   *recorder
	namespaces []string // those that existed when the contender started, then those added
}

// newSite starts a control plane and fills it.
func (b *bench) newSite(ctx context.Context, name string, namespaces int) (*site, error) {
	s := &site{name: name, dir: filepath.Join(b.dir, name), forks: b.forks}
	s.audit.path = filepath.Join(s.dir, "audit.log")
	began := now()
	var err error
	s.cluster, err = cluster.Start(ctx, cluster.Options{Dir: s.dir, Assets: b.opts.assets, AuditLog: s.audit.path})
	if err != nil {
		return nil, err
	}
	b.sites = append(b.sites, s)
	if s.admin, err = newClients(s.cluster.Config()); err != nil {
		return nil, err
	}
	if err := s.install(ctx, b.opts.manifests); err != nil {
		return nil, err
	}
	if err := s.addDNS(ctx); err != nil {
		return nil, fmt.Errorf("setting up cluster DNS: %w", err)
	}
	if s.recorder, err = startRecorder(ctx, s.admin); err != nil {
		return nil, err
	}
	started := now()
	if err := s.addNamespaces(ctx, "bench", namespaces); err != nil {
		return nil, err
	}
	if err := s.addForeign(ctx, b.opts.foreign); err != nil {
		return nil, err
	}
	b.result("%s: control plane after %.1f s, %d namespaces after another %.1f s",
		name, started.Sub(began).Seconds(), namespaces, now().Sub(started).Seconds())
	return s, nil
}

// install applies the manifests as a user does and waits until our kinds are served.
func (s *site) install(ctx context.Context, manifests string) error {
	cmd := exec.CommandContext(ctx, s.cluster.Kubectl(), "--kubeconfig", s.cluster.Kubeconfig(), //nolint:gosec // G204: the cluster's own kubectl
		"apply", "--server-side", "-k", manifests)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("installing %s: %w\n%s", manifests, err, out)
	}
	for _, resource := range []string{baselines, coverages} {
		if err := poll(ctx, 30*time.Second, func() error {
			return s.admin.pci.Get().Resource(resource).Do(ctx).Error()
		}); err != nil {
			return fmt.Errorf("waiting for %s to be served: %w", resource, err)
		}
	}
	return nil
}

// addDNS makes what a cluster's DNS add-on leaves behind, without its pods.
func (s *site) addDNS(ctx context.Context) error {
	const name = "kube-dns"
	labels := map[string]string{"k8s-app": name, "kubernetes.io/name": "CoreDNS"}
	ports := []corev1.ServicePort{
		{Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53, TargetPort: intstr.FromInt32(53)},
		{Name: "dns-tcp", Protocol: corev1.ProtocolTCP, Port: 53, TargetPort: intstr.FromInt32(53)},
	}
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"k8s-app": name}, Ports: ports},
	}
	if _, err := s.admin.core.CoreV1().Services(systemNamespace).Create(ctx, service, metav1.CreateOptions{}); err != nil {
		return err
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name + "-bench", Labels: map[string]string{discoveryv1.LabelServiceName: name, "k8s-app": name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.244.0.2"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
			{Addresses: []string{"10.244.0.3"}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}},
		},
	}
	for i := range ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &ports[i].Name, Protocol: &ports[i].Protocol, Port: &ports[i].Port})
	}
	_, err := s.admin.core.DiscoveryV1().EndpointSlices(systemNamespace).Create(ctx, slice, metav1.CreateOptions{})
	return err
}

// addNamespaces creates namespaces PREFIX-00000 and so on, as fast as it goes.
func (s *site) addNamespaces(ctx context.Context, prefix string, count int) error {
	names := numbered(prefix, count)
	s.namespaces = append(s.namespaces, names...)
	return parallel(ctx, count, func(ctx context.Context, i int) error {
		return s.createNamespace(ctx, names[i])
	})
}

func (s *site) createNamespace(ctx context.Context, name string) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   name,
		Labels: map[string]string{"team": "payments", "environment": "production"},
	}}
	_, err := s.admin.core.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	return err
}

// addForeign creates policies of others in every namespace, narrow ones.
func (s *site) addForeign(ctx context.Context, perNamespace int) error {
	return parallel(ctx, perNamespace*len(s.namespaces), func(ctx context.Context, i int) error {
		port := intstr.FromInt32(8080)
		policy := &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%d", i/len(s.namespaces)), Labels: map[string]string{"team": "payments"}},
			Spec: networkingv1.NetworkPolicySpec{
				PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
				PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
				Ingress: []networkingv1.NetworkPolicyIngressRule{{
					From:  []networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "front"}}}},
					Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
				}},
			},
		}
		_, err := s.admin.core.NetworkingV1().NetworkPolicies(s.namespaces[i%len(s.namespaces)]).Create(ctx, policy, metav1.CreateOptions{})
		return err
	})
}

// identity returns a token of a service account, whom authentication and RBAC
// treat like the operator. Cluster administrators may do everything.
func (s *site) identity(ctx context.Context, namespace, account string, admin bool) (string, error) {
	if admin {
		accounts := s.admin.core.CoreV1().ServiceAccounts(namespace)
		if _, err := accounts.Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: account}}, metav1.CreateOptions{}); err != nil {
			return "", err
		}
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: account},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: account}},
		}
		if _, err := s.admin.core.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
			return "", err
		}
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(tokenSeconds))}}
	reply, err := s.admin.core.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, account, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("requesting a token of service account %s/%s: %w", namespace, account, err)
	}
	return reply.Status.Token, nil
}

// tokenConfig authenticates with a token.
func (s *site) tokenConfig(token string) *rest.Config {
	return &rest.Config{Host: s.cluster.ServerURL(), BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: s.cluster.CAData()}}
}

func (s *site) stop() error {
	if s.recorder != nil {
		s.recorder.stop()
	}
	return s.cluster.Stop()
}

// parallel calls f for 0 … count-1 from as many workers as a contender has.
func parallel(ctx context.Context, count int, f func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	next := make(chan int)
	group.Go(func() error {
		defer close(next)
		for i := range count {
			select {
			case next <- i:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			for i := range next {
				if err := f(ctx, i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// poll calls try until it succeeds; the last error is returned when time is up.
func poll(ctx context.Context, limit time.Duration, try func() error) error {
	for deadline := now().Add(limit); ; {
		err := try()
		if err == nil || now().After(deadline) {
			return err
		}
		if err := sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

func numbered(prefix string, count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%05d", prefix, i)
	}
	return names
}
