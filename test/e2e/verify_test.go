// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
)

const (
	proven    = "EnforcementProven=True/DenialProven"
	disproven = "EnforcementProven=False/DeniedTrafficPasses"
	// interval is the shortest that there can be.
	interval = time.Minute
)

// createVerified creates a baseline for the canaries' namespace alone. It leaves no allowance there: of one whose baseline is gone nobody
// knows what it opens, and the next proof would not be one.
func createVerified(t *testing.T) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	return createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{corev1.LabelMetadataName: probe.Namespace}}
		b.Spec.DeletionPolicy = pcinetv1alpha1.DeletionPolicyDelete
		b.Spec.Verification.IntervalSeconds = int32(interval.Seconds())
	})
}

// awaitCondition waits until a condition of a baseline is "Type=Status/Reason", with words in its message, and returns that.
func awaitCondition(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, want string, words ...string) string {
	t.Helper()
	kind, _, _ := strings.Cut(want, "=")
	var c *metav1.Condition
	eventually(t, want+" "+strings.Join(words, " … "), func() error {
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
			return err
		}
		if c = apimeta.FindStatusCondition(b.Status.Conditions, kind); c == nil {
			return errors.New("there is no such condition")
		}
		lacks := func(word string) bool { return !strings.Contains(c.Message, word) }
		if got := fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason); got != want || slices.ContainsFunc(words, lacks) {
			return fmt.Errorf("it is %s: %s", got, c.Message)
		}
		return nil
	})
	return c.Message
}

// TestEnforcementIsProven comes last, by the name of its file: then there are two nodes.
func TestEnforcementIsProven(t *testing.T) {
	var nodes corev1.NodeList
	if err := env.client.List(t.Context(), &nodes); err != nil {
		t.Fatal(err)
	}
	n := len(nodes.Items)
	last := nodes.Items[n-1].Name
	b, began := createVerified(t), time.Now()
	if !env.enforces {
		t.Log(awaitCondition(t, b, disproven, fmt.Sprintf("on %d of %d nodes", n, n)))
		t.Logf("All %d nodes were disproven %s after the baseline was made.", n, since(began))
		return
	}
	awaitCondition(t, b, proven, fmt.Sprintf("on %d of %d nodes", n, n))
	awaitCondition(t, b, "Ready=True/AllNamespacesProtected")
	t.Logf("All %d nodes were proven %s after the baseline was made.", n, since(began))
	checkMeasured(t, b)

	t.Run("a vantage outside, which does not run yet", func(t *testing.T) {
		patch := fmt.Sprintf(`{"spec": {"verification": {"vantage": {"address": %q}}}}`, outsideIP)
		run(t, "patch", "pcinb", b.Name, "--type=merge", "--patch="+patch)
		t.Log(awaitCondition(t, b, "EnforcementProven=Unknown/ControlFailed", "from outside", "nothing is heard of the vantage"))
	})
	t.Run("it runs", func(t *testing.T) {
		startVantage(t)
		began := time.Now()
		run(t, "patch", "pcinb", b.Name, "--type=merge", `--patch={"spec": {"verification": {"nodes": 99}}}`) // what changes is tested at once
		awaitCondition(t, b, proven, fmt.Sprintf("on %d of %d nodes", n, n))
		t.Logf("All nodes were proven from outside, too, %s after that.", since(began))
	})
	t.Run("an agent is frozen, and its node cordoned, before what is denied changes", func(t *testing.T) {
		awaitCanaries(t, 2*n)
		began := freeze(t, last)
		t.Log(awaitCondition(t, b, disproven, fmt.Sprintf("on 1 of %d nodes (%s)", n, last), "node "+last))
		t.Logf("It was found %s after that.", since(began))
		awaitCondition(t, b, "Ready=False/DeniedTrafficPasses", last)
	})
	t.Run("it goes on", func(t *testing.T) {
		began := time.Now()
		awaitCondition(t, b, proven)
		awaitCondition(t, b, "Ready=True/AllNamespacesProtected")
		t.Logf("It was proven again %s after that.", since(began))
	})
	t.Run("the canaries' namespace is deleted", func(t *testing.T) {
		run(t, "delete", "namespace", probe.Namespace)
		t.Log(awaitCondition(t, b, "EnforcementProven=Unknown/CanaryNamespaceMissing"))
		began := time.Now()
		run(t, "apply", "--server-side", "-k", "config/probe") // the Deployment may have been upgraded by others
		awaitCondition(t, b, proven, fmt.Sprintf("on %d of %d nodes", n, n))
		t.Logf("It was True again %s after it was installed again.", since(began))
	})
}

// startVantage runs a vantage outside of the cluster. It ends with the cluster.
func startVantage(t *testing.T) {
	t.Helper()
	address := outsideIP + ":24310"
	_, err := onMachine(t.Context(), "outside", "sh", "-c", "bin/pci-network-baseline probe --vantage="+address+" >/dev/null 2>&1 &")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the vantage listens", func() error {
		out, err := onMachine(t.Context(), "outside", "bin/node/nodekit", "dial", address)
		if err == nil && !strings.HasPrefix(out, "OPEN") {
			err = errors.New(out)
		}
		return err
	})
}

// awaitCanaries waits until those of the next round stand. An agent that is frozen before starts none: that is Unknown, and takes longer.
func awaitCanaries(t *testing.T, n int) {
	t.Helper()
	eventually(t, "canaries stand", func() error {
		var pods corev1.PodList
		if err := env.client.List(t.Context(), &pods, client.InNamespace(probe.Namespace)); err != nil {
			return err
		}
		running := 0
		for i := range pods.Items {
			if pods.Items[i].Status.Phase == corev1.PodRunning && pods.Items[i].DeletionTimestamp.IsZero() {
				running++
			}
		}
		if running != n {
			return fmt.Errorf("%d do", running)
		}
		return nil
	})
}

// freeze stops the agent of a node and cordons it, until the test ends.
func freeze(t *testing.T, node string) (began time.Time) {
	t.Helper()
	signal := func(ctx context.Context, name, cordon string) {
		_, err := onMachine(ctx, node, "sh", "-c", "kill -"+name+" $(pidof "+env.engine.agent+")")
		if _, cordonErr := kubectl(ctx, cordon, node); errors.Join(err, cordonErr) != nil {
			t.Fatal(err, cordonErr)
		}
	}
	t.Cleanup(func() { signal(context.WithoutCancel(t.Context()), "CONT", "uncordon") })
	signal(t.Context(), "STOP", "cordon")
	return time.Now()
}

// checkMeasured looks at what is measured beside the proof. Engines differ in what they do with established connections.
func checkMeasured(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	p := b.Status.Proof
	if p == nil || p.StartWindowMilliseconds == nil {
		t.Fatalf("status.proof is %+v: the start window was not measured", p)
	}
	t.Logf("After a pod's first instruction denied packets passed for %d ms. Established connections: %s.", *p.StartWindowMilliseconds, p.EstablishedConnections)
	if p.EstablishedConnections != env.engine.established {
		t.Errorf("established connections are %q, want %q", p.EstablishedConnections, env.engine.established)
	}
}
