// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package platforms_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/internal/checks/engines"
	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

func isNoMatch(err error) bool { return apimeta.IsNoMatchError(err) }

// want is want.yaml of a fixture.
type want struct {
	Engine        string `json:"engine"`
	BaseCNI       string `json:"baseCNI"`
	Provider      string `json:"provider"`
	Encapsulation string `json:"encapsulation"`
	Version       string `json:"version"`
	// Status and Reason are those of PolicyEngineSupported, with the backend that Auto chooses on a new cluster.
	Status  string `json:"status"`
	Reason  string `json:"reason"`
	Backend string `json:"backend"`
	// Nodes is ready/total; left out means that all are ready.
	Nodes string `json:"nodes,omitempty"`
	// Encrypted is how much is encrypted between nodes, and the nodes that are left out; without it, it does not matter.
	Encrypted string `json:"encrypted,omitempty"`
	// Says lists what the message must contain, Warns what the warnings must.
	Says  []string `json:"says,omitempty"`
	Warns []string `json:"warns,omitempty"`
}

// got is what the operator makes of the platform.
func got(a *engines.Assessment) want {
	backend := engines.BackendFor(engines.Auto, a, "").Backend
	verdict := a.Verdict(backend)
	out := want{
		Engine: a.Engine.Name, BaseCNI: a.Base.Name, Provider: string(a.Provider), Encapsulation: string(a.Encapsulation),
		Version: a.Engine.Version, Status: string(verdict.Status), Reason: verdict.Reason, Backend: string(backend),
		Encrypted: strings.Join(append([]string{string(a.NodeEncryption.State)}, a.NodeEncryption.Clear...), ", not "),
	}
	if a.Engine.Name != "" {
		out.Nodes = fmt.Sprintf("%d/%d", a.Coverage.Ready, a.Coverage.Total)
	}
	return out
}

func (w want) check(a *engines.Assessment) error {
	if !a.Observed {
		return errors.New("not observed yet")
	}
	have, should := got(a), w
	should.Says, should.Warns = nil, nil
	if w.Nodes == "" {
		have.Nodes = ""
	}
	if w.Encrypted == "" {
		have.Encrypted = ""
	}
	verdict := a.Verdict(engines.Backend(have.Backend))
	if diff := cmp.Diff(should, have); diff != "" {
		return fmt.Errorf("platform (-want +got):\n%s%s", diff, verdict.Message)
	}
	for _, s := range w.Says {
		if !strings.Contains(verdict.Message, s) {
			return fmt.Errorf("message %q, want %q in it", verdict.Message, s)
		}
	}
	warnings := a.Warnings(engines.Backend(have.Backend))
	for _, s := range w.Warns {
		if !slices.ContainsFunc(warnings, func(warning string) bool { return strings.Contains(warning, s) }) {
			return fmt.Errorf("warnings %q, want %q in one", warnings, s)
		}
	}
	return nil
}

func TestPlatforms(t *testing.T) { //nolint:paralleltest // the platform is everybody's
	dirs, err := filepath.Glob("testdata/*/want.yaml")
	if err != nil || len(dirs) < 24 {
		t.Fatalf("found %d fixtures: %v", len(dirs), err)
	}
	for _, file := range dirs { //nolint:paralleltest // see above
		name := filepath.Base(filepath.Dir(file))
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var w want
			if err := yaml.UnmarshalStrict(data, &w); err != nil {
				t.Fatal(err)
			}
			load(t, name)
			sources := newSources(t)
			eventually.That(t, "the platform is recognised", func() error {
				a := engines.Assess(sources.Observe(engines.Wanted))
				return w.check(&a)
			})
		})
	}
}
