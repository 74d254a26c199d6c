// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mode is how a write fails.
type mode string

const (
	refused    mode = "connection refused"
	failed     mode = "error 500"
	lost       mode = "response lost"
	exitBefore mode = "exit before"
	exitAfter  mode = "exit after"
)

// fault is one write and how it fails; the zero value is none.
type fault struct {
	at   string // a key of wire.count
	mode mode
}

var errDead = errors.New("the process has ended")

// write is one request that changes something.
type write struct {
	verb, target string // such as DELETE networkpolicies/a/pcinb-pci-default-deny
	code         int    // of the answer; 0 for none
	// guarded: it deletes one object in one version, by its UID and resourceVersion.
	guarded bool
}

func (w write) String() string { return w.verb + " " + w.target }

// wire is the operator's connection to the API server. It counts writes and watch events, and breaks where it is told to.
type wire struct {
	fault  fault
	lens   lens
	struck chan struct{} // closed when the fault, or the lens, has struck
	flight sync.WaitGroup

	mu     sync.Mutex
	dead   bool
	counts map[string]int
	writes []write  // since it was armed, or made
	events []string // likewise
	blind  []string // deletes without preconditions, ever
}

func newWire() *wire {
	return &wire{struck: make(chan struct{}), counts: map[string]int{}}
}

// arm begins to count, and makes the fault and the lens effective.
func (w *wire) arm(f fault, l lens) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault, w.lens = f, l
	w.counts, w.writes, w.events = map[string]int{}, nil, nil
}

// cut lets nothing more pass, and waits for what is on its way.
func (w *wire) cut() {
	w.mu.Lock()
	w.dead = true
	w.mu.Unlock()
	w.flight.Wait()
}

// count returns the key of something that happens: its name and for how many times it has happened.
func (w *wire) count(what string) string {
	w.counts[what]++
	return key(what, w.counts[what])
}

func key(what string, n int) string { return fmt.Sprintf("%s #%d", what, n) }

// strand is one connection of a wire, for one of the operator's clients.
type strand struct {
	*wire
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (w strand) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodGet || strings.HasSuffix(r.URL.Path, "/selfsubjectreviews") { // which stores nothing
		return w.read(r)
	}
	out, err := describe(r)
	if err != nil {
		return nil, err
	}
	m, err := w.begin(out)
	if err != nil {
		return nil, err
	}
	defer w.flight.Done()
	switch m {
	case refused:
		return nil, syscall.ECONNREFUSED
	case failed:
		return answer(r, http.StatusInternalServerError, metav1.StatusReasonInternalError, "the database is gone"), nil
	case exitBefore:
		return nil, errDead
	default: // it is sent, whatever becomes of the answer
	}
	resp, err := w.next.RoundTrip(r)
	if err == nil {
		out.code = resp.StatusCode
	}
	w.end(out, m)
	if m == "" || err != nil {
		return resp, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return nil, io.ErrUnexpectedEOF
}

// begin decides what becomes of a write. Nothing else passes after an exit, be it on its way to here already.
func (w *wire) begin(out write) (mode, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return "", errDead
	}
	if out.verb == http.MethodDelete && !out.guarded {
		w.blind = append(w.blind, out.String())
	}
	w.flight.Add(1)
	if w.count(out.String()) != w.fault.at {
		return "", nil
	}
	m := w.fault.mode
	w.dead = m == exitBefore
	if m != exitAfter {
		close(w.struck)
	}
	return m, nil
}

func (w *wire) end(out write, m mode) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, out)
	if m == exitAfter {
		w.dead = true
		close(w.struck)
	}
}

// written returns the writes since the wire was armed.
func (w *wire) written() []write {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.writes)
}

// noticed returns the events since then.
func (w *wire) noticed() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.events)
}

// resourceOf splits the path of a request: resource with subresource, namespace, name.
func resourceOf(path string) (resource, namespace, name string) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] == "api" {
		parts = parts[min(2, len(parts)):] // api/VERSION
	} else {
		parts = parts[min(3, len(parts)):] // apis/GROUP/VERSION
	}
	if len(parts) > 2 && parts[0] == "namespaces" {
		namespace, parts = parts[1], parts[2:]
	}
	if len(parts) == 0 {
		return "", "", ""
	}
	resource = parts[0]
	if len(parts) > 1 {
		name = parts[1]
	}
	if len(parts) > 2 {
		resource += "/" + parts[2]
	}
	return resource, namespace, name
}

// describe reads a write.
func describe(r *http.Request) (write, error) {
	resource, namespace, name := resourceOf(r.URL.Path)
	out := write{verb: r.Method}
	if r.Body != nil {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return out, err
		}
		_ = r.Body.Close()
		r.Body = io.NopCloser(bytes.NewReader(data))
		body := struct {
			Metadata      metav1.ObjectMeta
			Preconditions metav1.Preconditions
		}{}
		if err := json.Unmarshal(data, &body); err != nil {
			return out, fmt.Errorf("reading the body of %s %s: %w", r.Method, r.URL.Path, err)
		}
		if r.Method == http.MethodPost && resource != "events" { // whose names are random
			name = body.Metadata.Name
		}
		p := body.Preconditions
		out.guarded = p.UID != nil && *p.UID != "" && p.ResourceVersion != nil && *p.ResourceVersion != ""
	}
	if resource == "events" {
		name = ""
	}
	out.target = strings.TrimSuffix(resource+"/"+namespace+"/"+name, "/")
	return out, nil
}

// answer is an error as the API server sends it.
func answer(r *http.Request, code int32, reason metav1.StatusReason, message string) *http.Response {
	body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":%q,"reason":%q,"code":%d}`, message, reason, code)
	return &http.Response{
		Status: http.StatusText(int(code)), StatusCode: int(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)),
	}
}
