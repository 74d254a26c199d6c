// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// What a dial can end in. A refusal is an answer: the packet went through.
const (
	open    = "OPEN"
	refused = "REFUSED"
	blocked = "BLOCKED"
)

// pause is how long a series of dials rests in between.
const pause = 10 * time.Millisecond

// dial prints the outcome of one try, or follows a series: a line for each
// change, for each second and for the end.
func dial(args []string) error {
	flags := flag.NewFlagSet("dial", flag.ExitOnError)
	network := flags.String("net", "tcp", "tcp or udp")
	timeout := flags.Duration("timeout", time.Second, "how long to wait for an answer")
	length := flags.Duration("for", 0, "go on for so long, and then do nothing until told to stop")
	_ = flags.Parse(args) // ExitOnError
	if flags.NArg() != 1 {
		return errUsage
	}
	if *length == 0 {
		fmt.Println(try(*network, flags.Arg(0), *timeout))
		return nil
	}
	go follow(*length, func() string { return try(*network, flags.Arg(0), *timeout) })
	reap(0)
	return nil
}

// follow prints lines of: milliseconds since the start, tries, tries that got through, outcome of the last one.
func follow(length time.Duration, try func() string) {
	began, said := time.Now(), time.Time{}
	last, tries, through := "", 0, 0
	for end := false; !end; time.Sleep(pause) {
		now := try()
		end = time.Since(began) >= length
		tries++
		if now != blocked {
			through++
		}
		if now != last || end || time.Since(said) >= time.Second {
			fmt.Println(time.Since(began).Milliseconds(), tries, through, now)
			said = time.Now()
		}
		last = now
	}
}

func try(network, address string, timeout time.Duration) string {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return judge(err)
	}
	defer func() { _ = conn.Close() }()
	if network == "tcp" {
		return open // the handshake is an answer
	}
	deadline, _ := ctx.Deadline()
	buffer := make([]byte, 1500)
	if err = conn.SetDeadline(deadline); err == nil {
		if _, err = conn.Write([]byte("?")); err == nil {
			_, err = conn.Read(buffer)
		}
	}
	return judge(err)
}

func judge(err error) string {
	switch {
	case err == nil:
		return open
	case errors.Is(err, syscall.ECONNREFUSED):
		return refused
	default:
		return blocked
	}
}

// resolve asks the pod's DNS server, or the one given, for a name.
func resolve(args []string) error {
	flags := flag.NewFlagSet("resolve", flag.ExitOnError)
	server := flags.String("server", "", "`address` of the server instead of the one in /etc/resolv.conf")
	network := flags.String("net", "", "tcp or udp instead of what Go chooses")
	timeout := flags.Duration("timeout", 2*time.Second, "how long to wait for an answer")
	_ = flags.Parse(args) // ExitOnError
	if flags.NArg() != 1 {
		return errUsage
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, transport, address string) (net.Conn, error) {
		if *server != "" {
			address = *server
		}
		if *network != "" {
			transport = *network
		}
		return (&net.Dialer{}).DialContext(ctx, transport, address)
	}}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	addresses, err := resolver.LookupHost(ctx, flags.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		fmt.Println(blocked)
		return nil
	}
	fmt.Println(open, strings.Join(addresses, " "))
	return nil
}
