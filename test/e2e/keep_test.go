// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// TestUpgradeAndCrash counts what gets through while the operator is replaced, and killed.
func TestUpgradeAndCrash(t *testing.T) {
	namespace := createProtected(t, createBaseline(t, nil))
	srv := startServer(t, namespace, "server")
	stream := startStream(t, namespace, at(srv, 8080))
	before := awaitTries(t, stream, tally{}, 10)

	t.Run("upgrade", func(t *testing.T) {
		run(t, "-n", operatorNamespace, "set", "image", "deployment", operatorName, "manager="+env.next)
		if err := awaitOperator(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := awaitTries(t, stream, before, 20)
		mustHaveBeenDenied(t, before, after)
		before = after
	})
	t.Run("crash", func(t *testing.T) {
		restarts := restartsOf(t)
		var nodes corev1.NodeList
		if err := env.client.List(t.Context(), &nodes); err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes.Items { // in the node's namespace of processes there is no other operator
			if _, err := onMachine(t.Context(), n.Name, "sh", "-c", "pids=$(pidof "+operatorName+") || exit 0; kill -KILL $pids"); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "both replicas have started again", func() error {
			if n := restartsOf(t); n < restarts+2 {
				return fmt.Errorf("%d restarts", n-restarts)
			}
			return nil
		})
		if err := awaitOperator(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustHaveBeenDenied(t, before, awaitTries(t, stream, before, 20))
	})
}

func restartsOf(t *testing.T) int {
	t.Helper()
	var pods corev1.PodList
	if err := env.client.List(t.Context(), &pods, client.InNamespace(operatorNamespace)); err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := range pods.Items {
		for _, s := range pods.Items[i].Status.ContainerStatuses {
			n += int(s.RestartCount)
		}
	}
	return n
}

// TestNamespaceDeletion deletes a namespace with a pod that takes its time, and counts what gets through to it.
func TestNamespaceDeletion(t *testing.T) {
	namespace := createProtected(t, createBaseline(t, nil))
	srv := startServer(t, namespace, "server", func(p *corev1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = ptr.To[int64](20)
		p.Spec.Containers[0].Args = append(p.Spec.Containers[0].Args, "-linger=12s")
	})
	stream := startStream(t, createNamespace(t, ""), at(srv, 8080))
	before := awaitTries(t, stream, tally{}, 10)

	run(t, "delete", "namespace", namespace, "--wait=false")
	time.Sleep(8 * time.Second) // of the 12
	if !tcp(srv, "127.0.0.1:8080").passes(t) {
		t.Fatal("the pod has ended early: nothing was tested")
	}
	mustHaveBeenDenied(t, before, awaitTries(t, stream, before, 20))
	eventually(t, "the namespace is gone", func() error {
		err := env.client.Get(t.Context(), client.ObjectKey{Name: namespace}, &corev1.Namespace{})
		if err == nil {
			return errors.New("it is there")
		}
		return client.IgnoreNotFound(err)
	})
}

// TestAllowAllIsUndone has somebody add allow-all to a deny.
func TestAllowAllIsUndone(t *testing.T) {
	core := func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Backend = pcinetv1alpha1.BackendNetworkPolicy }
	guarded := createBaseline(t, core)
	bare := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		core(b)
		b.Spec.Admission.TamperGuard = pcinetv1alpha1.AdmissionOff
	})
	streams := map[*pcinetv1alpha1.PCINetworkBaseline]*corev1.Pod{}
	for _, b := range []*pcinetv1alpha1.PCINetworkBaseline{guarded, bare} {
		namespace := createProtected(t, b)
		streams[b] = startStream(t, namespace, at(startServer(t, namespace, "server"), 8080))
		if env.enforces {
			awaitLast(t, streams[b], false)
		}
	}
	t.Run("break-glass on: it stands until that ends", func(t *testing.T) {
		until := time.Now().Add(20 * time.Second).UTC().Format(time.RFC3339)
		run(t, "annotate", "pcinb", guarded.Name, "--overwrite", pcinetv1alpha1.AnnotationBreakGlass+"="+until+" e2e")
		eventually(t, "the deny can be changed", func() error { return allowAll(t, streams[guarded].Namespace, guarded) })
		awaitLast(t, streams[guarded], true)
		awaitRepair(t, streams[guarded], guarded)
		eventually(t, "the guard refuses again", func() error { // the API server needs up to a second to notice
			if err := allowAll(t, streams[guarded].Namespace, guarded, client.DryRunAll); !refused(err) {
				return fmt.Errorf("err = %w", err)
			}
			return nil
		})
	})
	stopOperator(t)
	t.Run("guard on: it is refused", func(t *testing.T) {
		before := tallyOf(t, streams[guarded].Namespace, streams[guarded].Name)
		if err := allowAll(t, streams[guarded].Namespace, guarded); !refused(err) {
			t.Errorf("err = %v, want a refusal", err)
		}
		mustHaveBeenDenied(t, before, awaitTries(t, streams[guarded], before, 20))
	})
	t.Run("guard off: it opens, and an operator that comes back undoes it", func(t *testing.T) {
		if err := allowAll(t, streams[bare].Namespace, bare); err != nil {
			t.Fatal(err)
		}
		awaitLast(t, streams[bare], true)
		startOperator(t)
		awaitRepair(t, streams[bare], bare)
	})
}

func denyOf(t *testing.T, namespace string, b *pcinetv1alpha1.PCINetworkBaseline) (*networkingv1.NetworkPolicy, error) {
	t.Helper()
	deny := &networkingv1.NetworkPolicy{}
	err := env.client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "pcinb-" + b.Name + "-default-deny"}, deny)
	return deny, err
}

// allowAll adds rules that allow everything to the deny of a namespace.
func allowAll(t *testing.T, namespace string, b *pcinetv1alpha1.PCINetworkBaseline, opts ...client.UpdateOption) error {
	t.Helper()
	deny, err := denyOf(t, namespace, b)
	if err != nil {
		return err
	}
	deny.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
	deny.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}}
	return env.client.Update(t.Context(), deny, append(opts, client.FieldOwner("mallory"))...)
}

// refused says whether admission refused a request.
func refused(err error) bool { return apierrors.IsInvalid(err) || apierrors.IsForbidden(err) }

// awaitRepair waits until the deny is one again, and checks that the stream stops and stays so.
func awaitRepair(t *testing.T, stream *corev1.Pod, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	eventually(t, "the deny is repaired", func() error {
		deny, err := denyOf(t, stream.Namespace, b)
		if err == nil && len(deny.Spec.Ingress)+len(deny.Spec.Egress) > 0 {
			err = errors.New("it has rules")
		}
		return err
	})
	if !env.enforces {
		return
	}
	stopped := awaitLast(t, stream, false)
	t.Logf("%d tries got through before it was undone", stopped.through)
	mustHaveBeenDenied(t, stopped, awaitTries(t, stream, stopped, 20))
}
