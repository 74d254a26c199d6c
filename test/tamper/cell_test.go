// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package tamper_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
)

// groupLabel on a namespace says which baseline of these tests it is for.
const groupLabel = "example.com/group"

// role is who attacks. An attack counts for all of them, unless it says otherwise.
type role string

const (
	tenant role = "tenant"        // has the ClusterRole admin in its namespaces
	gitops role = "gitops"        // may write everything in the cluster, and applies with force
	admin  role = "cluster-admin" // is in system:masters
)

var roles = []role{tenant, gitops, admin}

// cell is one attack in one role. Each has a namespace of its own, which is protected.
type cell struct {
	*testing.T
	*site

	role role
	// mallory attacks; the site's own client looks on.
	mallory   client.WithWatch
	baseline  *pcinetv1alpha1.PCINetworkBaseline
	namespace string
	watched   *watched
}

// newCell returns a cell whose attack is yet to come. Unless shared it has a baseline of its own.
func (s *site) newCell(t *testing.T, id string, r role, shared *pcinetv1alpha1.PCINetworkBaseline) *cell {
	t.Helper()
	c := &cell{T: t, site: s, role: r, mallory: s.mallory(t, r), baseline: shared, namespace: id}
	if shared == nil {
		c.baseline = newBaseline(id)
		s.create(t, c.baseline)
		for _, b := range []client.Object{c.binding("tamper-guard"), c.binding("pod-gate")} {
			await(t, b.GetName()+" is there", func(ctx context.Context) error { return s.Get(ctx, keyOf(b), b) })
		}
	}
	c.createNamespace(id, c.baseline.Name)
	c.awaitState(id, pcinetv1alpha1.CoverageProtected)
	c.watched = c.follow()
	return c
}

// newBaseline returns a baseline as it is by default, but for what this cluster has not, with one allowance.
func newBaseline(name string) *pcinetv1alpha1.PCINetworkBaseline {
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: named("", name)}
	b.Spec.Namespaces.Selector = &pcinetv1alpha1.LabelSelector{MatchLabels: map[string]pcinetv1alpha1.LabelValue{groupLabel: pcinetv1alpha1.LabelValue(name)}}
	b.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone
	b.Spec.Allow.Rules = []pcinetv1alpha1.AllowRule{{
		Name: "gateway", Justification: "Card network gateway, contract 4711", Direction: pcinetv1alpha1.DirectionEgress,
		Peers: []pcinetv1alpha1.Peer{{CIDR: "192.0.2.0/28"}}, Ports: []pcinetv1alpha1.Port{{Protocol: "TCP", Port: 443}},
	}}
	return b
}

// createNamespace creates a namespace of a group ("" for none) in which the tenant is admin.
func (c *cell) createNamespace(name, group string) {
	c.Helper()
	ns := &corev1.Namespace{ObjectMeta: named("", name)}
	if group != "" {
		ns.Labels = map[string]string{groupLabel: group}
	}
	c.create(c.T, ns)
	c.create(c.T, &rbacv1.RoleBinding{
		ObjectMeta: named(name, "admin"),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: string(tenant)}},
	})
	await(c.T, "pods may be created by the tenant", func(ctx context.Context) error {
		if err := c.Get(ctx, client.ObjectKey{Namespace: name, Name: "default"}, &corev1.ServiceAccount{}); err != nil {
			return err
		}
		return c.mallory.Get(ctx, client.ObjectKey{Namespace: name, Name: "default"}, &corev1.ServiceAccount{})
	})
}

// unprotectable creates a namespace of the baseline in which a quota leaves no room for a policy.
func (c *cell) unprotectable() string {
	c.Helper()
	name := c.namespace + "-open"
	c.createNamespace(name, "")
	c.create(c.T, c.quota(name))
	c.awaitQuota(name)
	c.enter(name)
	c.awaitState(name, pcinetv1alpha1.CoverageFailing)
	return name
}

// quota leaves no room for a policy.
func (c *cell) quota(namespace string) *corev1.ResourceQuota {
	q := &corev1.ResourceQuota{ObjectMeta: named(namespace, "policies")}
	q.Spec.Hard = corev1.ResourceList{"count/networkpolicies.networking.k8s.io": resource.MustParse("0")}
	return q
}

// awaitQuota waits until admission enforces the quota: it goes by its status.
func (c *cell) awaitQuota(namespace string) {
	c.Helper()
	await(c.T, "the quota is in force", func(ctx context.Context) error {
		q := &corev1.ResourceQuota{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "policies"}, q); err != nil {
			return err
		}
		if len(q.Status.Hard) == 0 {
			return errors.New("it is not")
		}
		return nil
	})
}

// enter brings a namespace into the scope of the baseline.
func (c *cell) enter(namespace string) {
	c.Helper()
	ns := &corev1.Namespace{ObjectMeta: named("", namespace)}
	c.change(c.T, ns, func() { metav1.SetMetaDataLabel(&ns.ObjectMeta, groupLabel, c.baseline.Name) })
}

func (c *cell) denyName() string { return "pcinb-" + c.baseline.Name + "-default-deny" }

// deny returns the deny as it is.
func (c *cell) deny() *networkingv1.NetworkPolicy {
	c.Helper()
	p := &networkingv1.NetworkPolicy{ObjectMeta: named(c.namespace, c.denyName())}
	await(c.T, "the deny can be read", func(ctx context.Context) error { return c.Get(ctx, keyOf(p), p) })
	return p
}

// edit changes an object as mallory does: a GitOps controller applies with force, everybody else updates.
func (c *cell) edit(object client.Object, f func()) error {
	c.Helper()
	return within(c.T, time.Second, func(ctx context.Context) error {
		if err := c.Get(ctx, keyOf(object), object); err != nil {
			return err
		}
		f()
		if c.role != gitops {
			return c.mallory.Update(ctx, object, client.FieldOwner("mallory"))
		}
		return c.apply(ctx, object)
	})
}

// apply applies an object with force.
func (c *cell) apply(ctx context.Context, object client.Object) error {
	gvk, err := c.GroupVersionKindFor(object)
	if err != nil {
		return err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(gvk)
	for _, field := range []string{"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	return c.mallory.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("gitops"), client.ForceOwnership)
}

// patch sends a JSON merge patch.
func (c *cell) patch(object client.Object, patch string) error {
	return c.mallory.Patch(c.Context(), object, client.RawPatch("application/merge-patch+json", []byte(patch)))
}

// coverage returns the coverage of a namespace.
func (c *cell) coverage(ctx context.Context, namespace string) (*pcinetv1alpha1.NamespaceCoverage, error) {
	out := &pcinetv1alpha1.NamespaceCoverage{}
	return out, c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: c.baseline.Name}, out)
}

func (c *cell) awaitState(namespace string, state pcinetv1alpha1.CoverageState) {
	c.Helper()
	await(c.T, namespace+" is "+string(state), func(ctx context.Context) error {
		got, err := c.coverage(ctx, namespace)
		if err == nil && got.Status.State != state {
			err = fmt.Errorf("it is %s: %v", got.Status.State, got.Status.Conditions)
		}
		return err
	})
}

func (c *cell) pod(namespace string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, GenerateName: "pod-"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
}

// watched keeps every version of a namespace's NetworkPolicies.
type watched struct {
	mu      sync.Mutex
	live    map[string]*networkingv1.NetworkPolicy
	open    time.Time     // since when nothing denies; zero while something does
	longest time.Duration // without a deny
	gaps    int
}

// follow watches until the test ends.
func (c *cell) follow() *watched {
	c.Helper()
	w := &watched{live: map[string]*networkingv1.NetworkPolicy{}}
	var list networkingv1.NetworkPolicyList
	if err := c.List(c.Context(), &list, client.InNamespace(c.namespace)); err != nil {
		c.Fatal(err)
	}
	for i := range list.Items {
		w.live[list.Items[i].Name] = &list.Items[i]
	}
	events, err := c.Watch(c.Context(), &networkingv1.NetworkPolicyList{}, client.InNamespace(c.namespace),
		&client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})
	if err != nil {
		c.Fatal(err)
	}
	c.Cleanup(events.Stop)
	go func() {
		for e := range events.ResultChan() {
			w.take(e)
		}
	}()
	return w
}

func (w *watched) take(e watch.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p, ok := e.Object.(*networkingv1.NetworkPolicy)
	if !ok {
		return
	}
	w.live[p.Name] = p
	if e.Type == watch.Deleted {
		delete(w.live, p.Name)
	}
	denied := false
	for _, p := range w.live {
		denied = denied || denies(p)
	}
	switch {
	case !denied && w.open.IsZero():
		w.open = time.Now()
		w.gaps++
	case denied && !w.open.IsZero():
		w.longest = max(w.longest, time.Since(w.open))
		w.open = time.Time{}
	}
}

// denies says whether a policy selects every pod, in both directions, and allows nothing.
func denies(p *networkingv1.NetworkPolicy) bool {
	return len(p.Spec.PodSelector.MatchLabels)+len(p.Spec.PodSelector.MatchExpressions)+len(p.Spec.Ingress)+len(p.Spec.Egress) == 0 &&
		slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) && slices.Contains(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
}

// openFor waits until all that the API server has was seen, and returns the longest time without a deny.
func (c *cell) openFor() (longest time.Duration, gaps int) {
	c.Helper()
	if c.watched == nil {
		return 0, 0 // the namespace is gone
	}
	await(c.T, "the watch is complete", func(ctx context.Context) error {
		var list networkingv1.NetworkPolicyList
		if err := c.List(ctx, &list, client.InNamespace(c.namespace)); err != nil {
			return err
		}
		c.watched.mu.Lock()
		defer c.watched.mu.Unlock()
		seen := len(c.watched.live) == len(list.Items)
		for i := range list.Items {
			p := c.watched.live[list.Items[i].Name]
			seen = seen && p != nil && p.ResourceVersion == list.Items[i].ResourceVersion
		}
		if !seen {
			return errors.New("it is behind")
		}
		return nil
	})
	c.watched.mu.Lock()
	defer c.watched.mu.Unlock()
	if !c.watched.open.IsZero() {
		return time.Hour, c.watched.gaps // and still open
	}
	return c.watched.longest, c.watched.gaps
}

// reports waits until a condition of the baseline or of a coverage, or an event, says something. what is
// "Ready=False/AuditMode" or "event PolicyRepaired".
func (c *cell) reports(namespace, what string) {
	c.Helper()
	await(c.T, "there is a report "+what, func(ctx context.Context) error {
		if reason, ok := strings.CutPrefix(what, "event "); ok {
			return c.hasEvent(ctx, namespace, reason)
		}
		if namespace == "" {
			b := &pcinetv1alpha1.PCINetworkBaseline{}
			if err := c.Get(ctx, client.ObjectKey{Name: c.baseline.Name}, b); err != nil {
				return err
			}
			return hasCondition(b.Status.Conditions, what)
		}
		got, err := c.coverage(ctx, namespace)
		if err != nil {
			return err
		}
		return hasCondition(got.Status.Conditions, what)
	})
}

func hasCondition(conditions []metav1.Condition, want string) error {
	var all []string
	for _, c := range conditions {
		all = append(all, c.Type+"="+string(c.Status)+"/"+c.Reason)
	}
	if !slices.Contains(all, want) {
		return fmt.Errorf("the conditions are %v", all)
	}
	return nil
}

// hasEvent returns an error unless there is an event with a reason about the baseline or its coverage.
func (c *cell) hasEvent(ctx context.Context, namespace, reason string) error {
	var list eventsv1.EventList
	if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return err
	}
	var seen []string
	for i := range list.Items {
		if e := &list.Items[i]; e.Regarding.Name == c.baseline.Name {
			if e.Reason == reason {
				return nil
			}
			seen = append(seen, e.Reason)
		}
	}
	return fmt.Errorf("there are %v", seen)
}
