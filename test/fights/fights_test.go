// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package fights_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const (
	groupLabel = "example.com/group"
	// atOnce is how often an object is restored at once; then it is contested, and restored once a period. In ten minutes that is less
	// than 0.6 writes a second.
	atOnce = 5
	period = 1800 * time.Millisecond
	// burst is how long it may take until a namespace is denied for good.
	burst = 3 * time.Second
	// naming and calm are how soon an opponent is named, and how soon everything is right when it has stopped. slack is for
	// machines under load.
	naming, calm, slack = 10 * time.Second, 2 * time.Second, time.Second
	// quiet is how long nothing must have been repaired for a fight to be over.
	quiet = time.Minute
	// probes is how many namespaces are made to see how long it takes until one is denied.
	probes = 40
)

// combat is one writer at one namespace, and what came of it.
type combat struct {
	writer
	target
	named   string        // the condition's message
	after   time.Duration // until it said so
	settled time.Duration // from the writer's end until the policy was right for good
}

// Ten writers, each on a namespace of its own: how often they make us write, whether they are named, how long a namespace is open,
// how soon all is well when they stop, and whether others have to wait. Decoys show what the load alone does.
func TestHostileWriters(t *testing.T) { //nolint:paralleltest // it loads the server
	active, standby := twoReplicas(t)
	b := createBaseline(t, "hostile", pcinetv1alpha1.AdmissionOff)
	combats := map[string]*combat{}
	for i, name := range slices.Sorted(maps.Keys(writers)) {
		combats[name] = &combat{writer: writers[name], target: protected(t, b, fmt.Sprintf("hostile-%d", i))}
	}
	before := underLoad(t, b)

	began := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	var fighting, watching sync.WaitGroup
	for _, c := range combats {
		fighting.Go(func() { c.run(ctx, c.target) })
		watching.Go(func() { c.await(ctx, b.Name, began) })
	}
	time.Sleep(lasting() / 4)
	during := latencies(t, b, "during")
	time.Sleep(time.Until(began.Add(lasting())))
	stop()
	fighting.Wait()
	watching.Wait()
	stopped := time.Now()
	for _, c := range combats {
		watching.Go(func() { c.settle(t, b, stopped) })
	}
	watching.Wait()

	sent := writes(t, began, stopped, active.agent, standby.agent)
	for _, name := range slices.Sorted(maps.Keys(combats)) {
		t.Run(name, func(t *testing.T) { combats[name].report(t, began, stopped, sent) })
	}
	t.Logf("a new namespace is denied: p50 %s, p99 %s under the writers' load, p50 %s, p99 %s in the fights", half(before), last(before), half(during), last(during))
	if last(during) > 3*last(before)+slack || half(during) > 3*half(before)+slack/10 {
		t.Error("new namespaces waited because others fought")
	}
	t.Run("peace", func(t *testing.T) {
		for _, c := range combats {
			c.peace(t, b, stopped)
		}
	})
}

// await waits until the condition names the opponent.
func (c *combat) await(ctx context.Context, baseline string, began time.Time) {
	for ctx.Err() == nil {
		if m := contested(ctx, c.namespace, baseline); strings.Contains(m, c.writer.named) {
			c.named, c.after = m, time.Since(began)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// contested returns what the condition says while it is True.
func contested(ctx context.Context, namespace, baseline string) string {
	coverage := &pcinetv1alpha1.NamespaceCoverage{}
	if env.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: baseline}, coverage) != nil {
		return ""
	}
	if found := apimeta.FindStatusCondition(coverage.Status.Conditions, pcinetv1alpha1.ConditionContested); found != nil && found.Status == metav1.ConditionTrue {
		return found.Message
	}
	return ""
}

// settle watches for a while when the policy was wrong for the last time.
func (c *combat) settle(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, stopped time.Time) {
	t.Helper()
	for time.Since(stopped) < 2*(calm+slack) {
		asked := time.Now()
		p := c.policy(c.name)
		err := env.client.Get(t.Context(), client.ObjectKeyFromObject(p), p)
		if err != nil || !denies(p) || render.Owner(p.Labels) != b.Name || len(p.OwnerReferences) > 0 {
			c.settled = asked.Sub(stopped)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// report judges a combat and prints it as a row of docs/faults.md.
func (c *combat) report(t *testing.T, began, stopped time.Time, sent map[string][]request) {
	t.Helper()
	if c.named == "" {
		t.Errorf("it is not named %q, the condition says: %q", c.writer.named, contested(t.Context(), c.namespace, "hostile"))
	}
	if c.after > naming {
		t.Errorf("it took %s to name it", c.after)
	}
	object, all := busiest(sent, c.namespace)
	late := 0 // once it is contested
	for _, r := range sent[object] {
		if r.Received.After(began.Add(c.after)) {
			late++
		}
	}
	limit := 2 + int(stopped.Sub(began.Add(c.after))/period) // one at either end
	if c.both {
		limit += atOnce // the second copy's own
	}
	if late > limit {
		t.Errorf("%s was written %d times after it was contested, want %d at most", object, late, limit)
	}
	if lasting() >= 10*time.Minute && float64(all) > 0.6*lasting().Seconds() {
		t.Errorf("%s was written %d times in %s", object, all, lasting())
	}
	pace := float64(all) / stopped.Sub(began).Seconds()
	total, longest := env.timeline.open(t, c.namespace, began, stopped)
	rest, _ := env.timeline.open(t, c.namespace, began.Add(burst), stopped)
	share := 100 * (1 - total.Seconds()/stopped.Sub(began).Seconds())
	shareLate := 100 * (1 - rest.Seconds()/stopped.Sub(began.Add(burst)).Seconds())
	if !c.both && (shareLate < 99.9 || lasting() >= 10*time.Minute && share < 99.9) {
		t.Errorf("the namespace was denied in %.3f %% of the time, %.3f %% after the burst", share, shareLate)
	}
	if c.settled > calm+slack {
		t.Errorf("the policy was wrong until %s after the writer had stopped", c.settled)
	}
	t.Logf("| %s | %.2f/s of %d | %s after %.1f s | %.3f %% (%d ms open, %d at most) | %.3f %% | %.2f s |", strings.TrimPrefix(t.Name(), "TestHostileWriters/"),
		pace, all, c.writer.named, c.after.Seconds(), share, total.Milliseconds(), longest.Milliseconds(), shareLate, c.settled.Seconds())
}

// peace waits until the fight is over, and checks that neither that nor the removal of the second copy has opened anything.
func (c *combat) peace(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, stopped time.Time) {
	t.Helper()
	time.Sleep(time.Until(stopped.Add(quiet)))
	eventually.That(t, "namespace "+c.namespace+" is at peace", func() error {
		coverage := &pcinetv1alpha1.NamespaceCoverage{}
		if err := env.client.Get(t.Context(), client.ObjectKey{Namespace: c.namespace, Name: b.Name}, coverage); err != nil {
			return err
		}
		if coverage.Status.State != pcinetv1alpha1.CoverageProtected || contested(t.Context(), c.namespace, b.Name) != "" {
			return fmt.Errorf("it is %s: %v", coverage.Status.State, coverage.Status.Conditions)
		}
		var list networkingv1.NetworkPolicyList
		if err := env.client.List(t.Context(), &list, client.InNamespace(c.namespace)); err != nil {
			return err
		}
		if len(list.Items) != 1 || list.Items[0].Name != c.name {
			return fmt.Errorf("there are %d policies", len(list.Items))
		}
		return nil
	})
	if total, _ := env.timeline.open(t, c.namespace, stopped.Add(c.settled+slack), time.Now()); total > 0 {
		t.Errorf("namespace %s was open for %s after the fight", c.namespace, total)
	}
}

// The active replica dies in the middle of a fight. The standby leaves the fight to it as long as it lives, and then goes on at
// no greater pace, long before it is elected.
func TestAFightSurvivesItsLeader(t *testing.T) { //nolint:paralleltest // it loads the server
	active, standby := twoReplicas(t)
	b := createBaseline(t, "orphan", pcinetv1alpha1.AdmissionOff)
	c := &combat{writer: writers["an allow-all rule in a loop"], target: protected(t, b, "orphan-0")}
	began := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	var fighting sync.WaitGroup
	fighting.Go(func() { c.run(ctx, c.target) })
	c.await(t.Context(), b.Name, began)
	awaitEvent(t, c.namespace, pcinetv1alpha1.ReasonRepeatedChanges, "mallory")
	time.Sleep(2 * burst)
	active.kill(t)
	killed := time.Now()
	if _, n := busiest(writes(t, began.Add(burst), killed, standby.agent), c.namespace); n > 0 {
		t.Errorf("the standby joined in %d times", n)
	}
	time.Sleep(2 * calm)
	stop()
	fighting.Wait()
	stopped := time.Now()
	object, n := busiest(writes(t, killed, stopped, standby.agent), c.namespace)
	if limit := 1 + int(stopped.Sub(killed)/period); n == 0 || n > limit {
		t.Errorf("the standby wrote %s %d times, want 1 to %d", object, n, limit)
	}
	c.settle(t, b, stopped)
	select {
	case <-standby.elected:
		t.Error("the standby was elected: this test shows nothing")
	default:
	}
	if c.settled > calm+500*time.Millisecond+slack {
		t.Errorf("without a leader the policy was wrong until %s after the writer had stopped", c.settled)
	}
	if total, _ := env.timeline.open(t, c.namespace, began.Add(burst), time.Now()); total > 0 {
		t.Errorf("the namespace was open for %s after the burst", total)
	}
	t.Logf("without a leader: written %d times in %s, right %s after the writer had stopped", n, stopped.Sub(killed).Round(time.Millisecond), c.settled)
}

// With the guard there are no fights: nothing that the same writers send gets through.
func TestTheGuardRefusesHostileWriters(t *testing.T) { //nolint:paralleltest // it loads the server
	active, standby := twoReplicas(t)
	b := createBaseline(t, "guarded", pcinetv1alpha1.AdmissionEnforce)
	targets := map[string]target{}
	for i, name := range slices.Sorted(maps.Keys(writers)) {
		targets[name] = protected(t, b, fmt.Sprintf("guarded-%d", i))
	}
	for _, c := range targets {
		eventually.That(t, "the guard is up", func() error {
			if env.client.Delete(t.Context(), c.policy(c.name), client.DryRunAll) == nil {
				return errors.New("a deletion passes")
			}
			return nil
		})
	}
	began := time.Now()
	ctx, stop := context.WithTimeout(t.Context(), burst)
	defer stop()
	var fighting sync.WaitGroup
	for name, c := range targets {
		fighting.Go(func() { writers[name].run(ctx, c) })
	}
	fighting.Wait()
	stopped := time.Now()
	theirs, ours := writes(t, began, stopped, everybody), writes(t, began, stopped, active.agent, standby.agent)
	for name, c := range targets {
		refused := 0
		for _, r := range theirs["networkpolicies/"+c.namespace+"/"+c.name] {
			switch r.ResponseStatus.Code {
			case http.StatusForbidden:
				refused++
			case http.StatusOK, http.StatusCreated:
				t.Errorf("%s: a request passed: %v", name, r)
			}
		}
		if refused == 0 {
			t.Errorf("%s: no request was refused: this test shows nothing", name)
		}
		if object, n := busiest(ours, c.namespace); n > 0 {
			t.Errorf("%s made us write %s", name, object)
		}
		if total, _ := env.timeline.open(t, c.namespace, began, stopped); total > 0 {
			t.Errorf("%s opened the namespace for %s", name, total)
		}
	}
}

// underLoad returns the latencies while the same writers are at policies that are nobody's business.
func underLoad(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) []time.Duration {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	for i, name := range slices.Sorted(maps.Keys(writers)) {
		decoy := target{fmt.Sprintf("decoy-%d", i), "decoy", "decoy2"}
		createNamespace(t, decoy.namespace, "")
		p := decoy.policy(decoy.name)
		allowAll(p)
		if err := env.client.Create(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		writing.Go(func() { writers[name].run(ctx, decoy) })
	}
	out := latencies(t, b, "before")
	stop()
	writing.Wait()
	return out
}

// latencies makes namespaces one by one, and returns how long each took to be denied, sorted.
func latencies(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, prefix string) []time.Duration {
	t.Helper()
	var out []time.Duration
	for i := range probes {
		name := fmt.Sprintf("%s-%s-%d", b.Name, prefix, i)
		began := time.Now()
		createNamespace(t, name, b.Name)
		var at time.Time
		eventually.That(t, name+" is denied", func() error {
			var yes bool
			if at, yes = env.timeline.firstDenied(name); !yes {
				return errors.New("it is not")
			}
			return nil
		})
		out = append(out, at.Sub(began).Round(100*time.Microsecond))
	}
	slices.Sort(out)
	return out
}

func half(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

// last is the 99th percentile of less than a hundred.
func last(sorted []time.Duration) time.Duration { return sorted[len(sorted)-1] }

// createBaseline creates a baseline without allowances for the namespaces of a group of its name.
func createBaseline(t *testing.T, name string, guard pcinetv1alpha1.AdmissionMode) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{groupLabel: pcinetv1alpha1.LabelValue(name)}}
	b.Spec.Admission = pcinetv1alpha1.Admission{PodGate: pcinetv1alpha1.AdmissionOff, TamperGuard: guard}
	b.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone
	if err := env.client.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

func createNamespace(t *testing.T, name, group string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{groupLabel: group}}}
	if err := env.client.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
}

// protected creates a namespace, waits until it is protected, and returns its deny.
func protected(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline, name string) target {
	t.Helper()
	createNamespace(t, name, b.Name)
	eventually.That(t, name+" is protected", func() error {
		coverage := &pcinetv1alpha1.NamespaceCoverage{}
		if err := env.client.Get(t.Context(), client.ObjectKey{Namespace: name, Name: b.Name}, coverage); err != nil {
			return err
		}
		if coverage.Status.State != pcinetv1alpha1.CoverageProtected {
			return fmt.Errorf("it is %s", coverage.Status.State)
		}
		return nil
	})
	first := render.Name(b.Name, "default-deny")
	return target{name, first, render.SecondName(first)}
}

// awaitEvent waits for an event that contains a text.
func awaitEvent(t *testing.T, namespace, reason, contains string) {
	t.Helper()
	eventually.That(t, "there is an event "+reason, func() error {
		var list eventsv1.EventList
		if err := env.client.List(t.Context(), &list, client.InNamespace(namespace)); err != nil {
			return err
		}
		for i := range list.Items {
			if e := &list.Items[i]; e.Reason == reason && strings.Contains(e.Note, contains) {
				return nil
			}
		}
		return fmt.Errorf("none of %d", len(list.Items))
	})
}
