// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
)

// platformSections returns the tables of docs/platforms.md, all made from the table of engines.
func platformSections() (map[string]string, error) {
	var told, able, set [][]string
	seen := map[string]bool{}
	for i := range engines.Table {
		e := &engines.Table[i]
		told = append(told, []string{prose(e.Installed), policyOf(e), orNone(e.Base, "as found"), signalsOf(e), backendOf(e)})
		c := e.Capability
		able = append(able, []string{prose(e.Installed), prose(c.Ingress), prose(c.Egress), prose(c.EndPort), prose(c.ClusterNetworkPolicy), prose(c.Native)})
		for j := range e.Settings {
			s := &e.Settings[j]
			row := []string{prose(e.Policy), prose(s.Object), code(s.Key), prose(s.Means), effectOf(s)}
			if key := fmt.Sprint(row); !seen[key] && e.Policy != "GKE Dataplane V2" { // whose settings are Cilium's
				seen[key] = true
				set = append(set, row)
			}
		}
	}
	return map[string]string{
		"engines":             table([]string{"Installed as", "Enforces policies", "Connects pods", "Told by", "Auto writes"}, told),
		"engine-capabilities": table([]string{"Installed as", "Ingress", "Egress", "endPort", "ClusterNetworkPolicy", "Policies of its own"}, able),
		"engine-settings":     table([]string{"Engine", "Object", "Key", "Means", "Result"}, set),
	}, nil
}

func policyOf(e *engines.Engine) string {
	if e.Unjudged {
		return "not known"
	}
	return orNone(e.Policy, "nobody")
}

func orNone(name, none string) string { return prose(cmp.Or(name, none)) }

func signalsOf(e *engines.Engine) string {
	var out []string
	if m := e.Marks; m.Container != "" {
		container := "container " + code(m.Container)
		if m.With != "" {
			container += " beside " + code(m.With)
		}
		out = append(out, container, "image "+code("…/"+m.Images[0]), "name "+code(m.Name), "label "+code(m.Label))
	}
	switch {
	case e.Unjudged:
		out = append(out, "weak: not judged")
	case e.Weak:
		out = append(out, "weak")
	}
	text := strings.Join(out, ", ")
	switch {
	case e.Also != "" && text != "":
		return text + "; and " + e.Also
	case e.Also != "":
		return e.Also
	}
	return text
}

func backendOf(e *engines.Engine) string {
	switch e.Native {
	case engines.Calico:
		return "Calico where v3 is served and answers, else NetworkPolicy"
	case engines.Cilium:
		return "Cilium where its CRDs exist and it heeds them, else NetworkPolicy"
	default:
		return "NetworkPolicy"
	}
}

// effectOf says what a setting makes of PolicyEngineSupported.
func effectOf(s *engines.Setting) string {
	text := "warning"
	switch s.Effect {
	case engines.Disables:
		text = fmt.Sprintf("False, [%s](runbooks.md#%s)", s.Reason, strings.ToLower(s.Reason))
	case engines.Unsure:
		text = fmt.Sprintf("Unknown, [%s](runbooks.md#%s)", s.Reason, strings.ToLower(s.Reason))
	case engines.Weakens:
	}
	if s.Backend != "" {
		text += "; only for backend " + string(s.Backend)
	}
	return text
}
