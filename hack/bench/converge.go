// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// convergenceRound holds what one round of phases a and b gave.
type convergenceRound struct {
	raw, loop, operator time.Duration
	loopCPU, cpu        time.Duration
	rawCPU, recorderCPU time.Duration // of this program: raw client with recorder, and recorder alone
	peak                float64       // MiB
	ready               time.Duration // until the baseline's Ready, 0 if it was not seen
	usage               usage
	curve               []float64 // namespaces per second in each tenth of the namespaces
	correct             int
}

func isDenied(o *observed) bool { return o.denied }

func isProtected(o *observed) bool {
	return o.denied && o.state == pcinetv1alpha1.CoverageProtected
}

// convergence runs phases a and b round by round. The sites of the last round
// stay for the phases to come.
func (b *bench) convergence(ctx context.Context) error {
	rounds := make([]convergenceRound, b.opts.rounds)
	for i := range rounds {
		last := i == b.opts.rounds-1
		steps := []struct {
			measured bool // in every round
			needed   bool // by a later phase
			run      func(context.Context, string, *convergenceRound) (*site, error)
		}{
			{b.opts.runs("a"), strings.ContainsAny(b.opts.only, "ei"), b.convergeRaw},
			{b.opts.runs("a"), b.opts.runs("c") || b.opts.runs("d"), b.convergeLoop},
			{b.opts.runs("b"), b.opts.operator != "" && strings.ContainsAny(b.opts.only, "bcdefghi"), b.convergeOperator},
		}
		for _, step := range steps {
			if !step.measured && (!step.needed || !last) {
				continue
			}
			s, err := step.run(ctx, fmt.Sprintf("round-%d", i+1), &rounds[i])
			if err != nil {
				return fmt.Errorf("phases a and b, round %d: %w", i+1, err)
			}
			if step.needed && last {
				continue
			}
			if err := b.discard(s); err != nil {
				return err
			}
		}
	}
	b.results.convergence(b, rounds)
	return nil
}

func (b *bench) convergeRaw(ctx context.Context, round string, result *convergenceRound) (*site, error) {
	raw, err := b.newRaw(ctx, round+"-raw")
	if err != nil {
		return nil, err
	}
	b.raw = raw
	seen := raw.recorder.expect(isProtected, raw.namespaces...)
	before, err := processCPU("self")
	if err != nil {
		return nil, err
	}
	if result.raw, err = raw.client.fill(ctx, b.specimen, raw.namespaces); err != nil {
		return nil, err
	}
	if err := raw.recorder.waitAll(ctx, seen, b.limit()); err != nil {
		return nil, err
	}
	after, err := processCPU("self")
	if err != nil {
		return nil, err
	}
	result.rawCPU = after - before
	objects := b.opts.n * b.specimen.writes()
	b.result("raw client: %d objects in %.2f s, %.0f/s", objects, result.raw.Seconds(), float64(objects)/result.raw.Seconds())
	return raw.site, nil
}

func (b *bench) convergeLoop(ctx context.Context, round string, result *convergenceRound) (*site, error) {
	loop, err := b.newLoop(ctx, round+"-loop")
	if err != nil {
		return nil, err
	}
	b.loop = loop
	seen := loop.recorder.expect(isDenied, loop.namespaces...)
	if _, err := loop.start(ctx); err != nil {
		return nil, err
	}
	if err := loop.recorder.waitAll(ctx, seen, b.limit()); err != nil {
		return nil, err
	}
	result.loop = seen.last.Sub(loop.child.started)
	if err := loop.child.settle(ctx); err != nil {
		return nil, err
	}
	if result.loopCPU, err = loop.child.cpu(); err != nil {
		return nil, err
	}
	b.result("informer loop: %d namespaces denied %.2f s after its start, CPU %.2f s", b.opts.n, result.loop.Seconds(), result.loopCPU.Seconds())
	return loop.site, nil
}

func (b *bench) convergeOperator(ctx context.Context, round string, result *convergenceRound) (*site, error) {
	operator, err := b.newOperator(ctx, round+"-operator", b.opts.n)
	if err != nil {
		return nil, err
	}
	before, err := operator.child.cpu()
	if err != nil {
		return nil, err
	}
	result.usage, err = operator.requests(ctx, func() error {
		own, err := processCPU("self")
		if err != nil {
			return err
		}
		seen, err := b.coverAll(ctx, operator)
		if err != nil {
			return err
		}
		result.operator, result.curve = seen.took, seen.curve
		after, err := processCPU("self")
		result.recorderCPU = after - own
		return err
	})
	if err != nil {
		return nil, err
	}
	after, err := operator.child.cpu()
	if err != nil {
		return nil, err
	}
	result.cpu = after - before
	if err := operator.notePeak(); err != nil {
		return nil, err
	}
	result.peak = operator.peak
	if _, ready := operator.recorder.status(); !ready.IsZero() {
		result.ready = ready.Sub(operator.declared)
	}
	if result.correct, err = operator.correct(ctx, b.specimen); err != nil {
		return nil, err
	}
	b.operator = operator
	b.result("operator: %d namespaces covered in %.2f s, CPU %.2f s, writes: %s", b.opts.n, result.operator.Seconds(), result.cpu.Seconds(), &result.usage)
	return operator.site, nil
}

// covered says how long all namespaces took and how the pace went.
type covered struct {
	took  time.Duration
	curve []float64
}

// coverAll creates the baseline and returns when every namespace has its deny
// and a coverage that says Protected.
func (b *bench) coverAll(ctx context.Context, o *contender) (covered, error) {
	seen := o.recorder.expect(isProtected, o.namespaces...)
	o.declared = now()
	if err := o.admin.createBaseline(ctx); err != nil {
		return covered{}, err
	}
	err := o.recorder.waitAll(ctx, seen, b.limit())
	if err != nil {
		return covered{}, errors.Join(err, o.child.check())
	}
	return covered{took: seen.last.Sub(o.declared), curve: pace(o.declared, slices.Collect(maps.Values(seen.at)))}, nil
}

// pace returns, for each tenth of the moments, how many there were per second.
func pace(began time.Time, moments []time.Time) []float64 {
	const parts = 10
	if len(moments) < parts {
		return nil
	}
	slices.SortFunc(moments, time.Time.Compare)
	var rates []float64
	for part := range parts {
		from, to := part*len(moments)/parts, (part+1)*len(moments)/parts
		ended := moments[to-1]
		if took := ended.Sub(began).Seconds(); took > 0 {
			rates = append(rates, float64(to-from)/took)
		}
		began = ended
	}
	return rates
}

// correct counts the site's namespaces that hold every policy of the specimen.
func (s *site) correct(ctx context.Context, want *specimen) (int, error) {
	list, err := s.admin.core.NetworkingV1().NetworkPolicies("").List(ctx, metav1.ListOptions{LabelSelector: baselineLabel})
	if err != nil {
		return 0, err
	}
	found := map[string]int{}
	for i := range list.Items {
		live := &list.Items[i]
		if slices.ContainsFunc(want.Policies, func(p networkingv1.NetworkPolicy) bool {
			return p.Name == live.Name && equality.Semantic.DeepEqual(p.Spec, live.Spec)
		}) {
			found[live.Namespace]++
		}
	}
	count := 0
	for _, namespace := range s.namespaces {
		if found[namespace] == len(want.Policies) {
			count++
		}
	}
	return count, nil
}
