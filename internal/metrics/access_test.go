// Copyright The pci-network-baseline Authors.
// SPDX-License-Identifier: Apache-2.0

package metrics_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/client-go/rest"

	"github.com/pcinetwork/pci-network-baseline/internal/metrics"
)

// reviewer plays the API server's two review endpoints: what it is asked is noted. test/operator asks the real one.
type reviewer struct {
	token   authenticationv1.TokenReviewStatus
	access  authorizationv1.SubjectAccessReviewStatus
	broken  string // path that answers 500
	hold    chan struct{}
	arrived chan struct{}

	mu    sync.Mutex
	asked []any
}

func (r *reviewer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.hold != nil {
		r.arrived <- struct{}{}
		<-r.hold
	}
	if req.URL.Path == r.broken {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var answer []byte
	var err error
	switch req.URL.Path {
	case tokenReviews:
		var review authenticationv1.TokenReview
		if json.NewDecoder(req.Body).Decode(&review) == nil {
			r.asked = append(r.asked, review.Spec)
		}
		review.Status = r.token
		answer, err = json.Marshal(&review)
	case accessReviews:
		var review authorizationv1.SubjectAccessReview
		if json.NewDecoder(req.Body).Decode(&review) == nil {
			r.asked = append(r.asked, review.Spec)
		}
		review.Status = r.access
		answer, err = json.Marshal(&review)
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer)
}

const (
	tokenReviews  = "/apis/authentication.k8s.io/v1/tokenreviews"
	accessReviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
)

// guarded returns a handler behind the filter that answers 200 itself.
func guarded(t *testing.T, r *reviewer) http.Handler {
	t.Helper()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}} // instead of protobuf
	filter, err := metrics.Access(config, server.Client())
	if err != nil {
		t.Fatal(err)
	}
	handler, err := filter(logr.Discard(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	if err != nil {
		t.Fatal(err)
	}
	return handler
}

func ask(t *testing.T, handler http.Handler, authorization string) int {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, req)
	return answer.Code
}

func TestAccess(t *testing.T) {
	known := authenticationv1.TokenReviewStatus{Authenticated: true, User: authenticationv1.UserInfo{
		Username: "prometheus", UID: "1", Groups: []string{"scrapers"}, Extra: map[string]authenticationv1.ExtraValue{"pod": {"a", "b"}},
	}}
	allowed := authorizationv1.SubjectAccessReviewStatus{Allowed: true}
	token := authenticationv1.TokenReviewSpec{Token: "t"}
	question := authorizationv1.SubjectAccessReviewSpec{
		User: "prometheus", UID: "1", Groups: []string{"scrapers"}, Extra: map[string]authorizationv1.ExtraValue{"pod": {"a", "b"}},
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/metrics"},
	}
	for name, tc := range map[string]struct {
		authorization string
		reviewer      *reviewer
		want          int
		wantAsked     []any
	}{
		"no token": {reviewer: &reviewer{token: known, access: allowed}, want: http.StatusUnauthorized},
		"a password is no token": {
			authorization: "Basic dTpw", reviewer: &reviewer{token: known, access: allowed}, want: http.StatusUnauthorized,
		},
		"an empty token": {authorization: "Bearer  ", reviewer: &reviewer{token: known, access: allowed}, want: http.StatusUnauthorized},
		"a token that is nobody's": {
			authorization: "Bearer t", reviewer: &reviewer{access: allowed}, want: http.StatusUnauthorized, wantAsked: []any{token},
		},
		"somebody without the right": {
			authorization: "Bearer t", reviewer: &reviewer{token: known}, want: http.StatusForbidden, wantAsked: []any{token, question},
		},
		"somebody who is denied, whoever else allows it": {
			authorization: "Bearer t", want: http.StatusForbidden, wantAsked: []any{token, question},
			reviewer: &reviewer{token: known, access: authorizationv1.SubjectAccessReviewStatus{Allowed: true, Denied: true}},
		},
		"somebody with the right": {
			authorization: "bearer t", reviewer: &reviewer{token: known, access: allowed}, want: http.StatusOK, wantAsked: []any{token, question},
		},
		"nobody can say who it is": {
			authorization: "Bearer t", want: http.StatusServiceUnavailable,
			reviewer: &reviewer{token: known, access: allowed, broken: tokenReviews},
		},
		"nobody can say what it may": {
			authorization: "Bearer t", want: http.StatusServiceUnavailable, wantAsked: []any{token},
			reviewer: &reviewer{token: known, access: allowed, broken: accessReviews},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ask(t, guarded(t, tc.reviewer), tc.authorization); got != tc.want {
				t.Errorf("status code %d, want %d", got, tc.want)
			}
			if diff := cmp.Diff(tc.wantAsked, tc.reviewer.asked); diff != "" {
				t.Errorf("asked the API server (-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever reaches the port cannot make the operator flood the API server.
func TestAccessIsBounded(t *testing.T) {
	r := &reviewer{hold: make(chan struct{}), arrived: make(chan struct{})}
	handler := guarded(t, r)
	const places = 4
	codes := make(chan int)
	for range places {
		go func() { codes <- ask(t, handler, "Bearer t") }()
		<-r.arrived
	}
	if got := ask(t, handler, "Bearer t"); got != http.StatusTooManyRequests {
		t.Errorf("with every place taken: status code %d, want %d", got, http.StatusTooManyRequests)
	}
	close(r.hold)
	for range places {
		if got := <-codes; got != http.StatusUnauthorized {
			t.Errorf("status code %d, want %d", got, http.StatusUnauthorized)
		}
	}
}
