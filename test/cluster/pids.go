// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/pcinetwork/pci-network-baseline/test/process"
)

// PIDFile lists the processes of a cluster, in its directory.
const PIDFile = "pids.json"

// pidFile is the content of [PIDFile].
type pidFile struct {
	// Dir is the directory as it stands on the command lines.
	Dir       string          `json:"dir"`
	Processes []process.Entry `json:"processes"`
}

// Record hands a process that the caller has started, such as an operator,
// over to the cluster: Stop and StopDetached end it before the control plane.
// The cluster's directory must stand on its command line, as part of the path
// of a kubeconfig say, because that is how StopDetached tells it. The caller
// still has to Wait for cmd if it lives as long.
func (c *Cluster) Record(name string, cmd *exec.Cmd) error {
	if cmd.Process == nil {
		return fmt.Errorf("recording %s: it has not been started", name)
	}
	e := process.NewEntry(name, cmd.Process.Pid)
	for deadline := time.Now().Add(time.Second); !e.Alive(c.opts.Dir) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // until it has executed its binary, its command line is ours, or empty
		e = process.NewEntry(name, cmd.Process.Pid)
	}
	if !e.Alive(c.opts.Dir) {
		return fmt.Errorf("recording %s: process %d has ended, or %s is not on its command line", name, e.PID, c.opts.Dir)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recorded = append(c.recorded, e)
	return c.writePIDs()
}

// StopDetached ends the processes that are recorded in dir, and no others, and
// removes their data. Nothing running there is no error.
func StopDetached(dir string) error {
	file, err := readPIDs(dir)
	if err != nil || file.Dir == "" {
		return err
	}
	if err := end(file.Processes, file.Dir); err != nil {
		return err
	}
	return removeState(dir)
}

// end stops processes in the order in which they depend on each other: the
// API server and etcd last, as nothing shuts down cleanly without them.
func end(processes []process.Entry, dir string) error {
	var clients, server, store []process.Entry
	for _, e := range processes {
		switch e.Name {
		case etcd:
			store = append(store, e)
		case apiServer:
			server = append(server, e)
		default:
			clients = append(clients, e)
		}
	}
	var errs []error
	for _, group := range [][]process.Entry{clients, server, store} {
		errs = append(errs, process.End(group, dir))
	}
	return errors.Join(errs...)
}

func (c *Cluster) entries() []process.Entry {
	var all []process.Entry
	for _, p := range c.processes {
		all = append(all, p.Entry)
	}
	return append(all, c.recorded...)
}

// writePIDs needs c.mu. It renames, so that a reader never sees half a file.
func (c *Cluster) writePIDs() error {
	data, err := json.MarshalIndent(pidFile{Dir: c.opts.Dir, Processes: c.entries()}, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(c.opts.Dir, PIDFile)
	if err := os.WriteFile(path+".new", append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// readPIDs returns the zero value if nothing is recorded in dir.
func readPIDs(dir string) (pidFile, error) {
	data, err := os.ReadFile(filepath.Join(dir, PIDFile)) //nolint:gosec // G304: reading the file of the given directory is the purpose
	if errors.Is(err, fs.ErrNotExist) {
		return pidFile{}, nil
	}
	if err != nil {
		return pidFile{}, err
	}
	var file pidFile
	if err := json.Unmarshal(data, &file); err != nil {
		return pidFile{}, fmt.Errorf("reading %s: %w", filepath.Join(dir, PIDFile), err)
	}
	if file.Dir == "" { // would be found on every command line
		return pidFile{}, fmt.Errorf("%s names no directory", filepath.Join(dir, PIDFile))
	}
	return file, nil
}

// removeState removes what is of no use once the processes are gone. Logs stay.
func removeState(dir string) error {
	return errors.Join(
		os.RemoveAll(filepath.Join(dir, dataDir)),
		os.RemoveAll(filepath.Join(dir, PIDFile)),
	)
}
