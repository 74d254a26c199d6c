// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/pcinetwork/pci-network-baseline/test/process"
)

const (
	runDir   = "bin/cluster" // what a running cluster writes
	buildDir = "bin/node"    // what clusters are made of

	stateFile = "state.json"
)

// state is what down needs to know.
type state struct {
	Dir      string     `json:"dir"` // as it stands on command lines
	CNI      string     `json:"cni"`
	Server   string     `json:"server"` // the machine of the control plane
	Machines []*machine `json:"machines"`
}

// readState returns an error if no cluster was started in dir.
func readState(dir string) (*state, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoCluster
	}
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Join(dir, stateFile), err)
	}
	if s.Dir != dir {
		return nil, fmt.Errorf("%s is the record of a cluster in %q: it was moved here", filepath.Join(dir, stateFile), s.Dir)
	}
	return &s, nil
}

var errNoCluster = errors.New("no cluster runs here: start one with 'make cluster'")

func (s *state) write() error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(s.Dir, stateFile)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// alive reports whether any machine runs.
func (s *state) alive() bool {
	for _, m := range s.Machines {
		if m.Alive(s.Dir) {
			return true
		}
	}
	return false
}

// down ends what is recorded in dir, and nothing else. Of what was written only
// the logs stay. No cluster there is no error.
func down(dir string, out io.Writer) error {
	s, err := readState(dir)
	if errors.Is(err, errNoCluster) {
		_, _ = fmt.Fprintln(out, "No cluster is running.")
		return nil
	}
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.end(); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "The cluster has ended after %.1f s. Its logs are in %s.\n", time.Since(began).Seconds(), filepath.Join(dir, "logs"))
	return nil
}

func (s *state) end() error {
	group := make([]process.Entry, 0, len(s.Machines))
	for _, m := range s.Machines {
		group = append(group, m.Entry)
	}
	if err := process.Kill(group, s.Dir); err != nil {
		return err
	}
	for _, m := range s.Machines {
		for _, c := range m.Cgroups {
			if err := removeCgroup(c); err != nil {
				return err
			}
		}
	}
	return clean(s.Dir)
}

// clean removes all that a cluster wrote but its logs.
func clean(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != "logs" {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
