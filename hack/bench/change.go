// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// firstPort is the port of the rule as it is added; every later change takes the next one.
const firstPort = 9090

const rulePatch = `{"spec":{"allow":{"rules":[{
	"name": "` + ruleName + `",
	"justification": "The benchmark lets every pod push its metrics",
	"direction": "Egress",
	"peers": [{"cidr": "10.20.0.0/16"}],
	"ports": [{"protocol": "TCP", "port": %d}]
}]}}}`

// changed is one change of the baseline: by the operator, and the same final
// writes by the raw client.
type changed struct {
	raw, operator time.Duration
	usage         usage // the operator's
	deletes       int   // of network policies, by anybody
	exposures     int
}

// change is phase e: a rule is added, so that every namespace gets a policy,
// and then changed, so that every namespace has one updated.
func (b *bench) change(ctx context.Context) error {
	if err := b.level(ctx); err != nil {
		return err
	}
	var all []changed
	for i := range b.opts.rounds + 1 {
		result, err := b.changeTo(ctx, int32(firstPort+i))
		if err != nil {
			return err
		}
		all = append(all, result)
		b.result("baseline change %d of %d namespaces: operator %.2f s, raw client %.2f s, writes: %s",
			i+1, len(b.operator.namespaces), result.operator.Seconds(), result.raw.Seconds(), &result.usage)
	}
	b.results.change(b, all[0], all[1:])
	return nil
}

// level gives the raw client's cluster the namespaces that the operator's has got since.
func (b *bench) level(ctx context.Context) error {
	have := len(b.raw.namespaces)
	if err := b.raw.addNamespaces(ctx, "level", len(b.operator.namespaces)-have); err != nil {
		return err
	}
	_, err := b.raw.client.fill(ctx, b.specimen, b.raw.namespaces[have:])
	return err
}

func (b *bench) changeTo(ctx context.Context, port int32) (changed, error) {
	var result changed
	o := b.operator
	exposed := o.recorder.exposures()
	from, err := o.audit.mark(ctx)
	if err != nil {
		return result, err
	}
	result.usage, err = o.requests(ctx, func() error {
		result.operator, err = b.patchRule(ctx, port)
		return err
	})
	if err != nil {
		return result, err
	}
	to, err := o.audit.mark(ctx)
	if err != nil {
		return result, err
	}
	everybody, err := o.audit.usage("", from, to)
	if err != nil {
		return result, err
	}
	result.deletes = everybody.kinds["delete networkpolicies"] + everybody.kinds["deletecollection networkpolicies"]
	result.exposures = o.recorder.exposures() - exposed

	specimen, err := takeSpecimen(ctx, o.admin, o.namespaces[len(o.namespaces)-1])
	if err != nil {
		return result, err
	}
	if specimen.rule() == nil {
		return result, fmt.Errorf("the operator wrote no policy %s", rulePolicy)
	}
	result.raw, err = b.raw.client.change(ctx, specimen, b.raw.namespaces)
	return result, err
}

// patchRule changes the baseline and returns how long it took until every
// namespace had the policy and a coverage that knows of the change.
func (b *bench) patchRule(ctx context.Context, port int32) (time.Duration, error) {
	o := b.operator
	current, err := o.admin.patchBaseline(ctx, []byte(`{}`))
	if err != nil {
		return 0, err
	}
	wanted := current.Generation + 1
	seen := o.recorder.expect(func(s *observed) bool {
		return s.denied && s.rulePort == port && s.generation >= wanted && s.state == pcinetv1alpha1.CoverageProtected
	}, o.namespaces...)
	sent := now()
	if _, err := o.admin.patchBaseline(ctx, fmt.Appendf(nil, rulePatch, port)); err != nil {
		return 0, fmt.Errorf("changing the baseline: %w", err)
	}
	if err := o.recorder.waitAll(ctx, seen, b.limit()); err != nil {
		return 0, err
	}
	return seen.last.Sub(sent), nil
}
