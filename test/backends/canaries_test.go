// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package backends_test

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/admission"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

// sample is what the operator makes canaries of.
var sample = probe.Sample{
	Run: "1", Nodes: []string{"n1"}, Directions: []policy.Direction{policy.Ingress, policy.Egress},
	Endpoints: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6443")},
}

// A thief of the operator's token can make no pod that holds or reads anything.
func TestTheOperatorMayMakeNoPodsButCanaries(t *testing.T) {
	c := operator(t)
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: probe.Namespace, Name: "default"}} // no pod without
	if err := client.IgnoreAlreadyExists(env.client.Create(t.Context(), account)); err != nil {
		t.Fatal(err)
	}
	const reads, marked = "hold no token and read nothing", "marked as its own"
	secret := corev1.LocalObjectReference{Name: "keys"}
	fromSecret := []corev1.EnvVar{{Name: "KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: secret, Key: "key"}}}}
	allFromSecret := []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: secret}}}
	before := func(p *corev1.Pod, change func(*corev1.Container)) { // a container that runs before the canary
		p.Spec.InitContainers = []corev1.Container{*p.Spec.Containers[0].DeepCopy()}
		p.Spec.InitContainers[0].Name = "before"
		change(&p.Spec.InitContainers[0])
	}
	cases := map[string]struct {
		change func(*corev1.Pod)
		words  string // of the refusal; "" when it passes
	}{
		"a canary":           {func(*corev1.Pod) {}, ""},
		"that is not marked": {func(p *corev1.Pod) { delete(p.Labels, render.LabelManagedBy) }, marked},
		"with a token":       {func(p *corev1.Pod) { p.Spec.AutomountServiceAccountToken = nil }, reads},
		"with a Secret as a volume": {func(p *corev1.Pod) {
			p.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret.Name}}
		}, reads},
		"with a Secret's key as a variable":         {func(p *corev1.Pod) { p.Spec.Containers[0].Env = fromSecret }, reads},
		"with a Secret's keys as variables":         {func(p *corev1.Pod) { p.Spec.Containers[0].EnvFrom = allFromSecret }, reads},
		"with a Secret's key in an init container":  {func(p *corev1.Pod) { before(p, func(c *corev1.Container) { c.Env = fromSecret }) }, reads},
		"with a Secret's keys in an init container": {func(p *corev1.Pod) { before(p, func(c *corev1.Container) { c.EnvFrom = allFromSecret }) }, reads},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			for _, canary := range sample.Canaries("") {
				pod := sample.Pod(canary, probe.Image{Name: "app"})
				pod.Labels[render.LabelManagedBy] = render.ManagedBy
				tc.change(pod)
				err := c.Create(t.Context(), pod, client.DryRunAll)
				if tc.words != "" {
					err = refused(err, admission.OwnLimits, tc.words)
				}
				if err != nil {
					t.Errorf("%s: %v", canary.Role, err)
				}
			}
		})
	}
}

// It writes what is between canaries, in any API, and can open nothing with the names of that.
func TestTheOperatorMayOpenCanariesToEachOther(t *testing.T) {
	c := operator(t)
	elsewhere := createNamespace(t)
	for name, tc := range map[string]struct {
		backend  render.Backend
		everyone string // a patch that opens a policy to everybody
	}{
		"core":   {core.Backend{}, `{"spec":{"ingress":[{}]}}`},
		"Calico": {calico.Backend{}, `{"spec":{"ingress":[{"action":"Allow"}]}}`},
		"Cilium": {cilium.Backend{}, `{"spec":{"ingress":[{"fromEntities":["all"]}]}}`},
	} {
		for _, p := range sample.Policies(probe.StateA) {
			t.Run(name+" "+p.Name, func(t *testing.T) {
				between := func(namespace, name string) client.Object {
					return tc.backend.Render(metav1.ObjectMeta{
						Namespace: namespace, Name: name, Labels: map[string]string{render.LabelManagedBy: render.ManagedBy, probe.LabelRole: p.Name},
					}, p)
				}
				proper := probe.Role(p.Name).PolicyName()
				obj := between(probe.Namespace, proper)
				createServed(t, &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}, c, obj)
				open, err := patch(t, obj, tc.everyone)
				if err != nil {
					t.Fatal(err)
				}
				if err := refused(c.Update(t.Context(), open, client.DryRunAll), admission.OwnLimits, peers); err != nil {
					t.Errorf("for everybody: %v", err)
				}
				for what, obj := range map[string]client.Object{"under another name": between(probe.Namespace, "pcinb-probe-other"), "elsewhere": between(elsewhere, proper)} {
					if err := refused(c.Create(t.Context(), obj, client.DryRunAll), admission.OwnLimits, "marked as its own"); err != nil {
						t.Errorf("%s: %v", what, err)
					}
				}
			})
		}
	}
}
