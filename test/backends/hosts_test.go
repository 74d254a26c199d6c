// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package backends_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	calicov3 "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/admission"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
)

// A policy for nodes of which the API server dropped or defaulted a field would close other ports, or none.
func TestHostObjectsAreStoredAsRendered(t *testing.T) {
	f := policy.HostFirewall{Baseline: "b", Ports: []int32{2379, 6443, 10250}}
	for i := range 64 { // as many as the API has
		f.Allowed = append(f.Allowed, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16))
	}
	f.Allowed[63] = netip.MustParsePrefix("2001:db8::/32")
	f.Nodes.MatchLabels = trial
	stored := 0
	for _, layer := range hostLayers {
		for _, object := range render.HostFirewall(layer, f) {
			kind := object.GetObjectKind().GroupVersionKind().Kind
			if kind == "Tier" { // has no definition here
				continue
			}
			text, err := json.Marshal(object)
			if err != nil {
				t.Fatal(err)
			}
			want := &unstructured.Unstructured{}
			if err := want.UnmarshalJSON(text); err != nil {
				t.Fatal(err)
			}
			got := want.DeepCopy()
			if err := env.client.Create(t.Context(), got); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := env.client.Delete(context.WithoutCancel(t.Context()), got); err != nil {
					t.Error(err)
				}
			})
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(got), got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Object["spec"], got.Object["spec"]); diff != "" {
				t.Errorf("%s (-rendered +stored):\n%s", kind, diff)
			}
			stored++
		}
	}
	if stored != 2 {
		t.Errorf("%d objects were stored", stored)
	}
}

// Parts of a rule for nodes.
const (
	ranges   = `"fromCIDRSet":[{"cidr":"0.0.0.0/0"}]`
	apiPorts = `"toPorts":[{"ports":[{"port":"6443","protocol":"TCP"}]}]`
)

// ciliumChanges are changes to the policy for nodes, each of which would do more, or something else, than close ports to addresses.
var ciliumChanges = map[string]string{
	"lets something in":                    `{"spec":{"ingress":[{"fromEntities":["all"]}]}}`,
	"lets something out":                   `{"spec":{"egress":[{"toEntities":["all"]}]}}`,
	"lets nothing out":                     `{"spec":{"egressDeny":[{"toCIDRSet":[{"cidr":"0.0.0.0/0"}]}]}}`,
	"is for pods":                          `{"spec":{"nodeSelector":null,"endpointSelector":{}}}`,
	"says more":                            `{"spec":{"description":"mine"}}`,
	"isolates for what comes in":           `{"spec":{"enableDefaultDeny":{"ingress":true}}}`,
	"isolates for what goes out":           `{"spec":{"enableDefaultDeny":{"egress":true}}}`,
	"isolates for a direction by default":  `{"spec":{"enableDefaultDeny":{"ingress":null}}}`,
	"isolates by default":                  `{"spec":{"enableDefaultDeny":null}}`,
	"has no rule":                          `{"spec":{"ingressDeny":[]}}`,
	"has an empty rule":                    `{"spec":{"ingressDeny":[{}]}}`,
	"is for every port":                    `{"spec":{"ingressDeny":[{` + ranges + `}]}}`,
	"has an empty list of ports":           `{"spec":{"ingressDeny":[{` + ranges + `,"toPorts":[]}]}}`,
	"has a list of no ports":               `{"spec":{"ingressDeny":[{` + ranges + `,"toPorts":[{"ports":[]}]}]}}`,
	"has ports, and then every port":       `{"spec":{"ingressDeny":[{` + ranges + `,` + apiPorts + `},{` + ranges + `}]}}`,
	"is for port 0":                        `{"spec":{"ingressDeny":[{` + ranges + `,"toPorts":[{"ports":[{"port":"0","protocol":"TCP"}]}]}]}}`,
	"is for port 00":                       `{"spec":{"ingressDeny":[{` + ranges + `,"toPorts":[{"ports":[{"port":"00","protocol":"TCP"}]}]}]}}`,
	"is for a port with a name":            `{"spec":{"ingressDeny":[{` + ranges + `,"toPorts":[{"ports":[{"port":"https","protocol":"TCP"}]}]}]}}`,
	"is for any protocol":                  `{"spec":{"ingressDeny":[{` + ranges + `,"toPorts":[{"ports":[{"port":"53","protocol":"ANY"}]}]}]}}`,
	"is for UDP":                           `{"spec":{"ingressDeny":[{` + ranges + `,"toPorts":[{"ports":[{"port":"53","protocol":"UDP"}]}]}]}}`,
	"has no protocol":                      `{"spec":{"ingressDeny":[{` + ranges + `,"toPorts":[{"ports":[{"port":"53"}]}]}]}}`,
	"is for a range of ports":              `{"spec":{"ingressDeny":[{` + ranges + `,"toPorts":[{"ports":[{"port":"1","endPort":65535,"protocol":"TCP"}]}]}]}}`,
	"is for everybody":                     `{"spec":{"ingressDeny":[{` + apiPorts + `}]}}`,
	"is for nodes too":                     `{"spec":{"ingressDeny":[{"fromEntities":["cluster"],` + apiPorts + `}]}}`,
	"is for pods too":                      `{"spec":{"ingressDeny":[{` + ranges + `,"fromEndpoints":[{}],` + apiPorts + `}]}}`,
	"is for somebody's group of addresses": `{"spec":{"ingressDeny":[{"fromCIDRSet":[{"cidrGroupRef":"mine"}],` + apiPorts + `}]}}`,
	"is for nodes of another label":        `{"spec":{"nodeSelector":{"matchLabels":{"pcinetwork.dev/host-firewall":null,"app":"a"}}}}`,
	"is for nodes of one more label":       `{"spec":{"nodeSelector":{"matchLabels":{"app":"a"}}}}`,
	"is for nodes of another value":        `{"spec":{"nodeSelector":{"matchLabels":{"pcinetwork.dev/host-firewall":"yes"}}}}`,
	"is for nodes by an expression":        `{"spec":{"nodeSelector":{"matchExpressions":[{"key":"app","operator":"Exists"}]}}}`,
	"has a second rule":                    `{"specs":[{"nodeSelector":{},"ingress":[{"fromEntities":["all"]}]}]}`,
	"has nothing but a second rule":        `{"spec":null,"specs":[{"nodeSelector":{},"ingress":[{"fromEntities":["all"]}]}]}`,
}

const (
	denies = `{"action":"Deny","protocol":"TCP","source":{"notNets":["127.0.0.0/8"]},"destination":{"ports":[6443]}}`
	passes = `{"action":"Pass"}`
)

// calicoChanges are such changes in Calico.
var calicoChanges = map[string]string{
	"lets something in":                  `{"spec":{"ingress":[{"action":"Allow"},` + denies + `,` + passes + `]}}`,
	"lets everything in at the end":      `{"spec":{"ingress":[` + denies + `,{"action":"Allow"}]}}`,
	"lets something out":                 `{"spec":{"egress":[{"action":"Allow"}]}}`,
	"is for what goes out":               `{"spec":{"types":["Ingress","Egress"]}}`,
	"is for what goes out alone":         `{"spec":{"types":["Egress"]}}`,
	"is for what is forwarded":           `{"spec":{"applyOnForward":true}}`,
	"comes before translation":           `{"spec":{"applyOnForward":true,"preDNAT":true}}`,
	"is for namespaces":                  `{"spec":{"namespaceSelector":"all()"}}`,
	"has an order":                       `{"spec":{"order":1}}`,
	"is in another tier":                 `{"spec":{"tier":"default"}}`,
	"is for pods":                        `{"spec":{"selector":"all()"}}`,
	"is for nodes of another label":      `{"spec":{"selector":"!has(projectcalico.org/orchestrator) && !has(projectcalico.org/namespace) && app == \"a\""}}`,
	"passes nothing":                     `{"spec":{"ingress":[` + denies + `]}}`,
	"passes everything":                  `{"spec":{"ingress":[` + passes + `]}}`,
	"passes everything at first":         `{"spec":{"ingress":[` + passes + `,` + denies + `,` + passes + `]}}`,
	"passes some":                        `{"spec":{"ingress":[` + denies + `,{"action":"Pass","source":{"nets":["10.0.0.0/8"]}}]}}`,
	"passes a protocol":                  `{"spec":{"ingress":[` + denies + `,{"action":"Pass","protocol":"TCP"}]}}`,
	"has no rule":                        `{"spec":{"ingress":[]}}`,
	"logs":                               `{"spec":{"ingress":[{"action":"Log"},` + denies + `,` + passes + `]}}`,
	"is for every port":                  `{"spec":{"ingress":[{"action":"Deny","protocol":"TCP","source":{"notNets":["127.0.0.0/8"]}},` + passes + `]}}`,
	"is for a range of ports":            `{"spec":{"ingress":[{"action":"Deny","protocol":"TCP","source":{"notNets":["127.0.0.0/8"]},"destination":{"ports":["1:65535"]}},` + passes + `]}}`,
	"is for port 0":                      `{"spec":{"ingress":[{"action":"Deny","protocol":"TCP","source":{"notNets":["127.0.0.0/8"]},"destination":{"ports":[0]}},` + passes + `]}}`,
	"is for all but a port":              `{"spec":{"ingress":[{"action":"Deny","protocol":"TCP","source":{"notNets":["127.0.0.0/8"]},"destination":{"notPorts":[22]}},` + passes + `]}}`,
	"is for UDP":                         `{"spec":{"ingress":[{"action":"Deny","protocol":"UDP","source":{"notNets":["127.0.0.0/8"]},"destination":{"ports":[6443]}},` + passes + `]}}`,
	"is for all but a protocol":          `{"spec":{"ingress":[{"action":"Deny","protocol":"TCP","notProtocol":"UDP","source":{"notNets":["127.0.0.0/8"]},"destination":{"ports":[6443]}},` + passes + `]}}`,
	"is for everybody":                   `{"spec":{"ingress":[{"action":"Deny","protocol":"TCP","destination":{"ports":[6443]}},` + passes + `]}}`,
	"is for everybody but nobody":        `{"spec":{"ingress":[{"action":"Deny","protocol":"TCP","source":{"notNets":[]},"destination":{"ports":[6443]}},` + passes + `]}}`,
	"is for some, and not by an address": `{"spec":{"ingress":[{"action":"Deny","protocol":"TCP","source":{"notNets":["127.0.0.0/8"],"selector":"a == 'b'"},"destination":{"ports":[6443]}},` + passes + `]}}`,
	"is for one destination":             `{"spec":{"ingress":[{"action":"Deny","protocol":"TCP","source":{"notNets":["127.0.0.0/8"]},"destination":{"nets":["10.0.0.0/8"],"ports":[6443]}},` + passes + `]}}`,
}

// Whoever has the operator's token can close ports of nodes to addresses, and that is all.
//
// Mutations tried, of the limit: each of its conditions left out. It was noticed but for the one that a list of ports has nothing beside
// them: Cilium's kind has nothing else there.
func TestTheOperatorMayOnlyCloseNodes(t *testing.T) {
	c := operator(t)
	const closes, names = "isolate nothing", "of the baseline that they are labelled with"
	for _, tc := range []struct {
		layer   render.HostLayer
		guard   render.GuardLayer
		prefix  string
		changes map[string]string
		allowed string // what the changes are made of, by itself
	}{
		{calico.Hosts{}, calico.Guard{}, "pcinb-hosts.", calicoChanges, `{"spec":{"ingress":[` + denies + `,` + passes + `]}}`},
		{cilium.Hosts{}, cilium.Guard{}, "", ciliumChanges, `{"spec":{"ingressDeny":[{` + ranges + `,` + apiPorts + `}]}}`},
	} {
		t.Run(tc.layer.Name(), func(t *testing.T) {
			obj := hostFirewall(t, tc.layer, "pci", trial)
			createServed(t, &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}, env.client, obj)
			if changed, err := patch(t, obj, tc.allowed); err != nil || c.Update(t.Context(), changed, client.DryRunAll) != nil {
				t.Errorf("a change that closes other ports alone is refused: %v, %v", err, c.Update(t.Context(), changed, client.DryRunAll))
			}
			for name, text := range tc.changes {
				changed, err := patch(t, obj, text)
				if err != nil {
					t.Fatal(err)
				}
				if err := refused(c.Update(t.Context(), changed, client.DryRunAll), admission.OwnLimits, closes); err != nil {
					t.Errorf("it %s: %v", name, err)
				}
			}
			for _, name := range []string{"mine", "pcinb2-pci-hosts", "pcinb-other-hosts", "pcinb-pci-allow-hosts", "pcinb-pci-default-deny", "pcinb-hosts.pcinb-other-hosts", "x.pcinb-pci-hosts"} {
				renamed := obj.DeepCopy()
				renamed.SetName(name)
				if err := refused(c.Create(t.Context(), renamed, client.DryRunAll), admission.OwnLimits, names); err != nil {
					t.Errorf("the name %s: %v", name, err)
				}
			}
			asGuard := obj.DeepCopy()
			asGuard.SetName("pcinb-pci-guard")
			if err := refused(c.Create(t.Context(), asGuard, client.DryRunAll), admission.OwnLimits, ""); err != nil {
				t.Errorf("the name of a guard: %v", err)
			}
			guard := render.Guard(tc.guard, policy.Guard{Baseline: "free", Directions: []policy.Direction{policy.Ingress, policy.Egress}})
			guard.SetName(tc.prefix + "pcinb-free-hosts")
			if err := refused(c.Create(t.Context(), guard, client.DryRunAll), admission.OwnLimits, closes); err != nil {
				t.Errorf("a guard of that name: %v", err)
			}
		})
	}
	obj := hostFirewall(t, cilium.Hosts{}, "pci", trial)
	for name, words := range map[string]string{"pcinb-pci-hosts": names, "pcinb-pci-default-deny": nothing, "pcinb-pci-allow-x": nothing} {
		ofNamespace := obj.DeepCopy()
		ofNamespace.SetKind(cilium.KindNetworkPolicy)
		ofNamespace.SetNamespace("default")
		ofNamespace.SetName(name)
		if err := refused(c.Create(t.Context(), ofNamespace, client.DryRunAll), admission.OwnLimits, words); err != nil {
			t.Errorf("in a namespace, the name %s: %v", name, err)
		}
	}
}

// Of Calico's tiers the operator has one, which opens nothing and closes nothing.
func TestTheOperatorHasOneTier(t *testing.T) {
	c := operator(t)
	tier := hostObjects(t, calico.Hosts{}, "pci", nil)[0]
	createServed(t, &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}, env.client, tier)
	for name, text := range map[string]string{
		"denies": `{"spec":{"defaultAction":"Deny"}}`, "has no action": `{"spec":{"defaultAction":null}}`, "says more": `{"spec":{"x":"y"}}`,
	} {
		changed, err := patch(t, tier, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := refused(c.Update(t.Context(), changed, client.DryRunAll), admission.OwnLimits, "passes on"); err != nil {
			t.Errorf("it %s: %v", name, err)
		}
	}
	another := tier.DeepCopy()
	another.SetName("mine")
	another.SetResourceVersion("")
	if err := refused(c.Create(t.Context(), another, client.DryRunAll), admission.OwnLimits, "passes on"); err != nil {
		t.Errorf("another tier: %v", err)
	}
}

// The guard layer in Calico's API is for pods: for host endpoints it would close every port of nodes.
func TestTheGuardLayerIsForPods(t *testing.T) {
	c := operator(t)
	for name, change := range map[string]func(*calicov3.GlobalNetworkPolicySpec){
		"everything":   func(s *calicov3.GlobalNetworkPolicySpec) { s.Selector = "all()" },
		"hosts":        func(s *calicov3.GlobalNetworkPolicySpec) { s.Selector = "!has(projectcalico.org/namespace)" },
		"another tier": func(s *calicov3.GlobalNetworkPolicySpec) { s.Tier = "mine" },
		"forwarding":   func(s *calicov3.GlobalNetworkPolicySpec) { s.ApplyOnForward = true },
	} {
		guard, ok := render.Guard(calico.Guard{}, policy.Guard{Baseline: "pods", Directions: []policy.Direction{policy.Ingress}}).(*calicov3.GlobalNetworkPolicy)
		if !ok {
			t.Fatal("it is of another kind")
		}
		if change(&guard.Spec); refused(c.Create(t.Context(), guard, client.DryRunAll), admission.OwnLimits, "is for pods") != nil {
			t.Errorf("%s: %v", name, c.Create(t.Context(), guard, client.DryRunAll))
		}
	}
}

// A policy that is to be made anew stays when the new one would be refused.
func TestRenew(t *testing.T) {
	c := operator(t)
	a := &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}
	live, all := hostFirewall(t, calico.Hosts{}, "renewed", trial), hostFirewall(t, calico.Hosts{}, "renewed", nil)
	createServed(t, a, env.client, live)
	if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(live), live); err != nil {
		t.Fatal(err)
	}
	bad, err := patch(t, all, `{"spec":{"ingress":[{"action":"Allow"}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Renew(t.Context(), bad, live); refused(err, admission.OwnLimits, "isolate nothing") != nil {
		t.Errorf("a bad one: %v", err)
	}
	now := live.DeepCopy()
	if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(live), now); err != nil || now.GetUID() != live.GetUID() {
		t.Fatalf("after that: %v, %v", now, err)
	}
	change, err := a.Renew(t.Context(), all, live)
	if err != nil || change.Object.GetUID() == live.GetUID() {
		t.Errorf("a good one: %+v, %v", change, err)
	}
}
