// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package fights_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// timeline holds what the policies of every namespace were, and when. Of a policy it keeps what matters: does it deny?
type timeline struct {
	mu         sync.Mutex
	namespaces map[string]*history
	err        error
}

type history struct {
	denies map[string]bool // by name, of the policies that live
	// changes is how many policies denied from when on.
	changes []change
}

type change struct {
	at     time.Time
	denies int
}

func watchPolicies(ctx context.Context) (*timeline, error) {
	l := &timeline{namespaces: map[string]*history{}}
	w, err := env.client.Watch(ctx, &networkingv1.NetworkPolicyList{})
	if err != nil {
		return nil, err
	}
	go func() {
		defer w.Stop()
		for e := range w.ResultChan() {
			l.note(e)
		}
		if ctx.Err() == nil {
			l.fail(fmt.Errorf("the watch has ended"))
		}
	}()
	return l, nil
}

func (l *timeline) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *timeline) note(e watch.Event) {
	policy, ok := e.Object.(*networkingv1.NetworkPolicy)
	if !ok {
		l.fail(fmt.Errorf("the watch broke: %s %v", e.Type, e.Object))
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.namespaces[policy.Namespace]
	if h == nil {
		h = &history{denies: map[string]bool{}}
		l.namespaces[policy.Namespace] = h
	}
	if e.Type == watch.Deleted {
		delete(h.denies, policy.Name)
	} else {
		h.denies[policy.Name] = denies(policy)
	}
	n := 0
	for _, yes := range h.denies {
		if yes {
			n++
		}
	}
	if len(h.changes) == 0 || h.changes[len(h.changes)-1].denies != n {
		h.changes = append(h.changes, change{time.Now(), n})
	}
}

// denies says whether a policy of ours, by its name, selects every pod and lets nothing through.
func denies(p *networkingv1.NetworkPolicy) bool {
	everyPod := len(p.Spec.PodSelector.MatchLabels)+len(p.Spec.PodSelector.MatchExpressions) == 0
	return strings.HasSuffix(p.Name, "-default-deny") && strings.HasPrefix(p.Name, "pcinb") && everyPod &&
		len(p.Spec.Ingress)+len(p.Spec.Egress) == 0 && len(p.Spec.PolicyTypes) == 2
}

// since returns the changes from a moment on, the first of them as of that moment.
func (l *timeline) since(t *testing.T, namespace string, from time.Time) []change {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		t.Fatal(l.err)
	}
	out := []change{{at: from}}
	if h := l.namespaces[namespace]; h != nil {
		for _, c := range h.changes {
			if c.at.After(from) {
				out = append(out, c)
			} else {
				out[0].denies = c.denies
			}
		}
	}
	return out
}

// open returns how long no policy denied, altogether and at most at a time.
func (l *timeline) open(t *testing.T, namespace string, from, to time.Time) (total, longest time.Duration) {
	t.Helper()
	changes := append(l.since(t, namespace, from), change{at: to, denies: 1})
	for i, c := range changes[:len(changes)-1] {
		if c.denies == 0 && c.at.Before(to) {
			took := min(changes[i+1].at.Sub(c.at), to.Sub(c.at))
			total, longest = total+took, max(longest, took)
		}
	}
	return total, longest
}

// firstDenied returns when a namespace was denied first.
func (l *timeline) firstDenied(namespace string) (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.namespaces[namespace]; h != nil {
		for _, c := range h.changes {
			if c.denies > 0 {
				return c.at, true
			}
		}
	}
	return time.Time{}, false
}

// request is one event of the API server's audit log.
type request struct {
	Verb      string    `json:"verb"`
	UserAgent string    `json:"userAgent"`
	Received  time.Time `json:"requestReceivedTimestamp"`
	ObjectRef struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

func (r request) object() string {
	return strings.Join([]string{r.ObjectRef.Resource, r.ObjectRef.Namespace, r.ObjectRef.Name}, "/")
}

// writes returns every write that User-Agents have sent within a time, refused and failed ones too, by object.
func writes(t *testing.T, from, to time.Time, agents ...string) map[string][]request {
	t.Helper()
	file, err := os.Open(env.auditLog)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	out := map[string][]request{}
	lines := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(agents, func(agent string) bool { return bytes.Contains(line, []byte(`"`+agent+`"`)) }) {
			continue
		}
		var r request
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		if r.Received.Before(from) || r.Received.After(to) || r.ObjectRef.Resource == "leases" || slices.Contains([]string{"get", "list", "watch"}, r.Verb) {
			continue
		}
		out[r.object()] = append(out[r.object()], r)
	}
}

// busiest returns the object of a namespace that was written most often.
func busiest(byObject map[string][]request, namespace string) (object string, count int) {
	for _, key := range slices.Sorted(maps.Keys(byObject)) {
		if n := len(byObject[key]); strings.Contains(key, "/"+namespace+"/") && n > count {
			object, count = key, n
		}
	}
	return object, count
}
