// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Addresses are from the ranges reserved for tests of networks (RFC 2544), and
// exist in the namespaces of a cluster only. Services have 198.19.0.0/16.
const (
	podRange  = "198.18.0.0/17"
	dnsIP     = "198.19.0.10"
	outsideIP = "198.18.255.1" // the gateway, and a host that is no part of the cluster
	serverIP  = "198.18.255.2" // the API server unless it is on a node, and who comes to it from the host

	maxNodes = 9
	bridge   = "br0"
)

// outside is the machine that joins the others: a bridge, the API server with
// its helpers unless they are on a node, and a host from which to look at the
// cluster from without.
const outside = "outside"

func nodeName(i int) string { return fmt.Sprintf("n%d", i) }

// addresses has the address of every node there may be.
func addresses() map[string]string {
	all := map[string]string{}
	for i := 1; i <= maxNodes; i++ {
		all[nodeName(i)] = fmt.Sprintf("198.18.255.%d", 10+i)
	}
	return all
}

// command runs a program for its effect; its output is part of the error.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// ip runs the commands of ip(8) in order.
func ip(ctx context.Context, commands ...string) error {
	for _, c := range commands {
		if err := command(ctx, "ip", strings.Fields(c)...); err != nil {
			return err
		}
	}
	return nil
}
