// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/typed/networking/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// rawClient writes what the operator would, with no informer, no comparison
// and no decision: the floor for everything that is bound by writes. A
// namespace's objects are written in their order, and as many namespaces at a
// time as the operator has workers.
type rawClient struct {
	clients *clients
	// written holds the versions of what was written last: the operator has them from its caches.
	written map[string]*versions
}

// versions are resource versions of the objects of one namespace.
type versions struct {
	rule, coverage string
}

// fill writes all objects of new namespaces and returns how long it took.
func (r *rawClient) fill(ctx context.Context, s *specimen, names []string) (time.Duration, error) {
	for _, name := range names {
		r.written[name] = &versions{}
	}
	began := now()
	err := parallel(ctx, len(names), func(ctx context.Context, i int) error {
		client := r.clients.core.NetworkingV1().NetworkPolicies(names[i])
		for p := range s.Policies {
			if _, err := client.Create(ctx, s.Policies[p].DeepCopy(), metav1.CreateOptions{}); err != nil {
				return err
			}
		}
		return r.putCoverage(ctx, s, names[i])
	})
	return now().Sub(began), err
}

// change brings namespaces that fill has filled to a new specimen, which
// differs in the policy of the rule, and returns how long it took.
func (r *rawClient) change(ctx context.Context, s *specimen, names []string) (time.Duration, error) {
	began := now()
	err := parallel(ctx, len(names), func(ctx context.Context, i int) error {
		if err := r.putRule(ctx, s.rule().DeepCopy(), r.clients.core.NetworkingV1().NetworkPolicies(names[i]), r.written[names[i]]); err != nil {
			return err
		}
		return r.putCoverage(ctx, s, names[i])
	})
	return now().Sub(began), err
}

func (r *rawClient) putRule(ctx context.Context, rule *networkingv1.NetworkPolicy, client v1.NetworkPolicyInterface, known *versions) error {
	rule.ResourceVersion = known.rule
	var err error
	if known.rule == "" {
		rule, err = client.Create(ctx, rule, metav1.CreateOptions{})
	} else {
		rule, err = client.Update(ctx, rule, metav1.UpdateOptions{})
	}
	if err != nil {
		return err
	}
	known.rule = rule.ResourceVersion
	return nil
}

func (r *rawClient) putCoverage(ctx context.Context, s *specimen, namespace string) error {
	known := r.written[namespace]
	coverage := s.Coverage.DeepCopy()
	coverage.Namespace, coverage.ResourceVersion = namespace, known.coverage
	request := r.clients.pci.Post()
	if known.coverage != "" {
		request = r.clients.pci.Put().Name(coverage.Name)
	}
	reply := &pcinetv1alpha1.NamespaceCoverage{}
	err := request.Namespace(namespace).Resource(coverages).Body(coverage).Do(ctx).Into(reply)
	known.coverage = reply.ResourceVersion
	return err
}
