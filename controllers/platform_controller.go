// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/facts"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Platform holds what was observed once for all namespaces, and keeps it current. Namespaces are looked at again only
// when the observation changed, not on every event: a rollout of the DNS servers changes EndpointSlices, but no plan.
type Platform struct {
	Reader client.Reader
	// Sources are what the policy engine is told from.
	Sources *facts.PlatformSources
	// OwnNamespace is the operator's.
	OwnNamespace string
	Clock        clock.PassiveClock

	// plans tells of what may change the plan of any namespace, engines of another assessment.
	plans, assessments topic
	// protections tells when the engine does something else with policies for nodes.
	protections topic
	// reports are the APIs of reports that are defined.
	reports reportKinds

	mu       sync.Mutex
	current  *snapshot.Cluster
	sequence int64
	// engine is the latest assessment, inUse the latest that was certain.
	engine, inUse engines.Assessment
	choices       choices // of inUse
	// published is when the assessment last changed.
	published time.Time
}

// NewPlatform returns a platform that was not observed yet.
func NewPlatform(r client.Reader, sources *facts.PlatformSources, c clock.PassiveClock, ownNamespace string) *Platform {
	return &Platform{Reader: r, Sources: sources, OwnNamespace: ownNamespace, Clock: c}
}

// Current returns the latest observation with its number, and makes the first one.
func (p *Platform) Current(ctx context.Context) (snapshot.Cluster, int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current == nil {
		c, err := facts.Cluster(ctx, p.Reader, p.OwnNamespace)
		if err != nil {
			return snapshot.Cluster{}, 0, err
		}
		p.current = &c
	}
	return *p.current, p.sequence, nil
}

// Reconcile observes again. When that fails the last observation stays: a plan made of less than what is known could
// close holes that are needed.
func (p *Platform) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	c, err := facts.Cluster(ctx, p.Reader, p.OwnNamespace)
	if err != nil {
		return ctrl.Result{}, err
	}
	p.mu.Lock()
	same := p.current != nil && reflect.DeepEqual(*p.current, c)
	if !same {
		p.current = &c
		p.sequence++
	}
	p.mu.Unlock()
	if !same {
		p.plans.tell()
	}
	return ctrl.Result{}, nil
}

// topic tells those who have subscribed that something changed, without waiting for any of them.
type topic struct {
	mu   sync.Mutex
	subs []chan struct{}
}

// subscribe returns a channel that gets a value after every change; of changes in a row perhaps one alone.
func (t *topic) subscribe() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := make(chan struct{}, 1)
	t.subs = append(t.subs, c)
	return c
}

// each calls do after every change, until ctx ends; of changes in a row perhaps once.
func (t *topic) each(ctx context.Context, do func()) {
	changed := t.subscribe()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				do()
			}
		}
	}()
}

func (t *topic) tell() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.subs {
		select {
		case c <- struct{}{}:
		default: // a value is waiting already, and covers this change too
		}
	}
}

// SetupWithManager watches what the observation is made of. Backends are told which policy APIs are served.
func (p *Platform) SetupWithManager(mgr ctrl.Manager, backends *Backends) error {
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request {
		return []ctrl.Request{{}}
	})
	if err := p.setupEngine(mgr, backends); err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("platform").
		WithOptions(options(true)).
		Watches(&corev1.Service{}, one).
		Watches(&discoveryv1.EndpointSlice{}, one).
		Watches(&corev1.Pod{}, one, builder.WithPredicates(comesOrGoes(dnsPod))).
		Complete(p)
}

// dnsPod says whether a host-network pod may be part of the cluster's DNS.
func dnsPod(obj client.Object) bool {
	return slices.Contains(facts.DNSNamespaces, obj.GetNamespace())
}

func comesOrGoes(relevant func(client.Object) bool) predicate.Funcs {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return relevant(e.Object) },
		UpdateFunc: func(event.UpdateEvent) bool { return false },
		DeleteFunc: func(e event.DeleteEvent) bool { return relevant(e.Object) },
	}
}
