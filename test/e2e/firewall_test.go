// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

const hostsNamespace = "pci-network-baseline-hosts"

// armDeadMan puts the dead man of hostFirewall: Enforce on guard for a baseline.
func armDeadMan(t *testing.T, baseline string, limit time.Duration) {
	t.Helper()
	applyOverlay(t, env.engine.hosts.enforce, map[string]string{
		"pcinb-cardholder-data-hosts": "pcinb-" + baseline + "-hosts", "--limit=5m": "--limit=" + limit.String(),
	})
	run(t, "-n", hostsNamespace, "rollout", "status", "deployment/dead-man", "--timeout=90s")
}

// firewall returns the nodes that the live policy of a baseline is for: none, trial or all.
func firewall(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) string {
	t.Helper()
	switch p := env.engine.hosts.live(t, b.Name); {
	case p == nil:
		return "none"
	case env.engine.hosts.onTrial(p):
		return "trial"
	default:
		return "all"
	}
}

// awaitNodes waits until the policy is for some nodes: a step takes 90 s of everybody answering.
func awaitNodes(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, want string) {
	t.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for firewall(t, b) != want {
		if time.Now().After(deadline) {
			t.Fatalf("the firewall is on %s nodes, want %s:\n%s", firewall(t, b), want, run(t, "describe", "pcinb", b.Name))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// awaitKept waits until nothing is missing but somebody's word for what is in front of the cluster.
func awaitKept(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	deadline := time.Now().Add(4 * time.Minute)
	for {
		message := run(t, "get", "pcinb", b.Name, "-o", `jsonpath={.status.conditions[?(@.type=="ManagementAccessRestricted")].message}`)
		if strings.Contains(message, "attestation") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(message)
		}
		time.Sleep(time.Second)
	}
}

// confirm does what the message asks of a person while a list is tried.
func confirm(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) {
	t.Helper()
	awaitAccess(t, b, pcinetv1alpha1.ReasonHostFirewallPending, "kubectl annotate pcinb")
	message := run(t, "get", "pcinb", b.Name, "-o", `jsonpath={.status.conditions[?(@.type=="ManagementAccessRestricted")].message}`)
	command := regexp.MustCompile(`kubectl (annotate pcinb \S+ \S+=[0-9a-f]{8} --overwrite)`).FindStringSubmatch(message)
	if command == nil {
		t.Fatal(message)
	}
	run(t, strings.Fields(command[1])...)
}

// spread waits until no two of the operator's pods are on one node: of those that end it is no matter where they are.
func spread(t *testing.T) {
	t.Helper()
	eventually(t, "the operator's replicas are on two nodes", func() error {
		nodes := strings.Fields(run(t, "-n", operatorNamespace, "get", "pods", "-l", "app.kubernetes.io/component=manager", "-o", "jsonpath={.items[*].spec.nodeName}"))
		if slices.Sort(nodes); len(nodes) != 2 || nodes[0] == nodes[1] {
			return fmt.Errorf("they are on %v", nodes)
		}
		return nil
	})
}

// kubelet sends a signal to the kubelet of the second node.
func kubelet(ctx context.Context, t *testing.T, signal string) {
	t.Helper()
	if _, err := onMachine(ctx, "n2", "sh", "-c", "kill -"+signal+" $(pidof kubelet)"); err != nil {
		t.Fatal(err)
	}
}

// kill ends every process of ours on both nodes, the dead man's too, as a crash does. Their containers are started again where they were.
func kill(t *testing.T) {
	t.Helper()
	for _, node := range []string{"n1", "n2"} {
		if _, err := onMachine(t.Context(), node, "sh", "-c", "kill -KILL $(pidof pci-network-baseline)"); err != nil {
			t.Fatal(err)
		}
	}
}

// withoutCalicosServer freezes Calico's own API server, where it is the engine. The operator stands by what is kept, and it stays; and the dead man, who is to
// take it back then, has to go to where Calico stores.
func withoutCalicosServer(t *testing.T, limit time.Duration, guarded []string) {
	t.Helper()
	if env.engine.backend != pcinetv1alpha1.BackendCalico {
		return
	}
	t.Log("Calico's own API server does not answer")
	if _, err := onMachine(t.Context(), "n1", "sh", "-c", "kill -STOP $(pidof calico-apiserver)"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { thawCalicosServer(context.WithoutCancel(t.Context()), t) })
	for began := time.Now(); time.Since(began) < limit+limit/2; time.Sleep(time.Second) {
		for _, a := range guarded {
			if got := fromOutside(t, a); got != "BLOCKED" {
				t.Fatalf("%s after, %s is %s to a stranger", time.Since(began), a, got)
			}
		}
	}
}

func thawCalicosServer(ctx context.Context, t *testing.T) {
	t.Helper()
	if env.engine.backend != pcinetv1alpha1.BackendCalico {
		return
	}
	if _, err := onMachine(ctx, "n1", "sh", "-c", "kill -CONT $(pidof calico-apiserver)"); err != nil {
		t.Error(err)
	}
}

// The operator enforces a list by itself: it refuses a bad one, takes back what cuts somebody off, survives a crash at each stage, and the
// dead man takes it back when there is no operator.
func TestHostFirewallEnforced(t *testing.T) {
	needServerOnNode(t)
	env.engine.hosts.prepare(t)
	const limit = 45 * time.Second
	b := createBaseline(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.ManagementAccess = &pcinetv1alpha1.ManagementAccess{HostFirewall: pcinetv1alpha1.HostFirewallEnforce, AllowedCIDRs: allowList(administrator)}
	})
	armDeadMan(t, b.Name, limit)
	run(t, "-n", operatorNamespace, "rollout", "restart", "deployment", operatorName) // onto both nodes: they did not join at once
	run(t, "-n", operatorNamespace, "rollout", "status", "deployment", operatorName, "--timeout=120s")
	spread(t)
	local, remote, host := serverOn(t, "n1"), serverOn(t, "n2"), serverOn(t, "n2", onHostNetwork)
	first, second := []string{firstNode + ":6443", firstNode + ":10250"}, []string{secondNode + ":10250"}
	awaitOutside(t, "OPEN", append(first, second...)...)
	awaitAccess(t, b, pcinetv1alpha1.ReasonHostFirewallRefused, firstNode+" (Node n1)")
	if got := firewall(t, b); got != "none" {
		t.Fatalf("a list that is refused is on %s nodes", got)
	}

	patch(t, b, func() {
		b.Spec.ManagementAccess.AllowedCIDRs = allowList(append(env.engine.hosts.ranges, administrator, nodeRange)...)
	})
	awaitNodes(t, b, "trial")
	awaitOutside(t, "BLOCKED", first...)
	awaitOutside(t, "OPEN", second...)
	healthy(t, local, remote, host)
	confirm(t, b)

	t.Log("a kubelet stops answering while it is tried")
	t.Cleanup(func() { kubelet(context.WithoutCancel(t.Context()), t, "CONT") })
	stopped := time.Now()
	kubelet(t.Context(), t, "STOP")
	awaitNodes(t, b, "none")
	t.Logf("taken back %.1f s after the kubelet stopped", time.Since(stopped).Seconds())
	awaitOutside(t, "OPEN", first...)
	kubelet(t.Context(), t, "CONT")
	awaitAccess(t, b, pcinetv1alpha1.ReasonHostFirewallTakenBack, "node n2")

	t.Log("everything of ours is killed at each stage")
	run(t, "-n", hostsNamespace, "annotate", "lease", "operator", "pcinetwork.dev/host-firewall-")
	awaitNodes(t, b, "trial")
	awaitOutside(t, "BLOCKED", first...)
	kill(t)
	confirm(t, b) // again: a person's word is for one try
	tried := time.Now()
	awaitNodes(t, b, "all")
	awaitOutside(t, "BLOCKED", append(first, second...)...)
	t.Logf("on all nodes %.0f s after a crash during the trial", time.Since(tried).Seconds())
	kill(t)
	awaitKept(t, b)
	for began := time.Now(); time.Since(began) < 20*time.Second; time.Sleep(time.Second) {
		for _, a := range append(first, second...) {
			if got := fromOutside(t, a); got != "BLOCKED" {
				t.Fatalf("%s is %s to a stranger", a, got)
			}
		}
		if got := fromOutside(t, secondNode+":8080"); got != "OPEN" {
			t.Fatalf("another port of a node is %s", got)
		}
		healthy(t, local, remote, host)
	}

	withoutCalicosServer(t, limit, append(first, second...))
	t.Log("there is no operator")
	scaleOperator(t.Context(), t, 0)
	t.Cleanup(func() { scaleOperator(context.WithoutCancel(t.Context()), t, 2) })
	silent := time.Now()
	awaitOutside(t, "OPEN", append(first, second...)...)
	took := time.Since(silent)
	t.Logf("the dead man took it back %.1f s after the last operator ended", took.Seconds())
	if took < limit/2 || took > 2*limit {
		t.Errorf("with a limit of %s", limit)
	}
	thawCalicosServer(t.Context(), t)
	eventually(t, "the engine's API answers", func() error {
		_, err := kubectl(t.Context(), "get", strings.ToLower(env.engine.hosts.kind))
		return err
	})
	awaitNodes(t, b, "none")
	startOperator(t)
	spread(t)
	awaitNodes(t, b, "trial") // the list was kept before

	t.Log("nobody asks for it any more")
	patch(t, b, func() { b.Spec.ManagementAccess.HostFirewall = pcinetv1alpha1.HostFirewallOff })
	eventually(t, "it is gone", func() error {
		if got := firewall(t, b); got != "none" {
			return errors.New("it is on " + fmt.Sprint(got) + " nodes")
		}
		return nil
	})
	awaitOutside(t, "OPEN", append(first, second...)...)
}
