// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	etcd              = "etcd"
	apiServer         = "kube-apiserver"
	controllerManager = "kube-controller-manager"
	scheduler         = "kube-scheduler"
)

// Options say which processes to start and where they keep their files.
type Options struct {
	// Dir holds state, certificates, kubeconfigs and logs; it is created when
	// absent. At most one running cluster per directory.
	Dir string

	// Assets is the directory of the binaries; see [Assets].
	Assets string

	// ControllerManager starts kube-controller-manager. Without it no service
	// accounts appear, so no pods can be created, and namespaces never go away.
	ControllerManager bool

	// Scheduler starts kube-scheduler.
	Scheduler bool

	// Nodes lets nodes join. Nil means that none can.
	Nodes *Nodes

	// AuditLog is the path of a JSON audit log of every request at level
	// Metadata: one event per request, two per watch. Empty means no audit.
	AuditLog string

	// ExtraAPIServerArgs come last on the command line of kube-apiserver, so
	// that they win over the defaults.
	ExtraAPIServerArgs []string

	// Detach lets the processes outlive this one; [StopDetached] ends them.
	// Unset, they die with this process, however it ends.
	Detach bool

	// Progress receives one line per step. Nil means silence.
	Progress io.Writer
}

// Assets returns the directory of the control plane binaries: fromEnv, the
// value of KUBEBUILDER_ASSETS, if it is not empty, and bin/k8s otherwise.
func Assets(repoRoot, fromEnv string) string {
	if fromEnv != "" {
		return fromEnv
	}
	return filepath.Join(repoRoot, "bin", "k8s")
}

// complete makes paths absolute, because the processes of a directory are told
// by finding it on their command lines, and checks that nothing is missing.
func (o Options) complete() (Options, error) {
	if o.Dir == "" || o.Assets == "" {
		return o, errors.New("starting a control plane needs Options.Dir and Options.Assets")
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	for _, path := range []*string{&o.Dir, &o.Assets, &o.AuditLog} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return o, err
		}
		*path = abs
	}
	return o, o.checkBinaries()
}

func (o Options) checkBinaries() error {
	needed := []string{etcd, apiServer}
	if o.ControllerManager {
		needed = append(needed, controllerManager)
	}
	if o.Scheduler {
		needed = append(needed, scheduler)
	}
	var missing []string
	for _, name := range needed {
		if info, err := os.Stat(filepath.Join(o.Assets, name)); err != nil || info.Mode()&0o111 == 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no executable %s in %s: run 'make controlplane'", strings.Join(missing, ", "), o.Assets)
	}
	return nil
}
