// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// unsupportedError says what a machine lacks to run nodes on it.
type unsupportedError struct{ lacks []string }

func (e *unsupportedError) Error() string {
	return "this machine cannot run nodes; nothing was started:\n  - " + strings.Join(e.lacks, "\n  - ")
}

// preflight returns an *unsupportedError if nodes cannot run here.
func preflight(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return &unsupportedError{[]string{"it takes root, for namespaces, mounts and cgroups: try again with sudo"}}
	}
	var lacks []string
	for _, check := range []func(context.Context) error{checkNamespaces, checkCgroups, checkFilesystems, checkBPF, checkPrograms} {
		if err := check(ctx); err != nil {
			lacks = append(lacks, err.Error())
		}
	}
	if len(lacks) > 0 {
		return &unsupportedError{lacks}
	}
	return nil
}

// check returns an *unsupportedError if nodes cannot run here, or what they are made of is not to be had.
func check(ctx context.Context, root string) error {
	if err := preflight(ctx); err != nil {
		return err
	}
	b := newBuilder(options{root: root, cni: cniCilium}, os.Stdout)
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	if err := b.fetchPackages(ctx); err != nil {
		return &unsupportedError{[]string{err.Error()}}
	}
	return b.fetchModules(ctx)
}

// fetchModules downloads the modules that programs are built from. One that is not what go.sum says is no matter of the machine.
func (b *builder) fetchModules(ctx context.Context) error {
	for _, p := range programs {
		if p.cni != "" && p.cni != b.opts.cni {
			continue
		}
		_, err := b.goRun(ctx, p.module, "mod", "download")
		switch {
		case err == nil:
		case strings.Contains(err.Error(), "SECURITY ERROR"):
			return err
		default:
			return &unsupportedError{[]string{err.Error()}}
		}
	}
	return nil
}

// checkNamespaces makes what a machine is made of, once.
func checkNamespaces(ctx context.Context) error {
	err := command(ctx, "unshare", "--mount", "--net", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--",
		"mount", "-t", "tmpfs", "tmpfs", "/mnt")
	if err != nil {
		return fmt.Errorf("root may not make namespaces and mounts (a container without CAP_SYS_ADMIN?): %w", err)
	}
	return nil
}

func checkCgroups(context.Context) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	var have []string
	for _, h := range all {
		if _, err := os.Stat(filepath.Join(cgroupRoot, h.mount, h.path, procs)); err != nil {
			return fmt.Errorf("cgroups are not mounted where they are looked for: %w", err)
		}
		have = append(have, strings.Split(h.mount, ",")...)
	}
	for _, want := range []string{"cpu", "cpuset", "memory", "pids", "devices", "unified"} {
		if !slices.Contains(have, want) {
			return fmt.Errorf("there is no hierarchy %q below %s: only hosts with cgroups of both versions have been tried (kernel parameter systemd.unified_cgroup_hierarchy=0)", want, cgroupRoot)
		}
	}
	return nil
}

func checkFilesystems(context.Context) error {
	data, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	known := strings.Fields(string(data))
	for _, want := range []string{"overlay", "tmpfs", "bpf"} {
		if !slices.Contains(known, want) {
			return fmt.Errorf("the kernel has no file system %q (see /proc/filesystems; modprobe may help)", want)
		}
	}
	return nil
}

// checkBPF makes a map of one number, which is gone at once.
func checkBPF(context.Context) error {
	attributes := struct{ kind, keySize, valueSize, entries uint32 }{unix.BPF_MAP_TYPE_ARRAY, 4, 4, 1}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&attributes)), unsafe.Sizeof(attributes)) //nolint:gosec // the system call takes a pointer
	if errno != 0 {
		return fmt.Errorf("root may not use BPF, without which Cilium does not run: %w", errno)
	}
	return unix.Close(int(fd))
}

func checkPrograms(context.Context) error {
	var missing []string
	for _, name := range []string{"apt-get", "dpkg-deb", "tar", "nsenter", "ip"} {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no %s: it takes Debian, or something close to it, with util-linux and iproute2", strings.Join(missing, ", "))
	}
	return nil
}

// lock takes the lock on a file, which ends with the process.
func lock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.New("another 'make cluster' is at work here: wait for it")
		}
		return nil, err
	}
	return file, nil
}
