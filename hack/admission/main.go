// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command admission writes config/admission/manifests: the guard as files that API servers read themselves.
//
//	go run ./hack/admission
package main

import (
	"bytes"
	"fmt"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/pcinetwork/pci-network-baseline/controllers"
	"github.com/pcinetwork/pci-network-baseline/internal/apply"
	"github.com/pcinetwork/pci-network-baseline/internal/probe"
	"github.com/pcinetwork/pci-network-baseline/internal/render/admission"
)

const (
	file = "config/admission/manifests/pci-network-baseline.yaml"
	// namespace is that of config/manager. Who installs the operator elsewhere changes the account in the file.
	namespace = "pci-network-baseline-system"
	head      = `# Written by make manifests. For the hosts of the control plane, not for kubectl: docs/security.md.
`
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "admission:", err)
		os.Exit(1)
	}
}

func run() error {
	out := bytes.NewBufferString(head) // a document of comments alone is none to the API server
	config := admission.Config{
		Operator: controllers.Account(namespace), DeadMan: controllers.DeadMan, Tracking: apply.TrackingPrefixes(),
		Canaries: admission.Canaries{Namespace: probe.Namespace, Policies: probe.PolicyNames()},
	}
	for i, object := range admission.Static(config) {
		data, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(bytes.TrimSuffix(data, []byte("status: {}\n")))
	}
	return os.WriteFile(file, out.Bytes(), 0o644) //nolint:gosec // G306: a manifest, readable like the rest of the tree
}
