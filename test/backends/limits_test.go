// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package backends_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/policy"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render"
	"github.com/pcinetwork/pci-network-baseline/internal/render/admission"
	"github.com/pcinetwork/pci-network-baseline/internal/render/calico"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cilium"
	"github.com/pcinetwork/pci-network-baseline/internal/render/cluster"
	"github.com/pcinetwork/pci-network-baseline/internal/render/core"
)

const (
	operatorNamespace = "pci-network-baseline-system"
	operatorUser      = "system:serviceaccount:" + operatorNamespace + ":pci-network-baseline"
	deadManUser       = "system:serviceaccount:pci-network-baseline-hosts:dead-man"
	// guarded is the baseline whose objects are guarded.
	guarded = "guarded"
)

// asOperator returns a client with a token of the operator's account, whose role is the one that ships, once the admission
// policies are in force.
var asOperator = sync.OnceValues(func() (client.Client, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := env.cluster.Install(ctx, repoRoot, "probe", "hostfirewall/enforce-calico"); err != nil {
		return nil, err
	}
	objects := []client.Object{admission.Limits()}
	for _, p := range admission.Policies(admission.Config{
		Operator: operatorUser, DeadMan: deadManUser, Tracking: apply.TrackingPrefixes(),
		Canaries: admission.Canaries{Namespace: probe.Namespace, Policies: probe.PolicyNames()},
	}) {
		objects = append(objects, p)
	}
	for _, b := range admission.Bindings(admission.Baseline{Name: guarded, Tamper: admission.Deny}) {
		objects = append(objects, b)
	}
	for _, o := range objects {
		if err := env.client.Create(ctx, o); err != nil {
			return nil, err
		}
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "pci-network-baseline"}}
	token := &authenticationv1.TokenRequest{}
	if err := env.client.SubResource("token").Create(ctx, account, token); err != nil {
		return nil, err
	}
	config := rest.AnonymousClientConfig(env.cluster.Config())
	config.BearerToken = token.Status.Token
	c, err := client.New(config, client.Options{Scheme: env.client.Scheme()})
	if err != nil {
		return nil, err
	}
	return c, inForce(ctx, c)
})

// inForce waits until the API server knows the policies.
func inForce(ctx context.Context, c client.Client) error {
	return wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		foreign := render.Render(core.Backend{}, policy.Set{Namespace: "default"}, policy.Policy{Name: "default-deny"})
		err := c.Create(ctx, foreign, client.DryRunAll)
		return err != nil && strings.Contains(err.Error(), admission.OwnLimits), nil
	})
}

func operator(t *testing.T) client.Client {
	t.Helper()
	c, err := asOperator()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// largest is an allowance as large as a baseline can ask for (api/v1alpha1 AllowRule).
func largest(direction policy.Direction) policy.Policy {
	rule := policy.Rule{Direction: direction}
	values := make([]string, 0, 13) // Calico wants selectors of at most 1,024 characters
	for i := range cap(values) {
		values = append(values, fmt.Sprintf("%063d", i))
	}
	selector := metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "example.com/key", Operator: metav1.LabelSelectorOpNotIn, Values: values}}}
	for i := range byte(16) {
		rule.Ports = append(rule.Ports, policy.Port{Protocol: []policy.Protocol{"TCP", "UDP", "SCTP"}[i%3], First: 1 + int32(i), Last: 100 + int32(i)})
		peer := policy.Peer{CIDR: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, i, 0, 0}), 16)}
		if i%2 == 0 {
			peer = policy.Peer{Pods: &policy.PodPeer{Namespaces: &selector, Pods: &selector}}
		}
		rule.Peers = append(rule.Peers, peer)
	}
	return policy.Policy{Name: "allow-" + strings.ToLower(string(direction)), Role: policy.Allowance, Pods: selector, Rules: []policy.Rule{rule}}
}

// Who limits the operator must let pass whatever it renders: a deny that is refused would be an open namespace.
func TestTheOperatorMayWriteWhatItRenders(t *testing.T) {
	c := operator(t)
	namespace := createNamespace(t)
	may := func(t *testing.T, obj, empty client.Object) {
		t.Helper()
		createServed(t, &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}, env.client, obj)
		if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(obj), empty); err != nil {
			t.Fatal(err)
		}
		empty.SetLabels(nil) // as somebody may have left it
		if err := env.client.Update(t.Context(), empty); err != nil {
			t.Fatal(err)
		}
		obj.SetResourceVersion(empty.GetResourceVersion())
		if err := c.Update(t.Context(), obj); err != nil {
			t.Errorf("a repair: %v", err)
		}
		if err := c.Delete(t.Context(), obj); err != nil {
			t.Errorf("a removal: %v", err)
		}
	}
	for _, b := range []render.Backend{core.Backend{}, calico.Backend{}, calico.Backend{Staged: true}, cilium.Backend{}} {
		sets := map[string]policy.Set{"largest": {Allowances: []policy.Policy{largest(policy.Ingress), largest(policy.Egress)}}}
		for _, path := range casesOf(t, "*") {
			var set policy.Set
			readCase(t, path, &set)
			sets[filepath.Base(filepath.Dir(path))] = set
		}
		for name, set := range sets {
			set.Baseline, set.Namespace = name, namespace
			for _, p := range set.Ordered() {
				if p.Name == "" || p.Role == policy.Allowance && len(p.Rules) == 0 {
					continue
				}
				for _, second := range []bool{false, true} {
					obj, empty := render.Render(b, set, p), client.Object(nil)
					empty, _ = b.New()
					if second {
						obj.SetName(render.SecondName(obj.GetName()))
					}
					t.Run(fmt.Sprintf("%T %s", obj, obj.GetName()), func(t *testing.T) { may(t, obj, empty) })
				}
			}
		}
	}
	for _, l := range []render.GuardLayer{calico.Guard{}, cilium.Guard{}, cluster.Guard{}} {
		for _, path := range casesOf(t, "guard/*") {
			var guard policy.Guard
			readCase(t, path, &guard)
			empty, _ := l.New()
			obj := render.Guard(l, guard)
			t.Run(fmt.Sprintf("%T %s", obj, filepath.Base(filepath.Dir(path))), func(t *testing.T) { may(t, obj, empty) })
		}
	}
	for _, layer := range hostLayers {
		for name, nodes := range map[string]map[string]string{"all": nil, "trial": trial} {
			obj := hostFirewall(t, layer, name, nodes)
			empty := &unstructured.Unstructured{}
			empty.SetGroupVersionKind(obj.GroupVersionKind())
			t.Run("policy for nodes: "+layer.Name()+" "+name, func(t *testing.T) { may(t, obj, empty) })
		}
	}
}

var hostLayers = []render.HostLayer{calico.Hosts{}, cilium.Hosts{}}

// trial selects the nodes of a trial.
var trial = map[string]string{policy.LabelHostFirewall: policy.HostFirewallTrial}

// hostFirewall is the policy for nodes of a baseline, with as many ranges as the API has.
func hostFirewall(t *testing.T, layer render.HostLayer, baseline string, nodes map[string]string) *unstructured.Unstructured {
	t.Helper()
	objects := hostObjects(t, layer, baseline, nodes)
	return objects[len(objects)-1]
}

func hostObjects(t *testing.T, layer render.HostLayer, baseline string, nodes map[string]string) (out []*unstructured.Unstructured) {
	t.Helper()
	f := policy.HostFirewall{Baseline: baseline, Ports: []int32{2379, 2380, 6443, 10250, 10257, 10259}, Allowed: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32")}}
	for i := range byte(63) {
		f.Allowed = append(f.Allowed, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, i, 0, 0}), 16))
	}
	f.Nodes.MatchLabels = nodes
	for _, object := range render.HostFirewall(layer, f) {
		text, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		generic := &unstructured.Unstructured{}
		if err := generic.UnmarshalJSON(text); err != nil {
			t.Fatal(err)
		}
		out = append(out, generic)
	}
	return out
}

// patch merges a patch into a live object as an administrator does, without storing it, and returns what comes of it.
func patch(t *testing.T, obj client.Object, text string) (*unstructured.Unstructured, error) {
	t.Helper()
	gvk, err := apiutil.GVKForObject(obj, env.client.Scheme())
	if err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{} // what the rendered kind has no field for, too
	out.SetGroupVersionKind(gvk)
	out.SetNamespace(obj.GetNamespace())
	out.SetName(obj.GetName())
	return out, env.client.Patch(t.Context(), out, client.RawPatch(types.MergePatchType, []byte(text)), client.DryRunAll)
}

// Words of refusals, and parts of rules.
const (
	peers   = "name their peers"
	deny    = "denies have no rule"
	all     = "denies select every pod"
	nothing = "denies allow nothing"

	calicoNets = `"protocol":"TCP","source":{"nets":["10.0.0.0/8"]},"destination":{"ports":[443]}`
	pods       = `{"matchLabels":{"k8s:io.kubernetes.pod.namespace":"shop"}}`
	toPorts    = `"toPorts":[{"ports":[{"port":"443","protocol":"TCP"}]}]`
)

// openings are changes to what is rendered of a policy, each of which would open something, and words of their refusal.
var openings = map[string]struct{ of, policy, patch, words string }{
	"core: an allowance for everything":                 {"core", "allow", `{"spec":{"ingress":[{}]}}`, peers},
	"core: from everybody":                              {"core", "allow", `{"spec":{"ingress":[{"ports":[{"protocol":"TCP","port":443}]}]}}`, peers},
	"core: on every port":                               {"core", "allow", `{"spec":{"egress":[{"to":[{"podSelector":{}}]}]}}`, peers},
	"core: a deny with a rule":                          {"core", "deny", `{"spec":{"ingress":[{"from":[{"podSelector":{}}],"ports":[{"protocol":"TCP","port":443}]}]}}`, deny},
	"core: a deny for some pods":                        {"core", "deny", `{"spec":{"podSelector":{"matchLabels":{"app":"none"}}}}`, all},
	"Calico: an allowance for everything":               {"calico", "allow", `{"spec":{"ingress":[{"action":"Allow"}]}}`, peers},
	"Calico: from everybody":                            {"calico", "allow", `{"spec":{"ingress":[{"action":"Allow","protocol":"TCP","destination":{"ports":[443]}}]}}`, peers},
	"Calico: on every port":                             {"calico", "allow", `{"spec":{"ingress":[{"action":"Allow","protocol":"TCP","source":{"nets":["10.0.0.0/8"]}}]}}`, peers},
	"Calico: all but one protocol":                      {"calico", "allow", `{"spec":{"ingress":[{"action":"Allow","notProtocol":"ICMP",` + calicoNets + `}]}}`, peers},
	"Calico: to the next tier":                          {"calico", "allow", `{"spec":{"ingress":[{"action":"Pass",` + calicoNets + `}]}}`, peers},
	"Calico: all endpoints":                             {"calico", "allow", `{"spec":{"ingress":[{"action":"Allow","protocol":"TCP","source":{"selector":"all()"},"destination":{"ports":[443]}}]}}`, peers},
	"Calico: pods or everything":                        {"calico", "allow", `{"spec":{"egress":[{"action":"Allow","protocol":"TCP","destination":{"selector":"projectcalico.org/orchestrator == \"k8s\" || all()","ports":[443]}}]}}`, peers},
	"Calico: a deny with a rule":                        {"calico", "deny", `{"spec":{"ingress":[{"action":"Allow",` + calicoNets + `}]}}`, deny},
	"Calico: a deny for some pods":                      {"calico", "deny", `{"spec":{"selector":"app == \"none\""}}`, all},
	"Calico: a deny for pods of some accounts":          {"calico", "deny", `{"spec":{"serviceAccountSelector":"app == \"none\""}}`, all},
	"Calico staged: an allowance for everything":        {"staged", "allow", `{"spec":{"egress":[{"action":"Allow"}]}}`, peers},
	"Calico staged: a deny with a rule":                 {"staged", "deny", `{"spec":{"egress":[{"action":"Allow"}]}}`, deny},
	"Cilium: an allowance for everything":               {"cilium", "allow", `{"spec":{"ingress":[{"fromEntities":["all"]}]}}`, peers},
	"Cilium: from the world":                            {"cilium", "allow", `{"spec":{"ingress":[{"fromEntities":["world"],` + toPorts + `}]}}`, peers},
	"Cilium: on every port":                             {"cilium", "allow", `{"spec":{"ingress":[{"fromEndpoints":[` + pods + `]}]}}`, peers},
	"Cilium: from everybody":                            {"cilium", "allow", `{"spec":{"ingress":[{` + toPorts + `}]}}`, peers},
	"Cilium: any port of a protocol":                    {"cilium", "allow", `{"spec":{"ingress":[{"fromEndpoints":[` + pods + `],"toPorts":[{"ports":[{"port":"0","protocol":"TCP"}]}]}]}}`, peers},
	"Cilium: any protocol":                              {"cilium", "allow", `{"spec":{"ingress":[{"fromEndpoints":[` + pods + `],"toPorts":[{"ports":[{"port":"443","protocol":"ANY"}]}]}]}}`, peers},
	"Cilium: endpoints that need be no pods":            {"cilium", "allow", `{"spec":{"ingress":[{"fromEndpoints":[{"matchExpressions":[{"key":"app","operator":"DoesNotExist"}]}],` + toPorts + `}]}}`, peers},
	"Cilium: endpoints of no namespace":                 {"cilium", "allow", `{"spec":{"ingress":[{"fromEndpoints":[{"matchExpressions":[{"key":"k8s:io.kubernetes.pod.namespace","operator":"DoesNotExist"}]}],` + toPorts + `}]}}`, peers},
	"Cilium: a second rule":                             {"cilium", "allow", `{"specs":[{"endpointSelector":{},"ingress":[{"fromEntities":["all"]}]}]}`, peers},
	"Cilium: a deny with a rule":                        {"cilium", "deny", `{"spec":{"ingress":[{"fromEndpoints":[` + pods + `],` + toPorts + `}]}}`, nothing},
	"Cilium: a deny that is switched off":               {"cilium", "deny", `{"spec":{"enableDefaultDeny":{"ingress":false,"egress":false}}}`, nothing},
	"Cilium: a deny that says nothing":                  {"cilium", "deny", `{"spec":{"ingress":[],"egress":null}}`, nothing},
	"Cilium: a deny for some pods":                      {"cilium", "deny", `{"spec":{"endpointSelector":{"matchLabels":{"app":"none"}}}}`, all},
	"GlobalNetworkPolicy: with a rule":                  {"GlobalNetworkPolicy", "guard", `{"spec":{"ingress":[{"action":"Allow"}]}}`, deny},
	"CiliumClusterwideNetworkPolicy: with a rule":       {"CiliumClusterwideNetworkPolicy", "guard", `{"spec":{"ingress":[{"fromEntities":["all"]}]}}`, nothing},
	"ClusterNetworkPolicy: that accepts":                {"ClusterNetworkPolicy", "guard", `{"spec":{"ingress":[{"name":"x","action":"Accept","from":[{"namespaces":{}}]}]}}`, "cluster-wide policies deny"},
	"ClusterNetworkPolicy: in the administrator's tier": {"ClusterNetworkPolicy", "guard", `{"spec":{"tier":"Admin"}}`, "cluster-wide policies deny"},
	"Cilium: without our labels":                        {"cilium", "deny", `{"metadata":{"labels":null}}`, "marked as its own"},
}

// A thief of the operator's token cannot write what opens a namespace.
func TestTheOperatorMayNotOpenInAnyAPI(t *testing.T) {
	backends := map[string]render.Backend{"core": core.Backend{}, "calico": calico.Backend{}, "staged": calico.Backend{Staged: true}, "cilium": cilium.Backend{}}
	guards := map[string]render.GuardLayer{"GlobalNetworkPolicy": calico.Guard{}, "CiliumClusterwideNetworkPolicy": cilium.Guard{}, "ClusterNetworkPolicy": cluster.Guard{}}
	c := operator(t)
	set := policy.Set{Baseline: "pci", Namespace: createNamespace(t)}
	policies := map[string]policy.Policy{
		"deny": {Name: "default-deny", Role: policy.Deny, Directions: []policy.Direction{policy.Ingress, policy.Egress}},
		"allow": {Name: "allow-x", Role: policy.Allowance, Rules: []policy.Rule{{
			Direction: policy.Ingress, Peers: []policy.Peer{{CIDR: netip.MustParsePrefix("10.0.0.0/8")}}, Ports: []policy.Port{{Protocol: policy.TCP, First: 443, Last: 443}},
		}}},
	}
	objects := map[string]client.Object{}
	for name, b := range backends {
		for kind, p := range policies {
			objects[name+" "+kind] = render.Render(b, set, p)
		}
	}
	for name, l := range guards {
		objects[name+" guard"] = render.Guard(l, policy.Guard{Baseline: set.Baseline, Directions: policies["deny"].Directions})
	}
	for name, obj := range objects {
		createServed(t, &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}, env.client, obj)
		renamed, ok := obj.DeepCopyObject().(client.Object)
		if !ok {
			t.Fatalf("%T", obj)
		}
		renamed.SetName("mine")
		renamed.SetResourceVersion("")
		if err := refused(c.Create(t.Context(), renamed, client.DryRunAll), admission.OwnLimits, "of the baseline that they are labelled with"); err != nil {
			t.Errorf("%s under another name: %v", name, err)
		}
	}
	for name, tc := range openings {
		t.Run(name, func(t *testing.T) {
			open, err := patch(t, objects[tc.of+" "+tc.policy], tc.patch)
			if err != nil {
				t.Fatal(err)
			}
			if err := refused(c.Update(t.Context(), open, client.DryRunAll), admission.OwnLimits, tc.words); err != nil {
				t.Error(err)
			}
		})
	}
}

// refused returns an error unless a request was refused by a policy, in words that contain these.
func refused(err error, policyName, words string) error {
	if err == nil {
		return errors.New("it was not refused")
	}
	for _, w := range []string{"'" + policyName + "'", words} {
		if !strings.Contains(err.Error(), w) {
			return fmt.Errorf("the refusal lacks %q: %w", w, err)
		}
	}
	return nil
}

// What the guard refuses in the core API it refuses in every other.
func TestTheGuardHoldsInEveryAPI(t *testing.T) {
	c := operator(t)
	set := policy.Set{Baseline: guarded, Namespace: createNamespace(t)}
	deny := policy.Policy{Name: "default-deny", Role: policy.Deny, Directions: []policy.Direction{policy.Ingress, policy.Egress}}
	objects := []client.Object{}
	for _, b := range []render.Backend{core.Backend{}, calico.Backend{}, calico.Backend{Staged: true}, cilium.Backend{}} {
		objects = append(objects, render.Render(b, set, deny))
	}
	for _, l := range []render.GuardLayer{calico.Guard{}, cilium.Guard{}, cluster.Guard{}} {
		objects = append(objects, render.Guard(l, policy.Guard{Baseline: guarded, Directions: deny.Directions}))
	}
	refuses := map[string]string{
		"a direction less":     `{"spec":{"ingress":null,"types":["Egress"],"policyTypes":["Egress"]}}`,
		"labels that are gone": `{"metadata":{"labels":null}}`,
		"another baseline":     `{"metadata":{"labels":{"pcinetwork.dev/baseline":"other"}}}`,
		"an owner":             `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"y"}]}}`,
		"a finalizer":          `{"metadata":{"finalizers":["example.com/mine"]}}`,
		"Argo CD's claim":      `{"metadata":{"annotations":{"argocd.argoproj.io/tracking-id":"app:x"}}}`,
		"Argo CD may prune it": `{"metadata":{"annotations":{"argocd.argoproj.io/sync-options":null}}}`,
	}
	passes := map[string]string{
		"a harmless annotation":      `{"metadata":{"annotations":{"example.com/seen":"yes"}}}`,
		"a finalizer that is taken":  `{"metadata":{"finalizers":["example.com/yours"]}}`,
		"all of them":                `{"metadata":{"finalizers":null}}`,
		"an owner who gives it away": `{"metadata":{"ownerReferences":null}}`,
	}
	for _, obj := range objects {
		t.Run(fmt.Sprintf("%T", obj), func(t *testing.T) {
			createServed(t, &apply.Applier{Client: c, Observe: func(client.Object, apply.Operation, error) {}}, c, obj)
			for what, text := range refuses {
				_, err := patch(t, obj, text)
				if err := refused(err, admission.TamperGuard, "PCINetworkBaseline "+guarded); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			if err := refused(env.client.Delete(t.Context(), obj, client.DryRunAll), admission.TamperGuard, "PCINetworkBaseline "+guarded); err != nil {
				t.Errorf("a deletion: %v", err)
			}
			if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
				t.Fatal(err)
			}
			obj.SetFinalizers([]string{"example.com/mine", "example.com/yours"}) // as from a time without the guard
			obj.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "x", UID: "y"}})
			if err := c.Update(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
			for what, text := range passes {
				if _, err := patch(t, obj, text); err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			obj.SetFinalizers(nil)
			if err := c.Update(t.Context(), obj); err != nil {
				t.Fatal(err)
			}
		})
	}
}
