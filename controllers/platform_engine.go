// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"reflect"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/facts"
)

// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=list;watch,resourceNames=amazon-vpc-cni;antrea-config;canal-config;cilium-config;kube-flannel-cfg;kube-proxy;kubeadm-config;rke2-canal-config
// +kubebuilder:rbac:groups=apps,resources=daemonsets,verbs=list;watch
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=list;watch
// +kubebuilder:rbac:groups=apiregistration.k8s.io,resources=apiservices,verbs=watch,resourceNames=v3.projectcalico.org
// +kubebuilder:rbac:groups=crd.projectcalico.org;projectcalico.org,resources=felixconfigurations;hostendpoints;ippools,verbs=list;watch
// +kubebuilder:rbac:groups=crd.projectcalico.org;projectcalico.org,resources=clusterinformations,verbs=list;watch,resourceNames=default
// +kubebuilder:rbac:groups=operator.tigera.io,resources=installations,verbs=list;watch,resourceNames=default
// +kubebuilder:rbac:groups=migration.projectcalico.org,resources=datastoremigrations,verbs=list;watch
// +kubebuilder:rbac:groups=cilium.io,resources=ciliumnodeconfigs;ciliumnodes,verbs=list;watch
// +kubebuilder:rbac:groups=eks.amazonaws.com,resources=nodeclasses,verbs=list;watch
// +kubebuilder:rbac:groups=config.openshift.io;operator.openshift.io,resources=networks,verbs=list;watch,resourceNames=cluster

// newPlatformSources returns the sources of platform detection. Their client maps kinds by a table of its own: one that
// learns from the API server would have to forget, too, when a kind goes.
func newPlatformSources(mgr manager.Manager) (*facts.PlatformSources, error) {
	watcher, err := client.NewWithWatch(mgr.GetConfig(), client.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: facts.PlatformMapper(),
	})
	if err != nil {
		return nil, err
	}
	return facts.NewPlatformSources(watcher), nil
}

// Engine returns the latest assessment of the policy engine. It is for conditions: what is uncertain now is uncertain there.
func (p *Platform) Engine() engines.Assessment {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.engine
}

// BackendFor chooses the backend for what a baseline asks for; last is the backend in use, or "". It goes by the latest
// assessment that was certain, so that a failed observation switches nothing.
func (p *Platform) BackendFor(asked pcinetv1alpha1.Backend, last engines.Backend) engines.BackendChoice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return engines.BackendFor(engines.Backend(asked), &p.inUse, last)
}

// choices are the answers of BackendFor to all questions that there are: when they stay, no plan changes, however often nodes
// come and go.
type choices [16]engines.BackendChoice

func choicesOf(inUse *engines.Assessment) choices {
	var out choices
	i := 0
	for _, asked := range []engines.Backend{engines.Auto, engines.NetworkPolicy, engines.Calico, engines.Cilium} {
		for _, last := range []engines.Backend{"", engines.NetworkPolicy, engines.Calico, engines.Cilium} {
			out[i] = engines.BackendFor(asked, inUse, last)
			i++
		}
	}
	return out
}

// countsPeriod is how often what changes is told when only counts of nodes do: an agent that is rolled out to thousands of
// nodes would otherwise have every baseline written several times a second, for an hour.
const countsPeriod = 5 * time.Second

// reconcileEngine assesses again, and then has those policy APIs read that are served. While something new is being read for
// the first time, the last assessment stands. Cost: the number of nodes and DaemonSets; no request.
func (p *Platform) reconcileEngine(ctx context.Context, backends *Backends) (ctrl.Result, error) {
	evidence := p.Sources.Observe(engines.Wanted)
	p.reports.note(evidence)
	a := engines.Assess(evidence)
	replan, later := p.publish(a)
	var err error
	if a.Observed {
		var changed bool
		changed, err = backends.Serve(ctx, &a)
		replan = replan || changed
	}
	if replan {
		p.plans.tell()
		p.assessments.tell()
	}
	return ctrl.Result{RequeueAfter: later}, err
}

// publish makes an assessment the latest one. It says whether backends may be chosen otherwise now, and when to come back if
// it was held.
func (p *Platform) publish(a engines.Assessment) (replan bool, later time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !a.Observed && p.engine.Observed || reflect.DeepEqual(a, p.engine) {
		return false, 0
	}
	now := p.Clock.Now()
	if left := p.published.Add(countsPeriod).Sub(now); left > 0 && reflect.DeepEqual(a.Steady(), p.engine.Steady()) {
		return false, left
	}
	moved := p.engine.APIs.CalicoMigrating != a.APIs.CalicoMigrating
	if !reflect.DeepEqual(a.Hosts, p.engine.Hosts) {
		p.protections.tell()
	}
	p.engine, p.published = a, now
	before := p.choices
	if a.Certain {
		p.inUse, p.choices = a, choicesOf(&a)
	}
	p.assessments.tell()
	return moved || before != p.choices, 0
}

// setupEngine has the engine assessed whenever its sources change, at most every 250 ms. Every replica does, because every
// replica writes to a backend.
func (p *Platform) setupEngine(mgr ctrl.Manager, backends *Backends) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("engine").
		WithOptions(options(true)).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			p.Sources.Start(ctx, func() { q.AddAfter(ctrl.Request{}, debounce) })
			q.Add(ctrl.Request{})
			return nil
		})).
		Complete(reconcile.Func(func(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
			return p.reconcileEngine(ctx, backends)
		}))
}
