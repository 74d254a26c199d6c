// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package cloud

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/pcinetwork/pci-network-baseline/internal/snapshot"
)

const (
	// maxBody is for descriptions of clusters with hundreds of node pools; a usual one has some 10 KiB.
	maxBody = 4 << 20
	// maxRequests ends whatever retries an SDK thinks up: three questions, three times each, need nine.
	maxRequests = 12
)

var (
	errTooLarge = errors.New("the answer is larger than 4 MiB")
	errTooMany  = errors.New("too many requests for one reading")
)

// question is a request that a reading consists of.
type question struct {
	method, host, path string
	// credentials marks the way to credentials; the other question is for the description.
	credentials bool
}

// session is one reading. It is the transport of all its clients: nothing is asked but its questions, whatever an SDK would like
// to ask beside them, such as a metadata service, and a redirect leads nowhere.
type session struct {
	base      http.RoundTripper
	questions []question

	mu       sync.Mutex
	requests int
	// last is the question that was asked last; status is 0 when nobody answered.
	last   question
	status int
	// refused is what an SDK wanted to ask beside the questions.
	refused string
	// body is the description as it came.
	body []byte
}

// client is for the SDKs.
func (s *session) client() *http.Client {
	return &http.Client{Transport: s, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// RoundTrip sends a request and reads the answer, so that no SDK reads more than is bearable.
func (s *session) RoundTrip(r *http.Request) (*http.Response, error) {
	q, err := s.admit(r)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as RoundTripper asks for
		}
		return nil, err
	}
	res, err := s.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	_ = res.Body.Close()
	switch {
	case err != nil:
		return nil, err
	case len(body) > maxBody:
		return nil, errTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status = res.StatusCode; !q.credentials {
		s.body = body
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return res, nil
}

func (s *session) admit(r *http.Request) (question, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests++; s.requests > maxRequests {
		return question{}, errTooMany
	}
	method := cmp.Or(r.Method, http.MethodGet) // as net/http does
	for _, q := range s.questions {
		if method == q.method && r.URL.Host == q.host && r.URL.Path == q.path {
			s.last, s.status = q, 0
			return q, nil
		}
	}
	s.refused = method + " " + r.URL.Host
	return question{}, fmt.Errorf("%s is not a part of the reading", s.refused)
}

// said says whether the description has a bool at a path. The SDKs of AWS and Google cannot tell false from nothing, and nothing is
// not an entrance that is shut.
func (s *session) said(path ...string) bool {
	var at any
	if json.Unmarshal(s.body, &at) != nil {
		return false
	}
	for _, name := range path {
		fields, _ := at.(map[string]any)
		at = fields[name]
	}
	_, ok := at.(bool)
	return ok
}

// gate is what a bool at a path means for an entrance that it opens.
func (s *session) gate(open bool, path ...string) snapshot.Gate {
	switch {
	case open:
		return snapshot.Open
	case s.said(path...):
		return snapshot.Shut
	}
	return ""
}

// failed says why there is no description; code is the provider's own for the error, if the SDK knows.
func (s *session) failed(err error, code string) *problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	var timeout net.Error
	switch {
	case s.refused != "":
		return &problem{snapshot.NotUnderstood, "the SDK wanted to ask beside the question: " + s.refused}
	case errors.Is(err, errTooLarge):
		return &problem{snapshot.NotUnderstood, s.last.host + ": " + errTooLarge.Error()}
	case s.requests == 0:
		return &problem{snapshot.NoCredentials, "there is nothing to get credentials with"}
	case s.status == 0 && (errors.Is(err, context.DeadlineExceeded) || (errors.As(err, &timeout) && timeout.Timeout())):
		return &problem{snapshot.Outage, s.last.host + " does not answer in time"}
	case s.status == 0:
		return &problem{snapshot.Outage, s.last.host + " cannot be reached: " + kind(err)}
	}
	answer := fmt.Sprintf("%s answers %d", s.last.host, s.status)
	if code = harmless(code); code != "" {
		answer += " " + code
	}
	return &problem{failure(s.status, code, s.last.credentials), answer}
}

// failure goes by the status and, where AWS uses one status for several things, by its code.
func failure(status int, code string, credentials bool) snapshot.Failure {
	switch {
	case status == http.StatusTooManyRequests, strings.Contains(code, "Throttl"), code == "TooManyRequestsException":
		return snapshot.Throttled
	case status >= http.StatusInternalServerError, status == http.StatusRequestTimeout:
		return snapshot.Outage
	case status < http.StatusBadRequest:
		return snapshot.NotUnderstood
	case credentials, status == http.StatusUnauthorized, badCredentials[code]:
		return snapshot.NoCredentials
	case status == http.StatusForbidden:
		return snapshot.Denied
	case status == http.StatusNotFound:
		return snapshot.NoSuchCluster
	}
	return snapshot.NotUnderstood
}

// badCredentials are AWS's codes for credentials that are not good, which it sends with 403 or 400.
var badCredentials = map[string]bool{
	"ExpiredToken": true, "ExpiredTokenException": true, "IncompleteSignature": true, "InvalidClientTokenId": true,
	"InvalidSignatureException": true, "MissingAuthenticationToken": true, "MissingAuthenticationTokenException": true,
	"RequestExpired": true, "SignatureDoesNotMatch": true, "UnrecognizedClientException": true,
}

var codes = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_.-]{0,63}$`)

// harmless drops what is not a code: the words of an answer may be anybody's.
func harmless(code string) string {
	if codes.MatchString(code) {
		return code
	}
	return ""
}

// kind names an error without its addresses, which change.
func kind(err error) string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return "its name is not found"
	case strings.Contains(err.Error(), "x509:"):
		return "its certificate is not trusted"
	case errors.As(err, &op) && op.Op == "dial":
		return "no connection"
	}
	return "the connection broke"
}

// newTransport is for the public services of clouds. A proxy is asked only where the connection through it is encrypted: credentials
// from a metadata service are not for it.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if r.URL.Scheme != "https" {
				return nil, nil
			}
			return http.ProxyFromEnvironment(r)
		},
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		ForceAttemptHTTP2:      true,
	}
}
