// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package tamper_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
)

const (
	// hostDir is where the example configuration looks for manifests.
	hostDir      = "/etc/kubernetes/pci-network-baseline/manifests"
	manifestFile = "pci-network-baseline.yaml"
)

// Refusals of the files, whatever live policies say.
var (
	staticGuard  = refusedBy("pcinb-tamper-guard.static.k8s.io", "")
	staticLimits = refusedBy("pcinb-own-limits.static.k8s.io", "")
	staticOwn    = refusedBy("pcinb-own-admission.static.k8s.io", "")
)

// host is what docs/security.md has one put on a host of the control plane.
type host struct{ configuration, manifests string }

func newHost(t *testing.T) host {
	t.Helper()
	dir := t.TempDir()
	h := host{filepath.Join(dir, "admission-configuration.yaml"), filepath.Join(dir, "manifests")}
	configuration := strings.Replace(read(t, "admission-configuration.yaml"), hostDir, h.manifests, 1)
	if err := os.Mkdir(h.manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.configuration, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	h.write(t, manifestFile, read(t, "manifests/"+manifestFile))
	return h
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(repoRoot, "config", "admission", filepath.FromSlash(file)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// write writes a file as one should: the API server never sees half of it.
func (h host) write(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(h.manifests, name)
	if err := errors.Join(os.WriteFile(file+".new", []byte(text), 0o600), os.Rename(file+".new", file)); err != nil {
		t.Fatal(err)
	}
}

func (h host) remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(h.manifests, name)); err != nil {
		t.Fatal(err)
	}
}

// TestStaticManifests starts an API server with config/admission on an empty etcd and without our CRDs, and lets the operator
// run there. Mutations tried: no rule for admissionregistration.k8s.io, and a selector of another label.
func TestStaticManifests(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	s := newSite(t, "--admission-control-config-file="+h.configuration)
	s.install(t)
	b := newBaseline("static")
	b.Spec.Admission.TamperGuard = pcinetv1alpha1.AdmissionOff // so that all refusals are the files'
	s.create(t, b)
	c := s.newCell(t, "vault", admin, b)
	c.reports("", "DefaultDenyInPlace=True/AllNamespacesProtected")
	await(t, "the operator has written what the API server refuses of others", func(ctx context.Context) error {
		if err := s.Get(ctx, keyOf(b), b); err != nil || b.Status.Admission.State == pcinetv1alpha1.PolicyInPlace {
			return err
		}
		return fmt.Errorf("admission is %+v", b.Status.Admission)
	})
	forged := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: named("", "mine.static.k8s.io")}
	forged.Spec.PolicyName = "pcinb-tamper-guard.static.k8s.io"
	forged.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit}
	if err := s.Create(t.Context(), forged); err == nil || !strings.Contains(err.Error(), "reserved") {
		t.Errorf("a binding of the API for a policy of a file: %v", err)
	}
	for name, try := range staticAttacks(c) {
		if err := staticGuard.met(try()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.testOperatorPasses()
	c.testCanariesPass()
	nodes := renderNodePolicies(t, b.Name, cilium.Hosts{}, cilium.Guard{})
	nodes.define(t, s)
	c.testDeadMan(staticGuard, nodes)
	c.testReload(h)
	c.testBadFileAtStart(h)
	if err := staticGuard.met(s.Delete(t.Context(), c.deny())); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if err := s.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	s.gone(t, c.binding("pod-gate"))
	if err := staticGuard.met(s.Delete(t.Context(), c.deny())); err != nil {
		t.Errorf("without a baseline: %v", err)
	}
	ns := &corev1.Namespace{ObjectMeta: named("", c.namespace)}
	if err := s.Delete(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	s.gone(t, ns)
}

// staticAttacks are tried by system:masters, unless they say otherwise.
func staticAttacks(c *cell) map[string]func() error {
	ctx := c.Context()
	coverage := &pcinetv1alpha1.NamespaceCoverage{ObjectMeta: named(c.namespace, c.baseline.Name)}
	policy := func(name string) client.Object {
		return &admissionregistrationv1.ValidatingAdmissionPolicy{ObjectMeta: named("", name)}
	}
	limits := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: named("", "pcinb-own-limits")}
	account := func(name string) client.Client { // even a thief of it who is an administrator
		return c.as(c.T, "system:serviceaccount:kube-system:"+name, "system:masters")
	}
	return map[string]func() error{
		"delete the deny": func() error { return c.Delete(ctx, c.deny()) },
		"delete all policies": func() error {
			return c.DeleteAllOf(ctx, &networkingv1.NetworkPolicy{}, client.InNamespace(c.namespace))
		},
		"add a rule":       func() error { return c.patch(c.deny(), `{"spec":{"ingress":[{}]}}`) },
		"strip our labels": func() error { return c.patch(c.deny(), `{"metadata":{"labels":null}}`) },
		"forge our labels": func() error {
			forged := allowAll(c.namespace, "mine")
			forged.Labels = c.deny().Labels
			return c.Create(ctx, forged)
		},
		"delete the coverage": func() error { return c.Delete(ctx, coverage) },
		"forge the coverage":  func() error { return c.patch(coverage, `{"status":{"state":"Exempt"}}`) },
		"delete the gate":     func() error { return c.Delete(ctx, policy("pcinb-pod-gate")) },
		"empty the gate": func() error {
			return c.patch(policy("pcinb-pod-gate"), `{"spec":{"validations":[{"expression":"true"}]}}`)
		},
		"delete the live guard":                     func() error { return c.Delete(ctx, policy("pcinb-tamper-guard")) },
		"delete the gate's binding":                 func() error { return c.Delete(ctx, c.binding("pod-gate")) },
		"make the gate's binding only audit":        func() error { return c.patch(c.binding("pod-gate"), `{"spec":{"validationActions":["Audit"]}}`) },
		"delete the binding of the own limits":      func() error { return c.Delete(ctx, limits) },
		"delete the deny as the garbage collector":  func() error { return account("generic-garbage-collector").Delete(ctx, c.deny()) },
		"delete the deny as namespace controller":   func() error { return account("namespace-controller").Delete(ctx, c.deny()) },
		"delete the deny while the glass is broken": func() error { return c.breakGlass() },
	}
}

// breakGlass breaks the glass, which files know nothing of, and deletes the deny.
func (c *cell) breakGlass() error {
	c.Helper()
	note := fmt.Sprintf(`{"metadata":{"annotations":{%q:"%s none"}}}`, pcinetv1alpha1.AnnotationBreakGlass, in(time.Minute))
	if err := c.patch(c.baseline, note); err != nil {
		c.Fatal(err)
	}
	c.reports("", "Ready=False/BreakGlass")
	err := c.Delete(c.Context(), c.deny())
	if err := c.patch(c.baseline, fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, pcinetv1alpha1.AnnotationBreakGlass)); err != nil {
		c.Fatal(err)
	}
	return err
}

// testOperatorPasses says that the files let the operator's account pass, within its limits, even if those of the API are gone.
func (c *cell) testOperatorPasses() {
	c.Helper()
	operator := c.asOperator()
	live := c.deny()
	live.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}}
	if err := staticLimits.met(operator.Update(c.Context(), live)); err != nil {
		c.Errorf("a rule in the deny, as the operator: %v", err)
	}
	theirs := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{ObjectMeta: named("", "theirs")}
	theirs.Spec.PolicyName, theirs.Spec.ValidationActions = "theirs", []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny}
	if err := c.Create(c.Context(), theirs); err != nil {
		c.Fatal(err)
	}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
	if err := c.Get(c.Context(), client.ObjectKey{Name: "pcinb-pod-gate"}, policy); err != nil {
		c.Fatal(err)
	}
	policy.ResourceVersion, policy.Name = "", "pcinb-x"
	renamed := theirs.DeepCopy()
	renamed.ResourceVersion, renamed.Name = "", "pcinb-theirs"
	for what, err := range map[string]error{
		"deleting somebody else's binding":       operator.Delete(c.Context(), theirs),
		"creating a binding of another's policy": operator.Create(c.Context(), renamed),
		"creating a policy":                      operator.Create(c.Context(), policy),
	} {
		if err := staticOwn.met(err); err != nil {
			c.Errorf("%s, as the operator: %v", what, err)
		}
	}
	old := c.deny()
	if err := operator.Delete(c.Context(), old); err != nil {
		c.Errorf("deleting the deny, as the operator: %v", err)
	}
	await(c.T, "the deny is back", func(ctx context.Context) error {
		p := &networkingv1.NetworkPolicy{}
		if err := c.Get(ctx, keyOf(old), p); err != nil || p.UID != old.UID {
			return err
		}
		return errors.New("it has not gone")
	})
}

// testCanariesPass says that the files let the operator make what proves enforcement, and nothing more of that kind.
func (c *cell) testCanariesPass() {
	c.Helper()
	operator := c.asOperator()
	canary := spy()
	if err := staticLimits.met(operator.Create(c.Context(), canary, client.DryRunAll)); err != nil {
		c.Errorf("a canary that reads a Secret: %v", err)
	}
	canary.Spec.Volumes = slices.DeleteFunc(canary.Spec.Volumes, func(v corev1.Volume) bool { return v.Secret != nil })
	for what, object := range map[string]client.Object{"a canary": canary, "a policy between canaries": betweenCanaries(probe.Namespace, false)} {
		if err := operator.Create(c.Context(), object, client.DryRunAll); err != nil {
			c.Errorf("%s: %v", what, err)
		}
	}
}

// testReload: an API server that runs keeps what it had when a file is bad, and takes what is there when all are good.
func (c *cell) testReload(h host) {
	c.Helper()
	guarded := func() error { return staticGuard.met(c.Delete(c.Context(), c.deny(), client.DryRunAll)) }
	h.write(c.T, "bad.yaml", "kind: Nonsense\n")
	await(c.T, "the API server has looked at the bad file", func(context.Context) error {
		return c.logged("reloading manifest config", "bad.yaml")
	})
	if err := guarded(); err != nil {
		c.Errorf("with a bad file beside it: %v", err)
	}
	h.remove(c.T, "bad.yaml")
	h.remove(c.T, manifestFile)
	await(c.T, "the deny can be deleted without the file", func(ctx context.Context) error {
		return c.Delete(ctx, c.deny(), client.DryRunAll)
	})
	h.write(c.T, manifestFile, read(c.T, "manifests/"+manifestFile))
	await(c.T, "the guard is up again", func(context.Context) error { return guarded() })
}

// testBadFileAtStart: an API server does not start with a bad file, and says which one it is; nor without the directory.
func (c *cell) testBadFileAtStart(h host) {
	c.Helper()
	h.write(c.T, "bad.yaml", "kind: Nonsense\n")
	if err := c.cluster.RestartAPIServer(c.Context()); err == nil || !strings.Contains(err.Error(), "bad.yaml") {
		c.Errorf("started with a bad file: %v", err)
	}
	h.remove(c.T, "bad.yaml")
	away := h.manifests + ".away"
	if err := os.Rename(h.manifests, away); err != nil {
		c.Fatal(err)
	}
	if err := c.cluster.RestartAPIServer(c.Context()); err == nil || !strings.Contains(err.Error(), "unable to read") {
		c.Errorf("started without the directory: %v", err)
	}
	if err := errors.Join(os.Rename(away, h.manifests), c.cluster.RestartAPIServer(c.Context())); err != nil {
		c.Fatal(err)
	}
}

// logged returns an error unless a line of the API server's log has all words.
func (c *cell) logged(words ...string) error {
	data, err := os.ReadFile(filepath.Join(filepath.Dir(c.cluster.Kubeconfig()), "logs", "kube-apiserver.log"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		found := true
		for _, w := range words {
			found = found && strings.Contains(line, w)
		}
		if found {
			return nil
		}
	}
	return fmt.Errorf("no line has all of %q", words)
}
