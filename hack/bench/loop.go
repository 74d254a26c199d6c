// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	listers "k8s.io/client-go/listers/networking/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/workqueue"
)

// loopCommand makes this program the contender instead of the bench.
const loopCommand = "loop"

// loop is the simplest program that does the job: two informers, a queue of
// namespaces, and for each the given policies, created or put right. It knows
// no scope, status, events or fights, and records no coverage. It is the floor
// against which latencies are judged.
type loop struct {
	clients  *clients
	specimen *specimen
	lister   listers.NetworkPolicyLister
	queue    workqueue.TypedInterface[string]
}

func runLoop(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet(loopCommand, flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "kubeconfig `file`")
	path := flags.String("specimen", "", "JSON `file` with the objects of one namespace")
	health := flags.String("health", "", "serve /readyz at this `address`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	l := &loop{queue: workqueue.NewTyped[string]()}
	if l.clients, err = newClients(config); err != nil {
		return err
	}
	if l.specimen, err = readSpecimen(*path); err != nil {
		return err
	}
	if err := l.start(ctx); err != nil {
		return err
	}
	server := &http.Server{Addr: *health, ReadHeaderTimeout: time.Second} // serves only once the caches are there
	go func() {
		<-ctx.Done()
		l.queue.ShutDown()
		_ = server.Close()
	}()
	http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	if err := server.ListenAndServe(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

func (l *loop) start(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(l.clients.core, 0)
	policies := factory.Networking().V1().NetworkPolicies()
	l.lister = policies.Lister()
	enqueue := func(object any) {
		if meta, ok := object.(metav1.Object); ok && meta.GetName() != "" {
			l.queue.Add(meta.GetName())
		}
	}
	drifted := func(object any) {
		if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = unknown.Obj
		}
		if policy, ok := object.(*networkingv1.NetworkPolicy); ok {
			l.queue.Add(policy.Namespace)
		}
	}
	_, err := factory.Core().V1().Namespaces().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: enqueue})
	if err != nil {
		return err
	}
	_, err = policies.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, object any) { drifted(object) },
		DeleteFunc: drifted,
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	for kind, synced := range factory.WaitForCacheSync(ctx.Done()) {
		if !synced {
			return fmt.Errorf("the cache of %s did not fill", kind)
		}
	}
	for range workers {
		go l.work(ctx)
	}
	return nil
}

func (l *loop) work(ctx context.Context) {
	for {
		namespace, shutdown := l.queue.Get()
		if shutdown {
			return
		}
		// A conflict or a policy that is there already means that the cache lags:
		// the event that is to come brings the namespace back.
		if err := l.protect(ctx, namespace); err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
			l.queue.Add(namespace)
		}
		l.queue.Done(namespace)
	}
}

func (l *loop) protect(ctx context.Context, namespace string) error {
	switch namespace {
	case systemNamespace, metav1.NamespacePublic, "kube-node-lease", operatorNamespace:
		return nil
	}
	client := l.clients.core.NetworkingV1().NetworkPolicies(namespace)
	for i := range l.specimen.Policies {
		want := l.specimen.Policies[i].DeepCopy()
		live, err := l.lister.NetworkPolicies(namespace).Get(want.Name)
		switch {
		case apierrors.IsNotFound(err):
			_, err = client.Create(ctx, want, metav1.CreateOptions{})
		case err == nil && !equality.Semantic.DeepEqual(live.Spec, want.Spec):
			want.ResourceVersion = live.ResourceVersion
			_, err = client.Update(ctx, want, metav1.UpdateOptions{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
