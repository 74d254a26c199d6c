// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package engines tells from what the API shows which policy engine a cluster has, and judges whether it enforces what the
// operator writes. Table holds one row for each way in which an engine is installed; docs/platforms.md is made from it.
package engines

import (
	"slices"
	"strings"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

// Backend is a policy API that policies can be written to.
type Backend string

// The backends.
const (
	NetworkPolicy Backend = "NetworkPolicy"
	Calico        Backend = "Calico"
	Cilium        Backend = "Cilium"
)

// Engine is one row of the table. To add an engine is to add a row.
type Engine struct {
	// Installed names the way of installation, for people.
	Installed string
	// Policy is who enforces policies; empty when nobody does. Base is who connects pods; empty when another row says.
	Policy, Base string
	// Marks tell its DaemonSet. Rows without marks have no DaemonSet of their own, and Is alone tells them.
	Marks Marks
	// Is looks at what else must hold and returns the signals for it; nil when the marks are enough. Also says it for people.
	Also string
	Is   func(*view, *snapshot.DaemonSet) (signals []snapshot.Signal, is bool)
	// Weak is for rows whose signals could mean something else.
	Weak bool
	// Unjudged is for plugins that are recognised, but about whose enforcement nothing is known here.
	Unjudged bool
	// Remedy says what to do about a row without policy.
	Remedy string
	// Reads lists the sources of its settings.
	Reads func(*Found) []snapshot.Source
	// BaseOf tells the base where it depends on settings; "" falls back to Base.
	BaseOf func(*Found) string
	// Encapsulation reads how pod traffic travels.
	Encapsulation func(*Found) snapshot.Encapsulation
	// NodeEncryption reads whether that is encrypted; nil where nothing in the API shows it.
	NodeEncryption func(*Found) snapshot.NodeEncryption
	// Native is the engine's own policy API, if the operator can write it.
	Native Backend
	// Capability is what the engine enforces.
	Capability Capability
	// Settings are those that disable or weaken enforcement.
	Settings []Setting
}

// Marks tell an agent's DaemonSet. Registries are mirrored and names are values of charts, so the container's name and the
// end of its image's path come first; what else agrees makes the signal strong.
type Marks struct {
	// Container is the name of the agent's container, With one that must be there too.
	Container, With string
	// Images are the last path elements of its image.
	Images []string
	// Name is the usual name of the DaemonSet, Label a usual label of its pods (key=value).
	Name, Label string
}

// Capability is what an engine enforces, as its upstream says it.
type Capability struct {
	Ingress, Egress, EndPort, ClusterNetworkPolicy, Native string
}

// Effect is what a setting does to enforcement, from bad to worse.
type Effect int

// The effects.
const (
	Weakens  Effect = iota + 1 // enforcement goes on, with a gap that an assessor should know
	Unsure                     // it may be off
	Disables                   // it is off
)

// Setting is one setting that matters for enforcement.
type Setting struct {
	// Object and Key say where it is, Means what it does; for people.
	Object, Key, Means string
	// Reason is the reason of the API; empty for what only weakens.
	Reason string
	// Check judges it. Findings that leave Effect, Reason or Backend empty get those of the setting.
	Check func(*Found) []Finding
	// Effect is what a finding of this setting does; Backend is set when only what is written to that API is affected.
	Effect  Effect
	Backend Backend
}

// Finding is one thing that is not as it should be.
type Finding struct {
	Effect  Effect
	Backend Backend
	Reason  string
	// Message names the object, the key to change and the next command.
	Message string
}

// view is the evidence with what is derived from it once.
type view struct {
	*snapshot.Evidence
	provider Provider
}

// Found is a row that matched.
type Found struct {
	*view
	*Engine
	// DaemonSet is nil for rows without one; Agent is its container.
	DaemonSet *snapshot.DaemonSet
	Agent     *snapshot.Container
	Signals   []snapshot.Signal

	// judged and layers keep what is asked for again and again, and costs the number of nodes.
	judged *[]Finding
	layers *ciliumLayering
}

// Version is the tag of the agent's image.
func (f *Found) Version() string {
	if f.Agent == nil {
		return ""
	}
	_, tag := splitImage(f.Agent.Image)
	return tag
}

// splitImage returns the repository and the tag of an image.
func splitImage(image string) (repository, tag string) {
	repository, _, _ = strings.Cut(image, "@")
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		repository, tag = repository[:i], repository[i+1:]
	}
	return repository, tag
}

func imageIs(image string, paths []string) bool {
	repository, _ := splitImage(image)
	return slices.ContainsFunc(paths, func(p string) bool {
		return repository == p || strings.HasSuffix(repository, "/"+p)
	})
}

// match returns the agent's container and what told it; nil when the DaemonSet is not the one.
func (m *Marks) match(d *snapshot.DaemonSet) (*snapshot.Container, []snapshot.Signal) {
	if m.With != "" && d.Container(m.With) == nil {
		return nil, nil
	}
	var agent *snapshot.Container
	var says []string
	for i := range d.Containers {
		c := &d.Containers[i]
		named, imaged := c.Name == m.Container, imageIs(c.Image, m.Images)
		if !named && !imaged || agent != nil && !named {
			continue
		}
		agent, says = c, nil
		if named {
			says = append(says, "container "+c.Name)
		}
		if imaged {
			repository, tag := splitImage(c.Image)
			elements := strings.Split(repository, "/")
			says = append(says, strings.TrimSuffix("image …/"+strings.Join(elements[max(0, len(elements)-2):], "/")+":"+tag, ":"))
		}
	}
	if agent == nil {
		return nil, nil
	}
	if m.Name != "" && d.Name == m.Name {
		says = append(says, "its name")
	}
	if key, value, _ := strings.Cut(m.Label, "="); m.Label != "" && d.Labels[key] == value {
		says = append(says, "label "+m.Label)
	}
	return agent, []snapshot.Signal{{Object: d.String(), Says: strings.Join(says, ", "), Weak: len(says) < 2}}
}

// find returns the rows that match: for every DaemonSet the first one, then those without a DaemonSet.
func find(v *view) []*Found {
	var out []*Found
	for i := range v.DaemonSets {
		d := &v.DaemonSets[i]
		if d.NodeSelector[osLabel] == windows {
			continue
		}
		for row := range Table {
			if f := tryRow(v, &Table[row], d); f != nil {
				out = append(out, f)
				break
			}
		}
	}
	for row := range Table {
		if Table[row].Marks.Container != "" {
			continue
		}
		if signals, is := Table[row].Is(v, nil); is {
			out = append(out, &Found{view: v, Engine: &Table[row], Signals: signals})
		}
	}
	return out
}

func tryRow(v *view, row *Engine, d *snapshot.DaemonSet) *Found {
	if row.Marks.Container == "" {
		return nil
	}
	agent, signals := row.Marks.match(d)
	if agent == nil {
		return nil
	}
	if row.Is != nil {
		more, is := row.Is(v, d)
		if !is {
			return nil
		}
		signals = append(signals, more...)
	}
	return &Found{view: v, Engine: row, DaemonSet: d, Agent: agent, Signals: signals}
}

// Wanted lists what must be read to judge what was found so far.
func Wanted(e *snapshot.Evidence) []snapshot.Source {
	v := newView(e)
	all := find(v)
	var out []snapshot.Source
	for _, f := range all {
		if f.Reads != nil {
			out = append(out, f.Reads(f)...)
		}
	}
	out = append(out, providerReads(v)...)
	if main := choose(all); main.engine != nil && main.engine.DaemonSet != nil && main.engine.countsDiffer() {
		d := main.engine.DaemonSet
		out = append(out, podsOf(d))
	}
	return out
}

func newView(e *snapshot.Evidence) *view {
	v := &view{Evidence: e}
	v.provider = provider(v)
	return v
}

// configMap returns the data of a ConfigMap that was read; nil when it does not exist or could not be read.
func (v *view) configMap(namespace, name string) map[string]string {
	if objects := v.objects(snapshot.Source{Kind: snapshot.KindConfigMap, Namespace: namespace, Name: name}); len(objects) > 0 {
		return objects[0].Data
	}
	return nil
}

// objects returns what was read from a source; nil when it could not be read, which Assess reports apart.
func (v *view) objects(s snapshot.Source) []snapshot.Object { return v.Readings[s].Objects }

// field returns a field of an object below spec or status, or nil.
func field(o *snapshot.Object, path ...string) any {
	var at any = o.Fields
	for _, name := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[name]
	}
	return at
}

func text(v any) string {
	s, _ := v.(string)
	return s
}
