// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"context"
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Watcher reads and watches. PlatformMapper has the mappings it needs.
type Watcher interface {
	client.Reader
	Watch(ctx context.Context, list client.ObjectList, opts ...client.ListOption) (watch.Interface, error)
}

// PlatformSources reads what platform detection looks at. It keeps its own caches, apart from those that enforcement waits
// for: a right that is missing here must not keep a deny from being written.
//
// Nodes, DaemonSets and the names of CustomResourceDefinitions are always watched; everything else from when it is asked for
// and its kind is served, until one of both ends. Definitions are read as metadata, without their schemas, and not
// APIServices: these name groups, not kinds, so that a kind added to a known group would go unnoticed.
//
// Memory: 1 KiB for a node, 2 KiB for a DaemonSet, the objects asked for, and while an agent is not Ready everywhere 0.5 KiB
// for each of its pods. Requests: one watch for each source.
type PlatformSources struct {
	client  Watcher
	mu      sync.Mutex
	ctx     context.Context //nolint:containedctx // sources start and stop while this lasts
	changed func()
	running map[snapshot.Source]*platformSource
}

// alwaysRead are read from the start.
var alwaysRead = []snapshot.Source{
	{Kind: snapshot.KindNode}, {Kind: snapshot.KindDaemonSet}, {Kind: snapshot.KindCustomResourceDefinition},
}

// NewPlatformSources returns sources that have not started.
func NewPlatformSources(w Watcher) *PlatformSources {
	return &PlatformSources{client: w, running: map[snapshot.Source]*platformSource{}}
}

// Start begins to read, until ctx ends. changed is called whenever Observe may return something else, from several goroutines;
// it must not block.
func (p *PlatformSources) Start(ctx context.Context, changed func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx, p.changed = ctx, changed
	for _, s := range alwaysRead {
		p.start(s, platformKinds[s.Kind].versions)
	}
}

// Observe returns what is known now. wanted says, from what is known, what else to read; that is pending the first time and
// there after changed was called. Cost: the number of nodes; no request.
func (p *PlatformSources) Observe(wanted func(*snapshot.Evidence) []snapshot.Source) *snapshot.Evidence {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.base()
	keep := map[snapshot.Source]bool{}
	for _, s := range alwaysRead {
		keep[s] = true
	}
	for more := true; more; { // what is read may say what else to read
		more = false
		for _, s := range wanted(e) {
			if _, done := e.Readings[s]; done || platformKinds[s.Kind].versions == nil {
				continue
			}
			e.Readings[s], keep[s] = p.read(s, e)
			more = true
		}
	}
	for s, source := range p.running {
		if !keep[s] {
			source.cancel()
			delete(p.running, s)
		}
	}
	return e
}

// Nodes returns the nodes, sorted by name, and whether they are known. Cost: their number; no request.
func (p *PlatformSources) Nodes() (nodes []snapshot.Node, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	source := p.running[snapshot.Source{Kind: snapshot.KindNode}]
	if source == nil {
		return nil, false
	}
	r := source.reading()
	return valuesOf[snapshot.Node](source.store.List()), !r.Pending && r.Problem == ""
}

// read returns what is known of a source, and starts to read it if its kind is defined. A definition is not served at once, nor
// right after a start of the API server; until then nothing is known, and the source is asked for again in steps of about a
// second.
func (p *PlatformSources) read(s snapshot.Source, e *snapshot.Evidence) (r snapshot.Reading, reads bool) {
	kind := platformKinds[s.Kind]
	versions := kind.served(s, e)
	if len(versions) == 0 {
		return snapshot.Reading{Absent: true}, false
	}
	if p.running[s] == nil {
		p.start(s, versions)
	}
	r = p.running[s].reading()
	if crds := e.Readings[snapshot.Source{Kind: snapshot.KindCustomResourceDefinition}]; r.Absent && kind.optional && crds.Problem == "" {
		r = snapshot.Reading{Problem: fmt.Sprintf("%s is defined, but not served in a version that is known (%v)", kind.plural, versions)}
	}
	return r, true
}

// base is what is always read.
func (p *PlatformSources) base() *snapshot.Evidence {
	e := &snapshot.Evidence{Readings: map[snapshot.Source]snapshot.Reading{}}
	for _, s := range alwaysRead {
		source := p.running[s]
		if source == nil {
			e.Readings[s] = snapshot.Reading{Pending: true}
			continue
		}
		switch s.Kind {
		case snapshot.KindNode:
			e.Nodes = valuesOf[snapshot.Node](source.store.List())
		case snapshot.KindDaemonSet:
			e.DaemonSets = valuesOf[snapshot.DaemonSet](source.store.List())
		default:
			for _, o := range valuesOf[snapshot.Object](source.store.List()) {
				e.Kinds = append(e.Kinds, o.Name)
			}
		}
		r := source.reading()
		r.Objects = nil
		e.Readings[s] = r
	}
	return e
}

// platformSource is the cache of one source.
type platformSource struct {
	source   snapshot.Source
	kind     platformKind
	client   Watcher
	store    toolscache.Store
	synced   func() bool
	cancel   context.CancelFunc
	changed  func()
	mu       sync.Mutex
	versions []schema.GroupVersion // the one in use first
	problem  string
	absent   bool
}

// start begins to read a source. The caller holds the lock.
func (p *PlatformSources) start(s snapshot.Source, versions []schema.GroupVersion) {
	ctx, cancel := context.WithCancel(p.ctx)
	src := &platformSource{
		source: s, kind: platformKinds[s.Kind], client: p.client, cancel: cancel, changed: p.changed,
		versions: append([]schema.GroupVersion(nil), versions...),
	}
	notify := toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { src.changed() },
		UpdateFunc: src.updated,
		DeleteFunc: func(any) { src.changed() },
	}
	store, controller := toolscache.NewInformerWithOptions(toolscache.InformerOptions{
		ListerWatcher: steadfast(&toolscache.ListWatch{ListWithContextFunc: src.list, WatchFuncWithContext: src.watch}, new(watches).sight(src.kind.newObject())),
		ObjectType:    src.kind.newObject(),
		Handler:       notify,
		Transform:     trimToValue(s.Kind),
	})
	src.store, src.synced = store, controller.HasSynced
	p.running[s] = src
	go controller.RunWithContext(ctx)
	go func() {
		if toolscache.WaitForCacheSync(ctx.Done(), controller.HasSynced) {
			src.changed()
		}
	}()
}

// updated drops updates of what nobody looks at, such as the kubelets' status of every node every few minutes.
func (s *platformSource) updated(before, after any) {
	o, okBefore := before.(*item)
	n, okAfter := after.(*item)
	if okBefore && okAfter && sameValue(o.value, n.value) {
		return
	}
	s.changed()
}

func (s *platformSource) options(o metav1.ListOptions) *client.ListOptions {
	out := &client.ListOptions{Namespace: s.source.Namespace, Raw: &o, Limit: o.Limit, Continue: o.Continue}
	switch {
	case s.source.Selector != "": // Name is that of the DaemonSet, for people
		if selector, err := labels.Parse(s.source.Selector); err == nil {
			out.LabelSelector = selector
		} else {
			out.LabelSelector = labels.Nothing()
		}
	case s.source.Name != "":
		out.FieldSelector = fields.OneTermEqualSelector("metadata.name", s.source.Name)
	}
	return out
}

func (s *platformSource) list(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	var list client.ObjectList
	err := s.attempt(func(v schema.GroupVersion) error {
		list = s.kind.newList(s.source.Kind, v)
		return s.client.List(ctx, list, s.options(o))
	})
	return list, err
}

func (s *platformSource) watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	var w watch.Interface
	err := s.attempt(func(v schema.GroupVersion) error {
		var err error
		w, err = s.client.Watch(ctx, s.kind.newList(s.source.Kind, v), s.options(o))
		return err
	})
	return w, err
}

// attempt makes a request in the first version that is served, and remembers how it went.
func (s *platformSource) attempt(request func(schema.GroupVersion) error) error {
	s.mu.Lock()
	versions := s.versions
	s.mu.Unlock()
	var err error
	for i, v := range versions {
		if err = request(v); !apierrors.IsNotFound(err) && !apimeta.IsNoMatchError(err) {
			versions = append(append([]schema.GroupVersion{v}, versions[:i]...), versions[i+1:]...)
			break
		}
	}
	s.note(versions, err)
	return err
}

// note remembers the outcome of a request. A cache that was filled once outlives a lost connection, as every other does; a
// right that was taken away does not.
func (s *platformSource) note(versions []schema.GroupVersion, err error) {
	absent := apierrors.IsNotFound(err)
	problem := ""
	switch {
	case err == nil, absent:
	case apierrors.IsForbidden(err):
		problem = fmt.Sprintf("the operator has no right to list and watch %s. Apply the roles of its release: kubectl apply --server-side -k config/rbac", s.resource())
	case apierrors.IsInvalid(err), s.synced(): // Invalid: the server cannot stream lists; the next request is a plain one
	case apierrors.ReasonForError(err) == metav1.StatusReasonUnknown:
		problem = "the API server does not answer"
	default:
		problem = "the API server answers " + string(apierrors.ReasonForError(err))
	}
	s.mu.Lock()
	same := s.problem == problem && s.absent == absent
	s.versions, s.problem, s.absent = versions, problem, absent
	s.mu.Unlock()
	if !same {
		s.changed()
	}
}

// resource names what a role would have to allow.
func (s *platformSource) resource() string {
	text := s.kind.plural
	if g := s.kind.versions[0].Group; g != "" {
		text += "." + g
	}
	if s.source.Name != "" && s.source.Selector == "" {
		text += " named " + s.source.Name
	}
	return text
}

func (s *platformSource) reading() snapshot.Reading {
	s.mu.Lock()
	r := snapshot.Reading{Problem: s.problem, Absent: s.absent}
	s.mu.Unlock()
	switch {
	case r.Problem != "", r.Absent:
	case !s.synced():
		r.Pending = true
	default:
		r.Objects = valuesOf[snapshot.Object](s.store.List())
	}
	return r
}
