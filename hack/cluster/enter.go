// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The commands by which a machine runs; nobody types them.
const (
	commandEnter     = "machine"   // PID 1
	commandSupervise = "supervise" // its only child that is ours
)

// enter is PID 1 of a machine: it finishes what clone(2) has begun, starts the
// supervisor and reaps. It must be on the first thread of the process, because
// nsenter(1) takes the namespaces of that one.
func enter(args []string) error {
	err := prepareMachine(args)
	if err != nil {
		tell(report{Error: err.Error()})
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	files := []uintptr{0, 1, 2, 0, reportsFD}
	if args[1] == outside {
		files = append(files, listenerFD)
	}
	child, err := syscall.ForkExec(self, []string{self, commandSupervise, args[0], args[1]}, &syscall.ProcAttr{Env: os.Environ(), Files: files})
	if err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return err
		case pid == child:
			return fmt.Errorf("the supervisor ended with %d", status.ExitStatus())
		}
	}
}

func prepareMachine(args []string) error {
	if len(args) < 3 || os.Getpid() != 1 {
		return errUsage
	}
	if unix.Gettid() != 1 {
		return errors.New("not on the first thread")
	}
	go hold(os.NewFile(leashFD, "leash"))
	_, name, cgroups := args[0], args[1], args[2:]
	for _, c := range cgroups {
		if err := os.WriteFile(filepath.Join(c, procs), []byte("0"), 0); err != nil {
			return fmt.Errorf("joining a cgroup: %w", err)
		}
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil { // of this thread, and of what it forks
		return err
	}
	if err := mountAll(); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	if err := setSysctls(); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_SHARED|unix.MS_REC, ""); err != nil { // the kubelet passes mounts on to pods
		return err
	}
	if name == outside { // before others are plugged in
		err := ip(context.Background(), "link add "+bridge+" type bridge", "addr add "+outsideIP+"/24 dev "+bridge,
			"addr add "+serverIP+"/24 dev "+bridge, "link set "+bridge+" up")
		if err != nil {
			return err
		}
	}
	tell(report{Up: true})
	return nil
}

// hold ends the machine when its leash is let go: the pipe is closed with nothing
// written, or the process of the descriptor, which cannot be read, has ended.
func hold(leash *os.File) {
	poll := []unix.PollFd{{Fd: int32(leash.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(poll, -1); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if n, _ := leash.Read(make([]byte, 1)); n == 0 {
		os.Exit(exitFailed)
	}
}

// tell reports to whoever started the machine, which may be gone.
func tell(r report) {
	data, err := json.Marshal(r)
	if err != nil {
		data = []byte(`{"error": "a report that cannot be written"}`)
	}
	_, _ = syscall.Write(reportsFD, append(data, '\n'))
}

type mount struct {
	source, target, kind string
	flags                uintptr
	data                 string
	make                 []string // folders that it needs
}

func (m mount) do() error {
	for _, folder := range append(m.make, m.target) {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mounting %s (%s) on %s: %w", m.kind, m.data, m.target, err)
	}
	return nil
}

func memory(target string) mount {
	return mount{source: "tmpfs", target: target, kind: "tmpfs", data: "mode=755"}
}

// mountAll gives the machine its own view of processes, devices of the network
// and cgroups, and memory for everything that is written: nothing stays.
func mountAll() error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	groups, err := hierarchies()
	if err != nil {
		return err
	}
	mounts := []mount{
		{source: "proc", target: "/proc", kind: "proc"},
		{source: "sysfs", target: "/sys", kind: "sysfs"},
		memory(cgroupRoot),
	}
	for _, g := range groups {
		target := filepath.Join(cgroupRoot, g.mount)
		if g.options == "" {
			mounts = append(mounts, mount{source: "cgroup2", target: target, kind: "cgroup2"})
			continue
		}
		mounts = append(mounts, mount{source: "cgroup", target: target, kind: "cgroup", data: g.options})
	}
	mounts = append(mounts, mount{source: "bpf", target: "/sys/fs/bpf", kind: "bpf"}, memory("/run"))
	for _, target := range []string{"/etc", "/opt", "/var"} { // so that new files and folders in them are not the host's
		upper, work := filepath.Join("/run/overlay", target), filepath.Join("/run/overlay-work", target)
		mounts = append(mounts, mount{
			source: "overlay", target: target, kind: "overlay", make: []string{upper, work},
			data: "lowerdir=" + target + ",upperdir=" + upper + ",workdir=" + work,
		})
	}
	// What makes overlays of its own, or is large. An overlay is no place for another one.
	for _, target := range []string{"/var/lib/containerd", "/var/lib/kubelet"} {
		mounts = append(mounts, memory(target))
	}
	packages, err := filepath.Abs(filepath.Join(buildDir, packagesDir, "usr"))
	if err != nil {
		return err
	}
	// As if the packages were installed.
	mounts = append(mounts, mount{source: "overlay", target: "/usr", kind: "overlay", flags: unix.MS_RDONLY, data: "lowerdir=" + packages + ":/usr"})
	for _, m := range mounts {
		if err := m.do(); err != nil {
			return err
		}
	}
	return nil
}

// setSysctls sets what is the machine's own. Of what it shares with the host it
// shows the kubelet and others the values that they want, on files of our own.
func setSysctls() error {
	for name, value := range map[string]string{
		"net/ipv4/ip_forward":                  "1",
		"net/ipv4/conf/all/rp_filter":          "0",
		"net/ipv4/conf/default/rp_filter":      "0",
		"net/ipv4/conf/all/send_redirects":     "0",
		"net/ipv4/conf/default/send_redirects": "0",
		"net/ipv6/conf/all/forwarding":         "1",
		"net/bridge/bridge-nf-call-iptables":   "1",
	} {
		err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	for name, value := range map[string]string{
		"vm/overcommit_memory":      "1",
		"vm/panic_on_oom":           "0",
		"kernel/panic":              "10",
		"kernel/panic_on_oops":      "1",
		"kernel/keys/root_maxkeys":  "1000000",
		"kernel/keys/root_maxbytes": "25000000",
		"kernel/timer_migration":    "0",
	} {
		file := filepath.Join("/run", "sysctl-"+strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
			return err
		}
		if err := unix.Mount(file, filepath.Join("/proc/sys", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("covering %s: %w", name, err)
		}
	}
	return nil
}
