// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/discovery"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// right is one verb on a resource: of one object if name is set, and in one namespace if namespace is.
type right struct{ namespace, group, resource, verb, name string }

func (r right) String() string {
	return strings.TrimRight(fmt.Sprintf("%s %s.%s %s/%s", r.verb, r.resource, r.group, r.namespace, r.name), "/ ")
}

// covers says whether whoever has the right may do what o is.
func (r right) covers(o right) bool {
	return r.group == o.group && r.resource == o.resource && r.verb == o.verb &&
		(r.namespace == "" || r.namespace == o.namespace) && (r.name == "" || r.name == o.name)
}

// wholeRun says whether no test was left out, so that a right that nothing has used is one too many.
func wholeRun() bool {
	return flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
}

// checkRights compares what the operator's roles grant with what all operators of these tests have asked for, refused or not.
// Rights on kinds that this API server does not serve nobody can use here.
func checkRights(ctx context.Context) error {
	granted, err := grantedRights(ctx)
	if err != nil {
		return err
	}
	served, err := servedResources()
	if err != nil {
		return err
	}
	used, err := usedRights()
	if err != nil {
		return err
	}
	if len(granted) < 40 || len(used) < 40 {
		return fmt.Errorf("%d rights are granted and %d used: this check sees nothing", len(granted), len(used))
	}
	var errs []error
	for _, g := range granted {
		if served[g.group+"/"+g.resource] && !slices.ContainsFunc(used, g.covers) {
			errs = append(errs, fmt.Errorf("granted and not used: %s", g))
		}
	}
	for _, u := range used {
		if !slices.ContainsFunc(granted, func(g right) bool { return g.covers(u) }) {
			errs = append(errs, fmt.Errorf("used and not granted: %s", u))
		}
	}
	return errors.Join(errs...)
}

// grantedRights returns what the roles say that are bound to the operator's ServiceAccount by name.
func grantedRights(ctx context.Context) ([]right, error) {
	var everywhere rbacv1.ClusterRoleBindingList
	var somewhere rbacv1.RoleBindingList
	if err := errors.Join(env.client.List(ctx, &everywhere), env.client.List(ctx, &somewhere)); err != nil {
		return nil, err
	}
	var out []right
	grant := func(namespace string, subjects []rbacv1.Subject, ref rbacv1.RoleRef) error {
		if !slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool { return "system:serviceaccount:"+s.Namespace+":"+s.Name == operatorUser }) {
			return nil
		}
		rules, err := rulesOf(ctx, namespace, ref)
		out = append(out, expand(namespace, rules)...)
		return err
	}
	var errs []error
	for _, b := range everywhere.Items {
		errs = append(errs, grant("", b.Subjects, b.RoleRef))
	}
	for _, b := range somewhere.Items {
		errs = append(errs, grant(b.Namespace, b.Subjects, b.RoleRef))
	}
	return out, errors.Join(errs...)
}

func rulesOf(ctx context.Context, namespace string, ref rbacv1.RoleRef) ([]rbacv1.PolicyRule, error) {
	if ref.Kind == "Role" {
		role := &rbacv1.Role{}
		err := env.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, role)
		return role.Rules, err
	}
	role := &rbacv1.ClusterRole{}
	err := env.client.Get(ctx, client.ObjectKey{Name: ref.Name}, role)
	return role.Rules, err
}

// expand returns the rights of rules one by one. Rules without names are about every object.
func expand(namespace string, rules []rbacv1.PolicyRule) []right {
	var out []right
	for _, rule := range rules {
		objects := rule.ResourceNames
		if len(objects) == 0 {
			objects = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range objects {
						out = append(out, right{namespace, group, resource, verb, name})
					}
				}
			}
		}
	}
	return out
}

// servedResources returns the resources and subresources of the API server, as group/resource.
func servedResources() (map[string]bool, error) {
	c, err := discovery.NewDiscoveryClientForConfig(env.config)
	if err != nil {
		return nil, err
	}
	_, lists, err := c.ServerGroupsAndResources()
	out := map[string]bool{}
	for _, list := range lists {
		group, _, found := strings.Cut(list.GroupVersion, "/")
		if !found {
			group = ""
		}
		for _, r := range list.APIResources {
			out[group+"/"+r.Name] = true
		}
	}
	return out, err
}

// usedRights returns what operators have asked for according to the audit log, each once. A client of a test's own that acts in the
// operator's name does not count.
func usedRights() ([]right, error) {
	file, err := os.Open(env.audit.path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	seen := map[right]bool{}
	var out []right
	lines := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		if !bytes.Contains(line, []byte(operatorUser)) {
			continue
		}
		var e auditEvent
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, err
		}
		r, ok := e.right()
		if ok && !seen[r] {
			seen[r] = true
			out = append(out, r)
		}
	}
}

// auditEvent is what of an event says who asked for what.
type auditEvent struct {
	Verb             string
	User             struct{ Username string }
	ImpersonatedUser struct{ Username string }
	UserAgent        string
	ObjectRef        *struct{ APIGroup, Resource, Subresource, Namespace, Name string }
}

// right returns what an operator asked for; false if it was none, or asked for no resource.
func (e auditEvent) right() (right, bool) {
	inProcess := e.ImpersonatedUser.Username == operatorUser && strings.HasPrefix(e.UserAgent, agentPrefix)
	if e.ObjectRef == nil || !inProcess && e.User.Username != operatorUser {
		return right{}, false
	}
	o := e.ObjectRef
	resource := strings.TrimSuffix(o.Resource+"/"+o.Subresource, "/")
	return right{o.Namespace, o.APIGroup, resource, e.Verb, o.Name}, true
}
