// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// TestNamespaceBornWithDeployment creates a namespace and its workload at once, as GitOps does. The workload dials in its
// first instruction. The operator comes late, so that the window is there to be seen.
func TestNamespaceBornWithDeployment(t *testing.T) {
	target := startServer(t, createNamespace(t, ""), "server")
	gated := createBaseline(t, nil)
	open := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Admission.PodGate = pcinetv1alpha1.AdmissionOff })
	awaitGate(t, gated)

	prompt := deployStream(t, createNamespace(t, gated.Name), at(target, 8080))
	stopOperator(t)
	late := deployStream(t, createNamespace(t, gated.Name), at(target, 8080))
	early := deployStream(t, createNamespace(t, open.Name), at(target, 8080))
	window := awaitLast(t, podOf(t, early), true)
	if n := len(podsOf(t, late)); n != 0 {
		t.Errorf("%d pods passed the gate without a deny", n)
	}
	startOperator(t)

	for what, d := range map[string]*appsv1.Deployment{"the operator in time": prompt, "the operator late": late} {
		t.Run("gate on, "+what, func(t *testing.T) {
			mustHaveBeenDenied(t, tally{}, awaitTries(t, podOf(t, d), tally{}, 20))
		})
	}
	t.Run("gate off, the operator late", func(t *testing.T) {
		if !env.enforces {
			t.Skip("no policy ends the window here")
		}
		end := awaitLast(t, podOf(t, early), false)
		t.Logf("%d tries got through before the operator came, %d in all, in the first %d ms", window.through, end.through, end.stopped)
		mustHaveBeenDenied(t, end, awaitTries(t, podOf(t, early), end, 20))
	})
}

// awaitGate waits until the policies of admission are there.
func awaitGate(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	eventually(t, "the gate is in place", func() error {
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
			return err
		}
		if b.Status.Admission.State != pcinetv1alpha1.PolicyInPlace {
			return fmt.Errorf("it is %q: %s", b.Status.Admission.State, b.Status.Admission.Message)
		}
		return nil
	})
}

// deployStream creates a Deployment whose pod dials without a rest.
func deployStream(t *testing.T, namespace, to string) *appsv1.Deployment {
	t.Helper()
	labels := map[string]string{"app": "stream"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "stream"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: podSpec(streamArgs(to)...)},
		},
	}
	create(t, d)
	return d
}

func podsOf(t *testing.T, d *appsv1.Deployment) []corev1.Pod {
	t.Helper()
	var list corev1.PodList
	if err := env.client.List(t.Context(), &list, client.InNamespace(d.Namespace)); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// podOf waits for the pod of a Deployment to run.
func podOf(t *testing.T, d *appsv1.Deployment) *corev1.Pod {
	t.Helper()
	var pod *corev1.Pod
	eventually(t, "a pod runs in "+d.Namespace, func() error {
		for _, p := range podsOf(t, d) {
			if p.Status.Phase == corev1.PodRunning {
				pod = &p
				return nil
			}
		}
		return errors.New("none")
	})
	return pod
}

// TestNodeJoins covers pods of a node that was not there before.
func TestNodeJoins(t *testing.T) {
	b := createBaseline(t, nil)
	namespace := createProtected(t, b)
	var before corev1.NodeList
	if err := env.client.List(t.Context(), &before); err != nil {
		t.Fatal(err)
	}
	joined := len(before.Items) + 1
	differ(t, joined)
	if _, err := output(t.Context(), "bin/node/cluster", "join"); err != nil {
		t.Fatal(err)
	}
	on := func(i int) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.NodeName = fmt.Sprintf("n%d", i) }
	}
	open := createNamespace(t, "")
	near, far := startServer(t, open, "near", on(joined)), startServer(t, open, "far", on(1))
	cli := startServer(t, namespace, "client", on(joined))

	tcp(near, at(far, 8080)).mustPass(t)
	tcp(far, at(near, 8080)).mustPass(t)
	tcp(cli, at(near, 8080)).mustBeDenied(t)
	tcp(cli, at(far, 8080)).mustBeDenied(t)
	tcp(near, at(cli, 8080)).mustBeDenied(t)
	tcp(far, at(cli, 8080)).mustBeDenied(t)
	lookup(cli, "udp").mustPass(t)
}

// differ has the kubelet of a node that is to join answer in the clear, too, for TestKubelets.
func differ(t *testing.T, node int) {
	t.Helper()
	env.open = fmt.Sprintf("n%d", node)
	dir := filepath.Join(filepath.Dir(env.kubeconfig), "kubelet.d", env.open)
	const settings = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nreadOnlyPort: 10255\nrotateCertificates: true\n"
	if err := errors.Join(os.MkdirAll(dir, 0o750), os.WriteFile(filepath.Join(dir, "50-open.conf"), []byte(settings), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
}
