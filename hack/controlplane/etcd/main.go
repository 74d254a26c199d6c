// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Package main is etcd, linked from its published modules. It is a module of
// its own because etcd and Kubernetes pin different versions of what they share.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
