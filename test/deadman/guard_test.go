// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package deadman_test

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/pcinetwork/pci-network-baseline/internal/deadman"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
)

const (
	operator     = "pci-network-baseline"
	operatorHome = "pci-network-baseline-system"
	round        = 200 * time.Millisecond
	limit        = 4 * time.Second
)

// hosts is the policy that the role in enforce names: of the baseline in config/samples.
var hosts = render.Name("cardholder-data", "hosts")

// guard lets a man be on guard until the test ends.
func guard(t *testing.T, config *rest.Config, change func(*deadman.Options)) {
	t.Helper()
	opts := deadman.Options{Engine: "cilium", Policy: hosts, Guard: deadman.Namespace, Node: "n1", Limit: limit, Round: round}
	if change != nil {
		change(&opts)
	}
	m, err := deadman.New(config, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.Guard(ctx)
	}()
	t.Cleanup(func() { end(); <-done })
}

func (s *site) lease(t *testing.T, name string) *coordinationv1.Lease {
	t.Helper()
	lease := &coordinationv1.Lease{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: deadman.Namespace, Name: name}, lease); err != nil {
		t.Fatal(err)
	}
	return lease
}

// reset gives the pulse's Lease back the state in which it was applied. A write of who was on guard before may still be under way.
func (s *site) reset(t *testing.T) {
	t.Helper()
	eventually(t, func() bool {
		lease := s.lease(t, deadman.PulseLease)
		lease.Spec, lease.Annotations = coordinationv1.LeaseSpec{}, nil
		err := s.Update(t.Context(), lease)
		if err != nil && !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
		return err == nil
	})
}

// renew renews the operator's Lease as the operator until the test ends, or until it is stopped.
func (s *site) renew(t *testing.T) (stop func()) {
	t.Helper()
	config, _, err := s.cluster.ConfigFor("system:serviceaccount:" + operatorHome + ":" + operator)
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			lease := &coordinationv1.Lease{}
			err := c.Get(ctx, client.ObjectKey{Namespace: deadman.Namespace, Name: deadman.OperatorLease}, lease)
			if err == nil {
				lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now()}
				err = c.Update(ctx, lease)
			}
			if err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			time.Sleep(round)
		}
	}()
	stop = func() { end(); <-done }
	t.Cleanup(stop)
	return stop
}

// awaitGone returns how long the policy goes on living.
func (s *site) awaitGone(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	for s.exists(t, hosts) {
		if time.Since(began) > patience {
			t.Fatal("it is still there")
		}
		time.Sleep(round / 2)
	}
	return time.Since(began)
}

func (s *site) wantAlive(t *testing.T, span time.Duration) {
	t.Helper()
	for began := time.Now(); time.Since(began) < span; time.Sleep(round) {
		if !s.exists(t, hosts) {
			t.Fatalf("gone after %s", time.Since(began))
		}
	}
}

func TestGuard(t *testing.T) {
	s := newSite(t, "hostfirewall/enforce")
	t.Run("the overlay", s.testOverlay)
	t.Run("silence", s.testSilence)
	t.Run("pulse", s.testPulse) // takes a right away at last
}

func (s *site) testSilence(t *testing.T) {
	t.Run("after a silence he takes the policy back, and the next one too", func(t *testing.T) {
		s.place(t, "somebody-elses")
		s.place(t, hosts)
		guard(t, s.man, nil)
		if lived := s.awaitGone(t); lived < limit-round {
			t.Errorf("after %s", lived)
		}
		time.Sleep(2 * time.Second) // until he has looked again, and is sure
		s.place(t, hosts)
		if lived := s.awaitGone(t); lived < limit/2 {
			t.Errorf("the next one after %s", lived)
		}
		if !s.exists(t, "somebody-elses") {
			t.Error("the wrong one is gone")
		}
	})
	t.Run("an operator that renews its Lease keeps the policy", func(t *testing.T) {
		stop := s.renew(t)
		s.place(t, hosts)
		guard(t, s.man, nil)
		s.wantAlive(t, 2*limit)
		stop()
		if lived := s.awaitGone(t); lived < limit/2 {
			t.Errorf("he has not waited since the last sign, but %s", lived)
		}
	})
	t.Run("a Lease that stands still does not, whatever it says of the time", func(t *testing.T) {
		lease := s.lease(t, deadman.OperatorLease)
		lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = new("x"), new(int32(3600))
		lease.Spec.RenewTime = &metav1.MicroTime{Time: time.Now().Add(time.Hour)}
		if err := s.Update(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		s.place(t, hosts)
		guard(t, s.man, nil)
		s.awaitGone(t)
	})
	t.Run("an operator whose signs do not reach his node is silent, and he goes to another API server", func(t *testing.T) {
		s.renew(t)
		near := newGate(t, s.server)
		s.place(t, hosts)
		guard(t, s.man, func(o *deadman.Options) { o.Servers = []netip.AddrPort{near.AddrPort} })
		s.wantAlive(t, limit+limit/2) // he hears it
		near.set(false)
		s.awaitGone(t)
	})
	t.Run("nothing to undo is no silence", func(t *testing.T) {
		guard(t, s.man, nil)
		time.Sleep(limit + limit/2)
		s.place(t, hosts)
		if lived := s.awaitGone(t); lived < limit/2 {
			t.Errorf("it lived for %s", lived)
		}
	})
}

// What he says of himself, and when he does not.
func (s *site) testPulse(t *testing.T) {
	armed := func(t *testing.T) bool {
		t.Helper()
		_, is := deadman.ReadPulse(s.lease(t, deadman.PulseLease))
		return is
	}

	t.Run("he is armed, and goes on saying it", func(t *testing.T) {
		s.reset(t)
		tracked := s.lease(t, deadman.PulseLease)
		tracked.Labels = map[string]string{"app.kubernetes.io/instance": "of-argo-cd"}
		if err := s.Update(t.Context(), tracked); err != nil {
			t.Fatal(err)
		}
		if armed(t) {
			t.Fatal("nobody is on guard yet")
		}
		began := time.Now().Add(-time.Second)
		guard(t, s.man, nil)
		eventually(t, func() bool { return armed(t) })
		lease := s.lease(t, deadman.PulseLease)
		got, _ := deadman.ReadPulse(lease)
		if want := (deadman.Pulse{Node: "n1", Policy: hosts, Limit: limit}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if at := lease.Spec.RenewTime; at == nil || at.Before(&metav1.MicroTime{Time: began}) || at.After(time.Now().Add(time.Second)) {
			t.Errorf("renewed at %v", at)
		}
		if lease.Labels["app.kubernetes.io/instance"] != "of-argo-cd" { // else both would write for ever
			t.Error("he has taken a label away")
		}
		eventually(t, func() bool {
			return s.lease(t, deadman.PulseLease).Spec.RenewTime.After(lease.Spec.RenewTime.Add(2 * round))
		})
	})

	nearly := func(without string) *rest.Config { return s.stranger(t, without) }
	for name, tc := range map[string]struct {
		config *rest.Config
		engine string
	}{
		"may not read the policy":         {nearly("policies get"), "cilium"},
		"may not delete the policy":       {nearly("policies delete"), "cilium"},
		"may not hear the operator":       {nearly("operator get"), "cilium"},
		"knows a kind that nobody serves": {s.cluster.Config(), "calico"},
	} {
		t.Run("nobody is armed who "+name, func(t *testing.T) {
			s.reset(t)
			guard(t, tc.config, func(o *deadman.Options) { o.Engine = tc.engine })
			if time.Sleep(10 * round); armed(t) {
				t.Error("he says that he is")
			}
		})
	}
	t.Run("who has every right is armed, though a stranger", func(t *testing.T) {
		s.reset(t)
		guard(t, nearly("nothing"), nil)
		eventually(t, func() bool { return armed(t) })
	})
	t.Run("the pulse ends when the right does", func(t *testing.T) {
		s.reset(t)
		guard(t, s.man, nil)
		eventually(t, func() bool { return armed(t) })
		role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "pci-network-baseline-dead-man-on-guard"}}
		if err := s.Get(t.Context(), client.ObjectKeyFromObject(role), role); err != nil {
			t.Fatal(err)
		}
		role.Rules[0].Verbs = []string{"get"}
		if err := s.Update(t.Context(), role); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool {
			before := s.lease(t, deadman.PulseLease).ResourceVersion
			time.Sleep(10 * round)
			return s.lease(t, deadman.PulseLease).ResourceVersion == before
		})
	})
}

// stranger has the rights of a man on guard, without one of them.
func (s *site) stranger(t *testing.T, without string) *rest.Config {
	t.Helper()
	name := "without-" + strings.ReplaceAll(without, " ", "-")
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}}
	for _, right := range []string{"policies get", "policies delete", "operator get", "dead-man get", "dead-man update"} {
		what, verb, _ := strings.Cut(right, " ")
		rule := rbacv1.PolicyRule{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, ResourceNames: []string{what}, Verbs: []string{verb}}
		if what == "policies" {
			rule.APIGroups, rule.Resources, rule.ResourceNames = []string{"cilium.io"}, []string{"ciliumclusterwidenetworkpolicies"}, []string{hosts}
		}
		if right != without {
			role.Rules = append(role.Rules, rule)
		}
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: name}},
	}
	for _, object := range []client.Object{role, binding} {
		if err := s.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	config, _, err := s.cluster.ConfigFor(name)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(round) {
		if time.Since(began) > patience {
			t.Fatal("it did not come")
		}
	}
}

// The overlay as it is applied, beside the other one: what the pod runs, and who may do what.
func (s *site) testOverlay(t *testing.T) {
	if _, err := s.cluster.Run(t.Context(), "apply", "--server-side", "-k", filepath.Join(repoRoot, "config", "hostfirewall")); err != nil {
		t.Fatal(err)
	}
	deployment := &appsv1.Deployment{}
	if err := s.Get(t.Context(), client.ObjectKey{Namespace: deadman.Namespace, Name: "dead-man"}, deployment); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{deadman.OperatorLease, deadman.PulseLease} {
		if spec := s.lease(t, name).Spec; spec != (coordinationv1.LeaseSpec{}) {
			t.Errorf("%s has a spec: %+v", name, spec)
		}
	}
	arguments := func(c corev1.Container) []string {
		values := strings.NewReplacer("$(POD_NAMESPACE)", deadman.Namespace, "$(NODE_NAME)", "n1", "$(HOST_IP)", s.server.String())
		return strings.Fields(values.Replace(strings.Join(append(c.Command[2:], c.Args...), " ")))
	}
	run := func(ctx context.Context, args ...string) error {
		return deadman.Main(ctx, args, func(string) (*rest.Config, error) { return s.man, nil })
	}
	pod := deployment.Spec.Template.Spec
	check := append(arguments(pod.Containers[0]), "--check")
	if err := run(t.Context(), check...); err != nil {
		t.Errorf("%v: %v", check, err)
	}
	err := run(t.Context(), append(check, "--guard=elsewhere")...)
	if err == nil || !strings.Contains(err.Error(), "not armed: reading the Lease operator") {
		t.Errorf("in another namespace: %v", err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, arguments(pod.Containers[0])...) }()
	eventually(t, func() bool {
		got, _ := deadman.ReadPulse(s.lease(t, deadman.PulseLease))
		return got == deadman.Pulse{Node: "n1", Policy: hosts, Limit: 5 * time.Minute}
	})
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}

	account := func(namespace, name string) string { return "system:serviceaccount:" + namespace + ":" + name }
	man, theOperator := account(namespace, "dead-man"), account(operatorHome, operator)
	for _, tc := range []struct {
		user, what string
		want       bool
	}{
		{man, "get leases " + namespace + " operator", true},
		{man, "update leases " + namespace + " operator", false},
		{man, "update leases " + namespace + " dead-man", true},
		{man, "get leases kube-system operator", false},
		{man, "create leases " + namespace + " ", false},
		{man, "list pods " + namespace + " ", false},
		{man, "delete ciliumclusterwidenetworkpolicies  " + hosts, true},
		{man, "delete ciliumclusterwidenetworkpolicies  " + trial, true},
		{man, "delete ciliumclusterwidenetworkpolicies  somebody-elses", false},
		{theOperator, "get leases " + namespace + " operator", true},
		{theOperator, "update leases " + namespace + " operator", true},
		{theOperator, "get leases " + namespace + " dead-man", true},
		{theOperator, "update leases " + namespace + " dead-man", false},
		{theOperator, "create leases " + namespace + " ", false},
		{theOperator, "get pods/log " + namespace + " x", true},
		{theOperator, "create pods " + namespace + " ", false},
		{theOperator, "get pods/log " + operatorHome + " x", true},
		{theOperator, "get pods/log default x", false},
	} {
		t.Run(tc.user+" may "+tc.what, func(t *testing.T) {
			f := strings.Split(tc.what, " ")
			attributes := &authorizationv1.ResourceAttributes{Verb: f[0], Namespace: f[2], Name: f[3]}
			attributes.Resource, attributes.Subresource, _ = strings.Cut(f[1], "/")
			attributes.Group = map[string]string{"leases": "coordination.k8s.io", "ciliumclusterwidenetworkpolicies": "cilium.io"}[attributes.Resource]
			review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: tc.user, ResourceAttributes: attributes}}
			if err := s.Create(t.Context(), review); err != nil {
				t.Fatal(err)
			}
			if review.Status.Allowed != tc.want {
				t.Errorf("%v, want %v: %s", review.Status.Allowed, tc.want, fmt.Sprint(review.Status))
			}
		})
	}
}
