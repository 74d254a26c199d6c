// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package outages_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
	"github.com/pcinetwork/pci-network-baseline/test/site"
)

const baselineName = "outage"

var denyName, dnsName = site.Deny(baselineName), site.DNS(baselineName)

// keeper runs an operator as the kubelet would: one that ends is started again, at once the first time, then 10 s later.
type keeper struct {
	mu       sync.Mutex
	operator *site.Operator
	restarts atomic.Int64
	crashed  atomic.Bool // of late
}

// fresh has the next restart come at once, as after a while in which all went well.
func (k *keeper) fresh() { k.crashed.Store(false) }

func keepOperator(t *testing.T, p *proxy) *keeper {
	t.Helper()
	k := &keeper{}
	launch := func() error { // fails while the API server itself is away, which gives the token
		o, err := env.Launch(t.Context(), &p.server)
		if err != nil {
			return err
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.operator = o
		return nil
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	if err := launch(); err != nil {
		t.Fatal(err)
	}
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-k.now().Done():
			}
			if k.crashed.Swap(true) {
				select {
				case <-stop:
					return
				case <-time.After(10 * time.Second):
				}
			}
			k.restarts.Add(1)
			if _, err := eventually.Within(t.Context(), eventually.Patience, launch); err != nil {
				t.Error(err)
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		wait.Wait()
		k.now().Kill()
		if t.Failed() {
			t.Logf("end of the operator's log:\n%s", k.now().Tail())
		}
	})
	return k
}

func (k *keeper) now() *site.Operator {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.operator
}

func createBaseline(t *testing.T) {
	t.Helper()
	b := site.NewBaseline(baselineName)
	b.Spec.Admission.TamperGuard = pcinetv1alpha1.AdmissionOff // or nothing could be changed
	if err := env.Client.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// world is the namespaces of one test, half of which are there before it.
type world struct {
	recorder *site.Recorder
	mark     int64
	changes  int
	// scope are the namespaces that must be protected in the end; opened those whose deny we delete; ideal the writes that
	// the changes ask for, at least.
	scope  []string
	opened map[string]bool
	ideal  int
}

// changes is how many changes a world sees.
func changes() int {
	if site.Full() {
		return 40
	}
	return 20
}

// newWorlds makes the namespaces that are there before, and waits until all is at rest.
func newWorlds(t *testing.T, count int) []*world {
	t.Helper()
	var worlds []*world
	var present []string
	for n := range count {
		w := &world{opened: map[string]bool{}}
		worlds = append(worlds, w)
		for i := range changes() {
			name := fmt.Sprintf("world%d-%d", n, i)
			w.scope = append(w.scope, name)
			if kindOf(i) != creation {
				present = append(present, name)
				w.create(t, name)
			}
		}
	}
	if _, err := eventually.Within(t.Context(), eventually.Patience, func() error { return env.Protected(t.Context(), baselineName, present...) }); err != nil {
		t.Fatal(err)
	}
	if err := env.Rest(t.Context()); err != nil {
		t.Fatal(err)
	}
	return worlds
}

// begin records from now on.
func (w *world) begin(t *testing.T) {
	t.Helper()
	var err error
	if w.recorder, err = env.Record(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.recorder.Stop)
	if w.mark, err = env.Audit.Mark(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (w *world) create(t *testing.T, name string) {
	t.Helper()
	_, err := eventually.Within(t.Context(), eventually.Patience, func() error {
		return env.Client.Create(t.Context(), site.NewNamespace(name, baselineName))
	})
	if err != nil {
		t.Error(err)
	}
}

// The kinds of change.
const (
	creation = iota
	denyDeleted
	denyEdited
	allowanceDeleted
	recreation
	kinds
)

func kindOf(change int) int { return change % kinds }

// change changes the world for as long as a fault lasts. It does so beside the fault. Ideal is a create for each policy that
// is not there, an update for each that was edited, and one coverage for each namespace with new policies.
func (w *world) change(t *testing.T) {
	t.Helper()
	var wait sync.WaitGroup
	defer wait.Wait()
	for i, name := range w.scope {
		switch kindOf(i) {
		case creation:
			wait.Go(func() { w.create(t, name) })
			w.ideal += 3
		case denyDeleted:
			w.opened[name] = true
			wait.Go(func() { w.deletePolicy(t, name, denyName) })
			w.ideal += 2
		case allowanceDeleted:
			wait.Go(func() { w.deletePolicy(t, name, dnsName) })
			w.ideal += 2
		case denyEdited:
			wait.Go(func() { w.open(t, name) })
			w.ideal++
		case recreation:
			wait.Go(func() { w.recreate(t, name) })
			w.ideal += 3
		}
		w.changes++
		time.Sleep(duration() / time.Duration(len(w.scope)))
	}
}

func (w *world) deletePolicy(t *testing.T, namespace, name string) {
	t.Helper()
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if _, err := eventually.Within(t.Context(), eventually.Patience, func() error { return env.Client.Delete(t.Context(), policy) }); err != nil {
		t.Error(err)
	}
}

// open has the deny let everything in.
func (w *world) open(t *testing.T, namespace string) {
	t.Helper()
	_, err := eventually.Within(t.Context(), eventually.Patience, func() error {
		policy := &networkingv1.NetworkPolicy{}
		if err := env.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: denyName}, policy); err != nil {
			return err
		}
		policy.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
		return env.Client.Update(t.Context(), policy, client.FieldOwner("mallory"))
	})
	if err != nil {
		t.Error(err)
	}
}

// recreate deletes a namespace and makes another one of its name as soon as that can be.
func (w *world) recreate(t *testing.T, name string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if _, err := eventually.Within(t.Context(), eventually.Patience, func() error { return client.IgnoreNotFound(env.Client.Delete(t.Context(), ns)) }); err != nil {
		t.Error(err)
	}
	_, err := eventually.Within(t.Context(), eventually.Patience, func() error {
		if err := env.Client.Get(t.Context(), client.ObjectKey{Name: name}, ns); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	w.create(t, name)
}

// converge waits until all is right, and returns how long after the fault's end that was.
func (w *world) converge(t *testing.T, k *keeper) time.Duration {
	t.Helper()
	took, err := eventually.Within(t.Context(), eventually.Patience, func() error { return w.right(t) })
	if err != nil {
		t.Fatalf("%v; end of the operator's log:\n%s", err, k.now().Tail())
	}
	if took > convergence {
		t.Errorf("it took %s after the fault", took)
	}
	return took
}

// right returns an error unless every namespace in scope has its policies, and a coverage that is about them.
func (w *world) right(t *testing.T) error {
	t.Helper()
	return env.Protected(t.Context(), baselineName, w.scope...)
}

// judge checks what was written and recorded, and returns the successful writes and the ideal.
func (w *world) judge(t *testing.T) (writes, ideal int) {
	t.Helper()
	if err := env.Rest(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := env.Audit.Writes(t.Context(), w.mark)
	if err != nil {
		t.Fatal(err)
	}
	per := map[string]int{}
	for _, r := range all {
		switch {
		case !r.Landed():
		case r.Object.Resource == "pcinetworkbaselines": // its status follows the counts, at most every 2 s
		case r.Verb == "delete":
			t.Errorf("the operator deleted: %s", r)
		default:
			per[r.Object.Resource+" "+r.Verb]++
			writes++
		}
	}
	if float64(writes) > 1.1*float64(w.ideal) {
		t.Errorf("%d writes, ideal are %d: %v", writes, w.ideal, per)
	}
	lives, err := w.recorder.Lives(t.Context(), baselineName)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lives {
		if w.opened[l.Namespace] {
			l.Lost, l.Denies = l.Lost-1, l.Denies-1
		}
		if err := l.Sound(); err != nil {
			t.Error(err)
		}
	}
	return writes, w.ideal
}
