// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package deadman

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// What a man on guard and the operator know of each other.
const (
	// Namespace is where config/hostfirewall puts the dead man and both Leases.
	Namespace = "pci-network-baseline-hosts"
	// OperatorLease is the Lease by whose changes the operator gives signs of life.
	OperatorLease = "operator"
	// PulseLease is the Lease by whose changes a man on guard says that he is armed.
	PulseLease = "dead-man"
	// AnnotationPolicy on PulseLease is the name of the policy that he would take back.
	AnnotationPolicy = "pcinetwork.dev/policy"
)

const (
	defaultRound = 2 * time.Second
	// trust is for how many rounds a rehearsal counts.
	trust = 5
)

// Pulse is what a man on guard says of himself.
type Pulse struct {
	// Node is where he is, Policy the name of what he would take back.
	Node, Policy string
	// Limit is how long he bears silence.
	Limit time.Duration
}

// ReadPulse returns what PulseLease says; false if nobody has written it yet. It does not say that he still is there: that is known by
// changes of the Lease's resourceVersion alone, because renewTime is of his host's clock.
func ReadPulse(lease *coordinationv1.Lease) (Pulse, bool) {
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return Pulse{}, false
	}
	p := Pulse{Node: *lease.Spec.HolderIdentity, Policy: lease.Annotations[AnnotationPolicy]}
	if s := lease.Spec.LeaseDurationSeconds; s != nil {
		p.Limit = time.Duration(*s) * time.Second
	}
	return p, true
}

// write puts it into a Lease.
func (p Pulse) write(lease *coordinationv1.Lease, at time.Time) {
	metav1.SetMetaDataAnnotation(&lease.ObjectMeta, AnnotationPolicy, p.Policy)
	lease.Spec = coordinationv1.LeaseSpec{
		HolderIdentity:       &p.Node,
		LeaseDurationSeconds: new(int32(p.Limit / time.Second)),
		RenewTime:            &metav1.MicroTime{Time: at},
	}
}

// post is where a man is on guard.
type post struct {
	namespace, node string
	limit, round    time.Duration
}

// guard is what a man on guard remembers from round to round.
type guard struct {
	man   *Man
	clock clock.PassiveClock
	// seen is the resourceVersion at which the operator's Lease was last seen, empty before the first time.
	seen string
	// since is when the silence began, by the clock of this machine.
	since time.Time
	// trusted is for how many more rounds the last rehearsal counts.
	trusted int
	told    string
}

// Guard takes the policy back whenever the operator has been silent for too long, until ctx ends.
func (m *Man) Guard(ctx context.Context) {
	slog.Info("On guard", "kind", m.kinds[0].Kind, "policy", m.name, "limit", m.post.limit.String())
	g := &guard{man: m, clock: clock.RealClock{}}
	g.since = g.clock.Now()
	ticker := time.NewTicker(m.post.round)
	defer ticker.Stop()
	for {
		err := g.round(ctx)
		if ctx.Err() == nil {
			g.tell(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// tell logs whether he is armed, when that is new. Who is not still is on guard.
func (g *guard) tell(err error) {
	text := "armed"
	if err != nil {
		text = err.Error()
	}
	switch {
	case text == g.told:
	case err != nil:
		slog.Warn("Not armed", "error", text)
	default:
		slog.Info("Armed")
	}
	g.told = text
}

// round looks once. It reads from the nearest API server alone: what another one says does not show that the operator's writes still
// reach this node. Without an error he is armed, and has said so.
func (g *guard) round(ctx context.Context) error {
	gone, unread := g.gone(ctx)
	alive, unheard := g.alive(ctx)
	if gone || alive {
		g.since = g.clock.Now()
	}
	if silence := g.clock.Since(g.since); silence >= g.man.post.limit {
		slog.Warn("The operator is silent: taking the policy back", "silence", silence.String())
		if err := g.man.untilGone(ctx); err != nil {
			return err
		}
		g.since = g.clock.Now()
	}
	if err := errors.Join(unread, unheard); err != nil {
		return err
	}
	if err := g.rehearse(ctx); err != nil {
		return err
	}
	return g.pulse(ctx)
}

// gone says whether there is nothing to undo.
func (g *guard) gone(ctx context.Context) (bool, error) {
	gone := false
	err := g.man.anyKind(ctx, func(ctx context.Context, p *metav1.PartialObjectMetadata) error {
		there, err := g.man.read(ctx, g.man.writers[0], p)
		gone = err == nil && !there
		return err
	})
	return gone, err
}

// alive says whether the operator's Lease has changed since it was last seen. The first sight is no sign: a new process does not know
// how old it is.
func (g *guard) alive(ctx context.Context) (bool, error) {
	lease, err := g.man.lease(ctx, OperatorLease)
	if err != nil {
		return false, err
	}
	alive := g.seen != "" && g.seen != lease.ResourceVersion
	g.seen = lease.ResourceVersion
	return alive, nil
}

// rehearse sees now and then whether he may still delete the policy; after a failure, in the next round.
func (g *guard) rehearse(ctx context.Context) error {
	if g.trusted > 0 {
		g.trusted--
		return nil
	}
	if err := g.man.rehearse(ctx, g.man.writers[0]); err != nil {
		return err
	}
	g.trusted = trust - 1
	return nil
}

// pulse says that he is armed. If somebody else has written the Lease meanwhile, the next round says it.
func (g *guard) pulse(ctx context.Context) error {
	lease, err := g.man.lease(ctx, PulseLease)
	if err != nil {
		return err
	}
	Pulse{Node: g.man.post.node, Policy: g.man.name, Limit: g.man.post.limit}.write(lease, g.clock.Now())
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	return g.man.writers[0].Replace(ctx, lease)
}

// lease reads one of the two from the nearest API server.
func (m *Man) lease(ctx context.Context, name string) (*coordinationv1.Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	lease := &coordinationv1.Lease{}
	if err := m.writers[0].Client.Get(ctx, client.ObjectKey{Namespace: m.post.namespace, Name: name}, lease); err != nil {
		return nil, fmt.Errorf("reading the Lease %s: %w", name, err)
	}
	return lease, nil
}
