// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	ciliumConfig     = "cilium-config"
	ciliumAnnotation = "config.cilium.io/"
	ciliumPolicyCRD  = "ciliumnetworkpolicies.cilium.io"
)

// ciliumSource is one entry of the list of sources from which the agent's configuration is built.
type ciliumSource struct{ kind, namespace, name string }

// ciliumSources returns the list of the init container "config" (cilium-dbg build-config --source). Without that
// container, as before 1.13, the ConfigMap is mounted and nothing overrides it.
func ciliumSources(f *Found) []ciliumSource {
	namespace := f.DaemonSet.Namespace
	builder := f.DaemonSet.Container("config")
	list := "config-map:" + ciliumConfig
	if builder != nil {
		list += ",cilium-node-config"
		if given := builder.Flags["source"]; given != "" {
			list = given
		}
	}
	var out []ciliumSource
	for entry := range strings.SplitSeq(list, ",") {
		kind, spec, _ := strings.Cut(strings.TrimSpace(entry), ":")
		s := ciliumSource{kind: kind, namespace: namespace}
		first, second, both := strings.Cut(spec, "/")
		switch {
		case both:
			s.namespace, s.name = first, second
		case kind == "cilium-node-config" && first != "":
			s.namespace = first
		default:
			s.name = first
		}
		if kind == "config-map" && s.name == "" {
			s.name = ciliumConfig
		}
		if kind != "" {
			out = append(out, s)
		}
	}
	return out
}

func (s ciliumSource) reads() (snapshot.Source, bool) {
	switch s.kind {
	case "config-map":
		return snapshot.Source{Kind: snapshot.KindConfigMap, Namespace: s.namespace, Name: s.name}, true
	case "cilium-node-config":
		return snapshot.Source{Kind: snapshot.KindCiliumNodeConfig, Namespace: s.namespace}, true
	}
	return snapshot.Source{}, false
}

func ciliumReads(f *Found) []snapshot.Source {
	var out []snapshot.Source
	for _, s := range ciliumSources(f) {
		if source, reads := s.reads(); reads && !slices.Contains(out, source) {
			out = append(out, source)
		}
	}
	return out
}

// ciliumValue is one setting with the object that has the last word on it.
type ciliumValue struct{ value, from string }

// ciliumLayer is a configuration as some nodes have it.
type ciliumLayer struct {
	values map[string]ciliumValue
	nodes  []string // empty for all others
}

// ciliumLayers builds the configuration as each node has it: the sources in their order, the later over the earlier, keys of
// all but the first limited by --allow-config-keys or else --deny-config-keys; then the agent's environment and arguments.
// Nodes with equal overrides share a layer. Cost: nodes × CiliumNodeConfigs, where there are any.
func ciliumLayers(f *Found) ([]ciliumLayer, error) {
	sources := ciliumSources(f)
	common, err := f.ciliumBuild(sources, nil)
	if err != nil {
		return nil, err
	}
	layers := []ciliumLayer{{values: common}}
	if !f.ciliumOverrides(sources) {
		return layers, nil
	}
	index := map[string]int{}
	for i := range f.Nodes {
		n := &f.Nodes[i]
		if excluded(n) != "" {
			continue
		}
		values, err := f.ciliumBuild(sources, n)
		if err != nil {
			return nil, err
		}
		if maps.Equal(values, common) {
			continue
		}
		signature := fmt.Sprint(values)
		at, seen := index[signature]
		if !seen {
			at = len(layers)
			index[signature] = at
			layers = append(layers, ciliumLayer{values: values})
		}
		layers[at].nodes = append(layers[at].nodes, n.Name)
	}
	return layers, nil
}

// ciliumOverrides says whether nodes can differ at all.
func (f *Found) ciliumOverrides(sources []ciliumSource) bool {
	for _, s := range sources {
		if source, reads := s.reads(); s.kind == "node" || reads && source.Kind == snapshot.KindCiliumNodeConfig && len(f.objects(source)) > 0 {
			return true
		}
	}
	return false
}

func (f *Found) ciliumBuild(sources []ciliumSource, n *snapshot.Node) (map[string]ciliumValue, error) {
	out := map[string]ciliumValue{}
	allowed := f.ciliumMayOverride()
	for i, s := range sources {
		values, err := f.ciliumRead(s, n)
		if err != nil {
			return nil, err
		}
		for key, v := range values {
			if i == 0 || allowed(key) {
				out[key] = v
			}
		}
	}
	for name, value := range f.Agent.Env {
		if key, isOption := strings.CutPrefix(name, "CILIUM_"); isOption {
			key = strings.ReplaceAll(strings.ToLower(key), "_", "-")
			out[key] = ciliumValue{value, "env " + name + " of " + f.DaemonSet.String()}
		}
	}
	for key, value := range f.Agent.Flags {
		out[key] = ciliumValue{value, "argument --" + key + " of " + f.DaemonSet.String()}
	}
	return out, nil
}

func (f *Found) ciliumMayOverride() func(string) bool {
	builder := f.DaemonSet.Container("config")
	if builder == nil {
		return func(string) bool { return true }
	}
	list := func(flag string) []string {
		return strings.FieldsFunc(builder.Flags[flag], func(r rune) bool { return r == ',' || r == ' ' })
	}
	allow, deny := list("allow-config-keys"), list("deny-config-keys")
	return func(key string) bool {
		if len(allow) > 0 {
			return slices.Contains(allow, key)
		}
		return !slices.Contains(deny, key)
	}
}

func (f *Found) ciliumRead(s ciliumSource, n *snapshot.Node) (map[string]ciliumValue, error) {
	out := map[string]ciliumValue{}
	source, _ := s.reads()
	switch s.kind {
	case "config-map":
		for _, o := range f.objects(source) {
			for key, value := range o.Data {
				out[key] = ciliumValue{value, o.String()}
			}
		}
	case "cilium-node-config": // sorted by name, which is their order
		for i := range f.objects(source) {
			o := &f.objects(source)[i]
			selects, err := ciliumSelects(o, s.name, n)
			if err != nil {
				return nil, err
			}
			defaults, _ := field(o, "spec", "defaults").(map[string]any)
			for key, value := range defaults {
				if selects {
					out[key] = ciliumValue{text(value), o.String()}
				}
			}
		}
	case "node":
		if n != nil {
			for _, set := range []map[string]string{n.Labels, n.Annotations} {
				for name, value := range set {
					if key, isSetting := strings.CutPrefix(name, ciliumAnnotation); isSetting {
						out[key] = ciliumValue{value, "annotation " + name + " of Node " + n.Name}
					}
				}
			}
		}
	default:
		return nil, fmt.Errorf("%s: the init container config has an unknown --source %q", f.DaemonSet, s.kind)
	}
	return out, nil
}

// ciliumSelects says whether a CiliumNodeConfig applies to a node: by its selector, or to all when a source names it.
func ciliumSelects(o *snapshot.Object, name string, n *snapshot.Node) (bool, error) {
	if name != "" {
		return o.Name == name, nil
	}
	raw, given := field(o, "spec", "nodeSelector").(map[string]any)
	if !given || n == nil {
		return false, nil
	}
	var selector metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &selector); err != nil {
		return false, fmt.Errorf("%s: spec.nodeSelector: %w", o, err)
	}
	parsed, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		return false, fmt.Errorf("%s: spec.nodeSelector: %w", o, err)
	}
	return parsed.Matches(n.Labels), nil
}

// ciliumCheck judges one key on every node. bad says whether a value is one to report.
func ciliumCheck(key string, bad func(string) (bool, error)) func(*Found) []Finding {
	return func(f *Found) []Finding {
		layers, err := ciliumLayers(f)
		if err != nil {
			return []Finding{{Effect: Unsure, Reason: reasonUnreadable, Message: err.Error()}}
		}
		var out []Finding
		for _, l := range layers {
			v, set := l.values[key]
			if !set {
				continue
			}
			isBad, err := bad(v.value)
			switch {
			case err != nil:
				out = append(out, Finding{Effect: Unsure, Reason: reasonUnreadable, Message: fmt.Sprintf("%s: %s: %v.", v.from, key, err)})
			case isBad:
				out = append(out, Finding{Message: fmt.Sprintf("%s sets %s: %q%s.", v.from, key, v.value, onNodes(l.nodes))})
			}
		}
		return out
	}
}

func onNodes(nodes []string) string {
	switch len(nodes) {
	case 0:
		return ""
	case 1:
		return " on node " + nodes[0]
	}
	return fmt.Sprintf(" on %d nodes, such as %s", len(nodes), nodes[0])
}

// isBool reads a value as Cilium does, and wants it to be b for a report.
func isBool(b bool) func(string) (bool, error) {
	return func(s string) (bool, error) {
		v, err := strconv.ParseBool(strings.TrimSpace(s))
		if err != nil {
			return false, fmt.Errorf("%q is neither true nor false", s)
		}
		return v == b, nil
	}
}

func isText(want string) func(string) (bool, error) {
	return func(s string) (bool, error) { return strings.EqualFold(strings.TrimSpace(s), want), nil }
}

// isPolicyMode wants never; a mode that the agent does not know is an error.
func isPolicyMode(s string) (bool, error) {
	switch mode := strings.ToLower(strings.TrimSpace(s)); mode {
	case "default", "always", "never":
		return mode == "never", nil
	}
	return false, fmt.Errorf("%q is none of default, always and never", s)
}

// ciliumExists wants the ConfigMap, without which nothing is known about the agent.
func ciliumExists(f *Found) []Finding {
	for _, s := range ciliumSources(f) {
		source, reads := s.reads()
		if s.kind == "config-map" && reads && len(f.objects(source)) == 0 && f.Readings[source].Problem == "" {
			return []Finding{{Message: fmt.Sprintf("%s does not exist, so nothing is known about how Cilium is set up: kubectl get configmap -n %s.", source, s.namespace)}}
		}
	}
	return nil
}

// ciliumOverflow reports a policy map that was made smaller than the default while endpoints are not locked down when it is
// full: what does not fit is then missing.
func ciliumOverflow(f *Found) []Finding {
	layers, err := ciliumLayers(f)
	if err != nil {
		return nil // ciliumCheck reports it
	}
	const defaultSize = 16384
	var out []Finding
	for _, l := range layers {
		size, err := strconv.Atoi(l.values["bpf-policy-map-max"].value)
		locked, _ := isBool(true)(l.values["enable-endpoint-lockdown-on-policy-overflow"].value)
		if err == nil && size < defaultSize && !locked {
			out = append(out, Finding{Message: fmt.Sprintf("%s sets bpf-policy-map-max: %q%s (a weak signal): a policy that does not fit is incomplete.",
				l.values["bpf-policy-map-max"].from, l.values["bpf-policy-map-max"].value, onNodes(l.nodes))})
		}
	}
	return out
}

// ciliumSetting returns a setting of all nodes; "" when it is unset or cannot be told.
func ciliumSetting(f *Found, key string) string {
	layers, err := ciliumLayers(f)
	if err != nil {
		return ""
	}
	return layers[0].values[key].value
}

// ciliumChained says whether another plugin connects the pods. portmap only adds host ports, as on RKE2.
func ciliumChained(f *Found) bool {
	mode := ciliumSetting(f, "cni-chaining-mode")
	return mode != "" && mode != "none" && mode != "portmap"
}

func ciliumEncapsulation(f *Found) snapshot.Encapsulation {
	switch ciliumSetting(f, "routing-mode") {
	case "tunnel":
		return snapshot.Overlay
	case "native":
		if f.provider == AKS { // its overlay is made below Cilium
			return azureEncapsulation(f)
		}
		return snapshot.Direct
	}
	switch ciliumSetting(f, "tunnel") { // before 1.15
	case "vxlan", "geneve":
		return snapshot.Overlay
	case "disabled":
		return snapshot.Direct
	}
	return snapshot.UnknownEncapsulation
}
