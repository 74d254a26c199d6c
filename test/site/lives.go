// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package site

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/watch"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// Life is what happened in a namespace from its creation until it was gone; another one of its name is another life.
type Life struct {
	Namespace string
	// Ending says that it was to go, Gone that it went.
	Ending, Gone bool
	// Began and Denied are when the namespace and its deny were made, or the recording began.
	Began, Denied time.Time
	// Denies and Coverages are how many were made. Lost are the denies that went before the namespace was to go, Opened those
	// that went before the last pod; Early the pods that were admitted before the deny; Untrue the coverages that were made with
	// a deny that was not there.
	Denies, Coverages, Lost, Opened, Early, Untrue int

	pods int
	deny string // the UID of the one that is there
}

// Lives returns the lives of a baseline's namespaces, in the order in which they began.
func (r *Recorder) Lives(ctx context.Context, baseline string) ([]*Life, error) {
	events, err := r.Events(ctx)
	if err != nil {
		return nil, err
	}
	var all []*Life
	now := map[string]*Life{}
	for _, e := range events {
		ns, ok := e.Object.(*corev1.Namespace)
		if !ok {
			if l := now[e.Object.GetNamespace()]; l != nil {
				l.see(e, baseline)
			}
			continue
		}
		l := now[ns.Name]
		if l == nil {
			if ns.Labels[Group] != baseline {
				continue
			}
			l = &Life{Namespace: ns.Name, Began: e.At}
			now[ns.Name] = l
			all = append(all, l)
		}
		l.Ending = l.Ending || ns.DeletionTimestamp != nil
		if e.Type == watch.Deleted {
			l.Gone = true
			delete(now, ns.Name)
		}
	}
	return all, nil
}

func (l *Life) see(e Event, baseline string) {
	switch obj := e.Object.(type) {
	case *corev1.Pod:
		l.seePod(e.Type)
	case *networkingv1.NetworkPolicy:
		if obj.Name == Deny(baseline) {
			l.seeDeny(e, string(obj.UID))
		}
	case *pcinetv1alpha1.NamespaceCoverage:
		if obj.Name == baseline && e.Type == watch.Added {
			l.seeCoverage(obj)
		}
	}
}

func (l *Life) seePod(happened watch.EventType) {
	switch happened {
	case watch.Added:
		l.pods++
		if l.deny == "" {
			l.Early++
		}
	case watch.Deleted:
		l.pods--
	default:
	}
}

func (l *Life) seeDeny(e Event, uid string) {
	switch e.Type {
	case watch.Added:
		l.Denies++
		l.deny, l.Denied = uid, e.At
	case watch.Deleted:
		l.deny = ""
		if !l.Ending {
			l.Lost++
		}
		if l.pods > 0 {
			l.Opened++
		}
	default:
	}
}

func (l *Life) seeCoverage(c *pcinetv1alpha1.NamespaceCoverage) {
	l.Coverages++
	for _, p := range c.Status.Policies {
		if p.Role == pcinetv1alpha1.RoleDeny && p.State == pcinetv1alpha1.PolicyInPlace && p.UID != l.deny {
			l.Untrue++
		}
	}
}

// Sound returns an error if anything was lost, done twice or untrue.
func (l *Life) Sound() error {
	if l.Lost+l.Opened+l.Early+l.Untrue == 0 && l.Denies <= 1 && l.Coverages <= 1 {
		return nil
	}
	return fmt.Errorf("namespace %s: %d denies were made, %d went before it was to go, %d before its last pod; %d pods came before it; "+
		"%d coverages were made, %d with a deny that was not there", l.Namespace, l.Denies, l.Lost, l.Opened, l.Early, l.Coverages, l.Untrue)
}
