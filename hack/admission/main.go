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
	out := bytes.NewBufferString(head)
	config := admission.Config{Operator: controllers.Account(namespace), Tracking: apply.TrackingPrefixes()}
	for _, object := range admission.Static(config) {
		data, err := yaml.Marshal(object)
		if err != nil {
			return err
		}
		// A status is the API server's, and refused in a file only if it has something in it.
		data = bytes.TrimSuffix(data, []byte("status: {}\n"))
		fmt.Fprintf(out, "---\n%s", data)
	}
	return os.WriteFile(file, out.Bytes(), 0o644) //nolint:gosec // G306: a manifest, readable like the rest of the tree
}
