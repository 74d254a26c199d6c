// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/facts/cloud"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
	"github.com/pcinetwork/pci-network-baseline/test/clouds"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// issuer signs the tokens of this test's cluster.
const issuer = "https://oidc.eks.eu-central-1.amazonaws.com/id/00000000000000000000000000000000"

// access changes what is declared of who may reach the API server.
func (s *site) access(t *testing.T, change func(*pcinetv1alpha1.ManagementAccess)) {
	t.Helper()
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) { change(spec.ManagementAccess) })
}

// again has the cloud asked anew, by a change that means nothing.
func (s *site) again(t *testing.T) {
	t.Helper()
	s.access(t, func(a *pcinetv1alpha1.ManagementAccess) { a.AllowedCIDRs[0].Justification += "." })
}

// settled waits until no request has gone to a host for a while, and returns how many there were.
func settled(t *testing.T, f *clouds.Fake) int {
	t.Helper()
	n := -1
	eventually.That(t, "the cloud is left alone", func() error {
		before := n
		if n = f.Asked(); n != before {
			time.Sleep(time.Second)
			return errors.New("it is asked")
		}
		return nil
	})
	return n
}

// read returns when the metrics say that the cloud was last read; 0 for never.
func (s *site) read(t *testing.T) int64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "pcinb_cloud_read_timestamp_seconds" {
			return int64(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	return 0
}

// TestCloud runs the operator with the real SDK of AWS against a server that speaks as EKS documents, from nobody having it asked, over
// what is too wide, to what cannot be read any more.
func TestCloud(t *testing.T) { //nolint:paralleltest // see above
	s := newSite(t, "10.0.0.1", func(string) []string { return []string{"--service-account-issuer=" + issuer} })
	described := func(public, private bool, ranges string) http.HandlerFunc {
		body := clouds.Body(snapshot.EKS, fmt.Sprintf(`"endpointPublicAccess":%t,"endpointPrivateAccess":%t,"publicAccessCidrs":[%s]`, public, private, ranges))
		return clouds.Says(strings.Replace(body, clouds.IssuerEKS, issuer, 1))
	}
	const eks = "EKS cluster prod in eu-central-1"
	f := clouds.New(t, snapshot.EKS, described(true, false, `"192.0.2.0/24","198.51.100.7/32"`))
	s.clouds = f.Reader
	s.operate(t)

	// Nobody has it asked.
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
		ask(true)(spec)
		spec.ManagementEncryption, spec.ManagementAccess.Attestation = nil, pcinetv1alpha1.Attestation{}
	})
	s.await(t, "ManagementAccessRestricted=Unknown/ManagementNotObservable: no object of the cluster shows it")
	s.access(t, func(a *pcinetv1alpha1.ManagementAccess) {
		a.Cloud = &pcinetv1alpha1.ManagedCloud{Provider: pcinetv1alpha1.CloudNone}
	})
	s.await(t, "ManagementAccessRestricted=Unknown/ManagementNotObservable: no object of the cluster shows it")
	if n := settled(t, f); n != 0 || s.read(t) != 0 {
		t.Fatalf("%d requests to a cloud that nobody has asked", n)
	}

	// What shows in the cluster is which cloud and where, but not the name.
	s.access(t, func(a *pcinetv1alpha1.ManagementAccess) { a.Cloud = &pcinetv1alpha1.ManagedCloud{} })
	s.await(t, "ManagementAccessRestricted=Unknown/CloudUnreadable: which cluster of EKS this is shows nowhere in it. Set in spec.managementAccess.cloud: provider (EKS), name")
	if n := f.Asked(); n != 0 {
		t.Fatalf("%d requests for a cluster without a name", n)
	}
	s.access(t, func(a *pcinetv1alpha1.ManagementAccess) {
		a.Cloud = &pcinetv1alpha1.ManagedCloud{Provider: pcinetv1alpha1.CloudEKS, Name: "prod"}
	})
	b := s.await(t, "ManagementAccessRestricted=False/AccessTooWide: "+eks+", public endpoint: lets in 198.51.100.7/32, which spec.managementAccess.allowedCIDRs does not. "+
		"aws eks update-cluster-config --region eu-central-1 --name prod")
	if len(b.Status.Offenders) == 0 || b.Status.Offenders[0].Reason != pcinetv1alpha1.ReasonAccessTooWide {
		t.Errorf("the offenders are %v", b.Status.Offenders)
	}
	s.told(t, "AccessTooWide", "")
	if n := settled(t, f); n != 2 {
		t.Errorf("%d requests for one reading: one for credentials, one for the description", n)
	}
	if s.read(t) != s.clock.Now().Unix() {
		t.Errorf("it was read at %d", s.read(t))
	}

	// The allow-list is what the cloud's is.
	s.access(t, func(a *pcinetv1alpha1.ManagementAccess) {
		a.AllowedCIDRs = append(a.AllowedCIDRs, pcinetv1alpha1.AllowedCIDR{CIDR: "198.51.100.0/29", Name: "bastion", Justification: "Pipelines come in there."})
	})
	s.await(t, "ManagementAccessRestricted=True/AccessRestricted: "+eks+" says that it lets in nobody but spec.managementAccess.allowedCIDRs")

	// The cloud is silent: what it said stands for three hours. It refuses: nothing stands.
	f.Answer(clouds.Refuse(snapshot.EKS, http.StatusServiceUnavailable, "ServiceUnavailableException"))
	s.again(t)
	settled(t, f)
	s.await(t, "ManagementAccessRestricted=True/AccessRestricted")
	s.clock.SetTime(s.clock.Now().Add(3 * time.Hour))
	s.again(t)
	s.await(t, "ManagementAccessRestricted=Unknown/CloudUnreadable: eks.eu-central-1.amazonaws.com answers 503 ServiceUnavailableException. Let the operator's pods reach it")
	f.Answer(described(true, false, `"192.0.2.0/24"`))
	s.again(t)
	s.await(t, "ManagementAccessRestricted=True/AccessRestricted")
	f.Answer(clouds.Refuse(snapshot.EKS, http.StatusForbidden, "AccessDeniedException"))
	s.again(t)
	s.await(t, "ManagementAccessRestricted=Unknown/CloudUnreadable: eks.eu-central-1.amazonaws.com answers 403 AccessDeniedException. Allow eks:DescribeCluster")
	f.Answer(clouds.Says(clouds.Body(snapshot.EKS, `"endpointPublicAccess":false,"endpointPrivateAccess":true`)))
	s.again(t)
	s.await(t, "ManagementAccessRestricted=Unknown/CloudUnreadable: the description is of another cluster")

	// What the cloud does not show is attested; what is wrong stays wrong.
	f.Answer(described(false, true, ""))
	s.again(t)
	s.await(t, "ManagementAccessRestricted=Unknown/ManagementNotObservable: "+eks+", private endpoint: is open to the network that it is in")
	s.access(t, func(a *pcinetv1alpha1.ManagementAccess) {
		a.Attestation = pcinetv1alpha1.Attestation{
			By: "ciso", At: metav1.NewTime(s.clock.Now().Add(-time.Hour)), Until: metav1.NewTime(s.clock.Now().Add(time.Hour)), Evidence: "https://wiki.example.com/x",
		}
	})
	s.await(t, "ManagementAccessRestricted=True/AccessAttested: "+eks+", private endpoint: attested by ciso, not verified")
	f.Answer(described(true, true, `"0.0.0.0/0"`))
	s.again(t)
	s.await(t, "ManagementAccessRestricted=False/AccessTooWide: "+eks+", public endpoint: lets in every IPv4 address")
	f.Only(t, clouds.HostSTS, clouds.HostEKS)
}

// TestARestartKeepsWhatTheCloudSaid: until the cloud has answered the next process, what the last one said stands, and nothing else is.
func TestARestartKeepsWhatTheCloudSaid(t *testing.T) { //nolint:paralleltest // see above
	s := newSite(t, "10.0.0.1", func(string) []string { return []string{"--service-account-issuer=" + issuer} })
	lets := func(ranges string, after time.Duration) http.HandlerFunc {
		says := clouds.Says(strings.Replace(clouds.Body(snapshot.EKS, `"endpointPublicAccess":true,"endpointPrivateAccess":false,"publicAccessCidrs":[`+ranges+`]`), clouds.IssuerEKS, issuer, 1))
		return func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(after)
			says(w, r)
		}
	}
	f := clouds.New(t, snapshot.EKS, lets(`"192.0.2.0/24"`, 0))
	s.clouds = f.Reader
	stop := s.operate(t)
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
		ask(true)(spec)
		spec.ManagementEncryption = nil
		spec.ManagementAccess.Cloud = &pcinetv1alpha1.ManagedCloud{Provider: pcinetv1alpha1.CloudEKS, Name: "prod"}
	})
	s.await(t, "ManagementAccessRestricted=True/AccessRestricted")
	stop()
	f.Answer(lets(`"0.0.0.0/0"`, 3*time.Second))
	s.operate(t)
	var said []string
	eventually.That(t, "the answer is said", func() error {
		b, err := s.status(t)
		if err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(b.Status.Conditions, pcinetv1alpha1.ConditionManagementAccessRestricted)
		if now := string(c.Status) + "/" + c.Reason; len(said) == 0 || said[len(said)-1] != now {
			said = append(said, now)
		}
		if c.Status != metav1.ConditionFalse {
			return errors.New(c.Message)
		}
		return nil
	})
	if diff := cmp.Diff([]string{"True/AccessRestricted", "False/AccessTooWide"}, said); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
}

// TestASlowCloudDelaysNobody: other looks go on, and what they find is said, while a cloud does not answer.
func TestASlowCloudDelaysNobody(t *testing.T) { //nolint:paralleltest // see above
	s := newSite(t, "10.0.0.1", func(string) []string { return nil })
	arrived := make(chan struct{}, 8)
	f := clouds.New(t, snapshot.GKE, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	})
	s.clouds = &cloud.Reader{Identity: f.Identity, Transport: f.Transport, Timeout: time.Minute}
	s.operate(t)
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
		ask(true)(spec)
		spec.ManagementAccess.Cloud = &pcinetv1alpha1.ManagedCloud{Provider: pcinetv1alpha1.CloudGKE, Name: "main", Location: "europe-west3", Project: "shop-prod"}
	})
	<-arrived
	began := time.Now()
	eventually.That(t, "it is said that the cloud is being asked", func() error {
		s.clock.SetTime(s.clock.Now().Add(10 * time.Second)) // for so long the status before stands, from when it is first looked at
		time.Sleep(time.Second)
		b, err := s.status(t)
		if err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(b.Status.Conditions, pcinetv1alpha1.ConditionManagementAccessRestricted)
		if c == nil || c.Reason != pcinetv1alpha1.ReasonNotObserved || !strings.Contains(c.Message, "the cloud is being asked") {
			return fmt.Errorf("it is %+v", c)
		}
		return nil
	})
	s.await(t, "ManagementTrafficEncrypted=Unknown/ManagementNotObservable")
	if took := time.Since(began); took > 45*time.Second {
		t.Errorf("it took %s, in which the cloud may have answered", took)
	}
}

// awsClusters is the kind of Cluster API for AWS, as much of it as matters.
const awsClusters = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: awsclusters.infrastructure.cluster.x-k8s.io}
spec:
  group: infrastructure.cluster.x-k8s.io
  names: {kind: AWSCluster, plural: awsclusters}
  scope: Namespaced
  versions:
    - name: v1beta2
      served: true
      storage: true
      subresources: {status: {}}
      schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

const ownCluster = `
apiVersion: infrastructure.cluster.x-k8s.io/v1beta2
kind: AWSCluster
metadata: {name: self, namespace: default}
spec: {controlPlaneEndpoint: {host: kubernetes.default.svc, port: 6443}}
`

// TestClusterObjects: a kind that is not served is nothing, one that may not be read a warning, and one that names this cluster's API
// server counts.
func TestClusterObjects(t *testing.T) { //nolint:paralleltest // see above
	s := newSite(t, "10.0.0.1", func(string) []string { return nil })
	apply := func(text string) {
		file := filepath.Join(t.TempDir(), "objects.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.kubectl(t, "apply", "--server-side", "-f", file)
	}
	s.operate(t)
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
		ask(true)(spec)
		spec.ManagementEncryption = nil
	})
	s.await(t, "ManagementAccessRestricted=True/AccessAttested")
	if n := s.findings(t, "ClusterObjectsRestricted", "warn"); n != 0 {
		t.Errorf("%d warnings about kinds that are not served", n)
	}
	apply(awsClusters)
	s.kubectl(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
	apply(ownCluster)
	eventually.That(t, "a kind that may not be read is a warning", func() error {
		s.again(t) // a kind is discovered a while after it is established
		time.Sleep(time.Second)
		if n := s.findings(t, "ClusterObjectsRestricted", "warn"); n != 1 {
			return fmt.Errorf("%d warnings", n)
		}
		return nil
	})
	s.await(t, "ManagementAccessRestricted=True/AccessAttested")
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "management", "objects"))
	s.may(t, true, authorizationv1.ResourceAttributes{Verb: "list", Group: "infrastructure.cluster.x-k8s.io", Version: "v1beta2", Resource: "awsclusters"})
	s.again(t)
	s.await(t, "ManagementAccessRestricted=False/AccessTooWide: AWSCluster default/self, load balancer: is open to every address")
}
