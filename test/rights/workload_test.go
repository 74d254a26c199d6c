// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package rights_test

import (
	"errors"
	"slices"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// groupLabel is what baselines select by.
const groupLabel = "example.com/group"

// platforms are fixtures, and what each makes the operator read that none before it did.
var platforms = []struct {
	name  string
	reads []right
}{
	{"antrea", []right{{group: "", resource: "configmaps", name: "antrea-config"}}},
	{"flannel", []right{{group: "", resource: "configmaps", name: "kube-flannel-cfg"}}},
	{"unknown", []right{{group: "", resource: "configmaps", name: "kubeadm-config"}}},
	{"eks-auto", []right{{group: "", resource: "configmaps", name: "amazon-vpc-cni"}, {group: "eks.amazonaws.com", resource: "nodeclasses"}}},
	{"openshift-sdn-multitenant", []right{
		{group: "config.openshift.io", resource: "networks", name: "cluster"},
		{group: "operator.openshift.io", resource: "networks", name: "cluster"},
	}},
	{"rke2-canal", []right{{group: "", resource: "configmaps", name: "rke2-canal-config"}}},
	{"canal", []right{
		{group: "", resource: "configmaps", name: "canal-config"},
		{group: "", resource: "configmaps", name: "kube-proxy"},
		{group: "apiregistration.k8s.io", resource: "apiservices", name: "v3.projectcalico.org"},
		{group: "crd.projectcalico.org", resource: "clusterinformations", name: "default"},
		{group: "crd.projectcalico.org", resource: "felixconfigurations"},
		{group: "crd.projectcalico.org", resource: "hostendpoints"},
		{group: "crd.projectcalico.org", resource: "ippools"},
	}},
	{"calico-migrating", []right{{group: "migration.projectcalico.org", resource: "datastoremigrations"}}},
	{"calico-operator-native", []right{
		{group: calicoGroup, resource: "clusterinformations", name: "default"},
		{group: calicoGroup, resource: "felixconfigurations"},
		{group: calicoGroup, resource: "hostendpoints"},
		{group: calicoGroup, resource: "ippools"},
		{group: "operator.tigera.io", resource: "installations", name: "default"},
	}},
	{"cilium-wireguard", []right{
		{group: "", resource: "configmaps", name: "cilium-config"},
		{group: "cilium.io", resource: "ciliumnodeconfigs"},
		{group: "cilium.io", resource: "ciliumnodes"},
	}},
}

func kind(group, version, name string) schema.GroupVersionKind {
	return schema.GroupVersionKind{Group: group, Version: version, Kind: name}
}

// backends are the policy APIs; a platform is a fixture, kinds are defined beside it.
var backends = []struct {
	name          string
	backend       pcinetv1alpha1.Backend
	platform      string
	kinds         []*unstructured.Unstructured
	policy, guard schema.GroupVersionKind
	staged        schema.GroupVersionKind
}{
	{
		name:    "rights-core",
		backend: pcinetv1alpha1.BackendNetworkPolicy,
		kinds: []*unstructured.Unstructured{
			definition(kind("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy"), "clusternetworkpolicies", "Cluster"),
		},
		policy: kind("networking.k8s.io", "v1", "NetworkPolicy"),
		guard:  kind("policy.networking.k8s.io", "v1alpha2", "ClusterNetworkPolicy"),
	},
	{
		name:     "rights-calico",
		backend:  pcinetv1alpha1.BackendCalico,
		platform: "calico-operator-native",
		kinds: []*unstructured.Unstructured{
			definition(kind(calicoGroup, "v3", "StagedNetworkPolicy"), "stagednetworkpolicies", "Namespaced"),
			definition(kind(calicoGroup, "v3", "GlobalNetworkPolicy"), "globalnetworkpolicies", "Cluster"),
		},
		policy: kind(calicoGroup, "v3", "NetworkPolicy"),
		guard:  kind(calicoGroup, "v3", "GlobalNetworkPolicy"),
		staged: kind(calicoGroup, "v3", "StagedNetworkPolicy"),
	},
	{
		name:     "rights-cilium",
		backend:  pcinetv1alpha1.BackendCilium,
		platform: "cilium",
		kinds: []*unstructured.Unstructured{
			definition(kind("cilium.io", "v2", "CiliumClusterwideNetworkPolicy"), "ciliumclusterwidenetworkpolicies", "Cluster"),
		},
		policy: kind("cilium.io", "v2", "CiliumNetworkPolicy"),
		guard:  kind("cilium.io", "v2", "CiliumClusterwideNetworkPolicy"),
	},
}

// work makes the operator do everything that it ever does, once.
func (s *site) work(t *testing.T) {
	t.Helper()
	s.scrape(t)
	s.repairAdmission(t)
	for _, p := range platforms {
		remove := s.place(t, fixture(t, p.name))
		for _, r := range p.reads {
			r.verb = "watch"
			eventually.That(t, "it does "+r.String()+" on "+p.name, func() error { return s.uses(t, r) })
		}
		remove()
	}
	s.manage(t)
	s.report(t)
	for _, b := range backends {
		objects := b.kinds
		if b.platform != "" {
			objects = slices.Concat(fixture(t, b.platform), b.kinds)
		}
		remove := s.place(t, objects)
		baseline := s.protect(t, b.name, b.backend)
		deny := object(b.policy, baseline.Name, "pcinb-"+baseline.Name+"-default-deny")
		guard := object(b.guard, "", "pcinb-"+baseline.Name+"-guard")
		s.repair(t, deny)
		s.repair(t, deny) // an event that comes again is patched
		s.repair(t, guard)
		if b.staged.Kind != "" {
			staged := object(b.staged, baseline.Name, deny.GetName())
			s.enforce(t, baseline, pcinetv1alpha1.EnforcementAudit)
			s.repair(t, staged)
			s.enforce(t, baseline, pcinetv1alpha1.EnforcementEnforce)
			s.gone(t, staged)
		}
		gate := object(admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicyBinding"), "", "pcinb-"+baseline.Name+"-pod-gate")
		s.repair(t, gate)
		if err := s.Delete(t.Context(), baseline); err != nil {
			t.Fatal(err)
		}
		for _, o := range []client.Object{baseline, deny, guard, gate, &pcinetv1alpha1.NamespaceCoverage{ObjectMeta: metav1.ObjectMeta{Namespace: baseline.Name, Name: baseline.Name}}} {
			s.gone(t, o)
		}
		remove()
	}
	s.prove(t)
}

// prove has canaries made, asked and ended. The kubelet of their node is played.
func (s *site) prove(t *testing.T) {
	t.Helper()
	baseline := s.protect(t, "rights-canaries", pcinetv1alpha1.BackendNetworkPolicy)
	node := object(corev1.SchemeGroupVersion.WithKind("Node"), "", baseline.Name)
	node.Object["status"] = map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}
	account := object(corev1.SchemeGroupVersion.WithKind("ServiceAccount"), probe.Namespace, "default") // no pod without
	remove := s.place(t, []*unstructured.Unstructured{node, account})
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: probe.Namespace}}
	before := ns.DeepCopy()
	ns.Labels = map[string]string{groupLabel: baseline.Name}
	if err := s.Patch(t.Context(), ns, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	use := func(verb string) error {
		return s.uses(t, right{probe.Namespace, "", "pods", verb, ""})
	}
	eventually.That(t, "canaries are asked", func() error { return errors.Join(s.startPods(t, probe.Namespace), use("patch")) })
	if err := s.Delete(t.Context(), baseline); err != nil {
		t.Fatal(err)
	}
	s.gone(t, baseline)
	eventually.That(t, "canaries are ended", func() error { return use("delete") })
	remove()
}

// startPods says of the pods of a namespace that they run.
func (s *site) startPods(t *testing.T, namespace string) error {
	t.Helper()
	var pods corev1.PodList
	if err := s.List(t.Context(), &pods, client.InNamespace(namespace)); err != nil {
		return err
	}
	for i := range pods.Items {
		status := &pods.Items[i].Status
		status.Phase, status.PodIP = corev1.PodRunning, "192.0.2.1"
		status.PodIPs = []corev1.PodIP{{IP: status.PodIP}}
		status.ContainerStatuses = []corev1.ContainerStatus{{Name: pods.Items[i].Spec.Containers[0].Name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		if err := s.Status().Update(t.Context(), &pods.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// manage has the operator take an inventory of management. It asks for no more: there is nothing here to connect to.
func (s *site) manage(t *testing.T) {
	t.Helper()
	grafana := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "grafana"}}
	grafana.Spec.Ports = []corev1.ServicePort{{Port: 443}}
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: "rights-management"}}
	b.Spec.ManagementAccess = &pcinetv1alpha1.ManagementAccess{}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{"example.com/group": "nobody"}}
	for _, o := range []client.Object{grafana, b} {
		if err := s.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range []right{
		{group: "networking.k8s.io", resource: "ingresses", verb: "list"},
		{group: "apiregistration.k8s.io", resource: "apiservices", verb: "list"},
		{group: "admissionregistration.k8s.io", resource: "validatingwebhookconfigurations", verb: "list"},
		{group: "admissionregistration.k8s.io", resource: "mutatingwebhookconfigurations", verb: "list"},
	} {
		eventually.That(t, r.String()+" is used", func() error {
			used, _ := s.used(t)
			if !slices.Contains(used, r) {
				return errors.New("it is not")
			}
			return nil
		})
	}
	for _, o := range []client.Object{grafana, b} {
		if err := s.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *site) repairAdmission(t *testing.T) {
	t.Helper()
	for _, name := range []string{"pcinb-own-limits", "pcinb-pod-gate", "pcinb-tamper-guard"} {
		s.repair(t, object(admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicy"), "", name))
	}
}

// protect creates a baseline that asks for everything, for a namespace of its own name. Its tamper guard is off, because this is
// about repair.
func (s *site) protect(t *testing.T, name string, backend pcinetv1alpha1.Backend) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	labels := map[string]string{groupLabel: name}
	if err := s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}); err != nil {
		t.Fatal(err)
	}
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{groupLabel: pcinetv1alpha1.LabelValue(name)}}
	b.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone // there is none
	b.Spec.Allow.Rules = []pcinetv1alpha1.AllowRule{{
		Name: "web", Justification: "a second policy", Direction: pcinetv1alpha1.DirectionIngress,
		Peers: []pcinetv1alpha1.Peer{{PodSelector: &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{"app": "web"}}}},
		Ports: []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 443}},
	}}
	b.Spec.Backend = backend
	b.Spec.GuardLayer = pcinetv1alpha1.GuardLayerAuto
	b.Spec.DeletionPolicy = pcinetv1alpha1.DeletionPolicyDelete
	b.Spec.Admission.TamperGuard = pcinetv1alpha1.AdmissionOff
	if err := s.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

func (s *site) enforce(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, e pcinetv1alpha1.Enforcement) {
	t.Helper()
	eventually.That(t, "enforcement is "+string(e), func() error {
		if err := s.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
			return err
		}
		b.Spec.Enforcement = e
		return s.Update(t.Context(), b)
	})
}

func object(kind schema.GroupVersionKind, namespace, name string) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(kind)
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

// repair waits for an object of the operator's, takes its annotations away, and waits until they are back.
func (s *site) repair(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	what := o.GetKind() + " " + o.GetName()
	eventually.That(t, what+" is edited", func() error {
		if err := s.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if len(o.GetAnnotations()) == 0 {
			return errors.New("it has no annotations")
		}
		o.SetAnnotations(nil)
		return s.Update(t.Context(), o)
	})
	eventually.That(t, what+" is repaired", func() error {
		if err := s.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		if len(o.GetAnnotations()) == 0 {
			return errors.New("it has no annotations")
		}
		return nil
	})
}

func (s *site) gone(t *testing.T, o client.Object) {
	t.Helper()
	eventually.That(t, o.GetName()+" is gone", func() error {
		err := s.Get(t.Context(), client.ObjectKeyFromObject(o), o)
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
}

// uses returns an error unless the operator has used a right.
func (s *site) uses(t *testing.T, r right) error {
	t.Helper()
	if used, _ := s.used(t); !slices.ContainsFunc(used, r.covers) {
		return errors.New("it does not " + r.String())
	}
	return nil
}
