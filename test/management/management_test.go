// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/cluster"
)

var controlPlane = map[string]string{"node-role.kubernetes.io/control-plane": ""}

// service creates a Service, namespace/name, with one endpoint, which is a pod.
func (s *site) service(t *testing.T, key string, kind corev1.ServiceType, endpoint string) *corev1.Service {
	t.Helper()
	var meta metav1.ObjectMeta
	meta.Namespace, meta.Name, _ = strings.Cut(key, "/")
	at := netip.MustParseAddrPort(endpoint)
	err := s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: meta.Namespace}})
	if client.IgnoreAlreadyExists(err) != nil {
		t.Fatal(err)
	}
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{{Name: "web", Port: 443}}}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: *meta.DeepCopy(), AddressType: discoveryv1.AddressTypeIPv4,
		Ports:     []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(at.Port())), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{at.Addr().String()}}},
	}
	slice.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
	for _, o := range []client.Object{service, slice} {
		if err := s.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	s.pod(t, key, at.Addr().String(), "{}", "containers: [{name: app, image: x}]")
	return service
}

// webhook registers one that nothing is ever sent to.
func (s *site) webhook(t *testing.T, name, service string, bundle []byte) {
	t.Helper()
	w := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: name}, Webhooks: []admissionregistrationv1.ValidatingWebhook{{
		Name: name + ".example.com", SideEffects: new(admissionregistrationv1.SideEffectClassNone), AdmissionReviewVersions: []string{"v1"},
		ClientConfig: admissionregistrationv1.WebhookClientConfig{
			Service: &admissionregistrationv1.ServiceReference{Namespace: "hooks", Name: service}, CABundle: bundle,
		},
	}}}
	if err := s.Create(t.Context(), w); err != nil {
		t.Fatal(err)
	}
}

// etcd runs a real etcd at an address until the test ends: one that is sound, or one that takes whoever comes, and peers in the clear.
func (s *site) etcd(t *testing.T, address string, sound bool) {
	t.Helper()
	dir, as := t.TempDir(), s.issued(t, "etcd", address)
	for name, data := range map[string][]byte{"cert": as.cert, "key": as.key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args, scheme := []string{"--cert-file=" + filepath.Join(dir, "cert"), "--key-file=" + filepath.Join(dir, "key")}, "http"
	if sound {
		scheme = "https"
		args = append(args, "--peer-cert-file="+filepath.Join(dir, "cert"), "--peer-key-file="+filepath.Join(dir, "key"))
		for _, of := range []string{"", "peer-"} {
			args = append(args, "--"+of+"client-cert-auth", "--"+of+"trusted-ca-file="+s.cluster.PKI("ca.crt"))
		}
	}
	clients, peers := fmt.Sprintf("https://%s:2379", address), fmt.Sprintf("%s://%s:2380", scheme, address)
	command := exec.Command(filepath.Join(cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")), "etcd"), append(args, //nolint:noctx // until the test's end
		"--name=x", "--data-dir="+filepath.Join(dir, "data"), "--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=x="+peers, "--log-level=fatal", "--unsafe-no-fsync")...)
	if err := s.cluster.Spawn(command); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	awaitListener(t, address+":2379")
}

// component runs a part of the control plane that listens at an address, with a certificate that it makes itself, until the test ends. It never
// leads, for want of a Lease, and so does nothing else.
func (s *site) component(t *testing.T, program, address string) {
	t.Helper()
	host, port, _ := strings.Cut(address, ":")
	command := exec.Command(filepath.Join(cluster.Assets(repoRoot, os.Getenv("KUBEBUILDER_ASSETS")), program), //nolint:noctx // until the test's end
		"--bind-address="+host, "--secure-port="+port, "--cert-dir="+t.TempDir(), "--kubeconfig="+s.cluster.Kubeconfig(), "--leader-elect-resource-namespace=none")
	if err := s.cluster.Spawn(command); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_ = command.Wait()
	})
	awaitListener(t, address)
}

func ask(access bool) func(*pcinetv1alpha1.PCINetworkBaselineSpec) {
	return func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
		spec.ManagementEncryption = &pcinetv1alpha1.ManagementEncryption{
			MinimumTLSVersion: "1.2", MaxCertificateAgeDays: 398, CertificateNoticeDays: 2,
			SupportingSystems: []pcinetv1alpha1.SupportingSystem{{Namespace: "shop", Service: "orders-log"}},
		}
		if access {
			spec.ManagementAccess = &pcinetv1alpha1.ManagementAccess{
				AllowedCIDRs: []pcinetv1alpha1.AllowedCIDR{{CIDR: "192.0.2.0/24", Name: "office", Justification: "Administrators work there."}},
				Attestation: pcinetv1alpha1.Attestation{
					By: "ciso", At: metav1.NewTime(time.Now().Add(-time.Hour).Truncate(time.Second)), Until: metav1.NewTime(time.Now().Add(100 * time.Hour).Truncate(time.Second)),
					Evidence: "https://wiki.example.com/x",
				},
			}
		}
	}
}

// TestManagement goes from nobody having asked, over what could not be seen, to True, and to False with what changes.
func TestManagement(t *testing.T) { //nolint:paralleltest // the ports of a control plane are fixed
	s := newSite(t, "10.0.0.1", func(dir string) []string {
		return []string{"--anonymous-auth=false", "--kubelet-certificate-authority=" + filepath.Join(dir, "pki", "ca.crt")}
	})
	k := &kubelet{config: safe()}
	s.node(t, "cp", "10.0.0.1", controlPlane, &kubelet{config: safe()})
	s.node(t, "n1", "10.0.0.2", nil, k)
	s.etcd(t, "10.0.0.1", true)
	s.component(t, "kube-scheduler", "10.0.0.1:10259")
	s.component(t, "kube-controller-manager", "10.0.0.1:10257")
	https(t, "10.0.0.3:9443", s.issued(t, "hook", "hook.hooks.svc"), &tls.Config{MinVersion: tls.VersionTLS12}, http.NotFoundHandler())
	s.service(t, "hooks/hook", corev1.ServiceTypeClusterIP, "10.0.0.3:9443")
	s.webhook(t, "sound", "hook", s.cluster.CAData())
	s.service(t, "monitoring/grafana", corev1.ServiceTypeClusterIP, "10.0.0.3:9443")
	s.operate(t)

	s.declare(t, func(*pcinetv1alpha1.PCINetworkBaselineSpec) {})
	s.await(t, "ManagementTrafficEncrypted=Unknown/NotAssessed: spec.managementEncryption: {}")
	s.await(t, "ManagementAccessRestricted=Unknown/NotAssessed: spec.managementAccess")

	s.declare(t, ask(false))
	s.await(t, "ManagementTrafficEncrypted=Unknown/ManagementNotObservable: Service shop/orders-log: spec.managementEncryption.supportingSystems has it, and the list of Services does not")
	https(t, "10.0.0.3:9444", s.issued(t, "orders", "orders-log.shop.svc"), &tls.Config{MinVersion: tls.VersionTLS12}, http.NotFoundHandler())
	s.service(t, "shop/orders-log", corev1.ServiceTypeClusterIP, "10.0.0.3:9444")
	s.hour(t)
	s.await(t, "ManagementTrafficEncrypted=Unknown/ManagementNotObservable: kubectl apply --server-side -k config/management")

	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "management"))
	s.may(t, true, authorizationv1.ResourceAttributes{Verb: "get", Version: "v1", Resource: "nodes", Subresource: "configz"})
	s.hour(t)
	s.await(t, "ManagementTrafficEncrypted=True/TrafficEncrypted")
	s.await(t, "ManagementAccessRestricted=Unknown/NotAssessed")

	s.declare(t, ask(true))
	b := s.await(t, "ManagementAccessRestricted=True/AccessAttested: attested by ciso, not verified")
	s.await(t, "ManagementTrafficEncrypted=True/TrafficEncrypted")
	time.Sleep(2 * time.Second)
	if again, err := s.status(t); err != nil || again.ResourceVersion != b.ResourceVersion {
		t.Errorf("it was written again although nothing has changed: %v", err)
	}

	open := s.service(t, "logs/loki", corev1.ServiceTypeLoadBalancer, "10.0.0.3:9443")
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) { spec.ManagementEncryption.CertificateNoticeDays = 3 })
	s.await(t, "ManagementAccessRestricted=False/ConsoleExposed: Service logs/loki: it leads to Loki by LoadBalancer and lets in everybody")
	open.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/25"}
	if err := s.Update(t.Context(), open); err != nil {
		t.Fatal(err)
	}
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) { spec.ManagementEncryption.CertificateNoticeDays = 4 })
	s.await(t, "ManagementAccessRestricted=True/AccessAttested")

	s.ingresses(t)
	s.withoutIngresses(t, func() { // is believed the second time
		s.hour(t)
		s.hour(t)
		s.await(t, "ManagementAccessRestricted=Unknown/ManagementNotObservable: no right to list ingresses.networking.k8s.io. Apply the roles of its release")
	})
	s.hour(t)
	s.await(t, "ManagementAccessRestricted=True/AccessAttested")

	s.views(t)
	s.agents(t)
	plain(t, "10.0.0.2:10255")
	s.hour(t)
	s.await(t, "ManagementTrafficEncrypted=False/Plaintext: read-only kubelet port 10.0.0.2:10255 (Node n1)")

	outsideIn(t, s)
	if k.tokens.Load() == 0 {
		t.Error("the kubelet was never asked with a token: this test shows nothing")
	}
}

// ingresses opens doors by Ingresses, to a console and to the API server itself, and closes them.
func (s *site) ingresses(t *testing.T) {
	t.Helper()
	to := func(key, service string, annotations map[string]string) *networkingv1.Ingress {
		namespace, name, _ := strings.Cut(key, "/")
		return &networkingv1.Ingress{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations},
			Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{
				Service: &networkingv1.IngressServiceBackend{Name: service, Port: networkingv1.ServiceBackendPort{Number: 443}},
			}},
		}
	}
	ranges := map[string]string{"nginx.ingress.kubernetes.io/whitelist-source-range": "192.0.2.0/25"}
	for _, tc := range []struct {
		door *networkingv1.Ingress
		want string
	}{
		{to("monitoring/web", "grafana", ranges), "True/AccessAttested"},
		{to("monitoring/open", "grafana", nil), "False/ConsoleExposed: Ingress monitoring/open: it leads to Grafana by Ingress and lets in everybody"},
		{to("default/api", "kubernetes", nil), "False/ConsoleExposed: Ingress default/api: it leads to the API server by Ingress and lets in everybody"},
		{to("shop/shop", "shop", nil), "True/AccessAttested"},
	} {
		if err := s.Create(t.Context(), tc.door); err != nil {
			t.Fatal(err)
		}
		s.hour(t)
		s.await(t, "ManagementAccessRestricted="+tc.want)
		if err := s.Delete(t.Context(), tc.door); err != nil {
			t.Fatal(err)
		}
	}
	s.hour(t)
	s.await(t, "ManagementAccessRestricted=True/AccessAttested")
}

// TestWeaknesses starts everything with the weakness that a check is for, and finds each among the offenders.
func TestWeaknesses(t *testing.T) { //nolint:paralleltest // see above
	var expired string
	s := newSite(t, "10.9.0.1", func(dir string) []string {
		as := signedBySelf(t, time.Now().Add(-time.Hour), "10.9.0.1")
		expired = filepath.Join(dir, "expired")
		for name, data := range map[string][]byte{expired + ".crt": as.cert, expired + ".key": as.key} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(name, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		// The expired certificate is served to those who ask for the name that clients in the cluster use.
		return []string{"--tls-min-version=VersionTLS10", "--tls-sni-cert-key=" + expired + ".crt," + expired + ".key:kubernetes.default.svc", "--anonymous-auth=true"}
	})
	everybody := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "everybody"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "system:unauthenticated"}},
	}
	if err := s.Create(t.Context(), everybody); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "management"))
	legacy := safe()
	legacy.Authentication.Anonymous.Enabled = new(true)
	legacy.Authorization.Mode, legacy.ReadOnlyPort, legacy.RotateCertificates = kubeletAlwaysAllow, 10255, false
	s.node(t, "cp", "10.9.0.1", controlPlane, &kubelet{config: safe(), tls: tls.Config{MinVersion: tls.VersionTLS10}})
	s.node(t, "legacy", "10.9.0.2", nil, &kubelet{config: legacy})
	stranger := &kubelet{config: safe(), selfSigned: true}
	s.node(t, "stranger", "10.9.0.4", nil, stranger)
	s.etcd(t, "10.9.0.1", false)
	plain(t, "10.9.0.1:8080")
	plain(t, "10.9.0.1:2381")
	plain(t, "10.9.0.2:10255")
	plain(t, "10.9.0.3:9090")
	s.service(t, "monitoring/prometheus", corev1.ServiceTypeNodePort, "10.9.0.3:9090")
	plain(t, "10.9.0.3:8000")
	s.service(t, "shop/orders-log", corev1.ServiceTypeClusterIP, "10.9.0.3:8000")
	https(t, "10.9.0.3:9443", signedBySelf(t, time.Now().Add(time.Hour), "10.9.0.3"), &tls.Config{MinVersion: tls.VersionTLS12}, http.NotFoundHandler())
	s.service(t, "hooks/hook", corev1.ServiceTypeClusterIP, "10.9.0.3:9443")
	s.webhook(t, "stranger", "hook", s.cluster.CAData())
	unverified := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": map[string]any{"name": "v1.example.com"},
		"spec": map[string]any{
			"group": "example.com", "version": "v1", "groupPriorityMinimum": int64(100), "versionPriority": int64(100), "insecureSkipTLSVerify": true,
			"service": map[string]any{"namespace": "hooks", "name": "hook"},
		},
	}}
	if err := s.Create(t.Context(), unverified); err != nil {
		t.Fatal(err)
	}
	s.operate(t)
	s.declare(t, ask(true))
	b := s.await(t, "ManagementTrafficEncrypted=False/Plaintext")
	s.await(t, "ManagementAccessRestricted=False/ConsoleExposed")
	s.await(t, "Compliant=False/RequirementsNotMet: ManagementAccessRestricted, ManagementTrafficEncrypted")

	var got []string
	for _, o := range b.Status.Offenders {
		if o.Subject != "" {
			evidence, _, _ := strings.Cut(o.Message, ". ")
			got = append(got, o.Reason+" "+strings.ReplaceAll(o.Subject, s.port(t), "PORT")+": "+evidence)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(weaknesses))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("offenders (-want +got):\n%s", diff)
	}
	if n := s.failed(t); n != len(weaknesses) {
		t.Errorf("metrics count %d findings that fail, want %d: one has no place among the offenders, or none should", n, len(weaknesses))
	}
	s.told(t, "ConsoleExposed", "")
	s.told(t, "Plaintext", "")
	if n := stranger.tokens.Load(); n > 0 {
		t.Errorf("a kubelet that nobody vouches for was given the operator's token %d times", n)
	}
}
