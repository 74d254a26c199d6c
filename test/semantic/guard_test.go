// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package semantic_test

import (
	"testing"

	"github.com/cilium/cilium/pkg/identity"

	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/test/felix"
)

// A guard is for the pods of namespaces in scope, and for nothing else: not for other pods, and not for hosts, health
// endpoints or ingress proxies, which it would cut off.
func TestGuardsSelectPodsInScopeAlone(t *testing.T) {
	in, out := 0, 0
	for s := range uint64(300) {
		w, _ := randomWorld(t, s)
		guard, _ := w.compiled.Guard(w.cluster, now)
		calicoSelects, ciliumSelects := guardOfCalico(t, guard), guardOfCilium(t, guard)
		for _, n := range namespaces {
			want := w.compiled.For(n, w.cluster, now).Verdict == plan.InScope
			agent := newAgent(nil)
			for _, pod := range everyPodLabels {
				if got := calicoSelects(felix.Pod(n.Name, n.Labels, pod)); got != want {
					t.Errorf("seed %d: the GlobalNetworkPolicy selects a pod of %s: %v, want %v", s, n.Name, got, want)
				}
				if got := ciliumSelects(agent.pod(n, pod)); got != want {
					t.Errorf("seed %d: the CiliumClusterwideNetworkPolicy selects a pod of %s: %v, want %v", s, n.Name, got, want)
				}
			}
			if want {
				in++
			} else {
				out++
			}
		}
		for _, l := range []felix.Labels{{}, {"app": "a"}, {"kubernetes.io/hostname": "n", "team": "web"}} {
			if calicoSelects(l) {
				t.Errorf("seed %d: the GlobalNetworkPolicy selects a host endpoint or network set with %v", s, l)
			}
		}
		identity.IterateReservedIdentities(func(_ identity.NumericIdentity, id *identity.Identity) {
			if ciliumSelects(id) {
				t.Errorf("seed %d: the CiliumClusterwideNetworkPolicy selects %v", s, id.Labels)
			}
		})
	}
	if in < 100 || out < 100 {
		t.Errorf("%d namespaces in scope and %d out of it are too few to prove anything", in, out)
	}
}

// With a guard beside them, the policies of a namespace mean what they meant without.
func TestGuardsTakeNothingAway(t *testing.T) {
	count := &tally{}
	for s := range uint64(200) {
		w, packets := randomWorld(t, s)
		guard, _ := w.compiled.Guard(w.cluster, now)
		for layer, e := range map[render.GuardLayer]engine{calico.Guard{}: engines()[1], cilium.Guard{}: engines()[2]} {
			objects, err := w.objects(e.backend)
			if err != nil {
				t.Fatal(err)
			}
			text, err := encode(render.Guard(layer, guard))
			if err != nil {
				t.Fatal(err)
			}
			if err := compare(e, w, append(objects, text), packets, count); err != nil {
				t.Fatalf("seed %d, %s: %v", s, layer.Name(), err)
			}
		}
	}
	t.Logf("%d pairs, %d let through, %d divergences", count.asked, count.passed, count.divergences)
}

func guardOfCalico(t *testing.T, g policy.Guard) func(felix.Labels) bool {
	t.Helper()
	text, err := encode(render.Guard(calico.Guard{}, g))
	if err != nil {
		t.Fatal(err)
	}
	p, err := felix.Decode(text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return p.Selects
}

func guardOfCilium(t *testing.T, g policy.Guard) func(*identity.Identity) bool {
	t.Helper()
	configureCilium()
	text, err := encode(render.Guard(cilium.Guard{}, g))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := entriesOf(text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return func(id *identity.Identity) bool {
		for _, e := range entries {
			if e.Node || e.Subject.Matches(id.LabelArray) {
				return true
			}
		}
		return false
	}
}
