// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"errors"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// watches knows which kinds of a cache are not watched. Of those the cache shows what was, however long ago. The end of a watch
// and its next beginning are a moment apart, so who asks should let some seconds pass.
type watches struct {
	mu     sync.Mutex
	sights map[reflect.Type][]*sight // a kind that is cached in some namespaces alone has one for each
	open   int                       // of all kinds
	// heard is when the API server was last known to be there: something was watched, or it answered.
	heard time.Time
}

// sight is the watch behind one informer. Guarded by watches.mu.
type sight struct {
	all *watches
	// open is how many there are: for an instant a new one beside the one that ends.
	open int
	// lost is since when there is none, if there is none, and cause the API server's last answer.
	lost  time.Time
	cause error
}

// newInformer returns an informer that looks within 3 s of the end of an outage, however long that was.
func (a *watches) newInformer(lw toolscache.ListerWatcher, obj runtime.Object, resync time.Duration, indexers toolscache.Indexers) toolscache.SharedIndexInformer {
	return toolscache.NewSharedIndexInformer(steadfast(lw, a.sight(obj)), obj, resync, indexers)
}

func (a *watches) sight(obj runtime.Object) *sight {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := &sight{all: a, lost: clock.RealClock{}.Now()}
	if a.sights == nil {
		a.sights, a.heard = map[reflect.Type][]*sight{}, s.lost
	}
	kind := reflect.TypeOf(obj)
	a.sights[kind] = append(a.sights[kind], s)
	return s
}

// forget drops a kind that is not cached any more.
func (a *watches) forget(obj runtime.Object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sights, reflect.TypeOf(obj))
}

// Unwatched returns for how long the kind of obj has not been watched, and the API server's last answer, if there was one.
func (a *watches) Unwatched(obj runtime.Object) (since time.Duration, cause error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := clock.RealClock{}.Now()
	for _, s := range a.sights[reflect.TypeOf(obj)] {
		if s.open == 0 && now.Sub(s.lost) >= since {
			since, cause = now.Sub(s.lost), s.cause
		}
	}
	return since, cause
}

// Silence returns for how long no API server has answered. Unwatched does not count that time.
func (a *watches) Silence() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open > 0 || a.heard.IsZero() {
		return 0
	}
	return clock.RealClock{}.Since(a.heard)
}

func (s *sight) began() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.all.open++
	s.open++
	s.cause = nil
}

func (s *sight) ended() {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.all.open--
	s.open--
	s.lost = clock.RealClock{}.Now()
	s.all.heard = s.lost
}

// failed notes that a watch or a list was refused. An API server that does not answer, and watches nothing for us, is away: who
// counted that time would tell the first that comes back of watches that begin again in the next seconds.
func (s *sight) failed(err error) {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	s.cause = err
	now := clock.RealClock{}.Now()
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		s.all.heard = now
	} else if s.all.open == 0 {
		s.lost = now
	}
}
