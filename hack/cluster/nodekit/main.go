// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

// Command nodekit is what runs in the pods of a test cluster that are not the
// operator's: the sandbox's placeholder, an echo server, and a dialler.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

var errUsage = errors.New(`usage: nodekit pause
       nodekit serve [-ports 8080,9090] [-linger DURATION]
       nodekit dial  [-net tcp|udp] [-timeout 1s] [-for DURATION] HOST:PORT
       nodekit resolve [-server IP:53] [-net tcp|udp] NAME`)

func main() {
	if len(os.Args) < 2 {
		fail(errUsage)
	}
	var err error
	switch args := os.Args[2:]; os.Args[1] {
	case "pause":
		reap(0)
	case "serve":
		err = serve(args)
	case "dial":
		err = dial(args)
	case "resolve":
		err = resolve(args)
	default:
		err = errUsage
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// reap is what PID 1 of a pod does: it collects orphans until told to stop, and stops after linger.
func reap(linger time.Duration) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for s := range signals {
		if s != syscall.SIGCHLD {
			time.Sleep(linger)
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}

// serve answers each TCP connection and each UDP datagram with a line of its own, then echoes.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	ports := flags.String("ports", "8080", "TCP and UDP `ports`, separated by commas")
	linger := flags.Duration("linger", 0, "how long to serve on after SIGTERM")
	_ = flags.Parse(args) // ExitOnError
	for port := range strings.SplitSeq(*ports, ",") {
		listener, err := net.Listen("tcp", ":"+port) //nolint:noctx // listens until the process ends
		if err != nil {
			return err
		}
		packets, err := net.ListenPacket("udp", ":"+port) //nolint:noctx // listens until the process ends
		if err != nil {
			return err
		}
		go answerConnections(listener)
		go answerPackets(packets)
	}
	fmt.Println("serving", *ports)
	reap(*linger)
	return nil
}

func answerConnections(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			fail(err)
		}
		go func() {
			defer func() { _ = conn.Close() }()
			_, _ = fmt.Fprintf(conn, "hello %s\n", conn.RemoteAddr())
			_, _ = io.Copy(conn, conn)
		}()
	}
}

func answerPackets(conn net.PacketConn) {
	buffer := make([]byte, 1500)
	for {
		n, from, err := conn.ReadFrom(buffer)
		if err != nil {
			continue // an ICMP error of an earlier answer
		}
		_, _ = conn.WriteTo(buffer[:n], from)
	}
}
