// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command golangci-lint is the upstream linter with the Kubernetes plugins
// linked in, so that go.mod pins all of it and no plugin is fetched at lint time.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/golangci/golangci-lint/v2/pkg/commands"
	"github.com/golangci/golangci-lint/v2/pkg/exitcodes"
	_ "sigs.k8s.io/kube-api-linter"
	_ "sigs.k8s.io/logtools/logcheck/gclplugin"
)

const upstream = "github.com/golangci/golangci-lint/v2"

func main() {
	info := commands.BuildInfo{GoVersion: runtime.Version(), Version: version(), Commit: "module", Date: "(pinned in hack/tools/go.mod)"}
	if err := commands.Execute(info); err != nil {
		fmt.Fprintln(os.Stderr, "golangci-lint:", err)
		os.Exit(exitcodes.Failure)
	}
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, dep := range info.Deps {
		if dep.Path == upstream {
			return strings.TrimPrefix(dep.Version, "v")
		}
	}
	return "unknown"
}
