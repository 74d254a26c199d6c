// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// driftCount is the number of policies deleted, of policies edited and of
// namespaces created while the operator is down.
const driftCount = 10

// downtime is phase f.
func (b *bench) downtime(ctx context.Context) error {
	o := b.operator
	if err := o.end(); err != nil {
		return err
	}
	victims := o.namespaces[:2*driftCount]
	fresh := numbered("down", driftCount)
	deleted, edited := victims[:driftCount], victims[driftCount:]
	for i := range driftCount {
		if err := deleteDeny(ctx, o.site, deleted[i]); err != nil {
			return err
		}
		if err := editDeny(ctx, o.site, edited[i]); err != nil {
			return err
		}
		if err := o.createNamespace(ctx, fresh[i]); err != nil {
			return err
		}
	}
	o.namespaces = append(o.namespaces, fresh...)
	affected := slices.Concat(victims, fresh)
	if err := b.awaitExposed(ctx, affected); err != nil {
		return err
	}

	seen := o.recorder.expect(isDenied, affected...)
	from, err := o.audit.mark(ctx)
	if err != nil {
		return err
	}
	ready, err := o.start(ctx)
	if err != nil {
		return err
	}
	missing, err := o.recorder.wait(ctx, seen, b.limit())
	if err != nil {
		return err
	}
	if err := o.child.settle(ctx); err != nil {
		return err
	}
	to, err := o.audit.mark(ctx)
	if err != nil {
		return err
	}
	used, err := o.audit.usage(o.user, from, to)
	if err != nil {
		return err
	}
	first := ready
	for _, at := range seen.at {
		if at.Before(first) {
			first = at
		}
	}
	strangers := slices.DeleteFunc(slices.Collect(maps.Keys(used.namespaced)), func(name string) bool {
		return slices.Contains(affected, name)
	})
	b.results.downtime(seen.last.Sub(o.child.started), seen.last.Sub(first), fmt.Sprintf(
		"%d of %d repaired; %d namespaces written to that had not changed; writes: %s", len(seen.at), len(affected), len(strangers), &used))
	b.result("drift while down: %d of %d repaired %.2f s after the start of the process, %.2f s after it was ready, writes: %s",
		len(affected)-len(missing), len(affected), seen.last.Sub(o.child.started).Seconds(), seen.last.Sub(first).Seconds(), &used)
	return nil
}

// awaitExposed returns when the recorder has seen all the damage.
func (b *bench) awaitExposed(ctx context.Context, names []string) error {
	return poll(ctx, missLimit, func() error {
		for _, name := range names {
			if b.operator.recorder.look(name).denied {
				return fmt.Errorf("%s is still denied", name)
			}
		}
		return nil
	})
}

// restart is phase g.
func (b *bench) restart(ctx context.Context) error {
	o := b.operator
	if err := o.end(); err != nil {
		return err
	}
	var synced time.Duration
	used, err := o.requests(ctx, func() error {
		ready, err := o.start(ctx)
		synced = ready.Sub(o.child.started)
		return err
	})
	if err != nil {
		return err
	}
	b.results.restart(&used, synced)
	b.result("restart in sync: ready after %.2f s, writes: %s", synced.Seconds(), &used)
	return nil
}

// idle is phase h, after changes to namespaces that do not concern the operator.
func (b *bench) idle(ctx context.Context) error {
	o := b.operator
	unrelated, err := o.requests(ctx, func() error {
		return parallel(ctx, repairCount, func(ctx context.Context, i int) error {
			_, err := o.admin.core.CoreV1().Namespaces().Patch(ctx, o.namespaces[i%b.opts.n], types.MergePatchType,
				[]byte(`{"metadata":{"annotations":{"example.com/owner":"someone else"}}}`), metav1.PatchOptions{})
			return err
		})
	})
	if err != nil {
		return err
	}
	b.result("unrelated changes of %d namespaces, writes: %s", repairCount, &unrelated)

	before, err := o.child.cpu()
	if err != nil {
		return err
	}
	from, err := o.audit.mark(ctx)
	if err != nil {
		return err
	}
	if err := sleep(ctx, b.opts.idle); err != nil {
		return err
	}
	after, err := o.child.cpu()
	if err != nil {
		return err
	}
	to, err := o.audit.mark(ctx)
	if err != nil {
		return err
	}
	used, err := o.audit.usage(o.user, from, to)
	if err != nil {
		return err
	}
	b.results.idle(&unrelated, &used, (after-before).Seconds()*float64(time.Minute)/float64(b.opts.idle))
	b.result("idle for %s: CPU %.2f s, writes: %s", b.opts.idle, (after - before).Seconds(), &used)
	return nil
}
