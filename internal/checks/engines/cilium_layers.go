// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
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
	return append(out, ciliumNodeReads(f)...)
}

// ciliumValue is one setting with the object that has the last word on it.
type ciliumValue struct{ value, from string }

// ciliumLayer is a configuration as some nodes have it.
type ciliumLayer struct {
	values map[string]ciliumValue
	nodes  []string // empty for all others
}

// ciliumLayering is the outcome of ciliumLayers.
type ciliumLayering struct {
	layers []ciliumLayer
	err    error
}

// ciliumLayers builds the configuration as each node has it: the sources in their order, the later over the earlier, keys of
// all but the first limited by --allow-config-keys or else --deny-config-keys; then the agent's environment and arguments. The
// first layer is what nodes have without overrides. Cost: nodes × CiliumNodeConfigs, where there are any.
func ciliumLayers(f *Found) ([]ciliumLayer, error) {
	if f.layers == nil {
		layers, err := f.ciliumBuildAll()
		f.layers = &ciliumLayering{layers, err}
	}
	return f.layers.layers, f.layers.err
}

func (f *Found) ciliumBuildAll() ([]ciliumLayer, error) {
	sources := ciliumSources(f)
	overrides, err := f.ciliumOverrides(sources)
	if err != nil {
		return nil, err
	}
	common, err := f.ciliumBuild(sources, nil, nil)
	if err != nil {
		return nil, err
	}
	layers := []ciliumLayer{{values: common}}
	if len(overrides) == 0 {
		return layers, nil
	}
	index := map[string]int{"": 0} // by what is overridden: nodes with equal overrides share a layer
	for i := range f.Nodes {
		n := &f.Nodes[i]
		signature := overrides.signature(n)
		if signature == "" || Excluded(n) != "" {
			continue
		}
		at, seen := index[signature]
		if !seen {
			values, err := f.ciliumBuild(sources, overrides, n)
			if err != nil {
				return nil, err
			}
			at = len(layers)
			index[signature] = at
			layers = append(layers, ciliumLayer{values: values})
		}
		layers[at].nodes = append(layers[at].nodes, n.Name)
	}
	return layers, nil
}

// ciliumSelectors holds, for every object that overrides settings of some nodes, which ones; the key "node" stands for nodes'
// own labels and annotations.
type ciliumSelectors map[string]labels.Selector

// ciliumOverrides reads the selectors of all CiliumNodeConfigs that are a source. One that a source names selects all nodes.
func (f *Found) ciliumOverrides(sources []ciliumSource) (ciliumSelectors, error) {
	out := ciliumSelectors{}
	for _, s := range sources {
		source, reads := s.reads()
		if s.kind == "node" {
			out["node"] = labels.Everything()
		}
		if !reads || source.Kind != snapshot.KindCiliumNodeConfig {
			continue
		}
		objects := f.objects(source)
		for i := range objects {
			selector, err := ciliumSelector(&objects[i], s.name)
			if err != nil {
				return nil, err
			}
			out[objects[i].String()] = selector
		}
	}
	return out, nil
}

// signature tells which overrides a node has.
func (c ciliumSelectors) signature(n *snapshot.Node) string {
	var out []string
	for object, selector := range c {
		switch {
		case object == "node":
			if len(ciliumOwn(n)) > 0 {
				out = append(out, n.Name)
			}
		case selector.Matches(n.Labels):
			out = append(out, object)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func (f *Found) ciliumBuild(sources []ciliumSource, overrides ciliumSelectors, n *snapshot.Node) (map[string]ciliumValue, error) {
	out := map[string]ciliumValue{}
	allowed := f.ciliumMayOverride()
	for i, s := range sources {
		values, err := f.ciliumRead(s, overrides, n)
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

func (f *Found) ciliumRead(s ciliumSource, overrides ciliumSelectors, n *snapshot.Node) (map[string]ciliumValue, error) {
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
		objects := f.objects(source)
		for i := range objects {
			selector := overrides[objects[i].String()]
			if n == nil || selector == nil || !selector.Matches(n.Labels) {
				continue
			}
			defaults, _ := field(&objects[i], "spec", "defaults").(map[string]any)
			for key, value := range defaults {
				out[key] = ciliumValue{text(value), objects[i].String()}
			}
		}
	case "node":
		if n != nil {
			out = ciliumOwn(n)
		}
	default:
		return nil, fmt.Errorf("%s: the init container config has an unknown --source %q", f.DaemonSet, s.kind)
	}
	return out, nil
}

// ciliumSelector returns which nodes a CiliumNodeConfig is for: those of its selector, or all when a source names it.
func ciliumSelector(o *snapshot.Object, name string) (labels.Selector, error) {
	switch {
	case name != "" && o.Name == name:
		return labels.Everything(), nil
	case name != "":
		return labels.Nothing(), nil
	}
	raw, given := field(o, "spec", "nodeSelector").(map[string]any)
	if !given {
		return labels.Nothing(), nil
	}
	var selector metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &selector); err != nil {
		return nil, fmt.Errorf("%s: spec.nodeSelector: %w", o, err)
	}
	parsed, err := metav1.LabelSelectorAsSelector(&selector)
	if err != nil {
		return nil, fmt.Errorf("%s: spec.nodeSelector: %w", o, err)
	}
	return parsed, nil
}

// ciliumOwn returns the settings on a node itself: its labels, then its annotations.
func ciliumOwn(n *snapshot.Node) map[string]ciliumValue {
	out := map[string]ciliumValue{}
	for _, set := range []map[string]string{n.Labels, n.Annotations} {
		for name, value := range set {
			if key, isSetting := strings.CutPrefix(name, ciliumAnnotation); isSetting {
				out[key] = ciliumValue{value, "annotation " + name + " of Node " + n.Name}
			}
		}
	}
	return out
}
