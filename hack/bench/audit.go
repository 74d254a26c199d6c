// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// auditLag is how long the API server may take to log a request after it has
// answered it.
const auditLag = 500 * time.Millisecond

// auditEvent holds the fields of an audit.k8s.io/v1 Event that are counted.
type auditEvent struct {
	Stage string `json:"stage"`
	Verb  string `json:"verb"`
	User  struct {
		Username string `json:"username"`
	} `json:"user"`
	Object struct {
		Group       string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// auditLog is the API server's log of every request.
type auditLog struct {
	path string
}

// mark returns a position behind every request that has been answered.
func (a auditLog) mark(ctx context.Context) (int64, error) {
	if err := sleep(ctx, auditLag); err != nil {
		return 0, err
	}
	info, err := os.Stat(a.path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// usage is what one user, or everybody, asked of the API server.
type usage struct {
	writes     int            // requests that change something, refused ones too; not leases
	reads      int            // get and list; not watch, not leases
	failed     int            // those of both that were answered with an error
	namespaced map[string]int // writes by namespace
	kinds      map[string]int // writes by "verb resource"
}

func newUsage() usage {
	return usage{namespaced: map[string]int{}, kinds: map[string]int{}}
}

// usage counts the requests of user between two marks; user "" means everybody.
func (a auditLog) usage(user string, from, to int64) (usage, error) {
	u := newUsage()
	file, err := os.Open(a.path)
	if err != nil {
		return u, err
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return u, err
	}
	return u, u.read(io.LimitReader(file, to-from), user)
}

func (u *usage) read(r io.Reader, user string) error {
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // an incomplete line lies behind the mark
		}
		if err != nil {
			return err
		}
		var event auditEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return fmt.Errorf("reading the audit log: %w", err)
		}
		if event.Stage == "ResponseComplete" && (user == "" || event.User.Username == user) {
			u.count(event)
		}
	}
}

func (u *usage) count(event auditEvent) {
	object := event.Object
	if object.Resource == "leases" || object.Resource == "selfsubjectreviews" { // which stores nothing
		return
	}
	switch event.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		u.writes++
		kind := event.Verb + " " + object.Resource
		if object.Subresource != "" {
			kind += "/" + object.Subresource
		}
		u.kinds[kind]++
		if object.Namespace != "" && object.Resource != "events" {
			u.namespaced[object.Namespace]++
		}
	case "get", "list":
		if object.Resource == "" { // discovery and health
			return
		}
		u.reads++
	default:
		return
	}
	if event.Response.Code >= 400 {
		u.failed++
	}
}

// add sums two usages of the same user.
func (u *usage) add(other usage) {
	u.writes += other.writes
	u.reads += other.reads
	u.failed += other.failed
	for namespace, count := range other.namespaced {
		u.namespaced[namespace] += count
	}
	for kind, count := range other.kinds {
		u.kinds[kind] += count
	}
}

// inNamespaces counts the writes that were about namespaced objects, events apart.
func (u *usage) inNamespaces() int {
	sum := 0
	for _, count := range u.namespaced {
		sum += count
	}
	return sum
}

// String lists the writes by kind, most first.
func (u *usage) String() string {
	kinds := slices.SortedFunc(maps.Keys(u.kinds), func(a, b string) int {
		if difference := u.kinds[b] - u.kinds[a]; difference != 0 {
			return difference
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, 0, len(kinds)+1)
	for _, kind := range kinds {
		parts = append(parts, fmt.Sprintf("%d %s", u.kinds[kind], kind))
	}
	if u.failed > 0 {
		parts = append(parts, fmt.Sprintf("%d requests refused", u.failed))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// sleep waits, or returns early when ctx ends.
func sleep(ctx context.Context, duration time.Duration) error {
	timer := time.NewTimer(duration)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
