// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"errors"
	"net"
)

// maxRead is how much is read from one connection, in bytes. What is read is not kept.
const maxRead = 64 << 10

var errTooMuch = errors.New("it sends more than 64 KiB")

// conn is a connection from which little is read, and that remembers how the answer begins.
type conn struct {
	net.Conn
	read  int
	first [2]byte
}

// Read fails once too much was sent.
func (c *conn) Read(p []byte) (int, error) {
	left := maxRead - c.read
	if left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(p[:min(len(p), left)])
	if c.read < len(c.first) {
		copy(c.first[c.read:], p[:n])
	}
	c.read += n
	return n, err
}

// answered says whether anything was sent, and whether it was a record of TLS: an alert or a handshake (RFC 8446, 5.1; of version 3.x, as all are
// since SSL 3.0).
func (c *conn) answered() (any, tls bool) {
	const alert, handshake = 21, 22
	return c.read > 0, c.read >= len(c.first) && (c.first[0] == alert || c.first[0] == handshake) && c.first[1] == 3
}
