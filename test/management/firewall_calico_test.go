// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// renewedNote says on the operator's Lease that the policy was deleted to be made anew.
const renewedNote = "pcinetwork.dev/host-firewall-renewed"

// calicoObjects are a HostEndpoint for each node, a failsafe port that voids no list, and what another engine and somebody else have left.
const calicoObjects = `apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: cp, labels: {pcinetwork.dev/host-firewall: trial}}
spec: {node: cp, interfaceName: "*"}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n1}
spec: {node: n1, interfaceName: "*"}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {failsafeInboundHostPorts: [{protocol: tcp, port: 22, net: 10.5.0.0/24}]}
---
apiVersion: projectcalico.org/v3
kind: ClusterInformation
metadata: {name: default}
spec: {calicoVersion: v3.32.1, datastoreReady: true}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: pods}
spec: {cidr: 10.6.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: pcinb-hosts}
spec: {order: 1, defaultAction: Deny}
---
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: pcinb-management-hosts, labels: {app.kubernetes.io/managed-by: pci-network-baseline, pcinetwork.dev/baseline: management}}
spec: {}
`

// calico defines Calico's kinds, without their schema, and makes its agents.
func (s *site) calico(t *testing.T) *appsv1.DaemonSet {
	t.Helper()
	var crds strings.Builder
	for kind, plural := range map[string]string{
		"GlobalNetworkPolicy": "globalnetworkpolicies", "Tier": "tiers", "HostEndpoint": "hostendpoints", "IPPool": "ippools",
		"FelixConfiguration": "felixconfigurations", "ClusterInformation": "clusterinformations", "NetworkPolicy": "networkpolicies",
	} {
		scope := "Cluster"
		if kind == "NetworkPolicy" {
			scope = "Namespaced"
		}
		fmt.Fprintf(&crds, `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: %[2]s.projectcalico.org}
spec:
  group: projectcalico.org
  scope: %[4]s
  names: {kind: %[1]s, plural: %[2]s, singular: %[3]s, listKind: %[1]sList}
  versions:
    - {name: v3, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`, kind, plural, strings.ToLower(kind), scope)
	}
	s.applyText(t, hostPolicies+crds.String())
	s.kubectl(t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	s.applyText(t, calicoObjects)
	user := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "calico-node"}}
	labels := map[string]string{"k8s-app": "calico-node"}
	agents := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "calico-node"},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{ServiceAccountName: user.Name, AutomountServiceAccountToken: new(false), Containers: []corev1.Container{{
				Name: "calico-node", Image: "docker.io/calico/node:v3.32.1", Env: []corev1.EnvVar{{Name: "DATASTORE_TYPE", Value: "kubernetes"}, {Name: "CLUSTER_TYPE", Value: "k8s"}},
			}}},
		}},
	}
	for _, o := range []client.Object{user, agents} {
		if err := s.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	return agents
}

func (s *site) applyText(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "objects.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "apply", "--server-side", "-f", file)
}

// calicoObject returns a live object of Calico's; nil for none.
func (s *site) calicoObject(t *testing.T, kind, name string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	o.SetAPIVersion("projectcalico.org/v3")
	o.SetKind(kind)
	err := s.Get(t.Context(), client.ObjectKey{Name: name}, o)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return o
}

// TestHostFirewallWithCalico plays what is another way with Calico: the tier, host endpoints, and what Cilium has left. test/e2e has packets.
//
// Mutations tried: the layer of the live policy not compared with the one that is wanted, a tier of somebody else's taken, and no tier looked at once
// the policy is there.
func TestHostFirewallWithCalico(t *testing.T) { //nolint:paralleltest // the ports of a control plane are fixed
	s := newSite(t, "10.5.0.1", func(string) []string { return []string{"--kubelet-preferred-address-types=InternalIP"} })
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "hostfirewall", "enforce-calico"))
	s.node(t, "cp", "10.5.0.1", map[string]string{"node-role.kubernetes.io/control-plane": "", "pcinetwork.dev/host-firewall": "trial"}, &kubelet{config: safe()})
	s.node(t, "n1", "10.5.0.2", nil, &kubelet{config: safe()})
	agents := s.calico(t)
	s.joined(t, agents, "cp")
	s.joined(t, agents, "n1")
	s.running(t, namespace, account, "n1")
	s.running(t, deadman.Namespace, "dead-man", "cp")
	stop := s.operate(t)
	defer func() { stop() }()
	list := func(mode pcinetv1alpha1.HostFirewall) func(*pcinetv1alpha1.PCINetworkBaselineSpec) {
		return func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
			ask(true)(spec)
			spec.ManagementEncryption = nil
			spec.ManagementAccess.HostFirewall = mode
			spec.ManagementAccess.AllowedCIDRs = nil
			for _, r := range []pcinetv1alpha1.CIDR{"10.5.0.0/24", "10.6.0.0/16"} {
				spec.ManagementAccess.AllowedCIDRs = append(spec.ManagementAccess.AllowedCIDRs, pcinetv1alpha1.AllowedCIDR{CIDR: r, Name: "x", Justification: "Nodes and pods are in it."})
			}
		}
	}
	const pendingAs = "ManagementAccessRestricted=False/HostFirewallPending: "
	policyName := "pcinb-hosts.pcinb-" + s.baseline + "-hosts"
	s.alive(t, "cp", policyName)

	t.Log("another engine has left a policy")
	s.declare(t, list(pcinetv1alpha1.HostFirewallEnforce))
	s.await(t, pendingAs+"CiliumClusterwideNetworkPolicy pcinb-management-hosts is of another engine than Calico")
	s.declare(t, list(pcinetv1alpha1.HostFirewallOff))
	eventually.That(t, "it goes when nobody asks for it", func() error {
		if s.firewall(t) != nil {
			return errors.New("it is there")
		}
		return nil
	})

	t.Log("somebody else has the tier")
	s.declare(t, list(pcinetv1alpha1.HostFirewallEnforce))
	s.await(t, pendingAs+"it could not be written: Tier pcinb-hosts is somebody else's")
	if p := s.calicoObject(t, "GlobalNetworkPolicy", policyName); p != nil {
		t.Fatalf("there is %v in it", p)
	}
	s.kubectl(t, "delete", "tier", "pcinb-hosts")

	t.Log("it is tried, in a tier that stays as it is")
	eventually.That(t, "it is tried", func() error {
		p := s.calicoObject(t, "GlobalNetworkPolicy", policyName)
		if p == nil {
			return errors.New("there is no policy")
		}
		if !calicoTrial(p) {
			t.Fatalf("it is %v", p)
		}
		return nil
	})
	s.await(t, pendingAs+"it is tried")
	tier := s.calicoObject(t, "Tier", "pcinb-hosts")
	if err := unstructured.SetNestedField(tier.Object, int64(5000), "spec", "order"); err != nil {
		t.Fatal(err)
	}
	s.unguarded(t, tier)
	eventually.That(t, "the tier comes first again", func() error {
		o := s.calicoObject(t, "Tier", "pcinb-hosts")
		if order, _, _ := unstructured.NestedInt64(o.Object, "spec", "order"); order != 10 {
			return fmt.Errorf("its order is %d", order)
		}
		return nil
	})

	t.Log("what stands in its way is told at once, and not with the next inventory; a node that joins takes nothing back")
	endpoint := s.calicoObject(t, "HostEndpoint", "n1")
	s.kubectl(t, "delete", "hostendpoint", "n1")
	s.later(t) // what changes for nodes alone is gathered for some seconds
	s.await(t, "ManagementAccessRestricted=False/HostFirewallIneffective: There is no HostEndpoint for all interfaces of n1")
	for range 4 {
		s.later(t)
	}
	endpoint.SetResourceVersion("")
	endpoint.SetUID("")
	if err := s.Create(t.Context(), endpoint); err != nil {
		t.Fatal(err)
	}
	s.later(t)
	s.await(t, pendingAs+"it is tried")
	if p := s.calicoObject(t, "GlobalNetworkPolicy", policyName); p == nil {
		t.Fatal("it was taken back")
	}

	s.testWidened(t, policyName, list(pcinetv1alpha1.HostFirewallEnforce))
	t.Log("a process ends while it is made anew")
	s.testEndedInBetween(t, policyName, &stop)
	t.Log("its API is away")
	s.testCalicoIsAway(t, list(pcinetv1alpha1.HostFirewallOff))
}

// awaitOnAll waits until the policy is on all nodes, while the operator looks.
func (s *site) awaitOnAll(t *testing.T, policyName string) (is *unstructured.Unstructured) {
	t.Helper()
	eventually.That(t, "it is on all nodes", func() error {
		s.later(t)
		is = s.calicoObject(t, "GlobalNetworkPolicy", policyName)
		if is == nil || calicoTrial(is) {
			return fmt.Errorf("there is %v", is)
		}
		return nil
	})
	return is
}

// calicoTrial says whether a policy is for the nodes of the trial alone.
func calicoTrial(p *unstructured.Unstructured) bool {
	selector, _, _ := unstructured.NestedString(p.Object, "spec", "selector")
	return strings.HasSuffix(selector, `pcinetwork.dev/host-firewall == "trial"`)
}

func (s *site) awaitRestricted(t *testing.T) {
	t.Helper()
	eventually.That(t, "it is kept", func() error {
		b, err := s.status(t)
		if s.later(t) && err == nil && apimeta.IsStatusConditionTrue(b.Status.Conditions, pcinetv1alpha1.ConditionManagementAccessRestricted) {
			return nil
		}
		return errors.New("it is not")
	})
}

// testWidened: for other nodes the policy is deleted and made anew, and nothing is left of the note.
func (s *site) testWidened(t *testing.T, policyName string, list func(*pcinetv1alpha1.PCINetworkBaselineSpec)) {
	t.Helper()
	tried := s.calicoObject(t, "GlobalNetworkPolicy", policyName)
	s.confirm(t)
	if all := s.awaitOnAll(t, policyName); all.GetUID() == tried.GetUID() {
		t.Error("it was changed in place")
	}
	s.awaitRestricted(t)
	s.without(t, renewedNote)

	t.Log("another list is tried in place of the one that is kept, fails, and the latter is made anew")
	kept := s.calicoObject(t, "GlobalNetworkPolicy", policyName)
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
		list(spec)
		spec.ManagementAccess.AllowedCIDRs[0].CIDR = "10.5.0.0/25"
	})
	eventually.That(t, "the other list is tried", func() error {
		if p := s.calicoObject(t, "GlobalNetworkPolicy", policyName); p == nil || !calicoTrial(p) {
			return fmt.Errorf("there is %v", p)
		}
		return nil
	})
	s.await(t, "ManagementAccessRestricted=False/HostFirewallPending: unless somebody comes in")
	s.clock.SetTime(s.clock.Now().Add(trial.Confirm))
	s.await(t, "ManagementAccessRestricted=False/HostFirewallTakenBack: nobody said that people still come in")
	if p := s.calicoObject(t, "GlobalNetworkPolicy", policyName); p == nil || !reflect.DeepEqual(p.Object["spec"], kept.Object["spec"]) {
		t.Fatalf("there is %v", p)
	}
	s.declare(t, list)
	s.awaitRestricted(t)
}

// without checks that a note is gone from the operator's Lease once it has looked.
func (s *site) without(t *testing.T, note string) {
	t.Helper()
	s.later(t)
	if notes := s.operatorLease(t).Annotations; notes[note] != "" {
		t.Errorf("there is a note: %v", notes)
	}
}

// testEndedInBetween plays a process that ends once it has deleted the policy to make it anew.
func (s *site) testEndedInBetween(t *testing.T, policyName string, stop *func()) {
	t.Helper()
	kept := s.calicoObject(t, "GlobalNetworkPolicy", policyName)
	(*stop)()
	_, _, renewed := (trial.Memory{}).Renew(trial.Strange, s.clock.Now()).Texts()
	s.kubectl(t, "-n", deadman.Namespace, "annotate", "lease", deadman.OperatorLease, "--overwrite", renewedNote+"="+renewed)
	s.kubectl(t, "delete", "--ignore-not-found", "validatingadmissionpolicybinding", "pcinb-"+s.baseline+"-tamper-guard")
	eventually.That(t, "it is deleted", func() error { return client.IgnoreNotFound(s.Delete(t.Context(), kept)) })
	*stop = s.operate(t)
	eventually.That(t, "there is a policy", func() error {
		if s.calicoObject(t, "GlobalNetworkPolicy", policyName) == nil {
			return errors.New("there is none")
		}
		return nil
	})
	if now := s.calicoObject(t, "GlobalNetworkPolicy", policyName); !reflect.DeepEqual(now.Object["spec"], kept.Object["spec"]) {
		t.Errorf("it is tried again: %v", now)
	}
	s.awaitRestricted(t)
	s.without(t, renewedNote)
}

// testCalicoIsAway: with nobody behind its API a firewall that is kept is stood by, and one that nobody wants is left to the dead man.
func (s *site) testCalicoIsAway(t *testing.T, off func(*pcinetv1alpha1.PCINetworkBaselineSpec)) {
	t.Helper()
	s.kubectl(t, "label", "apiservice", "v3.projectcalico.org", "kube-aggregator.kubernetes.io/automanaged-")
	s.kubectl(t, "patch", "apiservice", "v3.projectcalico.org", "--type=merge", "-p", `{"spec": {"insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "gone"}}}`)
	eventually.That(t, "nobody answers", func() error {
		p := &unstructured.UnstructuredList{}
		p.SetAPIVersion("projectcalico.org/v3")
		p.SetKind("GlobalNetworkPolicyList")
		if err := s.List(t.Context(), p); !apierrors.IsServiceUnavailable(err) {
			return fmt.Errorf("it is %w", err)
		}
		return nil
	})
	for range 3 {
		s.later(t) // it shows that it is there
	}
	s.await(t, "ManagementAccessRestricted=Unknown: how far it is cannot be seen")

	t.Log("nobody asks for it any more")
	s.declare(t, off)
	time.Sleep(2 * time.Second) // until it has seen that
	before := s.operatorLease(t).ResourceVersion
	s.clock.SetTime(s.clock.Now().Add(time.Minute))
	time.Sleep(6 * time.Second) // more than the longest backoff
	if s.operatorLease(t).ResourceVersion != before {
		t.Error("it is stood by")
	}
	s.kubectl(t, "delete", "apiservice", "v3.projectcalico.org")
	eventually.That(t, "it goes once that can be done", func() error {
		p := &unstructured.UnstructuredList{}
		p.SetAPIVersion("projectcalico.org/v3")
		p.SetKind("GlobalNetworkPolicyList")
		if err := s.List(t.Context(), p); err != nil || len(p.Items) > 0 {
			return fmt.Errorf("there are %v, %w", p.Items, err)
		}
		return nil
	})
}

// unguarded updates an object past the tamper guard.
func (s *site) unguarded(t *testing.T, o client.Object) {
	t.Helper()
	eventually.That(t, "somebody changes "+o.GetName(), func() error {
		s.kubectl(t, "delete", "--ignore-not-found", "validatingadmissionpolicybinding", "pcinb-"+s.baseline+"-tamper-guard")
		return s.Update(t.Context(), o)
	})
}
