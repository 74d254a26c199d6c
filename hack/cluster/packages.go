// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// packagesDir holds what would be / if the packages were installed, in buildDir.
const packagesDir = "debian"

// packagesFor names the Debian packages that a node needs, each with a file of it that must then be below /usr.
func packagesFor(cni string) map[string]string {
	all := map[string]string{
		"containerd": "bin/containerd", "runc": "sbin/runc", "containernetworking-plugins": "lib/cni/bridge", "iproute2": "bin/ip", "nftables": "sbin/nft",
	}
	if cni != cniNone {
		maps.Copy(all, map[string]string{"iptables": "sbin/xtables-nft-multi", "ipset": "sbin/ipset", "kmod": "bin/kmod"})
	}
	if cni == cniCilium {
		all["clang-19"] = "lib/llvm-19/bin/clang"
	}
	return all
}

// fetchPackages unpacks Debian packages, and those that they depend on, without
// installing any. apt says which are missing, and has verified each by the
// distribution's signature. Its lists of packages may be missing, or too old.
func (b *builder) fetchPackages(ctx context.Context) error {
	files := packagesFor(b.opts.cni)
	names := slices.Sorted(maps.Keys(files))
	stamp := filepath.Join(b.dir, packagesDir+"-"+b.opts.cni+".stamp")
	if done, err := os.ReadFile(stamp); err == nil && string(done) == strings.Join(names, " ") && b.lacks(files) == nil {
		return nil
	}
	err := b.fetch(ctx, names)
	if err != nil {
		b.say("asking apt for its lists of packages")
		if err = command(ctx, "apt-get", append(patiently, "update", "-qq")...); err == nil {
			err = b.fetch(ctx, names)
		}
	}
	if err == nil {
		err = b.lacks(files)
	}
	if err != nil {
		return fmt.Errorf("a cluster's nodes need Debian's %s: %w", strings.Join(names, ", "), err)
	}
	return os.WriteFile(stamp, []byte(strings.Join(names, " ")), 0o600)
}

// patiently is how apt-get downloads: a mirror that does not answer is given up soon.
var patiently = []string{"-o", "Acquire::Retries=2", "-o", "Acquire::http::Timeout=30", "-o", "Acquire::https::Timeout=30"}

func (b *builder) fetch(ctx context.Context, names []string) error {
	missing, err := missingPackages(ctx, names)
	if err != nil {
		return err
	}
	return b.unpack(ctx, missing)
}

// lacks returns an error if a package's file is neither unpacked nor installed.
func (b *builder) lacks(files map[string]string) error {
	for name, file := range files {
		_, err := os.Stat(filepath.Join(b.dir, packagesDir, "usr", file))
		if errors.Is(err, fs.ErrNotExist) {
			_, err = os.Stat(filepath.Join("/usr", file))
		}
		if err != nil {
			return fmt.Errorf("%s is not there after all: %w", name, err)
		}
	}
	return nil
}

// missingPackages asks apt what it would install, as NAME=VERSION.
func missingPackages(ctx context.Context, names []string) ([]string, error) {
	args := append([]string{"install", "--simulate", "--no-install-recommends", "-qq"}, names...)
	out, err := exec.CommandContext(ctx, "apt-get", args...).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("apt-get %s: %s", strings.Join(args, " "), strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, err
	}
	var missing []string
	for line := range strings.Lines(string(out)) { // Inst NAME (VERSION ...)
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "Inst" {
			_, about, _ := strings.Cut(line, "(")
			version, _, _ := strings.Cut(about, " ")
			missing = append(missing, fields[1]+"="+version)
		}
	}
	return missing, nil
}

func (b *builder) unpack(ctx context.Context, packages []string) error {
	root := filepath.Join(b.dir, packagesDir)
	for _, dir := range []string{"bin", "sbin", "lib"} { // older packages know these as folders of their own
		if err := os.MkdirAll(filepath.Join(root, "usr", dir), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(filepath.Join("usr", dir), filepath.Join(root, dir)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if len(packages) == 0 {
		return nil
	}
	b.say("downloading and unpacking %d Debian packages", len(packages))
	downloads := filepath.Join(b.dir, "downloads")
	if err := os.MkdirAll(downloads, 0o755); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(downloads) }()
	cmd := exec.CommandContext(ctx, "apt-get", slices.Concat(patiently, []string{"download", "-qq", "-o", "APT::Sandbox::User=root"}, packages)...)
	cmd.Dir = downloads
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w: %s", strings.Join(packages, " "), err, out)
	}
	archives, err := filepath.Glob(filepath.Join(downloads, "*.deb"))
	if err != nil {
		return err
	}
	for _, archive := range archives {
		pack := exec.CommandContext(ctx, "sh", "-c", `dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"`, "unpack", archive, root)
		if out, err := pack.CombinedOutput(); err != nil {
			return fmt.Errorf("unpacking %s: %w: %s", archive, err, out)
		}
	}
	return nil
}

// linkAlternatives makes the links that the package iptables makes when it is installed.
func (b *builder) linkAlternatives() error {
	const target = "xtables-nft-multi"
	sbin := filepath.Join(b.dir, packagesDir, "usr", "sbin")
	if _, err := os.Stat(filepath.Join(sbin, target)); errors.Is(err, fs.ErrNotExist) {
		return nil // not needed, or installed
	}
	for _, name := range []string{"iptables", "ip6tables"} {
		for _, suffix := range []string{"", "-save", "-restore"} {
			if err := os.Symlink(target, filepath.Join(sbin, name+suffix)); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
	}
	return nil
}
