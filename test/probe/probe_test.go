// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package probe_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

const baselineName = "pci"

func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := env.client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.IgnoreNotFound(env.client.Delete(context.WithoutCancel(t.Context()), object)); err != nil {
			t.Error(err)
		}
	})
}

// join adds nodes, until the test ends.
func join(t *testing.T, nodes ...string) {
	t.Helper()
	env.network.edit(func() {
		for _, name := range nodes {
			env.network.nodes[name] = &node{index: len(env.network.nodes) + 1, room: 110}
		}
		env.network.most, env.network.seen = 0, map[string]bool{}
	})
	t.Cleanup(func() { env.network.edit(func() { clear(env.network.nodes) }) })
	for _, name := range nodes {
		create(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux"}}})
	}
}

// on changes what is played of a node.
func on(name string, change func(*node)) {
	env.network.edit(func() { change(env.network.nodes[name]) })
}

// declare creates a baseline that denies everything, changed if somebody says how, and checks when the test ends that nothing is left of
// the canaries once it is gone.
func declare(t *testing.T, edit ...func(*pcinetv1alpha1.PCINetworkBaseline)) {
	t.Helper()
	b := &pcinetv1alpha1.PCINetworkBaseline{ObjectMeta: metav1.ObjectMeta{Name: baselineName}}
	b.Spec.Allow.DNS = pcinetv1alpha1.DNSAllowanceNone
	b.Spec.Verification.IntervalSeconds = 60
	b.Spec.DeletionPolicy = pcinetv1alpha1.DeletionPolicyDelete
	for _, e := range edit {
		e(b)
	}
	t.Cleanup(func() { checkClean(t) })
	create(t, b)
}

// checkClean waits until neither canaries nor policies are left, nor the baseline, whose finalizer needs an operator.
func checkClean(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	eventually.That(t, "nothing is left of the canaries", func() error {
		var pods corev1.PodList
		var policies networkingv1.NetworkPolicyList
		if err := errors.Join(env.client.List(ctx, &pods, client.InNamespace(probe.Namespace)), env.client.List(ctx, &policies, client.InNamespace(probe.Namespace))); err != nil {
			return err
		}
		if len(pods.Items)+len(policies.Items) > 0 {
			return fmt.Errorf("%d pods and %d policies are there", len(pods.Items), len(policies.Items))
		}
		if err := env.client.Get(ctx, client.ObjectKey{Name: baselineName}, &pcinetv1alpha1.PCINetworkBaseline{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the baseline is there, or not known to be gone: %w", err)
		}
		return nil
	})
}

// await waits until the baseline's conditions say something: "Type=Status/Reason", with parts of the message of the first. It returns
// that message.
func await(t *testing.T, want string, words ...string) string {
	t.Helper()
	message := ""
	eventually.That(t, want+" "+strings.Join(words, " … "), func() error {
		b := &pcinetv1alpha1.PCINetworkBaseline{}
		if err := env.client.Get(t.Context(), client.ObjectKey{Name: baselineName}, b); err != nil {
			return err
		}
		kind, _, _ := strings.Cut(want, "=")
		c := apimeta.FindStatusCondition(b.Status.Conditions, kind)
		if c == nil {
			return errors.New("there is no such condition")
		}
		message = c.Message
		if got := fmt.Sprintf("%s=%s/%s", c.Type, c.Status, c.Reason); got != want {
			return fmt.Errorf("it is %s: %s", got, c.Message)
		}
		for _, w := range words {
			if !strings.Contains(c.Message, w) {
				return fmt.Errorf("the message lacks %q: %s", w, c.Message)
			}
		}
		return nil
	})
	return message
}

const proven, disproven = "EnforcementProven=True/DenialProven", "EnforcementProven=False/DeniedTrafficPasses"

func TestEveryNodeIsProvenWithABoundedNumberOfCanaries(t *testing.T) {
	nodes := []string{"n1", "n2", "n3", "n4", "n5", "n6"}
	join(t, nodes...)
	startOperator(t, "canary")
	declare(t)
	await(t, proven, "on 6 of 6 nodes")
	await(t, "Ready=True/AllNamespacesProtected")
	b := &pcinetv1alpha1.PCINetworkBaseline{}
	if err := env.client.Get(t.Context(), client.ObjectKey{Name: baselineName}, b); err != nil {
		t.Fatal(err)
	}
	p := b.Status.Proof
	if p == nil || *p.Proven != 6 || *p.Required != 6 || *p.Disproven != 0 || p.LastRoundAt.IsZero() || p.OldestAt.IsZero() ||
		*p.StartWindowMilliseconds != 41 || p.EstablishedConnections != pcinetv1alpha1.EstablishedCut {
		t.Errorf("status.proof is %+v", p)
	}
	eventually.That(t, "the coverage says the same", func() error {
		c := &pcinetv1alpha1.NamespaceCoverage{}
		if err := env.client.Get(t.Context(), client.ObjectKey{Namespace: probe.Namespace, Name: baselineName}, c); err != nil {
			return err
		}
		if !apimeta.IsStatusConditionTrue(c.Status.Conditions, pcinetv1alpha1.ConditionEnforcementProven) {
			return fmt.Errorf("it says %v", c.Status.Conditions)
		}
		return nil
	})
	env.network.edit(func() {
		if env.network.most > 2*probe.MaxNodes {
			t.Errorf("there were %d canaries at a time, want at most %d", env.network.most, 2*probe.MaxNodes)
		}
		if len(env.network.seen) != len(nodes) {
			t.Errorf("there were canaries on %v alone", env.network.seen)
		}
	})
	join := func() { // a node that joins is tested at once
		env.network.edit(func() {
			env.network.nodes["n7"] = &node{index: 7, room: 110, opens: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}}
		})
		create(t, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n7", Labels: map[string]string{corev1.LabelOSStable: "linux"}}})
	}
	join()
	await(t, disproven, "1 of 7 nodes (n7)", "node n7, egress")
}

// A node that does not enforce is told apart from those that do, in the direction in which it does not, until it does.
func TestANodeThatDoesNotEnforceIsNamed(t *testing.T) {
	cases := map[string]struct {
		breakIt, repair func(*node)
		words           []string
	}{
		"ingress is open": {
			func(n *node) { n.opens = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress} }, func(n *node) { n.opens = nil },
			[]string{"1 of 2 nodes (n2)", "node n2, ingress, IPv", "was answered by the target there, on port 2430"},
		},
		"egress is open": {
			func(n *node) { n.opens = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress} }, func(n *node) { n.opens = nil },
			[]string{"1 of 2 nodes (n2)", "node n2, egress, IPv4, TCP", "was answered by the API server at 198.18.0.1:"},
		},
		"what comes from outside is let in": {
			func(n *node) { n.leaks = true }, func(n *node) { n.leaks = false },
			[]string{"1 of 2 nodes (n2)", "node n2, ingress, IPv4", "from outside was answered by the target there", "to the vantage at 203.0.113.1"},
		},
		"its agent is frozen": {
			func(n *node) { n.frozen = slices.Clone(env.network.policies) }, func(n *node) { n.frozen = nil },
			[]string{"1 of 2 nodes (n2)", "node n2"},
		},
	}
	join(t, "n1", "n2")
	startOperator(t, "canary")
	declare(t, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Verification.Vantage.Address = "203.0.113.1" })
	await(t, proven, "on 2 of 2 nodes")
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			on("n2", tc.breakIt)
			t.Log(await(t, disproven, tc.words...))
			await(t, "Ready=False/DeniedTrafficPasses", tc.words[0])
			on("n2", tc.repair)
			await(t, proven)
			await(t, "Ready=True/AllNamespacesProtected")
		})
	}
}

func TestNoNodeEnforces(t *testing.T) {
	join(t, "n1")
	on("n1", func(n *node) {
		n.opens = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	})
	startOperator(t, "canary")
	declare(t)
	await(t, disproven, "1 of 1 nodes (n1)")
	await(t, "Ready=False/DeniedTrafficPasses")
}

// A baseline that changes is tested at once, and so is what it has not denied before. The interval is far longer than a test waits.
func TestAChangedBaselineIsTestedAtOnce(t *testing.T) {
	join(t, "n1")
	on("n1", func(n *node) { n.opens = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress} })
	startOperator(t, "canary")
	declare(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Verification = pcinetv1alpha1.Verification{IntervalSeconds: 3600, FreshnessSeconds: 7200, Nodes: 1}
		b.Spec.Directions = []pcinetv1alpha1.Direction{pcinetv1alpha1.DirectionIngress}
	})
	await(t, proven, "on 1 of 1 nodes")
	env.network.edit(func() { env.network.mute = true })
	t.Cleanup(func() { env.network.edit(func() { env.network.mute = false }) })
	change(t, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Verification.Vantage.Address = "203.0.113.1" })
	t.Log(await(t, "EnforcementProven=Unknown/ControlFailed", "from outside: nothing is heard of the vantage at 203.0.113.1:24310"))
	env.network.edit(func() { env.network.mute = false })
	await(t, proven, "on 1 of 1 nodes")
	change(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
		b.Spec.Directions = append(b.Spec.Directions, pcinetv1alpha1.DirectionEgress)
	})
	await(t, disproven, "node n1, egress")
}

// What keeps canaries from proving anything is Unknown, with its reason, and leaves Ready alone. When it is over, there is a proof.
func TestWhatKeepsCanariesFromProvingIsUnknown(t *testing.T) {
	cases := map[string]struct {
		breakIt           func(t *testing.T)
		repair            func(t *testing.T)
		reason            string
		words             []string
		leavesNothingThen bool // nothing of the canaries is there meanwhile
	}{
		"no node": {
			breakIt: func(t *testing.T) { t.Helper(); deleteNode(t, "n1") }, reason: "NoNodes",
			words: []string{"no node on which a canary could run"}, leavesNothingThen: true,
		},
		"no free node": {
			breakIt: func(t *testing.T) {
				t.Helper()
				on("n1", func(n *node) { n.room = 0 })
				awaitNode(t, "n1", "it is full", func(n *corev1.Node) bool { return n.Status.Allocatable.Pods().IsZero() })
			},
			repair: func(*testing.T) { on("n1", func(n *node) { n.room = 110 }) },
			reason: "CanaryNotStarted", words: []string{"node n1", "Unschedulable", "Too many pods"},
		},
		"the image is missing": {
			breakIt: func(*testing.T) { on("n1", func(n *node) { n.noImage = true }) },
			repair:  func(*testing.T) { on("n1", func(n *node) { n.noImage = false }) },
			reason:  "CanaryNotStarted", words: []string{"node n1", "ErrImagePull not found"},
		},
		"canaries are evicted": {
			breakIt: func(*testing.T) { on("n1", func(n *node) { n.evicts = true }) },
			repair:  func(*testing.T) { on("n1", func(n *node) { n.evicts = false }) },
			reason:  "CanaryLost", words: []string{"node n1", "Evicted"},
		},
		"the control does not connect": {
			breakIt: func(*testing.T) { on("n1", func(n *node) { n.deaf = true }) },
			repair:  func(*testing.T) { on("n1", func(n *node) { n.deaf = false }) },
			reason:  "ControlFailed", words: []string{"node n1", "what is allowed did not connect either"},
		},
		"the node is down": {
			breakIt: func(t *testing.T) {
				t.Helper()
				on("n1", func(n *node) { n.down = true })
				awaitNode(t, "n1", "it is not Ready", func(n *corev1.Node) bool { return n.Status.Conditions[0].Status == corev1.ConditionFalse })
			},
			repair: func(*testing.T) { on("n1", func(n *node) { n.down = false }) },
			reason: "CanaryNotStarted", words: []string{"n1 is not Ready"}, leavesNothingThen: true,
		},
		"a quota leaves no room": {
			breakIt: func(t *testing.T) {
				t.Helper()
				create(t, &corev1.ResourceQuota{
					ObjectMeta: metav1.ObjectMeta{Namespace: probe.Namespace, Name: "none"},
					Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}},
				})
			},
			repair: func(t *testing.T) { t.Helper(); remove(t, &corev1.ResourceQuota{}, "none") },
			reason: "QuotaExceeded", words: []string{"exceeded quota: none"}, leavesNothingThen: true,
		},
		"admission refuses": {
			breakIt: refuseCanaries,
			repair: func(t *testing.T) {
				t.Helper()
				remove(t, &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}, "frozen")
			},
			reason: "AdmissionRefused", words: []string{"no pods here"}, leavesNothingThen: true,
		},
		"the namespace is deleted": {
			breakIt: func(t *testing.T) {
				t.Helper()
				ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: probe.Namespace}}
				if err := env.client.Delete(t.Context(), ns); err != nil {
					t.Fatal(err)
				}
				eventually.That(t, "it is gone", func() error {
					if err := env.client.Get(t.Context(), client.ObjectKeyFromObject(ns), ns); !apierrors.IsNotFound(err) {
						return fmt.Errorf("it is %s, %w", ns.Status.Phase, err)
					}
					return nil
				})
			},
			repair: installAgain, reason: "CanaryNamespaceMissing", words: []string{"kubectl apply --server-side -k config/default"}, leavesNothingThen: true,
		},
		"somebody's policy opens them": {
			breakIt: func(t *testing.T) {
				t.Helper()
				create(t, &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: probe.Namespace, Name: "open"}, Spec: networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{{}}}})
			},
			repair: func(t *testing.T) { t.Helper(); remove(t, &networkingv1.NetworkPolicy{}, "open") },
			reason: "CanaryOpened", words: []string{"networkpolicies.networking.k8s.io open"},
		},
		"the baseline leaves them out": {
			breakIt: func(t *testing.T) {
				t.Helper()
				change(t, func(b *pcinetv1alpha1.PCINetworkBaseline) {
					b.Spec.Namespaces.Exclude = []pcinetv1alpha1.NamespaceName{probe.Namespace}
				})
			},
			repair: func(t *testing.T) {
				t.Helper()
				change(t, func(b *pcinetv1alpha1.PCINetworkBaseline) { b.Spec.Namespaces.Exclude = nil })
			},
			reason: "CanaryNotCovered", words: []string{"not in the scope of baseline pci"}, leavesNothingThen: true,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			join(t, "n1")
			o := startOperator(t, "canary")
			declare(t)
			await(t, proven)
			o.stop(t)
			tc.breakIt(t)
			o.start(t) // what the last one has proven is not known to it
			t.Log(await(t, "EnforcementProven=Unknown/"+tc.reason, tc.words...))
			await(t, "Ready=True/AllNamespacesProtected")
			if tc.leavesNothingThen {
				eventually.That(t, "no canary is left", noCanary)
			}
			if tc.repair != nil {
				tc.repair(t)
				await(t, proven)
			}
		})
	}
}

// Where connections outlive a deny, it does not reach those of a pod that is older. A pod without any, or that is younger, is not told.
func TestPodsThatAreOlderThanTheirDenyAreNamed(t *testing.T) {
	join(t, "n1")
	on("n1", func(n *node) { n.keeps = true })
	start := func(name string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}, Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64(0)), Containers: []corev1.Container{{Name: "main", Image: "image"}},
		}}
		eventually.That(t, "pod "+name+" is admitted", func() error { return env.client.Create(t.Context(), p) })
		t.Cleanup(func() {
			if err := env.client.Delete(context.WithoutCancel(t.Context()), p); err != nil {
				t.Error(err)
			}
		})
		return p
	}
	start("older")
	ended := start("ended")
	was := ended.DeepCopy()
	ended.Status.Phase = corev1.PodSucceeded
	if err := env.client.Status().Patch(t.Context(), ended, client.MergeFrom(was)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond) // the API has seconds
	startOperator(t, "canary")
	declare(t)
	await(t, "DefaultDenyInPlace=True/AllNamespacesProtected")
	start("younger")
	await(t, proven)
	b := &pcinetv1alpha1.PCINetworkBaseline{}
	if err := env.client.Get(t.Context(), client.ObjectKey{Name: baselineName}, b); err != nil {
		t.Fatal(err)
	}
	want := &pcinetv1alpha1.OlderPods{Count: new(int32(1)), Names: []string{"default/older"}}
	if diff := cmp.Diff(want, b.Status.Proof.OlderPods); b.Status.Proof.EstablishedConnections != pcinetv1alpha1.EstablishedKept || diff != "" {
		t.Errorf("connections are %s, older pods (-want +got):\n%s", b.Status.Proof.EstablishedConnections, diff)
	}
}

// An operator that does not know its own image says so.
func TestTheImageIsUnknown(t *testing.T) {
	join(t, "n1")
	startOperator(t, "")
	declare(t)
	await(t, "EnforcementProven=Unknown/CanaryImageUnknown", "--probe-image")
	if err := noCanary(); err != nil {
		t.Error(err)
	}
}
