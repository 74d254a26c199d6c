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

// dial prints the outcome of one try, or of a series: the number of tries,
// then each change with the milliseconds since the start.
func dial(args []string) error {
	flags := flag.NewFlagSet("dial", flag.ExitOnError)
	network := flags.String("net", "tcp", "tcp or udp")
	timeout := flags.Duration("timeout", time.Second, "how long to wait for an answer")
	length := flags.Duration("for", 0, "go on for so long")
	_ = flags.Parse(args) // ExitOnError
	if flags.NArg() != 1 {
		return errors.New(usage)
	}
	began := time.Now()
	last, changes := "", []string{}
	counts := map[string]int{}
	for {
		now := try(*network, flags.Arg(0), *timeout)
		counts[now]++
		if now != last {
			changes = append(changes, fmt.Sprintf("%d %s", time.Since(began).Milliseconds(), now))
			last = now
		}
		if time.Since(began) >= *length {
			break
		}
		time.Sleep(pause)
	}
	if *length == 0 {
		fmt.Println(last)
		return nil
	}
	fmt.Printf("%d %s, %d %s, %d %s: %s\n", counts[open], open, counts[refused], refused, counts[blocked], blocked, strings.Join(changes, ", "))
	return nil
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
		return errors.New(usage)
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
