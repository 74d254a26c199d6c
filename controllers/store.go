// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/checks"
)

// Record is what the namespace reconciler last found in one namespace for one baseline.
type Record struct {
	// Generation of the baseline that the record is about, and the baseline's UID.
	Generation int64
	UID        types.UID
	// Sequence is the number of the platform's observation that was used.
	Sequence int64
	// State is empty for a namespace that is out of scope, or released after the baseline was deleted.
	State pcinetv1alpha1.CoverageState
	// Stalled says that only a human can fix it.
	Stalled bool
	// Worst is the finding to show when the namespace is not as it should be; zero otherwise.
	Worst checks.Finding
	// Widening says which policy of somebody else undoes the deny; empty when none does.
	Widening string
}

func (r Record) offends() bool { return r.Worst.Reason != "" }

// Store holds the latest record of every namespace and baseline, and their sums. It is what the baseline reconciler
// aggregates instead of listing namespaces: an update costs O(1), a Tally the number of offending namespaces.
// It is rebuilt from the initial list after a restart.
type Store struct {
	mu      sync.Mutex
	changed func(baseline string)
	// born holds when a namespace's creation was seen, until it was looked at.
	born       map[string]time.Time
	namespaces map[string]map[string]Record // by namespace, then baseline
	baselines  map[string]*sums
}

// version is one generation of one baseline; a baseline made anew under the same name has another UID.
type version struct {
	uid        types.UID
	generation int64
}

func (r Record) version() version { return version{r.UID, r.Generation} }

type sums struct {
	versions  map[version]int
	states    map[pcinetv1alpha1.CoverageState]int
	offenders map[string]Record
}

// Tally is the sum of a baseline's records.
type Tally struct {
	// Behind counts namespaces that have not reported on the asked generation yet.
	Behind int
	States map[pcinetv1alpha1.CoverageState]int
	// Offenders holds every offending namespace, the worst first.
	Offenders []Offender
}

// Offender is one namespace that is not as it should be.
type Offender struct {
	Namespace string
	Record
}

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		changed:    func(string) {},
		born:       map[string]time.Time{},
		namespaces: map[string]map[string]Record{},
		baselines:  map[string]*sums{},
	}
}

// OnChange has f called, outside the lock, with the name of a baseline whose sums have changed.
func (s *Store) OnChange(f func(baseline string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = f
}

func (s *Store) notify(baselines ...string) {
	s.mu.Lock()
	f := s.changed
	s.mu.Unlock()
	for _, b := range baselines {
		f(b)
	}
}

// Expect says that a namespace exists, so that no baseline is complete without its report.
func (s *Store) Expect(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.namespaces[namespace] == nil {
		s.namespaces[namespace] = map[string]Record{}
	}
}

// Born notes when a namespace's creation was seen. It is not expected yet: its report is milliseconds away, and a cluster
// that makes namespaces all the time would otherwise never be complete.
func (s *Store) Born(namespace string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.born[namespace] = at
}

// BornAt returns when the namespace's creation was seen; zero when it was there before, or was looked at already.
func (s *Store) BornAt(namespace string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.born[namespace]
}

// Grown ends what Born began: what happens to the namespace from now on has nothing to do with its creation.
func (s *Store) Grown(namespace string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.born, namespace)
}

// Last returns the latest record of a namespace for a baseline; zero when there is none.
func (s *Store) Last(namespace, baseline string) Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.namespaces[namespace][baseline]
}

// Set records what was found.
func (s *Store) Set(namespace, baseline string, r Record) {
	if s.set(namespace, baseline, r) {
		s.notify(baseline)
	}
}

func (s *Store) set(namespace, baseline string, r Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	records := s.namespaces[namespace]
	if records == nil {
		records = map[string]Record{}
		s.namespaces[namespace] = records
	}
	old, had := records[baseline]
	if had && old == r {
		return false
	}
	if had {
		s.subtract(namespace, baseline, old)
	}
	records[baseline] = r
	t := s.baselines[baseline]
	if t == nil {
		t = &sums{versions: map[version]int{}, states: map[pcinetv1alpha1.CoverageState]int{}, offenders: map[string]Record{}}
		s.baselines[baseline] = t
	}
	t.versions[r.version()]++
	t.states[r.State]++
	if r.offends() {
		t.offenders[namespace] = r
	}
	return true
}

func (s *Store) subtract(namespace, baseline string, r Record) {
	t := s.baselines[baseline]
	if t.versions[r.version()]--; t.versions[r.version()] == 0 {
		delete(t.versions, r.version())
	}
	t.states[r.State]--
	delete(t.offenders, namespace)
}

// ForgetNamespace drops a namespace that is gone.
func (s *Store) ForgetNamespace(namespace string) {
	s.mu.Lock()
	var changed []string
	for baseline, r := range s.namespaces[namespace] {
		s.subtract(namespace, baseline, r)
		changed = append(changed, baseline)
	}
	delete(s.namespaces, namespace)
	delete(s.born, namespace)
	s.mu.Unlock()
	s.notify(changed...)
}

// ForgetBaseline drops a baseline that is gone. Cost: the number of namespaces, once in a baseline's life.
func (s *Store) ForgetBaseline(baseline string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, records := range s.namespaces {
		delete(records, baseline)
	}
	delete(s.baselines, baseline)
}

// Tally sums up what is known of a baseline as of its present generation.
func (s *Store) Tally(b *pcinetv1alpha1.PCINetworkBaseline) Tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := Tally{Behind: len(s.namespaces), States: map[pcinetv1alpha1.CoverageState]int{}}
	known := s.baselines[b.Name]
	if known == nil {
		return t
	}
	t.Behind -= known.versions[version{b.UID, b.Generation}]
	for state, n := range known.states {
		if state != "" && n > 0 {
			t.States[state] = n
		}
	}
	for name, r := range known.offenders {
		t.Offenders = append(t.Offenders, Offender{Namespace: name, Record: r})
	}
	slices.SortFunc(t.Offenders, func(a, b Offender) int {
		return cmp.Or(cmp.Compare(severity(a.State), severity(b.State)), cmp.Compare(a.Namespace, b.Namespace))
	})
	return t
}

// severity orders states, the worst first.
func severity(s pcinetv1alpha1.CoverageState) int {
	return slices.Index([]pcinetv1alpha1.CoverageState{
		pcinetv1alpha1.CoverageFailing,
		pcinetv1alpha1.CoverageContested,
		pcinetv1alpha1.CoveragePending,
		pcinetv1alpha1.CoverageProtected,
		pcinetv1alpha1.CoverageTerminating,
	}, s)
}
