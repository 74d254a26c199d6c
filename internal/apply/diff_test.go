// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/intstr"

	pcinetv1alpha1 "github.com/pcinetwork/pci-network-baseline/api/v1alpha1"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
)

// intendedDeny is what the renderer makes of a deny.
func intendedDeny() *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{
			Name: "pcinb-pci-default-deny", Namespace: "shop",
			Labels:      map[string]string{"app.kubernetes.io/managed-by": "pci-network-baseline", "pcinetwork.dev/baseline": "pci"},
			Annotations: map[string]string{"argocd.argoproj.io/sync-options": "Prune=false,Delete=false"},
		},
		Spec: networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}},
	}
}

// intendedAllowance has every field of a NetworkPolicy spec.
func intendedAllowance() *networkingv1.NetworkPolicy {
	np := intendedDeny()
	np.Name = "pcinb-pci-allow-db"
	np.Spec.PodSelector = metav1.LabelSelector{MatchLabels: map[string]string{"app": "shop"}}
	ports := []networkingv1.NetworkPolicyPort{{Protocol: new(corev1.ProtocolTCP), Port: new(intstr.FromInt32(443)), EndPort: new(int32(444))}}
	peers := []networkingv1.NetworkPolicyPeer{
		{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/8", Except: []string{"10.1.0.0/16"}}},
		{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": "data"}}, PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}},
	}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}}
	np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: peers, Ports: ports}}
	return np.DeepCopy()
}

// stored is an object as the API server gives it back: with everything that it fills in.
func stored(np *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	np = np.DeepCopy()
	np.UID, np.ResourceVersion, np.Generation = "uid-1", "7", 1
	np.CreationTimestamp = metav1.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	return np
}

type tamper struct {
	change func(*networkingv1.NetworkPolicy)
	want   []string
}

func runTamper(t *testing.T, intended *networkingv1.NetworkPolicy, cases map[string]tamper) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			live := stored(intended)
			tc.change(live)
			got := apply.Diff(intended, live)
			if diff := cmp.Diff(tc.want, got.Fields); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
			if got.None() != (len(tc.want) == 0) {
				t.Errorf("None says %v", got.None())
			}
		})
	}
}

func TestDriftOfADeny(t *testing.T) {
	runTamper(t, intendedDeny(), map[string]tamper{
		"untouched": {change: func(*networkingv1.NetworkPolicy) {}},
		"empty lists in place of none": {change: func(p *networkingv1.NetworkPolicy) {
			p.Spec.Ingress, p.Spec.Egress = []networkingv1.NetworkPolicyIngressRule{}, []networkingv1.NetworkPolicyEgressRule{}
			p.Spec.PodSelector.MatchLabels = map[string]string{}
			p.OwnerReferences, p.Finalizers = []metav1.OwnerReference{}, []string{}
		}},
		"an ingress rule that allows everything": {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{}} }, []string{"spec.ingress"}},
		"an egress rule that allows everything":  {func(p *networkingv1.NetworkPolicy) { p.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{}} }, []string{"spec.egress"}},
		"a pod selector that selects fewer":      {func(p *networkingv1.NetworkPolicy) { p.Spec.PodSelector.MatchLabels = map[string]string{"app": "x"} }, []string{"spec.podSelector"}},
		"a direction taken away":                 {func(p *networkingv1.NetworkPolicy) { p.Spec.PolicyTypes = p.Spec.PolicyTypes[:1] }, []string{"spec.policyTypes"}},
		"all directions taken away":              {func(p *networkingv1.NetworkPolicy) { p.Spec.PolicyTypes = nil }, []string{"spec.policyTypes"}},
		"everything at once is listed in one order": {
			func(p *networkingv1.NetworkPolicy) {
				p.Spec = networkingv1.NetworkPolicySpec{
					PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}},
					Ingress:     []networkingv1.NetworkPolicyIngressRule{{}}, Egress: []networkingv1.NetworkPolicyEgressRule{{}},
				}
				p.Labels, p.Annotations, p.Finalizers = nil, nil, []string{"x/y"}
				p.OwnerReferences = []metav1.OwnerReference{{Name: "x"}}
			},
			[]string{
				"spec.podSelector", "spec.ingress", "spec.egress", "spec.policyTypes",
				"metadata.labels", "metadata.annotations", "metadata.ownerReferences", "metadata.finalizers",
			},
		},
	})
}

// Every leaf of an allowance's spec, changed one at a time.
func TestDriftOfAnAllowance(t *testing.T) {
	in, out := []string{"spec.ingress"}, []string{"spec.egress"}
	runTamper(t, intendedAllowance(), map[string]tamper{
		"untouched":                      {change: func(*networkingv1.NetworkPolicy) {}},
		"the rules removed":              {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress, p.Spec.Egress = nil, nil }, []string{"spec.ingress", "spec.egress"}},
		"a rule added":                   {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress = append(p.Spec.Ingress, p.Spec.Ingress[0]) }, in},
		"peers removed, which means all": {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].From = nil }, in},
		"ports removed, which means all": {func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].Ports = nil }, out},
		"a wider range":                  {func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].To[0].IPBlock.CIDR = "0.0.0.0/0" }, out},
		"an exception removed":           {func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].To[0].IPBlock.Except = nil }, out},
		"an exception changed":           {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].From[0].IPBlock.Except[0] = "10.2.0.0/16" }, in},
		"a namespace selector removed":   {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].From[1].NamespaceSelector = nil }, in},
		"a namespace selector emptied": {
			func(p *networkingv1.NetworkPolicy) {
				p.Spec.Egress[0].To[1].NamespaceSelector = &metav1.LabelSelector{}
			}, out,
		},
		"a pod selector removed": {func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].To[1].PodSelector = nil }, out},
		"a pod selector's value": {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].From[1].PodSelector.MatchLabels["app"] = "x" }, in},
		"an expression added": {func(p *networkingv1.NetworkPolicy) {
			p.Spec.PodSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "x", Operator: metav1.LabelSelectorOpExists}}
		}, []string{"spec.podSelector"}},
		"the subject widened":    {func(p *networkingv1.NetworkPolicy) { p.Spec.PodSelector.MatchLabels = nil }, []string{"spec.podSelector"}},
		"another protocol":       {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].Ports[0].Protocol = new(corev1.ProtocolUDP) }, in},
		"a protocol removed":     {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].Ports[0].Protocol = nil }, in},
		"another port":           {func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].Ports[0].Port = new(intstr.FromInt32(1)) }, out},
		"the same port as text":  {func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].Ports[0].Port = new(intstr.FromString("443")) }, out},
		"a port removed":         {func(p *networkingv1.NetworkPolicy) { p.Spec.Egress[0].Ports[0].Port = nil }, out},
		"another end of a range": {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].Ports[0].EndPort = new(int32(65535)) }, in},
		"a range's end removed":  {func(p *networkingv1.NetworkPolicy) { p.Spec.Ingress[0].Ports[0].EndPort = nil }, in},
	})
}

func TestDriftOfMetadata(t *testing.T) {
	labels, annotations := []string{"metadata.labels"}, []string{"metadata.annotations"}
	runTamper(t, intendedDeny(), map[string]tamper{
		"the labels stripped":         {func(p *networkingv1.NetworkPolicy) { p.Labels = nil }, labels},
		"one label stripped":          {func(p *networkingv1.NetworkPolicy) { delete(p.Labels, "pcinetwork.dev/baseline") }, labels},
		"a label emptied":             {func(p *networkingv1.NetworkPolicy) { p.Labels["pcinetwork.dev/baseline"] = "" }, labels},
		"a label changed":             {func(p *networkingv1.NetworkPolicy) { p.Labels["pcinetwork.dev/baseline"] = "theirs" }, labels},
		"a harmless label added":      {change: func(p *networkingv1.NetworkPolicy) { p.Labels["team"] = "shop" }},
		"the annotations stripped":    {func(p *networkingv1.NetworkPolicy) { p.Annotations = nil }, annotations},
		"an annotation changed":       {func(p *networkingv1.NetworkPolicy) { p.Annotations["argocd.argoproj.io/sync-options"] = "Prune=true" }, annotations},
		"a harmless annotation added": {change: func(p *networkingv1.NetworkPolicy) { p.Annotations["note"] = "looked at" }},
		"an owner that is collected": {func(p *networkingv1.NetworkPolicy) {
			p.OwnerReferences = []metav1.OwnerReference{{Name: "x", UID: "y"}}
		}, []string{"metadata.ownerReferences"}},
		"a finalizer that holds it back": {func(p *networkingv1.NetworkPolicy) { p.Finalizers = []string{"x/y"} }, []string{"metadata.finalizers"}},
	})
	for _, key := range []string{
		"app.kubernetes.io/instance", "argocd.argoproj.io/instance", "argocd.argoproj.io/tracking-id",
		"kustomize.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/namespace", "meta.helm.sh/release-name",
		"kapp.k14s.io/app", "objectset.rio.cattle.io/hash", "generate.kyverno.io/policy-name",
	} {
		runTamper(t, intendedDeny(), map[string]tamper{
			"claimed by label " + key:      {func(p *networkingv1.NetworkPolicy) { p.Labels[key] = "x" }, labels},
			"claimed by annotation " + key: {func(p *networkingv1.NetworkPolicy) { p.Annotations[key] = "x" }, annotations},
		})
	}
}

// kubectl apply --prune deletes what carries its ApplySet's label and is not in the set (KEP 3659), and every member of
// a set is selected by that label alone.
func TestApplySetMembershipIsDrift(t *testing.T) {
	runTamper(t, intendedDeny(), map[string]tamper{
		"claimed by an ApplySet": {
			func(p *networkingv1.NetworkPolicy) { p.Labels["applyset.kubernetes.io/part-of"] = "applyset-x-v1" },
			[]string{"metadata.labels"},
		},
	})
}

// A kind without a spec is compared by its status.
func TestDriftOfACoverage(t *testing.T) {
	intended := &pcinetv1alpha1.NamespaceCoverage{Status: pcinetv1alpha1.NamespaceCoverageStatus{State: pcinetv1alpha1.CoverageProtected}}
	live := intended.DeepCopy()
	live.Status.Policies = []pcinetv1alpha1.CoveragePolicy{}
	if got := apply.Diff(intended, live); !got.None() {
		t.Errorf("drift %v, want none", got.Fields)
	}
	live.Status.State = pcinetv1alpha1.CoveragePending
	if diff := cmp.Diff([]string{"status.state"}, apply.Diff(intended, live).Fields); diff != "" {
		t.Errorf("drift (-want +got):\n%s", diff)
	}
}

// An untyped object is compared by everything that its kind has beside metadata and status, and may have an owner.
func TestDriftOfAReport(t *testing.T) {
	intended := func() *unstructured.Unstructured {
		o := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "openreports.io/v1alpha1", "kind": "ClusterReport", "source": "pci-network-baseline",
			"results": []any{map[string]any{"result": "fail", "timestamp": map[string]any{"seconds": int64(1), "nanos": int64(0)}}},
		}}
		o.SetOwnerReferences([]metav1.OwnerReference{{UID: "1", Name: "pci"}})
		return o
	}
	cases := map[string]struct {
		change func(*unstructured.Unstructured)
		want   []string
	}{
		"as it was stored": {change: func(o *unstructured.Unstructured) {
			o.SetUID("7")
			o.Object["status"] = "x"
		}},
		"another result": {
			change: func(o *unstructured.Unstructured) { o.Object["results"] = []any{map[string]any{"result": "pass"}} },
			want:   []string{"results"},
		},
		"a field less, and one more": {
			change: func(o *unstructured.Unstructured) {
				delete(o.Object, "source")
				o.Object["scope"] = map[string]any{"name": "x"}
			},
			want: []string{"scope", "source"},
		},
		"no owner": {change: func(o *unstructured.Unstructured) { o.SetOwnerReferences(nil) }, want: []string{"metadata.ownerReferences"}},
		"another owner": {
			change: func(o *unstructured.Unstructured) {
				o.SetOwnerReferences([]metav1.OwnerReference{{UID: "2", Name: "pci"}})
			},
			want: []string{"metadata.ownerReferences"},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			live := intended()
			tc.change(live)
			before := live.DeepCopy()
			if diff := cmp.Diff(tc.want, apply.Diff(intended(), live).Fields); diff != "" {
				t.Errorf("drift (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, live); diff != "" {
				t.Errorf("comparing changed it:\n%s", diff)
			}
		})
	}
}

func TestDriftNamesTheLastForeignManager(t *testing.T) {
	at := func(minute int) *metav1.Time {
		return new(metav1.Date(2026, 11, 23, 9, minute, 0, 0, time.UTC))
	}
	entry := func(manager string, when *metav1.Time) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, Time: when, FieldsV1: metav1.NewFieldsV1("{}")}
	}
	cases := map[string]struct {
		entries []metav1.ManagedFieldsEntry
		want    string
		wantAt  *metav1.Time
	}{
		"nobody is known":              {},
		"we alone":                     {entries: []metav1.ManagedFieldsEntry{entry(apply.FieldOwner, at(1))}},
		"the only one beside us":       {entries: []metav1.ManagedFieldsEntry{entry(apply.FieldOwner, at(1)), entry("eve", at(2))}, want: "eve", wantAt: at(2)},
		"the newest, in any order":     {entries: []metav1.ManagedFieldsEntry{entry("eve", at(3)), entry("bob", at(2)), entry(apply.FieldOwner, at(1))}, want: "eve", wantAt: at(3)},
		"within our second, they":      {entries: []metav1.ManagedFieldsEntry{entry("eve", at(1)), entry(apply.FieldOwner, at(1))}, want: "eve", wantAt: at(1)},
		"we wrote after them":          {entries: []metav1.ManagedFieldsEntry{entry("eve", at(1)), entry(apply.FieldOwner, at(2))}},
		"our newest entry counts":      {entries: []metav1.ManagedFieldsEntry{entry(apply.FieldOwner, at(3)), entry("eve", at(2)), entry(apply.FieldOwner, at(1))}},
		"an entry without a time":      {entries: []metav1.ManagedFieldsEntry{entry("eve", nil), entry("bob", at(1))}, want: "bob", wantAt: at(1)},
		"no entry has a time":          {entries: []metav1.ManagedFieldsEntry{entry("eve", nil)}},
		"an empty list is like no one": {entries: []metav1.ManagedFieldsEntry{}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			live := stored(intendedDeny())
			live.ManagedFields = tc.entries
			if got := apply.Diff(intendedDeny(), live); got.Manager != "" || !got.At.IsZero() {
				t.Errorf("without drift it blames %q", got.Manager)
			}
			live.Spec.PolicyTypes = nil
			for _, step := range []string{"as stored", "trimmed"} {
				got := apply.Diff(intendedDeny(), live)
				if got.Manager != tc.want || (tc.wantAt != nil && !got.At.Equal(tc.wantAt.Time)) || (tc.wantAt == nil && !got.At.IsZero()) {
					t.Errorf("%s: %q at %s, want %q at %s", step, got.Manager, got.At, tc.want, tc.wantAt)
				}
				apply.TrimManagedFields(live)
			}
			for _, e := range live.ManagedFields {
				if e.FieldsV1 != nil || e.Manager != tc.want || len(live.ManagedFields) > 1 {
					t.Errorf("left after trimming: %+v", live.ManagedFields)
				}
			}
		})
	}
}

// Trimming happens in the cache, before anybody compares: whoever is blamed must be the same.
func TestTrimmingDoesNotChangeTheBlame(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		live := stored(intendedDeny())
		live.Spec.PolicyTypes = nil
		for range r.IntN(5) {
			e := metav1.ManagedFieldsEntry{Manager: []string{apply.FieldOwner, "eve", "bob"}[r.IntN(3)]}
			if r.IntN(5) > 0 {
				e.Time = new(metav1.Date(2026, 11, 23, 9, 0, r.IntN(4), 0, time.UTC))
			}
			live.ManagedFields = append(live.ManagedFields, e)
		}
		before := fmt.Sprint(apply.Diff(intendedDeny(), live))
		entries := fmt.Sprint(live.ManagedFields)
		apply.TrimManagedFields(live)
		if after := fmt.Sprint(apply.Diff(intendedDeny(), live)); after != before {
			t.Fatalf("seed %d: %s became %s after trimming %s", seed, before, after, entries)
		}
	}
}
