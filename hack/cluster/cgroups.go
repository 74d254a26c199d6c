// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	procs      = "cgroup.procs"

	// cgroupGrace is how long the kernel may take to empty the cgroups of a machine that was killed.
	cgroupGrace = 10 * time.Second
)

// hierarchy is one tree of cgroups, as /proc/self/cgroup names it.
type hierarchy struct {
	mount   string // folder below cgroupRoot
	options string // of mount(2); empty means version 2
	path    string // our own cgroup in it
}

func hierarchies() ([]hierarchy, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, err
	}
	var all []hierarchy
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("reading /proc/self/cgroup: %q has not three parts", line)
		}
		h := hierarchy{mount: parts[1], options: parts[1], path: parts[2]}
		if name, named := strings.CutPrefix(parts[1], "name="); named {
			h.mount, h.options = name, "none,"+parts[1]
		}
		if parts[1] == "" {
			h.mount = "unified"
		}
		all = append(all, h)
	}
	return all, nil
}

// makeCgroups makes a cgroup for a machine in each hierarchy, below our own, so
// that whatever accounts for us accounts for it too.
func makeCgroups(dir, name string) ([]string, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	id := fnv.New32a()
	_, _ = id.Write([]byte(dir)) // two checkouts may each run a cluster
	var made []string
	for _, h := range all {
		parent := filepath.Join(cgroupRoot, h.mount, h.path)
		path := filepath.Join(parent, fmt.Sprintf("pcinb-%08x-%s", id.Sum32(), name))
		if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		made = append(made, path)
		if !slices.Contains(strings.Split(h.mount, ","), "cpuset") {
			continue
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new one, which then takes no process
			data, err := os.ReadFile(filepath.Join(parent, file))
			if err != nil {
				return nil, err
			}
			if err := os.WriteFile(filepath.Join(path, file), data, 0o600); err != nil {
				return nil, err
			}
		}
	}
	return made, nil
}

// removeCgroup removes a cgroup and all below it. Their processes have been
// killed, but may take a moment to be gone.
func removeCgroup(path string) error {
	for deadline := time.Now().Add(cgroupGrace); ; time.Sleep(20 * time.Millisecond) {
		err := removeTree(path)
		if err == nil || !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
	}
}

func removeTree(path string) error {
	var folders []string
	err := filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err == nil && d.IsDir():
			folders = append(folders, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, folder := range slices.Backward(folders) {
		if err := syscall.Rmdir(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing %s: %w", folder, err)
		}
	}
	return nil
}
