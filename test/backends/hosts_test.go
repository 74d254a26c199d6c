// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package backends_test

import (
	"context"
	"encoding/json"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	for _, layer := range []render.HostLayer{calico.Hosts{}, cilium.Hosts{}} {
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

// hostChanges are changes to the policy for nodes, each of which would do more, or something else, than close ports to addresses.
var hostChanges = map[string]string{
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

// Whoever has the operator's token can close ports of nodes to addresses, and that is all.
//
// Mutations tried, of the limit: each of its conditions left out. It was noticed but for the one that a list of ports has nothing beside
// them: Cilium's kind has nothing else there.
func TestTheOperatorMayOnlyCloseNodes(t *testing.T) {
	c := operator(t)
	const closes = "isolate nothing"
	obj := hostFirewall(t, "pci", trial)
	createServed(t, &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}, env.client, obj)
	for name, text := range hostChanges {
		t.Run(name, func(t *testing.T) {
			changed, err := patch(t, obj, text)
			if err != nil {
				t.Fatal(err)
			}
			if err := refused(c.Update(t.Context(), changed, client.DryRunAll), admission.OwnLimits, closes); err != nil {
				t.Error(err)
			}
		})
	}
	const names = "of the baseline that they are labelled with"
	for name, words := range map[string]string{
		"mine": names, "pcinb2-pci-hosts": names, "pcinb-other-hosts": names, "pcinb-pci-allow-hosts": names, "pcinb-pci-default-deny": names,
		"pcinb-pci-guard": nothing,
	} {
		renamed := obj.DeepCopy()
		renamed.SetName(name)
		if err := refused(c.Create(t.Context(), renamed, client.DryRunAll), admission.OwnLimits, words); err != nil {
			t.Errorf("the name %s: %v", name, err)
		}
	}
	for name, words := range map[string]string{"pcinb-pci-hosts": names, "pcinb-pci-default-deny": nothing, "pcinb-pci-allow-x": nothing} {
		ofNamespace := obj.DeepCopy()
		ofNamespace.SetKind(cilium.KindNetworkPolicy)
		ofNamespace.SetNamespace("default")
		ofNamespace.SetName(name)
		if err := refused(c.Create(t.Context(), ofNamespace, client.DryRunAll), admission.OwnLimits, words); err != nil {
			t.Errorf("in a namespace, the name %s: %v", name, err)
		}
	}
	guard := render.Guard(cilium.Guard{}, policy.Guard{Baseline: "free", Directions: []policy.Direction{policy.Ingress, policy.Egress}})
	guard.SetName("pcinb-free-hosts")
	if err := refused(c.Create(t.Context(), guard, client.DryRunAll), admission.OwnLimits, closes); err != nil {
		t.Errorf("a guard of that name: %v", err)
	}
}
