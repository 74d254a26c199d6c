// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package semantic_test proves what rendered policies mean: for each backend an evaluator that was not written with it
// answers whether a packet passes, and a reading of the API's own words says whether it should.
package semantic_test

import (
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

var (
	pairs = flag.Int("pairs", 120_000, "how many (spec, packet) pairs every backend is asked for")
	seed  = flag.Uint64("seed", 1, "the seed of the first spec; each further spec takes the next")

	now = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
)

const packetsPerSpec = 120

// tally counts what one backend was asked, and how it answered against a literal reading of addresses.
type tally struct{ asked, passed, stricter, wider, divergences, failedSpecs int }

// Whatever the spec and the packet, a backend lets through what the API's words say, no more and no less.
func TestBackendsMeanWhatTheSpecSays(t *testing.T) {
	tallies := map[string]*tally{}
	for n := 0; n*packetsPerSpec < *pairs; n++ {
		s := *seed + uint64(n)
		w, packets := randomWorld(t, s)
		for _, e := range engines() {
			name := e.backend.Name()
			if tallies[name] == nil {
				tallies[name] = &tally{}
			}
			objects, err := w.objects(e.backend)
			if err == nil {
				err = compare(e, w, objects, packets, tallies[name])
			}
			if err == nil {
				continue
			}
			tallies[name].failedSpecs++
			if tallies[name].failedSpecs <= 3 { // the rest is counted
				t.Errorf("seed %d, %s: %v", s, name, err)
			}
		}
	}
	for name, c := range tallies {
		t.Logf("%-13s %d pairs from seed %d: %d let through, %d divergences; against a literal reading of addresses %d stricter and %d wider, as documented",
			name, c.asked, *seed, c.passed, c.divergences, c.stricter, c.wider)
		if c.divergences > 0 || c.failedSpecs > 0 || c.asked < *pairs {
			t.Errorf("%s: %d divergences, %d specs that failed, %d pairs asked of %d", name, c.divergences, c.failedSpecs, c.asked, *pairs)
		}
		if c.passed < c.asked/20 || c.passed > c.asked*19/20 {
			t.Errorf("%s: %d of %d let through are too few or too many to prove anything", name, c.passed, c.asked)
		}
	}
}

// randomWorld makes a world and packets in it.
func randomWorld(t *testing.T, seed uint64) (world, []packet) {
	t.Helper()
	r := newRandom(seed)
	w := world{baseline: r.baseline(), cluster: r.cluster(), namespace: pickOne(r, namespaces...)}
	compiled, err := plan.Compile(w.baseline)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	w.compiled = compiled
	var packets []packet
	for range packetsPerSpec {
		packets = append(packets, r.packet())
	}
	return w, packets
}

// objects are what a backend renders for the namespace, encoded.
func (w world) objects(b render.Backend) ([][]byte, error) {
	d := w.compiled.For(w.namespace, w.cluster, now)
	if d.Verdict != plan.InScope {
		return nil, nil
	}
	return encoded(b, d.Set)
}

// compare asks an engine about packets. Its error explains the first that it does not treat as it should.
func compare(e engine, w world, objects [][]byte, packets []packet, count *tally) error {
	ask, err := e.load(w, objects)
	if err != nil {
		return err
	}
	var first error
	for _, p := range packets {
		got, err := ask(p)
		if err != nil {
			return err
		}
		count.asked++
		if got {
			count.passed++
		}
		literal := w.allows(p, reading{})
		switch want := w.allows(p, e.reading); {
		case want != got:
			count.divergences++
			if first == nil {
				first = explain(w, p, want, objects)
			}
		case literal && !got:
			count.stricter++
		case got && !literal:
			count.wider++
		}
	}
	return first
}

func explain(w world, p packet, want bool, objects [][]byte) error {
	verb := "more"
	if want {
		verb = "less"
	}
	spec, _ := yaml.Marshal(w.baseline.Spec)
	text := fmt.Sprintf("lets through %s than the spec: %+v\nin namespace %s of the cluster %+v\n%s", verb, p, w.namespace.Name, w.cluster, spec)
	for _, o := range objects {
		y, _ := yaml.JSONToYAML(o)
		text += "---\n" + string(y)
	}
	return errors.New(text)
}

// The comparison itself must see a set that is wrong: without its deny it lets through more, without an allowance less.
func TestAWrongSetIsSeen(t *testing.T) {
	for _, e := range engines() {
		wider, narrower := &tally{}, &tally{}
		for s := range uint64(50) {
			w, packets := randomWorld(t, s)
			objects, err := w.objects(e.backend)
			if err != nil || len(objects) < 2 {
				continue
			}
			_ = compare(e, w, objects[:len(objects)-1], packets, wider)
			_ = compare(e, w, objects[1:], packets, narrower)
		}
		if wider.divergences == 0 || narrower.divergences == 0 {
			t.Errorf("%s: %d divergences without the deny, %d without an allowance", e.backend.Name(), wider.divergences, narrower.divergences)
		}
	}
}
