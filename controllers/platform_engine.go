// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"reflect"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
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
// +kubebuilder:rbac:groups=apiregistration.k8s.io,resources=apiservices,verbs=list;watch,resourceNames=v3.projectcalico.org
// +kubebuilder:rbac:groups=crd.projectcalico.org;projectcalico.org,resources=felixconfigurations;ippools,verbs=list;watch
// +kubebuilder:rbac:groups=crd.projectcalico.org;projectcalico.org,resources=clusterinformations,verbs=list;watch,resourceNames=default
// +kubebuilder:rbac:groups=operator.tigera.io,resources=installations,verbs=list;watch,resourceNames=default
// +kubebuilder:rbac:groups=migration.projectcalico.org,resources=datastoremigrations,verbs=list;watch
// +kubebuilder:rbac:groups=cilium.io,resources=ciliumnodeconfigs,verbs=list;watch
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

// countsPeriod is how often what changes is told when only counts of nodes do: an agent that is rolled out to thousands of
// nodes would otherwise have every baseline written several times a second, for an hour.
const countsPeriod = 5 * time.Second

// reconcileEngine assesses again. While something new is being read for the first time, the last assessment stands.
// Cost: the number of nodes and DaemonSets; no request.
func (p *Platform) reconcileEngine(context.Context, ctrl.Request) (ctrl.Result, error) {
	a := engines.Assess(p.Sources.Observe(engines.Wanted))
	p.mu.Lock()
	defer p.mu.Unlock()
	if !a.Observed && p.engine.Observed || reflect.DeepEqual(a, p.engine) {
		return ctrl.Result{}, nil
	}
	now := p.Clock.Now()
	if left := p.published.Add(countsPeriod).Sub(now); left > 0 && reflect.DeepEqual(a.Steady(), p.engine.Steady()) {
		return ctrl.Result{RequeueAfter: left}, nil
	}
	p.engine, p.published = a, now
	if a.Certain {
		p.inUse = a
	}
	signal(p.engineChanged)
	return ctrl.Result{}, nil
}

// setupEngine has the engine assessed whenever its sources change, at most every 250 ms. Every replica does, because every
// replica writes to a backend.
func (p *Platform) setupEngine(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("engine").
		WithOptions(controller.Options{NeedLeaderElection: new(false)}).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			p.Sources.Start(ctx, func() { q.AddAfter(ctrl.Request{}, debounce) })
			q.Add(ctrl.Request{})
			return nil
		})).
		Complete(reconcile.Func(p.reconcileEngine))
}
