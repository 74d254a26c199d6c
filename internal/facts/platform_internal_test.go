// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

func TestFlags(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want map[string]string
	}{
		"no argument":                         {},
		"a value behind an equals sign":       {[]string{"--run-firewall=false"}, map[string]string{"run-firewall": "false"}},
		"a value of its own":                  {[]string{"--source", "config-map:cilium-config"}, map[string]string{"source": "config-map:cilium-config"}},
		"no value is true":                    {[]string{"--policy-audit-mode", "--ipam=eni"}, map[string]string{"policy-audit-mode": "true", "ipam": "eni"}},
		"no value at the end is true":         {[]string{"--fail-open"}, map[string]string{"fail-open": "true"}},
		"an empty value is empty":             {[]string{"--enable-policy="}, map[string]string{"enable-policy": ""}},
		"one dash":                            {[]string{"-run-firewall=false"}, map[string]string{"run-firewall": "false"}},
		"lists add up":                        {[]string{"--source=a", "--source=b"}, map[string]string{"source": "a,b"}},
		"what is not looked at is not kept":   {[]string{"--token=secret", "--network-policy=false", "secret"}, map[string]string{"network-policy": "false"}},
		"a word that is no flag is not taken": {[]string{"run-firewall=false"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, flags(tc.args)); diff != "" {
				t.Errorf("flags (-want +got):\n%s", diff)
			}
		})
	}
}

// What nobody looks at is not cached: it may be secret, and there may be a lot of it.
func TestTrimKeepsWhatIsLookedAtAlone(t *testing.T) {
	t.Parallel()
	noise := metav1.ObjectMeta{
		Namespace: "n", Name: "x", UID: "u", ResourceVersion: "1", Annotations: map[string]string{"k3s.io/node-args": "[]", "secret": "s"},
		Labels: map[string]string{"l": "v"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
	}
	node := &corev1.Node{ObjectMeta: noise}
	node.Spec.ProviderID = "kind://x"
	node.Status.NodeInfo.KubeletVersion = "v1"
	node.Status.Conditions = []corev1.NodeCondition{
		{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"},
		{Type: corev1.NodeNetworkUnavailable, Reason: "CiliumIsUp"},
		{Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue},
	}
	node.Status.Images = []corev1.ContainerImage{{Names: []string{"i"}}}
	daemonSet := &appsv1.DaemonSet{ObjectMeta: noise}
	daemonSet.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	daemonSet.Spec.Template.Spec.Containers = []corev1.Container{{
		Name: "c", Image: "i", Args: []string{"--password=p", "--run-firewall"},
		Env: []corev1.EnvVar{
			{Name: "PASSWORD", Value: "p"},
			{Name: "FELIX_X", Value: "y"},
			{Name: "WEAVE_PASSWORD", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{}}},
			{Name: "WEAVE_PASSWORD_OLD", Value: "p"},
		},
	}}
	daemonSet.Status = appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, NumberReady: 1}
	pod := &corev1.Pod{ObjectMeta: noise}
	pod.Spec.NodeName = "n1"
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	for name, tc := range map[string]struct {
		kind string
		in   any
		want any
	}{
		"a node": {snapshot.KindNode, node, snapshot.Node{
			Name: "x", Labels: map[string]string{"l": "v"}, Annotations: map[string]string{"k3s.io/node-args": "[]"},
			ProviderID: "kind://x", Kubelet: "v1", Ready: true, NetworkReason: "CiliumIsUp",
		}},
		"a DaemonSet": {snapshot.KindDaemonSet, daemonSet, snapshot.DaemonSet{
			Namespace: "n", Name: "x", Selector: "a=b", Desired: 2, Ready: 1,
			Containers: []snapshot.Container{{Name: "c", Image: "i", Flags: map[string]string{"run-firewall": "true"}, Env: map[string]string{"FELIX_X": "y", "WEAVE_PASSWORD": "(given)"}}},
		}},
		"a pod": {snapshot.KindPod, pod, snapshot.Object{
			Kind: snapshot.KindPod, Namespace: "n", Name: "x", Data: map[string]string{"node": "n1", "ready": "true"},
		}},
		"a definition": {snapshot.KindCustomResourceDefinition, &metav1.PartialObjectMetadata{ObjectMeta: noise}, snapshot.Object{
			Kind: snapshot.KindCustomResourceDefinition, Name: "x",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			trimmed, err := trimToValue(tc.kind)(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			again, err := trimToValue(tc.kind)(trimmed) // informers may trim twice
			if err != nil || again != trimmed {
				t.Errorf("trimmed twice: %v, %v", again, err)
			}
			got, ok := trimmed.(*item)
			if !ok {
				t.Fatalf("got %T", trimmed)
			}
			if diff := cmp.Diff(tc.want, got.value); diff != "" {
				t.Errorf("value (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(metav1.ObjectMeta{Namespace: "n", Name: "x"}, got.ObjectMeta); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
		})
	}
}

// A password that is given is no more than that; one that is empty or may be missing is not given.
func TestSecretsOfTheEnvironment(t *testing.T) {
	t.Parallel()
	from := func(optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Optional: optional}}
	}
	for name, tc := range map[string]struct {
		env  corev1.EnvVar
		want map[string]string
	}{
		"in the clear":           {corev1.EnvVar{Value: "secret"}, map[string]string{"WEAVE_PASSWORD": "(given)"}},
		"of a Secret":            {corev1.EnvVar{ValueFrom: from(nil)}, map[string]string{"WEAVE_PASSWORD": "(given)"}},
		"of one that must be":    {corev1.EnvVar{ValueFrom: from(new(false))}, map[string]string{"WEAVE_PASSWORD": "(given)"}},
		"of one that may be not": {corev1.EnvVar{ValueFrom: from(new(true))}, nil},
		"of something else":      {corev1.EnvVar{ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{}}}, nil},
		"empty":                  {corev1.EnvVar{}, nil},
	} {
		tc.env.Name = "WEAVE_PASSWORD"
		if diff := cmp.Diff(tc.want, environment([]corev1.EnvVar{tc.env})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Calico goes by the labels that it has put away, where it has.
func TestLabelsOfHostEndpoints(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"l": "v"}
	for name, tc := range map[string]struct {
		meta metav1.ObjectMeta
		want map[string]string
	}{
		"of projectcalico.org":        {metav1.ObjectMeta{Labels: labels}, labels},
		"of crd.projectcalico.org":    {metav1.ObjectMeta{Annotations: map[string]string{"projectcalico.org/metadata": `{"labels":{"l":"v"}}`}}, labels},
		"put away, and others beside": {metav1.ObjectMeta{Labels: map[string]string{"x": "y"}, Annotations: map[string]string{"projectcalico.org/metadata": `{"labels":{"l":"v"}}`}}, labels},
		"put away, and unreadable":    {metav1.ObjectMeta{Labels: labels, Annotations: map[string]string{"projectcalico.org/metadata": "x"}}, nil},
	} {
		o := &unstructured.Unstructured{Object: map[string]any{}}
		o.SetLabels(tc.meta.Labels)
		o.SetAnnotations(tc.meta.Annotations)
		trimmed, err := trimToValue(snapshot.KindHostEndpoint)(o)
		if err != nil {
			t.Fatal(err)
		}
		if got := trimmed.(*item).value.(snapshot.Object).Data; !maps.Equal(got, tc.want) { //nolint:forcetypeassert // a test
			t.Errorf("%s: %v", name, got)
		}
	}
}

// The operator's role names kinds one by one, so every kind must be mapped without asking the API server.
func TestEveryKindIsMapped(t *testing.T) {
	t.Parallel()
	mapper := PlatformMapper()
	for key, kind := range platformKinds {
		for _, version := range kind.versions {
			mapping, err := mapper.RESTMapping(version.WithKind(kind.kind(key)).GroupKind(), version.Version)
			if err != nil || mapping.Resource.Resource != kind.plural {
				t.Errorf("%s of %s is mapped to %v: %v", key, version, mapping, err)
			}
		}
	}
}

// The kubelets' status of nodes comes every few minutes, from each of thousands.
func TestUpdatesThatChangeNothingWakeNobody(t *testing.T) {
	t.Parallel()
	woken := 0
	source := &platformSource{changed: func() { woken++ }}
	trimmed := func(version, kubelet string) any {
		n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: version}}
		n.Status.NodeInfo.KubeletVersion = kubelet
		out, err := trimToValue(snapshot.KindNode)(n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	source.updated(trimmed("1", "v1"), trimmed("2", "v1"))
	if woken != 0 {
		t.Error("woken by nothing")
	}
	source.updated(trimmed("2", "v1"), trimmed("3", "v2"))
	if woken != 1 {
		t.Errorf("woken %d times by a change, want once", woken)
	}
}
