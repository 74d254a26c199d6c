// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/management"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const day = 24 * time.Hour

var today = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// good is what a sound endpoint shows.
func good(address string) snapshot.Sight {
	return snapshot.Sight{
		Address: netip.MustParseAddrPort(address), Speech: snapshot.SpeechTLS, Version: tls.VersionTLS13,
		Old: snapshot.TurnedDown, Weak: snapshot.TurnedDown,
		Chain: []snapshot.Certificate{{
			Subject: "CN=x", NotBefore: today.Add(-100 * day), NotAfter: today.Add(200 * day), KeyType: "ECDSA", KeyBits: 256, Signature: "ECDSA-SHA256",
		}},
	}
}

func closed(address string) snapshot.Sight {
	return snapshot.Sight{Address: netip.MustParseAddrPort(address), Speech: snapshot.SpeechClosed}
}

// The interfaces of sound, by their place.
const (
	apiServer = iota
	insecure
	kubelet
	readOnly
	etcd
	etcdMetrics
	webhook
	grafana
)

// sound returns a cluster in which nothing is wrong.
func sound() management.Subject {
	add := func(out []snapshot.Interface, role snapshot.Role, object string, s snapshot.Sight) []snapshot.Interface {
		i := snapshot.Interface{Address: s.Address, Role: role, Object: object, Sight: s}
		switch role {
		case snapshot.RoleAPIServer, snapshot.RoleKubelet:
			i.ClusterRoots = true
		case snapshot.RoleWebhook:
			i.Roots = "PEM"
		case snapshot.RoleEtcd:
			i.Sight.ClientCertificate = snapshot.ClientCertificateRequired
		case snapshot.RoleSupporting:
			i.System = "Grafana"
		default:
		}
		return append(out, i)
	}
	var interfaces []snapshot.Interface
	interfaces = add(interfaces, snapshot.RoleAPIServer, "Service default/kubernetes", good("10.0.0.1:6443"))
	interfaces = add(interfaces, snapshot.RoleInsecureAPI, "Node cp", closed("10.0.0.1:8080"))
	interfaces = add(interfaces, snapshot.RoleKubelet, "Node n1", good("10.0.0.2:10250"))
	interfaces = add(interfaces, snapshot.RoleKubeletReadOnly, "Node n1", closed("10.0.0.2:10255"))
	interfaces = add(interfaces, snapshot.RoleEtcd, "Node cp", good("10.0.0.1:2379"))
	interfaces = add(interfaces, snapshot.RoleEtcdMetrics, "Node cp", closed("10.0.0.1:2381"))
	interfaces = add(interfaces, snapshot.RoleWebhook, "ValidatingWebhookConfiguration w, w.example.com", good("10.1.0.3:9443"))
	interfaces = add(interfaces, snapshot.RoleSupporting, "Service monitoring/grafana", good("10.1.0.4:3000"))
	return management.Subject{
		Management: snapshot.Management{
			Interfaces: interfaces,
			Doors: []snapshot.Door{{
				Object: "Service monitoring/grafana", System: "Grafana", Kind: "LoadBalancer", Ranges: []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25")},
			}},
			Callees:  []snapshot.Callee{{Object: "ValidatingWebhookConfiguration w, w.example.com", Service: "ops/w", Bundle: []snapshot.Certificate{soundCA()}}},
			Kubelets: []snapshot.Kubelet{{Node: "Node n1", Address: netip.MustParseAddrPort("10.0.0.2:10250"), Anonymous: 401, Config: soundKubelet()}},
			APIServer: snapshot.APIServer{Anonymous: 401, Settings: []snapshot.Settings{{Source: "/flagz", Flags: map[string]string{
				"authorization-mode": "[Node,RBAC]", "kubelet-certificate-authority": "/pki/ca.crt",
				"etcd-servers": "[https://10.0.0.1:2379]", "etcd-cafile": "/pki/etcd/ca.crt", "etcd-certfile": "/pki/apiserver-etcd-client.crt",
			}}}},
			Tokens:  snapshot.Tokens{Keys: []snapshot.TokenKey{{ID: "k1", KeyType: "RSA", KeyBits: 2048, SPKI: "s1", Signs: true}}},
			Network: snapshot.NodeEncryption{State: snapshot.Encrypted, How: "WireGuard", Says: "FelixConfiguration default sets wireguardEnabled"},
		},
		Access: &pcinetv1alpha1.ManagementAccess{
			AllowedCIDRs: []pcinetv1alpha1.AllowedCIDR{{CIDR: "192.0.2.0/25"}, {CIDR: "192.0.2.128/25"}},
			Attestation: pcinetv1alpha1.Attestation{
				By: "ciso", At: metav1.NewTime(today.Add(-day)), Until: metav1.NewTime(today.Add(day)), Evidence: "https://wiki.example.com/x",
			},
		},
		Encryption: &pcinetv1alpha1.ManagementEncryption{MinimumTLSVersion: "1.2", MaxCertificateAgeDays: 366, CertificateNoticeDays: 30},
		Now:        today,

		EgressDenied: true,
	}
}

func soundCA() snapshot.Certificate {
	return snapshot.Certificate{Subject: "CN=ca", NotBefore: today.Add(-2000 * day), NotAfter: today.Add(30 * day), KeyType: "RSA", KeyBits: 2048}
}

func soundKubelet() *snapshot.KubeletConfig {
	return &snapshot.KubeletConfig{Webhook: true, Authorization: "Webhook", RotateCertificates: true, ServerTLSBootstrap: true}
}

// wrong returns what is not a pass or skip, as "check result reason: subject: evidence".
func wrong(s management.Subject) []string {
	var out []string
	for _, f := range management.Run(s) {
		if f.Result != checks.Pass && f.Result != checks.Skip {
			out = append(out, fmt.Sprintf("%s %s %s: %s: %s", f.Check, f.Result, f.Reason, f.Subject, f.Evidence))
		}
	}
	return out
}

func TestChecks(t *testing.T) {
	t.Parallel()
	leaf := func(change func(*snapshot.Certificate)) func(*management.Subject) {
		return func(s *management.Subject) { change(&s.Interfaces[grafana].Sight.Chain[0]) }
	}
	speech := func(place int, speech snapshot.Speech) func(*management.Subject) {
		return func(s *management.Subject) {
			s.Interfaces[place].Sight = snapshot.Sight{Address: s.Interfaces[place].Address, Speech: speech}
		}
	}
	config := func(change func(*snapshot.KubeletConfig)) func(*management.Subject) {
		return func(s *management.Subject) { change(s.Kubelets[0].Config) }
	}
	flag := func(name, value string) func(*management.Subject) {
		return func(s *management.Subject) { s.APIServer.Settings[0].Flags[name] = value }
	}
	gossip := func(system string, tcp snapshot.Speech) func(*management.Subject) {
		return func(s *management.Subject) {
			s.Interfaces[grafana].System = system
			udp := s.Interfaces[grafana]
			udp.UDP, udp.Sight = true, snapshot.Sight{}
			if tcp != snapshot.SpeechTLS {
				speech(grafana, tcp)(s)
			}
			s.Interfaces = append(s.Interfaces, udp)
		}
	}
	byFile := func(s *management.Subject) {
		flag("authorization-mode", "")(s)
		flag("authorization-config", "/etc/a.yaml")(s)
	}
	clients := func(what snapshot.ClientCertificate) func(*management.Subject) {
		return func(s *management.Subject) { s.Interfaces[etcd].Sight.ClientCertificate = what }
	}
	const (
		graf = "Grafana 10.1.0.4:3000 (Service monitoring/grafana): "
		node = "kubelet of Node n1: "
		api  = "API server: "
		one  = "API server (/flagz): "
		door = "Service monitoring/grafana: it leads to Grafana by LoadBalancer "
	)
	cases := map[string]struct {
		change func(*management.Subject)
		want   []string
	}{
		"a sound cluster": {change: func(*management.Subject) {}},

		"a list that could not be read is an error of both sections": {
			func(s *management.Subject) {
				s.Gaps = []snapshot.Gap{{What: "The list of services", Why: "no right", Remedy: "Grant it"}}
			},
			[]string{
				"EverythingRead error ManagementNotObservable: The list of services: no right",
				"EverythingRead error ManagementNotObservable: The list of services: no right",
			},
		},

		"what could not be read and holds nothing is a warning": {
			func(s *management.Subject) {
				s.Gaps = []snapshot.Gap{{What: "ServiceMonitor a/b", Why: "it is not understood", Minor: true}}
			},
			[]string{
				"EverythingRead warn ManagementNotObservable: ServiceMonitor a/b: it is not understood",
				"EverythingRead warn ManagementNotObservable: ServiceMonitor a/b: it is not understood",
			},
		},

		"what interfaces speak that were not looked at is an error of encryption alone": {
			func(s *management.Subject) {
				s.Gaps = []snapshot.Gap{{What: "The Services from a/b on, by name", Why: "there are too many", Traffic: true}}
			},
			[]string{
				"EverythingRead error ManagementNotObservable: The Services from a/b on, by name: there are too many",
				"EverythingRead warn ManagementNotObservable: The Services from a/b on, by name: there are too many",
			},
		},

		"a Service that is declared and not there": {
			func(s *management.Subject) {
				s.Absent = []string{"a/b", "c/d"}
				s.Encryption.SupportingSystems = []pcinetv1alpha1.SupportingSystem{{Namespace: "a", Service: "b"}, {Namespace: "e", Service: "f"}}
			},
			[]string{"EverythingRead error ManagementNotObservable: Service a/b: spec.managementEncryption.supportingSystems has it, and the list of Services does not"},
		},
		"a load balancer for everybody": {
			func(s *management.Subject) { s.Doors[0].Ranges = nil },
			[]string{"ConsolesRestricted fail ConsoleExposed: Service monitoring/grafana: it leads to Grafana by LoadBalancer and lets in everybody who can reach it"},
		},
		"an internal load balancer for everybody": {
			func(s *management.Subject) { s.Doors[0].Ranges, s.Doors[0].Internal = nil, true },
			[]string{"ConsolesRestricted error ManagementNotObservable: Service monitoring/grafana: it leads to Grafana by LoadBalancer with an internal load balancer, and lets in everybody who can reach that"},
		},
		"a load balancer for more than is allowed": {
			func(s *management.Subject) {
				s.Doors[0].Ranges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.0/23")}
			},
			[]string{"ConsolesRestricted fail ConsoleExposed: Service monitoring/grafana: it leads to Grafana by LoadBalancer and lets in 192.0.3.0/24, which spec.managementAccess.allowedCIDRs does not"},
		},
		"a load balancer for two allowed halves": {
			change: func(s *management.Subject) { s.Doors[0].Ranges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} },
		},
		"a load balancer with node ports beside it": {
			func(s *management.Subject) { s.Doors[0].NodePorts = []uint16{30123} },
			[]string{"ConsolesRestricted warn ManagementNotObservable: " + door + "for allowed addresses alone, and by its node ports for everybody who reaches a node"},
		},
		"an Ingress by an annotation": {
			func(s *management.Subject) { s.Doors[0].Kind, s.Doors[0].By = "Ingress", "nginx.org/allow-list" },
			[]string{"ConsolesRestricted warn ManagementNotObservable: Service monitoring/grafana: it leads to Grafana by Ingress for allowed addresses alone, if its controller heeds nginx.org/allow-list"},
		},
		"an API server on the Internet": {
			func(s *management.Subject) {
				s.Interfaces[apiServer].Address = netip.MustParseAddrPort("203.0.113.7:443")
			},
			[]string{"APIServerPrivate warn ManagementNotObservable: API server 203.0.113.7:443 (Service default/kubernetes): its address is one of the Internet"},
		},
		"an API server whose certificate is for what is in front of it": {
			func(s *management.Subject) {
				s.ServerNames = []string{"kubernetes", "api.example.com", "api.internal", "10.96.0.1", "203.0.113.9", "nobody.example.com"}
				s.Public = map[string]bool{"api.example.com": true, "api.internal": false}
			},
			[]string{
				"APIServerPrivate warn ManagementNotObservable: API server api.example.com: its certificate is for this name, which has an address of the Internet",
				"APIServerPrivate warn ManagementNotObservable: API server 203.0.113.9: its certificate is for this address, which is one of the Internet",
			},
		},
		"a pod that is not on the list reaches an etcd and kubelets": {
			func(s *management.Subject) { s.Vantage = netip.MustParseAddr("10.4.1.7") },
			[]string{
				"ClosedToPods warn ManagementNotObservable: Every etcd: 10.0.0.1:2379: it answers the operator's pod 10.4.1.7, which spec.managementAccess.allowedCIDRs does not hold",
				"ClosedToPods warn ManagementNotObservable: Every kubelet: 10.0.0.2:10250: it answers the operator's pod 10.4.1.7, which spec.managementAccess.allowedCIDRs does not hold",
			},
		},
		"a pod that is not on the list, and reaches nobody": {change: func(s *management.Subject) {
			s.Vantage = netip.MustParseAddr("10.4.1.7")
			s.Interfaces = slices.Delete(s.Interfaces, kubelet, kubelet+1)
			speech(etcd-1, snapshot.SpeechUnreachable)(s)
		}},
		"a pod that is on the list": {change: func(s *management.Subject) { s.Vantage = netip.MustParseAddr("192.0.2.7") }},
		"an API server in a provider's shared space": {
			change: func(s *management.Subject) {
				s.Interfaces[apiServer].Address = netip.MustParseAddrPort("100.64.0.7:443")
			},
		},
		"an API server on a private IPv6 address": {
			change: func(s *management.Subject) {
				s.Interfaces[apiServer].Address = netip.MustParseAddrPort("[fd00::7]:443")
			},
		},
		"a node port": {
			func(s *management.Subject) {
				s.Doors[0] = snapshot.Door{Object: "Service a/b", System: "Loki", Kind: "NodePort"}
			},
			[]string{"ConsolesRestricted fail ConsoleExposed: Service a/b: it leads to Loki by NodePort and lets in everybody who can reach it"},
		},
		"ranges with no allow-list": {
			func(s *management.Subject) { s.Access.AllowedCIDRs = nil },
			[]string{
				"ConsolesRestricted error ManagementNotObservable: Service monitoring/grafana: it leads to Grafana by LoadBalancer for some addresses, and there is no allow-list to compare them with",
				"AccessDeclared error AccessNotDeclared: spec.managementAccess: there is no allow-list",
			},
		},
		"a host that answers the members of its mesh alone": {
			change: func(s *management.Subject) {
				s.Interfaces[grafana].Sight = snapshot.Sight{Address: s.Interfaces[grafana].Address, Speech: snapshot.SpeechSilent}
				s.Interfaces[grafana].Mesh = "PeerAuthentication istio-system/default is STRICT"
			},
		},
		"a host that does not answer although its mesh is strict": {
			func(s *management.Subject) {
				s.Interfaces[grafana].Sight = snapshot.Sight{Address: s.Interfaces[grafana].Address, Speech: snapshot.SpeechUnreachable}
				s.Interfaces[grafana].Mesh = "PeerAuthentication istio-system/default is STRICT"
			},
			[]string{"TrafficEncrypted error ManagementNotObservable: " + graf + "it does not answer the operator"},
		},
		"a host outside of its namespace's mesh": {
			func(s *management.Subject) {
				s.Interfaces[grafana].Sight = snapshot.Sight{Address: s.Interfaces[grafana].Address, Speech: snapshot.SpeechPlain}
				s.Interfaces[grafana].Mesh = "PeerAuthentication istio-system/default is STRICT"
			},
			[]string{"TrafficEncrypted fail Plaintext: " + graf + "it answers in the clear"},
		},
		"a certificate of a mesh, for a day": {
			change: leaf(func(c *snapshot.Certificate) {
				c.NotBefore, c.NotAfter = today.Add(-8*time.Hour), today.Add(16*time.Hour)
			}),
		},
		"a certificate of a mesh, of which too little is left": {
			leaf(func(c *snapshot.Certificate) {
				c.NotBefore, c.NotAfter = today.Add(-20*time.Hour), today.Add(4*time.Hour)
			}),
			[]string{"CertificatesFit warn CertificateUnfit: " + graf + "its certificate expires on 2026-07-01"},
		},
		"whoever Prometheus scrapes, unverified": {
			func(s *management.Subject) {
				s.Callees = append(s.Callees, snapshot.Callee{Object: "ServiceMonitor shop/orders", Caller: "Prometheus", Unverified: true})
			},
			[]string{"PeersVerified fail PeerUnverified: ServiceMonitor shop/orders: insecureSkipVerify is set, so Prometheus talks to whoever answers"},
		},
		"a node that sends in the clear": {
			func(s *management.Subject) {
				s.Network.State, s.Network.Clear = snapshot.EncryptedPartly, []string{"n1", "n2", "n3", "n4"}
			},
			[]string{"NodeTrafficEncrypted warn Plaintext: Pod traffic between nodes: it is encrypted by WireGuard (FelixConfiguration default sets wireguardEnabled), but not from and to n1, n2, n3 and 1 more"},
		},
		"nodes that send in the clear": {
			func(s *management.Subject) {
				s.Network = snapshot.NodeEncryption{State: snapshot.Unencrypted, Says: "Flannel's backend is vxlan"}
			},
			[]string{"NodeTrafficEncrypted warn Plaintext: Pod traffic between nodes: it is not encrypted: Flannel's backend is vxlan"},
		},
		"a plugin whose settings could not be read": {
			func(s *management.Subject) {
				s.Network = snapshot.NodeEncryption{Unread: true, Says: "FelixConfiguration cannot be read: no right"}
			},
			[]string{"NodeTrafficEncrypted warn ManagementNotObservable: Pod traffic between nodes: whether it is encrypted is not known: FelixConfiguration cannot be read: no right"},
		},
		"nodes of which nothing is known": {change: func(s *management.Subject) { s.Network = snapshot.NodeEncryption{} }},
		"nobody attests": {
			func(s *management.Subject) { s.Access.Attestation = pcinetv1alpha1.Attestation{} },
			[]string{"AccessDeclared error ManagementNotObservable: Who can reach the API server from outside: no object of the cluster shows it"},
		},
		"an attestation that ends now": {
			func(s *management.Subject) { s.Access.Attestation.Until = metav1.NewTime(today) },
			[]string{"AccessDeclared error AttestationExpired: Who can reach the API server from outside: the attestation of ciso has expired"},
		},
		"an attestation of tomorrow": {
			func(s *management.Subject) { s.Access.Attestation.At = metav1.NewTime(today.Add(time.Hour)) },
			[]string{"AccessDeclared error AttestationExpired: Who can reach the API server from outside: the attestation of ciso is dated in the future"},
		},

		"an insecure API port": {
			speech(insecure, snapshot.SpeechPlain),
			[]string{"InsecurePortsClosed fail Plaintext: insecure API port 10.0.0.1:8080 (Node cp): it answers in the clear"},
		},
		"an insecure API port behind a firewall is none by version": {change: speech(insecure, snapshot.SpeechUnreachable)},
		"a port 8080 that says nothing": {
			speech(insecure, snapshot.SpeechSilent),
			[]string{"InsecurePortsClosed error ManagementNotObservable: insecure API port 10.0.0.1:8080 (Node cp): it takes connections and answers nothing that could be told"},
		},
		"a read-only port": {
			speech(readOnly, snapshot.SpeechPlain),
			[]string{"InsecurePortsClosed fail Plaintext: read-only kubelet port 10.0.0.2:10255 (Node n1): it answers in the clear"},
		},
		"a read-only port that does not answer and is configured off": {change: speech(readOnly, snapshot.SpeechUnreachable)},
		"a read-only port that does not answer and is configured on": {
			func(s *management.Subject) {
				speech(readOnly, snapshot.SpeechUnreachable)(s)
				s.Kubelets[0].Config.ReadOnlyPort = 10255
			},
			[]string{
				"KubeletSettings fail Plaintext: kubelet of Node n1: readOnlyPort is set",
				"InsecurePortsClosed error ManagementNotObservable: read-only kubelet port 10.0.0.2:10255 (Node n1): it does not answer the operator",
			},
		},
		"etcd's metrics beyond their host": {
			speech(etcdMetrics, snapshot.SpeechPlain),
			[]string{"InsecurePortsClosed fail Plaintext: etcd metrics 10.0.0.1:2381 (Node cp): it answers in the clear"},
		},
		"etcd's metrics behind a firewall": {
			speech(etcdMetrics, snapshot.SpeechUnreachable),
			[]string{"InsecurePortsClosed error ManagementNotObservable: etcd metrics 10.0.0.1:2381 (Node cp): it does not answer the operator"},
		},

		"an etcd in the clear": {
			speech(etcd, snapshot.SpeechPlain),
			[]string{"TrafficEncrypted fail Plaintext: etcd 10.0.0.1:2379 (Node cp): it answers in the clear"},
		},
		"an etcd that takes whoever comes": {
			clients(snapshot.ClientCertificateIgnored),
			[]string{"PeersVerified fail AnonymousAccess: etcd 10.0.0.1:2379 (Node cp): it requires no certificate of its clients"},
		},
		"an etcd that takes whoever shows no certificate": {
			clients(snapshot.ClientCertificateOptional),
			[]string{"PeersVerified fail AnonymousAccess: etcd 10.0.0.1:2379 (Node cp): it requires no certificate of its clients"},
		},
		"an etcd of which that could not be told": {
			clients(""),
			[]string{"PeersVerified error ManagementNotObservable: etcd 10.0.0.1:2379 (Node cp): whether it requires a certificate of its clients could not be told"},
		},
		"an etcd that a firewall hides": {change: speech(etcd, snapshot.SpeechUnreachable)},
		"a supporting system in the clear": {
			speech(grafana, snapshot.SpeechPlain),
			[]string{"TrafficEncrypted fail Plaintext: " + graf + "it answers in the clear"},
		},
		"a supporting system out of reach": {
			speech(grafana, snapshot.SpeechUnreachable),
			[]string{"TrafficEncrypted error ManagementNotObservable: " + graf + "it does not answer the operator"},
		},
		"a supporting system that is not there": {change: speech(grafana, snapshot.SpeechClosed)},
		"a supporting system on UDP": {
			func(s *management.Subject) {
				s.Interfaces[grafana].UDP, s.Interfaces[grafana].Sight = true, snapshot.Sight{}
			},
			[]string{"TrafficEncrypted error ManagementNotObservable: Grafana 10.1.0.4:3000/UDP (Service monitoring/grafana): whether a UDP port encrypts cannot be seen"},
		},
		"TLS beside UDP says nothing of it": {
			gossip("Fluentd", snapshot.SpeechTLS),
			[]string{"TrafficEncrypted error ManagementNotObservable: Fluentd 10.1.0.4:3000/UDP (Service monitoring/grafana): whether a UDP port encrypts cannot be seen"},
		},
		"an Alertmanager that is alone":         {change: gossip("Alertmanager", snapshot.SpeechClosed)},
		"an Alertmanager that gossips over TLS": {change: gossip("Alertmanager", snapshot.SpeechTLS)},
		"an Alertmanager that gossips": {
			gossip("Alertmanager", snapshot.SpeechSilent),
			[]string{
				"TrafficEncrypted error ManagementNotObservable: Alertmanager 10.1.0.4:3000 (Service monitoring/grafana): it takes connections and answers nothing that could be told",
				"TrafficEncrypted error ManagementNotObservable: Alertmanager 10.1.0.4:3000/UDP (Service monitoring/grafana): whether a UDP port encrypts cannot be seen",
			},
		},
		"a server with ciphers that nobody offers": {
			func(s *management.Subject) {
				s.Interfaces[grafana].Sight.Version, s.Interfaces[grafana].Sight.Chain = 0, nil
			},
			[]string{
				"TrafficEncrypted error ManagementNotObservable: " + graf + "it speaks TLS, but no handshake succeeds, so that nobody knows what it agrees on",
				"StrongVersions error ManagementNotObservable: " + graf + "no handshake succeeds, so that nobody knows what it accepts",
				"CertificatesFit error ManagementNotObservable: " + graf + "no certificate was seen: no handshake succeeds",
			},
		},
		"an API server that nobody has looked at": {
			func(s *management.Subject) { s.Interfaces[apiServer].Sight = snapshot.Sight{} },
			[]string{"TrafficEncrypted error ManagementNotObservable: API server 10.0.0.1:6443 (Service default/kubernetes): it was not looked at"},
		},

		"no API server is found": {
			func(s *management.Subject) { s.Interfaces = slices.Delete(s.Interfaces, apiServer, apiServer+1) },
			[]string{"TrafficEncrypted error ManagementNotObservable: API server: no endpoint of it that listens was found"},
		},
		"nobody listens where the API server should": {
			speech(apiServer, snapshot.SpeechClosed),
			[]string{"TrafficEncrypted error ManagementNotObservable: API server: no endpoint of it that listens was found"},
		},

		"an API server that takes TLS 1.1": {
			func(s *management.Subject) { s.Interfaces[apiServer].Sight.Old = snapshot.Accepted },
			[]string{"StrongVersions fail TLSTooOld: API server 10.0.0.1:6443 (Service default/kubernetes): it accepts versions below TLS 1.2"},
		},
		"TLS 1.2 where 1.3 is asked for": {
			func(s *management.Subject) {
				s.Encryption.MinimumTLSVersion = "1.3"
				s.Interfaces[kubelet].Sight.Version = tls.VersionTLS12
			},
			[]string{"StrongVersions fail TLSTooOld: kubelet 10.0.0.2:10250 (Node n1): it accepts versions below TLS 1.3"},
		},
		"a broken cipher": {
			func(s *management.Subject) { s.Interfaces[grafana].Sight.Weak = snapshot.Accepted },
			[]string{"StrongVersions fail TLSTooOld: " + graf + "it accepts RC4 or triple DES"},
		},
		"a server too slow to say what it takes": {
			func(s *management.Subject) { s.Interfaces[grafana].Sight.Old = "" },
			[]string{"StrongVersions error ManagementNotObservable: " + graf + "whether it accepts old versions or weak ciphers could not be told in time"},
		},

		"no certificate": {
			func(s *management.Subject) { s.Interfaces[grafana].Sight.Chain = nil },
			[]string{"CertificatesFit error ManagementNotObservable: " + graf + "no certificate was seen: no handshake succeeds"},
		},
		"an expired certificate": {
			leaf(func(c *snapshot.Certificate) { c.NotAfter = today }),
			[]string{"CertificatesFit fail CertificateUnfit: " + graf + "its certificate has expired"},
		},
		"an expired certificate is not trusted either, which is said once": {
			func(s *management.Subject) {
				s.Interfaces[webhook].Sight.Chain[0].NotAfter, s.Interfaces[webhook].Sight.Untrusted = today, "it has expired, or is not valid yet"
			},
			[]string{"CertificatesFit fail CertificateUnfit: webhook 10.1.0.3:9443 (ValidatingWebhookConfiguration w, w.example.com): its certificate has expired"},
		},
		"a certificate of tomorrow": {
			leaf(func(c *snapshot.Certificate) { c.NotBefore = today.Add(time.Second) }),
			[]string{"CertificatesFit fail CertificateUnfit: " + graf + "its certificate is not valid yet"},
		},
		"a small RSA key": {
			leaf(func(c *snapshot.Certificate) { c.KeyType, c.KeyBits = "RSA", 1024 }),
			[]string{"CertificatesFit fail CertificateUnfit: " + graf + "its key is too small: RSA with 1024 bits"},
		},
		"an RSA key that is just large enough": {change: leaf(func(c *snapshot.Certificate) { c.KeyType, c.KeyBits = "RSA", 2048 })},
		"a key of no known kind": {
			leaf(func(c *snapshot.Certificate) { c.KeyType, c.KeyBits = "unknown", 0 }),
			[]string{"CertificatesFit error ManagementNotObservable: " + graf + "its key is of a kind that is not known"},
		},
		"an Ed25519 key": {change: leaf(func(c *snapshot.Certificate) { c.KeyType = "Ed25519" })},
		"a SHA-1 signature": {
			leaf(func(c *snapshot.Certificate) { c.Signature = "SHA1-RSA" }),
			[]string{"CertificatesFit fail CertificateUnfit: " + graf + "its certificate is signed with SHA1-RSA"},
		},
		"a certificate beyond its cryptoperiod": {
			leaf(func(c *snapshot.Certificate) { c.NotBefore = today.Add(-367 * day) }),
			[]string{"CertificatesFit fail CertificateUnfit: " + graf + "its certificate is more than 366 days old"},
		},
		"a certificate near the end of its cryptoperiod": {
			leaf(func(c *snapshot.Certificate) { c.NotBefore = today.Add(-340 * day) }),
			[]string{"CertificatesFit warn CertificateUnfit: " + graf + "its certificate will soon be older than its cryptoperiod"},
		},
		"a certificate near its end": {
			leaf(func(c *snapshot.Certificate) { c.NotAfter = today.Add(29 * day) }),
			[]string{"CertificatesFit warn CertificateUnfit: " + graf + "its certificate expires on 2026-07-30"},
		},
		"an expired authority in a bundle": {
			func(s *management.Subject) { s.Callees[0].Bundle[0].NotAfter = today },
			[]string{"CertificatesFit fail CertificateUnfit: ValidatingWebhookConfiguration w, w.example.com: its caBundle holds an authority that has expired: CN=ca"},
		},
		"an authority in a bundle with a key of no known kind": {
			func(s *management.Subject) { s.Callees[0].Bundle[0].KeyType, s.Callees[0].Bundle[0].KeyBits = "DSA", 0 },
			[]string{"CertificatesFit error ManagementNotObservable: ValidatingWebhookConfiguration w, w.example.com: its caBundle holds CN=ca, of 2021-01-08, DSA with 0 bits, of a kind that is not known"},
		},
		"an authority in a bundle that will soon end": {
			func(s *management.Subject) { s.Callees[0].Bundle[0].NotAfter = today.Add(30*day - time.Second) },
			[]string{"CertificatesFit warn CertificateUnfit: ValidatingWebhookConfiguration w, w.example.com: its caBundle holds CN=ca, of 2021-01-08, RSA with 2048 bits, which expires on 2026-07-31"},
		},
		"an authority in a bundle for later": {
			func(s *management.Subject) { s.Callees[0].Bundle[0].NotBefore = today.Add(time.Second) },
			[]string{"CertificatesFit warn CertificateUnfit: ValidatingWebhookConfiguration w, w.example.com: its caBundle holds CN=ca, of 2026-07-01, RSA with 2048 bits, which is not valid yet"},
		},
		"an authority in a bundle with a small key, beside a sound one": {
			func(s *management.Subject) {
				s.Callees[0].Bundle[0].KeyBits = 1024
				s.Callees[0].Bundle = append(s.Callees[0].Bundle, soundCA())
			},
			[]string{"CertificatesFit fail CertificateUnfit: ValidatingWebhookConfiguration w, w.example.com: its caBundle holds CN=ca, of 2021-01-08, RSA with 1024 bits, which is too small"},
		},
		"a small key of tokens": {
			func(s *management.Subject) { s.Tokens.Keys[0].KeyBits = 2047 },
			[]string{"TokenKeysFit fail TokenKeyUnfit: service account key k1: it is too small: RSA with 2047 bits"},
		},
		"a key of tokens of no known kind": {
			func(s *management.Subject) { s.Tokens.Keys[0].KeyType, s.Tokens.Keys[0].KeyBits = "OKP", 0 },
			[]string{"TokenKeysFit error ManagementNotObservable: service account key k1: its kind is not known, or it is damaged"},
		},
		"keys of tokens that could not be read": {
			func(s *management.Subject) { s.Tokens = snapshot.Tokens{Problem: "the API server does not answer"} },
			[]string{"TokenKeysFit error ManagementNotObservable: service account keys: they could not be read: the API server does not answer"},
		},
		"a bundle that is none": {
			func(s *management.Subject) { s.Callees[0].Bundle, s.Callees[0].Unparsed = nil, true },
			[]string{"CertificatesFit fail CertificateUnfit: ValidatingWebhookConfiguration w, w.example.com: a part of its caBundle is no certificate"},
		},

		"an APIService that is not verified": {
			func(s *management.Subject) { s.Callees[0] = snapshot.Callee{Object: "APIService x", Unverified: true} },
			[]string{"PeersVerified fail PeerUnverified: APIService x: insecureSkipTLSVerify is set, so the API server talks to whoever answers"},
		},
		"a webhook without a bundle": {
			func(s *management.Subject) { s.Callees[0].Bundle = nil },
			[]string{"PeersVerified warn PeerUnverified: ValidatingWebhookConfiguration w, w.example.com: it has no caBundle, so any authority that the API server's host trusts can speak for it"},
		},
		"a webhook by plain HTTP": {
			func(s *management.Subject) { s.Callees[0].URL = "http://x.example.com" },
			[]string{"PeersVerified fail Plaintext: ValidatingWebhookConfiguration w, w.example.com: its URL is not https"},
		},
		"a webhook with another's certificate": {
			func(s *management.Subject) { s.Interfaces[webhook].Sight.Untrusted = "it is not for w.ops.svc" },
			[]string{"PeersVerified fail PeerUnverified: webhook 10.1.0.3:9443 (ValidatingWebhookConfiguration w, w.example.com): its certificate is none that its clients trust: it is not for w.ops.svc"},
		},
		"a kubelet with a certificate of its own": {
			func(s *management.Subject) {
				s.Interfaces[kubelet].Sight.Untrusted = "it was issued by nobody expected"
			},
			[]string{"PeersVerified warn PeerUnverified: kubelet 10.0.0.2:10250 (Node n1): the cluster's authority does not vouch for its certificate: it was issued by nobody expected"},
		},
		"trust is not asked of a supporting system": {
			change: func(s *management.Subject) { s.Interfaces[grafana].Sight.Untrusted = "no root is expected of it" },
		},

		"an API server open to everybody": {
			func(s *management.Subject) { s.APIServer.Anonymous = 200 },
			[]string{"APIServerSettings fail AnonymousAccess: " + api + "it shows nodes to everybody, without credentials"},
		},
		"an API server that knows nobody": {
			func(s *management.Subject) { s.APIServer.Anonymous = 403 },
			[]string{"APIServerSettings warn AnonymousAccess: " + api + "it takes requests without credentials, and does not show nodes to them"},
		},
		"an API server that did not answer": {
			func(s *management.Subject) { s.APIServer.Anonymous = 0 },
			[]string{"APIServerSettings error ManagementNotObservable: " + api + "what it shows without credentials could not be seen"},
		},
		"flags that may not be read": {
			func(s *management.Subject) { s.APIServer.Settings, s.APIServer.Problem = nil, "no right" },
			[]string{"APIServerSettings error ManagementNotObservable: " + api + "its settings could not be read: no right"},
		},
		"an API server that asks nobody": {
			flag("authorization-mode", "[AlwaysAllow]"),
			[]string{"APIServerSettings fail AnonymousAccess: " + one + "--authorization-mode holds AlwaysAllow"},
		},
		"an API server that was not told whom to ask": {
			flag("authorization-mode", ""),
			[]string{"APIServerSettings fail AnonymousAccess: " + one + "--authorization-mode is not set, which means AlwaysAllow"},
		},
		"an API server that asks whom a file says": {
			byFile, []string{"APIServerSettings error ManagementNotObservable: " + one + "who decides what anybody may do is in the file of --authorization-config, and nobody was seen to be refused"},
		},
		"an API server that asks whom a file says, and refuses the operator something": {
			change: func(s *management.Subject) { byFile(s); s.APIServer.Nobodys = 403 },
		},
		"an API server whose command line is not understood": {
			flag("etcd-servers", ""),
			[]string{"APIServerSettings error ManagementNotObservable: " + one + "its settings are not understood: --etcd-servers is not among them"},
		},
		"an API server that asks whom a file says, and refuses": {
			func(s *management.Subject) { byFile(s); s.APIServer.Anonymous = 403 },
			[]string{"APIServerSettings warn AnonymousAccess: " + api + "it takes requests without credentials, and does not show nodes to them"},
		},
		"two API servers, of which one refuses, and the other asks whom a file says": {
			func(s *management.Subject) {
				s.APIServer.Anonymous = 403
				flags := maps.Clone(s.APIServer.Settings[0].Flags)
				flags["authorization-mode"], flags["authorization-config"] = "", "/etc/a.yaml"
				s.APIServer.Settings = append(s.APIServer.Settings, snapshot.Settings{Source: "Pod kube-system/b", Flags: flags})
				s.APIServer.Several = true
			},
			[]string{
				"APIServerSettings warn AnonymousAccess: " + api + "it takes requests without credentials, and does not show nodes to them",
				"APIServerSettings warn ManagementNotObservable: API server (Pod kube-system/b): who decides what anybody may do is in the file of --authorization-config, and it may have been another API server that refuses",
			},
		},
		"an API server that does not verify kubelets": {
			flag("kubelet-certificate-authority", ""),
			[]string{"APIServerSettings fail PeerUnverified: " + one + "--kubelet-certificate-authority is not set, so it sends logs and commands to whoever answers for a kubelet"},
		},
		"etcd in the clear, elsewhere": {
			flag("etcd-servers", "[https://10.0.0.1:2379,http://10.0.0.9:2379]"),
			[]string{"APIServerSettings fail Plaintext: " + one + "it talks to etcd in the clear: --etcd-servers has http"},
		},
		"etcd in the clear, on its own host": {
			flag("etcd-servers", "http://127.0.0.1:2379"),
			[]string{"APIServerSettings warn Plaintext: " + one + "it talks to etcd in the clear, on its own host"},
		},
		"etcd that anybody can speak for": {
			flag("etcd-cafile", ""),
			[]string{"APIServerSettings warn PeerUnverified: " + one + "it talks to etcd over TLS, and --etcd-cafile is not set, so any authority that its host trusts can speak for etcd"},
		},
		"etcd that does not know the API server": {
			flag("etcd-certfile", ""),
			[]string{"APIServerSettings warn AnonymousAccess: " + one + "it talks to etcd over TLS without a certificate of its own"},
		},
		"kine's socket": {
			flag("etcd-servers", "unix://kine.sock"),
			[]string{"APIServerSettings warn Plaintext: " + one + "it talks to etcd in the clear, on its own host"},
		},

		"a kubelet open to everybody": {
			func(s *management.Subject) { s.Kubelets[0].Anonymous = 200 },
			[]string{"KubeletSettings fail AnonymousAccess: " + node + "it shows its configuration to everybody, without credentials"},
		},
		"a kubelet that knows nobody": {
			func(s *management.Subject) { s.Kubelets[0].Anonymous = 403 },
			[]string{"KubeletSettings fail AnonymousAccess: " + node + "it takes requests without credentials"},
		},
		"a kubelet that was not asked": {
			func(s *management.Subject) {
				s.Kubelets[0].Anonymous, s.Kubelets[0].Config, s.Kubelets[0].Problem = 0, nil, "the operator has no right to get nodes/configz"
			},
			[]string{
				"KubeletSettings error ManagementNotObservable: " + node + "what it shows without credentials could not be seen",
				"KubeletSettings error ManagementNotObservable: " + node + "its configuration could not be read: the operator has no right to get nodes/configz",
			},
		},
		"a kubelet with the defaults of flags": {
			config(func(c *snapshot.KubeletConfig) {
				*c = snapshot.KubeletConfig{ReadOnlyPort: 10255, Anonymous: true, Authorization: "AlwaysAllow", TLSMinVersion: "VersionTLS11"}
			}),
			[]string{
				"KubeletSettings fail Plaintext: " + node + "readOnlyPort is set",
				"KubeletSettings fail AnonymousAccess: " + node + "authentication.anonymous is enabled",
				"KubeletSettings fail AnonymousAccess: " + node + "authentication.webhook is not enabled",
				"KubeletSettings fail AnonymousAccess: " + node + "authorization.mode is not Webhook",
				"KubeletSettings fail TLSTooOld: " + node + "tlsMinVersion is VersionTLS11",
				"KubeletSettings fail CertificateUnfit: " + node + "rotateCertificates is off, so its client certificate is not renewed",
				"KubeletSettings warn CertificateUnfit: " + node + "it does not renew its serving certificate, which is its own or that of a file",
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := sound()
			tc.change(&s)
			if diff := cmp.Diff(tc.want, wrong(s)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

// What is not declared is not judged, and every finding says what to do or that nothing is wrong.
func TestFindings(t *testing.T) {
	t.Parallel()
	s := sound()
	s.Access = nil
	for _, f := range management.Run(s) {
		if f.Clause != management.Encryption {
			t.Errorf("%s is judged although nobody asks for it", f.Clause)
		}
	}
	s = sound()
	s.Encryption = nil
	for _, f := range management.Run(s) {
		if f.Clause != management.Access {
			t.Errorf("%s is judged although nobody asks for it", f.Clause)
		}
	}
	s.Doors[0].Ranges = nil
	want := "Service monitoring/grafana: it leads to Grafana by LoadBalancer and lets in everybody who can reach it. " +
		"Limit it to spec.managementAccess.allowedCIDRs: kubectl edit service -n monitoring grafana, spec.loadBalancerSourceRanges."
	if diff := cmp.Diff(want, management.Run(s)[0].Message()); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// What a condition has no room for is in reports: what was agreed on, which certificate, and everybody who is let in too many.
func TestProperties(t *testing.T) {
	t.Parallel()
	s := sound()
	s.Cloud = &snapshot.ControlPlane{Cluster: eksCluster, Entrances: []snapshot.Entrance{open("192.0.2.0/24", "198.51.100.0/24", "203.0.113.7/32")}}
	s.Interfaces[etcd].Sight.Cipher = tls.TLS_AES_128_GCM_SHA256
	const etcds = "etcd 10.0.0.1:2379 (Node cp)"
	want := map[string]map[string]string{
		"ControlPlaneRestricted" + eksCluster.String() + ", public endpoint": {"surplus": "198.51.100.0/24, 203.0.113.7/32"},
		"TrafficEncrypted" + etcds: {"tlsVersion": "TLS 1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256", "clientCertificate": "Required"},
		"CertificatesFit" + etcds:  {"keyType": "ECDSA", "keyBits": "256", "certificateFrom": "2026-03-23T12:00:00Z", "certificateUntil": "2027-01-17T12:00:00Z"},
	}
	got := map[string]map[string]string{}
	for _, f := range management.Run(s) {
		if key := f.Check + f.Subject; want[key] != nil {
			got[key] = f.Properties
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
}
