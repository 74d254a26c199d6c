// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/watch"
)

// What becomes of an event. A watch never loses one for good: what was missed is made up for when the client lists again, and
// then shows as one change to the latest state.
const (
	// dropped: it does not arrive, nor does anything after it; the watch breaks off with "too old resource version".
	dropped mode = "dropped"
	// merged: it arrives together with the next event of the same object, as the one change that both make.
	merged mode = "merged"
	// frozen: it is the last that the process sees, which ends. The next one is shown the state as of then.
	frozen mode = "frozen"
)

// hold is how long a lens waits for what comes next.
const hold = 300 * time.Millisecond

// lens is what the operator sees the cluster through; the zero value shows everything.
type lens struct {
	at   string // a key of wire.count
	mode mode
	// version is the resourceVersion of what it struck at.
	version string
	// asOf is the resourceVersion that lists and watches answer as of, until thawed is closed; "" for the present.
	asOf   string
	thawed chan struct{}
}

func (l *lens) still() bool {
	if l.asOf == "" {
		return false
	}
	select {
	case <-l.thawed:
		return false
	default:
		return true
	}
}

// frame is one event of a watch.
type frame struct {
	Type   watch.EventType `json:"type"`
	Object json.RawMessage `json:"object"`

	target  string // such as networkpolicies/a/pcinb-pci-default-deny
	version string
}

// watched are the resources whose events count.
var watched = []string{
	"namespaces", "networkpolicies", "ciliumnetworkpolicies", "namespacecoverages", "pcinetworkbaselines",
	"validatingadmissionpolicies", "validatingadmissionpolicybindings",
}

// read sends a read, and looks into watches.
func (w strand) read(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	dead, still := w.dead, w.lens.still()
	w.mu.Unlock()
	if dead {
		return nil, errDead
	}
	query, watches := r.URL.Query(), r.URL.Query().Get("watch") != ""
	resource, _, name := resourceOf(r.URL.Path)
	lists := !watches && resource != "" && name == ""
	switch {
	case still && watches && query.Get("sendInitialEvents") != "":
		return answer(r, http.StatusBadRequest, "BadRequest", "list instead"), nil // a stream cannot begin in the past
	case still && lists:
		query.Set("resourceVersion", w.lens.asOf)
		query.Set("resourceVersionMatch", "Exact")
		r = r.Clone(r.Context())
		r.URL.RawQuery = query.Encode()
	}
	resp, err := w.next.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK || !watches {
		return resp, err
	}
	switch {
	case still:
		resp.Body = &heldBody{ReadCloser: resp.Body, thawed: w.lens.thawed, closed: make(chan struct{})}
	case slices.Contains(watched, resource):
		resp.Body = w.look(resource, resp.Body)
	}
	return resp, nil
}

// heldBody yields nothing until it is thawed.
type heldBody struct {
	io.ReadCloser
	thawed, closed chan struct{}
	once           sync.Once
}

func (b *heldBody) Read(p []byte) (int, error) {
	select {
	case <-b.thawed:
	case <-b.closed:
		return 0, io.ErrClosedPipe
	}
	return b.ReadCloser.Read(p)
}

func (b *heldBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.ReadCloser.Close()
}

// seen is the body of a watch that is looked into.
type seen struct {
	*io.PipeReader
	body   io.Closer
	closed chan struct{}
	once   sync.Once
}

func (s *seen) Close() error {
	s.once.Do(func() { close(s.closed) })
	_ = s.PipeReader.Close()
	return s.body.Close()
}

// look passes the frames of a watch on, as the lens shows them.
func (w *wire) look(resource string, body io.ReadCloser) io.ReadCloser {
	out, in := io.Pipe()
	s := &seen{PipeReader: out, body: body, closed: make(chan struct{})}
	frames := make(chan frame)
	go func() {
		defer close(frames)
		decoder := json.NewDecoder(body)
		for {
			f := frame{}
			if decoder.Decode(&f) != nil {
				return
			}
			f.identify(resource)
			select {
			case frames <- f:
			case <-s.closed:
				return
			}
		}
	}()
	go func() { _ = in.CloseWithError(w.pass(frames, json.NewEncoder(in))) }()
	return s
}

// identify fills in what an event is about; nothing for bookmarks and for what is no part of a play.
func (f *frame) identify(resource string) {
	object := struct {
		Metadata struct{ Namespace, Name, ResourceVersion string }
	}{}
	if json.Unmarshal(f.Object, &object) != nil {
		return
	}
	meta := object.Metadata
	plays := strings.HasPrefix(meta.Namespace, prefix) || meta.Namespace == "" && (resource != "namespaces" || strings.HasPrefix(meta.Name, prefix))
	if meta.Name != "" && plays {
		f.target, f.version = resource+"/"+meta.Namespace+"/"+meta.Name, meta.ResourceVersion
	}
}

// pass writes frames until the watch or its reader ends. What the lens holds back comes last.
func (w *wire) pass(frames <-chan frame, out *json.Encoder) error {
	var held []frame
	var struck mode
	var timeout <-chan time.Time
	for {
		var more []frame
		select {
		case f, ok := <-frames:
			if !ok {
				return io.EOF
			}
			if struck == "" {
				if struck = w.notice(f); struck == merged || struck == dropped {
					timeout, held = time.After(hold), []frame{f}
					continue
				}
				more, struck = []frame{f}, ""
				break
			}
			held = append(held, f)
			if struck == merged && f.target != held[0].target {
				continue
			}
			more = combine(struck, held)
		case <-timeout:
			more = combine(struck, held)
		}
		for _, f := range more {
			if err := out.Encode(f); err != nil {
				return err
			}
		}
		if struck == dropped {
			return io.EOF
		}
		held, struck, timeout = nil, "", nil
	}
}

// combine makes of what was held back what the client sees of it.
func combine(m mode, held []frame) []frame {
	if m == dropped {
		return []frame{{Type: watch.Error, Object: json.RawMessage(
			`{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}`)}}
	}
	first, last := held[0], held[len(held)-1]
	if len(held) == 1 || last.target != first.target {
		return held // nothing followed: it was merely late
	}
	between := held[1 : len(held)-1]
	switch {
	case first.Type == watch.Added && last.Type == watch.Deleted:
		return between
	case first.Type == watch.Added:
		last.Type = watch.Added
	case first.Type == watch.Deleted:
		last.Type = watch.Modified // of another UID
	}
	return append(slices.Clone(between), last)
}

// notice counts an event and says what becomes of it.
func (w *wire) notice(f frame) mode {
	w.mu.Lock()
	defer w.mu.Unlock()
	if f.target == "" {
		return ""
	}
	key := w.count("event " + f.target)
	w.events = append(w.events, key)
	if key != w.lens.at || w.dead {
		return ""
	}
	w.dead = w.lens.mode == frozen
	w.lens.version = f.version
	close(w.struck)
	return w.lens.mode
}
