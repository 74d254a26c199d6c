// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command image writes a container image with one static program as an OCI
// archive, without a container engine:
//
//	go run ./hack/image -name example.com/app:v1 -out bin/image.tar bin/app
package main

import (
	"bytes"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pcinetwork/pci-network-baseline/hack/oci"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	labels := map[string]string{}
	flags := flag.NewFlagSet("image", flag.ExitOnError)
	name := flags.String("name", "", "`reference` of the image")
	out := flags.String("out", "", "`file` to write")
	flags.Func("label", "`key=value` label, may be repeated", func(s string) error {
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("want key=value")
		}
		labels[key] = value
		return nil
	})
	_ = flags.Parse(args) // ExitOnError
	if flags.NArg() != 1 || *name == "" || *out == "" {
		return errors.New("usage: image -name REFERENCE -out FILE [-label KEY=VALUE]... PROGRAM")
	}
	program, architecture, err := static(flags.Arg(0))
	if err != nil {
		return err
	}
	image := oci.Image{Name: *name, Program: program, Path: "/" + filepath.Base(flags.Arg(0)), Labels: labels, Architecture: architecture}
	var archive bytes.Buffer
	digest, err := image.Write(&archive)
	if err != nil {
		return err
	}
	if err := os.WriteFile(*out+".new", archive.Bytes(), 0o600); err != nil {
		return err
	}
	fmt.Println(*name+"@"+digest, *out)
	return os.Rename(*out+".new", *out)
}

// static reads a program and says for which GOARCH it is. An image without a
// C library cannot run one that wants it.
func static(path string) (program []byte, architecture string, err error) {
	program, err = os.ReadFile(path) //nolint:gosec // G304: reading the given program is the purpose
	if err != nil {
		return nil, "", err
	}
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, "", fmt.Errorf("%s is not a Linux program: %w", path, err)
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return nil, "", fmt.Errorf("%s is not static: build it with CGO_ENABLED=0", path)
		}
	}
	switch file.Machine {
	case elf.EM_X86_64:
		return program, "amd64", nil
	case elf.EM_AARCH64:
		return program, "arm64", nil
	default:
		return nil, "", fmt.Errorf("%s is for %s; want amd64 or arm64", path, file.Machine)
	}
}
