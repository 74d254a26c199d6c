// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

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

// ciliumSetting returns a setting of nodes without overrides; "" when it is unset or cannot be told.
func ciliumSetting(f *Found, key string) string {
	values, err := f.ciliumBuild(ciliumSources(f), nil, nil)
	if err != nil {
		return ""
	}
	return values[key].value
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
