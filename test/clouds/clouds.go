// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clouds is the clouds, on loopback: their documented descriptions of a cluster, their credentials and their refusals, for the
// real SDKs to speak with.
package clouds

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

	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Who is asked, and by whom.
const (
	Tenant       = "7d1b4b2c-0c3e-4b5a-9c4d-5e6f7a8b9c0d"
	Subscription = "0f1e2d3c-4b5a-4697-8877-665544332211"
	IssuerEKS    = "https://oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF0123456789ABCDEF0123456789"
	IssuerGKE    = "https://container.googleapis.com/v1/projects/shop-prod/locations/europe-west3/clusters/main"
	IssuerAKS    = "https://westeurope.oic.prod-aks.azure.com/" + Tenant + "/9a8b7c6d-0000-4000-8000-000000000001/"

	HostEKS      = "eks.eu-central-1.amazonaws.com"
	HostSTS      = "sts.eu-central-1.amazonaws.com"
	HostAgent    = "169.254.170.23"
	HostGKE      = "container.googleapis.com"
	HostMetadata = "169.254.169.254"
	HostARM      = "management.azure.com"
	HostEntra    = "login.microsoftonline.com"
)

// Clusters are what was identified, and what a reading then asks.
var Clusters = map[snapshot.Cloud]snapshot.ControlPlane{
	snapshot.EKS: {Cluster: snapshot.CloudCluster{Cloud: snapshot.EKS, Name: "prod", Location: "eu-central-1", Issuer: IssuerEKS}},
	snapshot.GKE: {Cluster: snapshot.CloudCluster{Cloud: snapshot.GKE, Name: "main", Location: "europe-west3", Project: "shop-prod", Issuer: IssuerGKE}},
	snapshot.AKS: {Cluster: snapshot.CloudCluster{
		Cloud: snapshot.AKS, Name: "prod", Subscription: Subscription, ResourceGroup: "shop(eu)",
		Issuer: IssuerAKS, NodeResourceGroup: "MC_shop(eu)_prod_westeurope",
	}},
}

// Describing is where a cloud describes.
var Describing = map[snapshot.Cloud]string{snapshot.EKS: HostEKS, snapshot.GKE: HostGKE, snapshot.AKS: HostARM}

// Credentials is where a cloud hands them out.
var Credentials = map[snapshot.Cloud]string{snapshot.EKS: HostSTS, snapshot.GKE: HostMetadata, snapshot.AKS: HostEntra}

// Fake is a cloud, on loopback: whatever is dialled arrives there, and is written down.
type Fake struct {
	*cloud.Reader

	// TokenFile holds the projected token, of which the clouds accept valid alone.
	TokenFile string

	of snapshot.Cloud

	mu    sync.Mutex
	valid string
	// issued counts credentials. Only the last are good.
	issued int
	dialed map[string]int
	// asked are method and host of requests.
	asked    []string
	handlers map[string]http.HandlerFunc
}

// New answers with a description, or as described says.
func New(t *testing.T, of snapshot.Cloud, described http.HandlerFunc) *Fake {
	t.Helper()
	f := &Fake{of: of, dialed: map[string]int{}, valid: "token-1", TokenFile: filepath.Join(t.TempDir(), "token")}
	f.Rotate(t, "token-1")
	certificate, roots := Authority(t, HostEKS, HostSTS, HostGKE, HostARM, HostEntra)
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
		f.Identity = cloud.Identity{RoleARN: "arn:aws:iam::123456789012:role/pcinb", TokenFile: f.TokenFile}
	case snapshot.GKE: // the metadata server knows
	case snapshot.AKS:
		f.Identity = cloud.Identity{ClientID: "11111111-2222-4333-8444-555555555555", TenantID: Tenant, FederatedTokenFile: f.TokenFile}
	}
	f.handlers = map[string]http.HandlerFunc{
		HostSTS: f.sts, HostAgent: f.agent, HostMetadata: f.metadata, HostEntra: f.entra, Describing[of]: f.authenticated(described),
	}
	return f
}

// Rotate writes a new projected token.
func (f *Fake) Rotate(t *testing.T, token string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.valid = token
	if err := os.WriteFile(f.TokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Accept says which projected token is good.
func (f *Fake) Accept(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.valid = token
}

// Handle has hosts answer so, without asking for credentials.
func (f *Fake) Handle(with http.HandlerFunc, hosts ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, host := range hosts {
		f.handlers[host] = with
	}
}

// Answer has the cloud answer so, whoever has credentials.
func (f *Fake) Answer(with http.HandlerFunc) {
	f.Handle(f.authenticated(with), Describing[f.of])
}

func (f *Fake) serve(w http.ResponseWriter, r *http.Request) {
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

// Count says how many requests went to a host.
func (f *Fake) Count(host string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, asked := range f.asked {
		if strings.HasSuffix(asked, " "+host) {
			n++
		}
	}
	return n
}

// Only fails the test if anything but the hosts was dialled, or written to.
func (f *Fake) Only(t *testing.T, hosts ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for address := range f.dialed {
		if host, _, _ := net.SplitHostPort(address); !slices.Contains(hosts, host) {
			t.Errorf("dialled %s", address)
		}
	}
	for _, asked := range f.asked {
		if method, host, _ := strings.Cut(asked, " "); method != http.MethodGet && host != HostSTS && host != HostEntra {
			t.Errorf("wrote: %s", asked)
		}
	}
}

// Issue makes credentials; those before are good no more.
func (f *Fake) Issue() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issued++
	return fmt.Sprintf("AKID%d", f.issued)
}

func (f *Fake) accepts(token string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return token == f.valid
}

// authenticated turns down whoever has not the last Credentials that were issued, as each cloud does.
func (f *Fake) authenticated(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		good := fmt.Sprintf("AKID%d", f.issued)
		f.mu.Unlock()
		header := r.Header.Get("Authorization")
		switch {
		case header == "Bearer "+good, strings.HasPrefix(header, "AWS4-HMAC-SHA256 Credential="+good+"/") && r.Header.Get("X-Amz-Security-Token") == "session-"+good:
			next(w, r)
		case r.Host == HostEKS:
			awsError(w, http.StatusForbidden, "UnrecognizedClientException")
		case r.Host == HostGKE:
			googleError(w, http.StatusUnauthorized, "authError")
		default:
			azureError(w, http.StatusUnauthorized, "InvalidAuthenticationToken")
		}
	}
}

func (f *Fake) sts(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("Action") != "AssumeRoleWithWebIdentity" || !f.accepts(r.FormValue("WebIdentityToken")) {
		w.WriteHeader(http.StatusBadRequest)
		answer(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>ExpiredTokenException</Code>`+
			`<Message>Token expired</Message></Error><RequestId>1</RequestId></ErrorResponse>`)
		return
	}
	id := f.Issue()
	answer(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>`+
		`<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>session-%s</SessionToken>`+
		`<Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, id, id, inAnHour())
}

func (f *Fake) agent(w http.ResponseWriter, r *http.Request) {
	if !f.accepts(r.Header.Get("Authorization")) {
		w.WriteHeader(http.StatusBadRequest)
		answer(w, `{"code":"InvalidTokenException","message":"no"}`)
		return
	}
	id := f.Issue()
	answer(w, `{"AccessKeyId":"%s","SecretAccessKey":"secret","Token":"session-%s","AccountId":"123456789012","Expiration":"%s"}`, id, id, inAnHour())
}

func (f *Fake) metadata(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Metadata-Flavor") != "Google" {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	w.Header().Set("Metadata-Flavor", "Google")
	answer(w, `{"access_token":"%s","expires_in":3599,"token_type":"Bearer"}`, f.Issue())
}

func (f *Fake) entra(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == http.MethodGet:
		base := "https://" + HostEntra + "/" + Tenant
		answer(w, `{"token_endpoint":"%s/oauth2/v2.0/token","issuer":"%s/v2.0","authorization_endpoint":"%s/oauth2/v2.0/authorize"}`, base, base, base)
	case !f.accepts(r.FormValue("client_assertion")):
		w.WriteHeader(http.StatusUnauthorized)
		answer(w, `{"error":"invalid_client","error_description":"AADSTS700024: Client assertion is not within its valid time range."}`)
	default:
		answer(w, `{"token_type":"Bearer","expires_in":3599,"access_token":"%s"}`, f.Issue())
	}
}

// answer writes a body; who has gone needs none.
func answer(w io.Writer, format string, values ...any) { _, _ = fmt.Fprintf(w, format, values...) }

func inAnHour() string { return time.Now().Add(time.Hour).UTC().Format(time.RFC3339) }

// Says answers with a body.
func Says(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer(w, "%s", body)
	}
}

func awsError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	answer(w, `{"message":"User: arn:aws:sts::123456789012:assumed-role/pcinb/1732550000 may not"}`)
}

func googleError(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	answer(w, `{"error":{"code":%d,"message":"no","status":"S","errors":[{"message":"no","domain":"global","reason":"%s"}]}}`, status, reason)
}

func azureError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Ms-Error-Code", code)
	w.WriteHeader(status)
	answer(w, `{"error":{"code":"%s","message":"The client '11111111' may not"}}`, code)
}

// Refuse answers as a cloud does.
func Refuse(of snapshot.Cloud, status int, code string) http.HandlerFunc {
	refusal := map[snapshot.Cloud]func(http.ResponseWriter, int, string){snapshot.EKS: awsError, snapshot.GKE: googleError, snapshot.AKS: azureError}[of]
	return func(w http.ResponseWriter, _ *http.Request) { refusal(w, status, code) }
}

// Authority makes a certificate for hosts, and who trusts it.
func Authority(t *testing.T, hosts ...string) (tls.Certificate, *x509.CertPool) {
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

// Asked says how many requests arrived, of whatever sort.
func (f *Fake) Asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}
