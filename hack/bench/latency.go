// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	newCount    = 200 // new namespaces per round, one by one and in a burst
	repairCount = 100 // deletes, and as many edits, per round

	// gap lets what a contender does after the deny end before the next event.
	gap = 20 * time.Millisecond

	// missLimit is how long a single event may take before it counts as missed.
	missLimit = 30 * time.Second
)

// allowAll is the edit that opens a namespace most quietly: the deny stays in place.
const allowAll = `{"spec":{"ingress":[{}]}}`

// latencies are the samples of one contender in one round.
type latencies struct {
	sent   []time.Duration // from before the request that is the cause until the deny was seen
	window []time.Duration // from when the namespace was seen until the deny was seen
	missed int
}

// latencyRound holds one round of a phase that compares operator and loop.
type latencyRound struct {
	loop, operator latencies
}

func (r *latencyRound) String() string {
	return fmt.Sprintf("loop %.1f/%.1f ms, operator %.1f/%.1f ms",
		percentile(r.loop.sent, 50), percentile(r.loop.sent, 99), percentile(r.operator.sent, 50), percentile(r.operator.sent, 99))
}

// inTurn measures loop and operator right after each other, the order changing
// from round to round, so that what else the machine does weighs on both.
func (b *bench) inTurn(round int, measure func(*contender, string) (latencies, error)) (latencyRound, error) {
	var result latencyRound
	turns := []struct {
		contender *contender
		into      *latencies
	}{{b.loop, &result.loop}, {b.operator, &result.operator}}
	if round%2 == 1 {
		turns[0], turns[1] = turns[1], turns[0]
	}
	for _, turn := range turns {
		if turn.contender == nil {
			continue
		}
		var err error
		if *turn.into, err = measure(turn.contender, fmt.Sprintf("round-%d", round+1)); err != nil {
			return result, err
		}
	}
	return result, nil
}

// newNamespaces is phase c.
func (b *bench) newNamespaces(ctx context.Context) error {
	var single, burst []latencyRound
	run := func() error {
		for round := range b.opts.rounds {
			measured, err := b.inTurn(round, func(c *contender, name string) (latencies, error) {
				return c.oneByOne(ctx, name)
			})
			if err != nil {
				return err
			}
			single = append(single, measured)
			measured, err = b.inTurn(round, func(c *contender, name string) (latencies, error) {
				return c.burst(ctx, name)
			})
			if err != nil {
				return err
			}
			burst = append(burst, measured)
			b.result("new namespaces, round %d: p50/p99 one by one: %s; in a burst: %s", round+1, &single[round], &burst[round])
		}
		return nil
	}
	if b.operator == nil {
		return run()
	}
	used, err := b.operator.requests(ctx, run)
	if err != nil {
		return err
	}
	b.results.usage.add(used)
	b.results.newNamespaces(b, single, burst, &used)
	return nil
}

func (c *contender) oneByOne(ctx context.Context, round string) (latencies, error) {
	var result latencies
	for _, name := range numbered("new-"+round, newCount) {
		seen := c.recorder.expect(isDenied, name)
		sent := now()
		if err := c.createNamespace(ctx, name); err != nil {
			return result, err
		}
		if err := c.await(ctx, &result, sent, seen); err != nil {
			return result, err
		}
		c.namespaces = append(c.namespaces, name)
		if err := sleep(ctx, gap); err != nil {
			return result, err
		}
	}
	return result, c.child.settle(ctx)
}

// await waits for a single event and adds the sample.
func (c *contender) await(ctx context.Context, into *latencies, sent time.Time, seen *expectation) error {
	missing, err := c.recorder.wait(ctx, seen, missLimit)
	if err != nil {
		return err
	}
	into.missed += len(missing)
	for name, at := range seen.at {
		into.sent = append(into.sent, at.Sub(sent))
		into.window = append(into.window, at.Sub(c.recorder.look(name).born))
	}
	return c.child.check()
}

// burst creates namespaces all at once.
func (c *contender) burst(ctx context.Context, round string) (latencies, error) {
	var result latencies
	names := numbered("burst-"+round, newCount)
	seen := c.recorder.expect(isDenied, names...)
	sent := now()
	group, groupCtx := errgroup.WithContext(ctx)
	for _, name := range names {
		group.Go(func() error { return c.createNamespace(groupCtx, name) })
	}
	if err := group.Wait(); err != nil {
		return result, err
	}
	if err := c.await(ctx, &result, sent, seen); err != nil {
		return result, err
	}
	c.namespaces = append(c.namespaces, names...)
	return result, c.child.settle(ctx)
}

// repairs is phase d.
func (b *bench) repairs(ctx context.Context) error {
	var deletes, edits []latencyRound
	for round := range b.opts.rounds {
		measured, err := b.inTurn(round, func(c *contender, _ string) (latencies, error) {
			return c.repair(ctx, c.victims(b.opts.n, 2*round), deleteDeny)
		})
		if err != nil {
			return err
		}
		deletes = append(deletes, measured)
		measured, err = b.inTurn(round, func(c *contender, _ string) (latencies, error) {
			return c.repair(ctx, c.victims(b.opts.n, 2*round+1), editDeny)
		})
		if err != nil {
			return err
		}
		edits = append(edits, measured)
		b.result("repair, round %d: p50/p99 after delete: %s; after edit: %s", round+1, &deletes[round], &edits[round])
	}
	if b.operator != nil {
		b.results.repairs(b, deletes, edits)
	}
	return nil
}

// victims picks namespaces; no two picks in a row share one if there are enough.
func (s *site) victims(n, pick int) []string {
	names := make([]string, min(repairCount, n/2))
	for i := range names {
		names[i] = s.namespaces[(pick*len(names)+i)%n]
	}
	return names
}

func (c *contender) repair(ctx context.Context, names []string, damage func(context.Context, *site, string) error) (latencies, error) {
	var result latencies
	for _, name := range names {
		before := c.recorder.look(name).denials
		seen := c.recorder.expect(func(o *observed) bool { return o.denied && o.denials > before }, name)
		sent := now()
		if err := damage(ctx, c.site, name); err != nil {
			return result, fmt.Errorf("damaging the deny of %s: %w", name, err)
		}
		if err := c.await(ctx, &result, sent, seen); err != nil {
			return result, err
		}
		if err := sleep(ctx, gap); err != nil {
			return result, err
		}
	}
	return result, c.child.settle(ctx)
}

func deleteDeny(ctx context.Context, s *site, namespace string) error {
	return s.admin.core.NetworkingV1().NetworkPolicies(namespace).Delete(ctx, denyName, metav1.DeleteOptions{})
}

func editDeny(ctx context.Context, s *site, namespace string) error {
	_, err := s.admin.core.NetworkingV1().NetworkPolicies(namespace).Patch(ctx, denyName, types.MergePatchType, []byte(allowAll), metav1.PatchOptions{})
	return err
}
