// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Platforms as a whole are in test/platforms, on a real API server. Here is what needs many small variations.

type readings = map[snapshot.Source]snapshot.Reading

func read(objects ...snapshot.Object) snapshot.Reading { return snapshot.Reading{Objects: objects} }

var (
	ciliumConfig      = snapshot.Source{Kind: snapshot.KindConfigMap, Namespace: "kube-system", Name: "cilium-config"}
	ciliumNodeConfigs = snapshot.Source{Kind: snapshot.KindCiliumNodeConfig, Namespace: "kube-system"}
)

// settings returns cilium-config; pairs are key, value.
func settings(pairs ...string) snapshot.Reading {
	data := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		data[pairs[i]] = pairs[i+1]
	}
	return read(snapshot.Object{Kind: snapshot.KindConfigMap, Namespace: "kube-system", Name: "cilium-config", Data: data})
}

// nodeConfig returns a CiliumNodeConfig for nodes with pool: a.
func nodeConfig(name, key string, value any) snapshot.Object {
	return snapshot.Object{Kind: snapshot.KindCiliumNodeConfig, Namespace: "kube-system", Name: name, Fields: map[string]any{"spec": map[string]any{
		"nodeSelector": map[string]any{"matchLabels": map[string]any{"pool": "a"}}, "defaults": map[string]any{key: value},
	}}}
}

// cilium returns a cluster of two nodes, a and b, with Cilium; build are the flags of the init container.
func cilium(build map[string]string, r readings) *snapshot.Evidence {
	agent := snapshot.Container{Name: "cilium-agent", Image: "quay.io/cilium/cilium:v1.20.2", Flags: map[string]string{}, Env: map[string]string{}}
	return &snapshot.Evidence{
		Nodes: []snapshot.Node{
			{Name: "a", Ready: true, Labels: map[string]string{"pool": "a"}, Annotations: map[string]string{"config.cilium.io/policy-audit-mode": "true"}},
			{Name: "b", Ready: true},
		},
		DaemonSets: []snapshot.DaemonSet{{
			Namespace: "kube-system", Name: "cilium", Desired: 2, Ready: 2,
			Containers: []snapshot.Container{{Name: "config", Image: agent.Image, Flags: build}, agent},
		}},
		Kinds: []string{"ciliumnetworkpolicies.cilium.io"}, Readings: r,
	}
}

func TestLayersOfCilium(t *testing.T) {
	t.Parallel()
	const audit, on, off = "policy-audit-mode", "true", "false"
	withNodes := map[string]string{"source": "config-map:kube-system/cilium-config,cilium-node-config:kube-system,node:"}
	named := map[string]string{"source": "config-map,cilium-node-config:kube-system/chosen"}
	first := map[string]string{"source": "cilium-node-config,config-map:cilium-config", "deny-config-keys": audit}
	cases := map[string]struct {
		build   map[string]string
		config  snapshot.Reading
		configs []snapshot.Object
		flag    string // of the agent
		env     string
		want    string // reason, and what the message must name
		names   string
	}{
		"the ConfigMap alone, on":                             {config: settings(audit, on), want: "CiliumAuditMode", names: "ConfigMap kube-system/cilium-config"},
		"the ConfigMap alone, off":                            {config: settings(audit, off), want: "PolicyEngineEnforces"},
		"unset is off":                                        {config: settings("x", "y"), want: "PolicyEngineEnforces"},
		"a CiliumNodeConfig over the ConfigMap":               {config: settings(audit, off), configs: []snapshot.Object{nodeConfig("c", audit, on)}, want: "CiliumAuditMode", names: "on node a"},
		"the last CiliumNodeConfig by name":                   {config: settings(), configs: []snapshot.Object{nodeConfig("c", audit, on), nodeConfig("d", audit, off)}, want: "PolicyEngineEnforces"},
		"the ConfigMap stays on for the other nodes":          {config: settings(audit, on), configs: []snapshot.Object{nodeConfig("c", audit, off)}, want: "CiliumAuditMode", names: "ConfigMap"},
		"--deny-config-keys keeps it off":                     {build: map[string]string{"deny-config-keys": "x," + audit}, config: settings(), configs: []snapshot.Object{nodeConfig("c", audit, on)}, want: "PolicyEngineEnforces"},
		"--deny-config-keys of another key does not":          {build: map[string]string{"deny-config-keys": "x"}, config: settings(), configs: []snapshot.Object{nodeConfig("c", audit, on)}, want: "CiliumAuditMode"},
		"--allow-config-keys of another key keeps it off":     {build: map[string]string{"allow-config-keys": "x"}, config: settings(), configs: []snapshot.Object{nodeConfig("c", audit, on)}, want: "PolicyEngineEnforces"},
		"--allow-config-keys comes before --deny-config-keys": {build: map[string]string{"allow-config-keys": audit, "deny-config-keys": audit}, config: settings(), configs: []snapshot.Object{nodeConfig("c", audit, on)}, want: "CiliumAuditMode"},
		"the first source's own keys are not limited":         {build: first, config: settings(), configs: []snapshot.Object{nodeConfig("c", audit, on)}, want: "CiliumAuditMode"},
		"the ConfigMap is limited where it comes second":      {build: first, config: settings(audit, on), configs: []snapshot.Object{nodeConfig("c", "x", on)}, want: "PolicyEngineEnforces"},
		"a node's annotation, if it is a source":              {build: withNodes, config: settings(audit, off), want: "CiliumAuditMode", names: "Node a"},
		"a node's annotation is no source by default":         {build: map[string]string{}, config: settings(audit, off), want: "PolicyEngineEnforces"},
		"a CiliumNodeConfig that a source names":              {build: named, config: settings(), configs: []snapshot.Object{nodeConfig("chosen", audit, on)}, want: "CiliumAuditMode"},
		"a CiliumNodeConfig that a source does not name":      {build: named, config: settings(), configs: []snapshot.Object{nodeConfig("other", audit, on)}, want: "PolicyEngineEnforces"},
		"an argument of the agent has the last word":          {config: settings(audit, on), flag: off, env: on, want: "PolicyEngineEnforces"},
		"the environment comes before the configuration":      {config: settings(audit, off), env: on, want: "CiliumAuditMode", names: "env CILIUM_POLICY_AUDIT_MODE"},
		"an unknown source is not guessed":                    {build: map[string]string{"source": "config-map,vault:x"}, config: settings(), want: "SettingUnreadable", names: "vault"},
		"neither true nor false is not guessed":               {config: settings(audit, "on"), want: "SettingUnreadable", names: `"on"`},
		"a selector that cannot be read is not guessed": {
			config: settings(), want: "SettingUnreadable", names: "nodeSelector",
			configs: []snapshot.Object{{Kind: snapshot.KindCiliumNodeConfig, Name: "c", Fields: map[string]any{"spec": map[string]any{"nodeSelector": map[string]any{"matchLabels": "pool"}}}}},
		},
		"what is off counts before what is not known": {config: settings("enable-policy", "nevr", audit, on), want: "CiliumAuditMode"},
		"an unknown mode is not guessed":              {config: settings("enable-policy", "nevr"), want: "SettingUnreadable", names: `"nevr"`},
		"never, whatever its case":                    {config: settings("enable-policy", "Never"), want: "CiliumPolicyNever"},
		"always is stricter":                          {config: settings("enable-policy", "always"), want: "PolicyEngineEnforces"},
		"what cannot be read is not taken as off":     {config: snapshot.Reading{Problem: "the operator has no right"}, want: "PlatformUnreadable", names: "ConfigMap kube-system/cilium-config"},
		"a ConfigMap that is missing":                 {config: read(), want: "SettingUnreadable", names: "does not exist"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := cilium(tc.build, readings{ciliumConfig: tc.config, ciliumNodeConfigs: read(tc.configs...)})
			agent := &e.DaemonSets[0].Containers[1]
			if tc.flag != "" {
				agent.Flags[audit] = tc.flag
			}
			if tc.env != "" {
				agent.Env["CILIUM_POLICY_AUDIT_MODE"] = tc.env
			}
			a := engines.Assess(e)
			v := a.Verdict(engines.Cilium)
			if v.Reason != tc.want || !strings.Contains(v.Message, tc.names) {
				t.Errorf("%s/%s (%s), want %s that names %q", v.Status, v.Reason, v.Message, tc.want, tc.names)
			}
			wantStatus := map[string]metav1.ConditionStatus{"PolicyEngineEnforces": metav1.ConditionTrue, "SettingUnreadable": metav1.ConditionUnknown, "PlatformUnreadable": metav1.ConditionUnknown}[tc.want]
			if wantStatus == "" {
				wantStatus = metav1.ConditionFalse
			}
			if v.Status != wantStatus {
				t.Errorf("status %s, want %s", v.Status, wantStatus)
			}
		})
	}
}

// Before Cilium 1.13 the ConfigMap is mounted: nothing overrides it, and nothing else is asked for.
func TestCiliumWithoutABuilder(t *testing.T) {
	t.Parallel()
	e := cilium(nil, readings{ciliumConfig: settings("policy-audit-mode", "false"), ciliumNodeConfigs: read(nodeConfig("c", "policy-audit-mode", "true"))})
	e.DaemonSets[0].Containers = e.DaemonSets[0].Containers[1:]
	a := engines.Assess(e)
	if v := a.Verdict(engines.Cilium); v.Status != metav1.ConditionTrue {
		t.Errorf("verdict %+v", v)
	}
	if slices.Contains(engines.Wanted(e), ciliumNodeConfigs) {
		t.Error("CiliumNodeConfigs are asked for")
	}
}

func TestWhatIsSaidOfABackendIsItsOwn(t *testing.T) {
	t.Parallel()
	a := engines.Assess(cilium(nil, readings{ciliumConfig: settings("enable-k8s-networkpolicy", "false"), ciliumNodeConfigs: read()}))
	if v := a.Verdict(engines.Cilium); v.Status != metav1.ConditionTrue {
		t.Errorf("with CiliumNetworkPolicies: %+v", v)
	}
	if v := a.Verdict(engines.NetworkPolicy); v.Status != metav1.ConditionFalse || v.Reason != "CiliumIgnoresNetworkPolicy" || !v.Stalled {
		t.Errorf("with NetworkPolicies: %+v", v)
	}
	if choice := engines.BackendFor(engines.Auto, &a, ""); choice.Backend != engines.Cilium {
		t.Errorf("Auto chooses %s", choice.Backend)
	}
}

func TestNothingIsSaidBeforeEverythingWasRead(t *testing.T) {
	t.Parallel()
	a := engines.Assess(cilium(nil, readings{ciliumConfig: {Pending: true}}))
	if v := a.Verdict(engines.Cilium); a.Observed || a.Certain || v.Status != metav1.ConditionUnknown || v.Reason != "NotObserved" {
		t.Errorf("observed %t, certain %t, %+v", a.Observed, a.Certain, v)
	}
}

// A certain engine needs readings without a gap: a backend is switched on its word.
func TestAReadingThatFailsIsNotCertain(t *testing.T) {
	t.Parallel()
	crds := snapshot.Source{Kind: snapshot.KindCustomResourceDefinition}
	good := readings{ciliumConfig: settings(), ciliumNodeConfigs: read()}
	if a := engines.Assess(cilium(nil, good)); !a.Certain {
		t.Fatal("not certain at all")
	}
	bad := maps.Clone(good)
	bad[crds] = snapshot.Reading{Problem: "the operator has no right"}
	if a := engines.Assess(cilium(nil, bad)); a.Certain || a.Engine.Name != "Cilium" {
		t.Errorf("certain %t of %s", a.Certain, a.Engine.Name)
	}
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	pods := snapshot.Source{Kind: snapshot.KindPod, Namespace: "kube-system", Name: "cilium"}
	pod := func(node, ready string) snapshot.Object {
		return snapshot.Object{Kind: snapshot.KindPod, Namespace: "kube-system", Name: "cilium-" + node, Data: map[string]string{"node": node, "ready": ready}}
	}
	labelled := func(name, label, value string) snapshot.Node {
		return snapshot.Node{Name: name, Ready: true, Labels: map[string]string{label: value}}
	}
	fargate := labelled("f", "eks.amazonaws.com/compute-type", "fargate")
	down := snapshot.Node{Name: "d"}
	cases := map[string]struct {
		more           []snapshot.Node
		desired, ready int32
		pods           *snapshot.Reading
		want           snapshot.Coverage
		asksForPods    bool
	}{
		"everywhere":                        {desired: 2, ready: 2, want: snapshot.Coverage{Ready: 2, Total: 2}},
		"not Ready, before pods were asked": {desired: 2, ready: 1, want: snapshot.Coverage{Ready: 1, Total: 2}, asksForPods: true},
		"not Ready on a node": {
			desired: 2, ready: 1, pods: new(read(pod("a", "true"), pod("b", "false"))), asksForPods: true,
			want: snapshot.Coverage{Ready: 1, Total: 2, Missing: []string{"b"}},
		},
		"not scheduled on a node": {
			desired: 1, ready: 1, pods: new(read(pod("b", "true"))), asksForPods: true,
			want: snapshot.Coverage{Ready: 1, Total: 2, Missing: []string{"a"}},
		},
		"a node without agents by its kind": {
			more: []snapshot.Node{fargate}, desired: 2, ready: 2, want: snapshot.Coverage{Ready: 2, Total: 2, Excluded: map[string]int{"Fargate": 1}},
		},
		"nodes without agents, by their kinds": {
			more: []snapshot.Node{
				labelled("w", "kubernetes.io/os", "windows"), labelled("h", "eks.amazonaws.com/compute-type", "hybrid"), labelled("v", "type", "virtual-kubelet"),
			},
			desired: 2, ready: 2, want: snapshot.Coverage{Ready: 2, Total: 2, Excluded: map[string]int{"Windows": 1, "EKS hybrid": 1, "virtual-kubelet": 1}},
		},
		"a node that is down counts apart": {
			more: []snapshot.Node{down}, desired: 3, ready: 2, pods: new(read(pod("a", "true"), pod("b", "true"), pod("d", "false"))), asksForPods: true,
			want: snapshot.Coverage{Ready: 2, Total: 2, Down: 1},
		},
		"pods that cannot be read name no node": {
			desired: 2, ready: 1, pods: &snapshot.Reading{Problem: "no right"}, asksForPods: true, want: snapshot.Coverage{Ready: 1, Total: 2},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := cilium(nil, readings{ciliumConfig: settings(), ciliumNodeConfigs: read()})
			e.Nodes = append(e.Nodes, tc.more...)
			e.DaemonSets[0].Desired, e.DaemonSets[0].Ready = tc.desired, tc.ready
			if tc.pods != nil {
				e.Readings[pods] = *tc.pods
			}
			a := engines.Assess(e)
			if diff := cmp.Diff(tc.want, a.Coverage); diff != "" {
				t.Errorf("coverage (-want +got):\n%s", diff)
			}
			if asks := slices.Contains(engines.Wanted(e), pods); asks != tc.asksForPods {
				t.Errorf("asks for pods: %t, want %t", asks, tc.asksForPods)
			}
		})
	}
}

// Whatever shape the objects have, nothing panics, and there is a verdict with a reason and a message.
func TestHostileObjects(t *testing.T) {
	t.Parallel()
	values := []any{nil, "x", int64(7), true, []any{"x", map[string]any{"type": 7}}, map[string]any{"service": "x", "conditions": "x", "matchLabels": []any{}}}
	agents := []snapshot.DaemonSet{
		{Namespace: "kube-system", Name: "calico-node", Containers: []snapshot.Container{{Name: "calico-node", Image: "calico/node"}}},
		{Namespace: "kube-system", Name: "cilium", Containers: []snapshot.Container{{Name: "cilium-agent", Image: ":@:"}, {Name: "config"}}},
		{Namespace: "kube-system", Name: "aws-node", Containers: []snapshot.Container{{Name: "aws-eks-nodeagent"}}},
		{Namespace: "kube-system", Name: "antrea-agent", Containers: []snapshot.Container{{Name: "antrea-agent"}}},
		{Namespace: "kube-flannel", Name: "kube-flannel-ds", Containers: []snapshot.Container{{Name: "kube-flannel"}}},
		{Namespace: "openshift-sdn", Name: "sdn", Containers: []snapshot.Container{{Name: "sdn"}}},
		{Namespace: "kube-system", Name: "kindnet", Containers: []snapshot.Container{{Name: "kindnet-cni", Image: "kindest/kindnetd:v2024"}}},
		{},
	}
	keys := []string{"spec", "status", "datastoreReady", "phase", "service", "cni", "calicoNetwork", "ipPools", "defaults", "nodeSelector", "interfacePrefix"}
	for _, agent := range agents {
		for _, value := range values {
			nested := map[string]any{}
			for _, k := range keys {
				nested[k] = value
			}
			for _, fields := range []map[string]any{{"spec": value, "status": value}, {"spec": nested, "status": nested}, nil} {
				e := &snapshot.Evidence{
					Nodes: []snapshot.Node{
						{Name: "n", Ready: true, Annotations: map[string]string{"k3s.io/node-args": `{"a":1}`}},
						{Name: "m", Kubelet: agent.Name + "-eks-", Labels: map[string]string{"pool": "a"}},
					},
					DaemonSets: []snapshot.DaemonSet{agent}, Readings: readings{},
				}
				if agent.Name == "" {
					e.Nodes[0].Kubelet = "v1+k3s1"
				}
				for _, s := range engines.Wanted(e) {
					e.Readings[s] = read(snapshot.Object{Kind: s.Kind, Name: "default", Fields: fields, Data: map[string]string{
						"net-conf.json": "{", "antrea-agent.conf": "[", "config.conf": ":", "enable-network-policy-controller": "yes", "policy-audit-mode": "",
					}})
				}
				a := engines.Assess(e)
				if v := a.Verdict(engines.NetworkPolicy); v.Status == "" || v.Reason == "" || v.Message == "" {
					t.Errorf("%s with %v: %+v", agent.Name, fields, v)
				}
				if v := a.Verdict(engines.NetworkPolicy); agent.Name == "" && v.Reason != "SettingUnreadable" {
					t.Errorf("k3s with arguments that are no list: %+v", v)
				}
			}
		}
	}
}

// Messages are clipped at 300 bytes, and what to do comes last.
func TestRowsAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for i := range engines.Table {
		e := &engines.Table[i]
		switch {
		case e.Installed == "" || seen[e.Installed]:
			t.Errorf("row %d: name %q", i, e.Installed)
		case e.Marks.Container == "" && e.Is == nil, e.Marks.Container != "" && (e.Marks.Name == "" || e.Marks.Label == "" || len(e.Marks.Images) == 0):
			t.Errorf("%s cannot be told: %+v", e.Installed, e.Marks)
		case e.Policy == "" && !e.Unjudged && e.Remedy == "":
			t.Errorf("%s enforces nothing, and nothing says what to do", e.Installed)
		case e.Capability == engines.Capability{}:
			t.Errorf("%s has no capability", e.Installed)
		case (e.Also == "") != (e.Is == nil) && e.Installed != "kindnet, and kind v0.24.0 or later":
			t.Errorf("%s looks at what the table does not say", e.Installed)
		}
		seen[e.Installed] = true
		for j := range e.Settings {
			s := &e.Settings[j]
			if s.Object == "" || s.Key == "" || s.Means == "" || s.Check == nil || (s.Reason == "") != (s.Effect == engines.Weakens) {
				t.Errorf("%s: setting %q is incomplete", e.Installed, s.Key)
			}
		}
	}
}
