// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// askCount is the number of requests of each sort per round, to each of the two API servers.
const askCount = 500

// guarded turns the tamper guard on, which the other phases do without.
const guarded = `{"spec":{"admission":{"tamperGuard":"Enforce"}}}`

// asks are the requests whose latency is compared. Nothing of ours looks at the first, so its difference is that of the API
// servers themselves. Of the last the guard has everything to evaluate; policies of others it leaves by their labels.
var asks = []struct {
	name string
	send func(ctx context.Context, s *site, namespace, name string) error
}{
	{"config map created", func(ctx context.Context, s *site, namespace, name string) error {
		object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err := s.admin.core.CoreV1().ConfigMaps(namespace).Create(ctx, object, metav1.CreateOptions{})
		return err
	}},
	{"pod created", func(ctx context.Context, s *site, namespace, name string) error {
		return s.createPod(ctx, namespace, name, metav1.CreateOptions{})
	}},
	{"policy of others created", func(ctx context.Context, s *site, namespace, name string) error {
		object := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}
		object.Spec.PodSelector.MatchLabels = map[string]string{"app": name}
		_, err := s.admin.core.NetworkingV1().NetworkPolicies(namespace).Create(ctx, object, metav1.CreateOptions{})
		return err
	}},
	{"deny annotated", func(ctx context.Context, s *site, namespace, name string) error {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"example.com/seen":%q}}}`, name)
		_, err := s.admin.core.NetworkingV1().NetworkPolicies(namespace).Patch(ctx, denyName, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}},
}

// asked holds the latencies of one sort of request in one round: without and with admission.
type asked struct {
	without, with []time.Duration
}

// added is how much larger a percentile is with admission, in milliseconds.
func (a *asked) added(percent int) float64 {
	return percentile(a.with, percent) - percentile(a.without, percent)
}

func (a *asked) String() string {
	return fmt.Sprintf("%.2f/%.2f ms without, %.2f/%.2f ms with",
		percentile(a.without, 50), percentile(a.without, 99), percentile(a.with, 50), percentile(a.with, 99))
}

// admission is phase i: one client sends the same requests in turn to the API server of the operator and to that of the raw
// client, which has the same objects and none that admits. The operator is stopped meanwhile: its reactions would be measured too.
func (b *bench) admission(ctx context.Context) error {
	namespace := b.operator.namespaces[0]
	if err := b.guard(ctx, namespace); err != nil {
		return err
	}
	for _, s := range []*site{b.raw.site, b.operator.site} {
		if err := s.prepare(ctx, namespace); err != nil {
			return err
		}
	}
	if err := b.operator.end(); err != nil {
		return err
	}
	rounds := make([][]asked, b.opts.rounds)
	for round := range rounds {
		rounds[round] = make([]asked, len(asks))
		for i := range asks {
			result := &rounds[round][i]
			if err := b.ask(ctx, i, namespace, fmt.Sprintf("round-%d", round+1), result); err != nil {
				return fmt.Errorf("%s: %w", asks[i].name, err)
			}
			b.result("admission, round %d: %s, p50/p99: %s", round+1, asks[i].name, result)
		}
	}
	b.results.admission(rounds)
	_, err := b.operator.start(ctx)
	return err
}

// guard turns the tamper guard on and returns when it refuses.
func (b *bench) guard(ctx context.Context, namespace string) error {
	if _, err := b.operator.admin.patchBaseline(ctx, []byte(guarded)); err != nil {
		return err
	}
	if err := b.operator.child.settle(ctx); err != nil {
		return err
	}
	return poll(ctx, missLimit, func() error {
		_, err := b.operator.admin.core.NetworkingV1().NetworkPolicies(namespace).Patch(ctx, denyName, types.MergePatchType,
			[]byte(allowAll), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
		if apierrors.IsForbidden(err) {
			return nil
		}
		return errors.Join(errors.New("the guard does not refuse an edit"), err)
	})
}

// prepare makes pods of a namespace possible without a controller manager, and returns when they are.
func (s *site) prepare(ctx context.Context, namespace string) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	if _, err := s.admin.core.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		return err
	}
	return poll(ctx, missLimit, func() error {
		return s.createPod(ctx, namespace, "first", metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	})
}

func (s *site) createPod(ctx context.Context, namespace, name string, options metav1.CreateOptions) error {
	object := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
	}
	_, err := s.admin.core.CoreV1().Pods(namespace).Create(ctx, object, options)
	return err
}

// ask measures one sort of request, the API server that is first changing every time.
func (b *bench) ask(ctx context.Context, sort int, namespace, round string, into *asked) error {
	sides := []struct {
		site *site
		into *[]time.Duration
	}{{b.raw.site, &into.without}, {b.operator.site, &into.with}}
	for _, name := range numbered(round, askCount) {
		sides[0], sides[1] = sides[1], sides[0]
		for _, side := range sides {
			sent := now()
			if err := asks[sort].send(ctx, side.site, namespace, name); err != nil {
				return err
			}
			*side.into = append(*side.into, now().Sub(sent))
		}
	}
	return nil
}
