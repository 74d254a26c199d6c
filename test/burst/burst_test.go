// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package burst_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// replicas is how many pods each Deployment asks for.
const replicas = 5

// size is how many namespaces come at once: PCINB_FAULTS=full asks for 200.
func size() int {
	if os.Getenv("PCINB_FAULTS") == "full" {
		return 200
	}
	return 20
}

// rounds are the groups whose bursts follow each other. A burst into a fuller cluster takes longer, so each comes as late as the other;
// the first is quicker than all others, and is compared with none.
func rounds() []string {
	if os.Getenv("PCINB_FAULTS") == "full" {
		return []string{"open", "gated", "open", "open", "gated", "gated", "open", "open", "gated"}
	}
	return []string{"open", "gated"}
}

// history is what became of one namespace. Versions are of one etcd, and so tell what came first; clocks tell only how long.
type history struct {
	born, denied, covered, firstPod time.Time
	deny                            int64   // 0 for none
	pods                            []int64 // in the order of their creation
}

// early counts the pods that were admitted before the deny.
func (h *history) early() int {
	n := 0
	for _, v := range h.pods {
		if h.deny == 0 || v < h.deny {
			n++
		}
	}
	return n
}

// recorder keeps the history of every namespace from what watches tell.
type recorder struct {
	mu         sync.Mutex
	namespaces map[string]*history
	broken     error
}

// record records what comes from now on, until the context ends.
func record(ctx context.Context, t *testing.T, s *site) *recorder {
	t.Helper()
	r := &recorder{namespaces: map[string]*history{}}
	for _, list := range []client.ObjectList{
		&corev1.NamespaceList{}, &networkingv1.NetworkPolicyList{}, &pcinetv1alpha1.NamespaceCoverageList{}, &corev1.PodList{},
	} {
		if err := s.List(ctx, list); err != nil {
			t.Fatal(err)
		}
		go r.follow(ctx, s, list)
	}
	return r
}

// follow watches a kind. The API server ends the watch of whoever reads too slowly; the next one goes on where it ended.
func (r *recorder) follow(ctx context.Context, s *site, list client.ObjectList) {
	for version := list.GetResourceVersion(); ctx.Err() == nil; {
		w, err := s.Watch(ctx, list, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version}})
		if err != nil {
			r.fail(err)
			return
		}
		for event := range w.ResultChan() {
			object, ok := event.Object.(client.Object)
			if !ok {
				r.fail(fmt.Errorf("a watch says %v", event.Object))
				w.Stop()
				return
			}
			version = object.GetResourceVersion()
			switch {
			case event.Type == watch.Added:
				r.add(object)
			case event.Type == watch.Deleted && isDeny(object):
				r.fail(fmt.Errorf("the deny of %s was deleted", object.GetNamespace()))
			}
		}
	}
}

func (r *recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = errors.Join(r.broken, err)
}

func (r *recorder) add(object client.Object) {
	now := time.Now()
	version, err := strconv.ParseInt(object.GetResourceVersion(), 10, 64)
	if err != nil {
		r.fail(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch object.(type) {
	case *corev1.Namespace:
		r.of(object.GetName()).born = now
	case *networkingv1.NetworkPolicy:
		if isDeny(object) {
			h := r.of(object.GetNamespace())
			h.deny, h.denied = version, now
		}
	case *pcinetv1alpha1.NamespaceCoverage:
		r.of(object.GetNamespace()).covered = now // nothing held these writes back: the first says that the deny is in place
	case *corev1.Pod:
		h := r.of(object.GetNamespace())
		if len(h.pods) == 0 {
			h.firstPod = now
		}
		h.pods = append(h.pods, version)
	}
}

// of returns the history of a namespace; the watches know of no order between them.
func (r *recorder) of(namespace string) *history {
	if r.namespaces[namespace] == nil {
		r.namespaces[namespace] = &history{}
	}
	return r.namespaces[namespace]
}

func isDeny(object client.Object) bool {
	_, policy := object.(*networkingv1.NetworkPolicy)
	return policy && strings.HasSuffix(object.GetName(), "-default-deny")
}

// outcome sums a burst up.
type outcome struct {
	pods, early int
	// Of each namespace, from its creation to its deny, its coverage and its first pod.
	denied, covered, started []time.Duration
	// refused counts pods that were turned down, by the gate and by others.
	gate, others int
}

// burst creates n namespaces of a group, each with its Deployment, and waits until all their pods are there. During tells what
// happens after the last was created; nil for nothing.
func (s *site) burst(t *testing.T, group, name string, n int, during func()) outcome {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	r := record(ctx, t, s)
	const creators = 16
	var wg sync.WaitGroup
	errs := make([]error, creators)
	for c := range creators {
		wg.Go(func() {
			for i := c; i < n && errs[c] == nil; i += creators {
				errs[c] = s.deploy(t.Context(), fmt.Sprintf("%s-%d", name, i), group)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if during != nil {
		during()
	}
	var out outcome
	eventually.That(t, "all pods are there, and denied", func() (err error) {
		out, err = r.sum(name, n)
		return err
	})
	if err := s.refusals(name, &out); err != nil {
		t.Fatal(err)
	}
	s.settle(t, group)
	return out
}

// settle waits until the controller manager has done its work for a group, lest the next burst waits for it.
func (s *site) settle(t *testing.T, group string) {
	t.Helper()
	eventually.That(t, "the Deployments know of their pods", func() error {
		var all appsv1.DeploymentList
		if err := s.List(t.Context(), &all, client.MatchingLabels{groupLabel: group}); err != nil {
			return err
		}
		for i := range all.Items {
			if d := &all.Items[i]; d.Status.UpdatedReplicas != replicas {
				return fmt.Errorf("%s knows of %d pods", d.Namespace, d.Status.UpdatedReplicas)
			}
		}
		return nil
	})
}

// refusals counts the pods that were turned down in a burst's namespaces, from the API server's audit log.
func (s *site) refusals(name string, out *outcome) error {
	log, err := os.Open(s.audit)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var request struct {
			Verb           string
			ObjectRef      struct{ Resource, Subresource, Namespace string }
			ResponseStatus struct {
				Code    int
				Message string
			}
		}
		if json.Unmarshal(lines.Bytes(), &request) != nil {
			break // it is being written
		}
		of := request.ObjectRef
		switch {
		case request.Verb != "create" || of.Resource != "pods" || of.Subresource != "" || !strings.HasPrefix(of.Namespace, name+"-") ||
			request.ResponseStatus.Code < 400:
		case strings.Contains(request.ResponseStatus.Message, "pcinb-pod-gate"):
			out.gate++
		default:
			out.others++
		}
	}
	return lines.Err()
}

// deploy creates a namespace and a Deployment in it, at once.
func (s *site) deploy(ctx context.Context, namespace, group string) error {
	meta := metav1.ObjectMeta{Name: namespace, Labels: map[string]string{groupLabel: group}}
	if err := s.Create(ctx, &corev1.Namespace{ObjectMeta: meta}); err != nil {
		return err
	}
	labels := map[string]string{"app": "web"}
	return s.Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web", Labels: map[string]string{groupLabel: group}},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(replicas)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
			},
		},
	})
}

func (r *recorder) sum(name string, n int) (outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out outcome
	for i := range n {
		h := r.of(fmt.Sprintf("%s-%d", name, i))
		if len(h.pods) < replicas || h.deny == 0 || h.born.IsZero() || h.covered.IsZero() {
			return out, errors.Join(r.broken, fmt.Errorf("namespace %s-%d has %d pods, and its deny version %d", name, i, len(h.pods), h.deny))
		}
		out.pods += len(h.pods)
		out.early += h.early()
		out.denied = append(out.denied, h.denied.Sub(h.born))
		out.covered = append(out.covered, h.covered.Sub(h.born))
		out.started = append(out.started, h.firstPod.Sub(h.born))
	}
	return out, r.broken
}

func (o outcome) String() string {
	at := func(waits []time.Duration) string {
		slices.Sort(waits)
		of := func(percent int) float64 { return waits[(len(waits)-1)*percent/100].Seconds() }
		return fmt.Sprintf("%.2f %.2f %.2f", of(50), of(90), of(99))
	}
	return fmt.Sprintf("%d pods, %d before the deny; p50 p90 p99 in s: first pod %s, deny %s, coverage %s; refused by the gate %d, by others %d",
		o.pods, o.early, at(o.started), at(o.denied), at(o.covered), o.gate, o.others)
}

// createBaseline creates a baseline for the group of its name.
func (s *site) createBaseline(t *testing.T, name string, gate pcinetv1alpha1.AdmissionMode) {
	t.Helper()
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: name}}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{groupLabel: pcinetv1alpha1.LabelValue(name)}}
	b.Spec.Admission.PodGate = gate
	if err := s.Create(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// awaitGate waits until the API server refuses a pod of the group for want of a coverage, while the operator is held.
func (s *site) awaitGate(t *testing.T, group string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "probe-" + group, Labels: map[string]string{groupLabel: group}}}
	if err := s.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	eventually.That(t, "the gate is shut", func() error {
		err := s.Create(t.Context(), pod(namespace.Name), client.DryRunAll)
		if err != nil && strings.Contains(err.Error(), "pcinb-pod-gate") {
			return nil
		}
		return fmt.Errorf("a pod is answered with %v", err) //nolint:errorlint // nil is one of the answers
	})
}

// TestBurst has the operator keep up, and then held until pods had their chance: with the gate none of them may be there before
// the deny, and without it those must be seen that got in. It times nothing: it prints how long first pods took.
func TestBurst(t *testing.T) {
	s := newSite(t)
	operator := s.operate(t)
	s.createBaseline(t, "gated", pcinetv1alpha1.AdmissionEnforce)
	s.createBaseline(t, "open", pcinetv1alpha1.AdmissionOff)
	s.awaitBinding(t, "pcinb-gated-pod-gate")
	signal(t, operator, syscall.SIGSTOP)
	s.awaitGate(t, "gated")
	signal(t, operator, syscall.SIGCONT)

	for i, group := range rounds() {
		out := s.burst(t, group, fmt.Sprintf("%s-quick%d", group, i), size(), nil)
		t.Logf("%s, the operator keeps up: %s", group, out)
		if group == "gated" && out.early > 0 {
			t.Errorf("%d of %d pods were admitted before the deny of their namespace", out.early, out.pods)
		}
	}
	for _, group := range []string{"open", "gated"} {
		signal(t, operator, syscall.SIGSTOP)
		out := s.burst(t, group, group+"-held", size(), func() {
			time.Sleep(2 * time.Second)
			signal(t, operator, syscall.SIGCONT)
		})
		t.Logf("%s, the operator is held for 2 s: %s", group, out)
		switch {
		case group == "gated" && out.early > 0:
			t.Errorf("%d of %d pods were admitted before the deny of their namespace", out.early, out.pods)
		case group == "gated" && out.gate == 0:
			t.Error("the gate has held no pod: this test proves nothing")
		case group == "open" && out.early == 0:
			t.Error("without the gate no pod was early: this test could not fail")
		}
	}
}

func (s *site) awaitBinding(t *testing.T, name string) {
	t.Helper()
	eventually.That(t, name+" is there", func() error {
		return s.Get(t.Context(), client.ObjectKey{Name: name}, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{})
	})
}
