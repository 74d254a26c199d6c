// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package facts

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// What is kept of nodes and DaemonSets. Everything else, which may be secret, is dropped before it is cached.
var (
	keptAnnotations = []string{ // prefixes
		"k3s.io/node-args", "rke2.io/node-args", "config.cilium.io/", "flannel.alpha.coreos.com/backend-type",
		"kubeadm.alpha.kubernetes.io/", "projectcalico.org/WireguardPublicKey",
	}
	keptEnv = []string{ // prefixes
		"FELIX_", "CALICO_", "CILIUM_", "CLUSTER_TYPE", "DATASTORE_TYPE", "NETWORK_POLICY_ENFORCING_MODE", "ENABLE_V4_EGRESS",
		"ENABLE_BANDWIDTH_PLUGIN", "EXPECT_NPC",
	}
	keptFlags = []string{
		"enable-network-policy", "run-firewall", "enable-overlay", "network-policy", "fail-open", "strict-mode",
		"source", "allow-config-keys", "deny-config-keys",
		"enable-policy", "policy-audit-mode", "enable-k8s-networkpolicy", "enable-cilium-network-policy", "allow-localhost",
		"disable-endpoint-crd", "enable-host-firewall", "enable-cilium-clusterwide-network-policy", "bpf-policy-map-max", "enable-endpoint-lockdown-on-policy-overflow",
		"enable-non-default-deny-policies", "enable-wireguard", "enable-ipsec", "enable-ztunnel", "enable-encryption-strict-mode-egress",
		"ipsec-overlay", "routing-mode", "tunnel-protocol", "ipam", "cni-chaining-mode",
	}
)

// item is what is cached of an object: its name, and what was made of it.
type item struct {
	metav1.ObjectMeta
	value any
}

// trimToValue turns an object into a value of package snapshot. Memory then grows with what is looked at, not with what
// objects hold: about 1 KiB for a node, 2 KiB for a DaemonSet.
func trimToValue(kind string) func(any) (any, error) {
	return func(in any) (any, error) {
		switch obj := in.(type) {
		case *corev1.Node:
			return newItem(obj, nodeValue(obj)), nil
		case *appsv1.DaemonSet:
			return newItem(obj, daemonSetValue(obj)), nil
		case *corev1.Pod:
			ready := slices.ContainsFunc(obj.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
			data := map[string]string{"node": obj.Spec.NodeName, "ready": strconv.FormatBool(ready && obj.DeletionTimestamp.IsZero())}
			return newItem(obj, snapshot.Object{Kind: kind, Namespace: obj.Namespace, Name: obj.Name, Data: data}), nil
		case *corev1.ConfigMap:
			return newItem(obj, snapshot.Object{Kind: kind, Namespace: obj.Namespace, Name: obj.Name, Data: obj.Data}), nil
		case *metav1.PartialObjectMetadata:
			return newItem(obj, snapshot.Object{Kind: kind, Name: obj.Name}), nil
		case *unstructured.Unstructured:
			if kind == snapshot.KindCiliumNode { // its addresses change with every pod on some clouds
				return newItem(obj, snapshot.Object{Kind: kind, Name: obj.GetName(), Data: ciliumKeys(obj)}), nil
			}
			var data map[string]string
			if kind == snapshot.KindHostEndpoint {
				data = calicoLabels(obj)
			}
			fields := map[string]any{}
			for _, name := range []string{"spec", "status"} {
				if v, found := obj.Object[name]; found {
					fields[name] = v
				}
			}
			return newItem(obj, snapshot.Object{Kind: kind, Namespace: obj.GetNamespace(), Name: obj.GetName(), Data: data, Fields: fields}), nil
		}
		return in, nil // an item already, or a tombstone
	}
}

// ciliumKeys are the public keys that Cilium's agent publishes of its node.
func ciliumKeys(o *unstructured.Unstructured) map[string]string {
	annotations := o.GetAnnotations()
	out := map[string]string{"wireguard": cmp.Or(annotations["network.cilium.io/wg-pub-key"], annotations["io.cilium.network.wg-pub-key"])}
	if index, found, err := unstructured.NestedInt64(o.Object, "spec", "encryption", "key"); found && err == nil {
		out["ipsec"] = strconv.FormatInt(index, 10)
	}
	return out
}

// calicoLabels returns the labels that Calico goes by. In crd.projectcalico.org it keeps them in an annotation, as JSON, and the object has none
// (libcalico-go lib/backend/k8s/resources/resources.go, ConvertCalicoResourceToK8sResource).
func calicoLabels(o *unstructured.Unstructured) map[string]string {
	text, kept := o.GetAnnotations()["projectcalico.org/metadata"]
	if !kept {
		return o.GetLabels()
	}
	var meta metav1.ObjectMeta
	if json.Unmarshal([]byte(text), &meta) != nil {
		return nil
	}
	return meta.Labels
}

func newItem(obj metav1.Object, value any) *item {
	return &item{ObjectMeta: metav1.ObjectMeta{Namespace: obj.GetNamespace(), Name: obj.GetName()}, value: value}
}

func nodeValue(n *corev1.Node) snapshot.Node {
	out := snapshot.Node{
		Name: n.Name, Labels: n.Labels, Annotations: kept(n.Annotations, keptAnnotations),
		ProviderID: n.Spec.ProviderID, Kubelet: n.Status.NodeInfo.KubeletVersion,
	}
	for _, c := range n.Status.Conditions {
		switch c.Type {
		case corev1.NodeReady:
			out.Ready = c.Status == corev1.ConditionTrue
		case corev1.NodeNetworkUnavailable:
			out.NetworkReason = c.Reason
		default: // pressure of all sorts
		}
	}
	return out
}

func daemonSetValue(d *appsv1.DaemonSet) snapshot.DaemonSet {
	pod := &d.Spec.Template.Spec
	out := snapshot.DaemonSet{
		Namespace: d.Namespace, Name: d.Name, Labels: d.Spec.Template.Labels, NodeSelector: pod.NodeSelector,
		Selector: metav1.FormatLabelSelector(d.Spec.Selector),
		Desired:  d.Status.DesiredNumberScheduled, Ready: d.Status.NumberReady,
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		out.Containers = append(out.Containers, snapshot.Container{
			Name: c.Name, Image: c.Image, Env: environment(c.Env), Flags: flags(slices.Concat(c.Command, c.Args)),
		})
	}
	return out
}

// environment returns the variables that are looked at. Of a secret it has that it is given, and one that may be missing is not.
func environment(list []corev1.EnvVar) map[string]string {
	env := map[string]string{}
	for _, e := range list {
		env[e.Name] = e.Value
	}
	out := kept(env, keptEnv)
	for _, e := range list {
		if e.Name == snapshot.EnvWeavePassword && given(e) {
			if out == nil {
				out = map[string]string{}
			}
			out[e.Name] = snapshot.EnvGiven
		}
	}
	return out
}

// given says whether a variable has a value, which may be a Secret's.
func given(e corev1.EnvVar) bool {
	from := e.ValueFrom
	if from == nil || from.SecretKeyRef == nil {
		return e.Value != ""
	}
	return !ptr.Deref(from.SecretKeyRef.Optional, false)
}

// kept returns the entries whose key begins with one of the prefixes.
func kept(in map[string]string, prefixes []string) map[string]string {
	var out map[string]string
	for key, value := range in {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) }) {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
		}
	}
	return out
}

// flags reads a command line as pflag does: --name=value, --name value, or --name alone for true. What repeats is joined by
// commas, as lists are.
func flags(args []string) map[string]string {
	var out map[string]string
	for i, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			continue
		}
		name, value, given := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !slices.Contains(keptFlags, name) {
			continue
		}
		if !given {
			value = "true"
			if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
				value = args[i+1]
			}
		}
		if out == nil {
			out = map[string]string{}
		}
		if before, repeated := out[name]; repeated && before != "" {
			value = before + "," + value
		}
		out[name] = value
	}
	return out
}

// valuesOf collects the cached values of one type, sorted by namespace and name.
func valuesOf[T any](cached []any) []T {
	items := make([]*item, 0, len(cached))
	for _, c := range cached {
		if i, ok := c.(*item); ok {
			items = append(items, i)
		}
	}
	slices.SortFunc(items, compareItems)
	out := make([]T, 0, len(items))
	for _, i := range items {
		if v, ok := i.value.(T); ok {
			out = append(out, v)
		}
	}
	return out
}

func compareItems(a, b *item) int {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c
	}
	return strings.Compare(a.Name, b.Name)
}

func sameValue(a, b any) bool { return apiequality.Semantic.DeepEqual(a, b) }
