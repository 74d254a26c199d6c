// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package management_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// inside marks the copy of this program that has a network of its own.
const inside = "PCINB_MANAGEMENT_NETWORK"

// own runs this program again in a network namespace of its own, and returns its exit status.
func own() (int, error) {
	command := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // as long as this one
	command.Stdin, command.Stdout, command.Stderr = os.Stdin, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), inside+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		command.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	err := command.Run()
	if exit, ended := errors.AsType[*exec.ExitError](err); ended {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// network brings the namespace's only interface up, and makes every address of 10.0.0.0/8 one of this host: what is local on a
// loopback interface is its address's whole class.
func network() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	for name, address := range map[string][]byte{"lo": {127, 0, 0, 1}, "lo:1": {10, 0, 0, 1}} {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = r.SetInet4Addr(address)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r)
		}
		if err != nil {
			return fmt.Errorf("giving %s its address: %w", name, err)
		}
	}
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}
