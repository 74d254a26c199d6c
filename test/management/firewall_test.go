// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/trial"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// hostPolicies defines the kind of Cilium's policies for nodes, with nothing of its schema.
const hostPolicies = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ciliumclusterwidenetworkpolicies.cilium.io}
spec:
  group: cilium.io
  scope: Cluster
  names: {kind: CiliumClusterwideNetworkPolicy, plural: ciliumclusterwidenetworkpolicies, singular: ciliumclusterwidenetworkpolicy, listKind: CiliumClusterwideNetworkPolicyList}
  versions:
    - {name: v2, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

// leftover is the API of an engine that is not there any more: every request is answered with 503.
const leftover = `---
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v3.projectcalico.org}
spec: {group: projectcalico.org, version: v3, groupPriorityMinimum: 1500, versionPriority: 200, service: {namespace: default, name: gone}}
`

// firewall returns the live policy for nodes; nil for none.
func (s *site) firewall(t *testing.T) *unstructured.Unstructured {
	t.Helper()
	p := &unstructured.Unstructured{}
	p.SetAPIVersion("cilium.io/v2")
	p.SetKind("CiliumClusterwideNetworkPolicy")
	err := s.Get(t.Context(), client.ObjectKey{Name: "pcinb-" + s.baseline + "-hosts"}, p)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return p
}

// onTrial says whether a policy is for the nodes of the trial alone.
func onTrial(p *unstructured.Unstructured) bool {
	labels, _, _ := unstructured.NestedStringMap(p.Object, "spec", "nodeSelector", "matchLabels")
	return labels["pcinetwork.dev/host-firewall"] == "trial"
}

func (s *site) awaitFirewall(t *testing.T, what string, is func(*unstructured.Unstructured) bool) {
	t.Helper()
	eventually.That(t, what, func() error {
		if p := s.firewall(t); !is(p) {
			b, err := s.status(t)
			if err != nil {
				return err
			}
			return fmt.Errorf("there is %v, and %+v", p, apimeta.FindStatusCondition(b.Status.Conditions, pcinetv1alpha1.ConditionManagementAccessRestricted))
		}
		return nil
	})
}

// later lets some time pass for the operator, and has it look then: it takes no time for watched in which it did not.
func (s *site) later(t *testing.T) bool {
	t.Helper()
	now := s.clock.Now().Add(10 * time.Second).Truncate(time.Microsecond)
	s.clock.SetTime(now)
	eventually.That(t, "the operator has looked", func() error {
		if at := s.operatorLease(t).Spec.RenewTime; at == nil || at.Time.Before(now) {
			return errors.New("it has not")
		}
		return nil
	})
	return true
}

func absent(p *unstructured.Unstructured) bool     { return p == nil }
func present(p *unstructured.Unstructured) bool    { return p != nil && onTrial(p) }
func everywhere(p *unstructured.Unstructured) bool { return p != nil && !onTrial(p) }

// alive shows a dead man's pulse until stop, or the test's end.
func (s *site) alive(t *testing.T, node, policy string) (stop func()) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			case <-time.After(200 * time.Millisecond):
			}
			lease := &coordinationv1.Lease{}
			err := s.Get(t.Context(), client.ObjectKey{Namespace: deadman.Namespace, Name: deadman.PulseLease}, lease)
			if err != nil {
				continue
			}
			lease.Annotations = map[string]string{deadman.AnnotationPolicy: policy}
			lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &node, LeaseDurationSeconds: new(int32(300)), RenewTime: new(metav1.NowMicro())}
			_ = s.Update(t.Context(), lease)
		}
	}()
	stop = sync.OnceFunc(func() {
		close(end)
		<-ended
	})
	t.Cleanup(stop)
	return stop
}

// confirm does what the message asks of a person while a list is tried.
func (s *site) confirm(t *testing.T) {
	t.Helper()
	b := s.await(t, "ManagementAccessRestricted=False/HostFirewallPending: kubectl annotate pcinb")
	message := apimeta.FindStatusCondition(b.Status.Conditions, pcinetv1alpha1.ConditionManagementAccessRestricted).Message
	command := regexp.MustCompile(`kubectl (annotate pcinb \S+ \S+=[0-9a-f]{8} --overwrite)`).FindStringSubmatch(message)
	if command == nil {
		t.Fatal(message)
	}
	s.kubectl(t, strings.Fields(command[1])...)
}

// running makes a pod of an account that runs on a node.
func (s *site) running(t *testing.T, in, user, node string) {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: in, Name: "on-" + node}, Spec: corev1.PodSpec{
		NodeName: node, ServiceAccountName: user, AutomountServiceAccountToken: new(false),
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{Name: "c", Image: "x", SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}}},
	}}
	if err := s.Create(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	p.Status.Phase = corev1.PodRunning
	if err := s.Status().Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
}

func (s *site) operatorLease(t *testing.T) *coordinationv1.Lease {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: deadman.Namespace, Name: deadman.OperatorLease}, lease); err != nil {
		t.Fatal(err)
	}
	return lease
}

// retry has a list tried again, as the runbook says.
func (s *site) retry(t *testing.T) {
	t.Helper()
	s.kubectl(t, "-n", deadman.Namespace, "annotate", "lease", deadman.OperatorLease, "pcinetwork.dev/host-firewall-")
}

// begun notes what a process notes that ends before it has written another list.
func (s *site) begun(t *testing.T, r string) {
	t.Helper()
	notes := s.operatorLease(t).Annotations
	m := trial.ReadMemory(notes["pcinetwork.dev/host-firewall-kept"], notes["pcinetwork.dev/host-firewall"], "")
	if m.Kept == nil {
		t.Fatalf("nothing was kept: %v", notes)
	}
	_, tried, _ := m.Begin(policy.HostFirewall{Allowed: []netip.Prefix{netip.MustParsePrefix(r)}, Ports: m.Kept.Ports}, trial.Earlier, s.clock.Now()).Texts()
	s.kubectl(t, "-n", deadman.Namespace, "annotate", "lease", deadman.OperatorLease, "--overwrite", "pcinetwork.dev/host-firewall="+tried)
}

// refuse has the API server refuse every policy for nodes.
func (s *site) refuse(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "refuse.yaml")
	if err := os.WriteFile(file, []byte(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [cilium.io], apiVersions: ["*"], resources: [ciliumclusterwidenetworkpolicies], operations: [CREATE, UPDATE]}]
  validations: [{expression: "false", message: refused by the test}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refuse}
spec: {policyName: refuse, validationActions: [Deny]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "apply", "-f", file)
	eventually.That(t, "the API server refuses policies", func() error {
		p := &unstructured.Unstructured{}
		p.SetAPIVersion("cilium.io/v2")
		p.SetKind("CiliumClusterwideNetworkPolicy")
		p.SetName("another")
		err := s.Create(t.Context(), p, client.DryRunAll)
		if err == nil {
			return errors.New("it does not")
		}
		if !strings.Contains(err.Error(), "refused by the test") {
			return err
		}
		return nil
	})
}

// TestHostFirewallEnforced plays a firewall on nodes from the first try to its end. The dead man is the test's, and shows a pulse or not;
// test/deadman has the real one, and test/e2e packets.
func TestHostFirewallEnforced(t *testing.T) { //nolint:paralleltest // the ports of a control plane are fixed
	s := newSite(t, "10.5.0.1", func(string) []string { return []string{"--kubelet-preferred-address-types=InternalIP"} })
	crd := filepath.Join(t.TempDir(), "crd.yaml")
	if err := os.WriteFile(crd, []byte(hostPolicies+leftover), 0o600); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "apply", "--server-side", "-f", crd)
	s.kubectl(t, "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "hostfirewall", "enforce"))
	worker := &kubelet{config: safe()}
	s.node(t, "cp", "10.5.0.1", map[string]string{"node-role.kubernetes.io/control-plane": "", "pcinetwork.dev/host-firewall": "trial"}, &kubelet{config: safe()})
	s.node(t, "n1", "10.5.0.2", nil, worker)
	config, agents := s.cilium(t)
	config.Data["enable-host-firewall"] = "true"
	if err := s.Update(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	s.joined(t, agents, "cp")
	s.joined(t, agents, "n1")
	s.running(t, namespace, account, "n1")
	s.running(t, deadman.Namespace, "dead-man", "cp")
	stop := s.operate(t)
	list := func(r pcinetv1alpha1.CIDR) func(*pcinetv1alpha1.PCINetworkBaselineSpec) {
		return func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
			ask(true)(spec)
			spec.ManagementEncryption = nil
			spec.ManagementAccess.HostFirewall = pcinetv1alpha1.HostFirewallEnforce
			spec.ManagementAccess.AllowedCIDRs = []pcinetv1alpha1.AllowedCIDR{{CIDR: r, Name: "x", Justification: "Nodes get their addresses from it."}}
		}
	}
	const restricted = "ManagementAccessRestricted="

	s.declare(t, list("10.5.0.0/24"))
	s.await(t, restricted+"False/HostFirewallPending: no dead man shows a pulse")
	dies := s.alive(t, "cp", "another")
	s.await(t, restricted+"False/HostFirewallPending: the dead man guards policy \"another\"")
	dies()
	dies = s.alive(t, "n1", "pcinb-management-hosts")
	s.await(t, restricted+"False/HostFirewallPending: the dead man is on node n1")
	dies()
	if !absent(s.firewall(t)) {
		t.Fatal("it was written with nobody to take it back")
	}

	t.Log("a kubelet is cut off while it is tried")
	dies = s.alive(t, "cp", "pcinb-management-hosts")
	s.awaitFirewall(t, "it is tried on the trial's node", present)
	s.await(t, restricted+"False/HostFirewallPending: it is tried")
	worker.cutOff.Store(true)
	s.awaitFirewall(t, "it is taken back", absent)
	s.await(t, restricted+"False/HostFirewallTakenBack: does not reach the kubelet of node n1")
	worker.cutOff.Store(false)
	s.told(t, "HostFirewallTrying", "it is tried on the labelled nodes")
	time.Sleep(5 * time.Second) // more than two looks
	if !absent(s.firewall(t)) {
		t.Fatal("it was tried again with nobody having asked for that")
	}

	t.Log("the dead man dies while it is tried")
	s.retry(t)
	s.awaitFirewall(t, "it is tried again", present)
	dies()
	s.awaitFirewall(t, "it is taken back", func(p *unstructured.Unstructured) bool {
		s.clock.SetTime(s.clock.Now().Add(10 * time.Second))
		time.Sleep(2 * time.Second) // it takes no silence for his in which it did not look
		return absent(p)
	})
	s.await(t, restricted+"False/HostFirewallTakenBack: no dead man shows a pulse")

	t.Log("nobody says that people still come in")
	s.alive(t, "cp", "pcinb-management-hosts")
	s.retry(t)
	s.awaitFirewall(t, "it is tried again", present)
	s.await(t, restricted+"False/HostFirewallPending: unless somebody comes in")
	for began := s.clock.Now(); s.clock.Now().Sub(began) < trial.Enough; {
		s.later(t)
	}
	if p := s.firewall(t); !present(p) {
		t.Fatalf("long before it is %v", p)
	}
	s.clock.SetTime(s.clock.Now().Add(trial.Confirm))
	s.awaitFirewall(t, "it is taken back", absent)
	s.await(t, restricted+"False/HostFirewallTakenBack: nobody said that people still come in")

	t.Log("it is tried, confirmed, widened and kept")
	s.retry(t)
	s.awaitFirewall(t, "it is tried again", present)
	s.confirm(t)
	s.await(t, restricted+"False/HostFirewallPending: it is tried")
	tried := s.firewall(t)
	stop()
	stop = s.operate(t)
	s.await(t, restricted+"False/HostFirewallPending: it is tried")
	if p := s.firewall(t); p == nil || p.GetUID() != tried.GetUID() {
		t.Fatalf("after a restart it is %v", p)
	}
	began := s.clock.Now()
	s.awaitFirewall(t, "it is on all nodes", func(p *unstructured.Unstructured) bool { return s.later(t) && everywhere(p) })
	s.await(t, restricted+"False/HostFirewallPending: it is on all nodes, and watched")
	eventually.That(t, "it is kept", func() error {
		if b, err := s.status(t); s.later(t) && err == nil && apimeta.IsStatusConditionTrue(b.Status.Conditions, pcinetv1alpha1.ConditionManagementAccessRestricted) {
			return nil
		}
		return errors.New("it is not")
	})
	if took := s.clock.Now().Sub(began); took < 2*trial.Enough {
		t.Errorf("it was kept after %s", took)
	}
	kept := s.firewall(t)

	t.Log("a node that breaks down, a restart, and a list that is refused change nothing of it")
	worker.cutOff.Store(true)
	stop()
	stop = s.operate(t)
	sign := s.operatorLease(t).ResourceVersion
	s.declare(t, list("10.5.0.2/32"))
	s.await(t, restricted+"False/HostFirewallRefused")
	eventually.That(t, "the operator shows that it is there", func() error {
		s.clock.SetTime(s.clock.Now().Add(time.Second))
		if s.operatorLease(t).ResourceVersion == sign {
			return errors.New("it does not")
		}
		return nil
	})
	if p := s.firewall(t); p == nil || p.GetResourceVersion() != kept.GetResourceVersion() {
		t.Fatalf("it is %v", p)
	}
	worker.cutOff.Store(false)

	t.Log("a process that ends before it has written another list leaves the one that was kept")
	stop()
	s.begun(t, "10.5.0.0/23")
	s.declare(t, list("10.5.0.0/23"))
	stop = s.operate(t)
	s.await(t, restricted+"False/HostFirewallTakenBack")
	if p := s.firewall(t); p == nil || p.GetResourceVersion() != kept.GetResourceVersion() {
		t.Fatalf("it is %v", p)
	}

	t.Log("an API server that refuses another list leaves it, too; once it does not, the list is tried, and meanwhile nobody says that it is enforced")
	s.refuse(t)
	s.declare(t, list("10.5.0.0/22"))
	s.await(t, restricted+"False/HostFirewallPending: it could not be written")
	if p := s.firewall(t); p == nil || p.GetResourceVersion() != kept.GetResourceVersion() {
		t.Fatalf("it is %v", p)
	}
	s.kubectl(t, "delete", "validatingadmissionpolicybinding", "refuse")
	s.awaitFirewall(t, "the other list is tried", func(p *unstructured.Unstructured) bool {
		b, err := s.status(t)
		if err == nil && apimeta.IsStatusConditionTrue(b.Status.Conditions, pcinetv1alpha1.ConditionManagementAccessRestricted) {
			t.Error("access counts as restricted by a list that is on no node")
		}
		return present(p)
	})

	t.Log("it fails, and the list that was kept comes back")
	worker.cutOff.Store(true)
	s.awaitFirewall(t, "the earlier list is on all nodes", func(p *unstructured.Unstructured) bool {
		return p != nil && reflect.DeepEqual(p.Object["spec"], kept.Object["spec"])
	})
	s.await(t, restricted+"False/HostFirewallTakenBack: An earlier list")
	worker.cutOff.Store(false)
	s.retry(t)
	s.awaitFirewall(t, "the other list is tried again", present)
	s.await(t, restricted+"False/HostFirewallPending: it is tried on the nodes that are labelled") // a wider list shuts nobody out
	s.declare(t, list("10.5.0.0/25"))
	s.await(t, restricted+"False/HostFirewallPending: unless somebody comes in")

	t.Log("while nothing may be written, what fails is taken back, and nothing put in its place")
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) { spec.Enforcement = pcinetv1alpha1.EnforcementAudit })
	worker.cutOff.Store(true)
	s.awaitFirewall(t, "it is taken back", absent)
	worker.cutOff.Store(false)
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
		spec.Enforcement = pcinetv1alpha1.EnforcementEnforce
	})

	t.Log("Off and deletion take it back")
	s.declare(t, func(spec *pcinetv1alpha1.PCINetworkBaselineSpec) {
		spec.ManagementAccess.HostFirewall = pcinetv1alpha1.HostFirewallOff
	})
	s.awaitFirewall(t, "it is taken back", absent)
	s.declare(t, list("10.5.0.0/21"))
	s.awaitFirewall(t, "it is tried", present)
	if err := s.Delete(t.Context(), &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: s.baseline}}); err != nil {
		t.Fatal(err)
	}
	s.awaitFirewall(t, "it goes with the baseline", absent)
	stop()
}
