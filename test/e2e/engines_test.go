// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// engine is what enforces policies.
type engine struct {
	backend     pcinetv1alpha1.Backend // its own API's
	agent       string                 // the process on each node
	established pcinetv1alpha1.EstablishedConnections
	hosts       hostPolicies
}

// hostPolicies are an engine's policies for nodes.
type hostPolicies struct {
	apiVersion, kind string
	prefix           string   // of names
	enforce          string   // the overlay with the dead man
	ranges           []string // that an allow-list needs beside the nodes'
	needs            string   // objects without which none has an effect
	closesSixth      bool     // IPv6 is closed on nodes as soon as the engine is there for them
}

var engines = map[string]engine{
	"cilium": {
		backend: pcinetv1alpha1.BackendCilium, agent: "cilium-agent", established: pcinetv1alpha1.EstablishedCut,
		hosts: hostPolicies{apiVersion: "cilium.io/v2", kind: "CiliumClusterwideNetworkPolicy", enforce: "config/hostfirewall/enforce", closesSixth: true},
	},
	"calico": {
		backend: pcinetv1alpha1.BackendCalico, agent: "calico-felix", established: pcinetv1alpha1.EstablishedKept,
		hosts: hostPolicies{
			apiVersion: "projectcalico.org/v3", kind: "GlobalNetworkPolicy", prefix: "pcinb-hosts.", enforce: "config/hostfirewall/enforce-calico",
			ranges: []string{podRange}, needs: calicoHosts,
		},
	},
}

// calicoHosts are endpoints for nodes, and a failsafe port that leaves nodes a way in and voids no list.
const calicoHosts = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n1, labels: {pcinetwork.dev/host-firewall: trial}}
spec: {node: n1, interfaceName: "*", profiles: [projectcalico-default-allow]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n2}
spec: {node: n2, interfaceName: "*", profiles: [projectcalico-default-allow]}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {failsafeInboundHostPorts: [{protocol: tcp, port: 22, net: ` + nodeRange + `}]}
`

// prepare labels the trial's node, and makes what the engine needs for policies for nodes to have an effect.
func (h hostPolicies) prepare(t *testing.T) {
	t.Helper()
	run(t, "label", "node", "n1", "node-role.kubernetes.io/control-plane=", "pcinetwork.dev/host-firewall=trial", "--overwrite")
	if h.needs == "" {
		return
	}
	file := filepath.Join(t.TempDir(), "needs.yaml")
	if err := os.WriteFile(file, []byte(h.needs), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "apply", "-f", file)
	t.Cleanup(func() {
		if _, err := kubectl(context.WithoutCancel(t.Context()), "delete", "--ignore-not-found", "-f", file); err != nil {
			t.Error(err)
		}
	})
}

// live returns the live policy for the nodes of a baseline; nil for none.
func (h hostPolicies) live(t *testing.T, baseline string) *unstructured.Unstructured {
	t.Helper()
	p := &unstructured.Unstructured{}
	p.SetAPIVersion(h.apiVersion)
	p.SetKind(h.kind)
	err := env.client.Get(t.Context(), client.ObjectKey{Name: h.prefix + "pcinb-" + baseline + "-hosts"}, p)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	if err != nil {
		return nil
	}
	return p
}

// onTrial says whether a policy is for the trial's nodes alone.
func (h hostPolicies) onTrial(p *unstructured.Unstructured) bool {
	if selector, found, _ := unstructured.NestedString(p.Object, "spec", "selector"); found {
		return strings.HasSuffix(selector, `pcinetwork.dev/host-firewall == "trial"`)
	}
	labels, _, _ := unstructured.NestedStringMap(p.Object, "spec", "nodeSelector", "matchLabels")
	return labels["pcinetwork.dev/host-firewall"] == "trial"
}
