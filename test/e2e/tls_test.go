// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// TestKubelets compares what the operator says of real kubelets and of the API server, from its pod and with its own rights, with how
// hack/cluster and test/cluster configure them. It comes after TestNodeJoins, by the name of its file: then there is a second node, whose
// kubelet has a read-only port. Alone, or with the control plane on a node, all kubelets are alike.
func TestKubelets(t *testing.T) {
	const reports = "github.com/openreports/reports-api"
	_, err := output(t.Context(), "go", "mod", "download", reports) // nothing that is built for these tests needs it
	if err != nil {
		t.Fatal(err)
	}
	module, err := output(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", reports)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, "-f", filepath.Join(strings.TrimSpace(module), "config", "install.yaml"))
	apply(t, "-k", "config/reports")
	var nodes corev1.NodeList
	if err := env.client.List(t.Context(), &nodes); err != nil {
		t.Fatal(err)
	}
	b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.ManagementEncryption = &pcinetv1alpha1.ManagementEncryption{}
		b.Spec.ManagementAccess = &pcinetv1alpha1.ManagementAccess{AllowedCIDRs: allowList(administrator)}
	})
	for i := range nodes.Items {
		name := nodes.Items[i].Name
		t.Run(name+", without the rights to ask", func(t *testing.T) {
			if env.enforces { // the operator's own policy does not let it reach them
				awaitResults(t, b, "kubelet of Node "+name+": ", "error: its configuration could not be read: it does not answer.", "error: what it shows without credentials could not be seen.")
				return
			}
			awaitResults(t, b, "kubelet of Node "+name+": ", "error: its configuration could not be read: the operator has no right to get nodes/configz.", "pass: it refuses requests without credentials.")
		})
	}

	apply(t, "-k", "config/management")
	run(t, "label", "node", "n1", "node-role.kubernetes.io/control-plane=", "--overwrite")
	t.Cleanup(func() {
		if _, err := kubectl(context.WithoutCancel(t.Context()), "label", "node", "n1", "node-role.kubernetes.io/control-plane-"); err != nil {
			t.Error(err)
		}
	})
	looker := lookFromNode(t)
	restartOperator(t) // or it asks again after some minutes
	for i := range nodes.Items {
		name, address := nodes.Items[i].Name, addressOf(t, &nodes.Items[i])
		t.Run(name, func(t *testing.T) {
			settings, readOnly := "fail: rotateCertificates is off, so its client certificate is not renewed.", "pass: nobody listens there."
			if name == env.open {
				settings, readOnly = "fail: readOnlyPort is set.", "fail: it answers in the clear."
			}
			awaitResults(t, b, "kubelet of Node "+name+": ", settings, "pass: it refuses requests without credentials.", "warn: it does not renew its serving certificate, ")
			awaitResults(t, b, fmt.Sprintf("read-only kubelet port %s:10255 (Node %s): ", address, name), readOnly)
			awaitResults(t, b, fmt.Sprintf("kubelet %s:10250 (Node %s): ", address, name),
				"pass: it accepts nothing below TLS 1.2.",
				"pass: it speaks TLS.",
				"pass: its certificate is one that its clients trust.",
				"pass: its certificate is valid, strong enough and not too old.",
				"skip: no other certificate than this one of ",
			)
		})
	}
	t.Run("ports that the network's agent opens", func(t *testing.T) {
		if env.engine.backend != pcinetv1alpha1.BackendCilium {
			t.Skip("no other one serves metrics here")
		}
		for i := range nodes.Items {
			of := " " + addressOf(t, &nodes.Items[i]) + ":%d (DaemonSet kube-system/cilium): "
			awaitResults(t, b, fmt.Sprintf("Cilium's metrics"+of, 9962), "fail: it answers in the clear.")
			awaitResults(t, b, fmt.Sprintf("Hubble"+of, 4244), "skip: nobody listens there.")
			awaitResults(t, b, fmt.Sprintf("Cilium's gops"+of, 9890), "skip: nobody listens there.")
		}
	})
	t.Run("what the node reaches that has looked itself", func(t *testing.T) {
		if len(nodes.Items) < 2 {
			t.Skip("there is no other one")
		}
		var at corev1.Node
		if err := env.client.Get(t.Context(), client.ObjectKey{Name: looker}, &at); err != nil {
			t.Fatal(err)
		}
		awaitResults(t, b, "Every kubelet, from node "+looker+" ("+addressOf(t, &at)+"): ", "warn: 1 of 1 answer, and spec.managementAccess.allowedCIDRs does not hold that node: "+firstNode+":10250.")
	})
	t.Run("what else the control plane has, on its own loopback address or not there", func(t *testing.T) {
		needServerOnNode(t)
		for _, of := range []string{"etcd " + firstNode + ":2379", "etcd " + firstNode + ":2380", "scheduler " + firstNode + ":10259", "controller manager " + firstNode + ":10257"} {
			awaitResults(t, b, of+" (Node n1): ", "skip: nobody listens there.")
		}
		for _, of := range []string{"insecure API port " + firstNode + ":8080", "etcd metrics " + firstNode + ":2381"} {
			awaitResults(t, b, of+" (Node n1): ", "pass: nobody listens there.")
		}
	})
	t.Run("the API server", func(t *testing.T) {
		awaitResults(t, b, "API server: ", "warn: it takes requests without credentials, and does not show nodes to them.")
		awaitResults(t, b, "API server (/flagz): ",
			"pass: it asks who may do what.",
			"pass: it verifies kubelets.",
			"warn: it talks to etcd in the clear, on its own host.",
		)
		awaitResults(t, b, "The cluster's own authority: ", "pass: kube-root-ca.crt holds ")
		awaitResults(t, b, "service account key ", "pass: it is strong enough: ECDSA with 256 bits.", "skip: it has been seen since ")
	})
}

// lookFromNode has a pod of config/management/vantage look from a node, and returns which.
func lookFromNode(t *testing.T) string {
	t.Helper()
	const in = "pci-network-baseline-vantage"
	applyOverlay(t, "config/management/vantage", nil)
	run(t, "-n", in, "create", "job", "now", "--from=cronjob/vantage")
	run(t, "-n", in, "wait", "--for=condition=Complete", "job/now", "--timeout=120s")
	return strings.TrimSpace(run(t, "-n", in, "get", "pods", "-l", "job-name=now", "-o", "jsonpath={.items[0].spec.nodeName}"))
}

// apply applies manifests until the test ends.
func apply(t *testing.T, from ...string) {
	t.Helper()
	run(t, append([]string{"apply", "--server-side"}, from...)...)
	t.Cleanup(func() {
		if _, err := kubectl(context.WithoutCancel(t.Context()), append([]string{"delete", "--ignore-not-found"}, from...)...); err != nil {
			t.Error(err)
		}
	})
}

func restartOperator(t *testing.T) {
	t.Helper()
	run(t, "-n", operatorNamespace, "rollout", "restart", "deployment", operatorName)
	if err := awaitOperator(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func addressOf(t *testing.T, node *corev1.Node) string {
	t.Helper()
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	t.Fatalf("%s has no address", node.Name)
	return ""
}

// awaitResults waits until the report says this of a subject and no more, as "result: beginning of what is said", in order of the
// alphabet. A subject may be the beginning of one with a name that nobody knows.
func awaitResults(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, subject string, want ...string) {
	t.Helper()
	eventually(t, "the report says of "+subject+strings.Join(want, " … "), func() error {
		report := &unstructured.Unstructured{}
		report.SetGroupVersionKind(schema.GroupVersionKind{Group: "openreports.io", Version: "v1alpha1", Kind: "ClusterReport"})
		if err := env.client.Get(t.Context(), client.ObjectKey{Name: "pcinb-" + b.Name}, report); err != nil {
			return err
		}
		results, _, err := unstructured.NestedSlice(report.Object, "results")
		if err != nil {
			return err
		}
		var got []string
		for _, r := range results {
			result, _ := r.(map[string]any)
			said, _ := result["message"].(string)
			if rest, of := strings.CutPrefix(said, subject); of {
				if strings.HasSuffix(subject, " ") && !strings.HasSuffix(subject, ": ") {
					_, rest, _ = strings.Cut(rest, ": ")
				}
				got = append(got, fmt.Sprintf("%s: %s", result["result"], rest))
			}
		}
		slices.Sort(got)
		if !slices.EqualFunc(got, want, strings.HasPrefix) {
			return fmt.Errorf("it says %s", strings.Join(got, "\n"))
		}
		return nil
	})
}
