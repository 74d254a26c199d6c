// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// What the SDKs may use instead of the transport that they are given leads nowhere, and is told; so are goroutines that go on when
// a reading has ended.
func TestMain(m *testing.M) {
	http.DefaultTransport = roundTripper(func(r *http.Request) (*http.Response, error) {
		panic("dialled around the transport: " + r.URL.String())
	})
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(_ context.Context, _, address string) (net.Conn, error) {
		panic("asked a name server: " + address)
	}}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

const (
	tenant       = "7d1b4b2c-0c3e-4b5a-9c4d-5e6f7a8b9c0d"
	subscription = "0f1e2d3c-4b5a-4697-8877-665544332211"
	issuerEKS    = "https://oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF0123456789ABCDEF0123456789"
	issuerGKE    = "https://container.googleapis.com/v1/projects/shop-prod/locations/europe-west3/clusters/main"
	issuerAKS    = "https://westeurope.oic.prod-aks.azure.com/" + tenant + "/9a8b7c6d-0000-4000-8000-000000000001/"

	hostEKS, hostSTS   = "eks.eu-central-1.amazonaws.com", "sts.eu-central-1.amazonaws.com"
	hostAgent          = "169.254.170.23"
	hostGKE            = "container.googleapis.com"
	hostMetadata       = "169.254.169.254"
	hostARM, hostEntra = "management.azure.com", "login.microsoftonline.com"
)

// clusters are what was identified, and what a reading then asks.
var clusters = map[snapshot.Cloud]snapshot.ControlPlane{
	snapshot.EKS: {Cluster: snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "prod", Location: "eu-central-1", Issuer: issuerEKS}},
	snapshot.GKE: {Cluster: snapshot.CloudCluster{Cloud: snapshot.GKE, Name: "main", Location: "europe-west3", Project: "shop-prod", Issuer: issuerGKE}},
	snapshot.AKS: {Cluster: snapshot.CloudCluster{
		Cloud: snapshot.AKS, Name: "prod", Subscription: subscription, ResourceGroup: "shop(eu)",
		Issuer: issuerAKS, NodeResourceGroup: "MC_shop(eu)_prod_westeurope",
	}},
}

// describing is where a cloud describes, and credentials where it hands them out.
var describing = map[snapshot.Cloud]string{snapshot.EKS: hostEKS, snapshot.GKE: hostGKE, snapshot.AKS: hostARM}

var credentials = map[snapshot.Cloud]string{snapshot.EKS: hostSTS, snapshot.GKE: hostMetadata, snapshot.AKS: hostEntra}

// fake is the clouds, on loopback: whatever is dialled arrives there, and is written down.
type fake struct {
	*cloud.Reader

	// tokenFile holds the projected token, of which the clouds accept valid alone.
	tokenFile string

	mu    sync.Mutex
	valid string
	// issued counts credentials. Only the last are good.
	issued int
	dialed map[string]int
	// asked are method and host of requests.
	asked    []string
	handlers map[string]http.HandlerFunc
}

// newFake answers with a description, or as described says.
func newFake(t *testing.T, of snapshot.Cloud, described http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{dialed: map[string]int{}, valid: "token-1", tokenFile: filepath.Join(t.TempDir(), "token")}
	f.rotate(t, "token-1")
	certificate, roots := authority(t, hostEKS, hostSTS, hostGKE, hostARM, hostEntra)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(f.serve))
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that are meant to fail
	secure.StartTLS()
	plain := httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(secure.Close)
	t.Cleanup(plain.Close)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			f.mu.Lock()
			f.dialed[address]++
			f.mu.Unlock()
			to := plain.Listener.Addr().String()
			if strings.HasSuffix(address, ":443") {
				to = secure.Listener.Addr().String()
			}
			return (&net.Dialer{}).DialContext(ctx, network, to)
		},
	}
	f.Reader = &cloud.Reader{Transport: transport, Timeout: 20 * time.Second}
	switch of {
	case snapshot.EKS:
		f.Identity = cloud.Identity{RoleARN: "arn:aws:iam::123456789012:role/pcinb", TokenFile: f.tokenFile}
	case snapshot.GKE: // the metadata server knows
	case snapshot.AKS:
		f.Identity = cloud.Identity{ClientID: "11111111-2222-4333-8444-555555555555", TenantID: tenant, FederatedTokenFile: f.tokenFile}
	}
	f.handlers = map[string]http.HandlerFunc{
		hostSTS: f.sts, hostAgent: f.agent, hostMetadata: f.metadata, hostEntra: f.entra, describing[of]: f.authenticated(described),
	}
	return f
}

// rotate writes a new projected token.
func (f *fake) rotate(t *testing.T, token string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.valid = token
	if err := os.WriteFile(f.tokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Method+" "+r.Host)
	handler := f.handlers[r.Host]
	f.mu.Unlock()
	if handler == nil {
		http.Error(w, "nobody is here", http.StatusNotFound)
		return
	}
	handler(w, r)
}

// count says how many requests went to a host.
func (f *fake) count(host string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, asked := range f.asked {
		if strings.HasSuffix(asked, " "+host) {
			n++
		}
	}
	return n
}

// only fails the test if anything but the hosts was dialled, or written to.
func (f *fake) only(t *testing.T, hosts ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for address := range f.dialed {
		if host, _, _ := net.SplitHostPort(address); !slices.Contains(hosts, host) {
			t.Errorf("dialled %s", address)
		}
	}
	for _, asked := range f.asked {
		if method, host, _ := strings.Cut(asked, " "); method != http.MethodGet && host != hostSTS && host != hostEntra {
			t.Errorf("wrote: %s", asked)
		}
	}
}

// issue makes credentials; those before are good no more.
func (f *fake) issue() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issued++
	return fmt.Sprintf("AKID%d", f.issued)
}

func (f *fake) accepts(token string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return token == f.valid
}

// authenticated turns down whoever has not the last credentials that were issued, as each cloud does.
func (f *fake) authenticated(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		good := fmt.Sprintf("AKID%d", f.issued)
		f.mu.Unlock()
		header := r.Header.Get("Authorization")
		switch {
		case header == "Bearer "+good, strings.HasPrefix(header, "AWS4-HMAC-SHA256 Credential="+good+"/") && r.Header.Get("X-Amz-Security-Token") == "session-"+good:
			next(w, r)
		case r.Host == hostEKS:
			awsError(w, http.StatusForbidden, "UnrecognizedClientException")
		case r.Host == hostGKE:
			googleError(w, http.StatusUnauthorized, "authError")
		default:
			azureError(w, http.StatusUnauthorized, "InvalidAuthenticationToken")
		}
	}
}

func (f *fake) sts(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || !f.accepts(r.FormValue("WebIdentityToken")) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>`+
			`<Message>Token expired</Message></Error><RequestId>1</RequestId></ErrorResponse>`)
		return
	}
	id := f.issue()
	fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>`+
		`<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>session-%s</SessionToken>`+
		`<Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, id, id, inAnHour())
}

func (f *fake) agent(w http.ResponseWriter, r *http.Request) {
	if !f.accepts(r.Header.Get("Authorization")) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"code":"InvalidTokenException","message":"no"}`)
		return
	}
	id := f.issue()
	fmt.Fprintf(w, `{"AccessKeyId":"%s","SecretAccessKey":"secret","Token":"session-%s","AccountId":"123456789012","Expiration":"%s"}`, id, id, inAnHour())
}

func (f *fake) metadata(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Metadata-Flavor") != "Google" {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	w.Header().Set("Metadata-Flavor", "Google")
	fmt.Fprintf(w, `{"access_token":"%s","expires_in":3599,"token_type":"Bearer"}`, f.issue())
}

func (f *fake) entra(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodGet:
		base := "https://" + hostEntra + "/" + tenant
		fmt.Fprintf(w, `{"token_endpoint":"%s/oauth2/v2.0/token","issuer":"%s/v2.0","authorization_endpoint":"%s/oauth2/v2.0/authorize"}`, base, base, base)
	case !f.accepts(r.FormValue("client_assertion")):
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"error":"invalid_client","error_description":"AADSTS700024: Client assertion is not within its valid time range."}`)
	default:
		fmt.Fprintf(w, `{"token_type":"Bearer","expires_in":3599,"access_token":"%s"}`, f.issue())
	}
}

func inAnHour() string { return time.Now().Add(time.Hour).UTC().Format(time.RFC3339) }

func says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, body)
	}
}

func awsError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	fmt.Fprint(w, `{"message":"User: arn:aws:sts::123456789012:assumed-role/pcinb/1732550000 may not"}`)
}

func googleError(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%d,"message":"no","status":"S","errors":[{"message":"no","domain":"global","reason":"%s"}]}}`, status, reason)
}

func azureError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Ms-Error-Code", code)
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":"%s","message":"The client '11111111' may not"}}`, code)
}

// refuse answers as a cloud does.
func refuse(of snapshot.Cloud, status int, code string) http.HandlerFunc {
	answer := map[snapshot.Cloud]func(http.ResponseWriter, int, string){snapshot.EKS: awsError, snapshot.GKE: googleError, snapshot.AKS: azureError}[of]
	return func(w http.ResponseWriter, _ *http.Request) { answer(w, status, code) }
}

// authority makes a certificate for hosts, and who trusts it.
func authority(t *testing.T, hosts ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fake cloud"}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err2 := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	parsed, err3 := x509.ParseCertificate(der)
	if err := errors.Join(err, err2, err3); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}
