// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package rights_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// byTest is the user agent of requests in the operator's name that a test makes. They are none of the operator's.
const byTest = "rights-test"

// calicoGroup is the API of Calico that the operator writes.
const calicoGroup = "projectcalico.org"

func TestRights(t *testing.T) { //nolint:paralleltest // alone in its package
	s := newSite(t)
	s.start(t)
	granted := s.granted(t)
	t.Cleanup(func() { // a missing right stops the workload where it is used
		_, refused := s.used(t)
		for _, r := range refused {
			t.Error(lacks(r))
		}
	})
	s.work(t)
	used, _ := s.used(t)
	for _, problem := range compare(granted, used) {
		t.Error(problem)
	}
	if text, err := os.ReadFile(s.log); err != nil || bytes.Contains(text, []byte("panic")) {
		t.Errorf("the operator has panicked and gone on: %v", err)
	}
	t.Logf("%d rights granted, %d asked for", len(granted), len(used))

	t.Run("a right more or less would show", func(t *testing.T) { //nolint:paralleltest // it continues the above
		for i, g := range granted {
			if len(compare(slices.Delete(slices.Clone(granted), i, i+1), used)) == 0 {
				t.Errorf("nothing is missed without: %s", g)
			}
		}
		for _, more := range []right{{"", "", "secrets", "get", ""}, {"", "", "configmaps", "list", ""}, {namespace, "", "pods", "create", ""}} {
			if len(compare(append(slices.Clone(granted), more), used)) == 0 {
				t.Errorf("nobody notices: %s", more)
			}
		}
	})
	t.Run("who writes a policy must be able to get its parameters", func(t *testing.T) { //nolint:paralleltest // it continues the above
		s.withoutParameters(t)
	})
}

// right is one verb on a resource: on one object if name is set, and in one namespace if namespace is.
type right struct{ namespace, group, resource, verb, name string }

func (r right) String() string {
	out := strings.TrimSuffix(r.verb+" "+r.resource+"."+r.group, ".")
	if r.name != "" {
		out += " named " + r.name
	}
	if r.namespace != "" {
		out += " in " + r.namespace
	}
	return out
}

// covers says whether whoever has the right may do what o is.
func (r right) covers(o right) bool {
	return r.group == o.group && r.resource == o.resource && r.verb == o.verb &&
		(r.namespace == "" || r.namespace == o.namespace) && (r.name == "" || r.name == o.name)
}

// needs says whether r is not too much for what o is. Lists of one object and of all differ; of other requests all name one.
func (r right) needs(o right) bool {
	everything := (r.verb == "list" || r.verb == "watch") && r.name != o.name
	return r.covers(o) && !everything
}

// asked returns what a server asks its authorizer about who makes a request, beyond the request itself. None of it is in an
// audit log.
func asked(r right) []right {
	writes := r.verb == "create" || r.verb == "update"
	switch {
	case r.group == calicoGroup && strings.HasSuffix(r.resource, "networkpolicies"):
		// Calico's own API server or webhook, which is not here: the same verb on the policies of the tier, and the tier.
		// What may be listed is that of the tiers that may be read: the one of policies for nodes would be missing.
		return []right{
			{r.namespace, calicoGroup, "tier." + r.resource, r.verb, r.name},
			{"", calicoGroup, "tiers", "get", "default"},
			{"", calicoGroup, "tiers", "get", "pcinb-hosts"},
		}
	case r.resource == "validatingadmissionpolicies" && writes, r.resource == "validatingadmissionpolicybindings" && writes:
		// Who writes a policy with parameters must be able to read those; see the subtest.
		return []right{{"", "pcinetwork.dev", "namespacecoverages", "get", ""}}
	}
	return nil
}

// compare says what is wrong: rights that nothing has used, and requests that no right allows.
func compare(granted, used []right) []string {
	var out []string
	for _, g := range granted {
		if !slices.ContainsFunc(used, g.needs) {
			out = append(out, fmt.Sprintf("granted and never used: %s. Take the verb away: %s. If the operator does use it, let the workload of test/rights show it.", g, ruleOf(g)))
		}
	}
	for _, u := range used {
		if !slices.ContainsFunc(granted, func(g right) bool { return g.covers(u) }) {
			out = append(out, lacks(u))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func lacks(r right) string {
	return fmt.Sprintf("used and not granted: %s. Stop asking for it, or add the verb: %s.", r, ruleOf(r))
}

// ruleOf names the place of the rule for a right.
func ruleOf(r right) string {
	switch r.namespace {
	case namespace:
		return fmt.Sprintf("resources: [%s] in config/rbac/leader_election_role.yaml", r.resource)
	case probe.Namespace:
		return fmt.Sprintf("resources: [%s] in config/probe/role.yaml", r.resource)
	}
	if strings.HasSuffix(r.resource, "reports") {
		return fmt.Sprintf("resources: [%s] in config/reports/role.yaml", r.resource)
	}
	files, _ := filepath.Glob(filepath.Join(repoRoot, "controllers", "*.go"))
	var found []string
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for i, line := range strings.Split(string(text), "\n") {
			marker, fields, _ := strings.Cut(line, "+kubebuilder:rbac:")
			if marker == "// " && slices.Contains(strings.FieldsFunc(fields, func(r rune) bool { return strings.ContainsRune(",;=", r) }), r.resource) {
				found = append(found, fmt.Sprintf("controllers/%s:%d", filepath.Base(f), i+1))
			}
		}
	}
	place := cmp.Or(strings.Join(found, " or "), "a new one in controllers")
	return fmt.Sprintf("the marker +kubebuilder:rbac with resources=%s (%s), then make manifests for config/rbac/role.yaml", r.resource, place)
}

// granted returns what the roles say that are bound to the operator's ServiceAccount.
func (s *site) granted(t *testing.T) []right {
	t.Helper()
	var everywhere rbacv1.ClusterRoleBindingList
	var somewhere rbacv1.RoleBindingList
	if err := errors.Join(s.List(t.Context(), &everywhere), s.List(t.Context(), &somewhere)); err != nil {
		t.Fatal(err)
	}
	var out []right
	grant := func(namespace string, subjects []rbacv1.Subject, ref rbacv1.RoleRef) {
		if slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool { return "system:serviceaccount:"+s.Namespace+":"+s.Name == user }) {
			out = append(out, expand(namespace, s.rules(t, namespace, ref))...)
		}
	}
	for _, b := range everywhere.Items {
		grant("", b.Subjects, b.RoleRef)
	}
	for _, b := range somewhere.Items {
		grant(b.Namespace, b.Subjects, b.RoleRef)
	}
	return out
}

// rules returns those of a role that a binding in a namespace refers to.
func (s *site) rules(t *testing.T, namespace string, ref rbacv1.RoleRef) []rbacv1.PolicyRule {
	t.Helper()
	role, clusterRole := &rbacv1.Role{}, &rbacv1.ClusterRole{}
	var err error
	if ref.Kind == "Role" {
		err = s.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: ref.Name}, role)
	} else {
		err = s.Get(t.Context(), client.ObjectKey{Name: ref.Name}, clusterRole)
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(role.Rules, clusterRole.Rules...)
}

// expand returns the rights of rules one by one.
func expand(namespace string, rules []rbacv1.PolicyRule) []right {
	var out []right
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						out = append(out, right{namespace, group, resource, verb, name})
					}
				}
			}
		}
	}
	return out
}

// event is what of an audit event says who asked for what.
type event struct {
	Verb           string
	UserAgent      string
	User           struct{ Username string }
	ObjectRef      *struct{ APIGroup, Resource, Subresource, Namespace, Name string }
	ResponseStatus struct{ Code int }
}

// used returns what the operator has asked for so far, allowed or refused, each once, and which of it was refused.
func (s *site) used(t *testing.T) (all, refused []right) {
	t.Helper()
	file, err := os.Open(s.audit)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	seen := map[right]bool{}
	for lines := bufio.NewReaderSize(file, 1<<20); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // the last line may not be whole
			return all, refused
		}
		if err != nil {
			t.Fatal(err)
		}
		var e event
		if !bytes.Contains(line, []byte(user)) {
			continue
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.User.Username != user || e.UserAgent == byTest || e.ObjectRef == nil {
			continue
		}
		o := e.ObjectRef
		r := right{o.Namespace, o.APIGroup, strings.TrimSuffix(o.Resource+"/"+o.Subresource, "/"), e.Verb, o.Name}
		if e.ResponseStatus.Code == 403 && !slices.Contains(refused, r) {
			refused = append(refused, r)
		}
		for _, r := range append(asked(r), r) {
			if !seen[r] {
				seen[r] = true
				all = append(all, r)
			}
		}
	}
}

// withoutParameters takes away the right to get coverages, of which the API server only asks its authorizer, and sees that the
// operator's account could not write the policies and bindings that have them as parameters.
func (s *site) withoutParameters(t *testing.T) {
	t.Helper()
	b := s.protect(t, "rights-parameters", pcinetv1alpha1.BackendNetworkPolicy)
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "pcinb-" + b.Name + "-pod-gate"}}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "pcinb-pod-gate"}}
	account := s.asOperator(t)
	answers := func(want string, o client.Object) {
		t.Helper()
		eventually.That(t, o.GetName()+" is answered "+want, func() error {
			if err := s.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
				return err
			}
			o.SetResourceVersion("")
			o.SetUID("")
			if err := account.Create(t.Context(), o, client.DryRunAll); err == nil || !strings.Contains(err.Error(), want) {
				return fmt.Errorf("the answer is %w", err)
			}
			return nil
		})
	}
	answers("already exists", policy)
	answers("already exists", binding)
	role := &rbacv1.ClusterRole{}
	if err := s.Get(t.Context(), client.ObjectKey{Name: "pci-network-baseline-manager"}, role); err != nil {
		t.Fatal(err)
	}
	for i := range role.Rules {
		if rule := &role.Rules[i]; slices.Contains(rule.Resources, "namespacecoverages") {
			rule.Verbs = slices.DeleteFunc(rule.Verbs, func(verb string) bool { return verb == "get" })
		}
	}
	if err := s.Update(t.Context(), role); err != nil {
		t.Fatal(err)
	}
	answers(`must have "get" permission on all objects of the referenced paramKind`, policy)
	answers(`does not have "get" permission on the object referenced by paramRef`, binding)
}
