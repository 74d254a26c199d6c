// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/pcinetwork/pci-network-baseline/hack/oci"
)

const (
	imagesDir = "images" // archives that every node gets
	ciliumDir = "cilium" // what the agent compiles, and its CRDs
	calicoDir = "calico" // its CRDs

	nodekitImage = "nodekit.test/nodekit:v1"
	corednsImage = "nodekit.test/coredns:v1"

	corednsManifest = "hack/cluster/coredns/coredns.yaml"
)

// program is something that is built from a module.
type program struct {
	name   string
	module string // folder of the go.mod
	pkg    string
	origin string // module whose version the program is to report; "" if it is ours
	cni    string // the only one that it is for; "" for any
	image  string
	args   []string // of the image
}

const (
	ciliumPath = "github.com/cilium/cilium"
	calicoPath = "github.com/projectcalico/calico"
)

var programs = []program{
	{name: "nodekit", module: ".", pkg: "./hack/cluster/nodekit", image: nodekitImage, args: []string{"pause"}},
	{name: "kubelet", module: "hack/controlplane", pkg: "k8s.io/kubernetes/cmd/kubelet", origin: "k8s.io/kubernetes"},
	{name: "kube-proxy", module: "hack/controlplane", pkg: "k8s.io/kubernetes/cmd/kube-proxy", origin: "k8s.io/kubernetes"},
	{name: "coredns", module: "hack/cluster/coredns", pkg: ".", origin: "github.com/coredns/coredns", image: corednsImage},
	{name: "cilium-agent", module: "hack/cluster/cilium", pkg: ciliumPath + "/daemon", origin: ciliumPath, cni: cniCilium},
	{name: "cilium-cni", module: "hack/cluster/cilium", pkg: ciliumPath + "/plugins/cilium-cni", origin: ciliumPath, cni: cniCilium},
	{name: "cilium-dbg", module: "hack/cluster/cilium", pkg: ciliumPath + "/cilium-dbg", origin: ciliumPath, cni: cniCilium},
	{name: "calico-felix", module: "hack/cluster/calico", pkg: calicoPath + "/felix/cmd/calico-felix", origin: calicoPath, cni: cniCalico},
	{name: "calico-cni", module: "hack/cluster/calico", pkg: calicoPath + "/cni-plugin/cmd/calico", origin: calicoPath, cni: cniCalico},
	{name: "calico-apiserver", module: "hack/cluster/calico", pkg: calicoPath + "/apiserver/cmd/apiserver", origin: calicoPath, cni: cniCalico},
}

// flags are the same for every program of a module, and for the control plane's, so that they share the build cache.
func (p program) flags(version string) []string {
	ldflags := "-s -w"
	switch p.origin {
	case "k8s.io/kubernetes": // without a version a kubelet is v0.0.0
		ldflags += " -X k8s.io/component-base/version.gitVersion=" + version
	case ciliumPath:
		ldflags += " -X " + ciliumPath + "/pkg/version.ciliumVersion=" + strings.TrimPrefix(version, "v")
	}
	return []string{"build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", ldflags}
}

// builder makes what a cluster consists of, below buildDir, and only what is
// missing or out of date.
type builder struct {
	opts  options
	dir   string
	out   io.Writer
	began time.Time
}

func newBuilder(opts options, out io.Writer) *builder {
	return &builder{opts: opts, dir: filepath.Join(opts.root, buildDir), out: out, began: time.Now()}
}

func (b *builder) say(format string, args ...any) {
	_, _ = fmt.Fprintf(b.out, "%6.1f s  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

func (b *builder) build(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(b.dir, imagesDir), 0o755); err != nil {
		return err
	}
	if err := b.fetchPackages(ctx); err != nil {
		return err
	}
	if err := b.linkAlternatives(); err != nil {
		return err
	}
	for _, p := range programs {
		if p.cni != "" && p.cni != b.opts.cni {
			continue
		}
		if err := b.program(ctx, p); err != nil {
			return err
		}
	}
	switch b.opts.cni {
	case cniCilium:
		return b.copyCilium(ctx)
	case cniCalico:
		return b.copyCalico(ctx)
	}
	return nil
}

func (b *builder) program(ctx context.Context, p program) error {
	version := ""
	if p.origin != "" {
		out, err := b.goRun(ctx, p.module, "list", "-m", "-f", "{{.Version}}", p.origin)
		if err != nil {
			return err
		}
		version = strings.TrimSpace(out)
	}
	target := filepath.Join(b.dir, p.name)
	flags := p.flags(version)
	want, err := b.fingerprint(p, flags)
	if err != nil {
		return err
	}
	if p.origin != "" && stamped(target, want) {
		return nil
	}
	b.say("building %s %s", p.name, version)
	if _, err := b.goRun(ctx, p.module, append(flags, "-o", target+".new", p.pkg)...); err != nil {
		return err
	}
	if err := os.Rename(target+".new", target); err != nil { // one that runs cannot be overwritten
		return err
	}
	if p.image != "" {
		if err := b.pack(p, target); err != nil {
			return err
		}
	}
	return os.WriteFile(target+".stamp", []byte(want), 0o600)
}

// fingerprint is of what a program is built from.
func (b *builder) fingerprint(p program, flags []string) (string, error) {
	hash := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(b.opts.root, p.module, name))
		if err != nil {
			return "", err
		}
		_, _ = hash.Write(data)
	}
	_, _ = fmt.Fprintln(hash, runtime.Version(), flags)
	return fmt.Sprintf("%x", hash.Sum(nil)), nil
}

func stamped(target, want string) bool {
	have, err := os.ReadFile(target + ".stamp")
	_, missing := os.Stat(target)
	return err == nil && missing == nil && string(have) == want
}

func (b *builder) pack(p program, binary string) error {
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	image := oci.Image{Name: p.image, Program: data, Path: "/" + p.name, Args: p.args, Architecture: runtime.GOARCH}
	var archive bytes.Buffer
	if _, err := image.Write(&archive); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.dir, imagesDir, p.name+".tar"), archive.Bytes(), 0o600)
}

// copyCilium copies from the module what the agent compiles at run time, and the
// CRDs, and makes the image that stands for the agent's.
func (b *builder) copyCilium(ctx context.Context) error {
	source, version, err := b.module(ctx, "hack/cluster/cilium", ciliumPath)
	if err != nil {
		return err
	}
	if err := b.packAgent("cilium", "cilium/cilium:"+version); err != nil {
		return err
	}
	return b.copyFrom(source, ciliumDir, map[string]string{"bpf": "bpf", "pkg/k8s/apis/cilium.io/client/crds": "crds"})
}

// copyCalico does so with the CRDs of Calico. The version of the image is a release's, while that of the module is not.
func (b *builder) copyCalico(ctx context.Context) error {
	source, _, err := b.module(ctx, "hack/cluster/calico", calicoPath)
	if err != nil {
		return err
	}
	if err := b.packAgent("calico", "calico/node:"+calicoVersion); err != nil {
		return err
	}
	return b.copyFrom(source, calicoDir, map[string]string{"libcalico-go/config/crd": "crds"})
}

// module returns where a module is, and its version.
func (b *builder) module(ctx context.Context, in, path string) (dir, version string, err error) {
	out, err := b.goRun(ctx, in, "list", "-m", "-f", "{{.Dir}} {{.Version}}", path)
	dir, version, _ = strings.Cut(strings.TrimSpace(out), " ")
	return dir, version, err
}

// packAgent makes the image that stands for an agent's.
func (b *builder) packAgent(name, image string) error {
	return b.pack(program{name: name, image: "nodekit.test/" + image, args: []string{"pause"}}, filepath.Join(b.dir, "nodekit"))
}

// copyFrom copies folders of a module, once.
func (b *builder) copyFrom(source, dir string, folders map[string]string) error {
	target := filepath.Join(b.dir, dir)
	if done, err := os.ReadFile(filepath.Join(target, "copied")); err == nil && string(done) == source {
		return nil
	}
	if err := os.RemoveAll(target); err != nil {
		return err
	}
	for from, to := range folders {
		if err := os.CopyFS(filepath.Join(target, to), os.DirFS(filepath.Join(source, from))); err != nil {
			return err
		}
	}
	if err := removeGoFiles(target); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(target, "copied"), []byte(source), 0o600)
}

// removeGoFiles removes what the go command would take for packages of ours.
func removeGoFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".go" {
			err = os.Remove(path)
		}
		return err
	})
}

// goRun runs the go command in a module and returns what it prints.
func (b *builder) goRun(ctx context.Context, module string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(b.opts.root, module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", errors.Join(fmt.Errorf("in %s: go %s: %w", module, strings.Join(args, " "), err), errors.New(strings.TrimSpace(complaint.String())))
	}
	return string(out), nil
}
