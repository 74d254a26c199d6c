// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// scope is one namespace under one baseline, on its way through one reconcile.
type scope struct {
	// Set by load.
	baseline  *pcinetv1alpha1.PCINetworkBaseline
	namespace snapshot.Namespace
	cluster   snapshot.Cluster
	sequence  int64 // of cluster
	foreign   []*networkingv1.NetworkPolicy
	live      []livePolicy // of every API that can be read
	backend   backendChoice
	now       time.Time

	// Set by decide.
	previous *pcinetv1alpha1.NamespaceCoverage // nil when there is none
	decision plan.Decision
	invalid  string // why the spec cannot be planned; empty when it can
	glass    plan.BreakGlass

	// Set by compare.
	wanted      []*wantedPolicy
	previews    []*wantedPolicy // staged, while auditing
	superfluous []livePolicy    // denies first

	// Set by act.
	wrote     bool  // a policy was written
	deferred  bool  // set by record: the coverage follows later
	transient error // to be tried again with backoff
	refused   string
	failure   string

	// Set by judge.
	findings  []checks.Finding
	contested string            // who fights over what; empty when nobody does
	proof     *metav1.Condition // what the canaries have shown; nil but in their namespace

	// The earliest that decide, act and judge ask for; zero means never.
	requeueAfter time.Duration
}

// wantedPolicy is one policy of the set beside its live object.
type wantedPolicy struct {
	policy   policy.Policy
	api      *policyAPI
	intended render.Object
	live     client.Object // nil when there is none
	drift    apply.Drift
	state    pcinetv1alpha1.PolicyState
	message  string
	// again: it has to be written although nobody asked for a change; left is how long that has to wait.
	again bool
	left  time.Duration
	// repeated: it had to be repaired again and again of late; contested says who fights over it, empty when nobody does.
	repeated  bool
	contested string
	// collides is the name that somebody else's object has; intended then has a second one.
	collides string
}

// key is that of the coverage.
func (s *scope) key() types.NamespacedName {
	return types.NamespacedName{Namespace: s.namespace.Name, Name: s.baseline.Name}
}

func (s *scope) auditing() bool {
	return s.baseline.Spec.Enforcement == pcinetv1alpha1.EnforcementAudit
}

// owns says whether a live object is this baseline's: by its labels, or, when somebody removed those, by the UID that we
// remember or wrote down. An object with neither is somebody else's, whatever its name.
func (r *NamespaceReconciler) owns(s *scope, live livePolicy) bool {
	obj := live.object
	if render.Owner(obj.GetLabels()) == s.baseline.Name {
		return true
	}
	if by := r.author(live.key()); by.baseline == s.baseline.Name && by.uid == obj.GetUID() {
		return true
	}
	if s.previous == nil {
		return false
	}
	for _, p := range s.previous.Status.Policies {
		if p.UID != "" && p.UID == string(obj.GetUID()) && p.Name == obj.GetName() {
			return true
		}
	}
	return false
}

// author returns who wrote a policy, if that is in no coverage yet.
func (r *NamespaceReconciler) author(key objectKey) author {
	value, _ := r.authored.Load(key)
	by, _ := value.(author)
	return by
}

// foreignPolicies returns the policies that do not belong to a known baseline.
func foreignPolicies(policies []*networkingv1.NetworkPolicy, baselines map[string]bool) []*networkingv1.NetworkPolicy {
	var out []*networkingv1.NetworkPolicy
	for _, p := range policies {
		if !baselines[render.Owner(p.Labels)] {
			out = append(out, p)
		}
	}
	return out
}

// compare renders what the set wants and sets it beside what lives. Objects in another API than the chosen one are
// superfluous, and so are staged ones unless they preview an Audit.
func (r *NamespaceReconciler) compare(ctx context.Context, s *scope) error {
	if s.invalid != "" {
		return nil
	}
	keep := map[objectKey]bool{}
	if s.decision.Verdict == plan.InScope {
		var err error
		if s.wanted, err = r.compareIn(ctx, s, s.backend.api, keep); err != nil {
			return err
		}
		if staged := r.Backends.named(s.backend.api.Name(), true); staged != nil && s.auditing() {
			if s.previews, err = r.compareIn(ctx, s, staged, keep); err != nil {
				return err
			}
		}
	}
	var allowances []livePolicy
	for _, live := range s.live {
		switch {
		case keep[live.key()] || !r.owns(s, live):
		case live.denies():
			s.superfluous = append(s.superfluous, live)
		default:
			allowances = append(allowances, live)
		}
	}
	s.superfluous = append(s.superfluous, allowances...)
	return nil
}

// compareIn compares in one API, and notes which objects of it are to stay.
func (r *NamespaceReconciler) compareIn(ctx context.Context, s *scope, api *policyAPI, keep map[objectKey]bool) ([]*wantedPolicy, error) {
	var out []*wantedPolicy
	for _, p := range s.decision.Set.Ordered() {
		w := &wantedPolicy{policy: p, api: api, intended: render.Render(api, s.decision.Set, p)}
		if err := r.find(ctx, s, w); err != nil {
			return nil, err
		}
		r.contend(s, w)
		second, err := r.second(ctx, s, w)
		if err != nil {
			return nil, err
		}
		if second != nil { // first, because it may last
			out = append(out, second)
		}
		out = append(out, w)
	}
	for _, w := range out {
		keep[w.key()] = true
	}
	for _, o := range s.decision.Set.Omitted {
		keep[objectKey{api.resource, s.namespace.Name, render.Name(s.baseline.Name, o.Name)}] = true
	}
	return out, nil
}

// find looks up the live object of a wanted policy and compares. Somebody else's object of the same name is left alone,
// and the policy takes a second name: the namespace must not stay open because a name is taken.
func (r *NamespaceReconciler) find(ctx context.Context, s *scope, w *wantedPolicy) error {
	live, err := r.get(ctx, s, w)
	if err != nil {
		return err
	}
	if live != nil && !r.owns(s, livePolicy{live, w.api}) {
		w.collides = live.GetName()
		w.intended.SetName(render.SecondName(live.GetName()))
		if live, err = r.get(ctx, s, w); err != nil {
			return err
		}
		if live != nil && !r.owns(s, livePolicy{live, w.api}) {
			w.live, w.state = live, pcinetv1alpha1.PolicyCollision
			w.message = "it is not ours, and so is " + w.collides + "; delete or rename one of them"
			return nil
		}
	}
	w.see(live)
	return nil
}

// see compares with the live object, nil for none.
func (w *wantedPolicy) see(live client.Object) {
	w.live, w.state = live, pcinetv1alpha1.PolicyInPlace
	if live == nil {
		w.state, w.message = pcinetv1alpha1.PolicyMissing, "it does not exist"
	} else if w.drift = apply.Diff(w.intended, live); !w.drift.None() {
		w.state, w.message = pcinetv1alpha1.PolicyDrifted, driftMessage(w.drift)
	} else if why := w.api.refused(live); why != "" {
		w.state, w.message = pcinetv1alpha1.PolicyRefused, why
	}
}

func (w *wantedPolicy) key() objectKey { return w.api.key(w.intended) }

// get returns the live object that has a wanted policy's name. What is older than the namespace is there only if the API server
// has said so: see contemporary. So is a deny of the same second, before the first coverage says that it is in place.
func (r *NamespaceReconciler) get(ctx context.Context, s *scope, w *wantedPolicy) (client.Object, error) {
	live, _ := w.api.New()
	read := r.readOwn
	if w.api.native() {
		read = func(ctx context.Context, key client.ObjectKey, obj client.Object) error {
			return r.Cache.Get(ctx, key, obj)
		}
	}
	err := read(ctx, client.ObjectKeyFromObject(w.intended), live)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // absent is an answer, and the caller's first question
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", w.api.resource, w.intended.GetName(), err)
	}
	if !live.GetCreationTimestamp().Time.Before(s.namespace.Created) {
		if there, err := r.isThere(ctx, s, w, live); err != nil || !there {
			return nil, err
		}
		return live, nil
	}
	for _, p := range s.live {
		if p.api == w.api && p.object.GetName() == w.intended.GetName() {
			return p.object, nil
		}
	}
	return nil, nil //nolint:nilnil // as above
}

// isThere asks the API server for a deny, as long as no coverage is about it and this process has not written it for this namespace:
// the caches may show that of an earlier namespace of the name, when only the one of coverages knows that it has gone.
func (r *NamespaceReconciler) isThere(ctx context.Context, s *scope, w *wantedPolicy, live client.Object) (bool, error) {
	by := r.author(w.key())
	if s.previous != nil || w.policy.Role != policy.Deny || w.api.staged || by.uid == live.GetUID() && by.namespace == s.namespace.UID {
		return true, nil
	}
	_, empty := w.api.New()
	list, ok := empty.(client.ObjectList)
	if !ok {
		return false, fmt.Errorf("%T is no list", empty)
	}
	named := client.MatchingFields{"metadata.name": live.GetName()}
	if err := r.Live.List(ctx, list, client.InNamespace(s.namespace.Name), named); err != nil {
		return false, fmt.Errorf("asking for %s %s: %w", w.api.resource, live.GetName(), err)
	}
	there := false
	err := apimeta.EachListItem(list, func(item runtime.Object) error {
		obj, ok := item.(client.Object)
		there = there || ok && obj.GetUID() == live.GetUID()
		return nil
	})
	return there, err
}

func driftMessage(d apply.Drift) string {
	text := strings.Join(d.Fields, ", ") + " changed"
	if d.Manager != "" {
		text += " by " + d.Manager
	}
	return text
}

// compiledBaselines keeps each baseline's compiled form until its spec changes.
type compiledBaselines struct {
	mu sync.Mutex
	by map[string]compiledBaseline
}

type compiledBaseline struct {
	uid        types.UID
	generation int64
	plan       *plan.Baseline
	invalid    string
}

// get returns the compiled form, or why there is none.
func (c *compiledBaselines) get(b *pcinetv1alpha1.PCINetworkBaseline) (compiled *plan.Baseline, invalid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	have, ok := c.by[b.Name]
	if !ok || have.uid != b.UID || have.generation != b.Generation {
		have = compiledBaseline{uid: b.UID, generation: b.Generation}
		var err error
		if have.plan, err = plan.Compile(b); err != nil {
			have.invalid = err.Error()
		}
		if c.by == nil {
			c.by = map[string]compiledBaseline{}
		}
		c.by[b.Name] = have
	}
	return have.plan, have.invalid
}

func (c *compiledBaselines) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.by, name)
}
