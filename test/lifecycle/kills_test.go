// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
	"github.com/pcinetwork/pci-network-baseline/test/site"
)

// promised is how much later a standby acts, and tolerance what it may take then.
const promised, tolerance = 500 * time.Millisecond, time.Second

// A namespace comes every 200 ms, and its pod tries to come at once, while the active one of two replicas is killed.
func TestFailover(t *testing.T) { //nolint:paralleltest // one control plane, and everything is counted
	const baseline = "failover"
	dropLease(t)
	active, standby := launch(t), launch(t)
	await(t, func() error { return errors.Join(active.Ready(t.Context()), standby.Ready(t.Context())) })
	await(t, func() error {
		if active.Leads(t.Context()) != nil {
			active, standby = standby, active
		}
		return active.Leads(t.Context())
	})
	createBaseline(t, baseline, pcinetv1alpha1.AdmissionEnforce)
	createNamespaces(t, baseline, 1)
	rest(t)
	r := record(t)

	count := pick(100, 30)
	var names []string
	var held atomic.Int64
	var wait sync.WaitGroup
	for i := range count {
		if i == count/3 {
			active.Kill()
		}
		name := fmt.Sprintf("%s-%d", baseline, i+1)
		names = append(names, name)
		wait.Go(func() {
			if err := createNamespace(t.Context(), name, baseline); err != nil {
				t.Error(err)
			}
			admit(t, name, &held)
		})
		time.Sleep(200 * time.Millisecond)
	}
	wait.Wait()
	protected(t, baseline, names...)
	rest(t)
	longest := time.Duration(0)
	for _, l := range lives(t, r, baseline) {
		sound(t, l)
		if l.Namespace != baseline+"-0" { // which was there before
			longest = max(longest, l.Denied.Sub(l.Began))
		}
	}
	if longest > promised+tolerance {
		t.Errorf("a namespace was without its deny for %s", longest)
	}
	if held.Load() == 0 {
		t.Error("the gate has held no pod: the test proves nothing")
	}

	since := mark(t)
	await(t, func() error { return standby.Leads(t.Context()) })
	ready(t, launch(t))
	time.Sleep(pick(time.Minute, 3*time.Second))
	rest(t)
	requests, err := env.Audit.Writes(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range requests {
		if request.Object.Resource != "pcinetworkbaselines" { // whose counts waited for a leader
			t.Errorf("a write at rest: %s", request)
		}
	}
	t.Logf("| failover | %d namespaces | without a deny for %d ms at most | %d refusals of pods, 0 before the deny | 0 writes at rest |",
		count, longest.Milliseconds(), held.Load())
}

// admit tries until the namespace's pod is admitted, and counts how often the gate has refused it.
func admit(t *testing.T, namespace string, held *atomic.Int64) {
	t.Helper()
	_, err := eventually.Within(t.Context(), eventually.Patience, func() error {
		err := env.Client.Create(t.Context(), newPod(namespace, "app"))
		if err != nil && strings.Contains(err.Error(), "pcinb-pod-gate") {
			held.Add(1)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// The one manager is killed over and over: before it is ready, and while it works; as leader, and as one that waits for the
// lease of one that was killed.
func TestKillsUnderChurn(t *testing.T) { //nolint:paralleltest // see above
	const baseline = "churn"
	first := launch(t)
	createBaseline(t, baseline, pcinetv1alpha1.AdmissionEnforce)
	createNamespaces(t, baseline, 1)
	rest(t)
	first.Kill()
	r, since := record(t), mark(t)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := &churn{baseline: baseline, alive: map[string]bool{}}
	var wait sync.WaitGroup
	wait.Go(func() { c.run(ctx, pick(300, 100)) })
	began, kills := time.Now(), pick(200, 10)
	for i := range kills {
		if i%3 == 0 {
			dropLease(t)
		}
		o, err := env.Launch(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			if _, err := eventually.Within(t.Context(), eventually.Patience, func() error { return o.Ready(t.Context()) }); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(rand.N(1500 * time.Millisecond))
		o.Kill()
	}
	cancel()
	wait.Wait()
	took := time.Since(began)
	if c.err != nil {
		t.Error(c.err)
	}
	ready(t, launch(t))
	converged, err := eventually.Within(t.Context(), eventually.Patience, func() error { return env.Protected(t.Context(), baseline, c.living()...) })
	if err != nil {
		t.Fatal(err)
	}
	gone(t, c.dying()...)
	rest(t)
	requests, err := env.Audit.Writes(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	for _, request := range requests {
		if request.Verb == "delete" {
			t.Errorf("a delete: %s", request)
		}
	}
	all := lives(t, r, baseline)
	for _, l := range all {
		sound(t, l)
	}
	t.Logf("| %d kills | %d namespaces made or deleted, %.0f/s | all %d that live protected %.1f s after the last start | %d lives, %d writes |",
		kills, c.changes, float64(c.changes)/took.Seconds(), len(c.living()), converged.Seconds(), len(all), len(requests))
}

// churn makes and deletes namespaces, 50 times a second or as fast as they go.
type churn struct {
	baseline string
	alive    map[string]bool
	changes  int
	err      error
}

func (c *churn) run(ctx context.Context, names int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		few := len(c.living()) < names/4
		for range 10 { // one that goes cannot be made anew yet
			name := fmt.Sprintf("%s-x%d", c.baseline, rand.IntN(names))
			if (!few || !c.alive[name]) && c.change(name) {
				c.changes++
				break
			}
		}
	}
}

// change deletes a namespace that is there or makes one that is not, and says whether that could be.
func (c *churn) change(name string) bool {
	ctx := context.Background() // a request that was sent counts
	if c.alive[name] {
		err := env.Client.Delete(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})
		c.err = errors.Join(c.err, err)
		c.alive[name] = err != nil
		return err == nil
	}
	err := env.Client.Create(ctx, site.NewNamespace(name, c.baseline))
	c.alive[name] = err == nil
	if err != nil && !apierrors.IsAlreadyExists(err) {
		c.err = errors.Join(c.err, err)
	}
	return err == nil
}

// living are the namespaces that are there, dying all others.
func (c *churn) living() []string { return c.which(true) }

func (c *churn) dying() []string { return c.which(false) }

func (c *churn) which(alive bool) []string {
	var out []string
	for name, is := range c.alive {
		if is == alive {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
