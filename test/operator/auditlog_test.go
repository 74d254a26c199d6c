// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package operator_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pcinetwork/pci-network-baseline/test/eventually"
)

// auditLog is the API server's record of all requests.
type auditLog struct {
	path   string
	fences atomic.Int64
}

// request is one event of the audit log.
type request struct {
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	UserAgent  string `json:"userAgent"`
	ObjectRef  struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

func (r request) String() string {
	o := r.ObjectRef
	return fmt.Sprintf("%s %s %s/%s -> %d", r.Verb, strings.TrimSuffix(o.Resource+"/"+o.Subresource, "/"), o.Namespace, o.Name, r.ResponseStatus.Code)
}

// mark returns the end of the log: everything that was answered is before it.
func (a *auditLog) mark(t *testing.T) int64 {
	t.Helper()
	fence := fmt.Sprintf("/version?fence=%d", a.fences.Add(1))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, env.cluster.ServerURL()+fence, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := env.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	var end int64
	eventually.That(t, "the audit log holds the last request", func() error {
		data, err := os.ReadFile(a.path)
		if err != nil {
			return err
		}
		i := bytes.Index(data, []byte(fence+"\""))
		if i < 0 {
			return fmt.Errorf("%s is not there", fence)
		}
		end = int64(i)
		return nil
	})
	return end
}

// requests returns all requests since a mark.
func (a *auditLog) requests(t *testing.T, since int64) []request {
	t.Helper()
	end := a.mark(t)
	file, err := os.Open(a.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var out []request
	lines := bufio.NewScanner(io.NewSectionReader(file, since, end-since))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if json.Unmarshal(lines.Bytes(), &r) == nil { // the first and the last line are cut
			out = append(out, r)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// writes returns the write requests of an operator since a mark; leader election's are not counted, nor who asks who it is.
func (a *auditLog) writes(t *testing.T, o *operator, since int64) []request {
	t.Helper()
	return slices.DeleteFunc(a.requests(t, since), func(r request) bool {
		return r.UserAgent != o.agent || r.ObjectRef.Resource == "leases" || r.ObjectRef.Resource == "selfsubjectreviews" || r.Verb == "get" || r.Verb == "list" || r.Verb == "watch"
	})
}

// idle waits until an operator has written nothing for a while.
func (a *auditLog) idle(t *testing.T, o *operator) {
	t.Helper()
	eventually.That(t, "the operator rests", func() error {
		since := a.mark(t)
		time.Sleep(600 * time.Millisecond)
		if w := a.writes(t, o, since); len(w) > 0 {
			return fmt.Errorf("it writes: %v", w)
		}
		return nil
	})
}
