// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// Addresses of the test bed (hack/cluster/network.go). Who comes by env.kubeconfig has the administrator's.
const (
	firstNode, secondNode = "198.18.255.11", "198.18.255.12"
	nodeRange             = "198.18.255.8/29"
	podRange              = "198.18.0.0/17"
	administrator         = "198.18.255.2/32"
	watchFor              = 60 * time.Second
)

// sixth are the kubelets by addresses of another family (RFC 5180), of which the list has none.
var sixth = []string{"[2001:2::11]:10250", "[2001:2::12]:10250"}

// withSixth gives the nodes and the outside machine such addresses.
func withSixth(t *testing.T) {
	t.Helper()
	for machine, address := range map[string]string{"n1": "2001:2::11/64 dev eth0", "n2": "2001:2::12/64 dev eth0", "outside": "2001:2::1/64 dev br0"} {
		if _, err := onMachine(t.Context(), machine, "sh", "-c", "ip -6 addr replace "+address+" nodad"); err != nil {
			t.Fatal(err)
		}
	}
}

// needServerOnNode skips where there is no API server on a node that the outside machine could reach.
func needServerOnNode(t *testing.T) {
	t.Helper()
	if got := strings.TrimSpace(run(t, "get", "endpointslices", "kubernetes", "-o", "jsonpath={.endpoints[*].addresses[*]}")); got != firstNode {
		t.Skipf("the API server is at %s and on no node: make e2e-hosts", got)
	}
}

// fromOutside says what a stranger meets at an address.
func fromOutside(t *testing.T, address string) string {
	t.Helper()
	out, err := onMachine(t.Context(), "outside", "bin/node/nodekit", "dial", address)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func awaitOutside(t *testing.T, want string, addresses ...string) {
	t.Helper()
	for _, a := range addresses {
		eventually(t, a+" is "+want+" to a stranger", func() error { return differs(fromOutside(t, a), want) })
	}
}

func allowList(ranges ...string) (out []pcinetv1alpha1.AllowedCIDR) {
	for _, r := range ranges {
		out = append(out, pcinetv1alpha1.AllowedCIDR{CIDR: pcinetv1alpha1.CIDR(r), Name: "x", Justification: "It is for a test."})
	}
	return out
}

// awaitAccess waits until the condition of 4.2 says something.
func awaitAccess(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, reason, says string) {
	t.Helper()
	eventually(t, "ManagementAccessRestricted has the reason "+reason, func() error {
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
			return err
		}
		c := apimeta.FindStatusCondition(b.Status.Conditions, pcinetv1alpha1.ConditionManagementAccessRestricted)
		if c == nil || c.ObservedGeneration != b.Generation || c.Reason != reason || !strings.Contains(c.Message, says) {
			return fmt.Errorf("%+v", c)
		}
		return nil
	})
}

// loggedFirewall returns the objects that the operator would write, as it logged them last: the policy, and before it what it stands on.
func loggedFirewall(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) (objects []*unstructured.Unstructured) {
	t.Helper()
	eventually(t, "the operator logs what it would write", func() error {
		out, err := kubectl(t.Context(), "-n", operatorNamespace, "logs", "-l", "app.kubernetes.io/component=manager", "--tail=-1")
		if err != nil {
			return err
		}
		for line := range strings.Lines(out) {
			var entry struct{ Baseline, Object string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Baseline == b.Name && entry.Object != "" {
				object := &unstructured.Unstructured{}
				if err := json.Unmarshal([]byte(entry.Object), object); err != nil {
					return err
				}
				objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == object.GetKind() })
				objects = append(objects, object)
			}
		}
		if len(objects) == 0 {
			return errors.New("it has not")
		}
		return nil
	})
	return objects
}

// A list that lacks somebody is refused, and one that lacks nobody says what it would be. What it would be closes the API server and
// kubelets to strangers and to nobody else, for as long as a minute.
func TestHostFirewall(t *testing.T) {
	needServerOnNode(t)
	env.engine.hosts.prepare(t)
	b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.ManagementAccess = &pcinetv1alpha1.ManagementAccess{HostFirewall: pcinetv1alpha1.HostFirewallAudit, AllowedCIDRs: allowList(administrator)}
	})
	awaitAccess(t, b, pcinetv1alpha1.ReasonHostFirewallRefused, firstNode+" (Node n1), "+firstNode+" (API server), "+secondNode+" (Node n2)")
	patch(t, b, func() {
		b.Spec.ManagementAccess.AllowedCIDRs = allowList(append(env.engine.hosts.ranges, administrator, firstNode+"/32", secondNode+"/32")...)
	})
	awaitAccess(t, b, pcinetv1alpha1.ReasonHostFirewallRefused, "it holds nodes only one by one")
	patch(t, b, func() {
		b.Spec.ManagementAccess.AllowedCIDRs = allowList(append(env.engine.hosts.ranges, administrator, nodeRange)...)
	})
	awaitAccess(t, b, pcinetv1alpha1.ReasonManagementNotObservable, "attestation") // nobody attests what is in front of the cluster
	if p := env.engine.hosts.live(t, b.Name); p != nil {
		t.Errorf("Audit has written %v", p)
	}

	local, remote, host := serverOn(t, "n1"), serverOn(t, "n2"), serverOn(t, "n2", onHostNetwork)
	withSixth(t)
	guarded := []string{firstNode + ":6443", firstNode + ":10250", secondNode + ":10250"}
	awaitOutside(t, "OPEN", guarded...)
	if !env.engine.hosts.closesSixth {
		awaitOutside(t, "OPEN", sixth...)
	}
	var firewall *unstructured.Unstructured
	for _, firewall = range loggedFirewall(t, b) {
		firewall.SetName(strings.Replace(firewall.GetName(), "pcinb-"+b.Name+"-hosts", "trial", 1))
		firewall.SetLabels(nil)
		firewall.SetAnnotations(nil)
		if env.client.Get(t.Context(), client.ObjectKeyFromObject(firewall), firewall.DeepCopy()) == nil {
			continue // the tier, which stays
		}
		create(t, firewall)
	}
	awaitOutside(t, "BLOCKED", append(sixth, guarded...)...)
	began := time.Now()
	for time.Since(began) < watchFor {
		for _, a := range append(sixth, guarded...) {
			if got := fromOutside(t, a); got != "BLOCKED" {
				t.Fatalf("after %s, %s is %s to a stranger", time.Since(began), a, got)
			}
		}
		if got := fromOutside(t, secondNode+":8080"); got != "OPEN" {
			t.Fatalf("after %s, another port of a node is %s", time.Since(began), got)
		}
		healthy(t, local, remote, host)
		time.Sleep(time.Second)
	}
	if err := env.client.Delete(t.Context(), firewall); err != nil {
		t.Fatal(err)
	}
	awaitOutside(t, "OPEN", guarded...)
}

// healthy fails unless API server, etcd, kubelets and nodes are, and the API server reaches the kubelets of these pods.
func healthy(t *testing.T, pods ...*corev1.Pod) {
	t.Helper()
	for _, path := range []string{"/readyz", "/readyz/etcd"} {
		if got := run(t, "get", "--raw", path); got != "ok" {
			t.Fatalf("%s says %s", path, got)
		}
	}
	for _, p := range pods {
		run(t, "-n", p.Namespace, "logs", p.Name) // by port 10250
	}
	for _, name := range []string{"n1", "n2"} {
		var node corev1.Node
		var lease coordinationv1.Lease
		if err := errors.Join(env.client.Get(t.Context(), client.ObjectKey{Name: name}, &node),
			env.client.Get(t.Context(), client.ObjectKey{Namespace: corev1.NamespaceNodeLease, Name: name}, &lease)); err != nil {
			t.Fatal(err)
		}
		if age := time.Since(lease.Spec.RenewTime.Time); age > 30*time.Second { // the kubelet renews it every 10 s
			t.Fatalf("the Lease of %s is %s old", name, age)
		}
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status != corev1.ConditionTrue {
				t.Fatalf("%s is not Ready: %s", name, c.Message)
			}
		}
	}
}

// A list without the administrator, forced, locks the administrator out. The dead man takes it back, with the operator stopped.
func TestDeadMan(t *testing.T) {
	needServerOnNode(t)
	if env.engine.backend != pcinetv1alpha1.BackendCilium {
		t.Skip("config/hostfirewall is for Cilium; the dead man of Calico is on guard in TestHostFirewallEnforced")
	}
	stopOperator(t)
	run(t, "label", "node", "n1", "pcinetwork.dev/host-firewall=trial", "--overwrite")
	applyOverlay(t, "config/hostfirewall", map[string]string{"--after=5m": "--after=45s"})
	run(t, "-n", hostsNamespace, "wait", "--for=jsonpath={.status.ready}=1", "job/dead-man", "--timeout=90s")
	armed := time.Now()
	bad := &unstructured.Unstructured{}
	if err := json.Unmarshal([]byte(`{"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "host-firewall-trial"}, "spec": {
  "nodeSelector": {"matchLabels": {"pcinetwork.dev/host-firewall": "trial"}}, "enableDefaultDeny": {"ingress": false, "egress": false},
  "ingressDeny": [{"fromCIDRSet": [{"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}], "toPorts": [{"ports": [{"port": "6443", "protocol": "TCP"}]}]}]}}`), bad); err != nil {
		t.Fatal(err)
	}
	if err := env.client.Create(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	reach := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := kubectl(ctx, "get", "--raw", "/readyz")
		return err
	}
	eventually(t, "the administrator is locked out", func() error {
		if reach() == nil {
			return errors.New("they are not")
		}
		return nil
	})
	out := time.Now()
	eventually(t, "the administrator is back", reach)
	t.Logf("locked out for %.1f s, back %.1f s after the dead man was armed", time.Since(out).Seconds(), time.Since(armed).Seconds())
	if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(bad), bad); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the policy is still there: %v", err)
	}
	run(t, "-n", hostsNamespace, "wait", "--for=condition=Complete", "job/dead-man", "--timeout=60s")
}

// applyOverlay applies an overlay with other texts in it, until the test ends.
func applyOverlay(t *testing.T, dir string, texts map[string]string) {
	t.Helper()
	manifests := run(t, "kustomize", dir)
	for old, now := range texts {
		if !strings.Contains(manifests, old) {
			t.Fatalf("no %s in %s", old, manifests)
		}
		manifests = strings.ReplaceAll(manifests, old, now)
	}
	file := filepath.Join(t.TempDir(), "overlay.yaml")
	if err := os.WriteFile(file, []byte(manifests), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "apply", "--server-side", "-f", file)
	t.Cleanup(func() {
		if _, err := kubectl(context.WithoutCancel(t.Context()), "delete", "--ignore-not-found", "-f", file); err != nil {
			t.Error(err)
		}
	})
}

// serverOn starts a server on a node.
func serverOn(t *testing.T, node string, change ...func(*corev1.Pod)) *corev1.Pod {
	t.Helper()
	return startServer(t, createNamespace(t, ""), uniqueName("on"), append(change, func(p *corev1.Pod) { p.Spec.NodeName = node })...)
}

func onHostNetwork(p *corev1.Pod) { p.Spec.HostNetwork = true }

// patch changes a baseline.
func patch(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, change func()) {
	t.Helper()
	if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(b), b); err != nil {
		t.Fatal(err)
	}
	before := b.DeepCopy()
	change()
	if err := env.client.Patch(t.Context(), b, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}
