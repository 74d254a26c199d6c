// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package site

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// AuditLog is the API server's record of all requests.
type AuditLog struct {
	site   *Site
	path   string
	fences atomic.Int64
	last   atomic.Int64 // an earlier mark, from which to look for the next
}

// Request is one event of the audit log.
type Request struct {
	Verb      string    `json:"verb"`
	URI       string    `json:"requestURI"`
	Received  time.Time `json:"requestReceivedTimestamp"`
	UserAgent string    `json:"userAgent"`
	User      struct {
		Username string              `json:"username"`
		Extra    map[string][]string `json:"extra"`
	} `json:"user"`
	Object struct {
		Group       string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

func (r Request) String() string {
	o := r.Object
	return fmt.Sprintf("%s %s %s/%s -> %d", r.Verb, strings.TrimSuffix(o.Resource+"/"+o.Subresource, "/"), o.Namespace, o.Name, r.Response.Code)
}

// Landed says whether the request was answered with success.
func (r Request) Landed() bool { return r.Response.Code >= 200 && r.Response.Code < 300 }

// By says whether an operator sent it; nil for any.
func (r Request) By(o *Operator) bool {
	return r.User.Username == User && (o == nil || slices.Contains(r.User.Extra["authentication.kubernetes.io/credential-id"], o.Credential))
}

// Mark returns the end of the log: everything that was answered is before it.
func (a *AuditLog) Mark(ctx context.Context) (int64, error) {
	fence := fmt.Sprintf("/version?fence=%d", a.fences.Add(1))
	if err := a.site.touch(ctx, fence); err != nil {
		return 0, err
	}
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		end, found := int64(-1), a.last.Load()
		err := a.scan(found, -1, func(offset int64, line []byte) {
			if bytes.Contains(line, []byte(fence+`"`)) {
				end = offset
			}
		})
		if err != nil {
			return 0, err
		}
		if end >= 0 {
			a.last.Store(end)
			return end, nil
		}
	}
	return 0, fmt.Errorf("the audit log does not get %s", fence)
}

// Writes returns what operators have asked to be written since a mark, but for leases and events: what the tests count.
func (a *AuditLog) Writes(ctx context.Context, since int64) ([]Request, error) {
	all, err := a.Mutations(ctx, since)
	return slices.DeleteFunc(all, func(r Request) bool { return r.Object.Resource == "events" }), err
}

// Mutations returns what operators have asked to be written since a mark, but for leases.
func (a *AuditLog) Mutations(ctx context.Context, since int64) ([]Request, error) {
	end, err := a.Mark(ctx)
	if err != nil {
		return nil, err
	}
	var out []Request
	err = a.scan(since, end, func(_ int64, line []byte) {
		var r Request
		if !bytes.Contains(line, []byte(User)) || json.Unmarshal(line, &r) != nil || !r.By(nil) {
			return
		}
		switch r.Verb {
		case "create", "update", "patch", "delete", "deletecollection":
			if r.Object.Resource != "leases" && r.Object.Group != "authentication.k8s.io" && r.Object.Group != "authorization.k8s.io" {
				out = append(out, r)
			}
		}
	})
	return out, err
}

// scan calls f with each line from an offset on; to is -1 for the end.
func (a *AuditLog) scan(from, to int64, f func(offset int64, line []byte)) error {
	file, err := os.Open(a.path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if to < 0 {
		info, err := file.Stat()
		if err != nil {
			return err
		}
		to = info.Size()
	}
	lines := bufio.NewReaderSize(io.NewSectionReader(file, from, to-from), 1<<20)
	for offset := from; ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return nil // the last line may be cut
		}
		if err != nil {
			return err
		}
		f(offset, line)
		offset += int64(len(line))
	}
}
