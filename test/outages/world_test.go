// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package outages_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/site"
)

const (
	baselineName = "outage"
	denyName     = "pcinb-outage-default-deny"
	dnsName      = "pcinb-outage-allow-dns"
	label        = "example.com/group"
)

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
	launch := func() bool {
		o, err := env.Launch(t.Context(), &p.server)
		if err != nil {
			t.Error(err)
			return false
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		k.operator = o
		return true
	}
	stop := make(chan struct{})
	var wait sync.WaitGroup
	if !launch() {
		t.FailNow()
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
			if _, err := site.Eventually(t.Context(), patience, func() error {
				if !launch() {
					return errors.New("it does not start")
				}
				return nil
			}); err != nil {
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

func createBaseline(t *testing.T) *pcinetv1alpha1.PCINetworkBaseline {
	t.Helper()
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: baselineName}}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{label: baselineName}}
	if err := env.Client.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	return b
}

// world is the namespaces of one test, half of which are there before it.
type world struct {
	baseline *pcinetv1alpha1.PCINetworkBaseline
	recorder *site.Recorder
	mark     int64
	changes  int
	// scope are the namespaces that must be protected in the end; opened those whose deny we delete; ideal the writes that
	// the changes ask for, at least.
	scope  []string
	opened map[string]bool
	ideal  int
}

var worlds atomic.Int64

// changesOf is how many changes a world sees.
const changesOf = 40

// newWorld makes the namespaces that are there before, and waits until all is at rest.
func newWorld(t *testing.T, b *pcinetv1alpha1.PCINetworkBaseline) *world {
	t.Helper()
	w := &world{baseline: b, opened: map[string]bool{}}
	number := worlds.Add(1)
	for i := range changesOf {
		name := fmt.Sprintf("world%d-%d", number, i)
		w.scope = append(w.scope, name)
		if kindOf(i) != creation {
			w.create(t, name)
		}
	}
	present := w.scope
	w.scope = nil
	for i, name := range present {
		if kindOf(i) != creation {
			w.scope = append(w.scope, name)
		}
	}
	if _, err := site.Eventually(t.Context(), patience, func() error { return w.right(t) }); err != nil {
		t.Fatal(err)
	}
	w.scope = present
	w.rest(t)
	var err error
	if w.recorder, err = env.Record(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.recorder.Stop)
	if w.mark, err = env.Audit.Mark(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

// rest waits until the operator has written nothing for a while.
func (w *world) rest(t *testing.T) {
	t.Helper()
	_, err := site.Eventually(t.Context(), patience, func() error {
		mark, err := env.Audit.Mark(t.Context())
		if err != nil {
			return err
		}
		time.Sleep(time.Second)
		if writes, err := env.Audit.Writes(t.Context(), mark); err != nil || len(writes) > 0 {
			return fmt.Errorf("it writes: %v, %w", writes, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) create(t *testing.T, name string) {
	t.Helper()
	_, err := site.Eventually(t.Context(), patience, func() error {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{label: baselineName}}}
		return env.Client.Create(t.Context(), ns)
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
		time.Sleep(duration() / changesOf)
	}
}

func (w *world) deletePolicy(t *testing.T, namespace, name string) {
	t.Helper()
	policy := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if _, err := site.Eventually(t.Context(), patience, func() error { return env.Client.Delete(t.Context(), policy) }); err != nil {
		t.Error(err)
	}
}

// open has the deny let everything in.
func (w *world) open(t *testing.T, namespace string) {
	t.Helper()
	_, err := site.Eventually(t.Context(), patience, func() error {
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
	if _, err := site.Eventually(t.Context(), patience, func() error { return client.IgnoreNotFound(env.Client.Delete(t.Context(), ns)) }); err != nil {
		t.Error(err)
	}
	_, err := site.Eventually(t.Context(), patience, func() error {
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
	took, err := site.Eventually(t.Context(), patience, func() error { return w.right(t) })
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
	var policies networkingv1.NetworkPolicyList
	var coverages pcinetv1alpha1.NamespaceCoverageList
	if err := errors.Join(env.Client.List(t.Context(), &policies), env.Client.List(t.Context(), &coverages)); err != nil {
		return err
	}
	live := map[string]*networkingv1.NetworkPolicy{}
	for i := range policies.Items {
		live[policies.Items[i].Namespace+"/"+policies.Items[i].Name] = &policies.Items[i]
	}
	covered := map[string]*pcinetv1alpha1.NamespaceCoverage{}
	for i := range coverages.Items {
		covered[coverages.Items[i].Namespace] = &coverages.Items[i]
	}
	for _, ns := range w.scope {
		deny, dns, coverage := live[ns+"/"+denyName], live[ns+"/"+dnsName], covered[ns]
		switch {
		case deny == nil || dns == nil || coverage == nil:
			return fmt.Errorf("namespace %s: deny %v, allowance %v, coverage %v", ns, deny != nil, dns != nil, coverage != nil)
		case len(deny.Spec.Ingress)+len(deny.Spec.Egress) > 0 || len(deny.Spec.PolicyTypes) != 2:
			return fmt.Errorf("namespace %s: the deny is open", ns)
		case coverage.Status.State != pcinetv1alpha1.CoverageProtected:
			return fmt.Errorf("namespace %s is %s", ns, coverage.Status.State)
		}
		for _, p := range coverage.Status.Policies {
			if l := live[ns+"/"+p.Name]; l == nil || string(l.UID) != p.UID {
				return fmt.Errorf("namespace %s: the coverage is about another %s", ns, p.Name)
			}
		}
	}
	return nil
}

// judge checks what was written and recorded, and returns the successful writes and the ideal.
func (w *world) judge(t *testing.T) (writes, ideal int) {
	t.Helper()
	w.rest(t)
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
	events, err := w.recorder.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ending := map[string]bool{}
	for _, e := range events {
		name := e.Object.GetName()
		switch {
		case isNamespace(e.Object):
			ending[name] = e.Object.GetDeletionTimestamp() != nil && e.Type != watch.Deleted
		case e.Type == watch.Deleted && name == denyName && !w.opened[e.Object.GetNamespace()] && !ending[e.Object.GetNamespace()]:
			t.Errorf("the deny of %s went", e.Object.GetNamespace())
		}
	}
	return writes, w.ideal
}

func isNamespace(obj client.Object) bool {
	_, ok := obj.(*corev1.Namespace)
	return ok
}
