// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// mustBeClosed are interfaces that should not be there at all.
var mustBeClosed = map[snapshot.Role]string{
	snapshot.RoleInsecureAPI:     "End what listens there: no supported API server does, so it is a proxy such as kubectl proxy, or something else on that port",
	snapshot.RoleKubeletReadOnly: "Set readOnlyPort: 0 in the kubelet's configuration and restart it, after moving whoever scrapes it to port 10250",
	snapshot.RoleEtcdMetrics:     "Bind etcd's --listen-metrics-urls to 127.0.0.1, or to https",
}

// insecurePortsClosed (4.3; PCI DSS 2.2.7): the ports that serve management in the clear are closed. One that does not answer may be closed,
// or a firewall may be in between, so that others reach it.
func insecurePortsClosed(s Subject, v *verdicts) {
	quiet := readOnlyOff(s)
	for n := range s.Interfaces {
		i := &s.Interfaces[n]
		remedy, closed := mustBeClosed[i.Role]
		if !closed {
			continue
		}
		switch i.Sight.Speech {
		case snapshot.SpeechClosed:
			v.pass(name(i), "nobody listens there")
		case snapshot.SpeechPlain:
			v.fail(pcinetv1alpha1.ReasonPlaintext, name(i), "it answers in the clear", remedy)
		case snapshot.SpeechTLS:
			v.pass(name(i), "what listens there is encrypted")
		case snapshot.SpeechUnreachable:
			if i.Role == snapshot.RoleInsecureAPI || quiet[i.Address.Addr().String()] {
				v.pass(name(i), "it does not answer, and by version or configuration there is none")
				continue
			}
			v.unseen(name(i), "it does not answer the operator", reach)
		default:
			v.unseen(name(i), unseenWhy(i), reach)
		}
	}
}

// reach is what to do about what the operator cannot connect to.
const reach = "Let the operator's pods connect to it: kubectl apply --server-side -k config/management, and an allow.rules entry where its namespace is denied"

// readOnlyOff returns the addresses of the kubelets whose configuration says that there is no read-only port.
func readOnlyOff(s Subject) map[string]bool {
	out := map[string]bool{}
	for _, k := range s.Kubelets {
		out[k.Address.Addr().String()] = k.Config != nil && k.Config.ReadOnlyPort == 0
	}
	return out
}

func unseenWhy(i *snapshot.Interface) string {
	switch i.Sight.Speech {
	case snapshot.SpeechSilent:
		return "it takes connections and answers nothing that could be told"
	case snapshot.SpeechNotDialled:
		return "it was not dialled: " + strings.TrimSuffix(strings.TrimPrefix(i.Sight.Detail, "It is "), ".")
	case snapshot.SpeechUnreachable:
		return "it does not answer the operator"
	default:
		return "it was not looked at"
	}
}

// trafficEncrypted (4.3; PCI DSS 2.2.7, 4.2.1): whatever answers, answers TLS. Who is not there has nothing to encrypt, but an API server
// is somewhere.
func trafficEncrypted(s Subject, v *verdicts) {
	found, beside := false, besideUDP(s)
	for n := range s.Interfaces {
		i := &s.Interfaces[n]
		if _, closed := mustBeClosed[i.Role]; closed {
			continue
		}
		found = found || i.Role == snapshot.RoleAPIServer && i.Sight.Speech != snapshot.SpeechClosed
		switch {
		case i.UDP:
			judgeUDP(v, i, beside[i.Address])
		case i.Sight.Speech == snapshot.SpeechTLS:
			agreed(v, i)
		case i.Sight.Speech == snapshot.SpeechPlain:
			inTheClear(v, i)
		default:
			quiet(v, i)
		}
	}
	if !found {
		v.unseen("API server", "no endpoint of it that listens was found", "See kubectl get endpointslices -n default -l kubernetes.io/service-name=kubernetes")
	}
}

// inTheClear judges what answers so.
func inTheClear(v *verdicts, i *snapshot.Interface) {
	if i.Role == snapshot.RoleAgentHealth {
		v.skip(name(i), "it answers in the clear, and says no more than whether its agent is alive")
		return
	}
	v.fail(pcinetv1alpha1.ReasonPlaintext, name(i), "it answers in the clear", plainRemedy(i))
}

// quiet judges what says nothing.
func quiet(v *verdicts, i *snapshot.Interface) {
	switch {
	case i.Sight.Speech == snapshot.SpeechSilent && i.Mesh != "":
		v.pass(name(i), "it does not answer whoever is outside of its mesh: "+i.Mesh)
	case i.Sight.Speech == snapshot.SpeechClosed:
		v.skip(name(i), "nobody listens there")
	case i.Sight.Speech == snapshot.SpeechUnreachable && (i.Role == snapshot.RoleNetworkAgent || i.Role == snapshot.RoleAgentHealth):
		v.skip(name(i), "it does not answer from here: a firewall is in front, or nobody is there")
	case i.Sight.Speech == snapshot.SpeechUnreachable && expectedUnreachable[i.Role]:
		v.skip(name(i), "it does not answer from here; most bind it to their own host")
	default:
		v.unseen(name(i), unseenWhy(i), reach)
	}
}

// besideUDP returns where nobody listens on a UDP port that a Service lists: Alertmanager gossips on TCP and UDP of one number, with TLS on TCP alone, and
// not at all when it is alone (github.com/prometheus/alertmanager cluster, and the Services of its operator, which always list both).
func besideUDP(s Subject) map[netip.AddrPort]bool {
	out := map[netip.AddrPort]bool{}
	for n := range s.Interfaces {
		if i := &s.Interfaces[n]; !i.UDP && i.System == "Alertmanager" && (i.Sight.Speech == snapshot.SpeechClosed || i.Sight.Speech == snapshot.SpeechTLS) {
			out[i.Address] = true
		}
	}
	return out
}

// judgeUDP judges a UDP port, of which nothing can be seen; unused says that the TCP port of its number shows that nobody uses it.
func judgeUDP(v *verdicts, i *snapshot.Interface, unused bool) {
	if unused {
		v.skip(name(i), "nobody gossips there: on the TCP port of that number nobody listens, or TLS is spoken")
		return
	}
	v.unseen(name(i), "whether a UDP port encrypts cannot be seen", "Have its clients use TCP with TLS, and take the port out of its Service")
}

// agreed judges what speaks TLS by whether a handshake succeeds: one that does not may be for the cipher NULL.
func agreed(v *verdicts, i *snapshot.Interface) {
	if i.Sight.Version == 0 {
		v.unseen(name(i), "it speaks TLS, but no handshake succeeds, so that nobody knows what it agrees on", "Look with openssl s_client")
		return
	}
	v.pass(name(i), "it speaks TLS")
	v.with(map[string]string{
		"tlsVersion": tls.VersionName(i.Sight.Version), "cipherSuite": tls.CipherSuiteName(i.Sight.Cipher), "clientCertificate": string(i.Sight.ClientCertificate),
	})
}

// expectedUnreachable are interfaces that should answer their own host alone, or have no fixed port.
var expectedUnreachable = map[snapshot.Role]bool{
	snapshot.RoleScheduler: true, snapshot.RoleControllerManager: true, snapshot.RoleKonnectivity: true, snapshot.RoleEtcd: true,
}

func plainRemedy(i *snapshot.Interface) string {
	if i.Mesh != "" {
		return "See why its pods are outside of the mesh, although " + i.Mesh
	}
	switch i.Role {
	case snapshot.RoleEtcd:
		return "Start etcd with https in --listen-client-urls and --listen-peer-urls, and with --client-cert-auth"
	case snapshot.RoleNetworkAgent:
		return "Turn it off in the network plugin's settings, bind it to 127.0.0.1, or give it TLS"
	case snapshot.RoleSupporting:
		return "Turn on TLS in " + i.System + ", and in whoever asks it"
	default:
		return "Give it a certificate and turn off its plain listener"
	}
}

// spoken calls f with every interface that speaks TLS. Those that should be closed are left to insecurePortsClosed.
func spoken(s Subject, f func(i *snapshot.Interface)) {
	for n := range s.Interfaces {
		if i := &s.Interfaces[n]; i.Sight.Speech == snapshot.SpeechTLS {
			f(i)
		}
	}
}

// MinimumTLS returns the oldest acceptable version, as crypto/tls numbers them.
func MinimumTLS(e *pcinetv1alpha1.ManagementEncryption) uint16 {
	if e.MinimumTLSVersion == pcinetv1alpha1.TLSVersion13 {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// strongVersions (4.3; PCI DSS 4.2.1, 12.3.3): nothing older than the minimum is accepted, and no cipher that is broken.
func strongVersions(s Subject, v *verdicts) {
	minimum := MinimumTLS(s.Encryption)
	spoken(s, func(i *snapshot.Interface) {
		sight := &i.Sight
		switch {
		case sight.Old == snapshot.Accepted, sight.Version != 0 && sight.Version < minimum:
			v.fail(pcinetv1alpha1.ReasonTLSTooOld, name(i), "it accepts versions below TLS "+string(s.Encryption.MinimumTLSVersion), minimumRemedy(i, minimum))
		case sight.Weak == snapshot.Accepted:
			v.fail(pcinetv1alpha1.ReasonTLSTooOld, name(i), "it accepts RC4 or triple DES", "Limit its cipher suites to those with AES-GCM or ChaCha20")
		case sight.Version == 0:
			v.unseen(name(i), "no handshake succeeds, so that nobody knows what it accepts", "Look with openssl s_client")
		case sight.Old == "" || sight.Weak == "":
			v.unseen(name(i), "whether it accepts old versions or weak ciphers could not be told in time", "Nothing: it is asked again within the hour")
		default:
			v.pass(name(i), "it accepts nothing below TLS "+string(s.Encryption.MinimumTLSVersion))
		}
	})
}

func minimumRemedy(i *snapshot.Interface, minimum uint16) string {
	flag := "VersionTLS12"
	if minimum == tls.VersionTLS13 {
		flag = "VersionTLS13"
	}
	switch i.Role {
	case snapshot.RoleAPIServer, snapshot.RoleScheduler, snapshot.RoleControllerManager:
		return "Start it with --tls-min-version=" + flag
	case snapshot.RoleKubelet:
		return "Set tlsMinVersion: " + flag + " in the kubelet's configuration"
	case snapshot.RoleEtcd:
		return "Start etcd with --tls-min-version=" + strings.Replace(flag, "VersionTLS1", "TLS1.", 1)
	default:
		return "Raise the lowest version that it accepts"
	}
}

// The smallest keys that NIST SP 800-57 takes for 112 bits of strength.
const (
	minRSA = 2048
	minEC  = 224
)

// certificatesFit (4.3; PCI DSS 3.7.1, 3.7.4, 3.7.5, 4.2.1): the certificates that were sent and those that clients trust are valid, strong
// enough, and not used for longer than their cryptoperiod.
func certificatesFit(s Subject, v *verdicts) {
	spoken(s, func(i *snapshot.Interface) {
		if len(i.Sight.Chain) == 0 {
			v.unseen(name(i), "no certificate was seen: no handshake succeeds", "Look with openssl s_client")
			return
		}
		s.certificate(v, name(i), &i.Sight.Chain[0])
	})
	for n := range s.Callees {
		c := &s.Callees[n]
		if c.Unparsed {
			v.fail(pcinetv1alpha1.ReasonCertificateUnfit, c.Object, "a part of its caBundle is no certificate", "Correct its caBundle")
		}
		for b := range c.Bundle {
			s.authority(v, c.Object, "its caBundle", &c.Bundle[b])
		}
	}
	if s.AuthoritiesUnread {
		v.unseen("The cluster's own authority", "a part of kube-root-ca.crt cannot be read, or is no certificate", "See kubectl get configmap kube-root-ca.crt -o yaml in the operator's namespace")
	}
	for n := range s.Authorities {
		s.authority(v, "The cluster's own authority", "kube-root-ca.crt", &s.Authorities[n])
	}
}

// weak says whether a key is too small. One of no bits is of a kind that nobody knows here, as DSA.
func weak(kind string, bits int) bool {
	return (kind == "RSA" && bits < minRSA) || (kind == "ECDSA" && bits < minEC)
}

// authority judges a certificate that clients find in some place. Its age is told and has no limit: authorities are meant to outlive what they issue, and
// their end is their own.
func (s Subject) authority(v *verdicts, subject, place string, c *snapshot.Certificate) {
	replace := "Add the authority that takes its place to " + place + ", have it issue what is served, then remove this one"
	which := fmt.Sprintf(place+" holds %s, of %s, %s with %d bits", c.Subject, date(c.NotBefore), c.KeyType, c.KeyBits)
	switch {
	case !s.Now.Before(c.NotAfter):
		v.fail(pcinetv1alpha1.ReasonCertificateUnfit, subject, place+" holds an authority that has expired: "+c.Subject, "Remove it from "+place)
	case s.Now.Before(c.NotBefore):
		v.warn(pcinetv1alpha1.ReasonCertificateUnfit, subject, which+", which is not valid yet", "Nothing, if it is to take another's place")
	case c.KeyBits == 0:
		v.unseen(subject, which+", of a kind that is not known", "Look at it with openssl x509")
	case weak(c.KeyType, c.KeyBits):
		v.fail(pcinetv1alpha1.ReasonCertificateUnfit, subject, which+", which is too small", replace)
	case c.NotAfter.Sub(s.Now) < s.notice(c):
		v.warn(pcinetv1alpha1.ReasonCertificateUnfit, subject, which+", which expires on "+date(c.NotAfter), replace)
	default:
		v.pass(subject, which+", which is valid until "+date(c.NotAfter))
	}
	v.describe(c)
	v.with(map[string]string{"certificateSHA256": c.SHA256, "keySHA256": c.SPKI})
}

// describe adds to the last finding what certificate it is about.
func (v *verdicts) describe(c *snapshot.Certificate) {
	v.with(map[string]string{
		"keyType": c.KeyType, "keyBits": strconv.Itoa(c.KeyBits),
		"certificateFrom": c.NotBefore.UTC().Format(time.RFC3339), "certificateUntil": c.NotAfter.UTC().Format(time.RFC3339),
	})
}

// notice is how long before its end a certificate is warned of. One that lives for a day, as those of meshes, is renewed by a program: it
// is late when a third of its life is left.
func (s Subject) notice(c *snapshot.Certificate) time.Duration {
	return min(time.Duration(s.Encryption.CertificateNoticeDays)*day, c.NotAfter.Sub(c.NotBefore)/3)
}

// certificate judges one serving certificate.
func (s Subject) certificate(v *verdicts, subject string, c *snapshot.Certificate) {
	age := time.Duration(s.Encryption.MaxCertificateAgeDays) * day
	notice := s.notice(c)
	const renew = "Issue a new certificate with a new key"
	bad := func(evidence string) { v.fail(pcinetv1alpha1.ReasonCertificateUnfit, subject, evidence, renew) }
	switch {
	case !s.Now.Before(c.NotAfter):
		bad("its certificate has expired")
	case s.Now.Before(c.NotBefore):
		bad("its certificate is not valid yet")
	case c.KeyBits == 0:
		v.unseen(subject, "its key is of a kind that is not known", "Look with openssl s_client")
	case weak(c.KeyType, c.KeyBits):
		bad(fmt.Sprintf("its key is too small: %s with %d bits", c.KeyType, c.KeyBits))
	case strings.Contains(c.Signature, "SHA1") || strings.Contains(c.Signature, "MD5"):
		bad("its certificate is signed with " + c.Signature)
	case s.Now.Sub(c.NotBefore) > age:
		bad(fmt.Sprintf("its certificate is more than %d days old", s.Encryption.MaxCertificateAgeDays))
	case c.NotAfter.Sub(s.Now) < notice:
		v.warn(pcinetv1alpha1.ReasonCertificateUnfit, subject, "its certificate expires on "+c.NotAfter.UTC().Format(time.DateOnly), renew)
	case s.Now.Sub(c.NotBefore) > age-notice:
		v.warn(pcinetv1alpha1.ReasonCertificateUnfit, subject, "its certificate will soon be older than its cryptoperiod", renew)
	default:
		v.pass(subject, "its certificate is valid, strong enough and not too old")
	}
	v.describe(c)
}
