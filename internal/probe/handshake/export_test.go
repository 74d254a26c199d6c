// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

// OnLoopback permits loopback addresses too, where the servers of tests are.
func (s *Scope) OnLoopback() *Scope {
	s.loopback = true
	return s
}
