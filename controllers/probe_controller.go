// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/source"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/internal/facts"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
	"github.com/pcinetwork/pci-network-baseline/internal/plan"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// lookAgain is how often to look whether what is waited for is over, or whether what keeps canaries from running is. A look reads
// caches alone.
const lookAgain = 5 * time.Second

// ProbeReconciler runs the canaries, on the elected replica alone. docs/proof.md describes what they do.
type ProbeReconciler struct {
	// Cache has what other reconcilers read, too; Pods the pods of the canaries' namespace alone. Live asks the API server.
	Cache, Pods, Live client.Reader
	Applier           *apply.Applier
	Backends          *Backends
	Platform          *Platform
	Proofs            *Proofs
	Metrics           *metrics.Metrics
	Clock             clock.PassiveClock
	// Look is how often to look again at least, by the real clock.
	Look time.Duration
	// Random returns a number in [0, 1).
	Random func() float64
	// Image is what canaries run; empty for that of the pod Own in the operator's namespace.
	Image string
	Own   client.ObjectKey

	// There is one worker.
	compiled compiledBaselines
	image    probe.Image
	state    probe.State
	run      *run // nil between two of them
	// due is when the next round may begin, notBefore when canaries may be made again.
	due, notBefore time.Time
	// vantage is from where all was seen that is proven of ingress; zero if some of it was not.
	vantage netip.AddrPort
	// countDue is when pods may be compared with their denies again.
	countDue time.Time
	// assessed, without counts of nodes, and generations are as of the last round.
	assessed    engines.Assessment
	generations string
}

// probeScope is what one reconcile of the canaries goes by. All fields are set by load.
type probeScope struct {
	now      time.Time
	scope    map[string]reach       // how the baselines that have the canaries' namespace in their scope stand to it
	covering []covering             // those whose deny is in place there
	api      *policyAPI             // of the first of them
	nodes    []string               // on which canaries can run
	ready    []string               // those of them that are Ready
	pods     map[string]*corev1.Pod // canaries, by name
	policies []livePolicy           // of the canaries' namespace
	targets  []netip.AddrPort       // endpoints of the API server
	problem  probe.Problem          // keeps canaries from running; zero when nothing does
}

// covering is a baseline with what it wants in the canaries' namespace.
type covering struct {
	*pcinetv1alpha1.PCINetworkBaseline
	set policy.Set
}

// Reconcile takes the present run one step further. Cost: the nodes, the baselines and the canaries.
func (r *ProbeReconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	s, err := r.load(ctx)
	if errors.Is(err, errNotObserved) {
		return ctrl.Result{RequeueAfter: retryNotObserved}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	r.Proofs.look(s.nodes, s.scope, s.problem)
	if s.problem.Reason != "" {
		r.run = nil
	}
	if err := r.sweep(ctx, s); err != nil {
		return ctrl.Result{}, err
	}
	if s.problem.Reason != "" {
		return ctrl.Result{RequeueAfter: r.Look}, nil
	}
	after, err := r.step(ctx, s)
	if stale(err) || gone(err) {
		return ctrl.Result{RequeueAfter: retryStale}, nil
	}
	return ctrl.Result{RequeueAfter: min(cmp.Or(after, r.Look), r.Look)}, err
}

// load observes, and says what keeps canaries from running at all.
func (r *ProbeReconciler) load(ctx context.Context) (*probeScope, error) {
	s := &probeScope{now: r.Clock.Now(), pods: map[string]*corev1.Pod{}, scope: map[string]reach{}}
	nodes, known := r.Platform.Sources.Nodes()
	if !known {
		return nil, errNotObserved
	}
	for i := range nodes {
		if engines.Excluded(&nodes[i]) == "" {
			s.nodes = append(s.nodes, nodes[i].Name)
			if nodes[i].Ready {
				s.ready = append(s.ready, nodes[i].Name)
			}
		}
	}
	var pods corev1.PodList
	if err := r.Pods.List(ctx, &pods, client.InNamespace(probe.Namespace), client.HasLabels{probe.LabelRole}); err != nil {
		return nil, fmt.Errorf("listing canaries: %w", err)
	}
	for i := range pods.Items {
		s.pods[pods.Items[i].Name] = &pods.Items[i]
	}
	ns := &corev1.Namespace{}
	err := r.Cache.Get(ctx, client.ObjectKey{Name: probe.Namespace}, ns)
	if apierrors.IsNotFound(err) || !ns.DeletionTimestamp.IsZero() {
		s.fail(pcinetv1alpha1.ReasonCanaryNamespaceMissing, "There is no namespace %s for canaries. Install it: kubectl apply --server-side -k config/default.", probe.Namespace)
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading namespace %s: %w", probe.Namespace, err)
	}
	return s, r.loadPolicies(ctx, s, ns)
}

func (s *probeScope) fail(reason, message string, args ...any) {
	if s.problem.Reason == "" {
		s.problem = probe.Problem{Reason: reason, Message: fmt.Sprintf(message, args...)}
	}
}

// loadPolicies reads what denies and opens the canaries' namespace.
func (r *ProbeReconciler) loadPolicies(ctx context.Context, s *probeScope, ns *corev1.Namespace) error {
	cluster, _, err := r.Platform.Current(ctx)
	if err != nil {
		return err
	}
	for _, e := range cluster.APIServer {
		s.targets = append(s.targets, netip.AddrPortFrom(e.Address, uint16(e.Port)))
	}
	observed, err := facts.Namespace(ctx, r.Cache, ns)
	if err != nil {
		return err
	}
	if s.policies, err = r.Backends.list(ctx, r.Cache, ns.Name); err != nil {
		return err
	}
	for _, p := range observed.Policies {
		s.policies = append(s.policies, livePolicy{p, r.Backends.policies[0]})
	}
	var baselines pcinetv1alpha1.PCINetworkBaselineList
	if err := r.Cache.List(ctx, &baselines); err != nil {
		return fmt.Errorf("listing baselines: %w", err)
	}
	// The cache has no order, and the first that asks for something counts.
	slices.SortFunc(baselines.Items, func(a, b pcinetv1alpha1.PCINetworkBaseline) int { return strings.Compare(a.Name, b.Name) })
	known := map[string]bool{}
	for i := range baselines.Items {
		known[baselines.Items[i].Name] = true
		if err := r.cover(s, &baselines.Items[i], observed, cluster); err != nil {
			return err
		}
	}
	s.opened(known)
	if len(s.covering) == 0 {
		s.fail(pcinetv1alpha1.ReasonCanaryNotCovered, "No baseline denies namespace %s, so nothing can be proven.", probe.Namespace)
	}
	return r.loadImage(ctx, s)
}

// cover finds out whether a baseline denies the canaries' namespace. It goes by the live deny, and not by the coverage: a missing
// allowance does not keep a deny from being tested.
func (r *ProbeReconciler) cover(s *probeScope, b *pcinetv1alpha1.PCINetworkBaseline, ns snapshot.Namespace, cluster snapshot.Cluster) error {
	if b.Spec.Enforcement == pcinetv1alpha1.EnforcementAudit {
		return nil // its scope counts when it enforces
	}
	s.scope[b.Name] = outOfScope
	compiled, invalid := r.compiled.get(b)
	if invalid != "" || released(b) {
		return nil
	}
	decision := compiled.For(ns, cluster, s.now)
	if decision.Verdict != plan.InScope {
		return nil
	}
	chosen := r.Backends.choose(b)
	if chosen.api == nil {
		return errNotObserved
	}
	s.scope[b.Name] = notDenied
	deny := render.Render(chosen.api, decision.Set, decision.Set.Deny)
	for _, p := range s.policies {
		named := p.object.GetName() == deny.GetName() || p.object.GetName() == render.SecondName(deny.GetName())
		if p.api != chosen.api || !named || !apply.Diff(deny, p.object).None() || p.api.refused(p.object) != "" {
			continue
		}
		if s.covering = append(s.covering, covering{b, decision.Set}); s.api == nil {
			s.api = chosen.api
		}
		s.scope[b.Name] = denied
		break
	}
	return nil
}

// opened looks whether an allowance or somebody else's policy may open what canaries are denied. What only denies cannot: it may be a
// deny that a baseline left behind.
func (s *probeScope) opened(known map[string]bool) {
	for _, p := range s.policies {
		if !known[render.Owner(p.object.GetLabels())] && !ofProbe(p.object) && !p.denies() {
			s.fail(pcinetv1alpha1.ReasonCanaryOpened, "%s %s in namespace %s is of no baseline. Delete it: the namespace is for canaries alone.", p.api.resource, p.object.GetName(), probe.Namespace)
		}
	}
	sample := s.sample()
	for _, c := range s.covering {
		for _, p := range c.set.Allowances {
			if slices.ContainsFunc(p.Rules, sample.Opens) {
				s.fail(pcinetv1alpha1.ReasonCanaryOpened, "The allowance %s of baseline %s may open namespace %s. Limit its subject to other namespaces.", strings.TrimPrefix(p.Name, "allow-"), c.Name, probe.Namespace)
			}
		}
	}
}

// sample returns a sample without nodes.
func (s *probeScope) sample() probe.Sample {
	out := probe.Sample{Endpoints: s.targets, Addresses: map[string][]netip.Addr{}, Hosts: map[string][]netip.Addr{}}
	for _, d := range []policy.Direction{policy.Ingress, policy.Egress} {
		if slices.ContainsFunc(s.covering, func(c covering) bool { return slices.Contains(c.set.Deny.Directions, d) }) {
			out.Directions = append(out.Directions, d)
		}
	}
	for _, c := range s.covering {
		v := c.Spec.Verification.Vantage
		if a, err := netip.ParseAddr(v.Address); err == nil && !out.Vantage.IsValid() {
			out.Vantage = netip.AddrPortFrom(a, uint16(v.Port))
		}
	}
	return out
}

// demand forgets what was proven of ingress when a vantage is declared, or another one: it was not seen from there. One that is only
// not asked for, because a deny is not in place for a while, takes nothing back.
func (r *ProbeReconciler) demand(s *probeScope) {
	vantage := s.sample().Vantage
	if r.run != nil && r.run.Vantage != vantage {
		r.run = nil
	}
	if vantage.IsValid() && vantage != r.vantage {
		r.vantage = vantage
		r.Proofs.edit(func(records probe.Records) { records.Forget(policy.Ingress) })
	}
}

// note takes down the results of the run, and whether they were seen from a vantage.
func (r *ProbeReconciler) note(results []probe.Result, moments []probe.Moment, now time.Time) {
	r.vantage = r.run.Vantage
	r.Proofs.note(results, moments, now)
}

// loadImage finds out, once, what the operator itself runs from. Its right to list pods lets it read its own.
func (r *ProbeReconciler) loadImage(ctx context.Context, s *probeScope) error {
	if r.image.Name == "" {
		r.image.Name = r.Image
	}
	if r.image.Name == "" && r.Own.Name != "" {
		var own corev1.PodList
		if err := r.Live.List(ctx, &own, client.InNamespace(r.Own.Namespace), client.MatchingFields{metav1.ObjectNameField: r.Own.Name}); err != nil {
			return fmt.Errorf("reading the operator's own pod: %w", err)
		}
		for _, pod := range own.Items {
			r.image = probe.Image{Name: pod.Spec.Containers[0].Image, PullPolicy: pod.Spec.Containers[0].ImagePullPolicy}
		}
	}
	if r.image.Name == "" {
		s.fail(pcinetv1alpha1.ReasonCanaryImageUnknown, "The operator does not know its own image. Set POD_NAME in its Deployment, or --probe-image.")
	}
	return nil
}

// ofProbe says whether an object is between the canaries.
func ofProbe(obj client.Object) bool {
	return obj.GetLabels()[render.LabelManagedBy] == render.ManagedBy && obj.GetLabels()[probe.LabelRole] != ""
}

// interval is the shortest that a baseline asks for.
func (s *probeScope) interval() time.Duration {
	out := s.covering[0].Spec.Verification.IntervalSeconds
	for _, b := range s.covering {
		out = min(out, b.Spec.Verification.IntervalSeconds)
	}
	return time.Duration(out) * time.Second
}

// SetupWithManager watches canaries, the platform and the coverage of the canaries' namespace.
func (r *ProbeReconciler) SetupWithManager(mgr ctrl.Manager, pods cache.Cache) error {
	one := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []ctrl.Request { return []ctrl.Request{{}} })
	return ctrl.NewControllerManagedBy(mgr).
		Named("probe").
		WithOptions(options(false)).
		WatchesRawSource(source.Kind[client.Object](pods, &corev1.Pod{}, one)).
		WatchesRawSource(source.Func(func(ctx context.Context, q queue) error {
			r.Platform.assessments.each(ctx, func() { q.AddAfter(ctrl.Request{}, debounce) })
			q.Add(ctrl.Request{})
			return nil
		})).
		Complete(r)
}

// hurry says whether a round should begin at once: the platform or a baseline changed since the last one, or a node joined.
func (r *ProbeReconciler) hurry(s *probeScope) bool {
	return !reflect.DeepEqual(r.assessed, r.Platform.Engine().Steady()) || r.generations != s.generations() || r.Proofs.untried(s.ready)
}

// generations describes the baselines that cover the canaries, so that it shows whether one has changed.
func (s *probeScope) generations() string {
	var out []string
	for _, b := range s.covering {
		out = append(out, fmt.Sprint(b.UID, " ", b.Generation))
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
