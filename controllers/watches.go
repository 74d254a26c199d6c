// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/sets"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/pcinetwork/pci-network-baseline/internal/facts"
	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
)

const (
	// blindAfter is how long a kind may be unwatched before reports say so. A watch that broke is back within 3 s of the API server,
	// also when another one takes over, and one that has just started refuses watches for a few seconds more.
	blindAfter = 10 * time.Second
	// unreadyAfter is how long until the replica is not ready any more, also if it reaches no API server at all: of that no status
	// says anything, for who could write it leads no more. It is never restarted for it: that would not help, and it still repairs
	// what it sees. Nothing is sent to a replica for being ready, so an outage that makes all of them unready takes nothing away.
	unreadyAfter = 30 * time.Second
	// lookAtWatches is how often.
	lookAtWatches = time.Second
	// disownLast bounds how long it is until what the last process called well is taken back again: meanwhile another replica may
	// have led and gone, or the API server not have let us.
	disownLast = 10 * time.Second
)

// Watches tell when a kind that reports are made of is not watched: what its cache shows may no longer be true. The zero value has
// no cache.
type Watches struct {
	cache      watchedCache
	scheme     *runtime.Scheme
	backends   *Backends
	admissions *AdmissionReconciler
	metrics    *metrics.Metrics
	changed    topic
	// disown takes back what the last process left of a status.
	disown func(context.Context, blindness) error

	// Of Start, of which there is one.
	measured sets.Set[string] // resources
	again    pause            // until disown
}

// pause is a time to wait, and how long it was in full; each is twice as long as the one before.
type pause struct{ left, length time.Duration }

// over says whether it is, when some more time has passed, and then begins the next.
func (p *pause) over(passed time.Duration) bool {
	if p.left -= passed; p.left > 0 {
		return false
	}
	p.length = min(max(2*p.length, lookAtWatches), disownLast)
	p.left = p.length
	return true
}

// watchedCache is what facts.NewCache makes.
type watchedCache interface {
	cache.Cache
	Unwatched(obj runtime.Object) (time.Duration, error)
	Silence() time.Duration
}

func newWatches(mgr ctrl.Manager, backends *Backends, admissions *AdmissionReconciler, m *metrics.Metrics) (*Watches, error) {
	c, ok := mgr.GetCache().(watchedCache)
	if !ok {
		return nil, errors.New("the manager was not made by NewManager")
	}
	w := &Watches{cache: c, scheme: mgr.GetScheme(), backends: backends, admissions: admissions, metrics: m}
	return w, errors.Join(mgr.Add(w), mgr.AddReadyzCheck("watches", w.ready))
}

// blindness is what cannot be seen; the zero value for nothing.
type blindness struct {
	// resource is the first, and more how many others there are.
	resource string
	more     int
	// forbidden: the right to watch it is missing.
	forbidden bool
}

// message says what is not seen, why, and what to do.
func (b blindness) message() string {
	what := b.resource
	if b.more > 0 {
		what = fmt.Sprintf("%s and %d more", what, b.more)
	}
	if b.forbidden {
		return what + " cannot be watched: the right is missing, so changes are not seen. Restore the operator's ClusterRole from config/rbac."
	}
	return what + " cannot be watched, so changes are not seen. See the operator's log, and the API server: kubectl get --raw '/readyz?verbose'."
}

// blind returns what has not been watched for so long.
func (w *Watches) blind(after time.Duration) blindness {
	var out blindness
	for _, obj := range w.kinds() {
		since, cause := w.cache.Unwatched(obj)
		switch {
		case since < after:
		case out.resource == "":
			out = blindness{resource: w.resource(obj), forbidden: apierrors.IsForbidden(cause)}
		default:
			out.more++
		}
	}
	return out
}

// kinds are those that plans are always made of, and those of admission and of engines that are read now.
func (w *Watches) kinds() []client.Object {
	if w.cache == nil {
		return nil
	}
	out := facts.Cached()
	if w.admissions.readable.Load() {
		out = append(out, &admissionregistrationv1.ValidatingAdmissionPolicy{}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{})
	}
	w.backends.mu.RLock()
	defer w.backends.mu.RUnlock()
	for obj, k := range w.backends.kinds() {
		if k.readable && k != &w.backends.policies[0].kind {
			out = append(out, obj)
		}
	}
	return out
}

// resource names the kind of an object as kubectl does.
func (w *Watches) resource(obj client.Object) string {
	gvk, err := apiutil.GVKForObject(obj, w.scheme)
	if err != nil {
		return fmt.Sprintf("%T", obj)
	}
	plural, _ := apimeta.UnsafeGuessKindToResource(gvk)
	return plural.GroupResource().String()
}

// ready is the check of readiness.
func (w *Watches) ready(*http.Request) error {
	if w.cache.Silence() >= unreadyAfter {
		return errors.New("no API server answers, so changes are not seen. See the operator's log, and what the policies of its namespace let out")
	}
	if b := w.blind(unreadyAfter); b != (blindness{}) {
		return errors.New(b.message())
	}
	return nil
}

// GetCache has the manager start w with the caches: whoever is started after them waits for those that cannot be watched.
func (w *Watches) GetCache() cache.Cache { return w.cache }

// Start wakes the baselines whenever something else is not seen, until ctx ends. On every replica.
func (w *Watches) Start(ctx context.Context) error {
	ticker := time.NewTicker(lookAtWatches)
	defer ticker.Stop()
	for last := (blindness{}); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		w.measure()
		now := w.blind(blindAfter)
		if now != last {
			ctrl.LoggerFrom(ctx).Info("What can be watched has changed", "unwatched", now.resource, "more", now.more, "forbidden", now.forbidden)
			last, w.again = now, pause{}
			w.changed.tell()
		}
		if now != (blindness{}) && synced(ctx, w.cache) != nil && w.again.over(lookAtWatches) {
			if err := w.disown(ctx, now); err != nil {
				ctrl.LoggerFrom(ctx).Error(err, "Saying in the status what cannot be watched")
			}
		}
	}
}

func (w *Watches) measure() {
	measured := sets.New[string]()
	for _, obj := range w.kinds() {
		since, _ := w.cache.Unwatched(obj)
		w.metrics.Unwatched.WithLabelValues(w.resource(obj)).Set(since.Seconds())
		measured.Insert(w.resource(obj))
	}
	for gone := range w.measured.Difference(measured) {
		w.metrics.Unwatched.DeleteLabelValues(gone)
	}
	w.measured = measured
}
