// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package semantic_test

import (
	"encoding/json"
	"errors"
	"testing"

	ciliumv2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	kjson "sigs.k8s.io/json"

	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
)

func decodeStrict(text []byte, into any) error {
	strict, err := kjson.UnmarshalStrict(text, into)
	return errors.Join(append(strict, err)...)
}

// through decodes text strictly into Cilium's own type, and that back into ours.
func through(t *testing.T, text []byte, theirs, ours any) {
	t.Helper()
	if err := decodeStrict(text, theirs); err != nil {
		t.Fatalf("Cilium's type does not hold all of it: %v in %s", err, text)
	}
	back, err := json.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(back, ours); err != nil {
		t.Fatalf("%v in %s", err, back)
	}
}

// Ours and Cilium's own types are one on the wire: what is rendered survives the way through theirs, in both directions.
func TestOurTypesAreCiliumsOnTheWire(t *testing.T) {
	same := cmpopts.EquateEmpty()
	objects := 0
	for s := range uint64(500) {
		w, _ := randomWorld(t, s)
		d := w.compiled.For(w.namespace, w.cluster, now)
		if d.Verdict != plan.InScope {
			continue
		}
		for _, p := range d.Set.Ordered() {
			want := render.Render(cilium.Backend{}, d.Set, p)
			text, err := encode(want)
			if err != nil {
				t.Fatal(err)
			}
			got := &cilium.NetworkPolicy{}
			through(t, text, &ciliumv2.CiliumNetworkPolicy{}, got)
			if diff := cmp.Diff(want, render.Object(got), same); diff != "" {
				t.Fatalf("seed %d (-ours +back from theirs):\n%s", s, diff)
			}
			objects++
		}
		guard, _ := w.compiled.Guard(w.cluster, now)
		want := render.Guard(cilium.Guard{}, guard)
		text, err := encode(want)
		if err != nil {
			t.Fatal(err)
		}
		got := &cilium.ClusterwideNetworkPolicy{}
		through(t, text, &ciliumv2.CiliumClusterwideNetworkPolicy{}, got)
		if diff := cmp.Diff(want, render.Object(got), same); diff != "" {
			t.Fatalf("seed %d (-ours +back from theirs):\n%s", s, diff)
		}
	}
	t.Logf("%d policies", objects)
}

// Somebody who adds what we never render must not go unseen because our types cannot hold it.
func TestWhatOurTypesCannotHoldIsNamed(t *testing.T) {
	const deny = `"endpointSelector":{},"ingress":[{}],"egress":[{}]`
	cases := map[string]struct {
		object string
		want   []string
	}{
		"only what we render":            {object: `{"spec":{` + deny + `}}`},
		"an agent's status is no drift":  {object: `{"spec":{` + deny + `},"status":{"derivativePolicies":{"x":{"ok":true}}}}`},
		"the deny is switched off":       {object: `{"spec":{` + deny + `,"enableDefaultDeny":{"ingress":false,"egress":false}}}`, want: []string{"spec.enableDefaultDeny"}},
		"a second rule":                  {object: `{"spec":{` + deny + `},"specs":[{"endpointSelector":{},"ingress":[{"fromEntities":["all"]}]}]}`, want: []string{"specs"}},
		"it is for nodes":                {object: `{"spec":{` + deny + `,"nodeSelector":{}}}`, want: []string{"spec.nodeSelector"}},
		"deny rules beside":              {object: `{"spec":{` + deny + `,"ingressDeny":[{}],"egressDeny":[{}]}}`, want: []string{"spec.egressDeny", "spec.ingressDeny"}},
		"peers of a form that we lack":   {object: `{"spec":{"endpointSelector":{},"egress":[{"toFQDNs":[{"matchPattern":"*"}]}]}}`, want: []string{"spec.egress[0].toFQDNs"}},
		"a group instead of a range":     {object: `{"spec":{"endpointSelector":{},"egress":[{"toCIDRSet":[{"cidrGroupRef":"x"}]}]}}`, want: []string{"spec.egress[0].toCIDRSet[0].cidrGroupRef"}},
		"rules for what is in the ports": {object: `{"spec":{"endpointSelector":{},"ingress":[{"toPorts":[{"ports":[{"port":"80"}],"rules":{"http":[{}]}}]}]}}`, want: []string{"spec.ingress[0].toPorts[0].rules"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if err := decodeStrict([]byte(tc.object), &ciliumv2.CiliumNetworkPolicy{}); err != nil {
				t.Fatalf("Cilium has no such object: %v", err)
			}
			var p cilium.NetworkPolicy
			if err := json.Unmarshal([]byte(tc.object), &p); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, p.Spec.Unknown); diff != "" {
				t.Errorf("unknown (-want +got):\n%s", diff)
			}
			if denies := (cilium.Backend{}).Denies(&p); denies != (len(tc.want) == 0) {
				t.Errorf("it is a deny: %v", denies)
			}
		})
	}
}
