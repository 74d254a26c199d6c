// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package outages_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
	"github.com/pcinetwork/pci-network-baseline/test/site"
)

// convergence is how long after the end of a fault everything may take to be right.
const convergence = 10 * time.Second

// TestFaultsOfTheAPIServer lets one operator live through all of them. Each is at work while namespaces come, go and come
// again, and while policies are edited and deleted.
func TestFaultsOfTheAPIServer(t *testing.T) { //nolint:paralleltest // one operator, one fault at a time
	p := startProxy(t)
	k := keepOperator(t, p)
	createBaseline(t)
	tests := slices.DeleteFunc(outages(p), func(o outage) bool { return o.full && !site.Full() })
	worlds := newWorlds(t, len(tests))
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) { //nolint:paralleltest // see above
			w := worlds[i]
			w.begin(t)
			k.fresh()
			hit, restarts := p.hit.Load(), k.restarts.Load()
			test.during(t, func() { w.change(t) })
			took := w.converge(t, k)
			writes, ideal := w.judge(t)
			t.Logf("| %s | %d changes | %d answers | %d restarts | converged after %.1f s | %d writes, ideal %d (%.2f) |", test.name,
				w.changes, p.hit.Load()-hit, k.restarts.Load()-restarts, took.Seconds(), writes, ideal, float64(writes)/float64(ideal))
		})
	}
}

// An outage is something that goes wrong for a while. Those that others are worse than are in the full plan alone.
type outage struct {
	name   string
	during func(t *testing.T, work func())
	full   bool
}

func outages(p *proxy) []outage {
	const tooMany, internal, conflict = metav1.StatusReasonTooManyRequests, metav1.StatusReasonInternalError, metav1.StatusReasonConflict
	during := func(f fault) func(*testing.T, func()) {
		return func(_ *testing.T, work func()) {
			p.set(f)
			defer p.set(nil)
			work()
		}
	}
	fromNow := func(f fault) func(*testing.T, func()) { // the watches that run, too
		return func(t *testing.T, work func()) {
			t.Helper()
			during(f)(t, func() {
				p.cut()
				work()
			})
		}
	}
	return []outage{
		{"none", during(nil), true},
		{"nobody answers", func(t *testing.T, work func()) {
			t.Helper()
			p.refuse(t)
			defer p.listen(t)
			work()
		}, false},
		{"429 to 10 %", during(p.storm(429, tooMany, 0.1, false)), true},
		{"429 to 50 %", during(p.storm(429, tooMany, 0.5, false)), true},
		{"500 to 10 %", during(p.storm(500, internal, 0.1, false)), true},
		{"500 to 50 %", during(p.storm(500, internal, 0.5, false)), true},
		{"500 to 50 %, half of the writes landed", during(p.storm(500, internal, 0.5, true)), false},
		{"409 to 10 % of the writes", during(p.storm(409, conflict, 0.1, false)), true},
		{"409 to 50 % of the writes", during(p.storm(409, conflict, 0.5, false)), true},
		{"2 s of latency", during(p.slow(2 * time.Second)), true},
		{"watches end after 1 s", fromNow(p.shortWatches(time.Second)), false},
		{"policies cannot be watched", fromNow(p.blind("networkpolicies")), false},
		{"versions are too old", fromNow(p.forgetful), false},
		{"etcd restarts, compacted, and so does the API server", func(t *testing.T, work func()) {
			t.Helper()
			p.refuse(t)
			defer p.listen(t)
			work()
			compact(t)
			if err := errors.Join(env.Cluster.RestartEtcd(t.Context()), env.Cluster.RestartAPIServer(t.Context())); err != nil {
				t.Fatal(err)
			}
		}, false},
		{"etcd is killed", func(t *testing.T, work func()) {
			t.Helper()
			var wait sync.WaitGroup
			wait.Go(func() {
				time.Sleep(duration() / 3)
				if err := env.Cluster.RestartEtcd(t.Context()); err != nil {
					t.Error(err)
				}
				compact(t)
			})
			defer wait.Wait()
			work()
		}, true},
	}
}

// duration is how long a fault lasts.
func duration() time.Duration {
	if site.Full() {
		return 30 * time.Second
	}
	return 3 * time.Second
}

// compact has etcd forget everything but the present.
func compact(t *testing.T) {
	t.Helper()
	status := struct {
		Header struct{ Revision string }
	}{}
	ask(t, "/v3/maintenance/status", map[string]any{}, &status)
	ask(t, "/v3/kv/compaction", map[string]any{"revision": status.Header.Revision, "physical": true}, &struct{}{})
}

// ask asks etcd.
func ask(t *testing.T, path string, question, answer any) {
	t.Helper()
	body, err := json.Marshal(question)
	if err != nil {
		t.Fatal(err)
	}
	_, err = eventually.Within(t.Context(), eventually.Patience, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), eventually.Patience/3)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, env.Cluster.EtcdURL()+path, bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Close = true
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s: %s, %w", path, response.Status, text, err)
		}
		return json.Unmarshal(text, answer)
	})
	if err != nil {
		t.Error(err)
	}
}
