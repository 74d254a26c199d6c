// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package platforms_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// What the extension API server serves, and the group under which its objects are stored.
const (
	servedGroup = "projectcalico.org"
	storedGroup = "stored.projectcalico.test"
	discovery   = "/apis/" + servedGroup + "/v3"
)

// mood is how the extension API server answers.
type mood int

const (
	serving mood = iota
	// down: it answers 503 to everything, as a Service does whose pods are being replaced, and streams end.
	down
	// settling: it reads and refuses to write, as an API server does that has not learnt of the parameters of its policies.
	settling
)

// extension stands in for Calico's aggregated API server. Its objects live on the same API server as CRDs of a group that is
// the tests' own; groups are rewritten on the way, and metadata.generation, which the real one does not have, is taken out. It
// knows JSON alone.
type extension struct {
	port     int64
	upstream string
	client   *http.Client // a cluster administrator's

	mu   sync.Mutex
	mood mood
	// changed is closed when the mood changes.
	changed chan struct{}
	// writes are those of the operator that had an effect, such as "POST tenant-1". One that comes from a view that was behind is
	// refused by its precondition, and has none.
	writes []string
}

// startExtension starts the extension API server. Without stored kinds it serves an empty group, which is enough to be Available.
func startExtension() (stop func(), err error) {
	config := env.cluster.Config()
	e := &extension{upstream: config.Host, changed: make(chan struct{})}
	if e.client, err = rest.HTTPClientFor(config); err != nil {
		return nil, err
	}
	server := httptest.NewUnstartedServer(e)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of connections that were only tried
	server.StartTLS()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		return nil, err
	}
	e.port, err = strconv.ParseInt(port, 10, 32)
	env.extension = e
	return server.Close, err
}

// turn changes the mood until the test ends.
func (e *extension) turn(t *testing.T, to mood) {
	t.Helper()
	set := func(to mood) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.mood = to
		close(e.changed)
		e.changed = make(chan struct{})
	}
	set(to)
	t.Cleanup(func() { set(serving) })
}

func (e *extension) now() (mood, <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mood, e.changed
}

// written returns the operator's writes in a namespace.
func (e *extension) written(namespace string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for _, w := range e.writes {
		if method, in, _ := strings.Cut(w, " "); in == namespace {
			out = append(out, method)
		}
	}
	return out
}

func (e *extension) note(r *http.Request) {
	if r.Method == http.MethodGet || r.Header.Get("X-Remote-User") != operatorUser {
		return
	}
	_, rest, _ := strings.Cut(r.URL.Path, "/namespaces/")
	namespace, _, _ := strings.Cut(rest, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	e.writes = append(e.writes, r.Method+" "+namespace)
}

func (e *extension) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mood, changed := e.now()
	switch {
	case mood == down:
		answer(w, http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "the server is currently unable to handle the request")
		return
	case mood == settling && r.Method != http.MethodGet:
		answer(w, http.StatusForbidden, metav1.StatusReasonForbidden, `policy "defaults.projectcalico.org" denied request: `+
			"failed to configure policy: failed to find resource referenced by paramKind: 'projectcalico.org/v3, Kind=Tier'")
		return
	case !strings.HasPrefix(r.URL.Path, discovery):
		http.NotFound(w, r) // the oldest form of discovery is enough
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		for mood := mood; mood != down; mood, changed = e.now() {
			select {
			case <-changed:
			case <-ctx.Done():
				return
			}
		}
		cancel()
	}()
	if err := e.forward(ctx, w, r); err != nil && ctx.Err() == nil {
		answer(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, err.Error())
	}
}

// forward asks for the stored objects, and passes the answer on as it comes: one document, or those of a watch.
func (e *extension) forward(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	target := e.upstream + strings.Replace(r.URL.Path, servedGroup, storedGroup, 1) + "?" + r.URL.RawQuery
	request, err := http.NewRequestWithContext(ctx, r.Method, target, bytes.NewReader(bytes.ReplaceAll(body, []byte(servedGroup), []byte(storedGroup))))
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	for _, name := range []string{"Content-Type", "User-Agent"} {
		request.Header.Set(name, r.Header.Get(name))
	}
	response, err := e.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	w.Header().Set("Content-Type", "application/json")
	if response.StatusCode == http.StatusNotFound && r.URL.Path == discovery {
		return json.NewEncoder(w).Encode(metav1.APIResourceList{
			TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: servedGroup + "/v3", APIResources: []metav1.APIResource{},
		})
	}
	if response.StatusCode < http.StatusMultipleChoices {
		e.note(r)
	}
	w.WriteHeader(response.StatusCode)
	return pass(w, response.Body)
}

// pass rewrites one document after another.
func pass(w http.ResponseWriter, body io.Reader) error {
	flush := http.NewResponseController(w).Flush
	decoder := json.NewDecoder(body)
	decoder.UseNumber()
	for {
		if err := flush(); err != nil { // the header, too: a watch has begun before its first event
			return err
		}
		var document map[string]any
		if err := decoder.Decode(&document); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("the answer is no JSON: %w", err)
		}
		withoutGeneration(document)
		data, err := json.Marshal(document)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(bytes.ReplaceAll(data, []byte(storedGroup), []byte(servedGroup)), '\n')); err != nil {
			return err
		}
	}
}

// withoutGeneration changes an object, the items of a list or the object of an event.
func withoutGeneration(document map[string]any) {
	if metadata, ok := document["metadata"].(map[string]any); ok {
		delete(metadata, "generation")
	}
	items, _ := document["items"].([]any)
	for _, o := range append(slices.Clone(items), document["object"]) {
		if object, ok := o.(map[string]any); ok {
			withoutGeneration(object)
		}
	}
}

func answer(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	err := json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	})
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
}
